"""A home made of a backup: verified and made whole beside its place, then put there by one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from features.backup_file import BackupReader, open_backup
from features.backup_format import CONFIGURATION, HOME, Manifest, StoreRows
from features.database_location import DatabaseLocation
from features.durable_files import sync_folder
from features.errors import ConfigurationError, Refused, StoreCorrupted, StoreUnavailable
from features.event_store import SqlEventLog
from features.events import parse_timestamp
from features.head_file import head_path
from features.home import Home, lock_file
from features.redis_epoch import set_back
from features.sql_store import needing_driver
from features.table_pages import SqliteMoment, check_file, check_layout, write_tables
from models.backup import IN_FLIGHT_US, LAYOUTS, StoreName, is_held
from models.configuration import BUILT_IN, Configuration, configuration_in, has_configuration
from models.record_store import SqlRecordStore
from models.told_again import tell_again

_REMADE: Final = ("cache",)
"""Folders of a home that nobody misses."""
_ROOM: Final = 1.5
"""So much more than the rows a database takes, with its indexes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A home that was made of a backup.

    Attributes:
        home: it.
        manifest: what the backup said of itself.
        upgraded: the stores that had an older layout.
        told_again: events that the record store was told of again.
        moved_aside: where the home went that was there before.
        configuration_from: the folder outside the home that the configuration was read from, if any.
        warnings: what could not be made as it was.
    """

    home: Home
    manifest: Manifest
    upgraded: tuple[StoreName, ...]
    told_again: int
    moved_aside: Path | None
    configuration_from: str | None
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Made:
    upgraded: list[StoreName] = field(default_factory=list)
    told_again: int = 0
    configuration_from: str | None = None
    warnings: list[str] = field(default_factory=list)


def restore_backup(
    source: Path,
    home: Home,
    *,
    at: int,
    move_aside: bool = False,
    progress: Callable[[int], None] = lambda size: None,
) -> Restored:
    """Make a home of a backup. Until all of it is verified, made and on disk, nothing is at the home's place.

    Args:
        source: the file.
        home: where it goes; it may be missing or empty.
        at: now, microseconds since the epoch.
        move_aside: rename a home that is there, instead of refusing.
        progress: told how many bytes are unpacked.

    Raises:
        Refused: the file is no sound backup, or of a newer release; or something is at the home's place.
        HomeLocked: the home is being written.
        StoreUnavailable: the file cannot be read, or the home not be written.
        StoreCorrupted: what was made is not sound.
    """
    root = home.root.resolve()
    with open_backup(source) as backup:
        _check_layouts(backup)
        _check_place(root, move_aside=move_aside)
        if home.database is not None:
            _check_database(home.database)
        with _written(root), _stage_of(root) as stage:
            _check_room(backup, stage)
            made = _make(backup, Home(stage), at=at, progress=progress)
            if home.database is not None:
                _move_to_database(Home(stage), home.database)
            _sync_tree(stage)
            aside = _put_in_place(stage, root, at=at, move_aside=move_aside)
            if home.database is not None:
                _finish_database(home.database)
        return Restored(
            home=home,
            manifest=backup.manifest,
            upgraded=tuple(made.upgraded),
            told_again=made.told_again,
            moved_aside=aside,
            configuration_from=made.configuration_from,
            warnings=tuple(made.warnings),
        )


def in_the_way(root: Path) -> list[str]:
    """What a home's place holds that a restored home would replace, by name; folders without files count as nothing."""
    if not root.exists():
        return []
    if not root.is_dir():
        return [root.name]
    return sorted(
        path.name
        for path in root.iterdir()
        if not (_is_own_folder(path) and (path.name in _REMADE or _has_no_files(path)))
    )


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _has_no_files(folder: Path) -> bool:
    return not any(name for _, _, names in os.walk(folder) for name in names if not name.endswith(".lock"))


def _check_layouts(backup: BackupReader) -> None:
    for name, store in backup.manifest.stores.items():
        newest, metadata = LAYOUTS[name].version, LAYOUTS[name].metadata
        if store.layout > newest:
            raise Refused(
                f"{backup.where} was made by headway {backup.manifest.headway} and holds {name} of layout "
                f"{store.layout}; this release knows up to {newest}: restore it with the release that made it"
            )
        if store.layout == newest:
            check_layout(store, metadata, where=backup.where)
        elif store.layout < 1:
            raise Refused(f"{backup.where} holds {name} of layout {store.layout}; expected 1 to {newest}")
    if not backup.manifest.stores:
        raise Refused(f"{backup.where} holds neither events nor decisions; expected a backup")


def _check_place(root: Path, *, move_aside: bool) -> None:
    if root.is_mount():
        raise Refused(
            f"{root} is where a file system is mounted, which cannot be renamed; expected a folder inside one: set "
            f"HEADWAY_HOME to {root / 'home'}, say"
        )
    found = in_the_way(root)
    if found and not move_aside:
        shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise Refused(
            f"{root} holds {shown}; expected an empty home: name another one, or add --force, which renames this one"
        )


def _check_room(backup: BackupReader, stage: Path) -> None:
    needed = int(backup.manifest.size * _ROOM)
    free = shutil.disk_usage(stage).free
    if needed > free:
        raise StoreUnavailable(f"{stage.parent} has {free:,} bytes free, expected some {needed:,}: make room first")


@contextmanager
def _written(root: Path) -> Iterator[None]:
    """Failures of the disk as failures of the place."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"cannot restore to {root}: {error.strerror or error}; expected a folder with room that can be written"
        ) from error


@contextmanager
def _stage_of(root: Path) -> Iterator[Path]:
    """An empty folder beside a home's place, which no other process uses; gone after the block unless renamed.

    Raises:
        Refused: another process restores to the same place.
    """
    stage = root.with_name(f".{root.name}.restoring")
    root.parent.mkdir(parents=True, exist_ok=True)
    stage.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not is_held(descriptor, stage):
            raise Refused(f"another process restores to {root}; expected to be the only one: wait until it ends")
        _empty(stage)  # of what a process left that was killed
        try:
            yield stage
        finally:
            if is_held(descriptor, stage):
                shutil.rmtree(stage, ignore_errors=True)
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if _is_own_folder(path):
            shutil.rmtree(path)
        else:
            path.unlink()


def _make(backup: BackupReader, stage: Home, *, at: int, progress: Callable[[int], None]) -> _Made:
    made = _Made()
    _unpack_files(backup, stage, progress)
    configuration = _configuration(backup, stage, made)
    for name, path in _paths(stage).items():
        if name in backup.manifest.stores:
            _make_store(backup, name, path, made, progress)
    stage.create()
    _open_stores(backup.manifest, stage, configuration, made, at=at)
    set_back(stage.online_epoch, at=at)
    return made


def _paths(home: Home) -> dict[StoreName, Path]:
    return {"events": home.events_db, "records": home.records_db}


def _unpack_files(backup: BackupReader, stage: Home, progress: Callable[[int], None]) -> None:
    for file in backup.manifest.files:
        if not file.name.startswith(HOME):
            continue
        path = stage.root / file.name.removeprefix(HOME)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Nobody but its owner may write what was restored, whatever a stranger's archive says.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as unpacked:
            for chunk in backup.chunks(file):
                unpacked.write(chunk)
            os.fchmod(descriptor, file.mode & 0o755)
        progress(file.size)


def _configuration(backup: BackupReader, stage: Home, made: _Made) -> Configuration | None:
    """The configuration that held when the backup was made, installed where it was read from outside the home."""
    named = backup.manifest.configuration
    texts = {
        file.name.removeprefix(CONFIGURATION): backup.read(file).decode()
        for file in backup.manifest.files
        if file.name.startswith(CONFIGURATION)
    }
    if named is None:
        made.warnings.append("the configuration files in force could not be read when the backup was made")
        return None
    if named.origin != BUILT_IN and not has_configuration(stage.config):
        made.configuration_from = named.origin
        stage.config.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (stage.config / name).write_text(text, encoding="utf-8")
    try:
        return configuration_in(texts, origin=backup.where)
    except ConfigurationError as error:
        made.warnings.append(f"this release cannot use the configuration of the backup: {error.headline}")
        return None


def _make_store(
    backup: BackupReader, name: StoreName, path: Path, made: _Made, progress: Callable[[int], None]
) -> None:
    store = backup.manifest.stores[name]
    is_present = store.layout == LAYOUTS[name].version
    path.parent.mkdir(parents=True, exist_ok=True)

    def pages(table: str) -> Iterator[bytes]:
        for file in backup.manifest.pages(name, table):
            yield backup.read(file)
            progress(file.size)

    write_tables(path, store, LAYOUTS[name].metadata if is_present else None, pages)
    if not is_present:
        made.upgraded.append(name)


def _open_stores(manifest: Manifest, stage: Home, configuration: Configuration | None, made: _Made, *, at: int) -> None:
    """Open what was made, which brings layouts and indexes up to date, and look that it is whole.

    Jobs that ran when the backup was made wait again: their processes are elsewhere.

    All of it is synced once it is done.
    """
    with ExitStack() as opened:
        log = opened.enter_context(closing(SqlEventLog(stage.events_db, durability="NORMAL")))
        records = opened.enter_context(closing(SqlRecordStore(stage.records_db, durability="NORMAL")))
        if "events" in manifest.stores:
            _check_head("events", manifest.stores["events"], str(log.head() or ""))
        if "records" in manifest.stores:
            newest = next((page[0].decision_id for page in records.read_back(page=1)), "")
            _check_head("records", manifest.stores["records"], newest)
            records.jobs.take_over(now=at)
        if configuration is not None:
            since = parse_timestamp(manifest.made_at) - IN_FLIGHT_US
            made.told_again = tell_again(log, records, configuration, after=manifest.told_up_to, arrived_since=since)
        else:
            made.warnings.append("what arrived in the last minutes before the backup was not told to the record store")
    for name, path in _paths(stage).items():
        if name in manifest.stores:
            check_file(path, manifest.stores[name])


def _check_head(name: StoreName, store: StoreRows, found: str) -> None:
    if found != store.head:
        raise StoreCorrupted(f"the restored {name} end at {found or 'nothing'}, expected {store.head or 'nothing'}")


def _is_bare(root: Path) -> bool:
    return root.is_dir() and not any(root.iterdir())


def _check_database(location: DatabaseLocation) -> None:
    """Make the tables where there are none, and look that they are empty."""
    with needing_driver(location):
        from features.postgres_pages import check_empty
        from features.postgres_store import RESTORING
        from models.database_migrations import current, upgrade
    if current(location) != RESTORING:
        upgrade(location)
    check_empty(location, [table.name for layout in LAYOUTS.values() for table in layout.metadata.sorted_tables])


def _move_to_database(stage: Home, location: DatabaseLocation) -> None:
    """Put the rows of the finished files into the database, which nobody can open yet, in place of the files.

    What was checked and brought up to date in one way need not be so in another.
    """
    from features.postgres_pages import fill_database

    with ExitStack() as opened:
        moments = [opened.enter_context(closing(SqliteMoment(path))) for path in _paths(stage).values()]
        holder = {table.name: moment for moment in moments for table in moment.tables}
        tables = [table for moment in moments for table in moment.tables]
        fill_database(location, tables, lambda table: holder[table.name].rows(table))
    for path in _paths(stage).values():
        for made in path.parent.glob(f"{path.name}*"):
            made.unlink()
        head_path(path).unlink(missing_ok=True)


def _finish_database(location: DatabaseLocation) -> None:
    from features.postgres_pages import finish_filling

    finish_filling(location)


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))


def _put_in_place(stage: Path, root: Path, *, at: int, move_aside: bool) -> Path | None:
    """Rename the finished home into its place; where the one that was there went, if there was one."""
    aside: Path | None = None
    with ExitStack() as locks:
        if (root / "state").is_dir():
            there = Home(root)
            for path in (there.events_db, there.records_db, there.online_db, there.state / "training"):
                locks.enter_context(lock_file(path))
        _check_place(root, move_aside=move_aside)
        worth_keeping = bool(in_the_way(root))
        if root.is_dir():
            stage.chmod(root.stat().st_mode & 0o777)
        if root.exists() and not _is_bare(root):
            moment = datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y%m%dT%H%M%S%fZ")
            aside = root.with_name(f"{root.name}.before-{moment}")
            root.rename(aside)
        stage.rename(root)
        sync_folder(root.parent)
    if aside is not None and not worth_keeping:
        shutil.rmtree(aside, ignore_errors=True)
        aside = None
    return aside
