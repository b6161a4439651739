"""The tree: its top level, its rooms, and the examples in its docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("features", "models", "training", "serving")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
ANCHOR = re.compile(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)")
FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", [path for path in MODULES if ">>>" in path.read_text()], ids=_name)
def test_examples_in_docstrings_hold(path: Path) -> None:
    """Every example shows what the code does."""
    module = importlib.import_module(_name(path))

    result = doctest.testmod(module)

    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=_name)
def test_a_package_holds_a_docstring_only(path: Path) -> None:
    """Importing a package does nothing."""
    body = ast.parse(path.read_text()).body

    assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    """Without the marker of PEP 561 callers of the client would get no types."""
    assert (ROOT / package / "py.typed").read_bytes() == b""


def test_no_room_is_called_a_drawer() -> None:
    """A module is named for what it is, not for being handy, and none is named like a package."""
    drawers = {"utils", "helpers", "common", "base", "types", *PACKAGES}

    assert {path.stem for path in MODULES} & drawers == set()


def test_every_module_says_what_it_is_for() -> None:
    """A docstring opens each."""
    assert [_name(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))] == []


def _environment_reads_at_import(path: Path) -> list[int]:
    """Lines at module level that read the environment or open something."""
    later = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    top = [node for node in ast.parse(path.read_text()).body if not isinstance(node, later)]
    calls = [node for statement in top for node in ast.walk(statement) if isinstance(node, ast.Call | ast.Attribute)]
    return [node.lineno for node in calls if re.match(r"os\.(environ|getenv|mkdir)|open\(", ast.unparse(node))]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_importing_reads_no_environment_and_opens_nothing(path: Path) -> None:
    """Only composition roots do, when they are called."""
    assert _environment_reads_at_import(path) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link of the docs names a file that is there."""
    targets = [page.parent / link for link in LINK.findall(page.read_text())]

    assert [str(target) for target in targets if not target.exists()] == []


def _anchors(page: Path) -> set[str]:
    """What a link may name of a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\]\(.*?\)", "", one.lower())).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_into_pages_name_a_heading(page: Path) -> None:
    """A heading that gets another number or word takes its links with it."""
    named = [
        ((page.parent / file if file else page).resolve(), anchor) for file, anchor in ANCHOR.findall(page.read_text())
    ]

    assert [f"{file.name}#{one}" for file, one in named if file.suffix == ".md" and one not in _anchors(file)] == []
