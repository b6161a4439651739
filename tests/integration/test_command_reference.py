"""The page on the command line says what the command line says."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from features.cli import COMMAND_GROUP
from features.command_reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


def test_the_page_in_the_docs_is_current() -> None:
    """Every command, option and default."""
    expected = reference(entry_points(group=COMMAND_GROUP))

    assert PAGE.read_text(encoding="utf-8") == expected, (
        "run: python -m features.command_reference > docs/reference/commands.md"
    )


def test_every_command_has_its_section() -> None:
    """Also those of a group, each with what it is for."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    sections = [line.removeprefix("## headway ") for line in lines if line.startswith("## ")]

    names = {one.name for one in entry_points(group=COMMAND_GROUP)}
    assert {section.split()[0] for section in sections} == {name.split()[0] for name in names}
    assert {name for name in names if " " in name} <= set(sections)
    assert {"keys create", "keys list", "keys revoke", "features backfill", "features list"} <= set(sections)
