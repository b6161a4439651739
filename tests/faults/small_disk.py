"""A disk of a few megabytes, which fills up and can be made read-only, where this process may mount one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory at ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                while _takes(file.fileno(), size):
                    pass

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def remount(self, how: str) -> None:
        """Take no writes (``ro``), or take them again (``rw``); nobody may have a file open for writing."""
        _run("mount", "-o", f"remount,{how}", str(self.root))


@contextmanager
def small_disk(root: Path, *, megabytes: int = 16) -> Iterator[SmallDisk]:
    """A small disk mounted at a folder; the test is skipped where nothing can be mounted."""
    root.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or not _may_mount(root, megabytes):
        pytest.skip("this process may not mount a file system: run as root to try a disk that is really full")
    try:
        yield SmallDisk(root)
    finally:
        _run("umount", "-l", str(root))


def _takes(descriptor: int, size: int) -> bool:
    try:
        return os.write(descriptor, bytes(size)) == size
    except OSError:
        return False


def _may_mount(root: Path, megabytes: int) -> bool:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "headway-test", str(root)],  # noqa: S607  # of the machine
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
