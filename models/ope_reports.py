"""Reports on what a policy would have earned, kept in a folder by an id that follows from the question and the data."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from features.errors import StoreCorrupted, StoreUnavailable, UnknownObject
from features.events import shown
from models.report_files import ReportFile, read_report_file

OPE_ID: Final = re.compile(r"ope-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KeptReport:
    """One report that is kept.

    Attributes:
        written_ns: when it was written, nanoseconds since the epoch.
        size: bytes of its JSON.
    """

    written_ns: int
    report_id: str
    size: int


def ope_report(folder: Path, report_id: str) -> ReportFile:
    """One report.

    Args:
        folder: where they are kept.
        report_id: ``ope-`` and 16 hexadecimal digits.

    Raises:
        UnknownObject: it is no id of a report, or there is none by it.
        StoreCorrupted: its file is not what was written.
        StoreUnavailable: its file cannot be read.
    """
    path = folder / f"{report_id}.json"
    found = read_report_file(path) if OPE_ID.fullmatch(report_id) else None  # nothing else ever becomes part of a path
    if found is None:
        raise UnknownObject(f"no report {shown(report_id)}; expected the id of one that `headway evaluate --log` made")
    if found.document.get("id") != report_id:
        raise StoreCorrupted(f"{path} holds another report than its name says; make it again with `headway evaluate`")
    return found


def kept_ope_reports(folder: Path) -> list[KeptReport]:
    """What there is, the one made last first; nothing where none was ever made. No report is opened.

    Raises:
        StoreUnavailable: the folder cannot be read.
    """
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreUnavailable(f"cannot read {folder}: {error.strerror}; expected a readable folder") from error
    return sorted((kept for entry in entries if (kept := _kept(entry)) is not None), reverse=True)


def _kept(entry: os.DirEntry[str]) -> KeptReport | None:
    """A report by its place in the folder; None where it is none, or gone by now."""
    report_id = entry.name.removesuffix(".json")
    if not entry.name.endswith(".json") or not OPE_ID.fullmatch(report_id):
        return None
    try:
        status, is_file = entry.stat(), entry.is_file()
    except OSError:
        return None
    return KeptReport(written_ns=status.st_mtime_ns, report_id=report_id, size=status.st_size) if is_file else None
