"""Drafts of a configuration for a process log."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from features.errors import MappingError
from features.process_logs import read_process_logs
from models.process_drafts import draft_configuration
from tests.imports import file_of

_HEAD = "case:concept:name,concept:name,time:timestamp,lifecycle:transition\n"


def _log(tmp_path: Path, *keys: tuple[str, str]) -> Path:
    rows = (
        f"c1,{activity},2025-01-{i:02d}T00:00:00Z,{transition}\n" for i, (activity, transition) in enumerate(keys, 1)
    )
    return file_of(tmp_path, _HEAD + "".join(rows), "log.csv")


def test_activities_are_told_apart_whatever_they_are_called(tmp_path: Path) -> None:
    """A slash inside of a name must not make two activities one."""
    log = read_process_logs([_log(tmp_path, ("call/back", "start"), ("call", "back/start"))])

    (table,) = yaml.safe_load(draft_configuration(log).files["mapping.yaml"])["tables"]

    kind = table["events"][0]["kind"]
    assert kind["template"] == "{concept:name}|{lifecycle:transition}"
    assert kind["lookup"] == {"call/back|start": "call_back", "call|back/start": "call"}


def test_activities_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    """Rather than one of them taken for the other."""
    alike = read_process_logs([_log(tmp_path, *_alike())])

    with pytest.raises(MappingError, match="cannot be told apart"):
        draft_configuration(alike)


def _alike() -> list[tuple[str, str]]:
    """For each separator two keys that are one text with it between them."""
    return [key for each in ("/", "|", "->", "::") for key in ((f"x{each}y", "z"), ("x", f"y{each}z"))]
