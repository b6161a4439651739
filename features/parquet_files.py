"""Parquet files written as streams of row groups, and seen only once they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import StoreUnavailable


@contextmanager
def written_whole(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of ``path``, which holds what it held before until the block ends without an error.

    Raises:
        StoreUnavailable: if the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(partial, schema, compression="zstd", compression_level=1) as writer:
            yield writer
        os.replace(partial, path)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot write {path}: {error}; expected a folder with room that can be written"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
