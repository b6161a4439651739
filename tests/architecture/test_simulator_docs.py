"""The pages on the simulator and the built-in journey say what the code and the configuration say."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from features.durations import dump_duration
from models.configuration import built_in_configuration
from training.simulate import DEFAULT_UNTIL, SCHEMAS
from training.simulate_commands import simulate
from training.simulated_world import WORLD_VERSION, effect_table

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SIMULATOR = (REFERENCE / "simulator.md").read_text()
JOURNEY_PAGE = (REFERENCE / "default-journey.md").read_text()
BUILT_IN = built_in_configuration()
JOURNEY = BUILT_IN.journeys.by_id["credit_card_application"]


def test_the_effect_sizes_are_printed_as_they_are() -> None:
    """The table of the page is the one that the code gives."""
    assert effect_table() in SIMULATOR
    assert f"world version {WORLD_VERSION}" in SIMULATOR
    assert DEFAULT_UNTIL in SIMULATOR


@pytest.mark.parametrize("name", [name for name in inspect.signature(simulate).parameters if name != "as_json"])
def test_every_option_is_documented(name: str) -> None:
    """An option without a word is not there."""
    assert f"| `--{name.replace('_', '-')}` |" in SIMULATOR


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_is_documented(name: str) -> None:
    """In the row of its file."""
    row = next(line for line in SIMULATOR.splitlines() if line.startswith(f"| `{name}`"))

    assert [column for column in SCHEMAS[name].names if f"`{column}`" not in row] == []


def test_the_journey_is_described_as_declared() -> None:
    """Stages, states, outcomes, actions and rules, with their figures."""
    rows = [
        *(f"| {dump_duration(stage.stall_after)} | `{stage.stall_state}` |" for stage in JOURNEY.stages),
        *(f"| `{rule.state}` | `{rule.feature}` at least {rule.at_least:g} |" for rule in JOURNEY.states),
        *(f"| `{o.id}` | `{o.event}` | {dump_duration(o.window)} | {o.value:g} |" for o in JOURNEY.outcomes),
        *(f"| `{action.id}` | {action.title} |" for action in BUILT_IN.catalogue.actions),
        *(f"| `{action.outcome}` | {action.incentive_cost:g} |" for action in BUILT_IN.catalogue.actions),
        *(f"| `{rule.id}` | {rule.stage} |" for rule in BUILT_IN.policy.rules),
    ]

    assert [row for row in rows if row not in JOURNEY_PAGE] == []
