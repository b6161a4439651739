"""The declared pipeline (``dvc.yaml``) fits the code and keeps the rules about what may be an output."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml

from training.params import PARAMS_FILE, Params
from training.stages import STAGES

ROOT = Path(__file__).parents[2]


def stages() -> dict[str, dict[str, Any]]:
    """The declared stages."""
    declared: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return declared


def outputs(stage: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every output, metric and plot of a stage with its options."""
    listed = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return {
        path: options for one in listed for path, options in (one.items() if isinstance(one, dict) else [(one, {})])
    }


def test_every_stage_runs_its_function_in_the_home_of_the_pipeline() -> None:
    """The stages of the file are those of the code, in their order, all in the same home."""
    commands = {name: stage["cmd"] for name, stage in stages().items()}
    assert commands == {name: f"HEADWAY_HOME=data python -m training.stages {name}" for name in STAGES}


def test_outputs_lie_under_data_and_are_no_databases() -> None:
    """An output is deleted before its stage runs: a live store must never be one."""
    paths = [path for stage in stages().values() for path in outputs(stage)]
    assert all(path.startswith("data/") for path in paths)
    live = ("data/state", "data/mlflow", "data/offline", "data/config")
    everything = paths + [path for stage in stages().values() for path in stage["deps"]]
    assert not [path for path in everything if path.startswith(live) or path.endswith(".db")]


def test_personal_data_are_not_cached() -> None:
    """The snapshot and the frames hold customers' histories."""
    declared = {path: options for stage in stages().values() for path, options in outputs(stage).items()}
    assert declared["data/snapshot"]["cache"] is False
    assert declared["data/frames"]["cache"] is False


def test_the_watermark_survives_its_stage() -> None:
    """It says which rows to export, so it must be there when the stage runs again."""
    declared = outputs(stages()["snapshot"])
    assert declared["data/snapshot.json"] == {"persist": True, "cache": False}


def test_code_that_a_stage_depends_on_exists() -> None:
    """Every dependency is a file of the project or an earlier stage's output."""
    made: set[str] = set()
    for stage in stages().values():
        for path in stage["deps"]:
            assert path in made or (ROOT / path).is_file(), path
        made |= outputs(stage).keys()


def test_all_code_that_models_are_made_and_judged_by_is_a_dependency() -> None:
    """Else `dvc repro` would keep a bundle or a report that the code no longer gives."""
    readers_of_yaml = {"models/actions.py", "models/policy.py", "training/params.py"}
    used = {"training/fit.py", "training/evaluate.py", "models/bundle.py"}
    looked_at: set[str] = set()
    while left := used - looked_at:
        path = left.pop()
        looked_at.add(path)
        used |= _own_imports(ROOT / path)

    declared = stages()
    assert used - readers_of_yaml - {*declared["train"]["deps"], *declared["frames"]["deps"]} == set()


def test_all_code_that_judgements_are_drawn_and_told_by_is_a_dependency() -> None:
    """The page and the points of the plots are outputs too."""
    drawn_by = {"evaluation_plots", "evaluation_report", "plots", "report_page", "reports"}
    assert {f"training/{name}.py" for name in drawn_by} - {*stages()["train"]["deps"]} == set()


def _own_imports(path: Path) -> set[str]:
    """Modules of ``models`` and ``training`` that a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {f"{name.replace('.', '/')}.py" for name in names if name.startswith(("models.", "training."))}


def test_parameters_of_a_stage_exist_and_none_is_forgotten() -> None:
    """Every group of parameters makes some stage run again when it changes; but no stage promotes, or waits."""
    named = {key for stage in stages().values() for one in stage["params"] for keys in one.values() for key in keys}
    files = {file for stage in stages().values() for one in stage["params"] for file in one}
    assert files == {str(PARAMS_FILE.relative_to(ROOT))}
    assert named == set(Params.model_fields) - {"experiment", "gate", "retrain"}
