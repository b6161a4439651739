"""Every documented call, fuzzed by schemathesis from its description: no server error, no answer that is not described.

Needs the dependency group ``fuzz``: ``uv run --group fuzz pytest -m slow`` and this file.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.errors import NotEnoughData, UnknownObject
from features.home import Home
from models.explanation_process import reply
from models.registry import model_name
from serving.api.app import application
from serving.api.openapi import OPERATIONS, api_document
from serving.child_commands import Command, Finished
from serving.problems import CommandRefused
from serving.runtime import Runtime
from tests.doors import BOOTSTRAP, JOURNEY, World
from tests.integration.serving.test_customers import _lived

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the library warns of its own dependencies
EXAMPLES = 40
START_SECONDS = 30.0
REPORT = "ope-0123456789abcdef"
CASES = [
    *((one.operation_id, "positive") for one in OPERATIONS),
    *((one.operation_id, "negative") for one in OPERATIONS if one.body or one.parameters),
]


def _schemathesis() -> Any:
    """The library; its absence fails where ``HEADWAY_TEST_FUZZ`` is set."""
    if os.environ.get("HEADWAY_TEST_FUZZ"):
        return __import__("schemathesis")
    return pytest.importorskip("schemathesis", reason="it is in the dependency group fuzz", exc_type=ImportError)


@dataclass(frozen=True)
class _Served:
    """An installation on a port, with a customer and decisions that can be named."""

    url: str
    decision_ids: tuple[str, ...]


def _headway(command: Command) -> Finished:
    """What the console script may come to, by how long its line is."""
    errors = (UnknownObject("no version 9"), CommandRefused("no champion before"), NotEnoughData("no decision"))
    outcome = sum(len(word) for word in command.words) % 5
    if outcome < len(errors):
        raise errors[outcome]
    reason = {"code": "few_decisions", "value": 3.0, "threshold": 100.0, "text": "3 effective decisions"}
    verdict = {"promotes": outcome == 4, "champion": 1, "challenger": 2, "reasons": [] if outcome == 4 else [reason]}
    share = {"before": 0.0, "after": 0.1, "policy_version": "0123456789ab"}
    return Finished(is_done=outcome == 4, document={"verdict": verdict, "entry": {"kind": "promote"}, "share": share})


def _reported(home: Home) -> None:
    """Keep an evaluation and a drift report."""
    home.create()
    for path, document in (
        (home.evaluation_reports / f"{REPORT}.json", {"id": REPORT}),
        (home.drift_reports / f"{JOURNEY}.json", {"headline": {"verdict": "steady"}}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(document))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    """The application behind a real server, over stores in memory."""
    world = World(tmp_path_factory.mktemp("fuzzed"))
    world.command = _headway
    _reported(world.home)
    world.explain = lambda request: reply(world.home, msgspec.json.encode(request))
    world.command = lambda command: Finished(is_done=True, document={"verdict": None, "entry": None, "share": None})
    with world.client() as client:
        _lived(client)
        asked = [{"customer_id": "c-1", "mode": mode, "activate": False} for mode in ("live", "live", "shadow")]
        decision_ids = tuple(client.post("/v1/decisions", one).json()["decision_id"] for one in asked)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Runtime]:
        runtime = world.runtime()
        yield runtime
        runtime.workers.close()
        runtime.errands.close()

    server = uvicorn.Server(uvicorn.Config(application(opened), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + START_SECONDS
    while not server.started and time.monotonic() < until:
        thread.join(0.05)  # another thread is waited for: there is nothing else to wait on
    port = server.servers[0].sockets[0].getsockname()[1]
    yield _Served(f"http://127.0.0.1:{port}", decision_ids)
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize(("operation_id", "mode"), CASES)
def test_no_call_fails_or_answers_what_is_not_described(served: _Served, operation_id: str, mode: str) -> None:
    """Whatever is sent: what the description allows, and what it does not."""
    library = _schemathesis()
    checks = importlib.import_module("schemathesis.specs.openapi.checks")
    schema = library.openapi.from_dict(api_document())
    operation = next(
        found.ok() for found in schema.get_all_operations() if found.ok().definition.raw["operationId"] == operation_id
    )
    generation = library.GenerationMode.POSITIVE if mode == "positive" else library.GenerationMode.NEGATIVE
    answered = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=generation), known=st.booleans(), place=st.integers(0, 2))
    def sent(case: Any, known: bool, place: int) -> None:
        if known and case.path_parameters:
            names = {
                **{"decision_id": served.decision_ids[place], "customer_id": "c-1"},
                **{"name": model_name(JOURNEY), "experiment_id": "default-2025", "report_id": REPORT},
            }
            case.path_parameters = {name: names.get(name, value) for name, value in case.path_parameters.items()}
        answer = case.call(served.url, headers={"Authorization": f"Bearer {BOOTSTRAP}"}, timeout=30)
        answered.append(answer.status_code)
        case.validate_response(
            answer,
            checks=[
                library.checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_headers_conformance,
                checks.response_schema_conformance,
            ],
        )

    sent()

    assert answered != []
    assert max(answered) < 500
