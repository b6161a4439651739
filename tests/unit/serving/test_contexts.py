"""A customer in short: one next best action over all journeys under way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serving.contexts import _best


def _answer(journey_id: str, priority: float, *reasons: str, selected: bool = True) -> Any:
    first = SimpleNamespace(
        rank=1,
        action_id=f"of_{journey_id}",
        treatment_id="t",
        channel="web",
        issue="grow",
        net_value=priority,
        currency="EUR",
        uplift=0.1,
        response_probability=0.2,
        reasons=reasons,
        talking_points=(),
        disclosures=(),
        priority=priority,
    )
    return SimpleNamespace(
        journey=SimpleNamespace(journey_id=journey_id), selected=(first,) if selected else (), ranked_actions=(first,)
    )


@pytest.mark.parametrize(
    ("answers", "best"),
    [
        ([_answer("card", 2.0), _answer("loan", 5.0)], "loan"),
        ([_answer("card", -1.0, "MANDATORY"), _answer("loan", 5.0)], "card"),
        ([_answer("card", 2.0), _answer("loan", 5.0, selected=False)], "card"),
        ([_answer("card", 2.0, selected=False)], None),
    ],
)
def test_of_several_journeys_one_action_is_best(answers: list[Any], best: str | None) -> None:
    """What has to be said goes first, then what is worth most; what was not selected is none."""
    found = _best(answers)

    assert (None if found is None else found.journey_id) == best
