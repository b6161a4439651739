"""The page of reliability names tests that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@cache
def _source(file: str) -> str:
    return (TESTS / file).read_text()


@pytest.mark.parametrize(("file", "name"), NAMED, ids=["::".join(one) for one in NAMED])
def test_a_named_test_exists(file: str, name: str) -> None:
    """By its file and function."""
    assert re.search(rf"^(async )?def {name}\(", _source(file), re.MULTILINE)


def test_every_fault_names_its_test() -> None:
    """A row of the tables of faults without one is a promise without proof."""
    of_faults = PAGE.partition("## What happens")[2].partition("## What is not promised")[0]
    rows = [line for line in of_faults.splitlines() if line.startswith("| ") and not line.startswith("| fault")]

    assert len(rows) > 50
    assert [row for row in rows if not re.search(r"`[\w/]+\.py::\w+` \|$", row)] == []
