"""Reports that commands keep as files of JSON: small by nature; one that is not is not read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import StoreCorrupted, StoreUnavailable

LARGEST_BYTES: Final = 16 << 20
"""A report above this is none that a command wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFile:
    """What a file holds.

    Attributes:
        document: JSON values.
        written_ns: when it was written, nanoseconds since the epoch.
    """

    document: dict[str, Any]
    written_ns: int


def read_report_file(path: Path) -> ReportFile | None:
    """A kept report; None where there is none.

    Raises:
        StoreCorrupted: it is too large, or no JSON object.
        StoreUnavailable: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data, written = file.read(LARGEST_BYTES + 1), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error.strerror}; expected a readable file") from error
    try:
        if len(data) > LARGEST_BYTES:
            raise ValueError(f"more than {LARGEST_BYTES} bytes")
        return ReportFile(document=msgspec.json.decode(data, type=dict[str, Any]), written_ns=written)
    except (ValueError, RecursionError) as error:
        raise StoreCorrupted(f"{path} is no report: {error}; make it again") from error
