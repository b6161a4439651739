"""What serving says came of a decision is what training learns from."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import JourneyEvent
from features.history import transitions, whole_table
from features.journeys import Outcome
from features.kernel import GOAL_REACHED, PROGRESSED
from features.progress import progress_moments
from models.outcome_events import happenings_of, outcome_events
from models.outcome_status import outcome_status
from tests.decision_records import record
from tests.histories import FEATURES, MINUTE_US, START_AT, TAXONOMY, arrow_events, event, journey, random_history
from training.responses import reported_outcomes, responses

DAY_US = 1440 * MINUTE_US


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_progress_is_what_the_kernel_says(seed: int) -> None:
    """Event by event as over the whole table."""
    events = sorted(random_history(seed, n_customers=1, late=0.0), key=lambda one: one.order)
    table = whole_table(arrow_events(events), TAXONOMY)
    codes, _ = transitions(table, FEATURES)
    expected = table.events.at[np.isin(codes, [PROGRESSED, GOAL_REACHED])].astype(np.int64).tolist()

    assert progress_moments(FEATURES, events) == expected


_kinds = st.sampled_from(
    ["visited", "applied", "uploaded", "paid", "called", "told", "told_of_another", "told_of_none"]
)
_moments = st.integers(-3, 30)  # hours from the decision, at which the window of a day ends in the middle
_values = st.sampled_from([0.0, 1.0, 2.5])


def _event(number: int, kind: str, hours: int, value: float) -> JourneyEvent:
    at = START_AT + hours * 60 * MINUTE_US
    if not kind.startswith("told"):
        return event(f"e{number}", kind=kind, at=at, sequence=number, facts={"amount": value} if kind == "paid" else {})
    named = {"told": {"decision_id": "d1"}, "told_of_another": {"decision_id": "d2"}}.get(kind, {})
    facts: dict[str, str | float | bool] = {"outcome_id": "won", "value": value, **named}
    return event(f"e{number}", kind="outcome_observed", at=at, sequence=number, facts=facts)


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("declared_by", ["progress", "paid", "outcome_observed"])
@pytest.mark.parametrize("kind", ["binary", "continuous"])
@given(
    drawn=st.lists(st.tuples(_kinds, _moments, _values), min_size=1, max_size=12),
    observed=st.integers(0, 30),
)
def test_training_and_serving_tell_the_same(
    declared_by: str, kind: str, drawn: list[tuple[str, int, float]], observed: int
) -> None:
    """Pending is NaN, a default "no" is 0, and all that counts counts in both."""
    outcome = Outcome.model_validate(
        {"id": "won", "title": "Won", "event": declared_by, "window": "1d", "type": kind, "value": 1.0}
    )
    # A stranger who never comes back keeps the table from being a complete one.
    events = sorted((_event(number, *one) for number, one in enumerate(drawn)), key=lambda one: one.order)
    source = arrow_events(events)
    table = whole_table(source, TAXONOMY)
    now = START_AT + observed * 60 * MINUTE_US
    learned = responses(
        outcome,
        decision_ids=pa.array(["d0", "d1"]),
        customer_ids=pa.array(["stranger", "c1"]),
        decided_at=np.array([START_AT, START_AT]),
        table=table,
        codes=transitions(table, FEATURES)[0],
        kind=FEATURES.kind_index.get(declared_by, -1),
        reported=reported_outcomes(source, "won"),
        observed_until=now,
    )
    made = record(decision_id="d1", decided_at=START_AT)

    known = outcome_events(journey().model_copy(update={"outcomes": (outcome,)}), events, FEATURES)
    told = outcome_status(outcome, made, happenings_of(outcome, made, known, taxonomy=TAXONOMY), now=now)

    expected = float(learned.value[1])
    if math.isnan(expected):
        assert (told.status == "pending") or (kind == "binary" and told.value == 1.0)
    else:
        assert told.value == expected
        assert told.status == ("yes" if expected else "no")
        assert told.settled_at == START_AT + int(learned.settled_after[1])
