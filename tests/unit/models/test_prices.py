"""Price lists: what a candidate is charged, until when they hold, and the files they are kept in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.durations import parse_duration
from features.errors import HomeLocked, StoreCorrupted, UnknownObject
from features.events import parse_timestamp
from features.home import lock_file
from models.capacity import window_start
from models.deliberation import deliberate
from models.policy import Capacity
from models.price_files import CURRENT, current_versions, publish_prices, read_prices
from models.prices import PriceList, capacity_version, dump_prices, money_price, unit_price, window_end
from tests.decisions import action, policy, rulebook
from tests.unit.models.test_ranking import customer

AT = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
CAPACITY = {
    "limits": [
        {"id": "limit.phone", "units": 5, "period": "1d", "channel": "phone"},
        {"id": "limit.desk", "units": 2, "period": "1d", "queue": "desk"},
        {"id": "limit.desk_phone", "units": 1, "period": "1d", "queue": "desk", "channel": "phone"},
    ],
    "budgets": [
        {"id": "budget.all", "amount": 100.0, "period": "30d"},
        {"id": "budget.grow", "amount": 50.0, "period": "30d", "issues": ["grow"]},
    ],
}
PRICES = {"limit.phone": 1.0, "limit.desk": 0.25, "limit.desk_phone": 0.5, "budget.all": 0.125, "budget.grow": 2.0}


def price_list(**changes: Any) -> PriceList:
    """Prices of the capacity above that hold for an hour."""
    fields: dict[str, Any] = {
        "journey_id": "application",
        "created_at": AT,
        "valid_until": AT + HOUR_US,
        "policy_version": "p1",
        "capacity_version": capacity_version(Capacity.model_validate(CAPACITY)),
        "bundle": "nba-application@champion/1",
        "prices": PRICES,
        "value": 120.5,
        "gap": 0.25,
    }
    return PriceList(**(fields | changes))


def test_a_candidate_pays_for_everything_that_it_takes_from() -> None:
    """Channel and queue as the limit names them, on top of the channel's own price; issues as the budget names them."""
    rules = policy(capacity=CAPACITY, channel_price={"phone": 4.0})

    assert unit_price(rules, PRICES, channel="phone", queue="desk") == 5.75
    assert unit_price(rules, PRICES, channel="phone", queue=None) == 5.0
    assert unit_price(rules, PRICES, channel="mail", queue="desk") == 0.25
    assert unit_price(rules, {}, channel="phone", queue="desk") == 4.0
    assert money_price(rules, PRICES, issue="grow") == 2.125
    assert money_price(rules, PRICES, issue="service") == 0.125
    assert money_price(rules, {}, issue="grow") == 0.0


def test_what_the_policy_does_not_declare_is_not_charged() -> None:
    """A price of a limit that is gone says nothing about the ones there are."""
    rules = policy(capacity={"limits": CAPACITY["limits"][:1]})

    assert unit_price(rules, PRICES, channel="phone", queue="desk") == 1.0
    assert money_price(rules, PRICES, issue="grow") == 0.0


def test_prices_are_subtracted_from_the_net_value() -> None:
    """``channel_price`` per contact; ``budget_price`` per money spent: 0.1 for the contact, and 20 for everybody."""
    rules = rulebook(action(incentive_cost=20.0, issue="grow"), policy_changes={"capacity": CAPACITY})
    free = deliberate(customer(), rules, None).factors["nudge_phone"]
    charged = deliberate(replace(customer(), prices=price_list()), rules, None)

    factors = charged.factors["nudge_phone"]
    assert (factors.channel_price, factors.budget_price) == (1.0, 2.125 * 20.1)
    assert factors.net_value == pytest.approx(free.net_value - 1.0 - 2.125 * 20.1)
    assert charged.candidates[0].budget_price == factors.budget_price


def test_the_version_is_the_contents() -> None:
    """Twelve digits; another price is another version; the bytes do not depend on the order of the prices."""
    backwards = dict(reversed(list(PRICES.items())))

    assert price_list().version == price_list(prices=backwards).version
    assert price_list().version != price_list(prices={**PRICES, "limit.desk": 0.26}).version
    assert len(price_list().version) == 12


def test_prices_hold_for_their_journey_until_their_end() -> None:
    """Not at the end itself."""
    prices = price_list()

    assert prices.is_valid("application", AT + HOUR_US - 1)
    assert not prices.is_valid("application", AT + HOUR_US)
    assert not prices.is_valid("another", AT)


def test_prices_are_of_the_capacities_that_they_were_found_under() -> None:
    """Whatever else of a policy changes."""
    prices = price_list()

    assert prices.is_of(policy(capacity=CAPACITY), "p2")
    assert not prices.is_of(policy(), "p2")


@pytest.mark.parametrize(
    ("period", "at", "expected"),
    [
        ("1d", "2026-03-10T15:30:00+01:00", "2026-03-11T00:00:00+01:00"),
        # The days on which clocks go forward and back have 23 and 25 hours.
        ("1d", "2026-03-29T15:30:00+02:00", "2026-03-30T00:00:00+02:00"),
        ("1d", "2026-10-25T15:30:00+01:00", "2026-10-26T00:00:00+01:00"),
        ("6h", "2026-03-10T15:30:00+01:00", "2026-03-10T18:00:00+01:00"),
        ("7d", "2026-03-11T15:30:00+01:00", "2026-03-16T00:00:00+01:00"),
    ],
)
def test_the_end_of_a_period(period: str, at: str, expected: str) -> None:
    """Midnight of the zone, or a part of the day."""
    assert window_end(parse_duration(period), parse_timestamp(at), "Europe/Amsterdam") == parse_timestamp(expected)


@given(st.integers(0, 2**52), st.sampled_from([1, 6, 24, 48, 7 * 24]), st.sampled_from(["UTC", "America/New_York"]))
def test_periods_follow_each_other(at: int, hours: int, zone: str) -> None:
    """The end of one is the start of the next."""
    start, end = window_start(hours * HOUR_US, at, zone), window_end(hours * HOUR_US, at, zone)

    assert start <= at < end
    assert window_start(hours * HOUR_US, end - 1, zone) == start
    assert window_start(hours * HOUR_US, end, zone) == end


def test_what_is_published_is_current_and_kept(tmp_path: Path) -> None:
    """The lists before it stay; each journey has its own; publishing the same again changes nothing."""
    first, second = price_list(), price_list(created_at=AT + 1)
    other = price_list(journey_id="another")
    for prices in (first, other, second, second):
        assert publish_prices(tmp_path, prices) == prices.version

    assert current_versions(tmp_path) == {"application": second.version, "another": other.version}
    assert [read_prices(tmp_path, one.version) for one in (first, second, other)] == [first, second, other]


def test_the_files_formats_are_frozen(tmp_path: Path) -> None:
    """Replay reads them for ever."""
    version = publish_prices(tmp_path, price_list())

    assert json.loads((tmp_path / CURRENT).read_bytes()) == {"format": 1, "current": {"application": version}}
    assert json.loads((tmp_path / f"{version}.json").read_bytes()) == {
        "journey_id": "application",
        "created_at": AT,
        "valid_until": AT + HOUR_US,
        "policy_version": "p1",
        "capacity_version": price_list().capacity_version,
        "bundle": "nba-application@champion/1",
        "prices": PRICES,
        "value": 120.5,
        "gap": 0.25,
    }
    assert version == "e4716ec75527"


def test_damaged_or_missing_lists_are_refused(tmp_path: Path) -> None:
    """Bytes that are not those that the version names are no price list."""
    version = publish_prices(tmp_path, price_list())
    with pytest.raises(UnknownObject, match="no price list 0123456789ab"):
        read_prices(tmp_path, "0123456789ab")
    with pytest.raises(UnknownObject, match="expected twelve hexadecimal digits"):
        read_prices(tmp_path, "../current")
    (tmp_path / f"{version}.json").write_bytes(dump_prices(price_list(value=1.0)))
    with pytest.raises(StoreCorrupted, match="holds the prices"):
        read_prices(tmp_path, version)
    (tmp_path / f"{version}.json").write_bytes(b"{")
    with pytest.raises(StoreCorrupted, match="is damaged"):
        read_prices(tmp_path, version)
    (tmp_path / CURRENT).write_bytes(b'{"format": 1, "current": {"application": "../../x"}}')
    with pytest.raises(StoreCorrupted, match="publish prices again"):
        current_versions(tmp_path)


def test_one_publishes_at_a_time(tmp_path: Path) -> None:
    """The other is told who does."""
    with lock_file(tmp_path / CURRENT), pytest.raises(HomeLocked):
        publish_prices(tmp_path, price_list())
