"""Capacities and budgets against the other files: every bad period, repeated id and dangling name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from features.yaml_files import parse_yaml
from models.capacity_checks import capacity_problems
from models.policy import Capacity
from tests.decisions import action, rulebook

CATALOGUE = rulebook(action(assigned_to="desk", issue="grow")).catalogue
CHANNELS = ("web", "phone")
LIMIT = {"id": "calls", "units": 1, "period": "1d", "channel": "phone"}
BUDGET = {"id": "money", "amount": 1.0, "period": "1d"}


def _problems(capacity: dict[str, Any]) -> list[tuple[str, str, str]]:
    document = parse_yaml(json.dumps({"capacity": capacity}), file="policy.yaml")
    found = capacity_problems(Capacity.model_validate(capacity), document, CHANNELS, CATALOGUE)
    return [(problem.path, problem.value, problem.expected) for problem in found]


def test_what_is_right_has_no_problem() -> None:
    """Channels, queues, issues and periods that are known."""
    limits = [LIMIT, LIMIT | {"id": "desk", "queue": "desk", "period": "15m"}, LIMIT | {"id": "weekly", "period": "1w"}]
    assert _problems({"limits": limits, "budgets": [BUDGET | {"issues": ["grow"]}]}) == []


@pytest.mark.parametrize(
    ("capacity", "path", "value", "expected"),
    [
        ({"limits": [LIMIT | {"period": "7h"}]}, "capacity.limits[0].period", '"7h"', "whole days, or a part"),
        ({"budgets": [BUDGET | {"period": "0s"}]}, "capacity.budgets[0].period", '"0s"', "whole days, or a part"),
        ({"limits": [LIMIT | {"channel": "fax"}]}, "capacity.limits[0].channel", '"fax"', "one of phone, web"),
        ({"limits": [LIMIT | {"queue": "dask"}]}, "capacity.limits[0].queue", '"dask"', "did you mean desk?"),
        ({"budgets": [BUDGET | {"issues": ["gro"]}]}, "capacity.budgets[0].issues[0]", '"gro"', "did you mean grow?"),
    ],
)
def test_what_is_wrong_is_named(capacity: dict[str, Any], path: str, value: str, expected: str) -> None:
    """Path, value, and what was expected."""
    ((found_path, found_value, found_expected),) = _problems(capacity)
    assert (found_path, found_value) == (path, value)
    assert expected in found_expected


def test_an_id_stands_once_among_limits_and_budgets() -> None:
    """Answers, prices and records name both by it."""
    found = _problems({"limits": [LIMIT], "budgets": [BUDGET | {"id": "calls"}]})
    assert [path for path, _, _ in found] == ["capacity.limits[0].id", "capacity.budgets[0].id"]
