"""Promotions by several processes at once, of which some are killed: alias and log never tell different stories."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.promotion_log import history_of, promotions_file, read_promotions
from models.promotions import Promoter
from models.registry import CHAMPION, LocalRegistry
from tests.boosters import small_bundle

NAME = "nba-card"
AT = 1_700_000_000_000_000
PROCESSES, ROUNDS, VERSIONS = 3, 12, 4

PROMOTING = """
import sys, time
from pathlib import Path
from features.errors import HomeLocked, Refused
from models.promotions import Promoter
from models.registry import LocalRegistry

promoter = Promoter(LocalRegistry(Path(sys.argv[1])))
number, rounds, versions = (int(one) for one in sys.argv[2:5])
for i in range(rounds):
    try:
        promoter.promote("nba-card", 1 + (number + i) % versions, at=1_700_000_000_000_000 + i, by=f"p{number}")
    except (HomeLocked, Refused):
        time.sleep(0.01)
"""
DYING = """
import os, signal, sys
from pathlib import Path
from models.promotions import Promoter
from models.registry import LocalRegistry

move, when = LocalRegistry.set_alias, sys.argv[2]
def dies(self, name, alias, version, *, at):
    if when == "after":
        move(self, name, alias, version, at=at)
    os.kill(os.getpid(), signal.SIGKILL)
LocalRegistry.set_alias = dies
Promoter(LocalRegistry(Path(sys.argv[1]))).promote("nba-card", 2, at=1_700_000_000_000_000, by="ann")
"""


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """Some versions, the first of them the champion."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    for _ in range(VERSIONS):
        registry.register(tmp_path / "made", NAME, {})
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    return registry


def test_processes_that_promote_at_once_take_turns(registry: LocalRegistry) -> None:
    """Every promotion in the log was carried out whole before the next, and starts where that one ended."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PROMOTING, str(registry.root), str(i), str(ROUNDS), str(VERSIONS)])
        for i in range(PROCESSES)
    ]
    assert [one.wait(120) for one in processes] == [0] * PROCESSES

    entries = read_promotions(promotions_file(registry.root))

    assert entries
    assert [one.step for one in entries] == ["intended", "done"] * (len(entries) // 2)
    done = entries[1::2]
    assert [one.number for one in done] == list(range(1, len(done) + 1))
    assert [one.before.version for one in done if one.before] == [1, *(one.after.version for one in done[:-1])]
    assert registry.alias(NAME, CHAMPION) == done[-1].after.version == history_of(entries, NAME)[-1].version


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_between_log_and_alias_is_settled_by_the_next(registry: LocalRegistry, when: str) -> None:
    """Whichever side of the move it came on."""
    killed = subprocess.run([sys.executable, "-c", DYING, str(registry.root), when], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert registry.alias(NAME, CHAMPION) == (1 if when == "before" else 2)
    written = promotions_file(registry.root).read_bytes()

    Promoter(registry).promote(NAME, 3, at=AT + 1, by="bob")

    assert promotions_file(registry.root).read_bytes().startswith(written)
    settled = read_promotions(promotions_file(registry.root))[1]
    assert (settled.number, settled.step, settled.recovered) == (1, "abandoned" if when == "before" else "done", True)
    assert Promoter(registry).rollback(NAME, at=AT + 2, by="bob").after.version == (1 if when == "before" else 2)
