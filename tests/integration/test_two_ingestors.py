"""Two ingestors, as of two worker processes, over one log and one Redis: however they alternate, nothing goes back."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.backfill import state_rows
from features.event_log import MemoryEventLog
from features.event_tables import whole_table
from features.events import JourneyEvent
from features.feast_parity import differences
from features.history import final_states, profiles
from features.home import Home, share_file
from features.ingest import Ingestor
from features.moments import Moments
from features.online_location import RedisLocation
from features.redis_online import RedisOnlineStore
from features.store import CustomerRow
from tests.faults.turns import Stepping, Turns
from tests.histories import FEATURE_SETS, MINUTE_US, START_AT, TAXONOMY, arrow_events, event
from tests.unit.features.test_ingest import document

NOW = START_AT + 10 * MINUTE_US
IDS = ("c1", "c2")
LOG_STEPS = ("append", "head", "identities", "of_people", "of_person")
STORE_STEPS = ("read_many", "write", "forget")


@contextmanager
def _stores(location: RedisLocation) -> Iterator[list[RedisOnlineStore]]:
    """The online store of one home as two processes have it open; the database is emptied first."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        with redis.Redis.from_url(location.url) as server:
            server.flushdb()
        home = Home(Path(folder)).create()
        yield [
            opened.enter_context(
                closing(
                    RedisOnlineStore(
                        location,
                        epoch_file=home.online_epoch,
                        lock=lambda: share_file(home.online_db),
                        feature_sets=FEATURE_SETS,
                        taxonomy=TAXONOMY,
                    )
                )
            )
            for _ in range(2)
        ]


def _ingestors(stores: Sequence[RedisOnlineStore], log: MemoryEventLog, turns: Turns) -> list[Ingestor]:
    return [
        Ingestor(
            Stepping(log, turns, number, LOG_STEPS),  # type: ignore[arg-type]  # passes every call on
            Stepping(store, turns, number, STORE_STEPS),  # type: ignore[arg-type]  # likewise
            FEATURE_SETS,
            TAXONOMY,
            _no_consents,
            [].extend,
            Moments(),
        )
        for number, store in enumerate(stores)
    ]


def _assert_backfilled(log: MemoryEventLog, store: RedisOnlineStore) -> None:
    """Everything in the store is what a backfill of the log would put there."""
    table = whole_table(arrow_events([each.event for page in log.read() for each in page]), TAXONOMY)
    lasting = set(table.lasting.customers.to_pylist())
    last = {profile.customer_id: profile for profile, _ in profiles(table, TAXONOMY) if profile.customer_id in lasting}
    for journey_id, feature_set in FEATURE_SETS.items():
        finals = {row.customer_id: row for row in state_rows(final_states(table, feature_set), feature_set)}
        for customer_id in IDS:
            expected = CustomerRow(finals.get(customer_id), last.get(customer_id))
            assert differences(store.read(customer_id, journey_id), expected) == []


def _sent(ingestor: Ingestor, events: Sequence[JourneyEvent]) -> None:
    ingestor.ingest([document(one) for one in events], source="web", arrived_at=NOW)


_PROFILE = {"age": st.floats(18, 90), "tier": st.sampled_from(["basic", "gold"]), "holding:card": st.booleans()}


@st.composite
def _events(draw: st.DrawFn, name: str) -> list[JourneyEvent]:
    events = []
    for number in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["visited", "applied", "profile_updated", "identity_linked"]))
        facts: dict[str, Any] = {}
        customer_id = draw(st.sampled_from(IDS))
        if kind == "profile_updated":
            facts = draw(st.fixed_dictionaries({}, optional=_PROFILE))
        if kind == "identity_linked":
            customer_id, facts = "c2", {"alias": "c1"}
        at = START_AT + MINUTE_US * draw(st.integers(-3, 3))
        events.append(event(f"{name}-{number}", customer_id=customer_id, kind=kind, at=at, facts=facts, source="web"))
    return events


@pytest.mark.slow
@given(
    before=_events("before"),
    batches=st.tuples(_events("a"), _events("b")),
    order=st.lists(st.integers(0, 1), max_size=24),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_two_ingestors_alternate_the_store_is_the_backfill(
    redis_location: RedisLocation,
    before: list[JourneyEvent],
    batches: tuple[list[JourneyEvent], list[JourneyEvent]],
    order: list[int],
) -> None:
    """Late events, profiles and links of the same two customers, in any order: nothing ends older."""
    log = MemoryEventLog()
    with _stores(redis_location) as stores:
        turns = Turns(order)
        _sent(Ingestor(log, stores[0], FEATURE_SETS, TAXONOMY, _no_consents, [].extend), before)
        a, b = _ingestors(stores, log, turns)

        raised = turns.run(lambda: _sent(a, batches[0]), lambda: _sent(b, batches[1]))

        assert raised == []
        _assert_backfilled(log, stores[0])


_NEWER = [event("b", kind="applied", at=START_AT + MINUTE_US)]
_CASES = {
    "newer": _NEWER,
    "late": [event("b", kind="uploaded", at=START_AT - MINUTE_US)],
    "takes back the profile": [event("b", kind="profile_updated", at=START_AT + MINUTE_US, facts={"tier": "basic"})],
    "link": [event("b", customer_id="c2", kind="identity_linked", at=START_AT, facts={"alias": "c1"})],
    "first of all": [event("b", customer_id="c1", kind="visited", at=START_AT)],
}


@pytest.mark.parametrize(
    "case", ["late", *(pytest.param(case, marks=pytest.mark.slow) for case in _CASES if case != "late")]
)
def test_one_ingestor_in_the_middle_of_another(redis_location: RedisLocation, case: str) -> None:
    """At every point of one batch another one is taken in whole."""
    first = [event("a", kind="profile_updated", at=START_AT, facts={"tier": "gold"})]
    known = [] if case == "first of all" else [event("e", kind="profile_updated", facts={"tier": "basic"})]
    for split in itertools.count():
        log = MemoryEventLog()
        with _stores(redis_location) as stores:
            if known:
                _sent(Ingestor(log, stores[0], FEATURE_SETS, TAXONOMY, _no_consents, [].extend), known)
            turns = Turns([0] * split + [1] * 40)
            a, b = _ingestors(stores, log, turns)

            raised = turns.run(partial(_sent, a, first), partial(_sent, b, _CASES[case]))

            assert raised == []
            _assert_backfilled(log, stores[0])
        if split >= turns.steps[0]:
            break
    assert split > 5


def _no_consents(*_: Any, **__: Any) -> None: ...
