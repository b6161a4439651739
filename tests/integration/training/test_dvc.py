"""DVC runs the pipeline, and runs it once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from training.drift_verdict import VERDICTS

ROOT = Path(__file__).parents[3]
DVC = Path(sys.executable).with_name("dvc")


def dvc(*arguments: str, folder: Path) -> str:
    """What DVC printed."""
    environment = {
        **os.environ,
        "DVC_NO_ANALYTICS": "1",
        "ITERATIVE_DO_NOT_TRACK": "1",
        "PATH": f"{DVC.parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [str(DVC), *arguments], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project that simulates few customers and belongs to no repository."""
    folder = tmp_path / "project"
    for package in ("features", "models", "training"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("dvc.yaml", ".dvcignore", ".dvc/config"):
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, folder / file)
    params = folder / "training" / "params.yaml"
    params.write_text(params.read_text().replace("customers: 3000", "customers: 400"))
    with (folder / ".dvc" / "config").open("a") as config:
        config.write("    no_scm = true\n")
    return folder


def test_the_stages_are_in_order(project: Path) -> None:
    """From the snapshot to the drift report; DVC accepts the file."""
    edges = dvc("dag", "--mermaid", folder=project)
    assert all(f'"{name}"' in edges for name in ("snapshot", "frames", "train", "drift"))
    assert dvc("stage", "list", "--name-only", folder=project).split() == ["snapshot", "frames", "train", "drift"]


@pytest.mark.slow
def test_the_second_run_does_nothing(project: Path) -> None:
    """An empty home is filled and trained on; run again, every stage is up to date, also after an equal snapshot."""
    dvc("repro", folder=project)
    evaluation = json.loads((project / "data/reports/evaluation.json").read_text())
    assert evaluation["journeys"]["credit_card_application"]["stall"]["auc"] > 0.6
    assert (project / "data/bundles/champion.json").is_file()
    drift = json.loads((project / "data/reports/drift/credit_card_application.json").read_text())
    assert drift["verdict"] in VERDICTS
    assert "Data and pipelines are up to date" in dvc("repro", folder=project)
