"""Who decides for simulated customers: the past policy however often they are moved on, or another in its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.events import parse_timestamp
from models.actions import NO_ACTION
from models.configuration import built_in_configuration
from training.simulate import DEFAULT_UNTIL, JOURNEY_ID
from training.simulated_choice import Choice, Occasion, PastPolicy
from training.simulated_course import DAY_US
from training.simulated_journeys import Crowd, simulate_block
from training.simulated_policy import Option, options_of
from training.simulated_world import EFFECTS

BUILT_IN = built_in_configuration()
OPTIONS = options_of(BUILT_IN.catalogue)
UNTIL = parse_timestamp(DEFAULT_UNTIL)
WORLD: dict[str, Any] = {
    "seed": 4,
    "numbers": np.arange(120, dtype=np.int64),
    "until": UNTIL,
    "span_days": 120.0,
    "options": OPTIONS,
    "journey": BUILT_IN.journeys.by_id[JOURNEY_ID],
}


class Nothing:
    """Never does anything."""

    def choose(self, occasion: Occasion, options: tuple[Option, ...]) -> Choice:
        """No action for everybody; the truth of the first option is noted all the same."""
        n = occasion.rows.size
        ids = [f"d-{row}-{occasion.step}" for row in occasion.rows.tolist()]
        noted = np.zeros((n, len(options)), dtype=np.bool_)
        noted[:, 0] = True
        chances = np.concatenate([np.zeros((n, len(options))), np.ones((n, 1))], axis=1)
        return Choice(ids=ids, request_ids=ids, option=np.full(n, len(options)), probabilities=chances, noted=noted)


def in_order(table: pa.Table, *names: str) -> pa.Table:
    """The same rows in one order."""
    return table.sort_by([(name, "ascending") for name in names])


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("events", ("customer_id", "event_id", "arrived_at")),
        ("decisions", ("decision_id",)),
        ("effects", ("decision_id", "treatment_id")),
        ("identities", ("id_value",)),
    ],
)
def test_a_crowd_ends_the_same_however_often_it_is_moved_on(table: str, keys: tuple[str, ...]) -> None:
    """Event for event and draw for draw."""
    crowd = Crowd(**WORLD, chooser=PastPolicy())

    for days in range(150, 0, -17):
        crowd.advance(UNTIL - days * DAY_US)
    crowd.advance(UNTIL + 1)

    expected = in_order(getattr(simulate_block(**WORLD), table), *keys)
    assert in_order(getattr(crowd.block(), table), *keys).equals(expected)


def test_nobody_is_decided_on_before_the_moment_falls_due() -> None:
    """Moving on to a moment makes the decisions before it and no others; who comes later is still to be decided on."""
    crowd = Crowd(**WORLD, chooser=PastPolicy())
    half = UNTIL - 60 * DAY_US

    crowd.advance(half)

    moments = np.concatenate([batch["decided_at"] for batch in crowd.decisions.made])
    assert moments.max() < half
    assert crowd.undecided().size > 0


def test_the_world_does_what_another_chooser_says() -> None:
    """Who never does anything exposes nobody; what an option would have changed is noted where that is asked for."""
    crowd = Crowd(**WORLD, chooser=Nothing())

    crowd.advance(UNTIL + 1)

    block = crowd.block()
    assert set(block.decisions["action_id"].to_pylist()) == {NO_ACTION}
    assert "action_exposed" not in set(block.events["kind"].to_pylist())
    assert set(block.effects["treatment_id"].to_pylist()) == {OPTIONS[0].treatment.id}
    assert set(block.effects["selection_probability"].to_pylist()) == {0.0}


def test_other_effects_change_what_an_action_does_and_nothing_else() -> None:
    """The probability with the action moves; the one without it, and who is asked, stay."""
    stronger = {name: replace(law, base=law.base + 1.0) for name, law in EFFECTS.items()}
    before, after = (Crowd(**WORLD, chooser=Nothing()) for _ in range(2))

    before.advance(UNTIL + 1)
    after.advance(UNTIL + 1, effects=stronger)

    frozen, changed = before.block().effects, after.block().effects
    assert frozen["decision_id"].equals(changed["decision_id"])
    assert frozen["p0"].equals(changed["p0"])
    assert not frozen["p1"].equals(changed["p1"])


def test_events_are_taken_once() -> None:
    """What was taken stands in the sheet no longer; what is added later is taken the next time."""
    crowd = Crowd(**WORLD, chooser=PastPolicy())
    first = crowd.course.events.take()

    again = crowd.course.events.take()
    crowd.advance(UNTIL + 1)
    later = crowd.course.events.take()

    assert first.rows.size > 0
    assert again.rows.size == 0
    assert "application_submitted" in set(first.kinds.tolist())
    assert "application_submitted" not in set(later.kinds.tolist())
