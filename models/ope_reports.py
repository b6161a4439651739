"""Reports on what a policy would have earned, kept in a folder by an id that follows from the question and the data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from features.errors import StoreCorrupted, StoreUnavailable, UnknownObject

OPE_ID: Final = re.compile(r"ope-[0-9a-f]{16}")

HEADLINE: Final = ("id", "journey", "question", "data", "refused", "estimates", "logging", "difference")
"""What a list of reports says of each."""


def ope_folder(reports: Path) -> Path:
    """Where they are kept, in a home's folder of reports."""
    return reports / "ope"


def ope_report(folder: Path, report_id: str) -> dict[str, Any]:
    """One report.

    Args:
        folder: ``ope_folder``.
        report_id: ``ope-`` and 16 hexadecimal digits.

    Raises:
        UnknownObject: it is no id of a report, or there is none by it.
        StoreCorrupted: its file is not what was written.
        StoreUnavailable: its file cannot be read.
    """
    if not OPE_ID.fullmatch(report_id):
        raise UnknownObject(f"no report {report_id!r:.80}; expected ope- and 16 hexadecimal digits")
    path = folder / f"{report_id}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UnknownObject(f"no report {report_id}; expected one that `headway evaluate --log` made here") from error
    except ValueError as error:
        raise StoreCorrupted(f"{path} is damaged ({error!r:.100}); make it again with `headway evaluate`") from error
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict) or found.get("id") != report_id:
        raise StoreCorrupted(f"{path} holds another report than its name says; make it again with `headway evaluate`")
    return found


def kept_ope_reports(folder: Path) -> list[dict[str, Any]]:
    """What there is, the one made last first, each with its ``HEADLINE``; nothing where none was ever made.

    Raises:
        StoreCorrupted: a report is not what was written.
        StoreUnavailable: the folder cannot be read.
    """
    try:
        made = {one.stem: one.stat().st_mtime_ns for one in folder.glob("ope-*.json") if OPE_ID.fullmatch(one.stem)}
    except OSError as error:
        raise StoreUnavailable(f"cannot read {folder}: {error}") from error
    newest = sorted(made, key=lambda one: (-made[one], one))
    return [{key: report.get(key) for key in HEADLINE} for report in (ope_report(folder, one) for one in newest)]
