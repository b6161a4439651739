"""Everybody at once through the funnel of a single decision: who they are, where they stand, what they may get.

The home is only read. What is left of each customer is arrays that ``batch_ranking`` shares scarce things out over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.identity import Identities, Person, Span
from features.profile import time_zone_of
from features.store import ProfileRow
from models.actions import Catalogue
from models.batch_observation import Observed, Scene
from models.contact_policy import fatigue_factor
from models.decision import DropStage
from models.deliberation import UNKNOWN_STALL, Inputs, considered_in, standing_of
from models.experiment import arm_of
from models.funnel import Considered
from models.policy import Arm, Policy
from models.ranking import CandidateTerms
from models.records import CustomerRecords, as_known
from models.removals import Removal, removal_of
from models.scoring import EffectBlock, Pair, StallScore
from models.situation import Situation

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

HOLDOUT: Final = "holdout"
UNKNOWN: Final = "unknown_customer"
NO_CANDIDATES: Final = "no_candidates"
_STAGES: Final[tuple[DropStage, ...]] = get_args(DropStage)


class CountedContacts(Protocol):
    """The part of a record store that a batch reads: contacts and consents of one customer."""

    def customer(self, customer_id: str, *, since: int, now: int, spans: Sequence[Span] = ()) -> CustomerRecords:
        """As ``RecordStore.customer``."""


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where one customer stands, and what stood furthest in the way.

    Attributes:
        arm: of the experiment.
        reason: why nothing may be done, None where something may: ``unknown_customer`` where nothing was ever told,
            ``holdout``, or the stage of the funnel at which the last candidates fell.
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
        if profile is None:
            stop = (UNKNOWN, "unknown_customer", ())
        elif arm != "no_contact_holdout":
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
