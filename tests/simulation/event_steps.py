"""Steps that tell events, good ones and bad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from features.events import dump_timestamp, parse_timestamp
from tests.simulation.answer_checks import check_report
from tests.simulation.course import Course
from tests.simulation.drawing import Step
from tests.simulation.model import SECOND_US, Event
from tests.simulation.setting import DAY


def ingest(course: Course, step: Step) -> str:
    """A batch of events."""
    source = step["source"]
    documents = [_document(course, one) for one in step["events"]]
    bad = [place for place, one in enumerate(step["events"]) if "bad" in one]
    report, failed = course.called(
        lambda: course.there.runtime.ingest.ingest(documents, source=source, arrived_at=course.there.now)
    )
    told = [
        _event(course, source, cast("dict[str, Any]", document), place)
        for place, document in enumerate(documents)
        if place not in bad
    ]
    check_report(course, report, bad, told, failed, n=len(documents))
    return f"{report.accepted} {report.duplicates} {len(report.rejected)} {report.degraded} after {failed}"


def _document(course: Course, told: Step) -> object:
    document = {
        "event_id": f"e-{told['id']}",
        "customer_id": told["customer"],
        "kind": told["kind"],
        "occurred_at": dump_timestamp(course.there.now - told["age"] * SECOND_US),
        "channel": told["channel"],
        "facts": told["facts"],
    } | ({"sequence": told["sequence"]} if "sequence" in told else {})
    later = dump_timestamp(course.latest + 2 * DAY * SECOND_US)
    changes: dict[str, Any] = {
        "no_kind": {"kind": "nonsense"},
        "far_future": {"occurred_at": later},
        "naive_time": {"occurred_at": "2026-03-01T10:00:00"},
        "unknown_fact": {"facts": {"nonsense": 1}},
        "null_byte": {"customer_id": "c\0"},
        "not_finite": {"kind": "card_used", "channel": "web", "facts": {"amount": float("inf")}},
    }
    if told.get("bad") == "no_object":
        return 7
    return document | changes.get(told.get("bad", ""), {})


def _event(course: Course, source: str, document: Mapping[str, Any], place: int) -> Event:
    return Event(
        source=source,
        event_id=document["event_id"],
        customer_id=document["customer_id"],
        kind=document["kind"],
        at=parse_timestamp(document["occurred_at"]),
        sequence=document.get("sequence", place),
        facts=document["facts"],
    )
