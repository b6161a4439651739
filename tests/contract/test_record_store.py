"""The record store: what every adapter of ``models.records.RecordStore`` promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from msgspec import structs

from features.errors import Conflict
from features.identity import EARLIEST, Span
from features.sql_store import Place
from models.decision import DecisionRecord, dump_record
from models.ids import decision_id
from models.memory_records import MemoryRecordStore
from models.record_store import SqlRecordStore
from models.records import (
    CapLimit,
    Committed,
    ConsentChange,
    Contact,
    ContactResponse,
    CustomerRecords,
    LeaseEnded,
    LostRace,
    RecordStore,
    Reservation,
    SendDecided,
    Stored,
    Stretch,
)
from tests.decision_records import DAY_US, DECIDED_AT, cap, contact, record, reservation


@pytest.fixture
def store(place: Place | None) -> Iterator[RecordStore]:
    """An empty store of every adapter."""
    store: RecordStore = MemoryRecordStore() if place is None else SqlRecordStore(place)
    yield store
    store.close()


def _contacts(store: RecordStore, *, since: int = 0, now: int = DECIDED_AT) -> tuple[Contact, ...]:
    return store.customer("c1", since=since, now=now).contacts


def test_an_empty_store_answers(store: RecordStore) -> None:
    """Nothing is known of anyone, and nothing fails."""
    assert store.decision("d-1") is None
    assert store.decision_of_request("crm", "r-1") is None
    assert store.customer("c1", since=0, now=DECIDED_AT) == CustomerRecords()
    assert list(store.read()) == []
    assert store.newest_as_of() == 0


def test_the_newest_decision_tells_its_moment(store: RecordStore) -> None:
    """Newest by id, which carries the time, whatever the order of the commits."""
    store.append_imported([record(2, as_of=DECIDED_AT + 7), record(1, as_of=DECIDED_AT + 9)])

    assert store.newest_as_of() == DECIDED_AT + 7


def test_of_one_millisecond_the_newest_moment_is_told(store: RecordStore) -> None:
    """Ids of one millisecond are in no order of time, and a service that starts goes on after the newest moment."""
    for number, random in ((1, 200), (2, 100)):
        at = DECIDED_AT + number
        made = decision_id(at=at, customer_id="c1", randomness=bytes([random] * 9))
        store.commit(record(number, decision_id=made, decided_at=at, as_of=at), b"answer", None)

    assert store.newest_as_of() == DECIDED_AT + 2


def test_a_decision_is_found_by_id_and_by_request(store: RecordStore) -> None:
    """Record and answer come back byte for byte, NaN and negative zero included."""
    kept = record()
    assert store.commit(kept, b'{"answer":1}', None) == Committed(b'{"answer":1}', was_stored_before=False)

    by_id, by_request = store.decision(kept.decision_id), store.decision_of_request("crm", "r-1")

    assert isinstance(by_id, Stored)
    assert (dump_record(by_id.record), by_id.answer) == (dump_record(kept), b'{"answer":1}')
    assert isinstance(by_request, Stored)
    assert dump_record(by_request.record) == dump_record(kept)
    assert store.decision_of_request("web", "r-1") is None


def test_the_same_request_gives_the_same_bytes(store: RecordStore) -> None:
    """A repeated request stores nothing, counts no contact, and gets the answer given before."""
    first, again = record(1), record(2, request_id="r-1")
    store.commit(first, b"first", reservation(contact(first)))

    committed = store.commit(again, b"again", reservation(contact(again)))

    assert committed == Committed(b"first", was_stored_before=True)
    assert store.decision("d-000002") is None
    assert _contacts(store) == (contact(first),)


def test_a_request_id_is_not_used_twice(store: RecordStore) -> None:
    """Another body under the same request id is refused, naming it; another source is another request."""
    store.commit(record(1), b"first", None)
    with pytest.raises(Conflict, match=r"request_id 'r-1' of source 'crm'.*expected the same body"):
        store.commit(record(2, request_id="r-1", request_hash="other"), b"other", None)
    committed = store.commit(record(3, request_id="r-1", request_hash="other", source="web"), b"web", None)
    assert committed == Committed(b"web", was_stored_before=False)


def test_contacts_are_counted_with_the_decision(store: RecordStore) -> None:
    """Contacts since a moment, that moment included, oldest first, of that customer alone."""
    for number, customer_id in ((1, "c1"), (2, "c1"), (3, "c2"), (4, "c1")):
        made = record(number, customer_id=customer_id)
        store.commit(made, b"", reservation(contact(made)))

    assert [each.decision_id for each in _contacts(store, since=DECIDED_AT + 2)] == ["d-000002", "d-000004"]


def test_a_lease_counts_until_it_expires(store: RecordStore) -> None:
    """A live lease is a contact to the rules; an expired one is not."""
    made = record()
    lease = contact(made, status="lease", expires_at=DECIDED_AT + 100, send_id="s-1")
    store.commit(made, b"", reservation(lease))

    assert _contacts(store, now=DECIDED_AT + 99) == (lease,)
    assert _contacts(store, now=DECIDED_AT + 100) == ()


def test_contacts_of_everybody_are_told_by_customer(store: RecordStore) -> None:
    """Page by page: those that a read of each customer counts, and none twice."""
    for number, customer_id in enumerate(("c2", "c1", "c3", "c1"), start=1):
        made = record(number, customer_id=customer_id)
        mail, text = contact(made), contact(made, action_id="offer", status="lease", expires_at=DECIDED_AT + 10)
        store.commit(made, b"{}", reservation(mail, text))
    store.confirm_contacts([structs.replace(contact(record(9)), decision_id="", at=DECIDED_AT + at) for at in (5, 6)])

    for now, since in ((DECIDED_AT, 0), (DECIDED_AT + 10, 0), (DECIDED_AT, DECIDED_AT + 3)):
        for page in (1, 2, 100):
            pages = list(store.contacts(since=since, now=now, page=page))
            found = [each for one in pages for each in one]
            expected = {
                one: store.customer(one, since=since, now=now).contacts
                for one in sorted({each.customer_id for each in found})
            }
            assert all(0 < len(one) <= page for one in pages)
            assert [each.customer_id for each in found] == sorted(each.customer_id for each in found)
            assert {one: sorted(map(repr, told)) for one, told in expected.items()} == {
                one: sorted(repr(each) for each in found if each.customer_id == one) for one in expected
            }
    assert len(next(store.contacts(since=0, now=DECIDED_AT, page=100))) == 10


def test_a_lease_is_confirmed(store: RecordStore) -> None:
    """An exposure turns the lease of its decision into a contact at its own time, even after the lease ended."""
    made = record()
    lease = contact(made, status="lease", expires_at=DECIDED_AT + 100, send_id="s-1")
    store.commit(made, b"", reservation(lease))
    happened = contact(made, at=DECIDED_AT + 500)

    store.confirm_contacts([happened])

    assert _contacts(store, now=DECIDED_AT + 500) == (structs.replace(lease, status="confirmed", at=DECIDED_AT + 500),)


def test_a_contact_is_confirmed_once(store: RecordStore) -> None:
    """Telling of the same contact again changes nothing, neither count nor time."""
    made = record()
    store.commit(made, b"", reservation(contact(made)))
    for at in (DECIDED_AT + 7, DECIDED_AT + 8):
        store.confirm_contacts([contact(made, at=at)])
    assert _contacts(store) == (contact(made),)


def test_a_lease_keeps_its_channel_where_none_is_told(store: RecordStore) -> None:
    """Else the caps of the channel would lose a contact."""
    made = record()
    store.commit(made, b"", reservation(contact(made, status="lease")))
    store.confirm_contacts([contact(made, channel="")])
    assert [(each.channel, each.status) for each in _contacts(store)] == [("sms", "confirmed")]


def test_contacts_without_a_decision_are_told_apart_by_time(store: RecordStore) -> None:
    """A contact that no decision made counts once per moment, as confirmed whatever it says."""
    outside = structs.replace(contact(record(), at=DECIDED_AT, status="lease"), decision_id="")
    for each in (outside, outside, structs.replace(outside, at=DECIDED_AT + 1)):
        store.confirm_contacts([each])
    assert [(each.at, each.status) for each in _contacts(store)] == [
        (DECIDED_AT, "confirmed"),
        (DECIDED_AT + 1, "confirmed"),
    ]


def test_a_cap_is_checked_in_the_commit(store: RecordStore) -> None:
    """The contact that would exceed a cap is refused by name of treatment and rule, and nothing is stored."""
    caps = (cap(2),)
    for number in (1, 2):
        made = record(number)
        store.commit(made, b"", reservation(contact(made), caps=caps))
    third = record(3)

    with pytest.raises(LostRace) as lost:
        store.commit(third, b"", reservation(contact(third), caps=caps))

    assert (lost.value.treatment_id, lost.value.rule_id) == ("nudge_sms", "at_most_2")
    assert store.decision("d-000003") is None
    assert len(_contacts(store)) == 2


def test_caps_count_what_they_say(store: RecordStore) -> None:
    """Only contacts since the cap's moment and over its channel count, and only contacts over it are refused."""
    for number, channel, at in ((1, "sms", -DAY_US - 1), (2, "email", 0), (3, "sms", -DAY_US)):
        made = record(number)
        store.commit(made, b"", reservation(contact(made, channel=channel, at=DECIDED_AT + at)))
    caps = (cap(1, channel="sms"),)
    by_sms, by_mail = record(4), record(5)

    with pytest.raises(LostRace, match="at_most_1"):
        store.commit(by_sms, b"", reservation(contact(by_sms), caps=caps))
    store.commit(by_mail, b"", reservation(contact(by_mail, channel="email"), caps=caps))
    assert len(_contacts(store)) == 4


def test_a_slate_counts_in_its_own_order(store: RecordStore) -> None:
    """Two contacts in one decision that leave room for one refuse the second, and nothing of it is stored."""
    made = record()
    slate = reservation(contact(made), contact(made, action_id="survey", channel="email"), caps=(cap(1),))
    with pytest.raises(LostRace) as lost:
        store.commit(made, b"", slate)
    assert lost.value.treatment_id == "survey_email"
    assert _contacts(store) == ()


def test_leases_count_against_caps_while_they_live(store: RecordStore) -> None:
    """A live lease takes a place under a cap; once it has expired the place is free."""
    leased, early, late = record(1), record(2), record(3, decided_at=DECIDED_AT + 200)
    store.commit(leased, b"", reservation(contact(leased, status="lease", expires_at=DECIDED_AT + 100)))

    with pytest.raises(LostRace):
        store.commit(early, b"", reservation(contact(early), caps=(cap(1),)))
    store.commit(late, b"", reservation(contact(late), caps=(cap(1),)))
    assert [each.decision_id for each in _contacts(store, now=DECIDED_AT + 200)] == ["d-000003"]


def test_a_send_holds_one_lease(store: RecordStore) -> None:
    """Deciding the same send for a customer again replaces its lease, also where the cap has no other room."""
    for number in (1, 2):
        made = record(number, send_id="s-1")
        lease = contact(made, status="lease", send_id="s-1")
        store.commit(made, b"", reservation(lease, caps=(cap(1),)))
    assert [each.decision_id for each in _contacts(store)] == ["d-000002"]


def test_a_contact_of_a_send_ends_its_lease(store: RecordStore) -> None:
    """Activating a send that holds a lease leaves one contact, not two."""
    leased, activated = record(1, send_id="s-1"), record(2, send_id="s-1")
    store.commit(leased, b"", reservation(contact(leased, status="lease", send_id="s-1")))
    store.commit(activated, b"", reservation(contact(activated, send_id="s-1"), caps=(cap(1),)))
    assert [(each.decision_id, each.status) for each in _contacts(store)] == [("d-000002", "confirmed")]


def test_a_send_that_gets_no_action_ends_its_lease(store: RecordStore) -> None:
    """Else it would hold a place under the caps that nobody will use."""
    leased, nothing = record(1, send_id="s-1"), record(2, send_id="s-1", selected=())
    store.commit(leased, b"", reservation(contact(leased, status="lease", send_id="s-1")))
    store.commit(nothing, b"", Reservation((), (), (), "s-1"))
    assert _contacts(store) == ()


@pytest.mark.parametrize("is_nothing", [True, False])
def test_the_decision_that_holds_the_place_of_a_send_is_known(store: RecordStore, is_nothing: bool) -> None:
    """The last that was made, of that customer, whether it chose something or not; nothing counts nowhere."""
    # Ids of one millisecond have no order of their own.
    made = [record(number, send_id="s-1", selected=(), decided_at=DECIDED_AT - number) for number in (2, 1)]
    for one in made:
        leases = () if is_nothing else (contact(one, status="lease", send_id="s-1"),)
        store.commit(one, b"", Reservation(leases, ("any",) * len(leases), (), "s-1"))

    def newest(customer_id: str, send_id: str | None) -> str:
        return store.customer(customer_id, since=0, now=DECIDED_AT, send_id=send_id).sent

    assert newest("c1", "s-1") == made[1].decision_id
    assert [newest("c1", "s-2"), newest("c2", "s-1"), newest("c1", None)] == ["", "", ""]
    assert len(store.customer("c1", since=0, now=DECIDED_AT).contacts) == (0 if is_nothing else 1)


def test_the_last_decision_of_a_send_holds_its_place_whatever_the_clock_says(store: RecordStore) -> None:
    """Both are contacts already, of one moment or of a clock that was set back, and ids of a moment have no order."""
    for number, decided_at in ((2, DECIDED_AT), (1, DECIDED_AT), (3, DECIDED_AT - 9)):
        made = record(number, send_id="s-1", decided_at=decided_at)
        store.commit(made, b"", reservation(contact(made, send_id="s-1")))
        assert store.customer(made.customer_id, since=0, now=DECIDED_AT, send_id="s-1").sent == made.decision_id


def test_a_send_that_another_decided_meanwhile_is_not_decided_again(store: RecordStore) -> None:
    """The later commit is refused, names the decision that came first, and changes nothing."""
    first, second = (record(number, send_id="s-1", selected=()) for number in (1, 2))
    before_any = Reservation((), (), (), "s-1", sent="")
    store.commit(first, b"first", before_any)

    with pytest.raises(SendDecided) as raised:
        store.commit(second, b"second", before_any)

    assert raised.value.sent == first.decision_id
    assert store.decision(second.decision_id) is None
    assert not store.commit(second, b"second", replace(before_any, sent=first.decision_id)).was_stored_before


def test_a_lost_race_leaves_the_lease_of_the_send(store: RecordStore) -> None:
    """Where the new decision of a send does not fit, the lease that it would have replaced stays."""
    other, leased, again = record(1), record(2, send_id="s-1"), record(3, send_id="s-1")
    store.commit(leased, b"", reservation(contact(leased, status="lease", send_id="s-1")))
    store.commit(other, b"", reservation(contact(other)))
    with pytest.raises(LostRace):
        store.commit(again, b"", reservation(contact(again, status="lease", send_id="s-1"), caps=(cap(1),)))
    assert [each.decision_id for each in _contacts(store)] == ["d-000001", "d-000002"]


def test_caps_are_exact_under_concurrency(store: RecordStore) -> None:
    """Thirty-two threads that decide for one customer at once make exactly as many contacts as the cap allows."""
    lost: list[str] = []
    start = threading.Barrier(32)

    def decide(worker: int) -> None:
        start.wait(10)
        for i in range(4):
            made = record(100 * worker + i)
            try:
                store.commit(made, b"", reservation(contact(made), caps=(cap(5),)))
            except LostRace as race:
                lost.append(race.rule_id)

    threads = [threading.Thread(target=decide, args=(worker,)) for worker in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(_contacts(store)) == 5
    assert lost == ["at_most_5"] * (32 * 4 - 5)
    assert sum(len(page) for page in store.read()) == 5


def test_one_request_is_answered_once_under_concurrency(store: RecordStore) -> None:
    """Threads that send the same request at once all get the answer of the one that was stored."""
    answers: list[Committed] = []
    start = threading.Barrier(16)

    def decide(worker: int) -> None:
        made = record(worker, request_id="same")
        start.wait(10)
        answers.append(store.commit(made, str(worker).encode(), reservation(contact(made))))

    threads = [threading.Thread(target=decide, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 16
    assert len({committed.answer for committed in answers}) == 1
    assert sum(not committed.was_stored_before for committed in answers) == 1
    assert len(_contacts(store)) == 1


# ---- what came back


def _responses(store: RecordStore) -> list[tuple[str, str, int]]:
    return [(one.action_id, one.response, one.response_at) for one in _contacts(store)]


def test_what_came_back_is_noted_on_the_contacts_of_the_decision(store: RecordStore) -> None:
    """On those of the actions that it answers, also on a lease; other decisions are not touched."""
    made, other = record(1), record(2)
    store.commit(made, b"", reservation(contact(made, status="lease"), contact(made, action_id="survey")))
    store.commit(other, b"", reservation(contact(other)))

    store.note_responses([ContactResponse("d-000001", "c1", "positive", DECIDED_AT + 9, frozenset({"survey"}))])
    store.note_responses([ContactResponse("d-000009", "c1", "positive", DECIDED_AT + 9)])

    assert sorted(_responses(store)) == [
        ("nudge", "", 0),
        ("nudge", "", 0),
        ("survey", "positive", DECIDED_AT + 9),
    ]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_answers_does_not_matter(store: RecordStore, order: tuple[int, ...]) -> None:
    """Yes and no hold over neutral, the newest over the older, and no over yes at the same moment; twice is once."""
    made = record()
    store.commit(made, b"", reservation(contact(made)))
    told = [("neutral", 9), ("positive", 5), ("positive", 7), ("negative", 7)]
    responses = [ContactResponse("d-000001", "c1", kind, DECIDED_AT + at) for kind, at in told]  # type: ignore[arg-type]  # of a list

    for place in (*order, order[0]):
        store.note_responses([responses[place]])

    assert _responses(store) == [("nudge", "negative", DECIDED_AT + 7)]


def test_an_exposure_keeps_what_came_back(store: RecordStore) -> None:
    """The answer may overtake the news that the action was shown."""
    made = record()
    store.commit(made, b"", reservation(contact(made, status="lease")))
    store.note_responses([ContactResponse("d-000001", "c1", "positive", DECIDED_AT + 9)])

    store.confirm_contacts([contact(made, at=DECIDED_AT + 5)])

    assert [(one.status, one.at, one.response) for one in _contacts(store)] == [
        ("confirmed", DECIDED_AT + 5, "positive")
    ]


def test_an_answer_by_another_id_finds_the_contact(store: RecordStore) -> None:
    """Who was decided on stands in the decision, whatever id they answer by; nobody else's contact is touched."""
    made = record()
    store.commit(made, b"", reservation(contact(made)))
    store.confirm_contacts([structs.replace(contact(made), customer_id="stranger")])

    store.note_responses([ContactResponse("d-000001", "cookie", "negative", DECIDED_AT + 9)])

    assert _responses(store) == [("nudge", "negative", DECIDED_AT + 9)]
    assert [one.response for one in store.customer("stranger", since=0, now=DECIDED_AT).contacts] == [""]


def test_a_cap_of_some_actions_is_checked_in_the_commit(store: RecordStore) -> None:
    """Only contacts with its actions count, and only they are refused."""
    caps = (replace(cap(1), action_ids=frozenset({"nudge", "offer"})),)
    for number, action_id in ((1, "nudge"), (2, "survey"), (3, "survey")):
        made = record(number)
        store.commit(made, b"", reservation(contact(made, action_id=action_id), caps=caps))
    fourth = record(4)

    with pytest.raises(LostRace, match="at_most_1"):
        store.commit(fourth, b"", reservation(contact(fourth, action_id="offer"), caps=caps))

    assert [one.action_id for one in _contacts(store)] == ["nudge", "survey", "survey"]


def test_the_newest_consent_holds(store: RecordStore) -> None:
    """By its own time, not by arrival; at the same time the later word holds; consents do not touch each other."""
    store.set_consents("c1", {"marketing": "objected", "profiling": "granted"}, at=DECIDED_AT)
    store.set_consents("c1", {"marketing": "granted"}, at=DECIDED_AT - 1)
    store.set_consents("c1", {"profiling": "withdrawn"}, at=DECIDED_AT)
    store.set_consents("c2", {"marketing": "granted"}, at=DECIDED_AT)

    assert store.customer("c1", since=0, now=DECIDED_AT).consents == {"marketing": "objected", "profiling": "withdrawn"}
    assert store.customer("c2", since=0, now=DECIDED_AT).consents == {"marketing": "granted"}


def test_many_consents_are_applied_at_once(store: RecordStore) -> None:
    """As one by one: by customer, in order, none older than what is known."""
    store.set_consents("c1", {"marketing": "objected"}, at=DECIDED_AT)
    store.apply_consents(
        [
            ConsentChange("c1", "marketing", "granted", DECIDED_AT - 1),
            ConsentChange("c2", "marketing", "granted", DECIDED_AT),
            ConsentChange("c2", "marketing", "withdrawn", DECIDED_AT),
        ]
    )
    assert store.customer("c1", since=0, now=DECIDED_AT).consents == {"marketing": "objected"}
    assert store.customer("c2", since=0, now=DECIDED_AT).consents == {"marketing": "withdrawn"}


def test_imported_decisions_are_stored_once(store: RecordStore) -> None:
    """An import that is repeated, or repeats itself, adds nothing; what was decided here is not overwritten."""
    store.commit(record(1), b"answered", None)
    past = [record(number, mode="imported") for number in (1, 2, 3, 3)]

    assert store.append_imported(past) == 2
    assert store.append_imported(past) == 0

    kept = store.decision("d-000001")
    assert isinstance(kept, Stored)
    assert (kept.record.mode, kept.answer) == ("live", b"answered")
    assert [each.decision_id for page in store.read() for each in page] == ["d-000001", "d-000002", "d-000003"]


def test_decisions_are_read_back_from_the_newest(store: RecordStore) -> None:
    """By id, page by page, whatever the order they were stored in."""
    for number in (2, 1, 4, 3):
        store.commit(record(number), b"", None)

    pages = list(store.read_back(page=3))

    assert [[each.decision_id for each in page] for page in pages] == [
        ["d-000004", "d-000003", "d-000002"],
        ["d-000001"],
    ]


def test_pages_cover_the_decisions_once(store: RecordStore) -> None:
    """Pages come in order of ids, whatever the order of arrival, from after the one asked for."""
    store.append_imported([record(number, mode="imported") for number in (5, 3, 1, 4, 2)])
    pages = list(store.read(after="d-000001", page=3))
    assert [[each.decision_id for each in page] for page in pages] == [
        ["d-000002", "d-000003", "d-000004"],
        ["d-000005"],
    ]


# ---- people with several ids


def test_a_person_has_the_contacts_and_consents_of_all_their_ids(store: RecordStore) -> None:
    """Each id's in the time in which it was theirs; the newest consent counts, of any id."""
    store.confirm_contacts([contact(record(1, decided_at=DECIDED_AT - 1)), contact(record(2, customer_id="tablet"))])
    store.set_consents("c1", {"sms": "granted"}, at=DECIDED_AT - 5)
    store.set_consents("tablet", {"sms": "objected"}, at=DECIDED_AT - 3)
    store.set_consents("tablet", {"sms": "granted"}, at=DECIDED_AT + 3)

    whole = store.customer("c1", since=0, now=DECIDED_AT + 9, spans=(Span("c1"), Span("tablet")))
    shared = store.customer("c1", since=0, now=DECIDED_AT + 9, spans=(Span("c1"), Span("tablet", EARLIEST, DECIDED_AT)))

    assert [one.decision_id for one in whole.contacts] == ["d-000001", "d-000002"]
    assert [one.decision_id for one in shared.contacts] == ["d-000001"]
    assert (whole.consents, shared.consents) == ({"sms": "granted"}, {"sms": "objected"})


@pytest.mark.parametrize("states", [("granted", "objected"), ("objected", "granted")])
def test_of_two_ids_at_the_same_time_the_more_restrictive_consent_holds(
    store: RecordStore, states: tuple[str, str]
) -> None:
    """Nobody can tell which came last, and contacting somebody who objected is the worse mistake."""
    for customer_id, state in zip(("c1", "cookie"), states, strict=True):
        store.set_consents(customer_id, {"marketing": state}, at=DECIDED_AT)

    records = store.customer("c1", since=0, now=DECIDED_AT, spans=(Span("c1"), Span("cookie")))

    assert records.consents == {"marketing": "objected"}


def test_a_cap_counts_the_contacts_of_all_ids(store: RecordStore) -> None:
    """A commit for a person looks at every id of theirs, and replaces a send's lease under any of them."""
    spans = (Span("c1"), Span("cookie"))
    store.confirm_contacts([contact(record(1, customer_id="cookie"))])
    made = record(2)

    with pytest.raises(LostRace):
        store.commit(made, b"", replace(reservation(contact(made), caps=(cap(1),)), spans=spans))

    assert _contacts(store) == ()


def _made(number: int, at: int, **changes: Any) -> DecisionRecord:
    """The ``number``-th decision at a moment, with an id that carries it."""
    changes = {"customer_id": "c1", "decided_at": at, "as_of": at} | changes
    new_id = decision_id(at=at, customer_id=str(changes["customer_id"]), randomness=number.to_bytes(9, "big"))
    return record(number, decision_id=new_id, **changes)


def _lease(made: DecisionRecord, *, expires_after: int = 1_000, **changes: Any) -> Contact:
    return contact(made, status="lease", expires_at=made.decided_at + expires_after, **changes)


def _becoming(lease: Contact, *caps: CapLimit, at: int) -> Reservation:
    return reservation(structs.replace(lease, status="confirmed", at=at), caps=caps)


def test_a_live_lease_is_activated_once(store: RecordStore) -> None:
    """It counts from then on, over its own channel and also after its expiry; a second time changes nothing."""
    made = record()
    lease = _lease(made, send_id="s-1")
    store.commit(made, b"", reservation(lease))
    at = DECIDED_AT + 500

    first = store.activate(_becoming(lease, at=at), at=at)
    again = store.activate(_becoming(lease, at=at + 10_000), at=at + 10_000)

    assert first == again == (structs.replace(lease, status="confirmed", at=at),)
    assert _contacts(store, now=DECIDED_AT + DAY_US) == first


@pytest.mark.parametrize("late", [0, 1, DAY_US])
def test_a_lease_that_has_expired_is_not_activated(store: RecordStore, late: int) -> None:
    """Nothing is counted then."""
    made = record()
    lease = _lease(made)
    store.commit(made, b"", reservation(lease))
    at = lease.expires_at + late

    with pytest.raises(LeaseEnded) as ended:
        store.activate(_becoming(lease, at=at), at=at)

    assert ended.value.contact == lease
    assert _contacts(store, now=at) == ()


def test_a_lease_that_another_decision_replaced_is_not_activated(store: RecordStore) -> None:
    """Of one send there is one contact: the newest decision's."""
    first, second = record(1), record(2)
    for made in (first, second):
        store.commit(made, b"", reservation(_lease(made, send_id="s-1")))
    lease = _lease(first, send_id="s-1")

    with pytest.raises(LeaseEnded) as ended:
        store.activate(_becoming(lease, at=DECIDED_AT + 10), at=DECIDED_AT + 10)

    assert ended.value.contact == structs.replace(lease, status="released")


def test_a_decision_without_a_lease_has_none_to_activate(store: RecordStore) -> None:
    """It says so, and counts nothing."""
    made = record()
    store.commit(made, b"", None)

    with pytest.raises(LeaseEnded) as ended:
        store.activate(_becoming(_lease(made), at=DECIDED_AT), at=DECIDED_AT)

    assert ended.value.contact is None
    assert _contacts(store) == ()


def test_all_leases_of_a_decision_are_activated_or_none(store: RecordStore) -> None:
    """One that ended keeps the others what they were."""
    made = record()
    live, ended = _lease(made), _lease(made, action_id="offer", channel="email", expires_after=1)
    store.commit(made, b"", reservation(live, ended))
    at = DECIDED_AT + 500
    both = reservation(*(structs.replace(one, status="confirmed", at=at) for one in (live, ended)))

    with pytest.raises(LeaseEnded, match="offer"):
        store.activate(both, at=at)

    assert [one.status for one in _contacts(store, now=at)] == ["lease"]


def test_an_activation_keeps_to_the_caps(store: RecordStore) -> None:
    """Contacts that came in since the lease was taken count; its own lease does not."""
    made, other = record(1), record(2)
    lease = _lease(made)
    store.commit(made, b"", reservation(lease))
    store.commit(other, b"", reservation(contact(other)))
    at = DECIDED_AT + 500

    with pytest.raises(LostRace, match="at_most_1"):
        store.activate(_becoming(lease, cap(1), at=at), at=at)
    assert store.activate(_becoming(lease, cap(2), at=at), at=at)[0].status == "confirmed"


def test_one_of_many_activations_wins_the_last_place(store: RecordStore) -> None:
    """Leases of long ago, which no cap counted any more, do not all become contacts of today."""
    made = [record(number) for number in range(8)]
    leases = [_lease(one, expires_after=3 * DAY_US) for one in made]
    for one, lease in zip(made, leases, strict=True):
        store.commit(one, b"", reservation(lease))
    at = DECIDED_AT + 2 * DAY_US
    won: list[str] = []

    def attempt(lease: Contact) -> None:
        with suppress(LostRace):
            won.extend(
                each.decision_id for each in store.activate(_becoming(lease, cap(1, since=at - DAY_US), at=at), at=at)
            )

    threads = [threading.Thread(target=attempt, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert [one.decision_id for one in _contacts(store, now=at) if one.status == "confirmed"] == won


def test_the_newest_decisions_of_everybody_come_first(store: RecordStore) -> None:
    """Within a time, and on from a place, without those that came in meanwhile."""
    made = [_made(number, DECIDED_AT + number * 1_000_000, customer_id=f"c{number % 2}") for number in range(6)]
    store.append_imported([made[place] for place in (3, 0, 5, 1, 4, 2)])
    stretch = Stretch(since=made[1].decided_at, until=made[5].decided_at, rows=2)

    first = store.newest(stretch)
    store.append_imported([_made(9, made[4].decided_at + 5_000)])
    rest = store.newest(replace(stretch, before=(first[-1].decided_at, first[-1].decision_id), rows=9))

    assert [one.decision_id for one in (*first, *rest)] == [made[place].decision_id for place in (4, 3, 2, 1)]


def test_the_bounds_of_a_stretch_are_exact(store: RecordStore) -> None:
    """To the microsecond, though ids carry milliseconds."""
    made = [_made(number, DECIDED_AT + number) for number in range(4)]
    store.append_imported(made)
    for spans in ((), (Span("c1"),)):
        found = store.newest(Stretch(since=DECIDED_AT + 1, until=DECIDED_AT + 3, rows=9, spans=spans))
        assert {one.decision_id for one in found} == {made[1].decision_id, made[2].decision_id}


def test_the_newest_decisions_of_a_person_come_first(store: RecordStore) -> None:
    """Of all their ids, each in its time; of one moment by id; page by page nothing is left out or told twice."""
    at = [DECIDED_AT + number * 1_000_000 for number in range(4)]
    made = [_made(1, at[0]), _made(2, at[1], customer_id="cookie"), _made(3, at[1]), _made(4, at[2])]
    strange = [_made(5, at[1], customer_id="c2"), _made(6, at[3], customer_id="cookie")]
    store.append_imported([*made, *strange])
    stretch = Stretch(since=EARLIEST, until=at[3] + 1, rows=1, spans=(Span("c1"), Span("cookie", valid_until=at[2])))

    found: list[DecisionRecord] = []
    while page := store.newest(stretch):
        found += page
        stretch = replace(stretch, before=(page[-1].decided_at, page[-1].decision_id))

    expected = sorted(made, key=lambda one: (one.decided_at, one.decision_id), reverse=True)
    assert [one.decision_id for one in found] == [one.decision_id for one in expected]


def test_old_decisions_are_forgotten_in_batches(store: RecordStore) -> None:
    """The oldest first, with their contacts; what is younger stays, and what is gone may be asked again."""
    made = [_made(number, DECIDED_AT + number * 1_000_000) for number in range(4)]
    for one in made:
        store.commit(one, b"answer", reservation(contact(one)))
    end = made[3].decided_at

    batches = [store.forget_decisions(decided_before=end, most=2) for _ in range(3)]

    assert batches == [2, 1, 0]
    assert [one.decision_id for page in store.read() for one in page] == [made[3].decision_id]
    assert store.decision(made[0].decision_id) is None
    assert store.decision_of_request("crm", made[0].request_id) is None
    assert [each.decision_id for each in _contacts(store)] == [made[3].decision_id]


def test_a_contact_outlives_its_decision_while_it_is_young(store: RecordStore) -> None:
    """An exposure long after the decision still counts."""
    made = _made(1, DECIDED_AT)
    store.commit(made, b"answer", reservation(contact(made, status="lease")))
    store.confirm_contacts([contact(made, at=DECIDED_AT + DAY_US)])

    assert store.forget_decisions(decided_before=DECIDED_AT + 2_000, most=9) == 1
    assert [each.at for each in _contacts(store)] == [DECIDED_AT + DAY_US]


def test_ids_come_in_order_and_in_pages(store: RecordStore) -> None:
    """All of them, whatever the order of the commits, from after the one that is named on."""
    made = [_made(number, DECIDED_AT + number * 1_000_000) for number in range(5)]
    store.append_imported([made[place] for place in (3, 0, 4, 1, 2)])
    ids = [one.decision_id for one in made]

    assert list(store.ids(page=2)) == [ids[:2], ids[2:4], ids[4:]]
    assert list(store.ids(after=ids[2])) == [ids[3:]]
    assert list(store.ids(after=ids[4])) == []


def test_decisions_are_found_by_many_ids(store: RecordStore) -> None:
    """In the order asked and in pages; an id that names nothing is left out."""
    made = [_made(number, DECIDED_AT + number * 1_000_000) for number in range(3)]
    store.append_imported(made)
    ids = [one.decision_id for one in made]

    pages = list(store.decisions([ids[2], "d-nobody", ids[0], ids[1]], page=2))

    assert [[dump_record(one) for one in page] for page in pages] == [
        [dump_record(made[2])],
        [dump_record(made[0]), dump_record(made[1])],
    ]
    assert list(store.decisions([])) == []
