"""Files that survive a loss of power: whole, or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file so that it survives a loss of power; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def replace_durably(path: Path, data: bytes) -> None:
    """Put a file in the place of another, or of none: a reader sees one or the other, also after a loss of power."""
    waiting = path.with_name(f".{path.name}.{os.getpid()}")
    write_durably(waiting, data)
    waiting.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
