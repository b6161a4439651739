"""``POST /v1/decisions/{id}/activate``: reserved contacts become counted ones, in time, once, and under the limits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from features.events import dump_timestamp
from models.configuration import built_in_configuration
from models.experiment import arm_of
from models.record_store import SqlRecordStore
from models.records import Contact
from serving.settings import Settings
from tests.doors import BOOTSTRAP, HOUR_US, NOW, Client, World, event


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _granted(channel: str, customer_id: str) -> dict[str, Any]:
    facts = {"consent": channel, "state": "granted"}
    changes: dict[str, Any] = {"kind": "consent_changed", "channel": None, "facts": facts}
    return event(f"{channel}-{customer_id}", hours_ago=72, customer_id=customer_id, **changes)


def _reserved(client: Client, customer_id: str = "c-1", **changes: Any) -> dict[str, Any]:
    """A decision for a stalled customer who may be contacted; its contact is only reserved."""
    applied = event(f"applied-{customer_id}", hours_ago=72, customer_id=customer_id)
    client.post("/v1/events", {"events": [applied, *(_granted(name, customer_id) for name in ("sms", "email"))]})
    answer = client.post("/v1/decisions", {"customer_id": customer_id, "activate": False} | changes)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def _contacts(world: World, now: int | None = None) -> list[Contact]:
    return list(world.records.customer("c-1", since=0, now=world.now if now is None else now).contacts)


def _path(decision: dict[str, Any]) -> str:
    return f"/v1/decisions/{decision['decision_id']}/activate"


def test_a_reserved_contact_is_counted(client: Client, world: World) -> None:
    """From the activation on, and for good."""
    decision = _reserved(client)
    world.now += HOUR_US

    answer = client.post(_path(decision), {})

    assert answer.status_code == 200
    (contact,) = answer.json()["contacts"]
    selected = decision["selected"][0]
    assert (contact["slot"], contact["action_id"], contact["status"]) == (1, selected["action_id"], "confirmed")
    assert contact["at"] == dump_timestamp(world.now)
    assert contact["was_counted_before"] is False
    assert [(one.status, one.at) for one in _contacts(world, world.now + 100 * HOUR_US)] == [("confirmed", world.now)]


def test_no_body_means_all_of_it(client: Client, world: World) -> None:
    """The body is optional."""
    decision = _reserved(client)

    assert client.post(_path(decision), b"").status_code == 200
    assert [one.status for one in _contacts(world)] == ["confirmed"]


def test_an_activation_is_idempotent(client: Client, world: World) -> None:
    """Also once the reservation is over, and once the customer has objected: it happened."""
    decision = _reserved(client)
    first = client.post(_path(decision), {}).json()
    world.now += 100 * HOUR_US
    objection = {"consent": "marketing", "state": "objected"}
    client.post(
        "/v1/events", {"events": [event("no", kind="consent_changed", channel=None, facts=objection, hours_ago=0)]}
    )

    again = client.post(_path(decision), {}).json()

    assert [one | {"was_counted_before": True} for one in first["contacts"]] == again["contacts"]
    assert len(_contacts(world)) == 1


def test_a_decision_that_activated_itself_says_so(client: Client) -> None:
    """Outbound and active from the start: nothing is left to do."""
    decision = _reserved(client, activate=True)

    (contact,) = client.post(_path(decision), {}).json()["contacts"]

    assert contact["was_counted_before"] is True
    assert contact["at"] == decision["decided_at"]


def test_an_expired_reservation_is_over(client: Client, world: World) -> None:
    """410, and nothing is counted."""
    decision = _reserved(client)
    world.now += 24 * HOUR_US + 1

    answer = client.post(_path(decision), {})

    assert (answer.status_code, answer.json()["type"]) == (410, "/docs/problems/lease-ended")
    assert decision["expires_at"] in answer.json()["detail"]
    assert _contacts(world) == []


def test_a_later_decision_for_the_send_takes_the_place(client: Client) -> None:
    """One send is one contact: that of the newest question about it."""
    first = _reserved(client, send_id="s-1")
    asked = {"customer_id": "c-1", "activate": False, "send_id": "s-1"}
    later = [client.post("/v1/decisions", asked | {"max_actions": most}).json() for most in range(4, 8)]
    second = later[-1]
    assert second["selected"], "exploring, it chose no action: ask once more or less"

    assert client.post(_path(first), {}).status_code == 410
    assert client.post(_path(second), {}).status_code == 200


@pytest.mark.parametrize("name", ["action_id", "treatment_id", "slots"])
def test_one_contact_is_named(client: Client, name: str) -> None:
    """By action, treatment or slot."""
    decision = _reserved(client)
    first = decision["ranked_actions"][0]
    value = [1] if name == "slots" else first[name]

    assert client.post(_path(decision), {name: value}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"action_id": "free_car", "slots": [9, 1]}, ["/action_id", "/slots/0"]),
        ({"treatment_id": 1, "slots": "all"}, ["/treatment_id", "/slots"]),
        ({"slots": []}, ["/slots"]),
        ({"slots": [True]}, ["/slots"]),
        ({"slots": [10**30]}, ["/slots/0"]),
        ({"surprise": 1}, ["/surprise"]),
        ([], [""]),
    ],
)
def test_every_bad_field_is_named(client: Client, body: object, pointers: list[str]) -> None:
    """All of them at once, and nothing is counted."""
    answer = client.post(_path(_reserved(client)), body)

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


def test_only_live_decisions_reserve(client: Client) -> None:
    """A shadow decision contacts nobody."""
    answer = client.post(_path(_reserved(client, mode="shadow")), {})

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/not-activatable")
    assert "mode shadow" in answer.json()["detail"]


def test_the_holdout_is_never_activated(client: Client, world: World) -> None:
    """Nothing was selected, and the problem says why."""
    experiment = built_in_configuration().policy.experiment
    held = next(f"c-{n}" for n in range(1_000) if arm_of(f"c-{n}", experiment) == "no_contact_holdout")
    decision = _reserved(client, held)

    answer = client.post(_path(decision), {})

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/not-activatable")
    assert "holdout" in answer.json()["detail"]
    assert world.records.customer(held, since=0, now=NOW).contacts == ()


def test_who_turns_out_to_be_in_the_holdout_is_not_contacted(client: Client, world: World) -> None:
    """A link that came in after the decision: a person with any id in the holdout stays in it."""
    experiment = built_in_configuration().policy.experiment
    held = next(f"cookie-{n}" for n in range(1_000) if arm_of(f"cookie-{n}", experiment) == "no_contact_holdout")
    decision, counted = _reserved(client), _reserved(client, "c-2", activate=True)
    for alias, customer_id in ((held, "c-1"), (f"{held}x", "c-2")):
        client.post("/v1/identities/link", {"alias": alias, "customer_id": customer_id})

    answer = client.post(_path(decision), {})

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/not-activatable")
    assert "holdout" in answer.json()["detail"]
    assert [one.status for one in _contacts(world)] == ["lease"]
    assert counted["selected"] == [] or client.post(_path(counted), {}).status_code == 200


def test_no_action_is_not_activated(client: Client) -> None:
    """There is no contact to count."""
    decision = client.post("/v1/decisions", {"customer_id": "stranger", "activate": False}).json()

    assert "chose no action" in client.post(_path(decision), {}).json()["detail"]


def test_a_foreign_decision_is_not_found(client: Client, world: World) -> None:
    """As one that does not exist."""
    decision, key = _reserved(client), world.key("web", "caller")

    foreign, unknown = client.post(_path(decision), {}, key=key), client.post("/v1/decisions/d-9/activate", {}, key=key)

    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert [one.status for one in _contacts(world)] == ["lease"]


def test_an_objection_since_the_decision_is_obeyed(client: Client, world: World) -> None:
    """The reserved contact is not to be made."""
    decision = _reserved(client)
    objection = {"consent": "marketing", "state": "objected"}
    client.post(
        "/v1/events", {"events": [event("no", kind="consent_changed", channel=None, facts=objection, hours_ago=0)]}
    )

    answer = client.post(_path(decision), {})

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/not-activatable")
    assert "contact.objection" in answer.json()["detail"]
    assert [one.status for one in _contacts(world)] == ["lease"]


def test_a_limit_reached_since_the_decision_is_obeyed(client: Client, world: World) -> None:
    """Contacts that others made meanwhile count."""
    decision = _reserved(client)
    world.records.confirm_contacts(
        [Contact(f"d-{n}", "c-1", f"a-{n}", "case", NOW, "confirmed", NOW) for n in range(3)]
    )

    answer = client.post(_path(decision), {})

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/not-activatable")
    assert "cap.all_week" in answer.json()["detail"]


def test_many_activations_count_once(client: Client, world: World) -> None:
    """Retries that run at the same time."""
    decision = _reserved(client)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post(_path(decision), {}), range(16)))

    assert {answer.status_code for answer in answers} == {200}
    assert len(_contacts(world)) == 1


def test_no_number_of_callers_makes_more_contacts_than_allowed(tmp_path: Path) -> None:
    """Decisions, activations and retries of both, 32 at a time, over the store that serves: the weekly limit is 3."""
    records = SqlRecordStore(tmp_path / "records.db")
    world = World(tmp_path, records=records, settings=Settings(bootstrap_key=BOOTSTRAP, threads=32))
    with closing(records), world.client() as client:
        _reserved(client, mode="shadow")

        def render_and_send(number: int) -> list[int]:
            asked = {"customer_id": "c-1", "activate": number % 4 == 0, "request_id": f"r-{number % 24}"}
            decision = client.post("/v1/decisions", asked)
            path = f"/v1/decisions/{decision.json().get('decision_id', 'none')}/activate"
            return [decision.status_code, client.post(path, {}).status_code]

        with ThreadPoolExecutor(32) as pool:
            statuses = {status for pair in pool.map(render_and_send, range(64)) for status in pair}
        contacts = _contacts(world, world.now + HOUR_US)

    assert statuses <= {200, 404, 409}
    assert [one.status for one in contacts] == ["confirmed"] * 3
