"""Checks of a home's files: who may read and write them, and what killed commands left behind."""

from __future__ import annotations

import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from features.check_findings import Finding, failed, not_applicable, passed, warned
from features.home import HOME_VARIABLE, Home

_OTHERS: Final = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH
_ALL_BUT_OWNER: Final = stat.S_IRWXG | stat.S_IRWXO

LEFT_OVER_SECONDS: Final = 3_600
"""No command that a service runs for a caller takes as long."""


def privacy(home: Home) -> Finding:
    """Whether only its owner and group can look into a home: it holds personal data."""
    name = "home privacy"
    if not home.root.exists():
        return not_applicable(name, f"there is no {home.root} yet")
    mode = home.root.stat().st_mode
    if mode & _OTHERS:
        return warned(
            name,
            f"everybody on this machine can enter {home.root} ({stat.filemode(mode)})",
            expected="its owner and group alone",
            remedy=f"chmod o-rwx {shlex.quote(str(home.root))}",
        )
    return passed(name, f"{home.root} is {stat.filemode(mode)}")


def secret_files(files: Iterable[Path]) -> Finding:
    """Whether files with secrets are their owner's alone."""
    name = "secret files"
    there = [path for path in files if path.exists()]
    if not there:
        return not_applicable(name, "there is none")
    if exposed := [path for path in there if path.stat().st_mode & _ALL_BUT_OWNER]:
        return failed(
            name,
            ", ".join(f"{path} is {stat.filemode(path.stat().st_mode)}" for path in exposed),
            expected="-rw-------",
            remedy=f"chmod 600 {shlex.join(map(str, exposed))}",
        )
    return passed(name, f"{', '.join(map(str, there))}: their owner's alone")


def writable(home: Home, may_write: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)) -> Finding:
    """Whether everything that the service writes can be written by the user who asks.

    Args:
        home: the home.
        may_write: whether a path can be written.
    """
    name = "writable home"
    if not home.root.exists():
        folder = next(each for each in home.root.parents if each.exists())
        if folder.is_dir() and may_write(folder):
            return passed(name, f"{home.root} does not exist yet, and can be made")
        return _not_writable(name, [folder])
    needed = (
        *(home.root, home.state, home.bundles, home.prices, home.reports, home.jobs),
        *(home.events_db, home.records_db, home.online_db, home.champion_file, home.challenger_file),
    )
    if refused := [path for path in needed if path.exists() and not may_write(path)]:
        return _not_writable(name, refused)
    if not home.root.is_dir():
        return _not_writable(name, [home.root])
    return passed(name, f"{home.root} can be written")


def _not_writable(name: str, paths: list[Path]) -> Finding:
    return failed(
        name,
        f"{', '.join(map(str, paths))} cannot be written by user {os.geteuid()}",
        expected="a folder of the user whom the service runs as",
        remedy=f"chown it, mount its disk for writing, or set {HOME_VARIABLE} to another folder",
    )


def running_user(home: Home, user: int | None = None) -> Finding:
    """Whether this is run by the home's own user, and not by root."""
    name = "user"
    user = os.geteuid() if user is None else user
    if user == 0:
        return warned(
            name,
            "this is run by root",
            expected="a user of its own for Headway",
            remedy="run Headway as a user without rights elsewhere: what root writes, that user cannot change",
        )
    owner = home.root.stat().st_uid if home.root.exists() else user
    if owner != user:
        return warned(
            name,
            f"this is run by user {user}, and {home.root} belongs to user {owner}",
            expected="the same",
            remedy=f"run as user {owner}, so that the findings are those of the service",
        )
    return passed(name, f"user {user}, who owns the home")


def compiled_code_folder(home: Home, chosen: str | None) -> Finding:
    """Whether compiled code can be kept; where not, every process compiles anew, which takes seconds.

    Args:
        home: the home.
        chosen: the operator's own ``NUMBA_CACHE_DIR``, if any.
    """
    name = "compiled code"
    folder = Path(chosen) if chosen else home.numba_cache
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        # Nothing stays of it, not even for a moment a name.
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return warned(
            name,
            f"{folder} cannot be written: {error.strerror}",
            expected="a folder where compiled code is kept",
            remedy="make it writable, or set NUMBA_CACHE_DIR to one: without it each start compiles for seconds",
        )
    return passed(name, f"can be kept in {folder}")


def left_overs(home: Home, now: int) -> Finding:
    """Whether commands that were killed left their working folders: they may hold a caller's documents.

    Args:
        home: the home.
        now: microseconds since the epoch; a folder younger than an hour may be in use.
    """
    name = "left-over folders"
    old = now / 1_000_000 - LEFT_OVER_SECONDS
    found = sorted(path for path in home.state.glob("headway-*") if path.is_dir() and path.stat().st_mtime < old)
    if found:
        return warned(
            name,
            f"{len(found)} in {home.state}, the oldest of {min(found, key=lambda path: path.stat().st_mtime).name}",
            expected="none older than an hour",
            remedy=f"delete them: rm -r {shlex.join(map(str, found))}",
        )
    return passed(name, "none")
