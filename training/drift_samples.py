"""The decisions that a drift report looks at: two samples of bounded size, with what was predicted and what came of it.

A sample is chosen by the stable hash of the decision id before anything is read, so that the same log gives the same
sample and a million decisions cost no more than twenty thousand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import kernel
from features.history import EventSource, whole_table
from features.journeys import PROGRESS, Journey
from features.kernel import Floats, Integers
from features.schema import FeatureSet
from features.stable_hash import stable_hash, stable_unit
from features.taxonomy import Taxonomy
from models.actions import NO_ACTION, Catalogue
from models.decision import Candidate, DecisionRecord
from models.scoring import Scorer
from training.dataset import decision_frame
from training.moments import Booleans
from training.past_decisions import LEARNED_FROM, PastDecisions

SALT: Final = "drift"
HELD_STAGES: Final = ("contact_policy", "capacity")
"""Stages of the funnel at which limits drop a candidate that was otherwise allowed."""

_BEHIND_HELD: Final = (None, "scoring", *HELD_STAGES)
_PROGRESS: Final = "progress_within_horizon"

Texts: TypeAlias = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Decided:
    """Decisions of one journey in one period.

    What was not recorded, or is not known yet, is NaN.

    Attributes:
        arm_ids: ``no_action`` and the journey's actions.
        outcome_ids: the journey's outcomes.
        aims: ``(n_arms,)`` index of the outcome that each action aims at; -1 for no action.
        worth: ``(n_outcomes,)`` of one more of each outcome, money.
        place: ``(n,)`` uniform over (0, 1) by the stable hash of the id: those of lowest place are a stable sample.
        people: ``(n,)`` whose decisions these are.
        at: ``(n,)`` microseconds since the epoch.
        arm: ``(n,)`` index of what was chosen.
        probabilities: ``(n, n_arms)`` logged, marginal over the experiment's arms; 0 for what could not be chosen.
        control: ``(n, n_outcomes)`` predicted outcome without action.
        uplift: ``(n, n_arms)`` predicted change of the outcome that each action aims at.
        sigma: ``(n, n_arms)`` its standard deviation.
        net_value: ``(n,)`` of what was chosen, money; 0 for no action.
        is_recorded: ``(n,)`` whether predictions are those that were recorded when it was decided.
        stall: ``(n,)`` predicted stall propensity.
        stalled: ``(n,)`` 0 or 1, whether no progress was made within the horizon.
        response: ``(n, n_outcomes)`` what came of it.
        reached: ``(n,)`` candidates that came as far as the contact rules.
        held: ``(n,)`` those of them that contact limits or capacity dropped.
        held_by: ``(n,)`` ids of the rules that did, a tuple each.
        degraded: ``(n,)`` whether something was missing or stale.
        x: ``(n, n_features)`` as of the decision.
    """

    arm_ids: tuple[str, ...]
    outcome_ids: tuple[str, ...]
    aims: Integers
    worth: Floats
    place: Floats
    people: Texts
    at: Integers
    arm: Integers
    probabilities: Floats
    control: Floats
    uplift: Floats
    sigma: Floats
    net_value: Floats
    is_recorded: Booleans
    stall: Floats
    stalled: Floats
    response: Floats
    reached: Integers
    held: Integers
    held_by: NDArray[np.object_]
    degraded: Booleans
    x: Floats

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.at)

    def where(self, chosen: Booleans | Integers | slice) -> Decided:
        """Only the chosen decisions."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _BY_ROW})

    def sample(self, n: int) -> Decided:
        """At most ``n`` of them, the same ones whenever they are asked for."""
        return self if len(self) <= n else self.where(np.argsort(self.place, kind="stable")[:n])


_SHARED: Final = ("arm_ids", "outcome_ids", "aims", "worth")
_BY_ROW: Final = tuple(one.name for one in fields(Decided) if one.name not in _SHARED)


def sampled_ids(pages: Iterable[Sequence[str]], n: int) -> list[str]:
    """The ``n`` ids of lowest stable hash, lowest first; fewer where there are fewer.

    Memory is that of ``n`` ids and one page, whatever the pages hold together.
    """
    hashes, ids = np.empty(0, np.uint64), np.empty(0, np.str_)
    for page in pages:
        more = np.array([stable_hash(SALT, one) for one in page], dtype=np.uint64)
        hashes, ids = np.concatenate([hashes, more]), np.concatenate([ids, np.array(page, dtype=np.str_)])
        lowest = np.argsort(hashes, kind="stable")[:n]
        hashes, ids = hashes[lowest], ids[lowest]
    return [str(one) for one in ids]


@dataclass(frozen=True, slots=True)
class Subject:
    """What decisions of a journey are read with.

    Attributes:
        journey: as declared.
        taxonomy: the vocabulary of the events.
        catalogue: the actions; those of other journeys are no arms here.
        features: of the journey.
    """

    journey: Journey
    taxonomy: Taxonomy
    catalogue: Catalogue
    features: FeatureSet

    @property
    def arm_ids(self) -> tuple[str, ...]:
        """``no_action`` and the journey's actions, in catalogue order."""
        actions = (action.id for action in self.catalogue.actions if action.journey == self.journey.id)
        return (NO_ACTION, *actions)

    @property
    def outcome_ids(self) -> tuple[str, ...]:
        """The journey's outcomes, in order."""
        return tuple(outcome.id for outcome in self.journey.outcomes)


class Gathered:
    """Records of one journey, kept as columns while pages of them pass by.

    Args:
        subject: the journey; records of others are passed over.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._arms = {name: place for place, name in enumerate(subject.arm_ids)}
        self._outcomes = {name: place for place, name in enumerate(subject.outcome_ids)}
        self._ids: list[str] = []
        self._customers: list[str] = []
        self._rows: list[tuple[float, ...]] = []
        self._tables: list[Floats] = []
        self._vectors: list[tuple[float, ...]] = []
        self._held_by: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        """Number of decisions kept."""
        return len(self._ids)

    @property
    def customer_ids(self) -> frozenset[str]:
        """Whose they are, as recorded."""
        return frozenset(self._customers)

    @property
    def latest(self) -> int:
        """When the latest was decided, microseconds since the epoch; 0 without any."""
        return int(max((row[0] for row in self._rows), default=0))

    def add(self, records: Iterable[DecisionRecord]) -> None:
        """Keep those that reached a customer, and whose action is still in the catalogue."""
        for record in records:
            if record.journey_id == self._subject.journey.id and record.mode in LEARNED_FROM:
                self._add(record)

    def _add(self, record: DecisionRecord) -> None:
        chosen = record.selected[0].action_id if record.selected else NO_ACTION
        arm = self._arms.get(chosen)
        if arm is None:
            return
        reached, held, rules = _held(record.candidates)
        fits = record.versions.get("features") == self._subject.features.version
        self._ids.append(record.decision_id)
        self._customers.append(record.customer_id)
        self._rows.append(
            (
                record.decided_at,
                record.as_of,
                arm,
                record.stall_propensity,
                record.first.net_value if arm else 0.0,
                reached,
                held,
                bool(record.degraded),
            )
        )
        self._tables.append(self._table(record.candidates))
        self._vectors.append(record.vector if fits else ())
        self._held_by.append(rules)

    def _order(self) -> None:
        """Bring the decisions into the order of their ids: sums of the same numbers in another order differ."""
        order = sorted(range(len(self)), key=self._ids.__getitem__)
        for name in ("_ids", "_customers", "_rows", "_tables", "_vectors", "_held_by"):
            column = getattr(self, name)
            setattr(self, name, [column[place] for place in order])

    def _table(self, candidates: Sequence[Candidate]) -> Floats:
        """Probabilities, uplifts and sigmas of the arms, a row each; in a fourth the control responses of outcomes."""
        table = np.full((4, max(len(self._arms), len(self._outcomes))), np.nan)
        table[0] = 0.0
        for one in candidates:
            place = self._arms.get(one.action_id)
            if place is None:
                continue
            table[0, place] += one.selection_probability
            if place and math.isnan(table[1, place]):
                table[1, place], table[2, place] = one.uplift, one.sigma
            if one.outcome in self._outcomes:
                table[3, self._outcomes[one.outcome]] = one.control_response
        return table

    def decided(self, events: EventSource, *, observed_until: int) -> Decided:
        """The decisions with what came of them.

        Args:
            events: those of the decisions' customers at least.
            observed_until: end of observation, microseconds since the epoch.
        """
        self._order()
        subject, n = self._subject, len(self)
        horizon = subject.journey.outcomes[0].model_copy(
            update={"id": _PROGRESS, "event": PROGRESS, "window": subject.journey.horizon, "type": "binary"}
        )
        watched = subject.journey.model_copy(update={"outcomes": (*subject.journey.outcomes, horizon)})
        columns = np.array(self._rows, dtype=np.float64).reshape(n, 8)
        tables = np.array(self._tables).reshape(n, 4, -1)
        n_arms, n_features = len(self._arms), len(subject.features.names)
        probabilities = tables[:, 0, :n_arms]
        probabilities[np.isnan(probabilities).any(axis=1)] = np.nan
        has_vector = np.array([len(one) == n_features for one in self._vectors], dtype=np.bool_)
        vectors = np.full((n, n_features), np.nan)
        for row in np.flatnonzero(has_vector):
            vectors[row] = self._vectors[row]
        arm = columns[:, 2].astype(np.int64)
        past = PastDecisions(
            decision_ids=pa.array(self._ids, pa.string()),
            customer_ids=pa.array(self._customers, pa.string()),
            decided_at=columns[:, 0].astype(np.int64),
            as_of=columns[:, 1].astype(np.int64),
            arm=arm,
            arm_ids=subject.arm_ids,
            selection_probability=probabilities[np.arange(n), arm],
            arm_probabilities=probabilities,
            vector=vectors,
            has_vector=has_vector,
        )
        table = whole_table(events, subject.taxonomy)
        frame = decision_frame(events, past, table, subject.features, watched, observed_until=observed_until)
        progressed = frame.response.pop(_PROGRESS)
        was_open = frame.x[:, subject.features.names.index("journey_status")] == kernel.OPEN
        held_by = np.empty(n, dtype=np.object_)
        held_by[:] = self._held_by
        return Decided(
            arm_ids=subject.arm_ids,
            outcome_ids=subject.outcome_ids,
            aims=_aims(subject),
            worth=np.array([one.value for one in subject.journey.outcomes], dtype=np.float64),
            place=np.array([stable_unit(SALT, one) for one in self._ids], dtype=np.float64),
            people=frame.people,
            at=frame.at,
            arm=arm,
            probabilities=probabilities,
            control=tables[:, 3, : len(self._outcomes)],
            uplift=tables[:, 1, :n_arms],
            sigma=tables[:, 2, :n_arms],
            net_value=columns[:, 4],
            # Of outcomes that no candidate aimed at nothing was predicted.
            is_recorded=np.asarray((~np.isnan(tables[:, 3, : len(self._outcomes)])).any(axis=1), dtype=np.bool_),
            stall=columns[:, 3],
            stalled=np.where(was_open, 1.0 - progressed, np.nan),
            response=np.stack([frame.response[name] for name in subject.outcome_ids], axis=1).reshape(n, -1),
            reached=columns[:, 5].astype(np.int64),
            held=columns[:, 6].astype(np.int64),
            held_by=held_by,
            degraded=columns[:, 7] > 0,
            x=frame.x,
        )


def _held(candidates: Sequence[Candidate]) -> tuple[int, int, tuple[str, ...]]:
    """Candidates that came as far as the contact rules, those dropped by limits, and the rules that did it."""
    came = [one for one in candidates if one.dropped in _BEHIND_HELD and one.action_id != NO_ACTION]
    dropped = [one for one in came if one.dropped in HELD_STAGES]
    return len(came), len(dropped), tuple(sorted({one.rule_ids[0] for one in dropped if one.rule_ids}))


def _aims(subject: Subject) -> Integers:
    places = {name: place for place, name in enumerate(subject.outcome_ids)}
    return np.array([-1, *(places[subject.catalogue.by_id[name].outcome] for name in subject.arm_ids[1:])])


def believed(decided: Decided, scorer: Scorer) -> Decided:
    """The decisions with the scorer's predictions where none was recorded, as of imported ones."""
    unknown = np.flatnonzero(np.isnan(decided.stall) & np.isnan(decided.control).all(axis=1))
    if not len(unknown):
        return decided
    pairs = [
        (decided.outcome_ids[aim], name)
        for name, aim in zip(decided.arm_ids[1:], decided.aims[1:].tolist(), strict=True)
    ]
    found = scorer.customers(decided.x[unknown])
    effects = found.effect_block(pairs)
    stall, control = decided.stall.copy(), decided.control.copy()
    uplift, sigma = decided.uplift.copy(), decided.sigma.copy()
    stall[unknown] = found.stall_block().stall_propensity
    uplift[unknown, 1:], sigma[unknown, 1:] = effects.uplift, effects.sigma
    for place, aim in enumerate(decided.aims[1:].tolist()):
        control[unknown, aim] = effects.control_response[:, place]
    return replace(decided, stall=stall, control=control, uplift=uplift, sigma=sigma)


def latest_apart(decided: Decided, share: float) -> tuple[Decided, Decided] | None:
    """Earlier decisions, and the latest ``share`` of them by time; None where all have one time."""
    if not len(decided) or decided.at.min() == decided.at.max():
        return None
    cut = np.quantile(decided.at, 1 - share)
    late = np.asarray(decided.at >= cut, dtype=np.bool_)
    return decided.where(~late), decided.where(late)


def joined(first: Decided, second: Decided) -> Decided:
    """The decisions of both."""
    together: dict[str, Any] = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _BY_ROW}
    return replace(first, **together)
