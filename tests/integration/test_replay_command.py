"""``headway replay``: counts, exit codes and what-ifs, over a home that a service may be writing."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from features.cli import run
from features.events import dump_timestamp
from features.home import HOME_VARIABLE, Home
from models.decision import DecisionRecord
from models.record_store import SqlRecordStore
from tests import decision_records
from tests.recorded import live, recorded_world

COMMANDS = [EntryPoint("replay", "models.replay_commands:replay", "headway.commands")]
DECISIONS = 60


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with recorded decisions, without a model."""
    folder = tmp_path_factory.mktemp("home")
    home = Home(folder).create()
    with closing(SqlRecordStore(home.records_db)) as records:
        world = recorded_world(folder, records=records)
        with world.client() as client:
            live(world, client, decisions=DECISIONS, customers=12, seed=1)
    return home


@pytest.fixture(autouse=True)
def in_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names it."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)


def _run(*arguments: str) -> tuple[int, str]:
    errors = io.StringIO()
    return run(["replay", *arguments], os.environ, commands=COMMANDS, stderr=errors), errors.getvalue()


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code, errors = _run(*arguments, "--json")
    printed = capsys.readouterr().out
    assert printed, errors
    return code, json.loads(printed)


def _records(home: Home) -> list[DecisionRecord]:
    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        return [one for page in records.read() for one in page]


def test_all_decisions_come_out_identical(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and counts that add up."""
    code, told = _json(capsys, "--all")

    assert code == 0
    assert (told["decisions"], told["identical"], told["different"], told["skipped"]) == (DECISIONS, DECISIONS, 0, {})


@pytest.mark.parametrize("way", ["ids", "last", "range"])
def test_some_decisions_are_chosen(home: Home, capsys: pytest.CaptureFixture[str], way: str) -> None:
    """By id, the newest, or by when they were made."""
    records = _records(home)
    arguments: Sequence[str] = {
        "ids": [records[3].decision_id, records[5].decision_id],
        "last": ["--last", "7"],
        "range": ["--since", dump_timestamp(records[30].decided_at)],
    }[way]

    code, told = _json(capsys, *arguments)

    assert (code, told["identical"]) == (0, {"ids": 2, "last": 7, "range": DECISIONS - 30}[way])


@pytest.mark.parametrize("arguments", [[], ["--all", "--last", "3"], ["--last", "3", "d-1"]])
def test_one_way_to_choose(arguments: list[str]) -> None:
    """None, or two at once, is refused."""
    code, errors = _run(*arguments)

    assert code == 2
    assert "ways to choose decisions, expected one" in errors


def test_an_unknown_decision_is_refused() -> None:
    """By name."""
    code, errors = _run("d-nothing")

    assert (code, "no decision 'd-nothing'" in errors) == (2, True)


def test_what_if_tells_what_would_have_changed(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cap of none leaves no action; that is no failure."""
    policy = yaml.safe_load((home.config / "policy.yaml").read_text())
    policy["contact_policy"]["caps"] = [{"id": "cap.none", "contacts": 0, "period": "7d"}]
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(policy))

    code, told = _json(capsys, "--all", "--policy", str(file))
    _run("--all", "--policy", str(file))
    printed = capsys.readouterr().out

    assert code == 0
    assert told["changed"] >= 3
    assert {one["after"] for one in told["moves"]} == {"no_action"}
    assert told["dropped"]["after"]["contact_policy"] > told["dropped"]["before"]["contact_policy"]
    assert f"{told['changed']} would have chosen something else" in printed


def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    """With its problems, before anything is made again."""
    file = tmp_path / "policy.yaml"
    file.write_text("version: 2\n")

    code, errors = _run("--all", "--policy", str(file))

    assert code == 2
    assert "policy.yaml:1: version: got 2, expected 1" in errors


def test_a_changed_record_fails(
    tmp_path: Path, home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """Exit code 1, with what differs; imported decisions are skipped, with the reason."""
    first, *others = _records(home)
    changed = msgspec.structs.replace(first, stage="elsewhere")
    imported = decision_records.record(1, mode="imported", request=b"", request_id="past")
    other = Home(tmp_path)
    (tmp_path / "configurations").symlink_to(home.configurations)
    with closing(SqlRecordStore(other.records_db)) as records:
        for one in (changed, others[0], imported):
            records.commit(one, b"{}", None)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))

    code, told = _json(capsys, "--all")

    assert code == 1
    assert (told["decisions"], told["identical"], told["different"]) == (3, 1, 1)
    assert told["skipped"] == {"imported": 1}
    (difference,) = told["differences"]
    assert difference["decision_id"] == first.decision_id
    assert difference["first"] == [{"field": "stage", "recorded": "elsewhere", "replayed": first.stage}]
