"""Publishable keys: for pages of their origins, for what a customer did, and for nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doors import Client, World, event

PAGE = "https://shop.example.com"
OTHER = "https://shop.example.com.evil.example"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An installation in memory, for all tests here."""
    return World(tmp_path_factory.mktemp("browsers"))


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _preflight(client: Client, path: str, origin: str) -> Any:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    return client.other("OPTIONS", path, key=None, headers=asked)


def _allowed(headers: Any) -> str | None:
    found: str | None = headers.get("access-control-allow-origin")
    return found


def test_a_preflight_is_answered_for_origins_of_keys(world: World, client: Client) -> None:
    """With what may be sent, kept for two hours, and never with cookies."""
    world.key("shop", origins=[PAGE])

    answer = _preflight(client, "/v1/batch", PAGE)

    assert (answer.status_code, answer.content) == (204, b"")
    assert _allowed(answer.headers) == PAGE
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["access-control-max-age"] == "7200"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        *(
            ("/v1/batch", origin)
            for origin in (OTHER, "null", "http://shop.example.com", "https://shop.example.com:8443")
        ),
        *((path, PAGE) for path in ("/v1/decisions", "/v1/outcomes", "/v1/customers/c-1/context", "/v1/policies")),
    ],
)
def test_no_other_page_and_no_other_call_is_allowed(world: World, client: Client, path: str, origin: str) -> None:
    """A browser then refuses by itself; the call says nothing either."""
    world.key("shop", origins=[PAGE])

    asked = _preflight(client, path, origin)
    called = client.other("POST", path, headers={"Origin": origin}, json={})

    assert _allowed(asked.headers) is None
    assert _allowed(called.headers) is None


def test_an_origin_is_allowed_as_long_as_its_key_is(world: World, client: Client) -> None:
    """Revoking the last key of an origin closes it, without a restart."""
    page = "https://soon-gone.example.com"
    key = world.key("shop", origins=[page])
    assert _allowed(_preflight(client, "/v1/track", page).headers) == page

    world.keys.revoke(key.split("_")[1], at=world.now)

    assert _allowed(_preflight(client, "/v1/track", page).headers) is None


def test_a_page_sends_events_and_reads_the_answer(world: World, client: Client) -> None:
    """As Bearer, and as tracking SDKs send it; failures can be read too."""
    key = world.key("shop", origins=[PAGE])
    basic = {"Authorization": f"Basic {b64encode(f'{key}:'.encode()).decode()}", "Origin": PAGE}

    taken = client.post("/v1/events", {"events": [event()]}, key=key, headers={"Origin": PAGE})
    tracked = client.post("/v1/batch", {"batch": [_track("m-1")]}, key=None, headers=basic)
    wrong = client.post("/v1/events", {}, key=key, headers={"Origin": PAGE})

    assert taken.json()["accepted"] == 1
    assert tracked.json()["accepted"] == 1
    assert (wrong.status_code, _allowed(wrong.headers)) == (422, PAGE)
    assert _allowed(taken.headers) == _allowed(tracked.headers) == PAGE
    assert "access-control-allow-credentials" not in taken.headers


@pytest.mark.parametrize("headers", [{}, {"Origin": OTHER}, {"Origin": "https://other.example.com"}])
def test_a_publishable_key_is_for_pages_of_its_origins(world: World, client: Client, headers: dict[str, str]) -> None:
    """Also where another key is for that origin."""
    key = world.key("shop", origins=[PAGE])
    world.key("blog", origins=["https://other.example.com"])

    answer = client.post("/v1/events", {"events": [event()]}, key=key, headers=headers)

    assert answer.status_code == 403
    assert f"expected the origin {PAGE}" in answer.json()["detail"]


def test_a_page_is_told_nothing_of_a_customer(world: World, client: Client) -> None:
    """A decision in the answer would tell whoever sends an event for somebody what is known of them."""
    key = world.key("shop", origins=[PAGE])

    asked = {"events": [event("asked", customer_id="c-asked")]}
    answer = client.post("/v1/events?decide=true", asked, key=key, headers={"Origin": PAGE})

    assert answer.status_code == 403
    assert client.get("/v1/customers/c-asked/journey").status_code == 404


# ---- rights


def _track(message_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": message_id,
        "userId": "c-1",
        "event": "Page Viewed",
        "properties": {"page": "card"},
    } | changes


def _told(event_id: str, kind: str, **facts: Any) -> dict[str, Any]:
    return event(event_id, kind=kind, channel=None, facts=facts)


EVENTS = {
    "link": _told("link", "identity_linked", alias="cookie-1"),
    "unlink": _told("unlink", "identity_unlinked", alias="cookie-1"),
    "consent": _told("consent", "consent_changed", consent="email", state="granted"),
    "profile": _told("profile", "profile_updated", open_complaint=True),
    "outcome": _told("outcome", "outcome_observed", outcome_id="progress_7d", value=1.0),
    "exposure": _told("exposure", "action_exposed", action_id="nudge_documents"),
    "override": _told("override", "decision_overridden", decision_id="d-1"),
    "operation": _told("operation", "identity_verified"),
    "activity": _told("activity", "app_opened"),
}


@pytest.mark.parametrize(
    ("roles", "more", "refused"),
    [
        (("caller",), {}, set()),
        (("agent",), {}, set()),
        (("marketer",), {}, {"link", "unlink"}),
        (("marketer",), {"rights": ["link"]}, set()),
        ((), {"origins": [PAGE]}, set(EVENTS) - {"activity"}),
        ((), {"origins": [PAGE], "rights": ["link"]}, set(EVENTS) - {"activity", "link", "unlink"}),
        ((), {"origins": [PAGE], "rights": ["profile", "consent"]}, set(EVENTS) - {"activity", "consent", "profile"}),
        ((), {"origins": [PAGE], "rights": ["company"]}, {"link", "unlink", "consent", "profile"}),
    ],
)
def test_what_events_may_say(
    world: World, client: Client, roles: tuple[str, ...], more: dict[str, Any], refused: set[str]
) -> None:
    """What a customer did always; everything else by a right, of the roles or of the key itself."""
    key = world.key(f"events-{world.chance}", *roles, **more)

    answer = client.post("/v1/events", {"events": list(EVENTS.values())}, key=key, headers={"Origin": PAGE})

    names = list(EVENTS)
    body = answer.json()
    assert {names[one["index"]] for one in body["rejections"]} == refused
    assert body["accepted"] == len(EVENTS) - len(refused)
    assert {(error["pointer"], error["expected"]) for one in body["rejections"] for error in one["errors"]} == {
        (f"/events/{names.index(name)}/kind", "a kind that this sender may send") for name in refused
    }


IDENTIFY = {
    "type": "identify",
    "messageId": "m-2",
    "userId": "c-1",
    "anonymousId": "cookie-1",
    "traits": {"open_complaint": True},
}
EXPOSED = _track("m-3", event="Action Exposed", properties={"decision_id": "d-00000000000000000000000000000000"})
ALIAS = {"type": "alias", "messageId": "m-4", "userId": "c-1", "previousId": "cookie-2"}


@pytest.mark.parametrize(
    ("roles", "more", "kept", "dropped"),
    [
        (("marketer",), {}, ["page_viewed", "profile_updated"], ["/batch/1/anonymousId", "/batch/3/previousId"]),
        (("caller",), {}, ["identity_linked"] * 2 + ["page_viewed", "profile_updated"], []),
        (
            (),
            {"origins": [PAGE]},
            ["page_viewed"],
            ["/batch/1", "/batch/1/anonymousId", "/batch/2", "/batch/3/previousId"],
        ),
    ],
)
def test_what_calls_of_sdks_may_say(
    tmp_path: Path, roles: tuple[str, ...], more: dict[str, Any], kept: list[str], dropped: list[str]
) -> None:
    """What the key may not say is dropped and told, the rest of the call is kept: an SDK sends both at once."""
    world = World(tmp_path)
    key = world.key("shop", *roles, **more)
    batch = {"batch": [_track("m-1"), IDENTIFY, EXPOSED, ALIAS]}

    with world.client() as client:
        answer = client.post("/v1/batch", batch, key=key, headers={"Origin": PAGE}).json()
        journey = client.get("/v1/customers/c-1/journey").json()

    told = sorted(one["pointer"] for one in answer["drops"] if one["reason"] == "not_allowed")
    assert told == dropped
    assert sorted(one.event.kind for page in world.log.read() for one in page) == kept
    assert journey["linked_ids"] == (["cookie-1", "cookie-2"] if "identity_linked" in kept else [])
