"""Contacts that were pinned: the same as the store told at the time, whatever it tells later."""

from __future__ import annotations

from pathlib import Path

from features.identity import Span
from models.memory_records import MemoryRecordStore
from models.pinned_contacts import PinnedContacts, pin_contacts
from tests.decision_records import DECIDED_AT, contact, record, reservation

SINCE = DECIDED_AT - 10


def test_what_was_pinned_is_what_the_store_told(tmp_path: Path) -> None:
    """Of a customer, of a person's spans, and of nobody; contacts made since do not count."""
    store = MemoryRecordStore()
    for number, customer_id in enumerate(("c2", "c1", "c1", "c3"), start=1):
        made = record(number, customer_id=customer_id)
        store.commit(made, b"{}", reservation(contact(made)))
    pin_contacts(store, tmp_path / "contacts", since=SINCE, now=DECIDED_AT)
    spans = (Span("c1", DECIDED_AT, DECIDED_AT + 3), Span("c2"), Span("c9"))
    asked = [("c1", ()), ("c1", spans), ("c3", ()), ("c9", ())]
    before = [store.customer(one, since=SINCE, now=DECIDED_AT, spans=given).contacts for one, given in asked]
    later = record(9)
    store.commit(later, b"{}", reservation(contact(later)))

    pinned = PinnedContacts(tmp_path / "contacts")

    assert [pinned.customer(one, since=SINCE, now=DECIDED_AT, spans=given).contacts for one, given in asked] == before
    assert [len(one) for one in before] == [2, 2, 1, 0]
    assert (tmp_path / "contacts").stat().st_mode & 0o077 == 0


def test_nobody_was_contacted(tmp_path: Path) -> None:
    """An empty file is a file too."""
    pin_contacts(MemoryRecordStore(), tmp_path / "contacts", since=SINCE, now=DECIDED_AT)

    assert PinnedContacts(tmp_path / "contacts").customer("c1", since=SINCE, now=DECIDED_AT).contacts == ()
