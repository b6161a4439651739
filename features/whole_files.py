"""Files that are seen only once they are whole; until then their names hold what they held before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import StoreUnavailable


@contextmanager
def whole_file(path: Path, *, mode: int = 0o666) -> Iterator[Path]:
    """An empty file to write to, which takes the place of ``path`` where the block ends without an error.

    Args:
        path: the file; its folder is made.
        mode: who may read and write it, from its first byte on, less what the process's umask takes.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # what a process that was killed left would keep its mode
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode))
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write {path}: {error}; expected a folder with room that can be written"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
