"""What came of people in a time of their own: outcomes, contacts and money, against numbers added up by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.event_tables import identities_of
from features.events import JourneyEvent
from features.history import whole_table
from features.journeys import Journey
from features.schema import feature_set
from models.configuration import built_in_configuration
from tests.histories import START_AT, TAXONOMY, arrow_events, event, journey
from training.follow_up import Doings, FollowUp, Observed, counted_outcomes, follow_up

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
PAID = {"id": "paid", "title": "Paid", "event": "paid", "window": "1d", "value": 10.0}
SPENT = {"id": "spent", "title": "Spent", "event": "paid", "window": "2d", "type": "continuous", "value": 0.5}
TOLD = {"id": "told", "title": "Told", "event": "outcome_observed", "window": "1d", "value": 3.0}


def with_outcomes(*outcomes: dict[str, Any]) -> Journey:
    """The small journey with other outcomes."""
    return Journey.model_validate(journey().model_dump(mode="json") | {"outcomes": list(outcomes)})


def decided(*rows: dict[str, Any]) -> Doings:
    """Decisions, each on person 0 at the start unless told otherwise."""
    return Doings(
        decision_ids=[f"d{number}" for number in range(len(rows))],
        customer_ids=[f"c{row.get('person', 0) + 1}" for row in rows],
        person=np.array([row.get("person", 0) for row in rows], dtype=np.int64),
        at=np.array([START_AT + row.get("after", 0) for row in rows], dtype=np.int64),
        contacts=np.array([row.get("contacts", 1.0) for row in rows]),
        spend=np.array([row.get("spend", 0.0) for row in rows]),
        fatigue=np.array([row.get("fatigue", 0.0) for row in rows]),
        incentives=[row.get("incentives", ()) for row in rows],
    )


def came(
    declared: Journey, events: list[JourneyEvent], doings: Doings, *, lasts: int = DAY_US, until: int = 9 * DAY_US
) -> FollowUp:
    """What came of c1, and of c2 who does nothing, both followed from the start."""
    source = arrow_events([event("seen", kind="visited", at=START_AT - HOUR_US, customer_id="c2"), *events])
    observed = Observed(
        events=source,
        graph=identities_of(source),
        table=whole_table(source, TAXONOMY),
        features=feature_set(TAXONOMY, declared),
        taxonomy=TAXONOMY,
        journey=declared,
        until=START_AT + until,
    )
    counted = counted_outcomes(declared, declared.outcomes[0])
    return follow_up(observed, ["c1", "c2"], np.full(2, START_AT), doings, lasts=lasts, counted=counted)


def paid(after: int, amount: float = 4.0) -> JourneyEvent:
    """Of c1."""
    return event(f"p{after}", kind="paid", at=START_AT + after, facts={"amount": amount})


def test_outcomes_of_one_event_are_counted_once() -> None:
    """Progress holds every step; what is no step counts beside it. The one that is asked for goes first."""
    built_in = built_in_configuration().journeys.by_id["credit_card_application"]
    by_id = built_in.outcome_by_id

    assert [one.id for one in counted_outcomes(built_in, by_id["progress_7d"])] == [
        "progress_7d",
        "protection_14d",
        "feedback_7d",
    ]
    assert [one.id for one in counted_outcomes(built_in, by_id["activation_14d"])] == [
        *("activation_14d", "acceptance_14d", "first_use_14d", "protection_14d", "feedback_7d"),
    ]


def test_the_same_kind_in_another_window_is_the_same() -> None:
    """A sum of payments is not added to having paid; a told outcome is another thing."""
    declared = with_outcomes(PAID, SPENT, TOLD)

    assert [one.id for one in counted_outcomes(declared, declared.outcomes[0])] == ["paid", "told"]
    assert [one.id for one in counted_outcomes(declared, declared.outcomes[1])] == ["spent", "told"]


def test_what_comes_is_worth_its_value_less_costs() -> None:
    """One yes of 10 for contacts of 1.5 and patience of 0.25; of who did nothing nothing came."""
    doings = decided({"spend": 0.5, "fatigue": 0.25}, {"after": HOUR_US, "spend": 1.0})

    found = came(with_outcomes(PAID), [paid(2 * HOUR_US)], doings)

    assert found.gain.tolist() == [10.0, 0.0]
    assert found.spend.tolist() == [1.5, 0.0]
    assert found.cost.tolist() == [1.75, 0.0]
    assert found.value.tolist() == [8.25, 0.0]
    assert (found.decisions.tolist(), found.contacts.tolist()) == ([2.0, 0.0], [2.0, 0.0])


def test_everything_is_counted_in_the_same_time() -> None:
    """Of two days: a yes of the second one counts though its own window is a day, with what was done by then."""
    doings = decided({"spend": 1.0}, {"after": 30 * HOUR_US, "spend": 2.0}, {"after": 49 * HOUR_US, "spend": 4.0})

    found = came(with_outcomes(PAID), [paid(40 * HOUR_US)], doings, lasts=2 * DAY_US)

    assert found.gain[0] == 10.0
    assert found.spend[0] == 3.0
    assert found.declared["paid"][0] == 0.0


def test_what_was_told_of_any_decision_counts_for_the_person() -> None:
    """A report for the second decision is what came of the person; one from before is not."""
    facts = {"outcome_id": "told", "decision_id": "d1", "value": 1.0}
    told = event("r", kind="outcome_observed", at=START_AT + 3 * HOUR_US, facts=facts)
    early = event("e", kind="outcome_observed", at=START_AT - 1, facts=facts, customer_id="c2")

    found = came(with_outcomes(TOLD), [told, early], decided({}, {"after": HOUR_US}))

    assert found.outcomes["told"].tolist() == [1.0, 0.0]


def test_nothing_is_known_before_the_time_is_over() -> None:
    """Not even a yes that came already: who has one would be known earlier than who has none."""
    found = came(with_outcomes(PAID), [paid(HOUR_US)], decided({"spend": 1.0}), until=DAY_US - 1)

    assert not found.settled.any()
    for column in (found.gain, found.spend, found.value, found.decisions, found.exposed, found.answered):
        assert np.isnan(column).all()


def test_an_incentive_is_paid_once_and_only_where_it_was_called_in() -> None:
    """The largest of two promises for one yes; none of what was promised after it, nor where nothing came."""
    doings = decided(
        {"incentives": (("paid", 2.0),)},
        {"after": HOUR_US, "incentives": (("paid", 3.0),)},
        {"after": 5 * HOUR_US, "incentives": (("paid", 7.0),)},
        {"person": 1, "incentives": (("paid", 9.0),)},
    )

    found = came(with_outcomes(PAID), [paid(2 * HOUR_US)], doings)

    assert found.spend.tolist() == [3.0, 0.0]


def test_an_incentive_called_in_after_the_time_is_not_paid_in_it() -> None:
    """Its own window lasts a day from the second decision, the follow-up only from the first."""
    doings = decided({}, {"after": 20 * HOUR_US, "incentives": (("paid", 2.0),)})

    found = came(with_outcomes(PAID), [paid(30 * HOUR_US)], doings)

    assert (found.gain[0], found.spend[0]) == (0.0, 0.0)


def test_an_incentive_of_a_sum_is_paid_for_each_decision() -> None:
    """As decisions count it: once each, whatever the sum."""
    doings = decided({"incentives": (("spent", 2.0),)}, {"after": HOUR_US, "incentives": (("spent", 2.0),)})

    found = came(with_outcomes(SPENT), [paid(2 * HOUR_US, 8.0)], doings)

    assert (found.gain[0], found.spend[0]) == (4.0, 4.0)


def test_exposures_count_strictly_after_the_beginning() -> None:
    """Being shown something makes somebody exposed; to respond takes a response."""
    shown = event("x", kind="action_exposed", at=START_AT + 1, facts={"action_id": "any"})

    found = came(with_outcomes(PAID), [shown], decided({}))

    assert found.exposed.tolist() == [1.0, 0.0]
    assert found.answered.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("score", "points"), [(10, 100.0), (9, 100.0), (8, 0.0), (7, 0.0), (6, -100.0), (0, -100.0)])
def test_the_last_score_makes_a_promoter(score: int, points: float) -> None:
    """From 9 on; a detractor up to 6. What was said before the beginning does not count."""
    scores = [
        event(f"s{at}", kind="surveyed", at=START_AT + at, facts={"nps": float(given)})
        for at, given in ((-HOUR_US, 3), (HOUR_US, 5), (5 * DAY_US, score))
    ]

    found = came(with_outcomes(PAID), scores, decided({}))

    assert found.nps[0] == points
    assert math.isnan(found.nps[1])
