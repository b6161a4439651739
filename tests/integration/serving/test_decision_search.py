"""``GET /v1/decisions``: what is found, by whom, page by page; and that no search looks at more than its share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.events import dump_timestamp
from models.decision import DecisionRecord
from models.ids import decision_id
from serving.decision_search import LOOKED_AT_MOST
from tests import decision_records
from tests.doors import HOUR_US, NOW, Client, World, event

PATH = "/v1/decisions"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _kept(world: World, number: int, *, hours_ago: float = 1.0, **changes: Any) -> DecisionRecord:
    """A recorded decision of the source ``crm``."""
    at = NOW - int(hours_ago * HOUR_US)
    new_id = decision_id(at=at, customer_id="c-1", randomness=number.to_bytes(9, "big"))
    fields = {"decision_id": new_id, "decided_at": at, "as_of": at, "customer_id": "c-1"}
    kept = decision_records.record(number, **(fields | changes))
    world.records.append_imported([kept])
    return kept


def _found(client: Client, query: str, key: str | None = None) -> list[str]:
    answer = client.get(f"{PATH}?{query}", **({} if key is None else {"key": key}))
    assert answer.status_code == 200, answer.text
    return [one["request_id"] for one in answer.json()["decisions"]]


def test_a_decision_is_found_as_it_was_answered(client: Client) -> None:
    """In short: who, when, where they stood, and what was chosen."""
    client.post("/v1/events", {"events": [event(hours_ago=72)]})
    answer = client.post("/v1/decisions", {"customer_id": "c-1", "request_id": "r-1"}).json()

    page = client.get(PATH).json()

    (found,) = page["decisions"]
    assert found["decision_id"] == answer["decision_id"]
    assert (found["stage"], found["arm"], found["mode"]) == ("applied", answer["experiment"]["arm"], "live")
    assert [one["action_id"] for one in found["selected"]] == [one["action_id"] for one in answer["selected"]]
    assert found["degraded"] == ["model_missing"]
    assert (page["looked_at"], page["next_cursor"]) == (1, None)


def test_everybody_is_searched_over_a_day_unless_told(client: Client, world: World) -> None:
    """The answer says how far back it looked."""
    for number, hours_ago in enumerate((1, 23, 25)):
        _kept(world, number, hours_ago=hours_ago)

    assert _found(client, "") == ["r-0", "r-1"]
    assert client.get(PATH).json()["since"] == dump_timestamp(NOW - 24 * HOUR_US)
    assert _found(client, f"since={dump_timestamp(NOW - 30 * HOUR_US)}") == ["r-0", "r-1", "r-2"]
    assert _found(client, f"until={dump_timestamp(NOW - 2 * HOUR_US)}") == ["r-1", "r-2"]


def test_a_person_is_searched_over_all_time_under_any_id(client: Client, world: World) -> None:
    """Linked ids are the person's, from before the link too."""
    _kept(world, 1, hours_ago=9_000)
    _kept(world, 2, hours_ago=5, customer_id="cookie-1")
    _kept(world, 3, hours_ago=2, customer_id="c-2")
    client.post("/v1/identities/link", {"alias": "cookie-1", "customer_id": "c-1"})

    assert _found(client, "customer_id=c-1") == ["r-2", "r-1"]
    assert _found(client, "customer_id=cookie-1") == ["r-2", "r-1"]
    assert client.get(f"{PATH}?customer_id=c-1").json()["since"] is None
    assert _found(client, "customer_id=nobody") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("action_id=nudge", ["r-1", "r-3", "r-4"]),
        ("action_id=no_action", ["r-2"]),
        ("arm=random_eligible", ["r-3"]),
        ("mode=shadow", ["r-2"]),
        ("journey_id=loan", ["r-3"]),
        ("degraded=true", ["r-4"]),
        ("degraded=false&mode=live", ["r-1", "r-3"]),
        ("request_id=r-3", ["r-3"]),
        ("request_id=r-3&source=crm", ["r-3"]),
        ("request_id=r-3&source=crm&mode=shadow", []),
        ("source=web", ["r-4"]),
        ("source=crm&arm=champion&action_id=nudge", ["r-1"]),
    ],
)
def test_decisions_are_found_by_what_they_are(client: Client, world: World, query: str, expected: list[str]) -> None:
    """Every filter, alone and together."""
    _kept(world, 1, hours_ago=1)
    _kept(world, 2, hours_ago=2, mode="shadow", selected=())
    _kept(world, 3, hours_ago=3, arm="random_eligible", journey_id="loan")
    _kept(world, 4, hours_ago=4, source="web", degraded=("model_missing",))

    assert _found(client, query) == expected


def test_a_request_is_found_at_any_time(client: Client, world: World) -> None:
    """By its source and id no day needs to be named."""
    _kept(world, 1, hours_ago=9_000)

    assert _found(client, "request_id=r-1&source=crm") == ["r-1"]
    assert _found(client, "request_id=r-1") == []


def test_a_key_finds_the_decisions_of_its_own_source(client: Client, world: World) -> None:
    """Analysts find all; others may not even ask for another's."""
    for number, source in enumerate(("crm", "web")):
        _kept(world, number, source=source)
    crm, analyst = world.key("crm", "caller"), world.key("bi", "analyst")

    assert _found(client, "", crm) == ["r-0"]
    assert _found(client, "source=crm", crm) == ["r-0"]
    assert _found(client, "", analyst) == ["r-1", "r-0"]
    refused = client.get(f"{PATH}?source=web", key=crm)
    assert (refused.status_code, refused.json()["type"]) == (403, "/docs/problems/forbidden")


def test_pages_go_on_where_the_last_one_ended(client: Client, world: World) -> None:
    """Each decision once, whatever is decided meanwhile."""
    for number in range(5):
        _kept(world, number, hours_ago=1 + number)

    page = client.get(f"{PATH}?limit=2").json()
    told = [one["request_id"] for one in page["decisions"]]
    while page["next_cursor"] is not None:
        _kept(world, 100 + len(told), hours_ago=0.5)
        world.now += HOUR_US
        page = client.get(f"{PATH}?limit=2&cursor={page['next_cursor']}").json()
        told += [one["request_id"] for one in page["decisions"]]

    assert told == [f"r-{number}" for number in range(5)]


def test_a_rare_decision_is_found_over_several_pages(client: Client, world: World) -> None:
    """A page that looked at enough says where to go on, though it found nothing."""
    _kept(world, 0, hours_ago=3, arm="challenger")
    at = NOW - HOUR_US
    for number in range(1, LOOKED_AT_MOST + 201):
        _kept(world, number, hours_ago=1, decided_at=at, customer_id="c-1")

    first = client.get(f"{PATH}?arm=challenger").json()
    second = client.get(f"{PATH}?arm=challenger&cursor={first['next_cursor']}").json()

    assert (first["decisions"], first["looked_at"]) == ([], LOOKED_AT_MOST)
    assert [one["request_id"] for one in second["decisions"]] == ["r-0"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("since=yesterday&limit=0", ["/?since", "/?limit"]),
        ("since=1960-01-01T00:00:00Z", ["/?since"]),
        ("limit=201", ["/?limit"]),
        ("limit=9999999999", ["/?limit"]),
        ("arm=legs&mode=dry_run&degraded=maybe", ["/?arm", "/?mode", "/?degraded"]),
        ("colour=red&limit=1&limit=2", ["/?colour", "/?limit"]),
        ("cursor=nonsense", ["/?cursor"]),
        ("cursor=%C3%A9", ["/?cursor"]),
        ("customer_id=", ["/?customer_id"]),
        ("since=2026-03-01T00:00:00Z&until=2026-02-01T00:00:00Z", ["/?since"]),
    ],
)
def test_every_bad_parameter_is_named(client: Client, query: str, pointers: list[str]) -> None:
    """All of them at once."""
    answer = client.get(f"{PATH}?{query}")

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


def test_a_cursor_belongs_to_its_query(client: Client, world: World) -> None:
    """With other filters it would leave out or repeat."""
    for number in range(3):
        _kept(world, number, hours_ago=1 + number)
    cursor = client.get(f"{PATH}?limit=1").json()["next_cursor"]

    answer = client.get(f"{PATH}?limit=1&arm=champion&cursor={cursor}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["expected"] == "the next_cursor of an answer to the same query"
