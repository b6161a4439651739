"""Taking events in: per-index refusals, durability before the answer, and a feature store that heals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from features.errors import Refused, StoreUnavailable
from features.event_log import Appended, MemoryEventLog
from features.event_store import SqlEventLog
from features.events import JourneyEvent, dump_timestamp
from features.ingest import STORE_DOWN, Ingestor
from features.store import CustomerRow, MemoryStore, ProfileRow, StateRow
from tests.histories import FEATURE_SETS, FEATURES, START_AT, TAXONOMY, event

NOW = START_AT + 10 * 60_000_000


class Consents:
    """Remembers consents as the record store does; can be down."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tuple[int, str]] = {}
        self.is_down = False

    def __call__(self, customer_id: str, consents: Mapping[str, str], /, *, at: int) -> None:
        """Keep the newest state by consent."""
        if self.is_down:
            raise StoreUnavailable("records are down")
        for consent, state in consents.items():
            if at >= self.known.get((customer_id, consent), (at, state))[0]:
                self.known[customer_id, consent] = (at, state)


class FlakyStore(MemoryStore):
    """A feature store that can be down."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.reads = 0
        self.profiles_written = 0

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer."""
        if self.is_down:
            raise StoreUnavailable("features are down")
        self.reads += 1
        return super().read(customer_id, journey_id)

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles."""
        if self.is_down:
            raise StoreUnavailable("features are down")
        self.profiles_written += len(profiles)
        super().write(states, profiles)


class CountingLog(MemoryEventLog):
    """An event log that tells how often a whole customer was read."""

    def __init__(self) -> None:
        super().__init__()
        self.whole_reads = 0

    def of_customer(self, customer_id: str, *, after: int = 0) -> list[Any]:
        """The events of a customer past a position."""
        self.whole_reads += after == 0
        return super().of_customer(customer_id, after=after)


class World:
    """An ingestor over fakes."""

    def __init__(self) -> None:
        self.log = CountingLog()
        self.store = FlakyStore()
        self.consents = Consents()
        self.exposed: list[JourneyEvent] = []
        self.ingestor = Ingestor(self.log, self.store, FEATURE_SETS, TAXONOMY, self.consents, self.exposed.extend)

    def state(self, customer_id: str = "c1", journey_id: str = "application") -> StateRow:
        """The stored state."""
        state = self.store.read(customer_id, journey_id).state
        assert state is not None
        return state

    def profile(self, customer_id: str = "c1") -> ProfileRow:
        """The stored profile."""
        profile = self.store.read(customer_id, "application").profile
        assert profile is not None
        return profile

    def is_current(self, customer_id: str = "c1") -> bool:
        """Whether the stored states equal a rebuild from the log."""
        for journey_id in FEATURE_SETS:
            rebuilt, profile = self.ingestor.rebuild(customer_id, journey_id)
            stored = self.store.read(customer_id, journey_id)
            if stored.profile != profile or rebuilt is None or not _equal(stored.state, rebuilt):
                return False
        return True


def _equal(one: StateRow | None, other: StateRow) -> bool:
    return (
        one is not None
        and one.vector.tobytes() == other.vector.tobytes()
        and (one.order, one.log_position, one.version) == (other.order, other.log_position, other.version)
    )


def document(one: JourneyEvent) -> dict[str, Any]:
    """An event as a caller sends it."""
    fields = {
        "event_id": one.event_id,
        "customer_id": one.customer_id,
        "kind": one.kind,
        "occurred_at": dump_timestamp(one.occurred_at),
        "channel": one.channel,
        "sequence": one.sequence,
        "facts": dict(one.facts),
    }
    return {name: value for name, value in fields.items() if value is not None}


@pytest.fixture
def world() -> World:
    """Everything up, nothing known."""
    return World()


def _sent(world: World, *events: JourneyEvent) -> tuple[int, int, int]:
    report = world.ingestor.ingest([document(each) for each in events], source="test", arrived_at=NOW)
    return report.accepted, report.duplicates, len(report.rejected)


def test_every_document_is_accounted_for(world: World) -> None:
    """Accepted, duplicate and rejected add up to what was sent; refusals name index, field, value and expectation."""
    naive = {**document(event("bad")), "occurred_at": "2023-11-14T22:13:20"}
    unknown = {**document(event("worse")), "kind": "danced", "mood": "good"}
    sent = [document(event("a")), naive, "not an event", document(event("a")), unknown]

    report = world.ingestor.ingest(sent, source="test", arrived_at=NOW)

    assert (report.accepted, report.duplicates) == (1, 1)
    assert [index for index, _ in report.rejected] == [1, 2, 4]
    problems = [str(problem) for _, problems in report.rejected for problem in problems]
    assert problems[0] == (
        "events[1].occurred_at: got '2023-11-14T22:13:20', "
        "expected an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z"
    )
    assert problems[1] == "events[2]: got 'not an event', expected a JSON object"
    assert problems[2].startswith("events[4].mood: got 'good', expected one of event_id")
    assert problems[3].startswith("events[4].kind: got 'danced', expected a kind of the taxonomy: visited")
    assert [logged.event.event_id for logged in world.log.of_customer("c1")] == ["a"]


def test_the_known_ones_are_named(world: World) -> None:
    """By their index among all that were sent."""
    sent = [document(event("a")), "not an event", document(event("b")), document(event("a"))]

    report = world.ingestor.ingest(sent, source="test", arrived_at=NOW)

    assert (report.accepted, report.known) == (2, (3,))


def test_a_clock_is_set_right_by_what_it_is_behind(world: World) -> None:
    """The event happened so much later than it says; its day is that of the timestamp as sent."""
    day_us = 86_400_000_000
    sent = [document(event("a", at=START_AT - 3 * day_us)), document(event("b", at=START_AT))]

    report = world.ingestor.ingest(sent, source="test", arrived_at=NOW, corrections=[3 * day_us, 0])

    first, second = (logged.event for logged in world.log.of_customer("c1"))
    assert report.accepted == 2
    assert (first.occurred_at, second.occurred_at) == (START_AT, START_AT)
    assert first.day == second.day - 3


@pytest.mark.parametrize(
    ("at", "correction", "expected"),
    [
        (NOW, 300_000_000, None),
        (NOW, 300_000_001, "a time not after 2023-11-14T22:23:19.999999Z"),
        (0, 0, None),
        (5, -5, None),
        (4, -5, "a time not before 1970-01-01T00:00:00.000005Z"),
        (-1, 5, "a time not before 1970"),
    ],
)
def test_a_time_that_cannot_be_is_refused_by_the_senders_clock(
    world: World, at: int, correction: int, expected: str | None
) -> None:
    """Nothing happened later than in five minutes by ours, nor before 1970 by either."""
    sent = [{**document(event("a")), "occurred_at": dump_timestamp(at)}]

    report = world.ingestor.ingest(sent, source="test", arrived_at=NOW, corrections=[correction])

    assert [problem.expected for _, problems in report.rejected for problem in problems] == (
        [] if expected is None else [expected]
    )


@pytest.mark.parametrize(
    ("field", "value"), [("event_id", "a\ud800"), ("customer_id", "nul\0"), ("event_id", ""), ("sequence", 2**60)]
)
def test_poison_is_refused_alone(world: World, field: str, value: object) -> None:
    """What no store could keep is refused at the door, and its neighbours are taken."""
    report = world.ingestor.ingest(
        [{**document(event("bad")), field: value}, document(event("good"))], source="test", arrived_at=NOW
    )
    assert (report.accepted, [index for index, _ in report.rejected]) == (1, [0])


def test_an_unknown_consent_state_is_refused(world: World) -> None:
    """A typing error in a consent must not pass for one."""
    wrong = event("a", kind="consent_changed", facts={"consent": "marketing", "state": "widthdrawn"})
    report = world.ingestor.ingest([document(wrong)], source="test", arrived_at=NOW)
    ((_, (problem,)),) = report.rejected
    assert str(problem) == "events[0].facts.state: got 'widthdrawn', expected one of granted, withdrawn, objected"


def test_an_empty_batch_touches_nothing(world: World) -> None:
    """Nothing sent, nothing read."""
    assert _sent(world) == (0, 0, 0)
    assert world.store.reads == 0


def test_events_are_visible_to_the_next_decision(world: World) -> None:
    """State and profile are up to date in every journey when the answer leaves."""
    facts: dict[str, str | float | bool] = {"age": 41.0, "holding:card": True}
    assert _sent(world, event("a"), event("b", kind="profile_updated", facts=facts, sequence=1)) == (2, 0, 0)

    assert world.is_current()
    assert world.state().log_position == 2
    assert (world.state().last_event_id, world.state().version) == ("b", FEATURES.version)
    assert world.profile() == ProfileRow("c1", {"age": 41.0}, {}, frozenset({"card"}), START_AT)


def test_newer_events_are_folded_on_top(world: World) -> None:
    """The usual case reads only what is new, never the whole history."""
    _sent(world, event("a"))
    before = world.log.whole_reads
    _sent(world, event("b", at=START_AT + 1), event("c", at=START_AT + 2))
    assert world.log.whole_reads == before
    assert world.is_current()


def test_a_late_event_ends_in_its_place(world: World) -> None:
    """An older event than the newest folded gives the state that its proper order would have given."""
    _sent(world, event("a", at=START_AT + 60), event("b", kind="uploaded", at=START_AT + 90))
    _sent(world, event("late", kind="applied", at=START_AT + 70))
    assert world.is_current()
    assert world.state().last_event_id == "b"


def test_a_late_attribute_does_not_win(world: World) -> None:
    """The profile keeps the newest value by the time of the event, not by its arrival."""
    _sent(world, event("new", kind="profile_updated", at=START_AT + 9, facts={"age": 42.0}))
    _sent(world, event("old", kind="profile_updated", at=START_AT, facts={"age": 41.0, "member": True}))
    assert world.profile().attributes == {"age": 42.0, "member": True}


def test_a_profile_is_written_only_when_it_changed(world: World) -> None:
    """Most events leave it alone, and its columns are as many as those of a state."""
    _sent(world, event("a"))
    assert world.store.profiles_written == 1
    _sent(world, event("b", at=START_AT + 1))
    assert world.store.profiles_written == 1
    _sent(world, event("c", kind="profile_updated", at=START_AT + 2, facts={"age": 42.0}))
    assert world.store.profiles_written == 2
    assert world.is_current()


def test_an_objection_holds_before_the_answer(world: World) -> None:
    """Consents reach the record store within the call, as of when they were given."""
    _sent(world, event("a", kind="consent_changed", facts={"consent": "marketing", "state": "objected"}))
    assert world.consents.known == {("c1", "marketing"): (START_AT, "objected")}
    assert world.profile().consents == {"marketing": "objected"}


def test_consents_of_the_same_time_end_in_their_order(world: World) -> None:
    """Of two states at the same time the later in sequence holds, whichever arrives last."""
    for sequence, state in ((2, "withdrawn"), (1, "granted")):
        facts: dict[str, str | float | bool] = {"consent": "marketing", "state": state}
        _sent(world, event(state, kind="consent_changed", sequence=sequence, facts=facts))
    assert world.consents.known["c1", "marketing"] == (START_AT, "withdrawn")


def test_a_consent_that_cannot_be_kept_is_not_answered(world: World) -> None:
    """With the records down the call fails; the same batch again is a duplicate, and the consent then holds."""
    objection = event("a", kind="consent_changed", facts={"consent": "marketing", "state": "objected"})
    world.consents.is_down = True
    with pytest.raises(StoreUnavailable, match="records are down"):
        _sent(world, objection)
    world.consents.is_down = False

    assert _sent(world, objection) == (0, 1, 0)
    assert world.consents.known["c1", "marketing"] == (START_AT, "objected")
    assert world.is_current()


def test_a_feature_store_that_is_down_loses_nothing(world: World) -> None:
    """The events are kept and the answer says degraded; the next event of the customer brings all of them in."""
    _sent(world, event("a"))
    world.store.is_down = True
    report = world.ingestor.ingest([document(event("b", at=START_AT + 5))], source="test", arrived_at=NOW)
    assert (report.accepted, report.degraded) == (1, (STORE_DOWN,))
    world.store.is_down = False

    _sent(world, event("c", at=START_AT + 9))
    assert world.is_current()
    assert world.state().log_position == 3


def test_refresh_catches_up_with_the_log(world: World) -> None:
    """What is in the log only, because a process died in between, is folded on demand."""
    world.log.append([event("a"), event("b", customer_id="c2")])
    world.ingestor.refresh(["c1", "c2"])
    assert world.is_current("c1")
    assert world.is_current("c2")


def test_a_state_of_another_feature_set_is_folded_anew(world: World) -> None:
    """States of an older layout are never folded on."""
    _sent(world, event("a"))
    old = world.state()
    stale = StateRow("c1", "application", "old-version", old.vector[:3], START_AT, 0, "test", "a", 1)
    world.store.write([stale], [])
    _sent(world, event("b", at=START_AT + 5))
    assert world.is_current()


def test_a_log_that_fails_keeps_nothing(world: World) -> None:
    """Where the append fails, neither consents nor features change."""

    class DeadLog(MemoryEventLog):
        def append(self, events: Sequence[JourneyEvent], **_: Any) -> list[Appended]:
            raise StoreUnavailable("log is down")

    ingestor = Ingestor(DeadLog(), world.store, FEATURE_SETS, TAXONOMY, world.consents, world.exposed.extend)
    objection = event("a", kind="consent_changed", facts={"consent": "marketing", "state": "objected"})
    with pytest.raises(StoreUnavailable, match="log is down"):
        ingestor.ingest([document(objection)], source="test", arrived_at=NOW)
    assert world.consents.known == {}
    assert world.store.read("c1", "application") == CustomerRow(None, None)


def test_a_rebuild_sees_only_what_was_before(world: World) -> None:
    """As of a past moment, events at that moment and after it have not happened, in state and profile."""
    _sent(
        world,
        event("a", kind="profile_updated", facts={"age": 41.0}),
        event("b", kind="profile_updated", at=START_AT + 5, facts={"age": 42.0}),
    )
    state, profile = world.ingestor.rebuild("c1", "application", before=START_AT + 5)
    assert state is not None
    assert (state.last_event_id, state.log_position, profile.attributes) == ("a", 1, {"age": 41.0})


def test_a_rebuild_of_nobody_is_empty(world: World) -> None:
    """No event, no state, an empty profile."""
    assert world.ingestor.rebuild("nobody", "application") == (None, ProfileRow("nobody"))


def test_a_kind_that_was_dropped_is_named(world: World) -> None:
    """A log with a kind that the taxonomy lost is refused with the kind and what to do."""
    world.log.append([event("a", kind="danced")])
    with pytest.raises(Refused, match=r"'danced'.*put it back into taxonomy\.yaml"):
        world.ingestor.rebuild("c1", "application")


def test_exposures_are_told_of(world: World) -> None:
    """Every exposure in a batch, also one that is known, in case its contact was not counted; nothing else."""
    shown = event("a", kind="action_exposed", facts={"action_id": "nudge"})
    for _ in range(2):
        _sent(world, event("b"), shown)
    assert [(each.event_id, each.facts) for each in world.exposed] == [("a", {"action_id": "nudge"})] * 2


def test_a_new_exposure_costs_no_reading_of_the_customer(world: World) -> None:
    """A customer of 100,000 events is not read from the start for each action that they are shown."""
    _sent(world, event("a"))
    before = world.log.whole_reads

    _sent(world, event("b", kind="action_exposed", at=START_AT + 1, facts={"action_id": "nudge"}))

    assert (world.log.whole_reads - before, len(world.exposed)) == (0, 1)


def test_a_known_exposure_is_told_of_as_it_was_kept(world: World) -> None:
    """Another body under the same id changes nothing."""
    _sent(world, event("a", kind="action_exposed", facts={"action_id": "nudge"}))
    _sent(world, event("a", kind="action_exposed", facts={"action_id": "offer"}))
    assert [each.facts["action_id"] for each in world.exposed] == ["nudge", "nudge"]


def test_a_rebuild_of_the_past_knows_what_was_known_then(world: World) -> None:
    """What had happened and not arrived by a moment is left out, and so is what arrived and had not happened."""
    world.log.append(
        [
            event("a"),
            event("late", kind="applied", at=START_AT + 1, arrived_at=START_AT + 10),
            event("ahead", kind="paid", at=START_AT + 20, arrived_at=START_AT + 2),
        ]
    )

    state, _ = world.ingestor.rebuild("c1", "application", before=START_AT + 10, arrived_before=START_AT + 10)

    assert state is not None
    assert (state.last_event_id, state.log_position) == ("a", 1)


def test_a_clock_that_steps_back_puts_no_arrival_before_another(world: World) -> None:
    """Arrivals are in the order of the log, and what happens meanwhile is no future that is refused."""
    hour = 3_600_000_000
    report = [
        world.ingestor.ingest([document(one)], source="test", arrived_at=now)
        for one, now in (
            (event("a"), NOW),
            (event("b", at=NOW), NOW - hour),
            (event("c", customer_id="c2", at=NOW + 1), NOW + hour),
        )
    ]

    arrived = [logged.event.arrived_at for page in world.log.read() for logged in page]
    assert [one.accepted for one in report] == [1, 1, 1]
    assert arrived == [NOW, NOW, NOW + hour]


def test_a_circle_of_links_old_and_new_is_refused(tmp_path: Path) -> None:
    """A batch is looked at as a whole: two new links that meet over an old one let no third close the circle."""
    with closing(SqlEventLog(tmp_path / "events.db")) as log:
        ingestor = Ingestor(log, MemoryStore(), FEATURE_SETS, TAXONOMY, Consents(), lambda events: None)
        ingestor.ingest([_link("p", "q")], source="web", arrived_at=NOW)

        report = ingestor.ingest([_link("x", "p"), _link("q", "z"), _link("z", "x")], source="web", arrived_at=NOW)

    assert report.accepted == 2
    assert [(index, problem.path) for index, problems in report.rejected for problem in problems] == [
        (2, "events[2].customer_id")
    ]


def _link(alias: str, customer_id: str) -> dict[str, Any]:
    name = f"{alias}-{customer_id}"
    return document(event(name, customer_id=customer_id, kind="identity_linked", facts={"alias": alias}))
