"""Files that survive a loss of power: whole, or not there."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path


def write_durably(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a new file so that it survives a loss of power; its folder is made.

    Args:
        path: the file.
        data: all of it.
        mode: who may read and write it, less what the process's umask takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def replace_durably(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put a file in the place of another, or of none: a reader sees one or the other, also after a loss of power."""
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    write_durably(waiting, data, mode=mode)
    waiting.replace(path)
    sync_folder(path.parent)


def made_durably(path: Path, data: bytes, *, mode: int = 0o666) -> bytes:
    """What a file holds that is made of ``data`` where it is missing; of several who make it, all go by the first."""
    own = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    write_durably(own, data, mode=mode)
    with suppress(FileExistsError):
        os.link(own, path)
    own.unlink()
    sync_folder(path.parent)
    return path.read_bytes()


def sync_file(path: Path) -> None:
    """Make what was written to a file survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
