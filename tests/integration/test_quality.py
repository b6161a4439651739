"""The quality gates run, and tell what they found in the agreed form. Whether they are met is no matter of tests."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.quality.setting import FILES
from tests.quality.worlds import money, table

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


def test_simulated_responses_follow_their_truth() -> None:
    """In every arm the share of responses is the mean of the true probabilities, within five standard errors."""
    known = table(3, 40_000)

    for arm in range(known.truth.shape[1]):
        taken = known.arm == arm
        truth = known.truth[taken, arm]
        assert abs(known.y[taken].mean() - truth.mean()) < 5 * np.sqrt((truth * (1 - truth)).sum()) / taken.sum()


def test_what_is_observed_tells_all_that_the_truth_depends_on() -> None:
    """Two customers with the same features have the same truth: no policy on features can do better than attainable."""
    known = table(3, 40_000)
    flags = known.x.copy()
    flags[:, 3] = known.x[:, 3] >= 8  # tenure matters by this bound only
    order = np.lexsort(np.column_stack([flags, known.truth[:, 0]]).T)
    same = (np.nan_to_num(flags[order][1:], nan=-1) == np.nan_to_num(flags[order][:-1], nan=-1)).all(axis=1)

    assert same.sum() > 50
    np.testing.assert_allclose(known.truth[order][1:][same], known.truth[order][:-1][same], atol=1e-12)


def test_ranking_by_true_response_loses_to_one_action_for_all() -> None:
    """The headline of the simulated world holds of the truth itself, whatever is learned from how much."""
    known = table(3, 40_000)
    worth = money(known.truth[:, 0], known.effects)
    ranked = 1 + known.truth[:, 1:].argmax(axis=1)

    assert worth[np.arange(len(ranked)), ranked].mean() < worth.mean(axis=0).max() < worth.max(axis=1).mean()


def test_the_page_tells_of_every_data_set_and_of_what_is_missed() -> None:
    """It was written by a run of all of them, and as many gates are listed as not met as the table says."""
    page = (ROOT / "docs" / "model-quality.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| \d+ \|$", page, re.MULTILINE)

    assert [name for name, _, _ in rows] == list(FILES)
    missed = sum(int(gates) - int(met) for _, gates, met in rows)
    assert len(re.findall(r"^- \w+, .*, expected ", page, re.MULTILINE)) == missed
