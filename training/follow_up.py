"""What came of people in a time that is the same for all of them: outcomes, contacts, money in and out.

It begins at a moment of each person's own and ends whether or not anything was decided in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.event_tables import EventSource, EventTable
from features.history import transitions
from features.identity import Identities
from features.journeys import PROGRESS, Journey, Outcome
from features.kernel import Floats, Integers
from features.schema import FeatureSet
from features.taxonomy import EXPOSED, OUTCOME_OBSERVED, Taxonomy
from training.dataset import of_people, what_came
from training.moments import settled
from training.responses import Reported, reported_outcomes, responses

Booleans = NDArray[np.bool_]
Words = NDArray[np.str_]

_ANSWERS: Final = ("response", "offer_accepted", "offer_rejected")
"""Roles of events by which a customer answers a contact."""
_PROMOTER, _DETRACTOR = 9, 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FollowUp:
    """What came of ``n`` people while they were followed; NaN of whom it is not known yet.

    Attributes:
        decisions: ``(n,)`` that were made on them.
        contacts: ``(n,)`` actions that were chosen.
        exposed: ``(n,)`` whether any action was shown or sent.
        answered: ``(n,)`` whether a contact was answered: a response, an accepted or a rejected offer.
        outcomes: by id, ``(n,)`` what came of each counted outcome.
        declared: by id, ``(n,)`` what came of each declared outcome within its own window instead.
        gain: ``(n,)`` money: counted outcomes times their values.
        spend: ``(n,)`` money: contacts, channels, and incentives that were called in.
        cost: ``(n,)`` money: the same and fatigue, as decisions count it.
        nps: ``(n,)`` 100 of a promoter, 0 of a passive, -100 of a detractor, by the last answer since the beginning,
            whenever it came; NaN of who gave none.
    """

    decisions: Floats
    contacts: Floats
    exposed: Floats
    answered: Floats
    outcomes: Mapping[str, Floats]
    declared: Mapping[str, Floats]
    gain: Floats
    spend: Floats
    cost: Floats
    nps: Floats

    @property
    def settled(self) -> Booleans:
        """``(n,)`` of whom it is known."""
        known: Booleans = ~np.isnan(self.gain)
        return known

    @property
    def value(self) -> Floats:
        """``(n,)`` money: what was gained, less what it cost."""
        return self.gain - self.cost

    def of(self, rows: Booleans | Integers) -> FollowUp:
        """Of some of the people."""
        return FollowUp(
            decisions=self.decisions[rows],
            contacts=self.contacts[rows],
            exposed=self.exposed[rows],
            answered=self.answered[rows],
            outcomes={name: one[rows] for name, one in self.outcomes.items()},
            declared={name: one[rows] for name, one in self.declared.items()},
            gain=self.gain[rows],
            spend=self.spend[rows],
            cost=self.cost[rows],
            nps=self.nps[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doings:
    """Decisions on some people, each ``(d,)``.

    Attributes:
        decision_ids: text.
        customer_ids: as recorded.
        person: number of whose it is.
        at: when it was made, microseconds since the epoch.
        contacts: actions that were chosen.
        spend: money, contacts and channels.
        fatigue: money.
        incentives: of each decision, outcomes and the money that is paid where they come.
    """

    decision_ids: Sequence[str]
    customer_ids: Sequence[str]
    person: Integers
    at: Integers
    contacts: Floats
    spend: Floats
    fatigue: Floats
    incentives: Sequence[tuple[tuple[str, float], ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """Events that tell what came.

    Attributes:
        events: the log.
        graph: who is who, as is known by now.
        table: the events as ``features.history`` reads them.
        features: of the journey.
        taxonomy: kinds of events.
        journey: as declared.
        until: the end of the observation, microseconds since the epoch.
    """

    events: EventSource
    graph: Identities
    table: EventTable
    features: FeatureSet
    taxonomy: Taxonomy
    journey: Journey
    until: int


def counted_outcomes(journey: Journey, primary: Outcome) -> tuple[Outcome, ...]:
    """Outcomes whose values may be added up: no event is a yes to two of them.

    The primary one, then each declared one that shares no event with those before. ``progress`` is made of every event
    that enters a later stage or the goal.
    """
    taken: set[str] = set()
    counted = []
    for outcome in (primary, *journey.outcomes):
        kinds = _kinds(journey, outcome)
        if not taken & kinds:
            counted.append(outcome)
            taken |= kinds
    return tuple(counted)


def _kinds(journey: Journey, outcome: Outcome) -> set[str]:
    own = {f"{OUTCOME_OBSERVED} {outcome.id}"}
    if outcome.event == PROGRESS:
        stages = {kind for stage in journey.stages[1:] for kind in stage.enter}
        return own | stages | set(journey.goal.enter)
    return own if outcome.event == OUTCOME_OBSERVED else own | {outcome.event}


def follow_up(
    observed: Observed,
    ids: Sequence[str],
    since: Integers,
    doings: Doings,
    *,
    lasts: int,
    counted: Sequence[Outcome],
) -> FollowUp:
    """What came of people.

    Args:
        observed: the events.
        ids: ``(n,)`` whom the people are known to be by now.
        since: ``(n,)`` when each begins to be followed, microseconds since the epoch.
        doings: every decision on them.
        lasts: how long each is followed, microseconds.
        counted: outcomes whose values add up; see ``counted_outcomes``.
    """
    course, _ = settled(observed.table)
    asking = _Asking(observed, course, transitions(course, observed.features)[0], ids, since)
    reported = {one.id: asking.reported(one.id) for one in observed.journey.outcomes}
    over = np.where(since + lasts <= observed.until, 0.0, np.nan)
    inside = doings.at <= since[doings.person] + lasts

    def summed(values: Floats) -> Floats:
        return over + np.bincount(doings.person[inside], weights=values[inside], minlength=len(ids))

    outcomes = {one.id: asking.came(one, lasts, reported[one.id]) for one in counted}
    spend = summed(doings.spend) + _called_in(observed, doings, since + lasts)
    answers = [name for name, kind in observed.taxonomy.known_kinds.items() if kind.role in _ANSWERS]
    return FollowUp(
        decisions=summed(np.ones(len(doings.at))),
        contacts=summed(doings.contacts),
        exposed=over + asking.any_of([EXPOSED], lasts),
        answered=over + asking.any_of(answers, lasts),
        outcomes=outcomes,
        declared={one.id: asking.came(one, one.window, reported[one.id]) for one in observed.journey.outcomes},
        gain=np.sum([one.value * outcomes[one.id] for one in counted], axis=0),
        spend=spend,
        cost=spend + summed(doings.fatigue),
        nps=_nps(course, ids, since),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Asking:
    """Asks the events what came of people.

    Attributes:
        course: the events, as is believed now whose they are.
        codes: what each did to the journey.
    """

    observed: Observed
    course: EventTable
    codes: Integers
    ids: Sequence[str]
    since: Integers

    def reported(self, outcome_id: str) -> Reported:
        """What was told of an outcome: of a person, whichever decision it came back for."""
        told = of_people(self.observed.graph, reported_outcomes(self.observed.events, outcome_id))
        return replace(told, decision_ids=pa.nulls(len(told.at), pa.string()))

    def came(self, outcome: Outcome, window: int, told: Reported) -> Floats:
        """``(n,)`` what came of an outcome within a window; NaN while it is not over."""
        return responses(
            outcome.model_copy(update={"window": window}),
            decision_ids=pa.array([f"person {i}" for i in range(len(self.ids))], pa.string()),
            customer_ids=pa.array(self.ids, pa.string()),
            decided_at=self.since,
            table=self.course,
            codes=self.codes,
            kind=self.observed.features.kind_index.get(outcome.event, -1),
            reported=told,
            observed_until=self.observed.until,
        ).value

    def any_of(self, kinds: Iterable[str], window: int) -> Floats:
        """``(n,)`` whether an event of some kinds happened within a window."""
        nothing = Reported(pa.nulls(0, pa.string()), pa.nulls(0, pa.string()), np.zeros(0, np.int64), np.zeros(0))
        found = np.zeros(len(self.ids))
        for kind in kinds:
            happened = Outcome.model_construct(
                id="happened", title=kind, event=kind, window=window, type="binary", value=0
            )
            found = np.maximum(found, self.came(happened, window, nothing))
        return found


def _called_in(observed: Observed, doings: Doings, until: Integers) -> Floats:
    """``(n,)`` incentives that outcomes called in, of each person until a moment.

    One that comes with a binary outcome is paid once for it, the largest where several were promised; one that comes
    with a sum is paid for each decision, as decisions count it.
    """
    paid = np.zeros(len(until))
    rows = [row for row, promised in enumerate(doings.incentives) if promised]
    if not rows:
        return paid
    _, came = what_came(
        observed.events,
        pa.array([doings.decision_ids[row] for row in rows], pa.string()),
        pa.array([doings.customer_ids[row] for row in rows], pa.string()),
        doings.at[rows],
        table=observed.table,
        feature_set=observed.features,
        journey=observed.journey,
        observed_until=observed.until,
    )
    largest: dict[tuple[int, str], float] = {}
    for place, row in enumerate(rows):
        who, at = int(doings.person[row]), int(doings.at[row])
        for outcome_id, money in doings.incentives[row]:
            if outcome_id not in came or at > until[who]:
                continue
            outcome, told = observed.journey.outcome_by_id[outcome_id], came[outcome_id]
            value, after = float(told.value[place]), int(told.settled_after[place])
            if outcome.type != "binary":
                paid[who] += money
            elif (value == 1 or (np.isnan(value) and after < outcome.window)) and at + after <= until[who]:
                largest[who, outcome_id] = max(money, largest.get((who, outcome_id), 0.0))
    for (who, _), money in largest.items():
        paid[who] += money
    return paid


def _nps(course: EventTable, ids: Sequence[str], since: Integers) -> Floats:
    """``(n,)`` by the last score that each gave after a moment; NaN of who gave none."""
    number = {one: i for i, one in enumerate(ids)}
    names = course.customers.to_pylist()
    found = np.full(len(ids), np.nan)
    told = np.flatnonzero(~np.isnan(course.events.nps))
    for row, customer in zip(told.tolist(), course.customer_of_row[told].tolist(), strict=True):
        who = number.get(names[customer])
        if who is not None and course.events.at[row] > since[who]:
            score = float(course.events.nps[row])
            found[who] = 100.0 if score >= _PROMOTER else -100.0 if score <= _DETRACTOR else 0.0
    return found


def nothing_followed(counted: Sequence[Outcome], journey: Journey) -> FollowUp:
    """Of nobody."""
    none = np.zeros(0)
    return FollowUp(
        decisions=none,
        contacts=none,
        exposed=none,
        answered=none,
        outcomes={one.id: none for one in counted},
        declared={one.id: none for one in journey.outcomes},
        gain=none,
        spend=none,
        cost=none,
        nps=none,
    )
