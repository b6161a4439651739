"""The file of a backup: a zip of files with a manifest and a seal, written and read as streams.

The seal is the SHA-256 of all bytes before it, at the end of the zip's comment: a byte that is lost or changed anywhere
is noticed before anything inside is looked at. It keeps off damage, not forgers, who can write a seal of their own:
what a file says of itself is checked as if a stranger had written it.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from features.backup_format import MANIFEST, MOST_MANIFEST_BYTES, Manifest, StoredFile, parse_manifest
from features.errors import Refused, StoreUnavailable

_SEAL: Final = b"headway backup; sha256 of all before the digest: "
_DIGEST_BYTES: Final = 64
_CHUNK: Final = 1 << 20
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_FILE: Final = stat.S_IFREG
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error),
    *(EOFError, NotImplementedError, ValueError, OverflowError, KeyError, RuntimeError, OSError),
)
_LEVEL: Final = 1
"""Of a million events level 6 makes a tenth less in nearly twice the time."""


class BackupWriter:
    """Writes a backup into an empty file; ``finish`` makes it one, and ``close`` gives it up where it is none yet."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self._files: list[StoredFile] = []

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """What was added until now."""
        return tuple(self._files)

    def add(self, name: str, chunks: Iterable[bytes], *, mode: int = 0o600) -> None:
        """Add a file from its bytes as they come."""
        digest, size = sha256(), 0
        with self._zip.open(_entry(name, mode), "w", force_zip64=True) as entry:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                entry.write(chunk)
        self._files.append(StoredFile(name=name, size=size, sha256=digest.hexdigest(), mode=mode))

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest, which names what was added, and seal the file."""
        with self._zip.open(_entry(MANIFEST, 0o600), "w") as entry:
            entry.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        self._zip.comment = _SEAL + b"0" * _DIGEST_BYTES
        self._zip.close()
        self._file.flush()
        size = self._file.seek(0, 2)
        digest = _digest_of(self._file, size - _DIGEST_BYTES)
        self._file.seek(size - _DIGEST_BYTES)
        self._file.write(digest)
        self._file.flush()

    def close(self) -> None:
        """Write no more; the file stays the caller's."""
        with suppress(OSError, ValueError):
            self._zip.close()


class BackupReader:
    """A backup whose seal is whole and whose manifest is one of ours; made by ``open_backup``.

    Attributes:
        manifest: what it says of itself.
        where: the file, for messages.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self.where = where
        _check_seal(file, where)
        with _damage(where):
            self._zip = zipfile.ZipFile(file)
            self._entries = {entry.filename: entry for entry in self._zip.infolist()}
            entry = self._entries.get(MANIFEST)
            if entry is None or len(self._entries) != len(self._zip.infolist()):
                raise Refused(f"{where} has no {MANIFEST}, or a file twice; expected a backup")
            if entry.file_size > MOST_MANIFEST_BYTES:
                raise Refused(f"{where}: {MANIFEST} has {entry.file_size:,} bytes; expected a backup")
            self.manifest = parse_manifest(self._zip.read(entry), where=where)
        named = {file.name: file.size for file in self.manifest.files}
        for entry in self._entries.values():
            _check_entry(entry, named, where)
        if missing := sorted(named.keys() - self._entries.keys()):
            raise Refused(f"{where} lacks {missing[0]!r:.200}, which its manifest names; expected a whole backup")

    def chunks(self, file: StoredFile) -> Iterator[bytes]:
        """The bytes of a file inside.

        Raises:
            Refused: they are not those that the manifest names; what was given until then is worth nothing.
        """
        digest, left = sha256(), file.size
        with _damage(self.where), self._zip.open(self._entries[file.name]) as entry:
            while chunk := entry.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                if left < 0:
                    break
                digest.update(chunk)
                yield chunk
        if left or digest.hexdigest() != file.sha256:
            raise Refused(f"{self.where}: {file.name} is not what the manifest names; expected a sound backup")

    def read(self, file: StoredFile) -> bytes:
        """All bytes of a file inside that is small."""
        return b"".join(self.chunks(file))

    def check(self) -> None:
        """Read every file inside.

        Raises:
            Refused: one is not what the manifest names.
        """
        for file in self.manifest.files:
            for _ in self.chunks(file):
                pass


@contextmanager
def open_backup(path: Path) -> Iterator[BackupReader]:
    """The backup in a file.

    Raises:
        Refused: the file is none, is damaged, or holds what no backup does.
        StoreUnavailable: it cannot be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise Refused(f"there is no file {path}; expected one that `headway backup` wrote") from error
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error.strerror}; expected a readable file") from error
    with file:
        yield BackupReader(file, str(path))


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (_FILE | mode) << 16
    return entry


def _check_entry(entry: zipfile.ZipInfo, named: dict[str, int], where: str) -> None:
    name = entry.filename
    if name != MANIFEST and name not in named:
        raise Refused(f"{where} holds {name!r:.200}, which its manifest does not name; expected a sound backup")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, _FILE) or entry.is_dir():
        raise Refused(f"{where}: {name!r:.200} is no plain file; a backup has no links, folders or devices")
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        raise Refused(f"{where}: {name!r:.200} is encrypted or packed in another way; expected a backup as it was made")
    if name != MANIFEST and entry.file_size != named[name]:
        raise Refused(f"{where}: {name!r:.200} has {entry.file_size:,} bytes, expected {named[name]:,}")


def _check_seal(file: BinaryIO, where: str) -> None:
    try:
        size = file.seek(0, 2)
        file.seek(max(0, size - _DIGEST_BYTES - len(_SEAL)))
        end = file.read()
        if not end.startswith(_SEAL):
            raise Refused(f"{where} is no backup, or its end is missing; expected a file that `headway backup` wrote")
        digest = _digest_of(file, size - _DIGEST_BYTES)
        file.seek(0)
    except OSError as error:
        raise StoreUnavailable(f"cannot read {where}: {error.strerror}; expected a readable file") from error
    if end[len(_SEAL) :] != digest:
        raise Refused(f"{where} is damaged: its bytes are not those that its seal names; expected another copy of it")


def _digest_of(file: BinaryIO, size: int) -> bytes:
    digest = sha256()
    file.seek(0)
    while size and (chunk := file.read(min(_CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """What a damaged or forged zip makes the library raise, as a refusal."""
    try:
        yield
    except _DAMAGE as error:
        raise Refused(f"{where} is damaged: {error}; expected a file as `headway backup` wrote it") from error
