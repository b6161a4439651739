"""Checks of the machine: its disk, its clock, its libraries and its time zones."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of_package
from pathlib import Path
from typing import Final
from zoneinfo import TZPATH, ZoneInfo

from features.check_findings import Finding, failed, not_applicable, passed, warned
from features.events import FUTURE_SKEW_US
from features.home import HOME_VARIABLE, Home

LEAST_BYTES: Final = 256 << 20
"""Below it a checkpoint or a report may not find room any more."""
WANTED_BYTES: Final = 2 << 30
LEAST_INODES: Final = 1_000
WANTED_INODES: Final = 20_000
"""A training writes some thousand small files."""

SKEW_TOLERANCE_US: Final = 5 * 1_000_000
"""So far two clocks of one installation may differ."""

_GIGABYTE: Final = 1 << 30


def free_bytes(home: Home, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> Finding:
    """Whether the disk of a home has room: for the stores as large again, since a training exports what they hold."""
    name = "free disk"
    try:
        found = statvfs(nearest(home.root))
    except OSError as error:
        return failed(name, f"{home.root}: {error.strerror}", expected="a disk", remedy=f"set {HOME_VARIABLE}")
    free = found.f_bavail * found.f_frsize
    stores = sum(path.stat().st_size for path in (home.events_db, home.records_db) if path.is_file())
    wanted = max(WANTED_BYTES, stores)
    text = f"{free / _GIGABYTE:.1f} GiB free at {home.root}"
    remedy = f"make room, or move the home to a larger disk; a full disk stops the service ({HOME_VARIABLE})"
    if free < LEAST_BYTES:
        return failed(name, text, expected=f"at least {LEAST_BYTES >> 20} MiB", remedy=remedy)
    if free < wanted:
        return warned(name, text, expected=f"at least {wanted / _GIGABYTE:.1f} GiB", remedy=remedy)
    return passed(name, text)


def free_inodes(home: Home, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs) -> Finding:
    """Whether the disk of a home takes further files."""
    name = "free inodes"
    try:
        found = statvfs(nearest(home.root))
    except OSError as error:
        return failed(name, f"{home.root}: {error.strerror}", expected="a disk", remedy=f"set {HOME_VARIABLE}")
    if not found.f_files:
        return not_applicable(name, "this file system does not count them")
    text = f"{found.f_favail:,} files can be made at {home.root}"
    remedy = "delete files that nobody needs, or move the home to another disk"
    if found.f_favail < LEAST_INODES:
        return failed(name, text, expected=f"at least {LEAST_INODES:,}", remedy=remedy)
    if found.f_favail < WANTED_INODES:
        return warned(name, text, expected=f"at least {WANTED_INODES:,}", remedy=remedy)
    return passed(name, text)


def nearest(path: Path) -> Path:
    """The path, or its nearest folder that exists."""
    return next(each for each in (path, *path.parents) if each.exists())


def clock_behind(newest: Mapping[str, int], now: int) -> Finding:
    """Whether the clock has reached what the stores hold.

    Args:
        newest: the newest moment of each store, microseconds since the epoch.
        now: what the clock says, likewise.
    """
    name = "clock"
    if not newest:
        return not_applicable(name, "no store holds a moment to compare it with")
    store = max(newest, key=lambda each: newest[each])
    behind = newest[store] - now
    if behind > FUTURE_SKEW_US:
        return warned(
            name,
            f"{behind / 1_000_000:,.0f} s behind the newest moment of the {store}",
            expected=f"at most {FUTURE_SKEW_US // 1_000_000} s behind",
            remedy="set the clock right (is NTP running?); until it has caught up, moments go on from the newest one",
        )
    return passed(name, f"not behind the newest moment of the {store}")


def clock_skew(name: str, theirs: int, now: int) -> Finding:
    """Whether another server's clock agrees with ours; both in microseconds since the epoch."""
    name = f"{name} clock"
    ahead = (theirs - now) / 1_000_000
    text = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} ours"
    if abs(theirs - now) > SKEW_TOLERANCE_US:
        return warned(
            name,
            text,
            expected=f"at most {SKEW_TOLERANCE_US // 1_000_000} s apart",
            remedy="set both clocks by NTP",
        )
    return passed(name, text)


def openmp_library(library: str = "libgomp.so.1", platform: str = sys.platform) -> Finding:
    """Whether the library that LightGBM needs can be loaded; its wheel does not bring it."""
    if platform != "linux":
        return not_applicable("libgomp", f"LightGBM's package for {platform} says itself what it needs")
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return failed(
            "libgomp",
            f"{library} cannot be loaded: {error}",
            expected="the system's own, for training with LightGBM",
            remedy="install it: `apt-get install libgomp1` on Debian, `dnf install libgomp` on Fedora",
        )
    return passed("libgomp", f"{library} can be loaded")


def time_zone(zone: str) -> Finding:
    """Whether the installation's time zone is known, and by which release of the time zone database."""
    name = "time zones"
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # not found; no name of a zone; a damaged file
        return failed(
            name,
            f"there is no usable time zone {zone}",
            expected="an IANA time zone, such as Europe/Amsterdam",
            remedy="correct `time_zone` in taxonomy.yaml, or install the package tzdata again",
        )
    return passed(name, f"{zone}, by {_zone_release(zone)}")


def _zone_release(zone: str) -> str:
    """Where zoneinfo takes a zone from: the system first, then the package."""
    for folder in map(Path, TZPATH):
        if (folder / zone).is_file():
            return f"the system's {folder}{_system_release(folder)}"
    try:
        return f"the package tzdata {version_of_package('tzdata')}"
    except PackageNotFoundError:
        return "an unknown release"


def _system_release(folder: Path) -> str:
    try:
        with (folder / "tzdata.zi").open(encoding="utf-8") as file:
            return f" ({file.readline().removeprefix('# version').strip()})"
    except OSError:
        return ""
