"""Checks of the machine: a full disk, a wrong clock, and a missing library or zone are found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from features.home import Home
from features.machine_checks import clock_behind, clock_skew, free_bytes, free_inodes, openmp_library, time_zone

SECOND = 1_000_000
GIBIBYTE = 1 << 30


def disk(free: int = 1 << 40, files: int = 1 << 20, free_files: int = 1 << 20) -> Callable[[Path], os.statvfs_result]:
    """A disk with so many bytes and files free."""
    return lambda path: os.statvfs_result((4096, 1, free, free, free, files, free_files, free_files, 0, 255))


@pytest.mark.parametrize(("free", "status"), [(255 << 20, "failed"), (GIBIBYTE, "warning"), (3 * GIBIBYTE, "ok")])
def test_a_full_disk_is_told(free: int, status: str, tmp_path: Path) -> None:
    """Also before there is a home."""
    assert free_bytes(Home(tmp_path / "none"), disk(free)).status == status


def test_the_stores_want_as_much_again(tmp_path: Path) -> None:
    """A training exports what they hold."""
    home = Home(tmp_path).create()
    with home.events_db.open("wb") as file:
        file.truncate(4 * GIBIBYTE)  # a hole: it takes no room

    finding = free_bytes(home, disk(3 * GIBIBYTE))

    assert (finding.status, finding.expected) == ("warning", "at least 4.0 GiB")


@pytest.mark.parametrize(
    ("files", "free", "status"), [(100, 99, "failed"), (1 << 20, 5_000, "warning"), (0, 0, "not_applicable")]
)
def test_a_disk_without_room_for_files_is_told(files: int, free: int, status: str, tmp_path: Path) -> None:
    """Some file systems do not count them."""
    assert free_inodes(Home(tmp_path), disk(files=files, free_files=free)).status == status


def test_the_real_disk_answers(tmp_path: Path) -> None:
    """The size of a disk is a number."""
    assert "GiB free at" in free_bytes(Home(tmp_path)).found


def test_a_clock_that_is_behind_is_told() -> None:
    """By the newest moment of any store, with the tolerance that the service has."""
    newest = {"events": 1_000 * SECOND, "records": 900 * SECOND}

    assert clock_behind(newest, 1_000 * SECOND - 300 * SECOND).status == "ok"
    finding = clock_behind(newest, 1_000 * SECOND - 301 * SECOND)
    assert (finding.status, finding.found) == ("warning", "301 s behind the newest moment of the events")
    assert clock_behind({}, 0).status == "not_applicable"


@pytest.mark.parametrize(("apart", "status"), [(-6, "warning"), (-5, "ok"), (5, "ok"), (6, "warning")])
def test_clocks_that_differ_are_told(apart: int, status: str) -> None:
    """Either way."""
    finding = clock_skew("redis", (100 + apart) * SECOND, 100 * SECOND)

    assert finding.status == status
    assert finding.found == f"{abs(apart)}.0 s {'ahead of' if apart > 0 else 'behind'} ours"


def test_a_missing_library_is_told() -> None:
    """With how to install it."""
    finding = openmp_library("libgomp-of-nowhere.so.1", platform="linux")

    assert finding.status == "failed"
    assert "apt-get install libgomp1" in finding.remedy
    assert openmp_library(platform="darwin").status == "not_applicable"


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "../etc", ""])
def test_a_zone_that_does_not_exist_is_told(zone: str) -> None:
    """Whatever zoneinfo raises for it."""
    assert time_zone(zone).status == "failed"


def test_a_zone_says_where_it_comes_from() -> None:
    """The system, or the package."""
    finding = time_zone("Europe/Amsterdam")

    assert finding.status == "ok"
    assert finding.found.startswith("Europe/Amsterdam, by the ")
