"""``GET /v1/decisions/{id}/explanation``: who may ask, what cannot be explained, and the process that explains."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.errors import StoreUnavailable
from features.home import Home
from models.explanation import explain, explanation_document
from models.explanation_requests import ExplanationReply, ExplanationRequest
from serving.api.openapi import api_document
from serving.explanations import WAITING_AT_MOST, ChildExplanations
from serving.problems import TooManyRequests
from tests import decision_records
from tests.doors import World
from tests.explained import vectors
from tests.explained import world as small_world
from tests.histories import FEATURES
from tests.integration.test_decision_report import decided
from tests.json_schema import violations

MADE = decision_records.record(versions={"features": "f1", "policy": "p1", "bundle": "nba-card@champion/1"})
PATH = f"/v1/decisions/{MADE.decision_id}/explanation"
ASKED = ExplanationRequest(record=b"record")


def _world(folder: Path, reply: ExplanationReply | None = None, **changes: Any) -> World:
    """An installation that has one decision of a model, and a reply for whoever asks."""
    world = World(folder)
    world.records.append_imported([msgspec.structs.replace(MADE, **changes)])
    asked: list[ExplanationRequest] = []

    def explain(request: ExplanationRequest) -> ExplanationReply:
        asked.append(request)
        return reply or ExplanationReply(kind="explained", document=msgspec.Raw(_document()))

    world.explain = explain
    world.asked = asked  # type: ignore[attr-defined]  # for the test that made it
    return world


def _document() -> bytes:
    explained = {"value": 0.5, "raw": 0.1, "baseline": 0.1, "contributions": [], "others": 0.0, "reasons": []}
    document = {
        "decision_id": MADE.decision_id,
        "decided_at": "2026-03-01T12:00:00.000000Z",
        "journey_id": "card",
        "scope": "models",
        "versions": {},
        "largest_difference": 0.0,
        "selected": "nudge",
        "explored": False,
        "stall": explained | {"talking_points": []},
        "control": {},
        "effects": {},
    }
    return msgspec.json.encode(document)


def test_an_explanation_is_given_as_it_was_made(tmp_path: Path) -> None:
    """The very document, out of the record that was stored."""
    world = _world(tmp_path)
    with world.client() as client:
        answer = client.get(f"{PATH}?action=nudge")

    assert (answer.status_code, answer.content) == (200, _document())
    assert world.asked[0].action_id == "nudge"  # type: ignore[attr-defined]  # of _world


def test_the_described_shape_is_that_of_the_document(tmp_path: Path) -> None:
    """Of really trained models, with what would have put an action first."""
    small = small_world(tmp_path / "nba-application" / "1")
    schema = {"$ref": "#/components/schemas/DecisionExplanation"}
    for number, vector in enumerate(vectors(8, 9)):
        found = explain(
            small.decided(vector, number),
            small.directory,
            journey=small.rulebook.journey,
            catalogue=small.rulebook.catalogue,
            feature_set=FEATURES,
        )
        for action_id in (None, "nudge", "later"):
            document = explanation_document(found, action_id=action_id)
            assert list(violations(document, schema, api_document())) == []


def test_a_decision_without_a_model_is_asked_about_too(tmp_path: Path) -> None:
    """Its rules are explained by whoever explains models."""
    world = _world(tmp_path, versions={"features": "f1"})
    with world.client() as client:
        answer = client.get(PATH)

    assert answer.status_code == 200
    assert len(world.asked) == 1  # type: ignore[attr-defined]  # of _world


@pytest.mark.parametrize(
    ("kind", "status", "slug"), [("refused", 409, "not-explainable"), ("failed", 503, "unavailable")]
)
def test_what_cannot_be_made_is_said(tmp_path: Path, kind: Any, status: int, slug: str) -> None:
    """For good, or for now."""
    with _world(tmp_path, ExplanationReply(kind=kind, message="other features")).client() as client:
        answer = client.get(PATH)

    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs/problems/{slug}")
    assert ("other features" in answer.json()["detail"]) is (kind == "refused")


def test_every_bad_parameter_is_named(tmp_path: Path) -> None:
    """Unknown ones, and an action that was no candidate."""
    with _world(tmp_path).client() as client:
        answer = client.get(f"{PATH}?action=free_car&colour=red")

    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/?colour", "/?action"]


def test_a_foreign_decision_is_not_explained(tmp_path: Path) -> None:
    """As it is not read."""
    world = _world(tmp_path)
    with world.client() as client:
        statuses = [client.get(PATH, key=world.key(source, "caller")).status_code for source in ("web", "crm")]

    assert statuses == [404, 200]


# ---- the process


_ECHO = """
import base64, json, os, sys
print("not an answer", file=sys.stderr)
for line in sys.stdin:
    record = base64.b64decode(json.loads(line)["record"]).decode()
    exec(record) if record.startswith("import") else None
    print(json.dumps({"kind": "explained", "document": {"pid": os.getpid(), "record": len(record)}}), flush=True)
"""


def _child(seconds: float = 60.0) -> ChildExplanations:
    return ChildExplanations({}, command=(sys.executable, "-S", "-c", _ECHO), seconds=seconds)


def _said(child: ChildExplanations, record: bytes = b"x") -> Any:
    return msgspec.json.decode(child.made(ExplanationRequest(record=record)).document)


def test_the_process_is_kept_between_explanations() -> None:
    """And takes records of any size."""
    child = _child()
    with closing(child):
        first, second = _said(child), _said(child, b"x" * 1_000_000)

    assert first["pid"] == second["pid"]
    assert second["record"] == 1_000_000


@pytest.mark.parametrize(
    ("record", "seconds", "said"),
    [
        (b"import os; os._exit(3)", 60.0, "ended with code 3"),
        (b"import time; time.sleep(60)", 0.5, "longer than 0.5 s"),
        (b"import sys; print('nonsense', flush=True)", 60.0, "has failed"),
    ],
)
def test_a_process_that_fails_is_replaced(record: bytes, seconds: float, said: str) -> None:
    """The caller is told to ask again, and then it works."""
    child = _child(seconds)
    with closing(child):
        with pytest.raises(StoreUnavailable, match=said):
            _said(child, record)
        if seconds > 1:
            assert _said(child)["record"] == 1


def test_a_closed_service_explains_nothing() -> None:
    """Closing stops what is being made; nothing is begun after it."""
    child = _child()
    _said(child)
    child.close()

    with pytest.raises(StoreUnavailable, match="closing"):
        _said(child)


def test_few_may_wait() -> None:
    """Else the threads that decide would wait for explanations."""
    child = _child()
    refused, done = [], []

    def ask() -> None:
        try:
            done.append(_said(child, b"import time; time.sleep(0.5)"))
        except TooManyRequests as error:
            refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(WAITING_AT_MOST + 2)]
    with closing(child):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert (len(done), len(refused)) == (WAITING_AT_MOST, 2)


def test_the_real_process_explains_what_a_trained_home_decided(
    trained_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With LightGBM, out of the home that the environment names; a decision of other features is refused."""
    home = Home(tmp_path / "home")
    shutil.copytree(trained_home.root, home.root)
    monkeypatch.setenv("HEADWAY_HOME", str(home.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    record = decided(home)
    other = msgspec.structs.replace(record, versions={**record.versions, "features": "others"})
    world = World(tmp_path)
    child = ChildExplanations(os.environ)
    world.explain = child.made
    world.records.append_imported([record, msgspec.structs.replace(other, decision_id="d-2", request_id="r-2")])
    action_id = record.candidates[0].action_id

    with closing(child), world.client() as client:
        answer = client.get(f"/v1/decisions/{record.decision_id}/explanation?action={action_id}")
        refused = client.get("/v1/decisions/d-2/explanation")

    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["largest_difference"] == 0.0
    assert document["stall"]["value"] == record.stall_propensity
    assert document["to_win"]["action_id"] == action_id
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs/problems/not-explainable")
