"""Kept reports: found by their id alone, and never outside of their folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from features.errors import StoreCorrupted, UnknownObject
from models.ope_reports import KeptReport, kept_ope_reports, ope_report

FIRST, SECOND = "ope-0123456789abcdef", "ope-fedcba9876543210"


def kept(folder: Path, report_id: str, at: int) -> None:
    """Keep a report."""
    path = folder / f"{report_id}.json"
    path.write_text(json.dumps({"id": report_id, "journey": "j", "stages": {}}), encoding="utf-8")
    os.utime(path, ns=(at, at))


def test_reports_are_listed_newest_first(tmp_path: Path) -> None:
    """And nothing else that lies there."""
    kept(tmp_path, FIRST, 10**18)
    kept(tmp_path, SECOND, 2 * 10**18)
    (tmp_path / "ope-notes.json").write_text("{}", encoding="utf-8")
    size = (tmp_path / f"{FIRST}.json").stat().st_size

    assert kept_ope_reports(tmp_path) == [
        KeptReport(written_ns=2 * 10**18, report_id=SECOND, size=size),
        KeptReport(written_ns=10**18, report_id=FIRST, size=size),
    ]
    assert kept_ope_reports(tmp_path / "none") == []


def test_one_that_is_gone_hides_no_other(tmp_path: Path) -> None:
    """A link to nowhere, or a folder, is no report."""
    kept(tmp_path, FIRST, 10**18)
    (tmp_path / f"{SECOND}.json").symlink_to(tmp_path / "gone")
    (tmp_path / "ope-00000000000000aa.json").mkdir()

    assert [one.report_id for one in kept_ope_reports(tmp_path)] == [FIRST]


def test_a_report_is_found_by_its_id(tmp_path: Path) -> None:
    """Whole."""
    kept(tmp_path, FIRST, 10**18)

    assert ope_report(tmp_path, FIRST).document == {"id": FIRST, "journey": "j", "stages": {}}


@pytest.mark.parametrize(
    "report_id",
    [
        "",
        "ope-",
        SECOND,
        "../secret",
        "ope-0123456789abcdef/../../secret",
        FIRST.upper(),
        f"{FIRST}\n",
        f"{FIRST}.json",
    ],
)
def test_what_is_no_id_of_a_report_is_unknown(tmp_path: Path, report_id: str) -> None:
    """No path is made of it."""
    folder = tmp_path / "ope"
    folder.mkdir()
    kept(folder, FIRST, 10**18)
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")

    with pytest.raises(UnknownObject):
        ope_report(folder, report_id)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 10_000, f'{{"id": "{FIRST}", "n": NaN}}', f'{{"id": "{SECOND}"}}'], ids=len
)
def test_a_damaged_report_says_so(tmp_path: Path, text: str) -> None:
    """Instead of half of an answer."""
    (tmp_path / f"{FIRST}.json").write_text(text, encoding="utf-8")

    with pytest.raises(StoreCorrupted, match=FIRST):
        ope_report(tmp_path, FIRST)
