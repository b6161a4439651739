"""Prices that are served: replaced while requests run, never by damaged ones, and named where decisions used them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.price_files import CURRENT, publish_prices
from models.prices import PRICES_OUTDATED, dump_prices
from serving.prices import Charged, Prices, charged_prices
from tests import decision_records
from tests.decisions import rulebook
from tests.unit.models.test_prices import AT, CAPACITY, HOUR_US, price_list


def test_published_prices_are_served_from_the_next_look_on(tmp_path: Path) -> None:
    """Of each journey its own; before anything is published there are none."""
    prices = Prices(tmp_path / "prices")
    prices.refresh()
    assert prices.current("application") is None

    for published in (price_list(), price_list(created_at=AT + 1)):
        publish_prices(tmp_path / "prices", published)
        prices.refresh()
        assert prices.current("application") == published
    assert prices.current("another") is None


@pytest.mark.parametrize("damaged", ["current", "list", "missing"])
def test_what_cannot_be_read_leaves_the_last_good_prices(
    tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And is said in the log."""
    prices = Prices(tmp_path)
    publish_prices(tmp_path, price_list())
    prices.refresh()
    version = publish_prices(tmp_path, price_list(created_at=AT + 1))
    if damaged == "current":
        (tmp_path / CURRENT).write_bytes(b"{}")
    elif damaged == "list":
        (tmp_path / f"{version}.json").write_bytes(dump_prices(price_list(value=0.0)))
    else:
        (tmp_path / f"{version}.json").unlink()

    prices.refresh()

    assert prices.current("application") == price_list()
    assert "prices_refused" in caplog.text


def test_a_list_that_could_not_be_read_is_looked_for_again(tmp_path: Path) -> None:
    """Nothing else is published meanwhile: a folder that was away for a moment must not leave old prices for ever."""
    prices = Prices(tmp_path)
    publish_prices(tmp_path, price_list())
    prices.refresh()
    version = publish_prices(tmp_path, price_list(created_at=AT + 1))
    there, away = tmp_path / f"{version}.json", tmp_path / "away"
    there.rename(away)
    prices.refresh()
    away.rename(there)

    prices.refresh()

    assert prices.current("application") == price_list(created_at=AT + 1)


def test_prices_are_charged_while_they_hold() -> None:
    """After their end they are not, and the decision says so; those of another capacity are, and it says so too."""
    rules = rulebook(policy_changes={"capacity": CAPACITY})
    of_other_policy = price_list(policy_version="p0")

    assert charged_prices(None, rules, at=AT) == Charged(None, is_outdated=False)
    assert charged_prices(price_list(), rules, at=AT) == Charged(price_list(), is_outdated=False)
    assert charged_prices(of_other_policy, rules, at=AT) == Charged(of_other_policy, is_outdated=False)
    assert charged_prices(price_list(), rules, at=AT + HOUR_US) == Charged(None, is_outdated=True)
    assert charged_prices(of_other_policy, rulebook(), at=AT) == Charged(of_other_policy, is_outdated=True)


def test_a_record_names_the_prices_it_was_made_with() -> None:
    """And where they were outdated."""
    record = decision_records.record()

    used = Charged(price_list(), is_outdated=True).said_in(record)

    assert used.versions["prices"] == price_list().version
    assert used.degraded == (PRICES_OUTDATED,)
    assert Charged(None, is_outdated=False).said_in(record) is record
