"""The quality gates run, and tell what they found in the agreed form. Whether they are met is no matter of tests."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.quality.setting import FILES

ROOT = Path(__file__).parents[2]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.quality", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _is_crosscheck_installed() -> bool:
    try:
        import causalml  # noqa: F401  # only whether it is there
        import econml  # noqa: F401  # likewise
        import xgboost  # noqa: F401  # likewise
    except ImportError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_the_gates_run_and_are_well_formed(name: str, real_data: Callable[[str], Path]) -> None:
    """One JSON object keyed by data set; each measure has a figure, and a ratio exactly where it has a baseline."""
    if not _is_crosscheck_installed() and not os.environ.get("HEADWAY_TEST_CROSSCHECK"):
        pytest.skip("causalml, econml and xgboost are in the dependency group crosscheck")
    for file in FILES[name]:
        real_data(file)

    done = _run(name, "--quick", "--json")

    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert set(found) == {name}
    for one in found[name]:
        assert set(one) == {"name", "unit", "ours", "baseline", "ratio", "target", "met"}
        assert math.isfinite(one["ours"]), one
        assert (one["ratio"] is None) == (one["baseline"] is None)
        assert (one["met"] is None) == (one["target"] is None)


@pytest.mark.slow
def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    """Before anything is computed."""
    done = _run("ihdp", "--data", str(tmp_path))

    assert done.returncode == 2
    assert f"{tmp_path / 'ihdp/ihdp_npci_1.csv.gz'} is absent" in done.stderr
    assert "--data or HEADWAY_TEST_DATA" in done.stderr


@pytest.mark.slow
def test_an_unknown_data_set_is_refused() -> None:
    """It says which there are."""
    done = _run("iris")

    assert done.returncode == 2
    assert "expected any of simulated" in done.stderr


@pytest.mark.slow
def test_the_page_is_written_from_a_full_run_only() -> None:
    """A page of some data sets, or of small sizes, would pass for the whole."""
    done = _run("ihdp", "--write")

    assert done.returncode == 2
    assert "name no data set" in done.stderr
