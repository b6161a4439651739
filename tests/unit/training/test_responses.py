"""What counts as an outcome of a decision, and what is not known yet."""

import math

import numpy as np
import pyarrow as pa

from features.events import JourneyEvent
from features.history import transitions, whole_table
from features.journeys import Outcome
from tests.histories import FEATURES, START_AT, TAXONOMY, arrow_events, event
from training.moments import HOUR_US
from training.responses import Responses, reported_outcomes, responses

DAY_US = 24 * HOUR_US


def outcome(event_name: str, kind: str = "binary") -> Outcome:
    """An outcome with a window of one day."""
    return Outcome.model_validate(
        {"id": "paid", "title": "Paid", "event": event_name, "window": "1d", "type": kind, "value": 1.0}
    )


def response_of(declared: Outcome, events: list[JourneyEvent], *, observed_until: int = START_AT + 9 * DAY_US) -> float:
    """The response of decision d1, made for c1 at the start."""
    return float(came_of(declared, events, observed_until).value[1])


def came_of(declared: Outcome, events: list[JourneyEvent], observed_until: int = START_AT + 9 * DAY_US) -> Responses:
    """What came of d0, made for a stranger, and d1, made for c1, both at the start."""
    source = arrow_events(events)
    table = whole_table(source, TAXONOMY)
    return responses(
        declared,
        decision_ids=pa.array(["d0", "d1"]),
        customer_ids=pa.array(["stranger", "c1"]),
        decided_at=np.array([START_AT, START_AT]),
        table=table,
        codes=transitions(table, FEATURES)[0],
        kind=FEATURES.kind_index.get(declared.event, -1),
        reported=reported_outcomes(source, "paid"),
        observed_until=observed_until,
    )


def reported(
    value: float, *, at: int, decision_id: str | None = "d1", customer_id: str = "c1", outcome_id: str = "paid"
) -> JourneyEvent:
    """An outcome that came back."""
    facts: dict[str, str | float | bool] = {"outcome_id": outcome_id, "value": value}
    if decision_id is not None:
        facts["decision_id"] = decision_id
    return event(f"o{at}{decision_id}", kind="outcome_observed", at=at, facts=facts, customer_id=customer_id)


def test_an_event_of_the_declared_kind_within_the_window_counts() -> None:
    """``(t, t + window]``, its end included and its start not."""
    ends = [
        response_of(outcome("paid"), [event("e1", kind="paid", at=START_AT + offset)])
        for offset in (0, 1, DAY_US, DAY_US + 1)
    ]
    assert ends == [0.0, 1.0, 1.0, 0.0]


def test_another_customers_event_does_not_count() -> None:
    """Outcomes are the customer's own."""
    assert response_of(outcome("paid"), [event("e1", kind="paid", at=START_AT + 1, customer_id="c2")]) == 0.0


def test_progress_counts_by_what_it_did_to_the_journey() -> None:
    """The outcome ``progress`` is a later stage or the goal, not a certain kind of event."""
    entered = event("e0", at=START_AT - 5)
    assert response_of(outcome("progress"), [entered, event("e1", kind="applied", at=START_AT + 1)]) == 1.0
    assert response_of(outcome("progress"), [event("e1", kind="applied", at=START_AT + 1)]) == 0.0


def test_a_reported_outcome_of_the_decision_counts() -> None:
    """Whatever the declared event is; a reported 0 is a no, another outcome's report is not this one's."""
    at = START_AT + HOUR_US
    assert response_of(outcome("paid"), [reported(1.0, at=at)]) == 1.0
    assert response_of(outcome("paid"), [reported(0.0, at=at)]) == 0.0
    assert response_of(outcome("paid"), [reported(1.0, at=at, outcome_id="other")]) == 0.0
    assert response_of(outcome("paid"), [reported(1.0, at=at, decision_id="d0")]) == 0.0


def test_a_report_without_a_decision_is_the_customers() -> None:
    """It counts for the decisions whose window it falls into."""
    assert response_of(outcome("paid"), [reported(1.0, at=START_AT + HOUR_US, decision_id=None)]) == 1.0
    assert response_of(outcome("paid"), [reported(1.0, at=START_AT + 2 * DAY_US, decision_id=None)]) == 0.0


def test_a_continuous_outcome_is_a_sum() -> None:
    """Values of the kind's events and reported values add up."""
    events = [
        event("e1", kind="paid", at=START_AT + 1, facts={"amount": 2.5}),
        event("e2", kind="paid", at=START_AT + 2),
        reported(4.0, at=START_AT + 3),
    ]
    assert response_of(outcome("paid", "continuous"), events) == 6.5


def test_a_window_that_is_not_over_is_unknown() -> None:
    """Not a no: it is left out of the fit, even where a yes was seen already."""
    events = [event("e1", kind="paid", at=START_AT + 1)]
    assert math.isnan(response_of(outcome("paid"), events, observed_until=START_AT + DAY_US - 1))
    assert response_of(outcome("paid"), events, observed_until=START_AT + DAY_US) == 1.0


def test_a_table_with_a_report_for_every_decision_is_complete() -> None:
    """A campaign table ends with its last outcome; the noughts in it are known, though the window is not over."""
    events = [reported(1.0, at=START_AT + 1), reported(0.0, at=START_AT + 1, decision_id="d0")]
    assert response_of(outcome("paid"), events, observed_until=START_AT + 1) == 1.0
    assert math.isnan(response_of(outcome("paid"), events[:1], observed_until=START_AT + 1))


def settled_after(declared: Outcome, events: list[JourneyEvent], observed_until: int = START_AT + 9 * DAY_US) -> int:
    """When the outcome of d1 was settled."""
    return int(came_of(declared, events, observed_until).settled_after[1])


def test_a_yes_is_settled_when_it_first_happened() -> None:
    """The first event or report within ``(t, t + window]``; a reported 0 settles nothing."""
    paid = [event(f"e{offset}", kind="paid", at=START_AT + offset) for offset in (0, 7, 5, DAY_US)]
    assert settled_after(outcome("paid"), paid) == 5
    assert (
        settled_after(outcome("paid"), [paid[1], reported(0.0, at=START_AT + 1), reported(1.0, at=START_AT + 3)]) == 3
    )
    assert settled_after(outcome("paid"), [paid[1], reported(1.0, at=START_AT + 6, decision_id=None)]) == 6


def test_a_no_is_settled_by_the_end_of_its_window() -> None:
    """An event at the end is a yes at that moment; one after it is none."""
    for offset in (DAY_US, DAY_US + 1):
        assert settled_after(outcome("paid"), [event("e", kind="paid", at=START_AT + offset)]) == DAY_US
    assert settled_after(outcome("paid"), [reported(0.0, at=START_AT + 1)]) == DAY_US


def test_when_it_was_settled_is_known_though_the_window_is_open() -> None:
    """The response is not: it is judged when its window is over."""
    events, until = [event("e1", kind="paid", at=START_AT + 1)], START_AT + 2
    assert math.isnan(response_of(outcome("paid"), events, observed_until=until))
    assert settled_after(outcome("paid"), events, until) == 1


def test_a_sum_is_settled_when_its_window_is_over() -> None:
    """It may grow until then."""
    events = [event("e1", kind="paid", at=START_AT + 1, facts={"amount": 2.5})]
    assert settled_after(outcome("paid", "continuous"), events) == DAY_US


def test_a_complete_table_is_settled_at_once() -> None:
    """Every decision has its report."""
    events = [reported(1.0, at=START_AT + 1), reported(0.0, at=START_AT + 1, decision_id="d0")]
    assert settled_after(outcome("paid"), events, START_AT + 1) == 0
