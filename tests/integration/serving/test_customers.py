"""``GET /v1/customers/{id}/journey`` and ``/context``: what is told of a customer, to whom, and what is masked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.events import dump_timestamp
from models.configuration import built_in_configuration
from models.experiment import arm_of
from tests.doors import HOUR_US, JOURNEY, NOW, Client, World, event

SMALL = 4_096
"""A context is to travel with a conversation."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _lived(client: Client, customer_id: str = "c-1") -> None:
    """A customer who applied three days ago, said who they are, and may be contacted by e-mail."""
    profile = {"open_complaint": False, "email_hash": "secret", "holding:current_account": True}
    granted = {"consent": "email", "state": "granted"}
    batch = [
        event(f"applied-{customer_id}", hours_ago=72, customer_id=customer_id),
        event(
            f"seen-{customer_id}",
            hours_ago=71,
            customer_id=customer_id,
            kind="page_viewed",
            facts={"page": "documents"},
        ),
        event(
            f"known-{customer_id}",
            hours_ago=71.5,
            customer_id=customer_id,
            kind="profile_updated",
            channel=None,
            facts=profile,
        ),
        event(
            f"yes-{customer_id}",
            hours_ago=70,
            customer_id=customer_id,
            kind="consent_changed",
            channel=None,
            facts=granted,
        ),
    ]
    answer = client.post("/v1/events", {"events": batch}).json()
    assert answer["accepted"] == 4, answer


def _journey(client: Client, customer_id: str = "c-1", query: str = "", **key: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/customers/{customer_id}/journey{query}", **key)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _context(client: Client, customer_id: str = "c-1", query: str = "") -> dict[str, Any]:
    answer = client.get(f"/v1/customers/{customer_id}/context{query}")
    assert answer.status_code == 200, answer.text
    assert len(answer.content) < SMALL
    body: dict[str, Any] = answer.json()
    return body


# ---- the timeline


def test_a_timeline_tells_everything_newest_first(client: Client, world: World) -> None:
    """Events with their facts, the decision with what it selected, its exposure, and what came of it."""
    _lived(client)
    decision = client.post("/v1/decisions", {"customer_id": "c-1", "activate": False}).json()
    assert decision["selected"] != []
    world.now += HOUR_US
    returned = [
        {"type": "exposure", "decision_id": decision["decision_id"], "occurred_at": dump_timestamp(NOW + 10_000_000)},
        {
            "type": "outcome",
            "decision_id": decision["decision_id"],
            "outcome_id": "progress_7d",
            "value": 1,
            "occurred_at": dump_timestamp(NOW + 20_000_000),
        },
    ]
    client.post("/v1/outcomes", {"outcomes": returned})

    told = _journey(client)

    timeline = told["timeline"]
    assert [one["type"] for one in timeline] == ["outcome", "exposure", "decision", *["event"] * 4]
    assert [one["kind"] for one in timeline[3:]] == [
        *("consent_changed", "page_viewed", "profile_updated", "application_submitted"),
    ]
    made = timeline[2]
    assert made["decision"]["decision_id"] == decision["decision_id"]
    assert [one["action_id"] for one in made["decision"]["selected"]] == [decision["selected"][0]["action_id"]]
    assert {one["outcome_id"]: one["status"] for one in made["outcomes"]}["progress_7d"] == "yes"
    assert timeline[4]["facts"] == {"page": "documents"}
    assert (timeline[4]["channel"], timeline[4]["title"]) == ("web", "Viewed a page about the card or the application")
    assert told["next_cursor"] is None


def test_the_standing_is_that_of_a_decision_now(client: Client) -> None:
    """Stage, state and how long, as the next decision will see them."""
    _lived(client)
    decision = client.post("/v1/decisions", {"customer_id": "c-1", "mode": "shadow"}).json()

    (standing,) = _journey(client)["standings"]

    assert (standing["journey_id"], standing["status"]) == (JOURNEY, "open")
    for name in ("stage", "state", "stall_propensity", "horizon_days", "abandon_probability"):
        assert standing[name] == decision["journey"][name]
    assert standing["since"] == dump_timestamp(NOW - 72 * HOUR_US)
    assert standing["dwell_hours"] == pytest.approx(72)
    assert standing["stall_state"] == "DOCUMENTS_MISSING"


@pytest.mark.parametrize(
    ("role", "is_masked"), [("agent", True), ("marketer", True), ("analyst", True), ("privacy", False)]
)
def test_personal_facts_are_masked(client: Client, world: World, role: str, is_masked: bool) -> None:
    """For everybody but privacy and admin, in the events and in the profile; their names are told."""
    _lived(client)

    told = _journey(client, key=world.key("desk", role))

    known = next(one for one in told["timeline"] if one["kind"] == "profile_updated")
    for part, hidden in ((known["facts"], known["masked"]), (told["profile"]["attributes"], told["profile"]["masked"])):
        assert ("email_hash" in part) is not is_masked
        assert hidden == (["email_hash"] if is_masked else [])
        assert part["open_complaint"] is False
    assert known["facts"]["holding:current_account"] is True
    assert told["profile"]["holdings"] == ["current_account"]
    assert told["profile"]["consents"] == {"email": "granted"}


def test_a_timeline_is_of_the_person(client: Client) -> None:
    """Under any of their ids, with what came under each."""
    _lived(client)
    viewed = event("cookie", hours_ago=80, customer_id="cookie-1", kind="page_viewed", facts={"page": "card"})
    client.post("/v1/events", {"events": [viewed]})
    client.post("/v1/identities/link", {"alias": "cookie-1", "customer_id": "c-1"})

    told, same = _journey(client), _journey(client, "cookie-1")

    assert (told["customer_id"], told["linked_ids"]) == ("c-1", ["cookie-1"])
    assert told["timeline"][-1]["customer_id"] == "cookie-1"
    assert told == same


def test_pages_go_on_where_the_last_one_ended(client: Client, world: World) -> None:
    """Events and decisions alike, each once, whatever comes in meanwhile."""
    _lived(client)
    for _ in range(3):
        client.post("/v1/decisions", {"customer_id": "c-1", "mode": "shadow"})
    whole = _journey(client)["timeline"]

    page = _journey(client, query="?limit=2")
    told = page["timeline"]
    while page["next_cursor"] is not None:
        world.now += HOUR_US
        client.post("/v1/events", {"events": [event(f"new-{len(told)}", hours_ago=0, kind="app_opened", facts={})]})
        page = _journey(client, query=f"?limit=2&cursor={page['next_cursor']}")
        told += page["timeline"]

    assert told == whole
    assert len(told) == 7


def test_a_timeline_since_a_moment(client: Client) -> None:
    """Only what happened from there on."""
    _lived(client)

    told = _journey(client, query=f"?since={dump_timestamp(NOW - 71 * HOUR_US)}")

    assert [one["kind"] for one in told["timeline"]] == ["consent_changed", "page_viewed"]
    assert _journey(client, query=f"?since={dump_timestamp(NOW)}")["timeline"] == []


@pytest.mark.parametrize("path", ["journey", "context"])
@pytest.mark.parametrize("customer_id", ["nobody", "x" * 201, "a%00b", "%F0%9F%92%A9"])
def test_an_unknown_customer_is_not_found(client: Client, path: str, customer_id: str) -> None:
    """404, whatever the id looks like."""
    answer = client.get(f"/v1/customers/{customer_id}/{path}")

    assert (answer.status_code, answer.json()["type"]) == (404, "/docs/problems/not-found")


@pytest.mark.parametrize(
    ("path", "pointers"),
    [
        ("journey?since=1&limit=501&cursor=x&colour=red", ["/?colour", "/?since", "/?limit", "/?cursor"]),
        ("context?journey_id=loan&channel=fax&direction=up", ["/?journey_id", "/?channel", "/?direction"]),
    ],
)
def test_every_bad_parameter_is_named(client: Client, path: str, pointers: list[str]) -> None:
    """All of them at once."""
    _lived(client)

    answer = client.get(f"/v1/customers/c-1/{path}")

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


@pytest.mark.parametrize(
    ("role", "statuses"),
    [
        ("caller", (403, 200)),
        ("agent", (200, 200)),
        ("marketer", (200, 200)),
        ("analyst", (200, 403)),
        ("privacy", (200, 403)),
    ],
)
def test_roles(client: Client, world: World, role: str, statuses: tuple[int, int]) -> None:
    """Systems get the context, people the timeline."""
    _lived(client)
    key = world.key("desk", role)

    answers = tuple(client.get(f"/v1/customers/c-1/{path}", key=key).status_code for path in ("journey", "context"))

    assert answers == statuses


# ---- the context


def test_a_context_is_a_customer_in_short(client: Client, world: World) -> None:
    """Standing, last events, contacts, consents, holdings, and what a decision would choose; nothing personal."""
    _lived(client)
    decision = client.post("/v1/decisions", {"customer_id": "c-1"}).json()
    contacted = world.records.customer("c-1", since=0, now=NOW).contacts

    told = _context(client)

    assert [one["kind"] for one in told["last_events"]] == ["page_viewed", "application_submitted"]
    assert told["events_total"] == 2
    assert told["contacts"] == {decision["ranked_actions"][0]["channel"]: len(contacted)}
    assert told["consents"] == {"email": "granted"}
    assert (told["open_complaint"], told["nps_last"]) == (False, None)
    assert told["holdings"] == ["current_account"]
    assert "secret" not in str(told)
    assert "email_hash" not in told["attributes"]
    assert told["standings"][0]["state"] == decision["journey"]["state"]
    assert told["degraded"] == ["model_missing"]


def test_a_context_says_what_to_do_and_records_nothing(client: Client, world: World) -> None:
    """With the words for it; the log of decisions stays as it was."""
    _lived(client)

    best = [_context(client)["next_best_action"] for _ in range(5)]

    chosen = next(one for one in best if one is not None)
    asked = {"customer_id": "c-1", "mode": "dry_run"}
    ranked = client.post("/v1/decisions", asked).json()["ranked_actions"]
    same = next(one for one in ranked if one["treatment_id"] == chosen["treatment_id"])
    for name in ("action_id", "channel", "net_value", "reasons", "talking_points"):
        assert chosen[name] == same[name]
    assert chosen["journey_id"] == JOURNEY
    assert world.records.customer("c-1", since=0, now=NOW).contacts == ()
    assert list(world.records.read()) == []


def test_the_holdout_is_advised_nothing(client: Client) -> None:
    """Whoever reads the context must not contact them either."""
    experiment = built_in_configuration().policy.experiment
    held = next(f"c-{n}" for n in range(1_000) if arm_of(f"c-{n}", experiment) == "no_contact_holdout")
    _lived(client, held)

    told = _context(client, held)

    assert (told["next_best_action"], told["held_out"]) == (None, True)


def test_a_context_on_one_channel(client: Client) -> None:
    """For who is here now, on that channel."""
    _lived(client)

    told = _context(client, query=f"?journey_id={JOURNEY}&channel=call&direction=inbound")

    assert told["next_best_action"] is None or told["next_best_action"]["channel"] == "call"
    assert [one["journey_id"] for one in told["standings"]] == [JOURNEY]
