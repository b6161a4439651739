"""The simulator's truth is for judging: nothing that learns or decides may know where it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIMULATOR = {path.stem for path in (ROOT / "training").glob("simulat*.py")}
OTHERS = sorted(
    path
    for package in ("features", "models", "training", "serving")
    for path in (ROOT / package).rglob("*.py")
    if not (package == "training" and path.stem in SIMULATOR)
)


def _texts(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def _imports(tree: ast.AST) -> set[str]:
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return names | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_names_the_file_of_the_truth(path: Path) -> None:
    """Neither the folder nor the file stands in any string of code outside the simulator."""
    texts = _texts(ast.parse(path.read_text()))

    assert [text for text in texts if "truth/" in text or text in ("truth", "effects.parquet")] == []


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_knows_the_laws_of_the_world(path: Path) -> None:
    """Only the command is used from elsewhere, never the world behind it."""
    laws = {f"training.{name}" for name in SIMULATOR} - {"training.simulate", "training.simulate_commands"}

    assert _imports(ast.parse(path.read_text())) & laws == set()
