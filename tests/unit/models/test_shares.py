"""Steps of a rollout in the promotion log: alias and share move together; a death between them gives nobody more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.errors import BundleError, Refused, StoreUnavailable
from models.bundle import FOREST
from models.promotion_log import Entry, Shares, champions_before, history_of, promotions_file, read_promotions
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from tests.boosters import small_bundle

NAME = "nba-card"
AT = 1_700_000_000_000_000


class Died(BaseException):
    """The process was killed here."""


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """Three versions of one model: the champion, the challenger, and another one."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    for _ in range(3):
        registry.register(tmp_path / "made", NAME, {})
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    return registry


class World:
    """A policy's share, and where the challenger's alias was whenever it was written."""

    def __init__(self, registry: LocalRegistry, share: float = 0.0) -> None:
        self.registry, self.share = registry, share
        self.moments: list[tuple[int | None, float]] = []

    def put(self, share: float) -> None:
        """Write the share."""
        self.share = share
        self.moments.append((self.registry.alias(NAME, CHALLENGER), share))

    def step(self, version: int, after: float, put: Callable[[float], object] | None = None, **changes: Any) -> Entry:
        """A step from the share of now."""
        promoter = Promoter(self.registry, share=lambda: self.share)
        shares = Shares(before=self.share, after=after)
        return promoter.give_share(NAME, version, shares, put=put or self.put, **{"at": AT, "by": "ann", **changes})

    @property
    def log(self) -> list[Entry]:
        """The promotion log."""
        return read_promotions(promotions_file(self.registry.root))


def test_a_step_moves_alias_and_share_and_says_so(registry: LocalRegistry) -> None:
    """The champion stays; the log has the versions, both shares and the evidence."""
    world = World(registry)

    world.step(3, 0.1, evidence={"share": 0.1}, reason="looks good")

    assert (registry.alias(NAME, CHALLENGER), registry.alias(NAME, CHAMPION), world.share) == (3, 1, 0.1)
    intent, done = world.log
    assert [one.step for one in (intent, done)] == ["intended", "done"]
    assert intent.before is not None
    assert (intent.kind, intent.before.version, intent.after.version) == ("share", 2, 3)
    assert (intent.share, done.share) == (Shares(before=0.0, after=0.1), Shares(before=0.0, after=0.1))
    assert (intent.evidence, intent.reason, done.evidence) == ({"share": 0.1}, "looks good", {})


def test_a_share_that_grows_is_written_last_and_one_that_falls_first(registry: LocalRegistry) -> None:
    """So that at no moment a version decides for more than the smaller one unasked."""
    world = World(registry)

    world.step(3, 0.5)
    world.step(2, 0.1)

    assert world.moments == [(3, 0.5), (3, 0.1)]
    assert registry.alias(NAME, CHALLENGER) == 2


def test_the_end_leaves_the_alias_alone(registry: LocalRegistry) -> None:
    """Everybody is the champion's again; the challenger can still be looked at."""
    world = World(registry, 0.5)

    world.step(1, 0.0)

    assert (registry.alias(NAME, CHALLENGER), world.share) == (2, 0.0)


def test_a_champion_is_never_made_the_challenger(registry: LocalRegistry) -> None:
    """As when a promotion puts the share back to a standing one."""
    world = World(registry, 0.5)

    world.step(1, 0.05)

    assert (registry.alias(NAME, CHALLENGER), world.share) == (2, 0.05)


def test_steps_are_no_champions_of_before(registry: LocalRegistry) -> None:
    """A rollback goes back through promotions only, whatever was rolled out between them."""
    world = World(registry)
    world.step(3, 0.1)
    Promoter(registry, share=lambda: world.share).promote(NAME, 3, at=AT, by="ann")
    world.step(2, 0.5)

    assert [one.version for one in history_of(world.log, NAME)] == [1, 3]
    assert [one.version for one in champions_before(world.log, registry.root, NAME)] == [3, 1]
    entry = Promoter(registry, share=lambda: world.share).rollback(NAME, at=AT, by="ann")
    assert (entry.after.version, registry.alias(NAME, CHAMPION), world.share) == (1, 1, 0.5)


def test_a_policy_that_cannot_be_written_takes_the_alias_back(registry: LocalRegistry) -> None:
    """And the log says that nothing came of it."""
    world = World(registry)

    def fail(share: float) -> None:
        raise StoreUnavailable("a full disk")

    with pytest.raises(StoreUnavailable):
        world.step(3, 0.1, put=fail)

    assert (registry.alias(NAME, CHALLENGER), world.share) == (2, 0.0)
    assert [one.step for one in world.log] == ["intended", "abandoned"]


@pytest.mark.parametrize("error", [StoreUnavailable("a full disk"), OSError(28, "No space left on device")])
def test_a_policy_that_cannot_be_written_makes_no_challenger(registry: LocalRegistry, error: Exception) -> None:
    """Where there was none before, there is none afterwards: a standing share would be its from then on."""
    registry.remove_alias(NAME, CHALLENGER)
    world = World(registry, 0.05)

    def fail(share: float) -> None:
        raise error

    with pytest.raises(type(error)):
        world.step(3, 0.1, put=fail)

    assert (registry.alias(NAME, CHALLENGER), world.share) == (None, 0.05)
    assert [one.step for one in world.log] == ["intended", "abandoned"]


@pytest.mark.parametrize(("when", "expected"), [("before", "abandoned"), ("after", "done")])
def test_a_death_while_the_policy_is_written_is_settled_by_the_next(
    registry: LocalRegistry, when: str, expected: str
) -> None:
    """By the share that is in force, and by the alias."""
    world = World(registry)

    def dies(share: float) -> None:
        if when == "after":
            world.put(share)
        raise Died

    with pytest.raises(Died):
        world.step(3, 0.1, put=dies)
    world.step(3, 0.2)

    settled = world.log[1]
    assert (settled.step, settled.recovered, settled.share) == (expected, True, Shares(before=0.0, after=0.1))


def test_who_does_not_know_the_share_leaves_its_steps_unsettled(registry: LocalRegistry) -> None:
    """A wrong settlement would be worse than a late one."""
    world = World(registry)

    def dies(share: float) -> None:
        raise Died

    with pytest.raises(Died):
        world.step(3, 0.1, put=dies)
    Promoter(registry).promote(NAME, 2, at=AT, by="bob")

    assert [(one.kind, one.step) for one in world.log] == [
        ("share", "intended"),
        ("promote", "intended"),
        ("promote", "done"),
    ]


def test_evidence_about_another_champion_is_refused(registry: LocalRegistry) -> None:
    """Somebody promoted meanwhile: the comparison was with somebody else."""
    with pytest.raises(Refused, match="another one by now, expected version 2"):
        World(registry).step(3, 0.1, expected=2)


def test_a_share_that_somebody_else_changed_meanwhile_is_refused(registry: LocalRegistry) -> None:
    """The rollout was ended while the gate was being asked: it does not go on by itself."""
    world = World(registry, 0.1)
    asked = Shares(before=0.1, after=0.5)
    world.put(0.0)

    with pytest.raises(Refused, match=r"the share is 0 by now, expected 0\.1"):
        Promoter(registry, share=lambda: world.share).give_share(NAME, 2, asked, put=world.put, at=AT, by="ann")
    assert (world.share, world.log) == (0.0, [])


@pytest.mark.parametrize("by_now", [0.0, 0.05, 0.5])
def test_a_step_from_another_share_is_refused(registry: LocalRegistry, by_now: float) -> None:
    """Somebody stopped it, or went on, while the gate was asked: the evidence is about another step."""
    world = World(registry, 0.1)

    def changed_meanwhile() -> float:
        return by_now

    promoter = Promoter(registry, share=changed_meanwhile)
    with pytest.raises(Refused, match=rf"the share is {by_now:g} by now, expected 0\.1"):
        promoter.give_share(NAME, 3, Shares(before=0.1, after=0.2), put=world.put, at=AT, by="ann")

    assert (world.log, registry.alias(NAME, CHALLENGER), world.share) == ([], 2, 0.1)


def test_a_rollout_ends_from_whatever_share(registry: LocalRegistry) -> None:
    """A share of 0 is what somebody in a hurry wants."""
    world = World(registry, 0.5)

    Promoter(registry, share=lambda: world.share).give_share(
        NAME, 1, Shares(before=0.1, after=0.0), put=world.put, at=AT, by="ann"
    )

    assert world.share == 0.0


def test_a_forced_step_needs_a_reason(registry: LocalRegistry) -> None:
    """It is kept in the log."""
    world = World(registry)
    with pytest.raises(Refused, match="without a reason"):
        world.step(3, 0.1, forced=True)

    world.step(3, 0.1, forced=True, reason="we know")

    assert world.log[0].forced


def test_a_damaged_bundle_decides_for_nobody(registry: LocalRegistry) -> None:
    """It is looked at before anything is written."""
    (registry.path(NAME, 3) / FOREST).write_bytes(b"damaged")
    world = World(registry)

    with pytest.raises(BundleError):
        world.step(3, 0.1)
    assert (world.log, registry.alias(NAME, CHALLENGER)) == ([], 2)


def test_a_refused_step_is_kept_in_the_log(registry: LocalRegistry) -> None:
    """With the shares that were asked for."""
    Promoter(registry).refused(
        NAME, 3, at=AT, by="ann", evidence={"promotes": False}, shares=Shares(before=0.0, after=0.5)
    )

    (entry,) = World(registry).log
    assert (entry.kind, entry.step, entry.share) == ("share", "refused", Shares(before=0.0, after=0.5))


def test_only_lines_of_shares_have_the_newer_format(registry: LocalRegistry) -> None:
    """A release that knows no shares passes those over, and reads everything else."""
    world = World(registry)
    world.step(3, 0.1)
    Promoter(registry).promote(NAME, 3, at=AT, by="ann")

    lines = [json.loads(line) for line in promotions_file(registry.root).read_bytes().splitlines()]

    assert [(one["format"], "share" in one) for one in lines] == [(2, True), (2, True), (1, False), (1, False)]
