"""A backup of an installation while its service runs: one file, sealed, and verified before it has its name.

The record store is looked at first, the event log after it: so every event that a decision saw is in the log. What the
log holds beyond is told to the record store again by ``models.restore``, which may be done any number of times.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Final, Literal

from features.backup_file import BackupWriter, open_backup
from features.backup_format import (
    CONFIGURATION,
    FORMAT,
    HOME,
    KEPT_FILES,
    KEPT_TREES,
    STORES,
    TRACKING,
    ConfigurationInForce,
    Manifest,
    StoreRows,
    TableRows,
    is_kept,
)
from features.durable_files import sync_folder
from features.errors import ConfigurationError, Refused, StoreCorrupted, StoreUnavailable
from features.event_log_tables import LAYOUT as EVENTS_LAYOUT
from features.events import dump_timestamp
from features.home import Home
from features.sql_store import Layout, needing_driver
from features.sqlite_files import connect_reader, store_errors
from features.table_pages import SqliteMoment, StoreMoment
from models.configuration import Configuration, load_configuration
from models.record_tables import LAYOUT as RECORDS_LAYOUT

StoreName = Literal["events", "records"]

IN_FLIGHT_US: Final = 15 * 60 * 1_000_000
"""So long before a backup an event arrived whose consents may not have been told yet; a request takes milliseconds."""
IN_FLIGHT_EVENTS: Final = 10_000
"""At least so many are told again, whatever their times say."""

_HEADS: Final[Mapping[StoreName, str]] = {
    "events": "SELECT max(position) FROM events",
    "records": "SELECT max(decision_id) FROM decisions",
}
LAYOUTS: Final[Mapping[StoreName, Layout]] = {"records": RECORDS_LAYOUT, "events": EVENTS_LAYOUT}
"""Of both stores, in the order in which they are looked at."""
_CHUNK: Final = 1 << 20
_TRIES: Final = 100
_OWNER_ONLY: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was made and verified.

    Attributes:
        path: the file.
        size: of it, bytes.
        manifest: what it says of itself.
    """

    path: Path
    size: int
    manifest: Manifest


def make_backup(
    home: Home,
    env: Mapping[str, str],
    target: Path,
    *,
    at: int,
    replace: bool = False,
    with_tracking: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Backup:
    """Write a backup of a home to a new file, which has its name once it is whole, verified and on disk.

    Args:
        home: it may be written meanwhile.
        env: names the configuration.
        target: the file.
        at: now, microseconds since the epoch.
        replace: put it in the place of a file that is there.
        with_tracking: also MLflow's database and artefacts.
        progress: told how many rows are written.

    Raises:
        Refused: the home holds nothing, or the file exists.
        StoreUnavailable: the home cannot be read, or the file not be written.
        StoreCorrupted: a store is damaged, or what was written cannot be read back.
    """
    if not home.has_events and not home.has_records:
        raise Refused(f"{home.root} holds neither events nor decisions; expected a home that was served or imported to")
    _refuse_overwriting(target, replace=replace)
    _refuse_inside(target, home)
    with _waiting_file(target) as (file, waiting), closing(BackupWriter(file)) as writer:
        stores, told_up_to = _write_stores(writer, home, at=at, progress=progress)
        configuration = _write_configuration(writer, home, env)
        _write_files(writer, home, KEPT_TREES)
        if with_tracking:
            _write_tracking(writer, home, target.parent)
        manifest = Manifest(
            format=FORMAT,
            headway=version("headway"),
            made_at=dump_timestamp(at),
            stores=stores,
            told_up_to=told_up_to,
            configuration=configuration,
            files=writer.files,
        )
        writer.finish(manifest)
        os.fsync(file.fileno())
        _verify(waiting)
        _refuse_overwriting(target, replace=replace)
        waiting.replace(target)
        sync_folder(target.parent)
    return Backup(path=target, size=target.stat().st_size, manifest=manifest)


def _verify(path: Path) -> None:
    try:
        with open_backup(path) as backup:
            backup.check()
    except Refused as error:
        raise StoreCorrupted(f"what was written cannot be read back: {error}; look at the disk") from error


def _refuse_overwriting(target: Path, *, replace: bool) -> None:
    if target.exists() and not replace:
        raise Refused(f"{target} exists, expected a new file: choose another name, or add --force")


def _refuse_inside(target: Path, home: Home) -> None:
    """A backup among the files that it keeps would be in the next one, and that in the one after it."""
    resolved = target.parent.resolve()
    for tree in (*KEPT_TREES, *TRACKING):
        if resolved.is_relative_to((home.root / tree).resolve()):
            raise Refused(f"{target} is among the files that a backup holds; expected a place outside {home.root}")


def _write_stores(
    writer: BackupWriter, home: Home, *, at: int, progress: Callable[[int], None]
) -> tuple[dict[StoreName, StoreRows], int]:
    with ExitStack() as opened:
        moments = _moments(home, opened)
        told_up_to = _told_up_to(moments["events"], at) if "events" in moments else 0
        stores = {name: _write_store(writer, name, moment, progress) for name, moment in moments.items()}
    return stores, told_up_to


def _moments(home: Home, opened: ExitStack) -> dict[StoreName, StoreMoment]:
    """Both stores: a database as of one moment, files one after the other."""
    moments: dict[StoreName, StoreMoment] = {}
    if home.database is not None:
        with needing_driver(home.database):
            from features.postgres_pages import PostgresMoment, database_moment
        driver = opened.enter_context(database_moment(home.database))
        return {name: PostgresMoment(driver, layout) for name, layout in LAYOUTS.items()}
    paths: dict[StoreName, Path] = {"records": home.records_db, "events": home.events_db}
    for name, layout in LAYOUTS.items():
        if paths[name].is_file():
            moment = moments[name] = opened.enter_context(closing(SqliteMoment(paths[name])))
            if not 1 <= moment.layout <= layout.version:
                raise StoreCorrupted(
                    f"{paths[name]} has layout version {moment.layout}; expected 1 to {layout.version}: "
                    f"use the release that wrote it"
                )
    return moments


def _told_up_to(log: StoreMoment, at: int) -> int:
    """A position up to which the record store was told everything by the moment ``at``."""
    statement = f"SELECT min(position) FROM events WHERE arrived_at >= {at - IN_FLIGHT_US:d}"  # noqa: S608  # a number
    head = int(log.value(_HEADS["events"]) or 0)
    first = log.value(statement)
    return max(0, min(head if first is None else int(first) - 1, head - IN_FLIGHT_EVENTS))


def _write_store(
    writer: BackupWriter, name: StoreName, moment: StoreMoment, progress: Callable[[int], None]
) -> StoreRows:
    tables = []
    for table in moment.tables:
        rows = 0
        for number, (count, page) in enumerate(moment.pages(table)):
            writer.add(f"{STORES}{name}/{table.name}/{number:06d}.msgpack", [page])
            rows += count
            progress(count)
        tables.append(TableRows(name=table.name, columns=table.columns, key=table.key, unique=table.unique, rows=rows))
    head = moment.value(_HEADS[name])
    return StoreRows(layout=moment.layout, head="" if head is None else str(head), tables=tuple(tables))


def _write_configuration(writer: BackupWriter, home: Home, env: Mapping[str, str]) -> ConfigurationInForce | None:
    """The configuration in force; a typing error in one of its files is no reason to have no backup."""
    try:
        configuration: Configuration = load_configuration(home, env)
    except ConfigurationError:
        return None
    for part, text in configuration.texts.items():
        writer.add(f"{CONFIGURATION}{part}.yaml", [text.encode()])
    return ConfigurationInForce(configuration.origin, dict(configuration.versions))


def _write_files(writer: BackupWriter, home: Home, trees: tuple[str, ...]) -> None:
    # What says which version holds comes first: a version that it names is there by then, and is never removed.
    pointers = _pointers(home)
    for relative, data in pointers.items():
        writer.add(HOME + relative, [data], mode=_mode(home.root / relative))
    for relative in (*KEPT_FILES, *(name for tree in trees for name in _files_below(home.root, tree))):
        if relative not in pointers:
            _write_file(writer, home, relative)


def _pointers(home: Home) -> dict[str, bytes]:
    """The aliases of the bundles with the log that tells of their moves, as of one moment, and the current prices."""
    log = home.bundles / "promotions.jsonl"
    paths = (log, home.champion_file, home.challenger_file, home.prices / "current.json")
    for _ in range(_TRIES):
        found = {path.relative_to(home.root).as_posix(): data for path in paths if (data := _data(path)) is not None}
        if _data(log) == found.get(log.relative_to(home.root).as_posix()):
            return found
    raise StoreUnavailable(f"{log} does not stop growing; expected a promotion to end: try again")


def _data(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return _OWNER_ONLY


def _files_below(root: Path, tree: str) -> Iterator[str]:
    for folder, folders, names in os.walk(root / tree, onerror=_unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            _refuse_loop(Path(folder), Path(folder) / name)
        for name in sorted(names):
            relative = (Path(folder) / name).relative_to(root).as_posix()
            if is_kept(HOME + relative):
                yield relative


def _refuse_loop(folder: Path, path: Path) -> None:
    if path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
        raise StoreUnavailable(f"{path} leads back to {path.resolve()}; expected folders that end: remove the link")


def _unreadable(error: OSError) -> None:
    """Raise for a folder or file that is there and cannot be read: a backup without it would look whole.

    Raises:
        StoreUnavailable: always, but for what is not there.
    """
    if not isinstance(error, FileNotFoundError):
        raise StoreUnavailable(
            f"cannot read {error.filename}: {error.strerror}; expected everything in the home to be readable"
        ) from error


def _write_file(writer: BackupWriter, home: Home, relative: str) -> None:
    path = home.root / relative
    try:
        file = path.open("rb")
    except OSError as error:
        _unreadable(error)
        return  # it is not there, or was removed since it was listed
    with file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
        writer.add(HOME + relative, iter(lambda: file.read(_CHUNK), b""), mode=mode)


def _write_tracking(writer: BackupWriter, home: Home, beside: Path) -> None:
    """MLflow's database as of one moment, and its artefacts."""
    database = home.mlflow_db.relative_to(home.root).as_posix()
    if home.mlflow_db.exists():
        with TemporaryDirectory(prefix=".headway-", dir=beside) as folder:
            copy = Path(folder) / "mlflow.db"
            with (
                store_errors(home.mlflow_db),
                closing(connect_reader(home.mlflow_db)) as source,
                closing(sqlite3.connect(copy)) as taken,
            ):
                source.backup(taken)
            with copy.open("rb") as file:
                writer.add(HOME + database, iter(lambda: file.read(_CHUNK), b""), mode=_mode(home.mlflow_db))
    aside = {database, f"{database}-wal", f"{database}-shm", f"{database}-journal"}
    for tree in TRACKING:
        for relative in _files_below(home.root, tree):
            if relative not in aside:
                _write_file(writer, home, relative)


def is_held(descriptor: int, path: Path) -> bool:
    """Whether an open file or folder is now this process's alone, and still the one at ``path``."""
    try:
        # flock and not lockf: a folder has no other.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_at(descriptor, path)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _waiting_file(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An empty file beside ``target``, of its owner only, that nobody else writes; gone after the block.

    Raises:
        Refused: another process writes it.
        StoreUnavailable: it cannot be written.
    """
    waiting = target.with_name(f".{target.name}.partial")
    try:
        with _locked(waiting) as file:
            try:
                yield file, waiting
            finally:
                if _is_at(file.fileno(), waiting):
                    waiting.unlink()
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write {target}: {error.strerror or error}; expected a folder with room that can be written"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _OWNER_ONLY)
    with os.fdopen(descriptor, "r+b") as file:
        if not is_held(descriptor, path):
            raise Refused(f"another process writes {path}; expected one backup at a time: wait until it ends")
        with suppress(PermissionError):
            os.fchmod(descriptor, _OWNER_ONLY)
        file.truncate(0)  # what a process that was killed left
        yield file
