"""Kept reports: found by their id alone, and never outside of their folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from features.errors import StoreCorrupted, UnknownObject
from models.ope_reports import HEADLINE, kept_ope_reports, ope_report

FIRST, SECOND = "ope-0123456789abcdef", "ope-fedcba9876543210"


def kept(folder: Path, report_id: str, at: int) -> None:
    """Keep a report."""
    path = folder / f"{report_id}.json"
    path.write_text(json.dumps({"id": report_id, "journey": "j", "stages": {}}), encoding="utf-8")
    os.utime(path, ns=(at, at))


def test_reports_are_listed_newest_first(tmp_path: Path) -> None:
    """By what a list says of each, and nothing else that lies there."""
    kept(tmp_path, FIRST, 10**18)
    kept(tmp_path, SECOND, 2 * 10**18)
    (tmp_path / "ope-notes.json").write_text("{}", encoding="utf-8")

    found = kept_ope_reports(tmp_path)

    assert [one["id"] for one in found] == [SECOND, FIRST]
    assert all(one.keys() == set(HEADLINE) for one in found)
    assert kept_ope_reports(tmp_path / "none") == []


def test_a_report_is_found_by_its_id(tmp_path: Path) -> None:
    """Whole."""
    kept(tmp_path, FIRST, 10**18)

    assert ope_report(tmp_path, FIRST) == {"id": FIRST, "journey": "j", "stages": {}}


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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "ope-fedcba9876543210"}'])
def test_a_damaged_report_says_so(tmp_path: Path, text: str) -> None:
    """Instead of half of an answer."""
    (tmp_path / f"{FIRST}.json").write_text(text, encoding="utf-8")

    with pytest.raises(StoreCorrupted, match=FIRST):
        ope_report(tmp_path, FIRST)
