"""The head of a store, kept in a file beside the store's own: what must be in there, whatever happens to that.

A file of SQLite cannot tell that its newest commits are gone: without its write-ahead log, or as an older copy, it is
as sound as ever. The head says how many commits it must hold at least. It is kept in two places of one small file that
are written in turn, so that a write that was cut leaves the one before.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from features.durable_files import replace_durably
from features.errors import StoreCorrupted, StoreUnavailable

PLACE_BYTES: Final = 512
"""Of one head: a sector, which disks write whole."""
_PLACES: Final = 2
DAMAGED: Final = "damaged"
"""The code of a head that cannot be read."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a store holds.

    Attributes:
        store_id: of the file, drawn when its head was first made, or made anew.
        commits: transactions since then that changed anything.
        rows: in the tables that are vouched for.
        digest: of those rows, whatever their order, in hexadecimal.
        at: when the newest of the commits was made, microseconds since the epoch.
    """

    store_id: str
    commits: int
    rows: int
    digest: str
    at: int

    @property
    def code(self) -> str:
        """What people name it by."""
        return _check(self)[:8]


def head_path(path: Path) -> Path:
    """Where the head of a store is kept: ``events.head`` for ``events.db``."""
    return path.with_suffix(".head")


def read_head(path: Path) -> Head | None:
    """The head that is kept of the store at ``path``; None where none is.

    Raises:
        StoreCorrupted: it is damaged.
        StoreUnavailable: it cannot be read.
    """
    kept = head_path(path)
    try:
        data = kept.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"cannot read {kept}: {error.strerror}; expected the head of {path.name}") from error
    places = (data[start : start + PLACE_BYTES] for start in range(0, _PLACES * PLACE_BYTES, PLACE_BYTES))
    heads = [head for place in places if (head := _load(place)) is not None]
    if not heads:
        raise StoreCorrupted(
            f"{kept} is damaged; expected what {path.name} must hold at least: restore a backup of the whole home, or "
            f"take {path.name} as it is: `headway accept-loss {path.stem} {DAMAGED}`"
        )
    return max(heads, key=lambda head: head.commits)


def write_head(path: Path, head: Head) -> None:
    """Put a head in the place of whatever is kept of the store at ``path``; it survives a loss of power.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    place = _dump(head)
    try:
        replace_durably(head_path(path), place * _PLACES)
    except OSError as error:
        raise _unwritable(path, error) from error


class HeadWriter:
    """Keeps the head of one store that is open for writing; the file must be there.

    Raises:
        StoreUnavailable: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor: int | None = os.open(head_path(path), os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, head: Head) -> None:
        """Keep a head: it survives the death of the process, and after ``sync`` a loss of power.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        try:
            os.pwrite(self._open(), _dump(head), head.commits % _PLACES * PLACE_BYTES)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def sync(self) -> None:
        """Have what was written survive a loss of power.

        Raises:
            StoreUnavailable: the disk does not take it.
        """
        try:
            os.fdatasync(self._open())
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor is None:
            raise StoreUnavailable(f"{head_path(self._path)} was closed; expected to be open")
        return self._descriptor


def _unwritable(path: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"cannot write {head_path(path)}: {error.strerror}; expected to keep there what {path.name} must hold: "
        f"look at the disk and the rights of its folder"
    )


def _dump(head: Head) -> bytes:
    fields = msgspec.json.encode(head)
    line = b'%s,"check":"%s"}' % (fields[:-1], _digest(fields).encode())
    return line.ljust(PLACE_BYTES - 1) + b"\n"


def _load(place: bytes) -> Head | None:
    with suppress(msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, TypeError):
        fields = msgspec.json.decode(place)
        check = fields.pop("check", None)
        head = msgspec.convert(fields, Head)
        if check == _check(head):
            return head
    return None


def _check(head: Head) -> str:
    return _digest(msgspec.json.encode(head))


def _digest(fields: bytes) -> str:
    return hashlib.sha256(fields).hexdigest()[:32]
