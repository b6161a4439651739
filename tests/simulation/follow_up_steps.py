"""Steps that follow a decision: its leases are activated, exposures and outcomes come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.errors import InvalidInput
from features.events import FUTURE_SKEW_US, dump_timestamp
from models.decision import DecisionRecord
from serving.problems import LeaseOver, NotActivatable
from tests.simulation.answer_checks import check_ids, check_report
from tests.simulation.course import Course
from tests.simulation.drawing import Step
from tests.simulation.model import SECOND_US, Event, hold


def activate(course: Course, step: Step) -> str:
    """Leases of a decision that are turned into contacts."""
    known = course.known(step)
    if known is None:
        return "nothing to activate"
    record, body = known.record, {} if step["slots"] is None else {"slots": step["slots"]}
    chosen = [one.action_id for one in record.selected if step["slots"] is None or one.slot in step["slots"]]
    at = max(course.there.now, record.decided_at)
    before = {one.action_id: one.status for one in course.model.activatable(record.decision_id, at)}
    told, failed = course.called(lambda: _activated(course, record, body))
    if told == "activated":
        hold("lease", set(chosen) <= before.keys(), (record.decision_id, chosen, before))
        ids = course.model.ids(record.customer_id)
        for one in course.model.contacts:
            if one.decision_id == record.decision_id and one.action_id in chosen and one.status == "lease":
                course.model.check_caps(one, ids, at=at)
                hold("activated_consent", course.model.is_open(one, record.customer_id), one)
                course.model.confirm(record.decision_id, [one.action_id], at=at)
        hold("holdout", record.arm != "no_contact_holdout", record.decision_id)
    elif told == "over":
        is_over = any(one not in before for one in chosen) or course.model.is_given_back(record.decision_id, chosen)
        hold("lease_over", is_over, (record.decision_id, chosen, before))
    elif told == "refused" and record.mode == "live" and record.selected:
        hold("activation_refused", course.model.is_closed(record, chosen, at), (record.decision_id, chosen, before))
    check_ids(course, record.customer_id)
    return f"{told} {chosen} after {failed}"


def _activated(course: Course, record: DecisionRecord, body: Mapping[str, Any]) -> str:
    try:
        course.there.runtime.activations.activate(record, body, now=course.there.now)
    except LeaseOver:
        return "over"
    except NotActivatable:
        return "refused"
    except InvalidInput:
        return "invalid"
    return "activated"


def returned(course: Course, step: Step) -> str:
    """A batch of exposures and outcomes."""
    told = [one for item in step["items"] if (one := _returned_item(course, item, step["source"])) is not None]
    seen: set[str] = set()  # which of two exposures of one contact in a batch counts is nobody's promise
    told = [one for one in told if one[0]["type"] != "exposure" or not (one[1] in seen or seen.add(one[1]))]
    if not told:
        return "nothing to tell"
    documents = [document for document, *_ in told]
    report, failed = course.called(
        lambda: course.there.runtime.outcomes.record(documents, source=step["source"], arrived_at=course.there.now)
    )
    rejected = [index for index, _ in report.rejected]
    for place, (document, _, _, is_valid) in enumerate(told):
        if is_valid is not None:
            hold("returned", (place not in rejected) == is_valid, (document, report))
    kept = [event for place, (_, _, event, _) in enumerate(told) if place not in rejected]
    check_report(course, report, rejected, kept, failed, n=len(documents))
    for event in kept:
        course.model.note(course.model.events[event.source, event.event_id])
    check_ids(course, *(course.model.by_id[decision_id].record.customer_id for _, decision_id, _, _ in told))
    return f"{report.accepted} {report.duplicates} {rejected} late {report.late} after {failed}"


def _returned_item(
    course: Course, item: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], str, Event, bool | None] | None:
    """The document, its decision, the event that it becomes, and whether it must be taken; None where it may be."""
    known = course.known(item)
    if known is None:
        return None
    record = known.record
    at = course.there.now - item["age"] * SECOND_US
    document = {"decision_id": record.decision_id, "type": item["type"], "occurred_at": dump_timestamp(at)}
    if item["id"] is not None:
        document["outcome_event_id"] = f"o-{item['id']}"
    first = record.first
    is_exposure = item["type"] == "exposure"
    kind, about = ("action_exposed", first.treatment_id) if is_exposure else ("outcome_observed", "progress_7d")
    facts: dict[str, Any] = {"decision_id": record.decision_id}
    if is_exposure:
        facts |= {"action_id": first.action_id}
    else:
        document |= {"outcome_id": "progress_7d", "value": item["value"]}
        facts |= {"value": item["value"]}
    is_early = at < record.decided_at - FUTURE_SKEW_US
    is_valid: bool | None = not is_early and (not is_exposure or (record.mode == "live" and bool(record.selected)))
    if is_valid and record.decided_at >= course.there.now:
        is_valid = None  # the clock was set back since: it may be in the future
    event = Event(
        source=source,
        event_id=document.get("outcome_event_id", f"{record.decision_id}/{kind}/{about}"),
        customer_id=record.customer_id,
        kind=kind,
        at=max(at, record.decided_at + 1),
        sequence=-1,
        facts=facts,
    )
    return document, record.decision_id, event, is_valid
