"""Checks of the SQLite files of a home: who writes them, their layout, their pages. Nothing is written or locked."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from features.check_findings import Finding, failed, not_applicable, passed, warned
from features.sqlite_files import looked_up

WAL_RESET_MENDED: Final = (3, 51, 3)
"""Before it, two writers that check a file in at the same time can damage it; one writer never does."""
OLDEST_VERSION: Final = (3, 24, 0)
"""The first one with ``ON CONFLICT DO UPDATE``."""

_PROCESSES: Final = Path("/proc")
_SHOWN: Final = 3


def sqlite_version(version: Sequence[int] = sqlite3.sqlite_version_info) -> Finding:
    """Whether Python's SQLite can run the stores."""
    name, text = "sqlite version", ".".join(map(str, version))
    if tuple(version) < OLDEST_VERSION:
        return failed(
            name,
            f"SQLite {text}",
            expected=f"{'.'.join(map(str, OLDEST_VERSION))} or newer",
            remedy="use a Python that was built with a newer SQLite",
        )
    if tuple(version) < WAL_RESET_MENDED:
        mended = ".".join(map(str, WAL_RESET_MENDED))
        return passed(name, f"SQLite {text}; before {mended} two writers can damage a file, so each has one")
    return passed(name, f"SQLite {text}")


def one_writer(name: str, path: Path, *, processes: Path = _PROCESSES) -> Finding:
    """Whether at most one process writes a store's file, and holds its lock.

    Args:
        name: of the store.
        path: its file.
        processes: where the system shows its processes; other users' can be looked at by root only.
    """
    name = f"{name} writer"
    if not processes.joinpath("self").exists():
        return not_applicable(name, f"there is no {processes} to see who has {path} open")
    writers = _writing(path, processes)
    holders = _writing(_lock(path), processes)
    said = _told(path, processes)
    if len(writers) > 1:
        return failed(
            name,
            f"{path} is open for writing in {len(writers)} processes: {', '.join(map(said, sorted(writers)))}",
            expected="one",
            remedy="end all of them but the service, then look whether the file is sound with `headway doctor`",
        )
    if strangers := sorted(writers - holders):
        return warned(
            name,
            f"{path} is open for writing in {said(strangers[0])}, which does not hold its lock",
            expected="nobody who writes past the lock",
            remedy=f"end process {strangers[0]}: a second writer can damage the file",
        )
    if holders:
        return passed(name, f"written by {', '.join(map(said, sorted(holders)))}")
    named = _holder(path)[0]
    if named.isdecimal() and _is_hidden(processes / named):
        return passed(
            name, f"written by {said(int(named))}, as its lock says: this user cannot see that process's files"
        )
    return passed(name, "nobody writes it")


def _lock(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _told(path: Path, processes: Path) -> Callable[[int], str]:
    """How a process is named: as it wrote itself into the lock, else by its program; never with its arguments."""
    holder, command = _holder(path)
    return lambda pid: f"process {pid} ({command if str(pid) == holder else _program(pid, processes)})"


def _holder(path: Path) -> tuple[str, str]:
    """The process id and the command in a lock; empty where nobody wrote them, left over where somebody was killed."""
    holder, command = "", ""
    with suppress(OSError):
        holder, _, command = _lock(path).read_text("utf-8", "replace").strip().partition("\n")
    return holder, command


def _is_hidden(process: Path) -> bool:
    """Whether a process runs whose files this user cannot see."""
    try:
        os.listdir(process / "fd")
    except OSError:
        return process.exists()
    return False


def _program(pid: int, processes: Path) -> str:
    try:
        return (processes / str(pid) / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "ended"


def _writing(path: Path, processes: Path) -> set[int]:
    """The processes that have a file open for writing, as far as this user can see."""
    try:
        wanted = os.stat(path)
    except OSError:
        return set()
    return {pid for pid in _pids(processes) if _writes(processes / str(pid), wanted)}


def _pids(processes: Path) -> Iterator[int]:
    return (int(entry.name) for entry in processes.iterdir() if entry.name.isdecimal())


def _writes(process: Path, wanted: os.stat_result) -> bool:
    try:
        descriptors = os.listdir(process / "fd")
    except OSError:  # another user's, or it has ended
        return False
    for descriptor in descriptors:
        try:
            if os.path.samestat(os.stat(process / "fd" / descriptor), wanted):
                flags = (process / "fdinfo" / descriptor).read_text().partition("flags:")[2].split()[0]
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
        except (OSError, IndexError, ValueError):
            continue
    return False


def layout(name: str, path: Path, expected: int) -> Finding:
    """Whether a store's file has the layout of this release.

    Args:
        name: of the store.
        path: its file.
        expected: the layout version that this release writes.
    """
    check = f"{name} layout"
    if not path.is_file():
        return not_applicable(check, f"there is no {path} yet")
    try:
        version = looked_up(path, lambda connection: int(connection.execute("PRAGMA user_version").fetchone()[0]))
    except (sqlite3.Error, OSError) as error:
        return _unreadable(check, path, error)
    if version > expected:
        return failed(
            check,
            f"{path} has layout version {version}",
            expected=str(expected),
            remedy="use the release that wrote it, or a newer one",
        )
    if version < expected:
        return warned(
            check,
            f"{path} has layout version {version}",
            expected=str(expected),
            remedy="copy the home, then run `headway serve` or `headway import` once, which bring it up to date",
        )
    return passed(check, f"version {version}")


def pages(name: str, path: Path, *, remedy: str) -> Finding:
    """Whether the pages of a store's file hang together, by ``PRAGMA quick_check``; it reads the whole file.

    Args:
        name: of the store.
        path: its file.
        remedy: what to do where they do not.
    """
    check = f"{name} pages"
    if not path.is_file():
        return not_applicable(check, f"there is no {path} yet")
    expected = "a sound SQLite file"
    try:
        found = looked_up(path, _quick_check, is_sound=lambda said: said == ["ok"])
    except sqlite3.DatabaseError as error:
        return failed(check, f"{path}: {error}", expected=expected, remedy=remedy)
    except OSError as error:
        return _unreadable(check, path, error)
    if found != ["ok"]:
        return failed(check, f"{path}: {'; '.join(found[:_SHOWN])}", expected=expected, remedy=remedy)
    return passed(check, f"{path.stat().st_size:,} bytes hang together")


def _quick_check(connection: sqlite3.Connection) -> list[str]:
    # On one line each, since the finding is one.
    return [" ".join(str(row[0]).split()) for row in connection.execute("PRAGMA quick_check(10)")]


def _unreadable(check: str, path: Path, error: Exception) -> Finding:
    return failed(
        check,
        f"{path}: {error}",
        expected="a readable SQLite file",
        remedy="run as the user whom the service runs as; if the file is damaged, restore it from a backup",
    )
