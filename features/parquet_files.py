"""Parquet files written as streams of row groups, and seen only once they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.whole_files import whole_file


@contextmanager
def written_whole(path: Path, schema: pa.Schema, *, mode: int = 0o666) -> Iterator[pq.ParquetWriter]:
    """A writer of ``path``, which holds what it held before until the block ends without an error.

    Args:
        path: the file.
        schema: of its rows.
        mode: who may read it, from its first byte on; the process's mask takes away from that.

    Raises:
        StoreUnavailable: if the file cannot be written.
    """
    with (
        whole_file(path, mode=mode) as partial,
        pq.ParquetWriter(
            partial, schema, compression="zstd", compression_level=1, use_dictionary=_texts(schema)
        ) as writer,
    ):
        yield writer


def _texts(schema: pa.Schema) -> list[str]:
    """The columns worth a dictionary: looking numbers up in one takes longer than it saves."""
    return [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
