"""The workforce over HTTP: told by callers, read back, obeyed by the next decision; and capacity in the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.policy import Capacity
from tests.doors import Client, World, event

QUEUE = "verification_desk"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _person(person_id: str = "p-1", **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"person_id": person_id, "queues": [QUEUE]}
    return fields | changes


def test_people_are_told_and_read_back(client: Client) -> None:
    """With defaults for what was left out, by id, and by queue."""
    results = {QUEUE: {"handled": 10, "succeeded": 4}}
    told = client.put(
        "/v1/workforce",
        {
            "persons": [
                _person("p-2", queues=["onboarding_desk"]),
                _person(skills=["dutch"], most_open=3, open_work=1, results=results),
            ]
        },
    )

    first = {
        "person_id": "p-1",
        "queues": [QUEUE],
        "skills": ["dutch"],
        "available": True,
        "most_open": 3,
        "open_work": 1,
        "results": results,
    }
    assert told.status_code == 200
    assert [one["person_id"] for one in told.json()["persons"]] == ["p-1", "p-2"]
    assert client.get(f"/v1/workforce?queue={QUEUE}").json() == {"persons": [first]}
    assert len(client.get("/v1/workforce").json()["persons"]) == 2


def test_telling_again_replaces_a_person_but_for_the_load(client: Client) -> None:
    """What is left out has its default; open work that is not told stays."""
    client.put("/v1/workforce", {"persons": [_person(skills=["dutch"], most_open=3, open_work=2)]})
    client.put("/v1/workforce", {"persons": [_person(available=False)]})

    (person,) = client.get("/v1/workforce").json()["persons"]
    assert (person["skills"], person["most_open"], person["open_work"], person["available"]) == ([], 1, 2, False)


@pytest.mark.parametrize(
    ("person", "pointer"),
    [
        ("p-1", "/persons/0"),
        ({"queues": [QUEUE]}, "/persons/0/person_id"),
        ({"person_id": "p-1"}, "/persons/0/queues"),
        (_person(queues=["dask"]), "/persons/0/queues/0"),
        (_person(most_open=-1), "/persons/0/most_open"),
        (_person(open_work="many"), "/persons/0/open_work"),
        (_person(available="yes"), "/persons/0/available"),
        (_person(mood="good"), "/persons/0/mood"),
        (_person(results=[]), "/persons/0/results"),
        (_person(results={"dask": {"handled": 1, "succeeded": 1}}), "/persons/0/results/dask"),
        (_person(results={QUEUE: 3}), f"/persons/0/results/{QUEUE}"),
        (_person(results={QUEUE: {"handled": 1, "succeeded": 2}}), f"/persons/0/results/{QUEUE}/succeeded"),
        (_person(results={QUEUE: {"handled": 1}}), f"/persons/0/results/{QUEUE}/succeeded"),
    ],
)
def test_a_bad_person_is_refused_by_field(client: Client, person: Any, pointer: str) -> None:
    """And the good one beside it is not remembered either."""
    answer = client.put("/v1/workforce", {"persons": [person, _person("p-9")]})

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert client.get("/v1/workforce").json() == {"persons": []}


def test_every_bad_field_is_named(client: Client) -> None:
    """Of every person, and who stands twice."""
    answer = client.put("/v1/workforce", {"persons": [_person(skills="dutch", most_open=0.5), _person()]})
    assert [one["pointer"] for one in answer.json()["errors"]] == [
        "/persons/0/most_open",
        "/persons/0/skills",
        "/persons",
    ]


@pytest.mark.parametrize("body", [{}, {"persons": []}, {"persons": {}}, [], {"people": []}])
def test_what_is_no_batch_is_refused(client: Client, body: Any) -> None:
    """An empty one would be a mistake."""
    assert client.put("/v1/workforce", body).status_code == 422


@pytest.mark.parametrize("query", ["queue=dask", "queue=a&queue=b", "desk=verification_desk"])
def test_a_bad_query_is_refused(client: Client, query: str) -> None:
    """An unknown queue is a typing error, not an empty queue."""
    assert client.get(f"/v1/workforce?{query}").status_code == 422


def test_callers_tell_and_agents_read(world: World, client: Client) -> None:
    """Agents do not tell; whoever looks after privacy has no business with it."""
    body = {"persons": [_person()]}
    keys = {role: world.key(role, role) for role in ("caller", "agent", "analyst", "marketer", "privacy")}

    told = {role: client.put("/v1/workforce", body, key=key).status_code for role, key in keys.items()}
    read = {role: client.get("/v1/workforce", key=key).status_code for role, key in keys.items()}

    assert told == {"caller": 200} | dict.fromkeys(("agent", "analyst", "marketer", "privacy"), 403)
    assert read == dict.fromkeys(("caller", "agent", "analyst", "marketer"), 200) | {"privacy": 403}


def test_the_next_decision_goes_to_somebody_or_is_dropped(tmp_path: Path) -> None:
    """Presence and load hold at once: with the one person gone or full, the action is dropped for want of people."""
    world = World(tmp_path)
    case = world.configuration.catalogue.by_id["case_verification"].model_copy(
        update={"rules": (), "prior_uplift": 0.9}
    )
    catalogue = world.configuration.catalogue.model_copy(update={"actions": (case,)})
    world.configuration = replace(world.configuration, catalogue=catalogue)
    nobody = [{"action_id": case.id, "stage": "capacity", "rule_id": "capacity.nobody_available"}]

    with world.client() as client:
        client.post("/v1/events", {"events": [event("applied", hours_ago=72)]})
        found = []
        for changes in ({"available": False}, {}, {}, {"open_work": 0}):
            client.put("/v1/workforce", {"persons": [_person(**changes)]})
            found.append(client.post("/v1/decisions", {"customer_id": "c-1"}).json())

    assert [answer["dropped"] for answer in found] == [nobody, [], nobody, []]
    assert [one["assignee"] for answer in found for one in answer["selected"]] == ["p-1", "p-1"]
    assert world.records.decision(found[1]["decision_id"]).record.assignees == ("p-1",)


def test_metrics_tell_how_much_of_a_capacity_is_taken(tmp_path: Path) -> None:
    """By limit, from none on."""
    world = World(tmp_path)
    capacity = {
        "limits": [{"id": "all.sms", "units": 4, "period": "1d", "channel": "sms"}],
        "budgets": [{"id": "spend", "amount": 5.0, "period": "1d"}],
    }
    policy = world.configuration.policy.model_copy(update={"capacity": Capacity.model_validate(capacity)})
    world.configuration = replace(world.configuration, policy=policy)
    with world.client() as client:
        client.post("/v1/events", {"events": [event("applied", hours_ago=72)]})
        lines = client.get("/metrics").text.splitlines()
    assert 'headway_capacity_used_ratio{limit="all.sms"} 0.0' in lines
    assert 'headway_capacity_used_ratio{limit="spend"} 0.0' in lines
