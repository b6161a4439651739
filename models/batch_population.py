"""Everybody at once through the funnel of a single decision: who they are, where they stand, what they may get.

The home is only read. What is left of each customer is arrays that ``batch_ranking`` shares scarce things out over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final, Protocol, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event_export import event_table
from features.event_log import EventLog, LoggedEvent
from features.event_tables import no_events
from features.history import EventTable, event_tables, profiles_at, reads_at, whole_table
from features.identity import Identities, Person, Span
from features.profile import time_zone_of
from features.store import ProfileRow
from features.taxonomy import Taxonomy
from models.actions import Catalogue
from models.contact_policy import fatigue_factor
from models.decision import DropStage
from models.deliberation import UNKNOWN_STALL, Inputs, Rulebook, considered_in, standing_of
from models.experiment import arm_of
from models.funnel import Considered, Question
from models.policy import Arm, Policy
from models.ranking import CandidateTerms, candidate_terms
from models.records import CustomerRecords, as_known
from models.removals import Removal, removal_of
from models.scoring import EffectBlock, Pair, Scorer, StallScore
from models.situation import Situation

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

HOLDOUT: Final = "holdout"
NO_CANDIDATES: Final = "no_candidates"
CUSTOMERS_PER_BLOCK: Final = 4_096
_OPEN: Final = 1.0
_EVENTS_PER_TABLE: Final = 100_000
_STAGES: Final[tuple[DropStage, ...]] = get_args(DropStage)


class CountedContacts(Protocol):
    """The part of a record store that a batch reads: contacts and consents of one customer."""

    def customer(self, customer_id: str, *, since: int, now: int, spans: Sequence[Span] = ()) -> CustomerRecords:
        """As ``RecordStore.customer``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What everybody is ranked by.

    Attributes:
        scorer: None where there is no champion: then catalogue priors alone value the actions.
        at: the moment, microseconds since the epoch; what arrived strictly before it counts.
        is_past: contacts and consents are those that were known at the moment, rather than those of the records now.
        channels: only candidates over these; None for all.
        include: only these actions; empty for all.
        exclude: none of these actions.
        issues: only actions of these issues; empty for all.
    """

    rulebook: Rulebook
    scorer: Scorer | None
    at: int
    is_past: bool = False
    channels: frozenset[str] | None = None
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    issues: frozenset[str] = frozenset()

    @property
    def taxonomy(self) -> Taxonomy:
        """The vocabulary."""
        return self.rulebook.taxonomy

    @property
    def question(self) -> Question:
        """What a decision about any of the customers would be asked."""
        return Question(
            at=self.at,
            outbound=True,
            channels=self.channels,
            include=self.include,
            exclude=self.exclude,
            issues=self.issues,
        )

    def terms(self, prices: Mapping[str, float] | None = None) -> CandidateTerms:
        """What the journey's candidates are worth and cost, at some prices of what is scarce."""
        return candidate_terms(
            self.rulebook.catalogue,
            self.rulebook.journey.outcome_by_id,
            self.rulebook.policy,
            journey_id=self.rulebook.journey.id,
            prices=prices or {},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Some customers as of a moment: vectors ``(n, n_features)``, and what is known of each, None of strangers."""

    customer_ids: list[str]
    vectors: FloatArray
    profiles: list[ProfileRow | None]

    def of(self, rows: Sequence[int]) -> Observed:
        """Some of them."""
        return Observed(
            [self.customer_ids[row] for row in rows], self.vectors[list(rows)], [self.profiles[row] for row in rows]
        )


Asked = Callable[[], Observed]
"""A block of customers, observed when it is asked for."""


def customer_blocks(
    events: Path,
    scene: Scene,
    *,
    wanted: frozenset[str] | None,
    size: int = CUSTOMERS_PER_BLOCK,
    progress: Callable[[int], None] = lambda events: None,
) -> Iterator[Asked]:
    """Customers in blocks: those whose journey is open, or all that are wanted, in the order of their ids.

    The blocks of the same events are the same, so that one that was dealt with before can be passed over unobserved.

    Args:
        events: the event log as Parquet.
        scene: journey and moment.
        wanted: canonical ids; None for everybody whose journey is open.
        size: customers of a block at most.
        progress: called with the number of events read.
    """
    seen: set[str] = set()
    for table in event_tables(events, scene.taxonomy, events_per_table=_EVENTS_PER_TABLE):
        told = _Told(table, scene)
        ids = [one for one in table.customers.to_pylist() if wanted is None or one in wanted]
        if wanted is not None:
            ids = [one for one in ids if one in told.profiles]
            seen.update(ids)
        for block in _blocks(ids, size):
            yield partial(told.observed, block, only_open=wanted is None)
        progress(table.n_events)
    nobody = _Told(no_events(), scene)
    for block in _blocks(sorted((wanted or frozenset()) - seen), size):
        yield partial(nobody.observed, block, only_open=False)


def listed_customers(persons: Sequence[Person], scene: Scene, log: EventLog, *, until: int | None = None) -> Observed:
    """Some people as of a moment, read from the log: for lists that are short beside it.

    Args:
        persons: as they were known at the moment.
        scene: journey and moment.
        log: has their events.
        until: the last position that counts; None for all there are.
    """
    events = [
        LoggedEvent(logged.position, replace(logged.event, customer_id=person.customer_id))
        for person, found in zip(persons, log.of_people([(person, 0) for person in persons]), strict=True)
        for logged in found
        if until is None or logged.position <= until
    ]
    told = _Told(whole_table(event_table(events), scene.taxonomy), scene)
    return told.observed([person.customer_id for person in persons], only_open=False)


class _Told:
    """What a table of events tells of customers as of a moment."""

    def __init__(self, table: EventTable, scene: Scene) -> None:
        self._table, self._scene = table, scene

    @cached_property
    def profiles(self) -> dict[str, ProfileRow]:
        """Of those of whom anything was known."""
        return profiles_at(self._table, self._scene.taxonomy, self._scene.at)

    def observed(self, ids: list[str], *, only_open: bool) -> Observed:
        """These customers, or those of them whose journey is open."""
        feature_set, at = self._scene.rulebook.feature_set, self._scene.at
        asked = [one for one in ids if one in self.profiles] if only_open else ids
        vectors = reads_at(self._table, feature_set, asked, np.full(len(asked), at))
        if only_open:
            chosen = np.flatnonzero(vectors[:, feature_set.names.index("journey_status")] == _OPEN)
            asked, vectors = [asked[row] for row in chosen.tolist()], vectors[chosen]
        return Observed(asked, vectors, [self.profiles.get(one) for one in asked])


def _blocks(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where one customer stands, and what stood furthest in the way.

    Attributes:
        arm: of the experiment.
        reason: why nothing may be done, None where something may: ``holdout``, or the stage of the funnel at which the
            last candidates fell.
        removal: the same in a marketer's word.
        rule_ids: of the first candidate that fell there: every rule of that stage that failed.
        stage: of the journey, None where it was never entered.
        stall_state: None while not stalled.
        state: how the customer is stuck, None where no journey is open.
        stall_propensity: NaN where unknown.
        preferred_channel: as the customer named it, if so.
    """

    arm: Arm
    reason: str | None
    removal: Removal | None
    rule_ids: tuple[str, ...]
    stage: str | None
    stall_state: str | None
    state: str | None
    stall_propensity: float
    preferred_channel: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Everybody after the funnel.

    Attributes:
        customer_ids: all of them.
        standings: of each.
        rows: ``(n_ranked,)`` who of them something may be done for, in the columns above.
        allowed: ``(n_ranked, n_candidates)`` what the funnel left.
        effects: of those, on the pairs of the terms.
        fatigue: ``(n_ranked,)`` what their fatigue costs are multiplied by.
    """

    customer_ids: list[str]
    standings: list[Standing]
    rows: IntArray
    allowed: BoolArray
    effects: EffectBlock
    fatigue: FloatArray


Selects = Callable[[Situation], bool]


def everybody(situation: Situation) -> bool:
    """Leaves nobody out."""
    return True


def considered_population(
    observed: Observed, scene: Scene, *, graph: Identities, records: CountedContacts, selects: Selects = everybody
) -> Population:
    """Customers through the funnel of a single decision, and the effects of what it leaves.

    Args:
        observed: the customers.
        scene: what they are ranked by.
        graph: who is who, as it was known at the moment.
        records: contacts and consents; only read.
        selects: whether a customer who stands like this is asked for; the others are left out altogether.
    """
    terms = scene.terms()
    scored = None if scene.scorer is None else scene.scorer.customers(observed.vectors)
    stalls = None if scored is None else zip(*(one.tolist() for one in scored.stall_block()), strict=True)
    left = np.zeros((len(observed.customer_ids), len(terms.treatment_ids)), dtype=np.bool_)
    chosen: list[int] = []
    standings: list[Standing] = []
    fatigue: list[float] = []
    for row, customer_id in enumerate(observed.customer_ids):
        stall = UNKNOWN_STALL if stalls is None else StallScore(*next(stalls))
        person, profile = graph.person(customer_id), observed.profiles[row]
        arm = arm_of(customer_id, scene.rulebook.policy.experiment, linked_ids=person.linked_ids)
        inputs = batch_inputs(scene, observed.vectors[row], person, profile, arm, records)
        situation, _ = standing_of(inputs, scene.rulebook, lambda is_stalled, stall=stall: stall)  # type: ignore[misc]  # bound now
        if not selects(situation):
            continue
        stop: _Stop = (HOLDOUT, "holdout", ())
        if arm != "no_contact_holdout":
            stop = _passed(considered_in(situation, inputs, scene.rulebook), left[row], scene.rulebook.policy)
        chosen.append(row)
        standings.append(_standing(arm, stop, situation))
        declared = scene.rulebook.policy.contact_policy.fatigue
        fatigue.append(fatigue_factor(declared, inputs.records.contacts, at=scene.at))
    ranked = np.flatnonzero([one.reason is None for one in standings])
    places = np.array(chosen, dtype=np.int64)[ranked]
    effects = (
        _prior_effects(scene.rulebook.catalogue, terms.pairs, len(left))
        if scored is None
        else scored.effect_block(terms.pairs)
    )
    return Population(
        [observed.customer_ids[row] for row in chosen],
        standings,
        ranked.astype(np.int64),
        left[places],
        part_of(effects, places),
        np.array(fatigue, dtype=np.float64)[ranked],
    )


_Stop = tuple[str | None, Removal | None, tuple[str, ...]]
"""Why nothing may be done: by stage, in a marketer's word, and by the rules that failed."""


def _standing(arm: Arm, stop: _Stop, situation: Situation) -> Standing:
    preferred = situation.attributes.get("preferred_channel")
    return Standing(
        arm,
        *stop,
        situation.stage,
        situation.stall_state,
        situation.state,
        situation.stall_propensity,
        preferred if isinstance(preferred, str) else None,
    )


def batch_inputs(
    scene: Scene,
    vector: FloatArray,
    person: Person,
    profile: ProfileRow | None,
    arm: Arm,
    records: CountedContacts,
) -> Inputs:
    """What a decision that reaches out to a person would be made from."""
    known = profile or ProfileRow(person.customer_id)
    return Inputs(
        decision_id="",
        vector=vector,
        attributes=scene.taxonomy.without_personal(known.attributes),
        holdings=None if profile is None else known.holdings,
        context={},
        channel=None,
        records=_customer_records(scene, person, known, records),
        question=scene.question,
        time_zone=time_zone_of(known, scene.taxonomy.time_zone),
        arm=arm,
        n_linked=len(person.linked_ids),
    )


def _customer_records(scene: Scene, person: Person, profile: ProfileRow, records: CountedContacts) -> CustomerRecords:
    since = scene.at - scene.rulebook.plan.looks_back
    found = records.customer(person.customer_id, since=since, now=scene.at, spans=person.spans)
    if not scene.is_past:
        return found
    return CustomerRecords(
        tuple(as_known(one, scene.at) for one in found.contacts if one.at < scene.at), profile.consents
    )


def _passed(considered: Sequence[Considered], left: BoolArray, policy: Policy) -> _Stop:
    """Mark what the funnel leaves; where that is nothing, what stood in the way of what came furthest."""
    for place, one in enumerate(considered):
        if one.dropped is None:
            left[place] = True
    if left.any():
        return None, None, ()
    last = furthest(considered)
    if last is None:
        return NO_CANDIDATES, "not_offered", ()
    return last.dropped, removal_of(last, policy), last.rule_ids


def furthest(considered: Iterable[Considered]) -> Considered | None:
    """Of candidates that were all dropped the one that came furthest, the first of equal ones; None of none."""
    return max(considered, key=lambda one: _STAGES.index(one.dropped) if one.dropped else len(_STAGES), default=None)


def joined(populations: Sequence[Population], scene: Scene) -> Population:
    """Blocks of customers as one population."""
    terms = scene.terms()
    blocks = [_nobody(terms), *populations]
    before = np.cumsum([len(one.customer_ids) for one in blocks]) - [len(one.customer_ids) for one in blocks]
    control, uplift, sigma = (np.concatenate([one.effects[place] for one in blocks]) for place in range(3))
    return Population(
        [customer_id for one in blocks for customer_id in one.customer_ids],
        [standing for one in blocks for standing in one.standings],
        np.concatenate([one.rows + n for one, n in zip(blocks, before, strict=True)]),
        np.concatenate([one.allowed for one in blocks]),
        EffectBlock(control, uplift, sigma, blocks[-1].effects.source),
        np.concatenate([one.fatigue for one in blocks]),
    )


def _nobody(terms: CandidateTerms) -> Population:
    n_candidates, empty = len(terms.treatment_ids), np.empty((0, len(terms.pairs)))
    return Population(
        [],
        [],
        np.empty(0, dtype=np.int64),
        np.zeros((0, n_candidates), dtype=np.bool_),
        EffectBlock(empty, empty, empty, tuple("none" for _ in terms.pairs)),
        np.empty(0),
    )


def _prior_effects(catalogue: Catalogue, pairs: Sequence[Pair], n: int) -> EffectBlock:
    """What a decision without a model believes: the catalogue's priors."""
    believed = [catalogue.priors.get(pair, (math.nan, math.nan)) for pair in pairs]
    tables = np.array(believed, dtype=np.float64).reshape(len(pairs), 2)
    return EffectBlock(
        np.full((n, len(pairs)), np.nan),
        np.tile(tables[:, 0], (n, 1)),
        np.tile(tables[:, 1], (n, 1)),
        tuple("prior" for _ in pairs),
    )


def part_of(effects: EffectBlock, rows: slice | IntArray) -> EffectBlock:
    """The effects of some customers."""
    return EffectBlock(effects.control_response[rows], effects.uplift[rows], effects.sigma[rows], effects.source)
