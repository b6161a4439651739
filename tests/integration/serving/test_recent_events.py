"""What came in lately, over the doors: accepted, rejected and dropped, by source, without what nobody may see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.errors import StoreUnavailable
from features.events import dump_timestamp
from features.refused_events import RefusedEvent
from serving.auth import ROLES
from serving.recent_events import LARGEST_RECENT, LOOKED_AT_MOST
from tests.doors import NOW, Client, World, event

RECENT = "/v1/events/recent"
DAY_US = 86_400_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _recent(client: Client, query: str = "", **more: Any) -> list[dict[str, Any]]:
    answer = client.get(f"{RECENT}?{query}", **more)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def test_accepted_and_rejected_events_are_told(world: World, client: Client) -> None:
    """Newest first, with pointer and reason, and without the value that was refused."""
    key = world.key("shop", "caller")
    client.post("/v1/events", {"events": [event("e-1"), event("e-2", occurred_at="secret")]}, key=key)
    world.now += 1_000_000
    client.post("/v1/events", {"events": [{"event_id": "e-3"}, event("e-4")]}, key=key)

    found = _recent(client, key=key)

    assert [(one["status"], one["event_id"]) for one in found[:2]] == [("accepted", "e-4"), ("rejected", "e-3")]
    assert {(one["pointer"], one["reason"]) for one in found if one["event_id"] == "e-3"} == {
        (f"/events/0/{name}", "missing") for name in ("customer_id", "kind", "occurred_at")
    }
    accepted = next(one for one in found if one["event_id"] == "e-1")
    assert accepted == {
        "status": "accepted",
        "source": "shop",
        "received_at": dump_timestamp(NOW),
        "door": None,
        "event_id": "e-1",
        "kind": "application_submitted",
        "customer_id": "c-1",
        "occurred_at": event("e-1")["occurred_at"],
        "pointer": None,
        "reason": None,
        "expected": None,
    }
    rejected = next(one for one in found if one["event_id"] == "e-2")
    assert (rejected["door"], rejected["kind"], rejected["pointer"], rejected["reason"], rejected["expected"]) == (
        *("events", "application_submitted", "/events/1/occurred_at", "invalid"),
        "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z",
    )
    assert "secret" not in str(found)


def test_calls_of_tracking_sdks_are_told(world: World, client: Client) -> None:
    """What was rejected and what was dropped; what was accepted is an event like any other."""
    calls = [
        {"type": "track", "messageId": "m-1", "userId": "c-7", "event": "Card Activated", "channel": "browser"},
        {"type": "track", "messageId": "m-2", "userId": "c-7", "event": "Newsletter Read"},
        {"type": "identify", "messageId": "m-3", "userId": "c-7", "traits": {"region": "north", "plan": "gold"}},
        {"type": "track", "messageId": "m-4", "event": "Card Activated"},
    ]
    client.post("/v1/batch", {"batch": calls})

    found = {(one["status"], one["event_id"]): one for one in _recent(client)}

    assert {key: (one["pointer"], one["reason"]) for key, one in found.items() if key[0] == "dropped"} == {
        ("dropped", "m-2"): ("/batch/1/event", "unknown_event"),
        ("dropped", "m-3"): ("/batch/2/traits/plan", "not_declared"),
    }
    assert {one["kind"] for one in found.values() if one["status"] == "dropped"} == {"Newsletter Read", "identify"}
    assert ("rejected", "m-4") in found
    assert [key for key in found if key[0] == "accepted"] != []


def test_a_body_that_cannot_be_read_is_told(client: Client) -> None:
    """Of either door, once; who set up a sender wrongly finds it here."""
    client.post("/v1/events", b"{")
    client.post("/v1/events", {"evnts": []})
    client.post("/v1/batch", {"batch": []})
    client.post("/v1/track", {"userId": 1.5})

    found = [(one["door"], one["pointer"], one["reason"]) for one in _recent(client, "status=rejected")[::-1]]

    assert found[:3] == [
        ("events", "", "malformed"),
        ("events", "/evnts", "invalid"),
        ("events", "/events", "missing"),
    ]
    assert found[3] == ("tracking", "/batch", "invalid")
    assert {one for one in found[4:] if one[1] == "/userId"} == {("tracking", "/userId", "invalid")}
    assert len(found) == len(set(found))


def test_what_is_wanted_is_found(world: World, client: Client) -> None:
    """By status, kind, time and number."""
    for number in range(4):
        client.post("/v1/events", {"events": [event(f"e-{number}"), {"event_id": f"bad-{number}", "kind": "nope"}]})
        world.now += 1_000_000

    def ids(query: str) -> list[str]:
        return [one["event_id"] for one in _recent(client, query)]

    assert ids("status=accepted&limit=2") == ["e-3", "e-2"]
    assert set(ids("kind=nope&status=rejected")) == {"bad-0", "bad-1", "bad-2", "bad-3"}
    assert ids("kind=nope&status=accepted") == []
    assert ids("kind=application_submitted") == ["e-3", "e-2", "e-1", "e-0"]
    assert set(ids(f"since={dump_timestamp(NOW + 2_000_000)}")) == {"e-3", "e-2", "bad-3", "bad-2"}
    assert ids("status=dropped") == []


def test_bad_parameters_are_named(client: Client) -> None:
    """All at once."""
    answer = client.get(f"{RECENT}?status=lost&limit={LARGEST_RECENT + 1}&since=now&who=me")

    assert answer.status_code == 422
    assert {one["pointer"] for one in answer.json()["errors"]} == {"/?status", "/?limit", "/?since", "/?who"}


@pytest.mark.parametrize("role", ROLES)
def test_whose_events_a_role_sees(world: World, client: Client, role: str) -> None:
    """Those of its own source, or all; under which id only where it may see ids."""
    for source in ("desk", "crm"):
        bad = {"event_id": f"bad-{source}"}
        client.post("/v1/events", {"events": [event(f"e-{source}"), bad]}, key=world.key(source, "caller"))
    own = world.key("desk", role)

    found = _recent(client, key=own)

    sees_all = role in ("admin", "analyst", "privacy")
    assert {one["source"] for one in found} == ({"desk", "crm"} if sees_all else {"desk"})
    ids = {one["customer_id"] for one in found if one["status"] == "accepted"}
    assert ids == ({"c-1"} if role in ("admin", "privacy", "caller") else {"(masked)"})
    assert client.get(f"{RECENT}?source=crm", key=own).status_code == (200 if sees_all else 403)


def test_no_further_back_than_a_bound(world: World, client: Client) -> None:
    """A quiet source behind a loud one: the answer says how far was looked."""
    quiet = world.key("quiet", "caller")
    client.post("/v1/events", {"events": [event("first")]}, key=quiet)
    for batch in range(LOOKED_AT_MOST // 1_000):
        world.now += 1_000_000
        client.done("/v1/events", {"events": [event(f"e-{batch}-{place}") for place in range(1_000)]})

    answer = client.get(RECENT, key=quiet).json()
    assert answer == {"events": [], "looked_back_to": dump_timestamp(NOW + 1_000_000), "degraded": []}
    assert client.get(f"{RECENT}?status=rejected", key=quiet).json()["looked_back_to"] is None


def test_what_was_refused_is_told_for_a_day(world: World, client: Client) -> None:
    """Not longer, wherever it is kept."""
    client.post("/v1/events", b"{")
    world.now += DAY_US
    assert len(_recent(client)) == 1
    world.now += 1

    assert _recent(client) == []


class _Down:
    """A memory that does not answer."""

    def keep(self, source: str, refused: object) -> None:
        raise StoreUnavailable("down")

    def newest(self, source: str | None, *, since: int) -> list[RefusedEvent]:
        raise StoreUnavailable("down")


def test_events_are_taken_without_it(world: World) -> None:
    """The sender is told what was refused; the debugger says what is missing, and a counter moves."""
    world.refused = _Down()
    with world.client() as client:
        sent = client.post("/v1/events", {"events": [event("e-1"), {}]})
        answer = client.get(RECENT).json()
        lost = [line for line in client.get("/metrics").text.splitlines() if "refused_events_lost_total" in line]

    assert (sent.json()["accepted"], sent.json()["rejected"]) == (1, 1)
    assert (answer["degraded"], [one["event_id"] for one in answer["events"]]) == (
        ["refused_events_unavailable"],
        ["e-1"],
    )
    assert float(lost[-1].split()[1]) > 0
