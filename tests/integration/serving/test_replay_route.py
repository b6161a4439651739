"""``POST /v1/decisions/{id}/replay``: the record and the answer made again, or under something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.records import Stored
from tests import decision_records
from tests.doors import Client, World
from tests.recorded import live, promote, recorded_world

DECISIONS = 80


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation with a model."""
    world = recorded_world(tmp_path)
    promote(world, 1)
    return world


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client of it, after some decisions."""
    with world.client() as client:
        world.champions[0].refresh()
        live(world, client, decisions=DECISIONS, customers=20, seed=3)
        yield client


def _chosen(world: World) -> Stored:
    """A decision that a model scored and that chose an action as the champion."""
    record = next(
        one
        for page in world.records.read()
        for one in page
        if one.selected and one.arm == "champion" and one.first.effect_source == "model"
    )
    stored = world.records.decision(record.decision_id)
    assert isinstance(stored, Stored)
    return stored


QUEUES = ("verification_desk", "onboarding_desk", "digital_support")


def _path(stored: Stored) -> str:
    return f"/v1/decisions/{stored.record.decision_id}/replay"


def test_record_and_answer_come_out_identical(client: Client, world: World) -> None:
    """Of every recorded decision; with a body that says nothing as with none."""
    told = [
        client.post(f"/v1/decisions/{one.decision_id}/replay", b"").json()
        for page in world.records.read()
        for one in page
    ]
    empty = client.post(_path(_chosen(world)), {}).json()

    assert len(told) == DECISIONS
    assert {(one["identical"], one["answer_identical"], one["n_differences"]) for one in told} == {(True, True, 0)}
    assert all(one["recorded"] == one["replayed"] for one in told)
    assert (empty["identical"], empty["differences"]) == (True, [])


@pytest.mark.parametrize("explain", ["stages", "factors"])
def test_an_answer_that_lists_every_rule_comes_out_identical(client: Client, explain: str) -> None:
    """What was asked to be told is part of the request, and so of the record; who was at work is only in part."""
    away = [{"person_id": f"p-{queue}", "queues": [queue], "available": False} for queue in QUEUES]
    client.put("/v1/workforce", {"persons": away})
    decided = client.post("/v1/decisions", {"customer_id": "c-1", "explain": explain}).json()

    told = client.post(f"/v1/decisions/{decided['decision_id']}/replay", b"").json()

    assert (told["identical"], told["answer_identical"]) == (True, True)


def test_a_changed_record_tells_what_differs(client: Client, world: World) -> None:
    """Field by field, recorded and replayed."""
    stored = _chosen(world)
    changed = msgspec.structs.replace(stored.record, decision_id="d-changed", request_id="changed", state="LOST")
    world.records.commit(changed, stored.answer, None)

    told = client.post("/v1/decisions/d-changed/replay", b"").json()

    assert (told["identical"], told["answer_identical"]) == (False, False)
    fields = {one["field"]: one for one in told["differences"]}
    assert fields["state"] == {"field": "state", "recorded": "LOST", "replayed": stored.record.state}


def test_what_if_under_an_earlier_policy(client: Client, world: World) -> None:
    """Prices beyond all value: nothing would have been done."""
    before = client.get("/v1/policies")
    dear = before.json()["document"] | {"channel_price": dict.fromkeys(("sms", "email", "push", "call", "web"), 1e6)}
    version = client.put("/v1/policies", dear, headers={"If-Match": before.headers["etag"]}).json()["version"]
    stored = _chosen(world)

    told = client.post(_path(stored), {"policy": version, "as_champion": True}).json()
    again = client.post(_path(stored), {"policy": before.json()["version"]}).json()

    assert told["recorded"]["action_id"] == stored.record.first.action_id
    assert (told["replayed"]["action_id"], told["replayed"]["arm"]) == ("no_action", "champion")
    assert told["versions"]["policy"] == version
    assert told["n_differences"] > 0
    assert again["identical"]  # the recorded policy, by name


def test_what_if_with_another_bundle(client: Client, world: World) -> None:
    """Version 2 believes something else."""
    promote(world, 2)

    told = client.post(_path(_chosen(world)), {"bundle": 2}).json()

    assert told["versions"]["bundle"].endswith("/2")
    assert any(one["field"].endswith(".uplift") for one in told["differences"])


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"policy": "000000000000"}, 404, "not-found"),
        ({"policy": "../../etc"}, 404, "not-found"),
        ({"bundle": 99}, 409, "not-replayable"),
        ({"bundle": "2"}, 422, "invalid-input"),
        ({"prices": "p"}, 422, "invalid-input"),
        ([], 422, "invalid-input"),
        (b"{", 400, "malformed-body"),
    ],
)
def test_what_cannot_be_found_is_refused(client: Client, world: World, body: Any, status: int, kind: str) -> None:
    """With a documented problem."""
    answer = client.post(_path(_chosen(world)), body)

    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs/problems/{kind}")


def test_an_imported_decision_cannot_be_made_again(client: Client, world: World) -> None:
    """It was made elsewhere."""
    world.records.append_imported([decision_records.record(7, mode="imported", request=b"")])

    answer = client.post("/v1/decisions/d-000007/replay", b"")

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/not-replayable")


def test_who_may_read_a_decision_may_replay_it(client: Client, world: World) -> None:
    """A foreign one does not exist."""
    stored = _chosen(world)

    assert client.post(_path(stored), b"", key=world.key("shop", "caller")).status_code == 404
    assert client.post(_path(stored), b"", key=world.key("bi", "analyst")).status_code == 200
    assert client.post("/v1/decisions/d-nothing/replay", b"").status_code == 404
