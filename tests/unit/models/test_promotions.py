"""Promotion and rollback: one step, one log that only grows, and nothing lost where a process dies between them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from features.errors import BundleError, HomeLocked, Refused, UnknownObject
from models.bundle import FOREST
from models.promotion_log import Entry, champions_before, history_of, promotions_file, read_promotions
from models.promotions import Promoter, had_its_turn
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, read_champions
from tests.boosters import small_bundle

NAME = "nba-card"
AT = 1_700_000_000_000_000


class Died(BaseException):
    """The process was killed here."""


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """Three versions of one model, the first of them the champion."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    for _ in range(3):
        registry.register(tmp_path / "made", NAME, {})
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    return registry


def promoted(registry: LocalRegistry, version: int, **changes: Any) -> Entry:
    """A promotion."""
    return Promoter(registry).promote(NAME, version, **{"at": AT, "by": "ann", **changes})


def log_of(registry: LocalRegistry) -> list[Entry]:
    """The entries of the promotion log."""
    return read_promotions(promotions_file(registry.root))


def test_a_promotion_moves_the_alias_and_says_so(registry: LocalRegistry) -> None:
    """Who, what, when, evidence, and the alias before and after; what was intended stands before what was done."""
    promoted(registry, 2, evidence={"difference": 1.5}, reason="it earns more")

    assert registry.alias(NAME, CHAMPION) == 2
    intent, done = log_of(registry)
    assert (intent.step, done.step) == ("intended", "done")
    assert intent.before is not None
    assert (intent.by, intent.at, intent.before.version, intent.after.version) == ("ann", AT, 1, 2)
    assert (intent.evidence, intent.reason, intent.forced) == ({"difference": 1.5}, "it earns more", False)
    assert intent.after.manifest_sha256 == read_champions(registry.root / "champion.json")[NAME].manifest_sha256


def test_the_log_only_grows(registry: LocalRegistry) -> None:
    """What was written stays, byte for byte."""
    file = promotions_file(registry.root)
    promoted(registry, 2)
    before = file.read_bytes()

    promoted(registry, 3)
    Promoter(registry).rollback(NAME, at=AT, by="bob")

    assert file.read_bytes().startswith(before)


def test_a_forced_promotion_is_logged_as_one(registry: LocalRegistry) -> None:
    """And has a reason."""
    with pytest.raises(Refused, match="without a reason"):
        promoted(registry, 2, forced=True, reason=" ")

    promoted(registry, 2, forced=True, reason="the old one leaks")

    assert [(one.forced, one.reason) for one in log_of(registry)] == [(True, "the old one leaks")] * 2


def test_a_rollback_goes_to_the_champion_before(registry: LocalRegistry) -> None:
    """Twice goes back two, and then there is none."""
    promoted(registry, 2)
    promoted(registry, 3)
    promoter = Promoter(registry)

    found = [promoter.rollback(NAME, at=AT, by="bob").after.version for _ in range(2)]

    assert found == [2, 1]
    assert registry.alias(NAME, CHAMPION) == 1
    with pytest.raises(Refused, match="names no champion"):
        promoter.rollback(NAME, at=AT, by="bob")


def test_a_rollback_that_says_what_it_leaves_goes_back_once(registry: LocalRegistry) -> None:
    """Whoever did not see the answer may ask again: nothing else moves."""
    promoted(registry, 2)
    promoted(registry, 3)
    promoter = Promoter(registry)

    first = promoter.rollback(NAME, at=AT, by="bob", leaving=3)

    assert first.after.version == 2
    with pytest.raises(Refused, match="is the champion, expected version 3"):
        promoter.rollback(NAME, at=AT, by="bob", leaving=3)
    assert registry.alias(NAME, CHAMPION) == 2


def test_the_first_champion_has_none_before(registry: LocalRegistry) -> None:
    """It can be promoted, and not rolled back from."""
    (registry.root / "champion.json").unlink()

    assert promoted(registry, 2).before is None

    with pytest.raises(Refused, match="names no champion"):
        Promoter(registry).rollback(NAME, at=AT, by="bob")
    assert registry.alias(NAME, CHAMPION) == 2


def test_a_champion_whose_bundle_is_gone_can_be_left(registry: LocalRegistry) -> None:
    """That is when a rollback is needed most."""
    promoted(registry, 2)
    shutil.rmtree(registry.root / NAME / "2")

    assert Promoter(registry).rollback(NAME, at=AT, by="bob").after.version == 1
    assert registry.alias(NAME, CHAMPION) == 1


def test_a_rollback_leaves_what_another_hand_promoted(registry: LocalRegistry) -> None:
    """The alias was moved beside the log: the last champion of the log is the one before."""
    promoted(registry, 2)
    registry.set_alias(NAME, CHAMPION, 3, at=AT)

    assert Promoter(registry).rollback(NAME, at=AT, by="bob").after.version == 2


def test_a_refusal_is_kept(registry: LocalRegistry) -> None:
    """It moves nothing, and is no champion to go back to."""
    Promoter(registry).refused(NAME, 2, at=AT, by="ann", evidence={"reasons": ["worse"]})

    (entry,) = log_of(registry)
    assert (entry.step, entry.evidence) == ("refused", {"reasons": ["worse"]})
    assert registry.alias(NAME, CHAMPION) == 1
    assert history_of([entry], NAME) == []


def test_the_champion_is_not_promoted_again(registry: LocalRegistry) -> None:
    """Nor what does not exist, nor what the evidence is not about."""
    with pytest.raises(Refused, match="champion already"):
        promoted(registry, 1)
    with pytest.raises(UnknownObject):
        promoted(registry, 9)
    with pytest.raises(Refused, match="expected version 3"):
        promoted(registry, 2, expected=3)
    assert log_of(registry) == []


def test_a_damaged_bundle_is_never_promoted(registry: LocalRegistry) -> None:
    """Nor gone back to."""
    promoted(registry, 2)
    for version in (1, 3):
        forest = registry.path(NAME, version) / FOREST
        forest.write_bytes(forest.read_bytes()[:-1])

    with pytest.raises(BundleError):
        promoted(registry, 3)
    with pytest.raises(BundleError):
        Promoter(registry).rollback(NAME, at=AT, by="bob")
    assert registry.alias(NAME, CHAMPION) == 2


def test_two_promotions_at_once_are_not_mixed(registry: LocalRegistry) -> None:
    """The second is refused, and nothing of it is logged."""
    with Promoter(registry).lock(), pytest.raises(HomeLocked):
        promoted(registry, 2)

    assert (registry.alias(NAME, CHAMPION), log_of(registry)) == (1, [])


@pytest.mark.parametrize("moved", [False, True])
def test_a_death_before_or_after_the_alias_is_settled(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    """The next one sees from the alias whether what was intended was done, and writes that down first."""
    move = LocalRegistry.set_alias

    def dies(self: LocalRegistry, name: str, alias: str, version: int, *, at: int) -> None:
        if moved:
            move(self, name, alias, version, at=at)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(LocalRegistry, "set_alias", dies)
        with pytest.raises(Died):
            promoted(registry, 2)
    assert [one.step for one in log_of(registry)] == ["intended"]

    promoted(registry, 3)

    steps = [(one.number, one.step, one.recovered) for one in log_of(registry)]
    assert steps == [
        (1, "intended", False),
        (1, "done" if moved else "abandoned", True),
        (2, "intended", False),
        (2, "done", False),
    ]
    assert Promoter(registry).rollback(NAME, at=AT, by="bob").after.version == (2 if moved else 1)


def test_a_line_that_was_cut_off_is_passed_over(registry: LocalRegistry) -> None:
    """Its writer died within it: it moved nothing, and the next entry stands on a line of its own."""
    promoted(registry, 2)
    with promotions_file(registry.root).open("ab") as file:
        file.write(b'{"format":1,"number":2,"st')

    promoted(registry, 3)

    assert [(one.number, one.step) for one in log_of(registry)] == [
        *((1, "intended"), (1, "done")),
        *((2, "intended"), (2, "done")),
    ]


def test_a_damaged_alias_file_is_mended_from_the_log(registry: LocalRegistry, tmp_path: Path) -> None:
    """It is put aside, and every name has its champion again."""
    promoted(registry, 2)
    (registry.root / "champion.json").write_text("{")

    promoted(registry, 3)

    assert registry.alias(NAME, CHAMPION) == 3
    assert Promoter(registry).rollback(NAME, at=AT, by="bob").after.version == 2
    assert (registry.root / "champion.damaged").read_text() == "{"


def test_workers_are_told_the_champions_before(registry: LocalRegistry) -> None:
    """The latest first, with the digests that prove them."""
    promoted(registry, 2)
    promoted(registry, 3)

    found = champions_before(log_of(registry), registry.root, NAME)

    assert [one.version for one in found] == [3, 2, 1]
    assert [one.path for one in found] == [registry.path(NAME, version) for version in (3, 2, 1)]
    assert all(one.manifest_sha256 for one in found)


def test_the_logs_format_is_frozen(registry: LocalRegistry) -> None:
    """One JSON object a line."""
    promoted(registry, 2, evidence={"ess": 1.0}, reason="better")
    digest = read_champions(registry.root / "champion.json")[NAME].manifest_sha256

    first = json.loads(promotions_file(registry.root).read_bytes().splitlines()[0])

    assert first == {
        "format": 1,
        "number": 1,
        "step": "intended",
        "kind": "promote",
        "name": NAME,
        "at": "2023-11-14T22:13:20.000000Z",
        "by": "ann",
        "before": {"version": 1, "manifest_sha256": digest},
        "after": {"version": 2, "manifest_sha256": digest},
        "forced": False,
        "reason": "better",
        "recovered": False,
        "evidence": {"ess": 1.0},
    }


def test_what_is_promoted_is_no_challenger_any_more(registry: LocalRegistry) -> None:
    """Also by force, and also where it is rolled back to."""
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    promoted(registry, 2)
    assert registry.alias(NAME, CHALLENGER) is None

    registry.set_alias(NAME, CHALLENGER, 1, at=AT)
    Promoter(registry).rollback(NAME, at=AT, by="bob")
    assert (registry.alias(NAME, CHAMPION), registry.alias(NAME, CHALLENGER)) == (1, None)


def test_another_challenger_stays(registry: LocalRegistry) -> None:
    """It was not promoted, and goes on being compared."""
    registry.set_alias(NAME, CHALLENGER, 3, at=AT)
    promoted(registry, 2)
    Promoter(registry).rollback(NAME, at=AT, by="bob")
    assert registry.alias(NAME, CHALLENGER) == 3


def test_a_challenger_that_a_dying_process_left_is_freed_by_the_next(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died after the champion's alias was moved."""
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    with monkeypatch.context() as dying:
        dying.setattr(LocalRegistry, "remove_alias", _dies)
        with pytest.raises(Died):
            promoted(registry, 2)
    assert (registry.alias(NAME, CHAMPION), registry.alias(NAME, CHALLENGER)) == (2, 2)

    Promoter(registry).refused(NAME, 3, at=AT + 1, by="bob", evidence={})

    assert registry.alias(NAME, CHALLENGER) is None


def _dies(*_: Any) -> None:
    raise Died


def test_damaged_challengers_keep_nobody_from_promoting(registry: LocalRegistry) -> None:
    """Their file is left alone."""
    (registry.root / "challenger.json").write_text("{")
    assert promoted(registry, 2).step == "done"
    assert (registry.root / "challenger.json").read_text() == "{"


def test_a_version_had_its_turn_by_an_alias_or_by_the_log(registry: LocalRegistry) -> None:
    """One that was rolled back from did; one that was only registered did not."""
    promoted(registry, 2)
    Promoter(registry).rollback(NAME, at=AT, by="bob")
    assert [had_its_turn(registry, NAME, version) for version in (1, 2, 3)] == [True, True, False]
