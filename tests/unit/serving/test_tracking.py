"""Calls of tracking SDKs taken in: what each is counted as, links that say nothing new, and problems in place."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from features.event_log import MemoryEventLog
from features.events import JourneyEvent, dump_timestamp
from features.ingest import Ingestor
from features.store import MemoryStore
from features.tracked_calls import Drop, Envelope
from features.tracking import Translator
from models.memory_records import MemoryRecordStore
from models.outcome_status import is_late
from serving.outcomes import OutcomeRecorder
from serving.tracking import TrackingDesk
from serving.tracking_shapes import MAX_CALL_BYTES, TrackingReport
from tests.decision_records import DECIDED_AT, NO_ACTION, SCORED, record
from tests.histories import FEATURE_SETS, MINUTE_US, TAXONOMY, journey

NOW = DECIDED_AT + 15 * MINUTE_US
DAY_US = 24 * 60 * MINUTE_US


class _World:
    """A desk over stores in memory, with one live decision ``d-000001`` for customer c1."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        records = MemoryRecordStore()
        decided = record(1, journey_id="application", candidates=(replace(SCORED, channel="phone"), NO_ACTION))
        records.commit(decided, b"{}", None)
        self.decided = decided
        ingestor = Ingestor(self.log, MemoryStore(), FEATURE_SETS, TAXONOMY, records.set_consents, lambda events: None)
        self._desk = TrackingDesk(
            translator=Translator(TAXONOMY, ["paid"]),
            taxonomy=TAXONOMY,
            log=self.log,
            ingest=ingestor,
            outcomes=OutcomeRecorder(
                records=records, ingest=ingestor, journeys={"application": journey("application")}
            ),
        )

    def send(self, *calls: Any, now: int = NOW, envelope: Envelope | None = None) -> TrackingReport:
        paths = [f"batch[{index}]" for index in range(len(calls))]
        return self._desk.take(calls, envelope or Envelope(), source="web", received_at=now, paths=paths)

    @property
    def events(self) -> list[JourneyEvent]:
        return [each.event for page in self.log.read() for each in page]

    def owner(self, alias: str, *, at: int = NOW) -> str:
        return self.log.identities([alias]).owner(alias, at=at)


def _call(kind: str = "track", *, message: str = "m-1", minutes_ago: float = 1.0, **changes: Any) -> dict[str, Any]:
    at = dump_timestamp(NOW - int(minutes_ago * MINUTE_US))
    fields: dict[str, Any] = {"type": kind, "messageId": message, "userId": "c1", "timestamp": at}
    return fields | ({"event": "Visited"} if kind == "track" else {}) | changes


def _counts(report: TrackingReport) -> tuple[int, int, int, int]:
    return report.accepted, report.duplicates, len(report.rejected), report.dropped


def test_each_call_is_counted_once() -> None:
    """Whatever was made of it: two events, one, none, or something that cannot be."""
    world = _World()

    report = world.send(
        _call("identify", message="a", anonymousId="cookie", traits={"age": 40}),
        _call(message="b"),
        _call(message="b"),
        _call(message="c", event="Danced"),
        _call(message="d", timestamp="yesterday"),
    )

    assert _counts(report) == (2, 1, 1, 1)
    assert [one.kind for one in world.events] == ["identity_linked", "profile_updated", "visited"]
    assert report.drops == ((3, Drop("event", "unknown_event")),)
    assert report.drops_by_reason == {"unknown_event": 1}


def test_the_same_batch_again_is_known() -> None:
    """Also where it comes later, with another time of sending."""
    world = _World()
    calls = [_call("identify", anonymousId="cookie", traits={"age": 40}), _call(message="b"), _exposed(message="c")]

    first = world.send(*calls, envelope=Envelope(sent_at=dump_timestamp(NOW)))
    kept = world.events
    again = world.send(*calls, now=NOW + DAY_US, envelope=Envelope(sent_at=dump_timestamp(NOW + DAY_US - 7)))

    assert (_counts(first), _counts(again)) == ((3, 0, 0, 0), (0, 3, 0, 0))
    assert world.events == kept


def test_what_a_call_says_that_can_be_is_kept() -> None:
    """It is rejected for the rest: here for a link that would lead in a circle."""
    world = _World()
    world.send(_call("alias", message="a", previousId="c1", userId="c2"))

    report = world.send(_call("identify", message="b", userId="c1", anonymousId="c2", traits={"age": 40}))

    assert _counts(report) == (0, 0, 1, 0)
    ((index, (problem,)),) = report.rejected
    assert (index, problem.path) == (0, "batch[0].userId")
    assert world.events[-1].kind == "profile_updated"


def test_a_time_is_set_right_and_its_day_is_as_sent() -> None:
    """A clock that shows the year 1990 does not move what happened there."""
    world = _World()
    sent = 631_152_000_000_000  # 1990-01-01
    calls = [_call(timestamp=dump_timestamp(sent - MINUTE_US)), _exposed(message="b")]

    report = world.send(*calls, envelope=Envelope(sent_at=dump_timestamp(sent)))

    (visited,) = world.events
    assert (visited.occurred_at, visited.day) == (NOW - MINUTE_US, 7304)
    assert report.rejected[0][1][0].path == "batch[1].timestamp"


def test_a_future_is_refused_in_the_senders_own_time() -> None:
    """More than five minutes after it was sent, by the clock that says both."""
    world = _World()
    sent = dump_timestamp(NOW - DAY_US)

    report = world.send(_call(minutes_ago=0), envelope=Envelope(sent_at=sent))

    (problem,) = report.rejected[0][1]
    assert problem.path == "batch[0].timestamp"
    assert problem.expected == f"a time not after {dump_timestamp(NOW - DAY_US + 5 * MINUTE_US)}"


def test_a_call_that_is_too_large_is_refused_by_itself() -> None:
    """The others of its batch are taken."""
    world = _World()

    report = world.send(_call(message="a", properties={"x": "y" * MAX_CALL_BYTES}), _call(message="b"))

    assert _counts(report) == (1, 0, 1, 0)
    ((index, (problem,)),) = report.rejected
    assert (index, problem.path) == (0, "batch[0]")
    assert problem.expected.startswith("at most 32768 bytes")


# ---- links


def test_a_link_that_is_known_is_not_kept_again() -> None:
    """SDKs identify on every page: what is known counts as known, and moves no state."""
    world = _World()

    reports = [
        world.send(_call("identify", message=f"m-{n}", minutes_ago=9 - n, anonymousId="cookie")) for n in range(3)
    ]
    together = world.send(*(_call("identify", message=f"n-{n}", anonymousId="other") for n in range(3)))

    assert [_counts(one) for one in reports] == [(1, 0, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0)]
    assert _counts(together) == (1, 2, 0, 0)
    assert [one.kind for one in world.events] == ["identity_linked", "identity_linked"]


def test_a_link_that_is_refused_is_refused_as_often_as_it_is_told() -> None:
    """What cannot be is never known."""
    world = _World()
    world.send(_call("alias", message="a", previousId="c1", userId="c2"))

    report = world.send(*(_call("alias", message=name, previousId="c2", userId="c1") for name in ("b", "c")))

    assert _counts(report) == (0, 0, 2, 0)
    assert [problems[0].path for _, problems in report.rejected] == ["batch[0].userId", "batch[1].userId"]


def test_a_shared_device_goes_from_one_to_the_other_and_back() -> None:
    """Each login of somebody else says something new."""
    world = _World()
    logins = [("c1", 9), ("c2", 6), ("c1", 3)]

    world.send(
        *(
            _call("identify", message=f"m-{ago}", userId=who, minutes_ago=ago, anonymousId="tablet")
            for who, ago in logins
        )
    )

    assert [world.owner("tablet", at=NOW - ago * MINUTE_US) for ago in (8, 5, 2)] == ["c1", "c2", "c1"]


# ---- decisions


def _exposed(**changes: Any) -> dict[str, Any]:
    shown = {"decision_id": "d-000001", "action_id": "nudge"}
    return _call(event="Action Exposed", properties=shown | changes.pop("properties", {}), **changes)


def test_what_came_back_for_a_decision_is_taken_as_such() -> None:
    """The exposure over its treatment's channel, the outcome with its value; both under the decision's own ids."""
    world = _World()

    paid = _call(message="b", event="Paid", properties={"decision_id": "d-000001", "revenue": 12.5})
    report = world.send(_exposed(message="a"), paid)

    shown, outcome = world.events
    assert _counts(report) == (2, 0, 0, 0)
    assert (shown.kind, shown.channel, shown.event_id) == (
        "action_exposed",
        "phone",
        "d-000001/action_exposed/nudge_sms",
    )
    assert (outcome.kind, dict(outcome.facts)) == (
        "outcome_observed",
        {"decision_id": "d-000001", "outcome_id": "paid", "value": 12.5},
    )


def test_an_outcome_after_its_window_is_late() -> None:
    """By its index among the calls."""
    world = _World()
    later = NOW + 2 * DAY_US
    paid = _call(message="b", event="Paid", properties={"decision_id": "d-000001"}, timestamp=dump_timestamp(later))

    report = world.send(_call(message="a"), paid, now=later)

    assert is_late(journey("application").outcomes[0], world.decided, later)
    assert (_counts(report), report.late) == ((2, 0, 0, 0), (1,))


def test_problems_of_outcomes_stand_where_the_call_has_them() -> None:
    """Of its properties, its name, or its time."""
    world = _World()
    unknown = _call(message="a", event="Paid", properties={"decisionId": "d-9"})
    much = _call(message="d", event="Paid", properties={"decisionId": "d-000001", "revenue": "much"})
    early = _exposed(message="b", minutes_ago=60)
    other = _exposed(message="c", properties={"Treatment ID": "nothing"})

    report = world.send(unknown, early, other, much)

    assert {problem.path for _, problems in report.rejected for problem in problems} == {
        "batch[0].properties.decisionId",
        "batch[1].timestamp",
        "batch[2].properties.Treatment ID",
        "batch[3].properties.revenue",
    }
