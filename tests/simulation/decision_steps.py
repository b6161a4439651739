"""Steps that ask for decisions: one, the same again, and two at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from features.errors import Conflict, InFlight, StoreError
from features.events import dump_timestamp
from models.decision import DecisionRecord
from models.records import LostRace
from serving.decide import Answered
from serving.observe import NotAtHand
from serving.recording import Asking
from serving.requests import parse_decision_request
from serving.schemas import DecisionRequest
from tests.simulation.answer_checks import (
    check_assignees,
    check_bundle,
    check_degraded,
    check_ids,
    check_moment,
)
from tests.simulation.course import Course
from tests.simulation.drawing import Step
from tests.simulation.faults import Died
from tests.simulation.follow_up_steps import activate
from tests.simulation.model import SECOND_US, Decided, hold

ASKER: Final = "crm"


def decide(course: Course, drawn: Mapping[str, Any]) -> str:
    """A decision that is asked for."""
    document = _question(course, drawn)
    answered, failed = course.called(lambda: _answered(course, document, drawn))
    return f"{_learn(course, document, answered.answer, drawn)} after {failed}"


def _question(course: Course, drawn: Mapping[str, Any]) -> dict[str, Any]:
    document = {name: value for name, value in drawn.items() if name not in ("as_of_age", "waited")}
    if "as_of_age" in drawn:
        document["as_of"] = dump_timestamp(course.there.now - drawn["as_of_age"] * SECOND_US)
    return document


def _answered(course: Course, document: Mapping[str, Any], drawn: Mapping[str, Any]) -> Answered:
    course.there.faults.fired.clear()
    request, asking = _asking(course, document, drawn)
    return cast(Answered, course.there.runtime.decider.answered(request, asking))


def _asking(course: Course, document: Mapping[str, Any], drawn: Mapping[str, Any]) -> tuple[DecisionRequest, Asking]:
    request = parse_decision_request(dict(document), idempotency_key=None, new_request_id="none")
    arrived = int(course.there.timer() * 1_000_000)
    course.there.spend(drawn.get("waited", 0))
    return request, Asking(source=ASKER, now=course.there.now, arrived=arrived)


def _learn(
    course: Course, document: Mapping[str, Any], answer: bytes, drawn: Mapping[str, Any], *, is_alone: bool = True
) -> str:
    """Take down an answer, and hold it against what is known."""
    told = msgspec.json.decode(answer)
    course.there.faults.is_off = True
    stored = course.there.stores.records.decision(told["decision_id"])
    course.there.faults.is_off = False
    if document.get("mode") == "dry_run":
        hold("dry_run", stored is None, told["decision_id"])
        return f"dry {_short(answer)}"
    hold("acknowledged", stored is not None and stored.answer == answer, told["decision_id"])
    record: DecisionRecord = stored.record
    known = course.model.by_id.get(record.decision_id)
    if known is not None:
        hold("same_bytes", known.answer == answer, record.decision_id)
        course.model.check_shown_again(document, known, at=course.there.now)
        return f"known {_short(answer)}"
    course.model.check_decision(document, record)
    course.model.check_decided_anew(document, record)
    if is_alone:
        course.model.check_suppressions(record)
        check_degraded(course, record, drawn)
    check_moment(course, record)
    check_bundle(course, record)
    check_assignees(course, record)
    course.model.commit(Decided(dict(document), ASKER, answer, record))
    check_ids(course, record.customer_id, *record.linked_ids)
    return f"{record.decision_id} {record.arm} {[one.treatment_id for one in record.selected]} {_short(answer)}"


def repeat(course: Course, step: Step) -> str:
    """A request that is asked again: as it was, or with another body."""
    known = course.known(step)
    if known is None:
        return "nothing to repeat"
    document = dict(known.request)
    if step["changed"]:
        document["max_actions"] = 50
        with_other_body, _ = course.called(lambda: _refused(course, document, Conflict))
        hold("conflict", with_other_body, document)
        return "conflict"
    answered, failed = course.called(lambda: _answered(course, document, {}))
    hold("same_bytes", answered.answer == known.answer, known.record.decision_id)
    return f"same {_short(answered.answer)} after {failed}"


def _refused(course: Course, document: Mapping[str, Any], error: type[Exception]) -> bool:
    try:
        _answered(course, document, {})
    except error:
        return True
    return False


def together(course: Course, step: Step) -> str:
    """Two decisions, each made before the other is committed; and the same one asked again meanwhile."""
    pending: list[tuple[Any, ...]] = []
    told: list[str] = []
    for drawn in step["requests"]:
        document = _question(course, drawn)
        request, asking = _asking(course, document, drawn)
        runtime = course.there.runtime  # which dies with all that it has pending
        steps = runtime.decider.at_hand(request, asking)
        try:
            pending.append((runtime, drawn, document, steps, next(steps)))
        except StopIteration as end:
            told.append(_learn(course, document, end.value.answer, drawn, is_alone=False))
        except (NotAtHand, StoreError):
            told.append(decide(course, drawn))
        except Died:
            course.die()
            return " | ".join([*told, *(decide(course, one) for one in step["requests"][len(told) :])])
    for _, _, document, _, _ in [one for one in pending if one[0] is course.there.runtime]:
        try:
            hold("in_flight", _refused(course, document, InFlight), document)
        except StoreError:
            course.suspect |= course.everybody()
        except Died:
            course.die()
            break
    if step["activated_between"] is not None:
        told.append(activate(course, {"which": step["activated_between"], "slots": None}))
    for runtime, drawn, document, steps, commit in reversed(pending) if step["reversed"] else pending:
        is_alive = runtime is course.there.runtime
        told.append(_committed(course, drawn, document, steps, commit) if is_alive else _again(course, drawn, document))
    return " | ".join(told)


def _committed(course: Course, drawn: Mapping[str, Any], document: Mapping[str, Any], steps: Any, commit: Any) -> str:
    records = course.there.runtime.records
    try:
        while True:
            try:
                commit = steps.send(records.commit(*commit))
            except LostRace as race:
                commit = steps.throw(race)
    except StopIteration as end:
        return _learn(course, document, end.value.answer, drawn, is_alone=False)
    except StoreError:
        steps.close()
    except Died:
        course.die()
    return _again(course, drawn, document)


def _again(course: Course, drawn: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    answered, failed = course.called(lambda: _answered(course, document, drawn))
    return f"{_learn(course, document, answered.answer, drawn, is_alone=False)} again after {failed}"


def _short(answer: bytes) -> str:
    return hashlib.sha256(answer).hexdigest()[:12]
