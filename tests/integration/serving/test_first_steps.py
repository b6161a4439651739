"""The first pages that callers and marketers read are followed to the letter, from the start of the service on."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from features.home import Home
from models.configuration import built_in_configuration
from models.experiment import arm_of
from models.record_store import open_record_store
from tests.integration.serving.test_process import free_port
from tests.pages import DOCS, Followed, Step, assert_as_shown, calm_home, follow, section, steps_of

CALLER = (DOCS / "first-steps" / "caller.md").read_text(encoding="utf-8")
MARKETER = (DOCS / "first-steps" / "marketer.md").read_text(encoding="utf-8")
OPERATOR = (DOCS / "how-to" / "operator.md").read_text(encoding="utf-8")

(INSTALLING,) = steps_of(section(CALLER, "1. Install"))
AFTER_INSTALLING = [step for step in steps_of(CALLER) if step != INSTALLING]
BEFORE_MARKETING = steps_of(
    "".join(section(CALLER, one) for one in ("2. Start", "3. Make a key", "4. Send three events"))
)
"""What the marketers' page asks to do first, after the installation."""


def _followed(steps: list[Step], home: Path) -> list[Followed]:
    """What comes of the steps in a home and at a port of their own; answers that are shown were compared."""
    calm_home(home)
    changes = [("/tmp/headway-first", str(home)), ("HEADWAY_PORT=3000", f"HEADWAY_PORT={free_port()}")]
    followed = follow(steps, home.parent, environment={}, changes=changes)
    for one in followed:
        if one.step.shown:
            assert_as_shown(one)
    return followed


def test_both_pages_are_short() -> None:
    """A first page that is long is read by nobody; what is more stands in the pages after it."""
    assert max(len(CALLER.splitlines()), len(MARKETER.splitlines())) < 220


def test_it_is_installed_as_operators_install_it() -> None:
    """One way, said twice."""
    (installed,) = steps_of(section(OPERATOR, "Install"))

    assert installed == INSTALLING


@pytest.mark.parametrize("customer_id", ["c-7", "c-8"])
def test_the_customers_of_the_pages_are_decided_by_the_champion(customer_id: str) -> None:
    """One in the holdout, or one who gets a random action, would be another story."""
    assert arm_of(customer_id, built_in_configuration().policy.experiment) == "champion"


def test_what_the_money_is_made_of_adds_up() -> None:
    """The table of the marketers' page: its lines sum up to its last, from where the action is told."""
    table = section(MARKETER, "3. What it is worth")
    value, gain, *costs, net = map(float, re.findall(r"\| \**(-?\d+\.\d\d)\** \|", table))

    assert gain == pytest.approx(0.08 * value)
    assert net == pytest.approx(gain + sum(costs))
    assert len(costs) == 3
    assert [float(one) for one in re.findall(r"EUR (\S+) to (\S+)\n", table)[0]] == pytest.approx(
        [(0.08 + sign * 1.96 * 0.03) * value + sum(costs) for sign in (-1, 1)], abs=0.005
    )


@pytest.mark.slow
def test_the_callers_page_runs_to_its_end(tmp_path: Path) -> None:
    """Every call succeeds, every answer is as it is shown, and the contact counts."""
    followed = _followed(AFTER_INSTALLING, tmp_path / "first")

    assert {status for one in followed for status in one.statuses} == {200}
    with closing(open_record_store(Home(tmp_path / "first"), readonly=True)) as records:
        (contact,) = records.customer("c-7", since=0, now=2**60).contacts
    assert (contact.status, contact.action_id) == ("confirmed", "remind_next_step")


@pytest.mark.slow
def test_the_marketers_page_runs_to_its_end(tmp_path: Path) -> None:
    """After the callers' first steps; the last thing said is why somebody gets nothing."""
    followed = _followed([*BEFORE_MARKETING, *steps_of(MARKETER)], tmp_path / "first")

    assert {status for one in followed for status in one.statuses} == {200}
