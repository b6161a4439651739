"""What is looked at in every answer, once it is there: the obvious model is asked in ``tests.simulation.model``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from models.decision import DecisionRecord
from tests.recorded import NAME
from tests.simulation.checks import check_everything
from tests.simulation.course import Course
from tests.simulation.model import Event, hold

_OF_FEATURES: Final = frozenset(
    {"feature_store_unavailable", "feature_store_reset", "feature_store_damaged", "features_rebuilt"}
)


def check_report(
    course: Course, report: Any, bad: Sequence[int], told: Sequence[Event], failed: int, *, n: int
) -> None:
    """What came of a batch is counted right and told; good events are taken down.

    Args:
        course: of the run.
        report: what was answered.
        bad: places of those that must be rejected.
        told: the others.
        failed: how often the call failed before: then some may have been there already.
        n: size of the batch.
    """
    hold("counts", report.accepted + report.duplicates + len(report.rejected) == n, report)
    hold("rejects", [index for index, _ in report.rejected] == list(bad), (report, bad))
    new = {(one.source, one.event_id) for one in told} - course.model.events.keys()
    if not failed:
        hold("duplicates", report.accepted == len(new), (report, sorted(new)))
    else:
        hold("duplicates", report.accepted <= len(new), (report, sorted(new)))
    for one in told:
        course.model.events.setdefault((one.source, one.event_id), one)
    fired = course.there.faults.fired
    hold("degraded", "features" not in fired or bool(report.degraded), report)
    hold("degraded", bool(fired) or not report.degraded or course.is_full, report)


def check_degraded(course: Course, record: DecisionRecord, drawn: Mapping[str, Any]) -> None:
    """An answer says what it lacked, and no more."""
    said = _OF_FEATURES.intersection(record.degraded)
    if "features" in course.there.faults.fired:
        hold("degraded", "feature_store_unavailable" in said, record.degraded)
    elif record.customer_id not in course.suspect and not course.is_full:
        hold("heals", not said, (record.customer_id, record.degraded))
    elif course.n_failed == 0 and "feature_store_unavailable" not in said:
        course.healing.add(record.customer_id)
    late = drawn.get("waited", 0) > 0
    hold("deadline", ("deadline_exceeded" in record.degraded) == late, record.degraded)
    hold("deadline", not (late and record.selected), record.selected)


def check_moment(course: Course, record: DecisionRecord) -> None:
    """A decision is made after all that the log holds, and not before its time."""
    log = course.there.stores.log
    newest = log.arrived_at(log.head())
    hold("moments", record.decided_at >= course.there.now or newest <= course.there.now, record.decided_at)
    hold("moments", record.decided_at > newest, (record.decided_at, newest))


def check_bundle(course: Course, record: DecisionRecord) -> None:
    """A decision is made by the version that its alias is on."""
    alias = "challenger" if record.arm == "challenger" else "champion"
    expected = f"{NAME}@{alias}/{course.labels[alias]}"
    hold("bundle", record.versions.get("bundle") == expected, (record.versions.get("bundle"), expected))


def check_assignees(course: Course, record: DecisionRecord) -> None:
    """Whoever is to handle a decision is there, and takes any work at all."""
    for person_id in record.assignees:
        person = course.model.people.get(person_id or "", {"available": True, "most_open": 1})
        hold("assignee", person_id is None or (person["available"] and person["most_open"] > 0), person_id)


def check_ids(course: Course, *customer_ids: str) -> None:
    """The record store counts what the model counts, of some customers and of all capacities."""
    records, now = course.there.stores.records, course.there.now
    check_everything(records, course.model, customer_ids, now=now)
