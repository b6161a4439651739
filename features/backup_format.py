"""The manifest of a backup: what is in the file, how much of it, and by which release; and what may be in one at all.

``docs/reference/backup-file.md`` states the format. It is the same whatever database the home keeps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from features.errors import Refused
from features.events import LARGEST_INTEGER, parse_timestamp

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
HOME: Final = "home/"
CONFIGURATION: Final = "configuration/"
STORES: Final = "stores/"
MOST_MANIFEST_BYTES: Final = 256 << 20
MOST_PAGE_BYTES: Final = 256 << 20
"""A page holds some 4 MB, or one row that is larger."""

KEPT_TREES: Final = ("config", "configurations", "bundles", "prices", "reports", "audit")
KEPT_FILES: Final = ("snapshot.json", "state/keys.json", "state/online-epoch")
TRACKING: Final = ("mlflow",)
"""Of a home, by its relative paths; ``Home`` states the layout."""

_STEP: Final = re.compile(r"[^/\\\x00-\x1f\x7f]{1,255}")
_PAGE: Final = re.compile(rf"{STORES}(events|records)/([a-z][a-z0-9_]{{0,62}})/\d{{6,12}}\.msgpack")
_TEXT_OF_CONFIGURATION: Final = re.compile(rf"{CONFIGURATION}(taxonomy|journeys|actions|policy)\.yaml")
_MOST_STEPS: Final = 32

ColumnKind = Literal["integer", "text", "bytes"]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a table."""

    name: str
    kind: ColumnKind
    is_nullable: bool


class TableRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table, and how many rows of it there are; each is an array in the order of ``columns``."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, in order."""
        return tuple(column.name for column in self.columns)


class StoreRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One store as of one moment.

    Attributes:
        layout: version of its tables' layout.
        head: position of the last event, or id of the newest decision; empty where there is none.
        tables: all of them.
    """

    layout: int
    head: str
    tables: tuple[TableRows, ...]


class StoredFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file inside; ``mode`` is who may read and write it."""

    name: str
    size: int
    sha256: str
    mode: int


class ConfigurationInForce(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which configuration held: the folder that it was read from, or ``built-in``, and the versions of its files."""

    origin: str
    versions: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a backup says of itself.

    Attributes:
        format: of the file.
        headway: the release that made it.
        made_at: when it was begun: everything that was acknowledged before is in it.
        stores: ``events`` and ``records``, where the home had them.
        told_up_to: position in the log up to which every consent, exposure and response is in the record store.
        configuration: None where the files in force could not be read.
        files: every other file of the archive, in order.
    """

    format: int
    headway: str
    made_at: str
    stores: dict[Literal["events", "records"], StoreRows]
    told_up_to: int
    configuration: ConfigurationInForce | None
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together, unpacked."""
        return sum(file.size for file in self.files)

    def pages(self, store: str, table: str) -> list[StoredFile]:
        """The files that hold the rows of a table, in order."""
        start = f"{STORES}{store}/{table}/"
        return [file for file in self.files if file.name.startswith(start)]


class _Form(msgspec.Struct, frozen=True):
    format: int
    headway: str = "an unknown release"


def parse_manifest(data: bytes, *, where: str) -> Manifest:
    """The manifest in some bytes, with nothing in it that a backup never has.

    Raises:
        Refused: it is of another format, or names what no backup of ours does.
    """
    try:
        form = msgspec.json.decode(data, type=_Form)
        if form.format != FORMAT:
            raise Refused(
                f"{where} is a backup of format {form.format}, made by {form.headway}; expected format {FORMAT}: "
                f"restore it with the release that made it"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"{where}: {MANIFEST} is damaged: {error}; expected that of a backup") from error
    _check_moment(manifest, where=where)
    names = [file.name for file in manifest.files]
    if len(set(names)) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise Refused(f"{where} names {twice!r:.200} twice; expected every file once")
    for file in manifest.files:
        _check_file(file, where=where)
    for name, store in manifest.stores.items():
        _check_store(name, store, manifest, where=where)
    return manifest


def _check_moment(manifest: Manifest, *, where: str) -> None:
    try:
        parse_timestamp(manifest.made_at)
        is_sound = 0 <= manifest.told_up_to <= LARGEST_INTEGER
    except (ValueError, OverflowError):
        is_sound = False
    if not is_sound:
        raise Refused(
            f"{where} was made at {manifest.made_at!r:.80} and told up to {manifest.told_up_to}; expected a moment and "
            f"a position"
        )


def _check_file(file: StoredFile, *, where: str) -> None:
    if not is_kept(file.name):
        raise Refused(f"{where} holds {file.name!r:.200}, which no backup has; expected files of a home only")
    is_page = file.name.startswith(STORES)
    if file.size < 0 or not 0 <= file.mode <= 0o777 or (is_page and file.size > MOST_PAGE_BYTES):
        raise Refused(f"{where}: {file.name} has size {file.size} and mode {file.mode}; expected those of a backup")


def _check_store(name: str, store: StoreRows, manifest: Manifest, *, where: str) -> None:
    tables = {table.name for table in store.tables}
    for table in store.tables:
        names = set(table.names)
        named = (table.name, *table.names)
        known = set(table.key).union(*table.unique) <= names
        if not known or not table.key or len(names) != len(table.columns) or not all(map(_is_plain, named)):
            raise Refused(f"{where}: the table {table.name!r:.80} of {name} is none that a store has")
    for file in manifest.files:
        page = _PAGE.fullmatch(file.name)
        if page is not None and page[1] == name and page[2] not in tables:
            raise Refused(f"{where} holds {file.name}, a page of no table that its manifest names")
    if len(tables) != len(store.tables):
        raise Refused(f"{where} names a table of {name} twice; expected every table once")


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) is not None


def is_kept(name: str) -> bool:
    """Whether a backup may hold a file by this name."""
    if name.startswith(STORES):
        return _PAGE.fullmatch(name) is not None
    if name.startswith(CONFIGURATION):
        return _TEXT_OF_CONFIGURATION.fullmatch(name) is not None
    relative = name.removeprefix(HOME)
    if relative == name:
        return False
    steps = relative.split("/")
    if len(steps) > _MOST_STEPS or not all(_is_sound(step) for step in steps):
        return False
    return relative in KEPT_FILES or (len(steps) > 1 and steps[0] in (*KEPT_TREES, *TRACKING))


def _is_sound(step: str) -> bool:
    return _STEP.fullmatch(step) is not None and not step.startswith(".") and not step.endswith(".lock")


def row_decoder(columns: Sequence[Column]) -> msgspec.msgpack.Decoder[list[tuple[object, ...]]]:
    """Reads a page of rows, each value of the kind that its column has."""
    kinds: dict[str, Any] = {"integer": int, "text": str, "bytes": bytes}
    row = tuple(kinds[one.kind] | None if one.is_nullable else kinds[one.kind] for one in columns)
    page: Any = list[tuple.__class_getitem__(row)]  # type: ignore[misc]  # a type that is known at run time
    return msgspec.msgpack.Decoder(page)
