"""Two stores over one PostgreSQL database, as two processes have them: what is exact stays so, whoever is first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
import pytest

from features import event_rows, event_writes
from features.database_location import DatabaseLocation
from features.errors import StoreUnavailable
from features.event_store import SqlEventLog
from features.postgres_store import LOCKS
from models.decision import DecisionRecord
from models.ids import decision_id
from models.jobs import ClaimLost, PutBack, QueueFull
from models.record_store import SqlRecordStore
from models.records import (
    CapacityNeed,
    CapacityWindow,
    ConsentChange,
    ContactResponse,
    LeaseEnded,
    LostRace,
)
from serving.schemas import DecisionRequest
from tests.deciders import Desk
from tests.decision_records import DAY_US, DECIDED_AT, cap, contact, record, reservation
from tests.decisions import action
from tests.histories import START_AT, event
from tests.job_records import claim, progress, submission
from tests.postgres_servers import empty

T = TypeVar("T")

CALLS = CapacityWindow("calls", 7)
ONE = 1_000_000
_AT_ONCE = 4


@pytest.fixture
def stores(database: DatabaseLocation) -> Iterator[tuple[SqlRecordStore, SqlRecordStore]]:
    """Two record stores of one database, which is empty."""
    empty(database)
    with closing(SqlRecordStore(database)) as one, closing(SqlRecordStore(database)) as other:
        yield one, other


@pytest.fixture
def logs(database: DatabaseLocation) -> Iterator[tuple[SqlEventLog, SqlEventLog]]:
    """Two event logs of one database, which is empty."""
    empty(database)
    with closing(SqlEventLog(database)) as one, closing(SqlEventLog(database)) as other:
        yield one, other


def _at_once(work: Callable[[int], T], count: int) -> list[T]:
    """What each of some calls gives, in threads that begin together."""
    begin = threading.Barrier(_AT_ONCE)

    def some(place: int) -> list[T]:
        begin.wait(30)
        return [work(number) for number in range(place, count, _AT_ONCE)]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [one for part in pool.map(some, range(_AT_ONCE)) for one in part]


def _won(work: Callable[[], object]) -> bool:
    with suppress(LostRace, LeaseEnded):
        work()
        return True
    return False


def test_caps_are_exact(stores: Sequence[SqlRecordStore]) -> None:
    """Of many decisions for one person as many find room as the cap has."""

    def decide(number: int) -> bool:
        made = record(number, decided_at=DECIDED_AT)
        return _won(lambda: stores[number % 2].commit(made, b"", reservation(contact(made), caps=(cap(3),))))

    assert sum(_at_once(decide, 24)) == 3
    assert len(stores[0].customer("c1", since=0, now=DECIDED_AT).contacts) == 3


def test_capacities_are_exact(stores: Sequence[SqlRecordStore]) -> None:
    """Of many decisions for many people as many find room as the capacity has, and the counter says so."""

    def decide(number: int) -> bool:
        made = record(number, customer_id=f"c{number}", decided_at=DECIDED_AT)
        need = CapacityNeed(0, CALLS, ONE, 5 * ONE)
        held = replace(reservation(contact(made)), needs=(need,))
        return _won(lambda: stores[number % 2].commit(made, b"", held))

    assert sum(_at_once(decide, 24)) == 5
    assert stores[1].capacity_used([CALLS], now=DECIDED_AT) == {"calls": 5.0}


def test_one_request_has_one_answer(stores: Sequence[SqlRecordStore]) -> None:
    """Everybody who asks with a request id gets the bytes that were committed, and one decision is there."""

    def decide(number: int) -> bytes:
        made = record(number, request_id="r", decided_at=DECIDED_AT)
        return stores[number % 2].commit(made, b"answer %d" % number, reservation(contact(made), caps=(cap(1),))).answer

    answers = set(_at_once(decide, 16))

    kept = [one for page in stores[0].read() for one in page]
    assert len(kept) == 1
    assert answers == {b"answer %d" % int(kept[0].decision_id.removeprefix("d-"))}


def test_a_send_holds_one_lease(stores: Sequence[SqlRecordStore]) -> None:
    """Decisions for one send replace each other's lease, and what it takes of a capacity."""

    def decide(number: int) -> None:
        made = record(number, send_id="s", decided_at=DECIDED_AT)
        lease = contact(made, status="lease", send_id="s")
        held = replace(reservation(lease), needs=(CapacityNeed(0, CALLS, ONE, 99 * ONE),))
        stores[number % 2].commit(made, b"", held)

    _at_once(decide, 16)

    assert len(stores[0].customer("c1", since=0, now=DECIDED_AT).contacts) == 1
    assert stores[0].capacity_used([CALLS], now=DECIDED_AT) == {"calls": 1.0}


def test_a_send_is_decided_once(stores: Sequence[SqlRecordStore]) -> None:
    """By two processes at once, each of which would draw something else: everybody is answered the same bytes."""
    chance = {"experiment": {"id": "e", "salt": "s", "no_contact_holdout": 0.0, "random_eligible": 1.0}}
    drawn = [action(f"a{number}", prior_uplift=0.3) for number in range(6)]
    desks = [Desk(*drawn, records=records, policy_changes=chance, first=place) for place, records in enumerate(stores)]

    def render(number: int) -> tuple[str, bytes]:
        customer_id = f"c{number // 8}"
        asked = DecisionRequest(request_id=f"r-{number}", customer_id=customer_id, send_id="s", activate=False)
        return customer_id, desks[number % 2].decider.decide(asked, source="crm", now=START_AT)

    answers = _at_once(render, 96)

    assert len(set(answers)) == 12
    assert sum(map(len, stores[0].read())) == 12


def test_leases_become_contacts_beside_decisions_under_one_cap(stores: Sequence[SqlRecordStore]) -> None:
    """Activations, answers and decisions of two processes together keep to it; what came unasked counts too."""
    leases = [record(number, decided_at=DECIDED_AT) for number in range(8)]
    for made in leases:
        ended = contact(made, status="lease", expires_at=DECIDED_AT + 50)
        stores[0].commit(made, b"", reservation(ended))
    at = DECIDED_AT + 10

    def happen(number: int) -> bool:
        made = leases[number // 3]
        told = contact(made, at=at)
        match number % 3:
            case 0:
                asked = reservation(told, caps=(cap(9),))
                return _won(lambda: stores[number % 2].activate(asked, at=at))
            case 1:
                later = record(100 + number, decided_at=at)
                held = reservation(contact(later), caps=(cap(9),))
                return _won(lambda: stores[number % 2].commit(later, b"", held))
            case _:
                stores[number % 2].note_responses([ContactResponse(made.decision_id, "c1", "positive", at)])
                return False

    won = sum(_at_once(happen, 24))

    found = stores[0].customer("c1", since=0, now=at).contacts
    assert len([one for one in found if one.status == "confirmed"]) == won
    assert len(found) <= 9
    assert all(one.response == "positive" for one in found if one.decision_id <= leases[-1].decision_id)


def test_what_was_shown_counts_beside_decisions(stores: Sequence[SqlRecordStore]) -> None:
    """A confirmation in one process and decisions in another never leave more than the cap and the confirmation."""

    def happen(number: int) -> bool:
        made = record(number, decided_at=DECIDED_AT)
        if number % 4 == 0:
            stores[1].confirm_contacts([contact(made)])
            return False
        held = reservation(contact(made), caps=(cap(4),))
        return _won(lambda: stores[number % 2].commit(made, b"", held))

    won = sum(_at_once(happen, 24))

    assert len(stores[0].customer("c1", since=0, now=DECIDED_AT).contacts) == 6 + won
    assert won <= 4


def test_imports_and_decisions_store_a_request_once(stores: Sequence[SqlRecordStore]) -> None:
    """The counts of new decisions add up to what is there."""
    made = [record(number, decided_at=DECIDED_AT) for number in range(40)]

    def happen(number: int) -> int:
        if number % 2:
            return stores[1].append_imported(made[number - 1 : number + 19])
        return int(not stores[0].commit(made[number], b"", None).was_stored_before)

    new = sum(_at_once(happen, 40))

    assert new == len([one for page in stores[0].ids() for one in page]) == 40


def test_consents_in_any_order_hinder_nobody(stores: Sequence[SqlRecordStore]) -> None:
    """Two processes write the consents of the same people in turn, and neither waits for the other for good."""
    people = [f"c{number}" for number in range(30)]

    def tell(number: int) -> None:
        order = people if number % 2 else people[::-1]
        state = "granted" if number % 2 else "objected"
        stores[number % 2].apply_consents([ConsentChange(one, "sms", state, at=number) for one in order])

    _at_once(tell, 12)

    found = {stores[0].customer(one, since=0, now=DECIDED_AT).consents["sms"] for one in people}
    assert found == {"granted"}


def test_a_decision_is_forgotten_once(stores: Sequence[SqlRecordStore]) -> None:
    """What two processes say they forgot adds up to what is gone."""
    old = [_made(number) for number in range(30)]
    stores[0].append_imported(old)

    forgotten = _at_once(lambda number: stores[number % 2].forget_decisions(decided_before=DECIDED_AT, most=4), 16)

    assert sum(forgotten) == 30
    assert list(stores[0].ids()) == []


def _made(number: int) -> DecisionRecord:
    at = DECIDED_AT - DAY_US + number * 1_000
    new_id = decision_id(at=at, customer_id="c1", randomness=bytes([number] * 9))
    return record(number, decided_at=at, decision_id=new_id)


def test_a_job_is_claimed_once(stores: Sequence[SqlRecordStore]) -> None:
    """Of many claims as many get a job as there are, each another one, with its first token."""
    asked = [stores[0].jobs.submit(submission(number), most_queued=99, now=0).job.job_id for number in range(9)]

    got = _at_once(lambda number: stores[number % 2].jobs.claim(claim(f"w-{number}"), now=0), 24)

    claimed = [job for job in got if job is not None]
    assert sorted(job.job_id for job in claimed) == asked
    assert {job.token for job in claimed} == {1}
    assert {(job.job_id, job.owner) for job in stores[0].jobs.newest(rows=99)} == {
        (job.job_id, job.owner) for job in claimed
    }


def test_a_job_whose_lease_is_over_is_claimed_once(stores: Sequence[SqlRecordStore]) -> None:
    """And of all that write as who had it, nobody does."""
    stores[0].jobs.submit(submission(), most_queued=99, now=0)
    lost = stores[0].jobs.claim(claim(lease_us=0), now=0)
    assert lost is not None

    def happen(number: int) -> str | None:
        jobs = stores[number % 2].jobs
        if number % 3:
            with suppress(ClaimLost):
                jobs.end(lost.job_id, lost.token, PutBack(), now=0)
                return "ended"
            return None
        return None if jobs.claim(claim(f"w-{number}"), now=0) is None else "claimed"

    happened = [one for one in _at_once(happen, 24) if one is not None]

    assert happened.count("claimed") == 1
    assert happened.count("ended") <= 1  # where it was put back before it was claimed again


def test_a_request_is_one_job(stores: Sequence[SqlRecordStore]) -> None:
    """Through whichever process, and the queue never gets longer than it may."""

    def ask(number: int) -> str:
        asked = submission(number, request_id="r", request_hash="h")
        return stores[number % 2].jobs.submit(asked, most_queued=1, now=0).job.job_id

    assert len(set(_at_once(ask, 16))) == 1

    def ask_more(number: int) -> bool:
        with suppress(QueueFull):
            stores[number % 2].jobs.submit(submission(100 + number), most_queued=4, now=0)
            return True
        return False

    assert sum(_at_once(ask_more, 16)) == 3


def test_leases_go_by_the_clock_of_the_database(stores: Sequence[SqlRecordStore]) -> None:
    """A process whose clock is far ahead takes no job from another, and one whose clock is behind keeps its own."""
    hour = 3_600_000_000
    stores[0].jobs.submit(submission(), most_queued=99, now=0)
    job = stores[0].jobs.claim(claim(lease_us=hour), now=0)
    assert job is not None

    assert stores[1].jobs.claim(claim("ahead"), now=2**52) is None
    stores[0].jobs.keep(job.job_id, job.token, progress(), lease_us=hour, now=1)

    kept = stores[1].jobs.job(job.job_id)
    assert kept is not None
    assert abs(kept.heartbeat_at - time.time_ns() // 1_000) < hour
    assert kept.lease_until == kept.heartbeat_at + hour


def test_texts_are_forgotten_once(logs: Sequence[SqlEventLog]) -> None:
    """Likewise of texts."""
    logs[0].append([replace(event(f"e{number}", arrived_at=START_AT), text="t") for number in range(50)])

    forgotten = _at_once(lambda number: logs[number % 2].forget_texts(arrived_before=START_AT + 1), 8)

    assert sum(forgotten) == 50


def test_more_keys_than_the_server_has_locks_for(stores: Sequence[SqlRecordStore]) -> None:
    """A confirmation of many people takes no more locks than there are, so that the server has room for them."""
    count = 3 * LOCKS
    contacts = [contact(record(number, customer_id=f"c{number}"), channel="sms") for number in range(count)]

    stores[0].apply_consents([ConsentChange(one.customer_id, "sms", "granted", at=1) for one in contacts])

    assert stores[1].customer(f"c{count - 1}", since=0, now=DECIDED_AT).consents == {"sms": "granted"}


def test_positions_are_dense_and_a_follower_misses_nothing(logs: Sequence[SqlEventLog]) -> None:
    """Whoever reads on from the last position seen has seen every event in the end, while two processes append."""
    count = 60
    seen: list[tuple[int, str]] = []
    is_over = threading.Event()

    def follow() -> None:
        after = 0
        with closing(SqlEventLog(logs[0]._store._location, readonly=True)) as log:  # type: ignore[attr-defined]
            while True:
                was_over = is_over.is_set()
                for page in log.read(after=after):
                    seen.extend((one.position, one.event.event_id) for one in page)
                    after = page[-1].position
                if was_over:
                    return

    follower = threading.Thread(target=follow)
    follower.start()
    _at_once(lambda number: logs[number % 2].append([event(f"e{number}-{part}") for part in range(3)]), count)
    is_over.set()
    follower.join(60)

    assert [position for position, _ in seen] == list(range(1, 3 * count + 1))
    assert {event_id for _, event_id in seen} == {f"e{n}-{part}" for n in range(count) for part in range(3)}


def test_appends_wait_for_each_other(logs: Sequence[SqlEventLog], database: DatabaseLocation) -> None:
    """While one process appends, the other's events are neither written nor seen: the lock makes the order."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: Any) -> list[Any]:
        entered.set()
        go_on.wait(30)
        return event_writes.append(connection, [event_rows.event_row(event("first"))], [event("first")], frozenset())

    first = logs[0]._store.submit(slow, keys=event_writes.APPENDING)
    entered.wait(30)
    second = logs[1].submit_append([event("second")])
    _wait_for_a_waiting_lock(database)

    seen = logs[0].head()
    go_on.set()
    assert seen == 0
    assert first.result(30)[0].position == 1
    assert second.result(30)[0].position == 2


def test_without_the_lock_appends_would_fail(
    logs: Sequence[SqlEventLog], monkeypatch: pytest.MonkeyPatch, database: DatabaseLocation
) -> None:
    """Both take the same position, and only one of them can have it: what the lock is for."""
    monkeypatch.setattr(event_writes, "APPENDING", ())
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: Any) -> list[Any]:
        appended = event_writes.append(
            connection, [event_rows.event_row(event("first"))], [event("first")], frozenset()
        )
        entered.set()
        go_on.wait(30)
        return appended

    first = logs[0]._store.submit(slow)
    entered.wait(30)
    second = logs[1].submit_append([event("second")])
    _wait_for_a_waiting_lock(database)
    go_on.set()

    assert first.result(30)[0].position == 1
    with pytest.raises(StoreUnavailable, match="duplicate key"):
        second.result(30)


def _wait_for_a_waiting_lock(database: DatabaseLocation) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database.url, autocommit=True) as connection:
        while connection.execute(waiting).fetchone() == (0,):
            pass
