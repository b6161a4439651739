"""Frames as they are kept: what an earlier version wrote is not read as something else."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import Refused
from training.dataset import DECISIONS_FILE, MOMENTS_FILE, read_frames


def test_frames_of_an_earlier_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """A home that was trained before an upgrade keeps such frames until it is trained again."""
    moments = {"customer_id": ["c1"], "at": [1], "stage": [0], "progressed": [True], "abandoned": [False]}
    pq.write_table(pa.table(moments), tmp_path / MOMENTS_FILE)
    pq.write_table(pa.table({"customer_id": ["c1"]}), tmp_path / DECISIONS_FILE)

    with pytest.raises(Refused, match=r"without after:progress, .*: run `headway train`"):
        read_frames("application", tmp_path)
