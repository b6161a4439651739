"""Whoever follows a page in a test finds out where it shows something else than what comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pages import Followed, Step, assert_as_shown, follow, steps_of

SHOWN: dict[str, Any] = {
    "decision_id": "d-01M8A3PDQDQMW5GVY9AJ4E8FS1",
    "at": "2026-03-01T09:30:00Z",
    "ranked_actions": [{"action_id": "remind_next_step", "net_value": 0.81, "explored": False}],
}
CAME: dict[str, Any] = {
    "decision_id": "d-01M8BCZ3HFC0MZD7PRXCD6C8CZ",
    "at": "2026-11-26T07:43:50.831255Z",
    "ranked_actions": [
        {"action_id": "remind_next_step", "net_value": 0.8099999999999999, "explored": False, "slot": 1}
    ],
}


def _followed(*came: Any) -> Followed:
    return Followed(Step("ask", (SHOWN,)), "".join(map(json.dumps, came)), (200,))


def test_what_changes_in_every_run_may_be_another() -> None:
    """Ids and times; numbers are rounded, and fields may be left out."""
    assert_as_shown(_followed(CAME))


@pytest.mark.parametrize(
    "came",
    [
        (),
        (CAME, CAME),
        (CAME | {"decision_id": "j-01M8BCZ3HFC0MZD7PRXCD6C8CZ", "at": "yesterday"},),
        (CAME | {"ranked_actions": []},),
        (CAME | {"ranked_actions": [{"action_id": "survey_experience", "net_value": 0.81, "explored": False}]},),
        (CAME | {"ranked_actions": [{"action_id": "remind_next_step", "net_value": 0.82, "explored": False}]},),
        (CAME | {"ranked_actions": [{"action_id": "remind_next_step", "net_value": 0.81, "explored": 0}]},),
        (CAME | {"ranked_actions": [{"action_id": "remind_next_step", "net_value": 0.81}]},),
    ],
)
def test_anything_else_is_found_out(came: tuple[Any, ...]) -> None:
    """Nothing, too much, another word, another amount, another type, a field that is gone."""
    with pytest.raises(AssertionError):
        assert_as_shown(_followed(*came))


def test_the_steps_of_a_page_are_its_blocks_of_shell_in_one_shell(tmp_path: Path) -> None:
    """Indented ones too; other languages are not run."""
    page = "```sh\nX=1\n```\n```python\nno\n```\n- so\n\n  ```bash\n  echo $X\n  ```\n\n```json\n1\n```\n"

    first, second = follow(steps_of(page), tmp_path, environment={})

    assert (first.printed, second.printed, second.step.shown) == ("", "1\n", (1,))


def test_a_step_that_fails_is_shown(tmp_path: Path) -> None:
    """With its commands and what it said."""
    with pytest.raises(AssertionError, match=r"(?s)cat nothing.*No such file"):
        follow(steps_of("```sh\ncat nothing\n```\n```sh\necho never\n```\n"), tmp_path, environment={"LC_ALL": "C"})
