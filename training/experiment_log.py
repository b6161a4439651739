"""Everybody who takes part in an experiment, with the arm they were drawn into and what came since: an array each.

Everybody is followed for the same time from their first decision in the experiment on, whatever was done then: who
takes part, when it begins and how long it lasts do not depend on the arm. Only reads the home, beside a service that
writes it; the event log is exported into a folder of its own, which is removed.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import UnknownObject
from features.event_export import export_events
from features.event_store import open_event_log
from features.event_tables import identities_of
from features.history import whole_table
from features.home import Home
from features.journeys import Journey, Outcome
from features.kernel import Integers
from features.schema import feature_set
from features.taxonomy import Taxonomy
from models.actions import NO_ACTION
from models.configuration import Configuration
from models.decision import DecisionRecord
from models.policy import Arm
from models.record_store import open_record_store
from models.sample_ratio import Assignment, usable_rows
from training.dataset import owners
from training.follow_up import Booleans, Doings, FollowUp, Observed, Words, follow_up, nothing_followed
from training.snapshot import EVENTS_FILE

ARMS: Final[tuple[Arm, ...]] = get_args(Arm)
NUMBERS: Final[Mapping[str, int]] = {arm: number for number, arm in enumerate(ARMS)}
UNKNOWN: Final = "unknown"
NOT_DEGRADED: Final = "no"

NO_ARM: Final = "no_arm"
OTHER_EXPERIMENT: Final = "other_experiment"
BROKEN: Final = "broken_probabilities"
"""Reasons to leave decisions out, beside the modes other than live."""

_CHALLENGER_MISSING: Final = "challenger_missing"
_OF_AN_ARM: Final = frozenset((_CHALLENGER_MISSING,))
"""What is degraded in one arm only, by its nature: it tells nothing of lost records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedExperiment:
    """Which experiment, and how it is followed.

    Attributes:
        experiment_id: as policy and records name it.
        follow_up: how long everybody is followed from the first decision on, microseconds.
        counted: outcomes whose values add up; see ``training.follow_up.counted_outcomes``.
        since: only people whose first decision was made from here on, microseconds since the epoch.
        until: and before; None for no bound.
        group_by: an attribute of the profile; None for no groups.
    """

    experiment_id: str
    follow_up: int
    counted: tuple[Outcome, ...]
    since: int = 0
    until: int | None = None
    group_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """Who takes part, in the order of their first decisions.

    Attributes:
        ids: ``(n,)`` whom they are known to be by now.
        assignment: arm (an index into ``ARMS``) and recorded probabilities of the first decision.
        entered_at: ``(n,)`` when that was, microseconds since the epoch.
        stage: ``(n,)`` of the journey then, ``unknown`` where there was none.
        group: ``(n,)`` value of the attribute that makes groups then, likewise.
        policy: ``(n,)`` version of the policy then.
        degraded: ``(n,)`` what was missing then, ``no`` where nothing was.
        decisions: ``(n,)`` of theirs in the log.
        came: what came since.
    """

    ids: Words
    assignment: Assignment
    entered_at: Integers
    stage: Words
    group: Words
    policy: Words
    degraded: Words
    decisions: Integers
    came: FollowUp

    def __len__(self) -> int:
        """Number of people."""
        return len(self.ids)

    def of(self, rows: Booleans | Integers) -> People:
        """Some of the people."""
        return People(
            ids=self.ids[rows],
            assignment=self.assignment.of(rows),
            entered_at=self.entered_at[rows],
            stage=self.stage[rows],
            group=self.group[rows],
            policy=self.policy[rows],
            degraded=self.degraded[rows],
            decisions=self.decisions[rows],
            came=self.came.of(rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExperimentLog:
    """An experiment as the log of a home tells it.

    Attributes:
        people: who takes part.
        observed_until: the newest moment that the log knows of, microseconds since the epoch; 0 for an empty one.
        excluded: decisions of the journey that do not count, by reason.
        in_two_arms: people who were met in more than one arm, by cause: ``several_ids`` or ``shares_changed``.
        challenger_missing: decisions of the challenger's arm that the champion made.
    """

    people: People
    observed_until: int
    excluded: Counter[str] = field(default_factory=Counter)
    in_two_arms: Counter[str] = field(default_factory=Counter)
    challenger_missing: int = 0


class _Decided(NamedTuple):
    """What of a record is kept."""

    decision_id: str
    customer_id: str
    at: int
    arm: int
    probability: tuple[float, ...]
    stage: str
    group: str
    policy: str
    degraded: tuple[str, ...]
    contacts: int
    spend: float
    fatigue: float
    incentives: tuple[tuple[str, float], ...]


def experiment_log(home: Home, configuration: Configuration, journey: Journey, asked: AskedExperiment) -> ExperimentLog:
    """The experiment, out of the stores of a home.

    Args:
        home: of the installation; a service may be writing it.
        configuration: that holds for it.
        journey: as declared.
        asked: which experiment.

    Raises:
        UnknownObject: neither the policy nor any record knows the experiment.
        StoreError: a store cannot be read.
    """
    known = {configuration.policy.experiment.id}
    if not home.has_records or not home.has_events:
        _refuse_unknown(asked.experiment_id, known)
        return ExperimentLog(people=_nobody(journey, asked), observed_until=0)
    with closing(open_record_store(home, readonly=True)) as records:
        pages = (record for page in records.read() for record in page)
        decided, excluded = _decided(pages, journey.id, asked, known)
    _refuse_unknown(asked.experiment_id, known)
    with tempfile.TemporaryDirectory(prefix="experiment-", dir=home.state) as folder:
        events = Path(folder) / EVENTS_FILE
        with closing(open_event_log(home, readonly=True)) as log:
            export_events(log, events)
        return _followed(events, configuration.taxonomy, journey, asked, decided, excluded)


def _refuse_unknown(experiment_id: str, known: set[str]) -> None:
    if experiment_id not in known:
        names = ", ".join(sorted(name for name in known if name))
        raise UnknownObject(f"no experiment {experiment_id!r:.80}; expected one of {names}")


def _decided(
    records: Iterable[DecisionRecord], journey_id: str, asked: AskedExperiment, known: set[str]
) -> tuple[list[_Decided], Counter[str]]:
    """Live decisions of the experiment in the order of their ids, and how many others there are by reason.

    The experiments that are met are added to ``known``.
    """
    found: list[_Decided] = []
    excluded: Counter[str] = Counter()
    for record in records:
        known.add(record.experiment_id)
        if record.journey_id != journey_id:
            continue
        if record.mode != "live":
            excluded[record.mode] += 1
        elif record.experiment_id != asked.experiment_id:
            excluded[OTHER_EXPERIMENT] += 1
        elif record.arm not in NUMBERS:
            excluded[NO_ARM] += 1
        else:
            found.append(_kept(record, asked.group_by))
    return found, excluded


def _kept(record: DecisionRecord, group_by: str | None) -> _Decided:
    by_treatment = {one.treatment_id: one for one in record.candidates}
    chosen = [one.treatment_id for one in record.selected if one.treatment_id != NO_ACTION]
    done = [by_treatment[one] for one in chosen]
    group = None if group_by is None else record.attributes.get(group_by)
    return _Decided(
        decision_id=record.decision_id,
        customer_id=record.customer_id,
        at=record.decided_at,
        arm=NUMBERS[record.arm],
        probability=tuple(record.arm_probabilities.get(arm, 0.0) for arm in ARMS),
        stage=record.stage or UNKNOWN,
        group=UNKNOWN if group is None else str(group).lower() if isinstance(group, bool) else str(group),
        policy=record.versions.get("policy", UNKNOWN),
        degraded=record.degraded,
        contacts=len(done),
        spend=sum(one.contact_cost + one.channel_price for one in done),
        fatigue=sum(one.fatigue_cost for one in done),
        incentives=tuple((one.outcome, one.incentive_cost) for one in done if one.outcome and one.incentive_cost > 0),
    )


def _followed(
    events: Path,
    taxonomy: Taxonomy,
    journey: Journey,
    asked: AskedExperiment,
    decided: Sequence[_Decided],
    excluded: Counter[str],
) -> ExperimentLog:
    """Whose decisions these are, and what came since the first of each."""
    observed = Observed(
        events=events,
        graph=identities_of(events),
        table=whole_table(events, taxonomy),
        features=feature_set(taxonomy, journey),
        taxonomy=taxonomy,
        journey=journey,
        until=_observed_until(events),
    )
    at = np.array([one.at for one in decided], dtype=np.int64)
    customers = [one.customer_id for one in decided]
    ids, person, first = _first_met(owners(observed.graph, pa.array(customers, pa.string()), at).to_pylist(), at)
    entered_at = at[first]
    doings = Doings(
        decision_ids=[one.decision_id for one in decided],
        customer_ids=customers,
        person=person,
        at=at,
        contacts=np.array([one.contacts for one in decided], dtype=np.float64),
        spend=np.array([one.spend for one in decided], dtype=np.float64),
        fatigue=np.array([one.fatigue for one in decided], dtype=np.float64),
        incentives=[one.incentives for one in decided],
    )
    entries = [decided[row] for row in first.tolist()]
    everybody = People(
        ids=np.array(ids, dtype=np.str_),
        assignment=Assignment(
            np.array([one.arm for one in entries], dtype=np.int64),
            np.array([one.probability for one in entries], dtype=np.float64).reshape(len(entries), len(ARMS)),
        ),
        entered_at=entered_at,
        stage=np.array([one.stage for one in entries], dtype=np.str_),
        group=np.array([one.group for one in entries], dtype=np.str_),
        policy=np.array([one.policy for one in entries], dtype=np.str_),
        degraded=np.array([_degraded(one) for one in entries], dtype=np.str_),
        decisions=np.bincount(person, minlength=len(ids)).astype(np.int64),
        came=follow_up(observed, ids, entered_at, doings, lasts=asked.follow_up, counted=asked.counted),
    )
    is_asked = entered_at >= asked.since
    if asked.until is not None:
        is_asked &= entered_at < asked.until
    usable = usable_rows(everybody.assignment)
    excluded[BROKEN] += int(everybody.decisions[is_asked & ~usable].sum())
    counts = is_asked & usable
    mine = [(one, who) for one, who in zip(decided, person.tolist(), strict=True) if counts[who]]
    return ExperimentLog(
        people=everybody.of(counts),
        observed_until=observed.until,
        excluded=+excluded,
        in_two_arms=_in_two_arms(mine),
        challenger_missing=sum(_CHALLENGER_MISSING in one.degraded for one, _ in mine if ARMS[one.arm] == "challenger"),
    )


def _degraded(one: _Decided) -> str:
    return ", ".join(name for name in one.degraded if name not in _OF_AN_ARM) or NOT_DEGRADED


def _observed_until(events: Path) -> int:
    """The newest moment that the log knows of."""
    rows = pq.read_table(events, columns=["occurred_at", "arrived_at"])
    if not rows.num_rows:
        return 0
    return max(int(pc.max(rows[name]).cast(pa.int64()).as_py()) for name in rows.column_names)


def _first_met(people: Sequence[str], at: Integers) -> tuple[list[str], Integers, Integers]:
    """People by the moment of their first decision, each decision's number among them, and the row of each first."""
    first: dict[str, int] = {}
    for row in np.argsort(at, kind="stable").tolist():
        first.setdefault(people[row], row)
    number = {one: i for i, one in enumerate(first)}
    person = np.array([number[one] for one in people], dtype=np.int64)
    return list(first), person, np.array(list(first.values()), dtype=np.int64)


def _in_two_arms(decided: Sequence[tuple[_Decided, int]]) -> Counter[str]:
    """People who were met in more than one arm, by cause."""
    arms: dict[int, set[int]] = {}
    ids: dict[int, set[str]] = {}
    for one, who in decided:
        arms.setdefault(who, set()).add(one.arm)
        ids.setdefault(who, set()).add(one.customer_id)
    moved = [who for who, met in arms.items() if len(met) > 1]
    return Counter("several_ids" if len(ids[who]) > 1 else "shares_changed" for who in moved)


def _nobody(journey: Journey, asked: AskedExperiment) -> People:
    words, whole = np.zeros(0, dtype=np.str_), np.zeros(0, dtype=np.int64)
    return People(
        ids=words,
        assignment=Assignment(whole, np.zeros((0, len(ARMS)))),
        entered_at=whole,
        stage=words,
        group=words,
        policy=words,
        degraded=words,
        decisions=whole,
        came=nothing_followed(asked.counted, journey),
    )
