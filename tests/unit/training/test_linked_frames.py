"""Frames of people who turned out to be one: what was known then is read, and what is known now is what came of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.events import JourneyEvent
from features.history import whole_table
from models.record_export import record_table
from tests.decision_records import record
from tests.histories import FEATURES, START_AT, TAXONOMY, arrow_events, event, journey
from training.dataset import DecisionFrame, MomentFrame, decision_frame, moment_frame
from training.moments import HOUR_US
from training.params import MomentParams
from training.past_decisions import past_decisions

DAY_US = 24 * HOUR_US
LINKED_AT = START_AT + 2 * DAY_US
LONG_AFTER = START_AT + 100 * DAY_US
JOURNEY = journey()

VISITED = event("v", customer_id="cookie")
CALLED = event("c", customer_id="cookie", kind="called", at=START_AT + DAY_US)
LINK = event("l", customer_id="c1", kind="identity_linked", at=LINKED_AT, facts={"alias": "cookie"})
PAID = event("p", customer_id="c1", kind="paid", at=LINKED_AT + HOUR_US, facts={"amount": 5.0})


def _moments(*events: JourneyEvent) -> MomentFrame:
    table = whole_table(arrow_events(events), TAXONOMY)
    params = MomentParams(idle_hours=(1,), max_rows=1000)
    return moment_frame(table, FEATURES, JOURNEY, observed_until=LONG_AFTER, params=params)


def _decisions(*events: JourneyEvent, **changes: Any) -> DecisionFrame:
    source = arrow_events(events)
    fields = {"journey_id": "application", "customer_id": "cookie", "mode": "imported", "vector": (), **changes}
    at = fields.pop("at")
    records = record_table([record(1, decided_at=at, as_of=at, **fields)])
    past = past_decisions(
        records, "application", ["nudge"], features_version=FEATURES.version, n_features=len(FEATURES.names)
    )
    table = whole_table(source, TAXONOMY)
    return decision_frame(source, past, table, FEATURES, JOURNEY, observed_until=LONG_AFTER)


def test_an_alias_is_looked_at_until_it_turned_out_to_be_another() -> None:
    """Its moments keep their features, and are observed until the link."""
    frame = _moments(VISITED, CALLED, LINK, PAID)

    looked_at = [(name, (at - START_AT) / HOUR_US) for name, at in zip(frame.customer_ids, frame.at, strict=True)]
    assert [(name, round(hours, 3)) for name, hours in looked_at] == [
        ("c1", 48.0),
        ("cookie", 0.0),
        ("cookie", 1.0),
        ("cookie", 24.0),
        ("cookie", 25.0),
    ]
    assert np.round(frame.after.progress / HOUR_US, 3).tolist() == [1.0, *[np.inf] * 4]
    assert np.round(frame.after.observed[1:] / HOUR_US, 3).tolist() == [48.0, 47.0, 24.0, 23.0]


def test_the_person_is_looked_at_with_both_histories_from_the_link_on() -> None:
    """The first moment of the person is the link, and it sees what the visitor did."""
    frame = _moments(VISITED, CALLED, LINK, PAID)

    total = frame.x[:, FEATURES.names.index("events_total")]
    assert total.tolist() == [2.0, 1.0, 1.0, 2.0, 2.0]


def test_what_came_of_a_visitor_is_found_at_the_person() -> None:
    """A decision on the anonymous visitor has its response where the person paid, though nobody knew them then."""
    at = LINKED_AT - HOUR_US
    linked, alone = (_decisions(VISITED, CALLED, *more, at=at) for more in ((LINK, PAID), (PAID,)))

    assert linked.response["paid"].tolist() == [1.0]
    assert alone.response["paid"].tolist() == [0.0]
    np.testing.assert_array_equal(linked.x, alone.x)


def test_a_decision_after_the_link_reads_the_person() -> None:
    """An imported decision names the id as it was sent; its features are those of whom that was known to be."""
    frame = _decisions(VISITED, CALLED, event("o", customer_id="c1"), LINK, at=LINKED_AT + 1)

    assert frame.x[0, FEATURES.names.index("events_total")] == 3.0


def test_decisions_on_one_person_are_kept_together() -> None:
    """Where people are parted into those who teach and those who judge, a visitor goes with whom they turned out to be.

    The record keeps the id that was decided on.
    """
    frame = _decisions(VISITED, CALLED, LINK, PAID, at=LINKED_AT - HOUR_US)

    assert (frame.customer_ids.tolist(), frame.people.tolist()) == (["cookie"], ["c1"])
