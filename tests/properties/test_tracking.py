"""Whatever a tracking SDK sends: no call raises, the counts add up, and sending it again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from features.errors import InvalidInput
from features.event_log import MemoryEventLog
from features.events import dump_timestamp
from features.ingest import Ingestor
from features.store import MemoryStore
from features.tracked_calls import CALL_TYPES, Envelope
from features.tracking import Translator
from models.memory_records import MemoryRecordStore
from serving.outcomes import OutcomeRecorder
from serving.tracking import TrackingDesk
from serving.tracking_shapes import TrackingReport
from tests.decision_records import NO_ACTION, SCORED, record
from tests.doors import Client, World
from tests.histories import FEATURE_SETS, MINUTE_US, TAXONOMY, journey

RECEIVED = 1_750_000_900_000_000
_CALL = replace(SCORED, channel="phone")
_IDS = st.sampled_from(["c1", "c2", "c3", "cookie"])
_TIMES = st.integers(-3_000, 20).map(lambda minutes: dump_timestamp(RECEIVED + MINUTE_US * minutes))
_ODD_TIMES = st.sampled_from(["soon", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2025-06-15T12:00:00"])
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_DECLARED = ("amount", "Nps", "age", "tier", "holding:card", "value", "channel")
_NAMES = st.sampled_from([*_DECLARED, "decision_id", "outcome_id", "action_id", "x.y"])
_VALUES = st.one_of(_JSON, st.sampled_from(["d-000001", "paid", "web", "gold", 1, 2.5, True]))
_TOLD = st.fixed_dictionaries({"decision_id": st.just("d-000001"), "outcome_id": st.just("paid")})
_PROPERTIES = st.one_of(st.dictionaries(_NAMES, _VALUES, max_size=5), _TOLD)
_TRAITS = st.fixed_dictionaries({"age": st.sampled_from([40, "forty"])}, optional={"tier": _JSON, "x": _JSON})
_COMMON: dict[str, st.SearchStrategy[Any]] = {"messageId": st.sampled_from(["m1", "m2", "m3", "m4"]), "userId": _IDS}
_BY_TYPE: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "track": {
        "event": st.sampled_from(["Paid", "Visited", "Surveyed", "Action Exposed", "Outcome Observed", "Danced"]),
        "properties": _PROPERTIES,
    },
    "identify": {"traits": _TRAITS},
    "page": {"name": st.text(max_size=3)},
    "screen": {},
    "group": {"groupId": st.sampled_from(["gold", "g-1"])},
    "alias": {"previousId": _IDS},
}
_OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "anonymousId": _IDS,
    "context": st.dictionaries(st.sampled_from(["page", "device", "traits"]), _JSON, max_size=2),
    "integrations": st.dictionaries(st.sampled_from(["Headway", "Amplitude"]), st.booleans(), max_size=1),
    "timestamp": _TIMES,
    "originalTimestamp": _TIMES,
    "sentAt": _TIMES,
}
_PLAUSIBLE = st.one_of(
    *(
        st.fixed_dictionaries({"type": st.just(name), **_COMMON, **own}, optional=_OPTIONAL)
        for name, own in _BY_TYPE.items()
    )
)
_FIELDS = {name: values for own in (_COMMON, *_BY_TYPE.values(), _OPTIONAL) for name, values in own.items()}
_GARBLED = st.fixed_dictionaries(
    {"type": st.sampled_from([*CALL_TYPES, "shout"])},
    optional={name: st.one_of(_JSON, _ODD_TIMES, values) for name, values in _FIELDS.items()},
)
_CALLS = st.one_of(_PLAUSIBLE, _GARBLED, _JSON)
_BATCHES = st.lists(_PLAUSIBLE, min_size=1, max_size=6) | st.lists(_CALLS, min_size=1, max_size=8)


def _translator() -> Translator:
    return Translator(TAXONOMY, ["paid"])


class _World:
    """A desk over stores in memory, with one live decision ``d-000001``."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        records = MemoryRecordStore()
        records.commit(record(1, journey_id="application", candidates=(_CALL, NO_ACTION)), b"{}", None)
        ingestor = Ingestor(self.log, MemoryStore(), FEATURE_SETS, TAXONOMY, records.set_consents, lambda events: None)
        recorder = OutcomeRecorder(records=records, ingest=ingestor, journeys={"application": journey("application")})
        self._desk = TrackingDesk(
            translator=_translator(), taxonomy=TAXONOMY, log=self.log, ingest=ingestor, outcomes=recorder
        )

    def send(self, calls: list[Any], envelope: Envelope, *, after: int = 0) -> TrackingReport:
        paths = [f"batch[{index}]" for index in range(len(calls))]
        return self._desk.take(calls, envelope, source="web", received_at=RECEIVED + after, paths=paths)


@given(call=_CALLS, sent_at=st.one_of(_JSON, _TIMES, _ODD_TIMES))
@settings(deadline=None)
def test_any_json_means_something_or_is_refused(call: Any, sent_at: Any) -> None:
    """The same call means the same again, and what is dropped says why."""
    translator = _translator()
    with suppress(InvalidInput):
        first, again = (
            translator.meaning(call, Envelope(sent_at=sent_at), received_at=RECEIVED, path="batch[0]") for _ in range(2)
        )
        assert first == again
        assert not first.is_dropped or first.drops
        assert len({event.document["event_id"] for event in first.events}) == len(first.events)


@given(calls=_BATCHES, sent_at=st.none() | _TIMES | _ODD_TIMES)
@settings(deadline=None)
def test_the_counts_add_up_and_the_same_again_changes_nothing(calls: list[Any], sent_at: str | None) -> None:
    """Whenever it comes again: what was accepted is known, and nothing else became of anything."""
    world, envelope = _World(), Envelope(sent_at=sent_at)

    first = world.send(calls, envelope)
    logged = [each for page in world.log.read() for each in page]
    again = world.send(calls, envelope, after=1)

    for report in (first, again):
        assert report.accepted + report.duplicates + len(report.rejected) + report.dropped == len(calls)
    assert [each for page in world.log.read() for each in page] == logged
    assert again.accepted == 0
    assert (again.dropped, again.drops) == (first.dropped, first.drops)
    assert again.duplicates == first.accepted + first.duplicates


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of the application over an installation in memory."""
    with World(tmp_path_factory.mktemp("tracked")).client() as client:
        yield client


@given(body=_JSON | st.fixed_dictionaries({"batch": _JSON | st.lists(_CALLS, max_size=4)}, optional={"sentAt": _JSON}))
@settings(deadline=None)
def test_no_body_is_a_failure_of_ours(client: Client, body: Any) -> None:
    """Each is answered as the description says, and all that was sent is accounted for."""
    try:
        sent = json.dumps(body).encode()
        msgspec.json.decode(sent)
    except (UnicodeEncodeError, msgspec.DecodeError):
        assume(False)

    answer = client.post("/v1/batch", sent)

    told = answer.json()
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        counts = [told[name] for name in ("accepted", "duplicate", "rejected", "dropped")]
        assert sum(counts) == len(body["batch"])
        assert sum(told["drops_by_reason"].values()) >= told["dropped"]


@given(calls=st.lists(_PLAUSIBLE, min_size=1, max_size=6), sent_at=_TIMES, hours=st.integers(-100, 100))
@settings(deadline=None)
def test_no_clock_of_a_sender_makes_a_future(calls: list[Any], sent_at: str, hours: int) -> None:
    """Whatever it shows, what is kept happened by five minutes from now, and its day is that of the time as sent."""
    world = _World()

    world.send(calls, Envelope(sent_at=sent_at), after=hours * 60 * MINUTE_US)

    kept = [each.event for page in world.log.read() for each in page]
    assert all(0 <= one.occurred_at <= one.arrived_at + 5 * MINUTE_US for one in kept)
    assert all(0 <= one.day <= 2_932_896 for one in kept)
