"""The promotion log: who promoted, rolled back or gave a share of the population, when and why. It only grows.

One line of ``bundles/promotions.jsonl`` is one entry, synced before the next step. A move is two of them: what is
intended, then, once the alias is moved, that it was done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from features.durable_files import sync_folder
from features.errors import StoreUnavailable
from features.events import dump_timestamp, parse_timestamp
from models.registry import Pointer

PROMOTIONS_FILE: Final = "promotions.jsonl"
FORMAT: Final = 1
SHARE_FORMAT: Final = 2
"""Of the lines of a share, which releases that know none pass over."""

Step = Literal["intended", "done", "abandoned", "refused"]
Kind = Literal["promote", "rollback", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A version that an alias was or is to be on.

    Attributes:
        manifest_sha256: digest of its manifest, which names all its bytes; empty where it could not be read.
    """

    version: int
    manifest_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How much of the population the challenger decided for, and is to decide for."""

    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the promotion log.

    Attributes:
        number: of the move; its lines share it.
        step: ``refused`` stands alone, ``intended`` is followed by ``done`` or ``abandoned``.
        kind: promotion, rollback, or a share.
        name: of the registered model.
        at: microseconds since the epoch.
        by: who.
        before: where the alias was, the champion's, of a share the challenger's; None where there was none.
        after: where it was to go; of a share of 0 whoever decides for everybody then.
        forced: moved against the gate, or without asking it.
        reason: what who did it says.
        evidence: what the gate found; JSON values.
        recovered: written by a later process, for one that died.
        share: of the population; None but for a share.
    """

    number: int
    step: Step
    kind: Kind
    name: str
    at: int
    by: str
    before: Placed | None
    after: Placed
    forced: bool = False
    reason: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    recovered: bool = False
    share: Shares | None = None


def promotions_file(root: Path) -> Path:
    """The promotion log of a folder of bundles."""
    return root / PROMOTIONS_FILE


def read_promotions(file: Path) -> list[Entry]:
    """Every entry, oldest first; none where nothing was ever promoted.

    A line that was cut off when its writer died is passed over: an intent that was not written moved nothing.

    Raises:
        StoreUnavailable: the file is there and cannot be read.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreUnavailable(f"cannot read {file}: {error.strerror}; expected a readable file") from error
    found = (_entry(line) for line in data.split(b"\n") if line.strip())
    return [one for one in found if one is not None]


def history_of(entries: Sequence[Entry], name: str) -> list[Placed]:
    """The champions that a rollback goes back through, the present one last.

    A promotion adds one, a rollback takes the last away: rolling back twice goes back two, not there and back.
    """
    line: list[Placed] = []
    for one in entries:
        if one.name != name or one.step != "done" or one.kind == "share":
            continue
        if one.before is not None and (not line or line[-1].version != one.before.version):
            line.append(one.before)
        if one.kind == "promote":
            line.append(one.after)
        else:
            while line and line[-1].version != one.after.version:
                line.pop()
            line = line or [one.after]
    return line


def champions_before(entries: Sequence[Entry], root: Path, name: str) -> list[Pointer]:
    """The champions that the log names, the latest first, as a worker loads them.

    Args:
        entries: of the log.
        root: the folder of bundles.
        name: of the registered model.
    """
    moves = [one for one in entries if one.name == name and one.step == "done" and one.kind != "share"]
    set_at = {one.after.version: one.at for one in moves}
    return [
        Pointer(
            name=name,
            version=one.version,
            path=root / name / str(one.version),
            manifest_sha256=one.manifest_sha256,
            set_at=set_at.get(one.version, 0),
        )
        for one in reversed(history_of(entries, name))
        if one.manifest_sha256
    ]


def next_number(entries: Sequence[Entry]) -> int:
    """The number of the next move."""
    return max((one.number for one in entries), default=0) + 1


def following(intent: Entry, step: Step, *, at: int, recovered: bool = False) -> Entry:
    """The entry that says what became of an intent."""
    return replace(intent, step=step, at=at, evidence={}, recovered=recovered)


def append_entry(file: Path, entry: Entry) -> None:
    """Put an entry at the end of the log; it is on the disk then.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(entry_document(entry), allow_nan=False, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data  # the last writer died within its line
        if os.write(descriptor, data) != len(data):
            raise StoreUnavailable(f"{file} took half a line, expected space for a whole one")
        os.fsync(descriptor)
    except OSError as error:
        raise StoreUnavailable(f"cannot write {file}: {error.strerror}; expected a writable file") from error
    finally:
        os.close(descriptor)
    sync_folder(file.parent)


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values, as the log holds it."""
    shares = entry.share
    return {
        "format": FORMAT if shares is None else SHARE_FORMAT,
        "number": entry.number,
        "step": entry.step,
        "kind": entry.kind,
        "name": entry.name,
        "at": dump_timestamp(entry.at),
        "by": entry.by,
        "before": None if entry.before is None else _placed_document(entry.before),
        "after": _placed_document(entry.after),
        "forced": entry.forced,
        "reason": entry.reason,
        "recovered": entry.recovered,
        "evidence": dict(entry.evidence),
        **({} if shares is None else {"share": {"before": shares.before, "after": shares.after}}),
    }


def _placed_document(placed: Placed) -> dict[str, Any]:
    return {"version": placed.version, "manifest_sha256": placed.manifest_sha256}


def _entry(line: bytes) -> Entry | None:
    try:
        document = json.loads(line)
        if document["format"] not in (FORMAT, SHARE_FORMAT):
            return None
        before, shares = document["before"], document.get("share")
        return Entry(
            number=int(document["number"]),
            step=document["step"],
            kind=document["kind"],
            name=str(document["name"]),
            at=parse_timestamp(document["at"]),
            by=str(document["by"]),
            before=None if before is None else _read_placed(before),
            after=_read_placed(document["after"]),
            forced=bool(document["forced"]),
            reason=str(document["reason"]),
            evidence=dict(document["evidence"]),
            recovered=bool(document["recovered"]),
            share=None if shares is None else Shares(before=float(shares["before"]), after=float(shares["after"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _read_placed(document: Mapping[str, Any]) -> Placed:
    return Placed(version=int(document["version"]), manifest_sha256=str(document["manifest_sha256"]))
