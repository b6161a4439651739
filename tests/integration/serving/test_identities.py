"""Links over HTTP: anonymous then known, wrong and taken back, looked up; every answer as the API describes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.errors import StoreUnavailable
from features.events import dump_timestamp
from features.store import MemoryStore
from models.configuration import built_in_configuration
from models.experiment import arm_of
from tests.doors import HOUR_US, JOURNEY, NOW, Client, World, event


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _viewed(event_id: str, hours_ago: float, customer_id: str = "cookie-1", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": "page_viewed", "facts": {"page": "card"}, "customer_id": customer_id}
    return event(event_id, hours_ago=hours_ago, **(fields | changes))


def _sent(client: Client, *events: dict[str, Any]) -> None:
    answer = client.post("/v1/events", {"events": list(events)})
    assert answer.json()["accepted"] == len(events), answer.text


def _link(client: Client, alias: str = "cookie-1", customer_id: str = "c-1", **more: str) -> dict[str, Any]:
    answer = client.post("/v1/identities/link", {"alias": alias, "customer_id": customer_id, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _unlink(client: Client, alias: str = "cookie-1", customer_id: str = "c-1", **more: str) -> dict[str, Any]:
    answer = client.post("/v1/identities/unlink", {"alias": alias, "customer_id": customer_id, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _decided(client: Client, world: World, customer_id: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer for a customer, and its record."""
    world.now += 1_000
    question = {"customer_id": customer_id, "journey_id": JOURNEY, "mode": "shadow"} | changes
    answer = client.post("/v1/decisions", question)
    assert answer.status_code == 200, answer.text
    stored = client.get(f"/v1/decisions/{answer.json()['decision_id']}").json()
    return answer.json(), stored["record"]


def test_an_anonymous_history_becomes_the_persons(client: Client, world: World) -> None:
    """Before the link the cookie is somebody of its own; after it either id is the person with both histories."""
    _sent(client, _viewed("v-1", 5), _viewed("v-2", 4), event("applied", hours_ago=3))
    _, before = _decided(client, world, "cookie-1")

    linked = _link(client)
    answer, after = _decided(client, world, "cookie-1")
    _, same = _decided(client, world, "c-1")

    assert linked == {"customer_id": "c-1", "linked_ids": ["cookie-1"], "status": "accepted", "degraded": []}
    assert (before["customer_id"], before["features"]["events_total"]) == ("cookie-1", 2.0)
    assert (after["customer_id"], after["linked_ids"]) == ("c-1", ["cookie-1"])
    assert after["features"]["events_total"] == same["features"]["events_total"] == 3.0
    assert answer["customer_id"] == "cookie-1"
    assert answer["degraded"] == ["model_missing"]


def test_a_wrong_link_is_taken_back(client: Client, world: World) -> None:
    """After the unlink both are who they were, and say so without being rebuilt at the decision."""
    _sent(client, _viewed("v-1", 5), event("applied", hours_ago=3))
    _link(client)

    taken_back = _unlink(client)
    answers = [_decided(client, world, one) for one in ("cookie-1", "c-1")]

    assert (taken_back["customer_id"], taken_back["linked_ids"]) == ("c-1", [])
    assert [record["features"]["events_total"] for _, record in answers] == [1.0, 1.0]
    assert [answer["degraded"] for answer, _ in answers] == [["model_missing"], ["model_missing"]]


def test_a_link_that_ended_keeps_the_past(client: Client, world: World) -> None:
    """With a moment, the alias's events up to it stay the person's."""
    _sent(client, _viewed("v-1", 5), _viewed("v-2", 1), event("applied", hours_ago=3))
    _link(client)

    _unlink(client, valid_until=dump_timestamp(NOW - 2 * HOUR_US))

    totals = [_decided(client, world, one)[1]["features"]["events_total"] for one in ("cookie-1", "c-1")]
    assert totals == [1.0, 2.0]


def test_the_past_is_decided_by_what_was_known_then(client: Client, world: World) -> None:
    """As of a moment before the link the cookie is still anonymous."""
    _sent(client, _viewed("v-1", 5), event("applied", hours_ago=3))
    world.now += HOUR_US
    _link(client)
    world.now += HOUR_US
    question = {"customer_id": "cookie-1", "mode": "dry_run", "require_known": True}

    before, after = (
        client.post("/v1/decisions", {**question, "as_of": dump_timestamp(at)}).json()
        for at in (NOW + HOUR_US, NOW + HOUR_US + 1)
    )

    assert (before["journey"]["stage"], after["journey"]["stage"]) == (None, "applied")


def test_a_link_said_again_changes_nothing(client: Client, world: World) -> None:
    """Neither with the same event id nor without one; the log keeps it once."""
    first = _link(client, event_id="login-7")
    again = _link(client, event_id="login-7")
    anew = _link(client)

    assert [one["status"] for one in (first, again, anew)] == ["accepted", "duplicate", "duplicate"]
    assert world.log.head() == 1


def test_what_is_said_last_counts_whatever_the_clock_does(client: Client, world: World) -> None:
    """A link after an unlink holds though the clock stands still, or has stepped back an hour."""
    _link(client)
    _unlink(client)
    again = _link(client)
    world.now -= HOUR_US
    taken_back = _unlink(client)
    at_last = _link(client)

    assert [one["status"] for one in (again, taken_back, at_last)] == ["accepted"] * 3
    assert [one["linked_ids"] for one in (again, taken_back, at_last)] == [["cookie-1"], [], ["cookie-1"]]


def test_an_unlink_that_overtakes_its_link_counts(client: Client) -> None:
    """It is kept though there is nothing to take back yet: the order is that of the events, not of their arrival."""
    first, again = _unlink(client), _unlink(client)

    linked = _link(client, occurred_at=dump_timestamp(NOW - HOUR_US))

    assert [one["status"] for one in (first, again, linked)] == ["accepted", "duplicate", "accepted"]
    assert linked["linked_ids"] == []


def test_links_come_as_events_too(client: Client, world: World) -> None:
    """In a batch of events they do the same as through their own call."""
    linked = event("l-1", kind="identity_linked", channel=None, facts={"alias": "cookie-1"})
    _sent(client, _viewed("v-1", 5), event("applied", hours_ago=3), linked)

    assert _decided(client, world, "cookie-1")[1]["features"]["events_total"] == 2.0


@pytest.mark.parametrize(
    ("body", "pointer", "expected"),
    [
        ({"customer_id": "c-1"}, "/alias", "a value: the field is required"),
        (
            {"alias": "c-1", "customer_id": "c-1"},
            "/alias",
            "another id than customer_id: nobody is an alias of themselves",
        ),
        (
            {"alias": "a", "customer_id": "c-1", "valid_from": "today"},
            "/valid_from",
            "an ISO 8601 timestamp with an offset",
        ),
        (
            {"alias": "a", "customer_id": "c-1", "valid_until": "x"},
            "/valid_until",
            "one of alias, customer_id, valid_from",
        ),
        ({"alias": "c-2", "customer_id": "c-3"}, "/customer_id", "a customer who is not linked to 'c-2' already"),
        (
            {"alias": "a", "customer_id": "c-1", "occurred_at": "2027-01-01T00:00:00Z"},
            "/occurred_at",
            "a time not after",
        ),
    ],
)
def test_bad_links_are_refused_by_field(client: Client, body: dict[str, str], pointer: str, expected: str) -> None:
    """The field, its value and what was expected; nothing is kept."""
    _link(client, alias="c-3", customer_id="c-2")

    answer = client.post("/v1/identities/link", body)

    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert [error["pointer"] for error in errors] == [pointer]
    assert errors[0]["expected"].startswith(expected)


def test_contacts_and_objections_of_every_id_count(client: Client, world: World) -> None:
    """Whoever objected as a visitor is left alone as a customer, from the next decision on."""
    _sent(client, event("applied", hours_ago=72))
    for channel in ("sms", "email"):
        granted = {"consent": channel, "state": "granted"}
        _sent(client, event(f"c-{channel}", hours_ago=72, kind="consent_changed", channel=None, facts=granted))
    objected = {"consent": "marketing", "state": "objected"}
    _sent(client, event("o", hours_ago=5, customer_id="cookie-1", kind="consent_changed", channel=None, facts=objected))
    _, before = _decided(client, world, "c-1")

    _link(client)
    answer, after = _decided(client, world, "c-1")

    assert "marketing" not in before["consents"]
    assert after["consents"] == {"email": "granted", "marketing": "objected", "sms": "granted"}
    assert "contact.objection" in {one["rule_id"] for one in answer["dropped"]}


def test_one_id_in_the_holdout_keeps_the_person_there(client: Client, world: World) -> None:
    """And the recorded probability of that is the one that two ids make."""
    experiment = built_in_configuration().policy.experiment
    held = next(f"x-{i}" for i in range(10_000) if arm_of(f"x-{i}", experiment) == "no_contact_holdout")
    free = next(f"x-{i}" for i in range(10_000) if arm_of(f"x-{i}", experiment) == "champion")
    _sent(client, event("a", customer_id=free))
    _link(client, alias=held, customer_id=free)

    answer, record = _decided(client, world, free)

    assert answer["experiment"]["holdout"]
    assert record["customer_id"] == free
    chance = experiment.no_contact_holdout
    assert record["arm_probabilities"]["no_contact_holdout"] == pytest.approx(1 - (1 - chance) ** 2)
    assert sum(record["arm_probabilities"].values()) == pytest.approx(1)


def test_outcomes_of_an_alias_count_for_the_person(client: Client, world: World) -> None:
    """What comes back for a decision made on the anonymous visitor is the person's."""
    _sent(client, _viewed("v-1", 5))
    answer, _ = _decided(client, world, "cookie-1", mode="live")
    _link(client)
    outcome = {"type": "outcome", "decision_id": answer["decision_id"], "outcome_id": "progress_7d", "value": 1}
    outcomes = client.post("/v1/outcomes", {"outcomes": [outcome | {"occurred_at": dump_timestamp(NOW)}]})
    assert outcomes.json()["accepted"] == 1, outcomes.text

    assert _decided(client, world, "c-1")[1]["features"]["count_outcome_observed"] == 1.0


def test_people_are_found_by_their_identifier(client: Client, world: World) -> None:
    """Under the canonical id, by the value that holds now; nobody is an empty list."""
    told = {"kind": "profile_updated", "channel": None}
    _sent(client, event("p-1", hours_ago=5, customer_id="cookie-1", facts={"email_hash": "h1"}, **told))
    _sent(client, event("p-2", hours_ago=4, customer_id="c-2", facts={"email_hash": "h1"}, **told))
    _sent(client, event("p-3", hours_ago=3, customer_id="c-2", facts={"email_hash": "h2"}, **told))
    _link(client)

    found = [client.get(f"/v1/lookup?name=email_hash&value={value}").json() for value in ("h1", "h2", "h3")]

    assert [one["matches"] for one in found] == [
        [{"customer_id": "c-1", "linked_ids": ["cookie-1"]}],
        [{"customer_id": "c-2", "linked_ids": []}],
        [],
    ]


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("name=credit_score&value=1", ["/?name"]),
        ("name=email_hash", ["/?value"]),
        ("name=email_hash&value=h&value=i", ["/?value"]),
        ("name=email_hash&value=h&page=2", ["/?page"]),
    ],
)
def test_bad_lookups_are_refused(client: Client, query: str, pointers: list[str]) -> None:
    """An attribute that is no identifier, a missing, repeated or unknown parameter."""
    answer = client.get(f"/v1/lookup?{query}")

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


def test_only_some_roles_link_and_look_up(client: Client, world: World) -> None:
    """An analyst may not tell who is who."""
    analyst, agent = world.key("bi", "analyst"), world.key("desk", "agent")
    body = {"alias": "a", "customer_id": "b"}

    assert client.post("/v1/identities/link", body, key=analyst).status_code == 403
    assert client.get("/v1/lookup?name=email_hash&value=h", key=analyst).status_code == 403
    assert client.post("/v1/identities/link", body, key=agent).status_code == 200
    assert client.get("/v1/lookup?name=email_hash&value=h", key=agent).status_code == 200


class _Cut(MemoryStore):
    """A feature store that fails while it is cut off."""

    is_cut = False

    def write(self, states: Any, profiles: Any) -> None:
        """Write, unless cut off."""
        if self.is_cut:
            raise StoreUnavailable("cut off")
        super().write(states, profiles)


def test_a_link_that_was_cut_short_is_healed(tmp_path: Path) -> None:
    """The link is safe in the log and holds at once; saying it again, or the next event, writes the state."""
    store = _Cut()
    world = World(tmp_path, features=store)
    with world.client() as client:
        _sent(client, _viewed("v-1", 5), event("applied", hours_ago=3))
        store.is_cut = True
        cut = _link(client)
        still_cut = _link(client)
        answer, record = _decided(client, world, "c-1")
        store.is_cut = False
        again = _link(client)
        healed, _ = _decided(client, world, "c-1")

    assert (cut["status"], cut["degraded"]) == ("accepted", ["feature_store_unavailable"])
    assert (still_cut["status"], still_cut["degraded"]) == ("duplicate", ["feature_store_unavailable"])
    assert (record["features"]["events_total"], answer["degraded"]) == (2.0, ["features_rebuilt", "model_missing"])
    assert (again["status"], healed["degraded"]) == ("duplicate", ["model_missing"])
    assert store.read("cookie-1", JOURNEY).state is None
