"""What the kernel keeps of a journey; all that it reads is held against an oracle in ``tests/properties``."""

from __future__ import annotations

from features.kernel import new_state
from tests.histories import FEATURES, MINUTE_US, START_AT, event, journey


def test_an_abandoned_journey_ended_with_the_silence() -> None:
    """It ended when the silence had lasted for long enough, not when something happened again."""
    ended_at = START_AT + MINUTE_US + journey().abandon_after
    state = new_state(FEATURES.plan)

    for each in (
        event("a"),
        event("b", kind="applied", at=START_AT + MINUTE_US),
        event("c", at=ended_at + 5 * MINUTE_US, kind="declined"),
    ):
        FEATURES.fold(state, each)

    closed_at = FEATURES.split(state)["times"][FEATURES.fields[0].slots.index("closed_at")]
    assert closed_at == ended_at
