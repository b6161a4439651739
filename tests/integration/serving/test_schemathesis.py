"""Every documented call, fuzzed by schemathesis from its description: no server error, no answer that is not described.

Needs the dependency group ``fuzz``: ``uv run --group fuzz pytest -m slow`` and this file. It takes a minute or two.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.errors import NotEnoughData, UnknownObject
from models.registry import model_name
from serving.access import rule_of
from serving.api.openapi import OPERATIONS, api_document
from serving.child_commands import Command, Finished
from serving.problems import CommandRefused
from tests.audience_answers import PRINTED
from tests.doors import BOOTSTRAP, JOURNEY
from tests.integration.serving.test_customers import _lived
from tests.served import REPORT, reported_world, served

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the library warns of its own dependencies
EXAMPLES = 25
CASES = [
    *((one.operation_id, "positive") for one in OPERATIONS),
    *((one.operation_id, "negative") for one in OPERATIONS if one.body or one.parameters),
]
BY_ID = {one.operation_id: one for one in OPERATIONS}
TOLD_IN_A_SUCCESS = {"take_events", "take_outcomes", "validate_policy"}
"""What is wrong with one item, or with a document that is only tried, is what these calls are to tell. Calls for
tracking SDKs are of that kind too: they drop what they have no place for."""


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
    if command.words[:2] in PRINTED:
        return Finished(is_done=True, document=PRINTED[command.words[:2]])
    outcome = sum(len(word) for word in command.words) % 5
    if outcome < len(errors):
        raise errors[outcome]
    reason = {"code": "few_decisions", "value": 3.0, "threshold": 100.0, "text": "3 effective decisions"}
    verdict = {"promotes": outcome == 4, "champion": 1, "challenger": 2, "reasons": [] if outcome == 4 else [reason]}
    share = {"before": 0.0, "after": 0.1, "policy_version": "0123456789ab"}
    return Finished(is_done=outcome == 4, document={"verdict": verdict, "entry": {"kind": "promote"}, "share": share})


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    """The application behind a real server, over stores in memory."""
    world = reported_world(tmp_path_factory.mktemp("fuzzed"))
    world.command = _headway
    with world.client() as client:
        _lived(client)
        asked = [{"customer_id": "c-1", "mode": mode, "activate": False} for mode in ("live", "live", "shadow")]
        decision_ids = tuple(client.post("/v1/decisions", one).json()["decision_id"] for one in asked)
    with served(world) as url:
        yield _Served(url, decision_ids)


@pytest.mark.parametrize(("operation_id", "mode"), CASES)
def test_no_call_fails_or_answers_what_is_not_described(installation: _Served, operation_id: str, mode: str) -> None:
    """Whatever is sent: what the description allows, and what it does not."""
    library = _schemathesis()
    checks = importlib.import_module("schemathesis.specs.openapi.checks")
    schema = library.openapi.from_dict(api_document())
    operation = next(
        found.ok() for found in schema.get_all_operations() if found.ok().definition.raw["operationId"] == operation_id
    )
    rule = rule_of(BY_ID[operation_id].method.upper(), BY_ID[operation_id].path)
    generation = library.GenerationMode.POSITIVE if mode == "positive" else library.GenerationMode.NEGATIVE
    judged_by = [
        library.checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
        checks.ignored_auth,
    ]
    if mode == "negative" and operation_id not in TOLD_IN_A_SUCCESS and not rule.takes_basic:
        judged_by.append(checks.negative_data_rejection)
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
                **{"decision_id": installation.decision_ids[place], "customer_id": "c-1"},
                **{"name": model_name(JOURNEY), "experiment_id": "default-2025", "report_id": REPORT},
            }
            case.path_parameters = {name: names.get(name, value) for name, value in case.path_parameters.items()}
        answer = case.call(installation.url, headers={"Authorization": f"Bearer {BOOTSTRAP}"}, timeout=30)
        answered.append(answer.status_code)
        case.validate_response(
            answer,
            checks=judged_by,
        )

    sent()

    assert answered != []
    assert max(answered) < 500
