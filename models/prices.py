"""What scarce capacity costs: dual prices of one batch ranking, subtracted by every decision while they hold.

A price list is a value like a bundle: a decision names the version that it was made with, and replay reads it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Final

import msgspec

from features.events import MICROSECONDS_PER_DAY
from features.yaml_files import content_version
from models.capacity import takes_money, takes_unit, window_start
from models.policy import Capacity, Policy

PRICES_OUTDATED: Final = "prices_outdated"
"""Said of a decision where the published prices are another capacity's, or are no longer valid."""

_A_BIT: Final = 4 * 3_600_000_000


class PriceList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """The prices of one batch ranking.

    Attributes:
        journey_id: the journey that was ranked.
        created_at: microseconds since the epoch.
        valid_until: the end of what was left to share out, likewise; they hold before it.
        policy_version: of the policy that declares what is scarce.
        capacity_version: of that part of it.
        bundle: label of the bundle that valued the customers; None where catalogue priors alone did.
        prices: money per unit of each capacity, and money per unit of money of each budget, by id.
        value: money that the allocation is worth.
        gap: what at most it may be worth more.
    """

    journey_id: str
    created_at: int
    valid_until: int
    policy_version: str
    capacity_version: str
    bundle: str | None
    prices: dict[str, float]
    value: float
    gap: float

    @cached_property
    def version(self) -> str:
        """Twelve hexadecimal digits of the content."""
        return hashlib.blake2b(dump_prices(self), digest_size=6).hexdigest()

    def is_valid(self, journey_id: str, at: int) -> bool:
        """Whether a decision on a journey at a moment is charged these prices."""
        return self.journey_id == journey_id and at < self.valid_until

    def is_of(self, policy: Policy, policy_version: str) -> bool:
        """Whether they were found under the capacities and budgets that a policy declares."""
        return self.policy_version == policy_version or self.capacity_version == capacity_version(policy.capacity)


def dump_prices(prices: PriceList) -> bytes:
    """Canonical bytes: the same prices are the same bytes."""
    return msgspec.json.encode(prices, order="deterministic")


@lru_cache(maxsize=32)
def capacity_version(capacity: Capacity) -> str:
    """Changes when a capacity or a budget is declared otherwise."""
    return content_version(capacity)


def unit_price(policy: Policy, prices: Mapping[str, float], *, channel: str, queue: str | None) -> float:
    """What a contact costs beside its own costs: the channel's fixed price, and those of the capacities it takes from.

    Args:
        policy: fixed prices, and capacities; what it does not declare is not charged.
        prices: dual prices by id.
        channel: of the treatment.
        queue: that works the action, if any.
    """
    total = policy.channel_price.get(channel, 0.0)
    if prices:
        for limit in policy.capacity.limits:
            if takes_unit(limit, channel=channel, queue=queue):
                total += prices.get(limit.id, 0.0)
    return total


def money_price(policy: Policy, prices: Mapping[str, float], *, issue: str) -> float:
    """What each unit of money spent on an action of an issue costs beside itself; arguments as above."""
    total = 0.0
    if prices:
        for budget in policy.capacity.budgets:
            if takes_money(budget, issue=issue):
                total += prices.get(budget.id, 0.0)
    return total


def window_end(period: int, at: int, time_zone: str) -> int:
    """When the period ends that a moment is in, as ``capacity.window_start`` counts; microseconds since the epoch."""
    start = window_start(period, at, time_zone)
    if period >= MICROSECONDS_PER_DAY:
        # A little more than so many days of 24 hours is after the midnight, also where clocks are set back in between.
        return window_start(period, start + period // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY + _A_BIT, time_zone)
    return min(start + period, window_end(MICROSECONDS_PER_DAY, at, time_zone))
