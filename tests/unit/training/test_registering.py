"""What is said of a run: the commit of the code, what is installed, and numbers alone as metrics."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from models.manifest import Lineage
from training.pipeline import Trained
from training.registering import git_tags, installed_packages, run_metrics
from training.snapshot import Snapshot, Watermark

GIT = shutil.which("git")


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    """A file that git tracks, committed."""
    if GIT is None:
        pytest.skip("git is not installed")
    file = tmp_path / "code.py"
    file.write_text("x = 1\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), ("add", "code.py"), (*who, "commit", "-q", "-m", "first")):
        subprocess.run([GIT, *arguments], cwd=tmp_path, check=True)
    return file


def test_the_commit_is_told_and_whether_the_code_differs_from_it(work_tree: Path) -> None:
    """A run from code that was changed cannot be made again from its commit."""
    found = git_tags(work_tree)
    assert (len(found["git_commit"]), found["git_dirty"]) == (40, "false")

    work_tree.write_text("x = 2\n")
    assert git_tags(work_tree) == {**found, "git_dirty": "true"}


def test_code_that_git_does_not_track_has_no_commit(work_tree: Path) -> None:
    """It may be installed inside of a work tree of something else."""
    other = work_tree.with_name("installed.py")
    other.write_text("")
    assert git_tags(other) == {}


def test_packages_are_listed_by_name() -> None:
    """Those that models are fitted with among them, in alphabetical order."""
    found = installed_packages()
    assert {"lightgbm", "numpy", "headway"} <= found.keys()
    assert list(found) == sorted(found)


def test_metrics_are_numbers_that_are_known() -> None:
    """Under dotted paths, with counts of what was learned from; texts, lists and unknowns are left out."""
    lineage = Lineage(
        name="nba-card",
        journey_id="card",
        created_at=1,
        feature_names=("a", "b"),
        features_version="f",
        configuration={},
        training={"n_moments": 5, "n_decisions": 3},
    )
    evaluation = {
        "stall": {"auc": 0.7, "ece": None},
        "uplift": {},
        "policy": {"value": 1, "interval": [0.0, 2.0], "ess": None},
    }
    trained = Trained(journey_id="card", name="nba-card", bundle=Path(), evaluation=evaluation, lineage=lineage)
    watermark = Watermark(log_head=9, last_decision_id="d", frozen_at=1, observed_until=1)
    snapshot = Snapshot(watermark=watermark, fingerprint="f", counts={"events": 9}, configuration={})

    assert run_metrics(trained, snapshot) == {
        "stall.auc": 0.7,
        "policy.value": 1.0,
        "count.events": 9.0,
        "count.moments": 5.0,
        "count.decisions_learned_from": 3.0,
        "count.features": 2.0,
    }
