"""Distributed LightGBM on two local Dask workers: the same task is fitted as well as on one machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crosscheck.worlds import library

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries warn of their own dependencies
ROOT = Path(__file__).parents[2]


def test_two_workers_fit_as_well_as_one_process(tmp_path: Path) -> None:
    """Both texts load as a forest; AUC and log loss on 40,000 later rows differ by less than their standard errors.

    These are .0026 for the AUC of 40,000 rows at .72, and .002 for the log loss.
    """
    library("distributed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.crosscheck.distributed_fit", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    # LightGBM's workers write to the same standard output.
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["workers"] == 2
    assert found["local"]["auc"] > 0.7
    assert found["distributed"]["auc"] == pytest.approx(found["local"]["auc"], abs=0.0026)
    assert found["distributed"]["log_loss"] == pytest.approx(found["local"]["log_loss"], abs=0.002)
