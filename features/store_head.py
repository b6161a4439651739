"""What an SQLite file says of itself, what is kept of it outside, and whether the two fit.

A table of one row counts the commits of the file and sums up the rows of those tables that hold facts. It is written
in each transaction, and kept in ``features.head_file`` after it. A file that has fewer commits than were kept, or other
rows, has lost what was answered, and is refused.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from features.durable_files import sync_folder
from features.errors import Refused, StoreCorrupted, StoreUnavailable, UnknownObject
from features.head_file import DAMAGED, Head, head_path, read_head, write_head
from features.sqlite_files import connect_writer, looked_up, store_errors
from features.write_ahead import sync_write_ahead

FULLY_CHECKED: Final = 50_000
"""So many rows are summed up anew when a file is opened, in a third of a second; of more, only their number is."""

HEAD_TABLE: Final = "head"
"""In every file that is vouched for; not one of its store's own tables."""

_CREATE = (
    "CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY CHECK (one = 1), store_id TEXT NOT NULL, "
    "commits INTEGER NOT NULL, rows INTEGER NOT NULL, digest TEXT NOT NULL, at INTEGER NOT NULL, tables TEXT NOT NULL)"
)
_READ = "SELECT store_id, commits, rows, digest, at, tables FROM head"
_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'head'"
_PUT = "INSERT OR REPLACE INTO head (one, store_id, commits, rows, digest, at, tables) VALUES (1, ?, ?, ?, ?, ?, ?)"
WRITE: Final = "UPDATE head SET commits = ?, rows = ?, digest = ?, at = ?"
_MODULUS: Final = 1 << 128


@dataclass(frozen=True, slots=True)
class Vouched:
    """The rows of some tables, added up: the same whatever their order, and whatever came and went in between."""

    rows: int = 0
    total: int = 0

    def plus(self, table: str, values: Sequence[Any], sign: int = 1) -> Vouched:
        """With one more row, or without one where the sign is -1."""
        return Vouched(self.rows + sign, (self.total + sign * row_number(table, values)) % _MODULUS)

    @property
    def digest(self) -> str:
        """As a head keeps it."""
        return f"{self.total:032x}"

    @classmethod
    def of(cls, head: Head) -> Vouched:
        """What a head counted."""
        return cls(head.rows, int(head.digest, 16))


def row_number(table: str, values: Sequence[Any]) -> int:
    """A row as a number of 128 bits."""
    data = msgspec.msgpack.encode((table, *values))
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")


class _Tables(msgspec.Struct):
    columns: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class HeadFinding:
    """Whether a file holds what was answered.

    Attributes:
        problem: what is wrong and what to do; empty where nothing is.
        note: what is worth knowing of a file that is sound.
        kept: the head beside the file; None where there is none.
        found: what the file says of itself; None where it says nothing yet.
    """

    problem: str
    note: str
    kept: Head | None
    found: Head | None


def verify_head(path: Path) -> HeadFinding:
    """Whether the store at ``path`` holds all that its head vouches for, each row looked at.

    Nothing is written, nor left beside the file, where whoever serves as another user could not open it. A server may
    be writing it meanwhile.

    Raises:
        UnknownObject: there is neither a file nor a head.
        StoreError: it cannot be read.
    """
    if not path.is_file() and not head_path(path).is_file():
        raise UnknownObject(f"there is no file {path}; expected a store that was written before: import or serve first")
    try:
        kept = read_head(path)  # first: the file only ever gets ahead of it
    except StoreCorrupted as error:
        return HeadFinding(str(error), "", None, None)
    if not path.is_file():
        return HeadFinding("" if kept is None else _missing_file(path, kept), "", kept, None)

    def compared(connection: sqlite3.Connection) -> tuple[str, Head | None]:
        connection.execute("BEGIN")  # all as of one moment
        found, columns = found_head(connection)
        problem = difference(path, kept, found)
        if not problem and found is not None:
            problem = _row_problem(path, connection, found, _load(path, columns), most=None)
        return problem, found

    with store_errors(path):
        problem, found = looked_up(path, compared, is_sound=lambda said: not said[0])
    note = "" if kept is not None else f"{head_path(path).name} is not there; the next start makes it anew"
    return HeadFinding(problem, note, kept, found)


def check_is_there(path: Path) -> None:
    """Refuse to make a store anew where one was that is gone.

    Raises:
        StoreCorrupted: there is a head, and no file.
    """
    if not path.is_file() and (kept := read_head(path)) is not None:
        raise StoreCorrupted(_missing_file(path, kept))


def checked_head(path: Path, connection: sqlite3.Connection, tables: Iterable[str], *, at: int) -> Head:
    """The head of a file that was opened for writing, made where there is none.

    Args:
        path: the file.
        connection: it, opened for writing.
        tables: those that are vouched for.
        at: now, microseconds since the epoch.

    Raises:
        StoreCorrupted: the file lacks what its head vouches for.
    """
    kept = read_head(path)
    found, of_columns = found_head(connection)
    if problem := difference(path, kept, found):
        raise StoreCorrupted(problem)
    columns = _columns(connection, tables)
    if found is None or of_columns != _dump(connection, columns):  # it is new, or of an earlier release
        return _made(path, connection, columns, found, at=at)
    if kept != found:  # the process died between a commit and its head, or the head is gone
        _keep(path, connection, found)
    if problem := _row_problem(path, connection, found, columns, most=FULLY_CHECKED):
        raise StoreCorrupted(problem)
    return found


def accept_file(path: Path, *, code: str) -> Path:
    """Take a file as it is, though its head says that it lacks something: that is given up, for good.

    The head is put aside, and the next who opens the file for writing makes it anew.

    Args:
        path: the file, which nobody writes.
        code: of the head that is given up, as the refusal named it: nothing else is given up by mistake.

    Returns:
        Where the head lies now.

    Raises:
        Refused: another head is kept.
        UnknownObject: there is no head.
        StoreError: the file cannot be written, or is no SQLite file.
    """
    kept_at = head_path(path)
    if not kept_at.is_file():
        raise UnknownObject(f"there is no {kept_at}; expected the head of a store that was refused")
    if code != (expected := _code(path)):
        raise Refused(f"{kept_at} has the code {expected}, not {code}; expected the one that the refusal named")
    if path.is_file():
        with closing(connect_writer(path)) as connection, store_errors(path):
            connection.execute("DROP TABLE IF EXISTS head")
    aside = kept_at.with_name(f"{kept_at.name}.given-up-{code}")
    kept_at.replace(aside)
    sync_folder(kept_at.parent)
    return aside


def found_head(connection: sqlite3.Connection) -> tuple[Head | None, str]:
    """What a file says of itself, and of which columns of which tables; None where it says nothing yet."""
    if connection.execute(_IS_THERE).fetchone() is None:
        return None, ""
    row = connection.execute(_READ).fetchone()
    return (None, "") if row is None else (Head(*row[:5]), str(row[5]))


def difference(path: Path, kept: Head | None, found: Head | None) -> str:
    """Why a file is not the one that its head vouches for; empty where it is, or where there is no head."""
    if kept is None:
        return ""
    if found is None or found.store_id != kept.store_id:
        what = "is not the file that its head was kept of: it is another one, or older than the head"
        return _problem(path, what, kept)
    lacking = kept.commits - found.commits
    if lacking > 0:
        rows = f", {kept.rows - found.rows:,} rows fewer" if kept.rows > found.rows else ""
        what = (
            f"lacks its last {lacking:,} commits{rows}: all that was answered after {_moment(found.at)} and until "
            f"{_moment(kept.at)} is gone, as where its write-ahead log was cut, or an older copy put in its place"
        )
        return _problem(path, what, kept)
    if lacking == 0 and (found.rows, found.digest) != (kept.rows, kept.digest):
        return _problem(path, f"holds other rows than it did at {_moment(kept.at)}", kept)
    return ""


def _row_problem(
    path: Path, connection: sqlite3.Connection, found: Head, columns: Mapping[str, Sequence[str]], *, most: int | None
) -> str:
    """Why the rows of a file are not those that it counted; of more than ``most`` only the number is looked at."""
    rows = sum(int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in columns)  # noqa: S608  # our own names
    if rows != found.rows:
        what = f"holds {rows:,} rows of {', '.join(columns)}, where its commits left {found.rows:,}"
    elif (most is not None and rows > most) or _counted(connection, columns).digest == found.digest:
        return ""
    else:
        what = f"holds rows of {', '.join(columns)} that its commits did not write"
    return _problem(path, f"{what}: something else than Headway has changed it", found)


def triggers(connection: sqlite3.Connection, tables: Iterable[str]) -> list[str]:
    """Statements that have a connection call ``vouch(sign, table, values...)`` for each row that it changes."""
    statements = []
    for table, names in _columns(connection, tables).items():
        new, old = (
            f"SELECT vouch({sign}, '{table}', {', '.join(f'{row}.{name}' for name in names)});"
            for sign, row in ((1, "NEW"), (-1, "OLD"))
        )
        for event, body in (("INSERT", new), ("DELETE", old), ("UPDATE", f"{old} {new}")):
            statements.append(
                f"CREATE TEMP TRIGGER vouch_{event.lower()}_{table} AFTER {event} ON main.{table} BEGIN {body} END"
            )
    return statements


def _made(
    path: Path, connection: sqlite3.Connection, columns: Mapping[str, Sequence[str]], found: Head | None, *, at: int
) -> Head:
    store_id, commits = (secrets.token_hex(8), 0) if found is None else (found.store_id, found.commits)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_CREATE)
        counted = _counted(connection, columns)
        head = Head(store_id, commits + 1, counted.rows, counted.digest, at)
        connection.execute(
            _PUT, (head.store_id, head.commits, head.rows, head.digest, head.at, _dump(connection, columns))
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    _keep(path, connection, head)
    return head


def _keep(path: Path, connection: sqlite3.Connection, head: Head) -> None:
    """Keep what the file says, once that survives a loss of power whatever the durability of its commits."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    try:
        sync_write_ahead(path)  # what somebody reads was not written back
    except OSError as error:
        raise StoreUnavailable(
            f"cannot sync the write-ahead log of {path}: {error.strerror}; look at the disk"
        ) from error
    write_head(path, head)


def _counted(connection: sqlite3.Connection, columns: Mapping[str, Sequence[str]]) -> Vouched:
    rows, total = 0, 0
    for table, names in columns.items():
        for row in connection.execute(f"SELECT {', '.join(names)} FROM {table}"):  # noqa: S608  # our own names
            rows += 1
            total += row_number(table, row)
    return Vouched(rows, total % _MODULUS)


def _columns(connection: sqlite3.Connection, tables: Iterable[str]) -> dict[str, list[str]]:
    return {
        table: [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})").fetchall()]
        for table in sorted(tables)
    }


def _dump(connection: sqlite3.Connection, columns: Mapping[str, Sequence[str]]) -> str:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    return msgspec.json.encode({"layout": version, "columns": columns}).decode()


def _load(path: Path, text: str) -> dict[str, list[str]]:
    try:
        return msgspec.json.decode(text, type=_Tables).columns
    except msgspec.DecodeError as error:
        raise StoreCorrupted(f"{path}: {error} in its head; expected a sound file: restore it from a backup") from error


def _code(path: Path) -> str:
    try:
        kept = read_head(path)
    except StoreCorrupted:
        return DAMAGED
    return "" if kept is None else kept.code


def _missing_file(path: Path, kept: Head) -> str:
    return _problem(path, f"is gone, with {kept.rows:,} rows", kept)


def _problem(path: Path, what: str, kept: Head) -> str:
    return (
        f"{path} {what}; expected all that was answered: restore a backup of the whole home, or go on without it, "
        f"for good: `headway accept-loss {path.stem} {kept.code}`"
    )


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).isoformat(timespec="milliseconds")
