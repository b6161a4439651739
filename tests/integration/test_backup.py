"""Backup and restore of an installation that is at work, and by the command line."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from features.cli import run
from features.event_store import SqlEventLog
from features.home import HOME_VARIABLE, Home
from features.taxonomy import EXPOSED
from features.telling import consent_of
from models.configuration import load_configuration
from models.configuration_history import ConfigurationHistory
from models.price_files import PriceLists
from models.record_store import SqlRecordStore
from models.registry import LocalRegistry
from models.replayer import Replayer, Scorers
from models.restore import restore_backup
from tests.backups import backed_up, lived_in, rows
from tests.doors import NOW, World
from tests.recorded import live, recorded_world
from tests.replays import serving_over

COMMANDS = [EntryPoint(name, f"models.backup_commands:{name}", "headway.commands") for name in ("backup", "restore")]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that was lived in."""
    return lived_in(tmp_path_factory.mktemp("lived"), decisions=40)


class _Living(threading.Thread):
    """Sends events, asks for decisions and tells what came back, in one batch after another until it is stopped."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.begun, self.stopped = threading.Event(), threading.Event()

    def run(self) -> None:
        """Live."""
        with self.world.client() as client:
            seed = 0
            while not self.stopped.is_set():
                live(self.world, client, decisions=12, customers=6, seed=(seed := seed + 1))
                self.begun.set()


def test_a_backup_of_a_home_at_work_is_consistent(tmp_path: Path) -> None:
    """All that was acknowledged before it began is there, and neither store knows of what the other does not."""
    home = Home(tmp_path / "home").create()
    restored = [Home(tmp_path / f"restored-{number}") for number in range(3)]
    with closing(SqlEventLog(home.events_db)) as log, closing(SqlRecordStore(home.records_db)) as records:
        living = _Living(recorded_world(home.root, log=log, records=records))
        living.start()
        try:
            assert living.begun.wait(120)
            acknowledged = []
            for one in restored:
                acknowledged.append((log.head(), {id_ for page in records.ids() for id_ in page}))
                made = backed_up(home, one.root.with_suffix(".zip"), at=living.world.now)
                restore_backup(made.path, one, at=NOW)
        finally:
            living.stopped.set()
            living.join()

    for one, (head, ids) in zip(restored, acknowledged, strict=True):
        _check_consistent(one, head, ids)


def _check_consistent(home: Home, head: int, ids: set[str]) -> None:
    configuration = load_configuration(home, {})
    with (
        closing(SqlEventLog(home.events_db, readonly=True)) as log,
        closing(SqlRecordStore(home.records_db, readonly=True)) as records,
    ):
        found = [one for page in records.read() for one in page]
        events = [logged.event for page in log.read() for logged in page]
        assert log.head() >= head
    assert {one.decision_id for one in found} >= ids
    assert max(one.log_position for one in found) <= len(events)
    told = rows(home.records_db)
    contacts = {(row[0], row[2]) for row in told["contacts"] if row[5] == "confirmed"}
    exposed = {(one.facts["decision_id"], one.facts["action_id"]) for one in events if one.kind == EXPOSED}
    assert exposed
    assert exposed <= contacts
    changed = [(one, consent_of(one, configuration.taxonomy)) for one in events]
    assert {(row[0], row[1], row[3]) for row in told["consent_changes"]} == {
        (one.customer_id, consent[0], one.occurred_at) for one, consent in changed if consent is not None
    }


def test_decisions_of_a_restored_home_are_made_again_bit_for_bit(lived: Home, tmp_path: Path) -> None:
    """From the restored records, configurations and bundles alone."""
    home = Home(tmp_path / "restored")
    restore_backup(backed_up(lived, tmp_path / "b.zip").path, home, at=NOW)
    replayer = Replayer(ConfigurationHistory(home), Scorers(LocalRegistry(home.bundles)), PriceLists(home.prices))

    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        made = [replayer.replay(one) for page in records.read() for one in page]

    assert len(made) == 40
    assert all(one.identical for one in made)


def test_a_restored_home_goes_on_where_the_other_stood(lived: Home, tmp_path: Path) -> None:
    """The same request gets its stored bytes; a new one the same answer, from features that are made anew."""
    home = Home(tmp_path / "restored")
    restore_backup(backed_up(lived, tmp_path / "b.zip").path, home, at=NOW)
    other = Home(shutil.copytree(lived.root, tmp_path / "other"))
    other.online_db.unlink()  # what the test has in its place
    answers: list[list[Any]] = []
    for one in (other, home):
        with serving_over(one, load_configuration(one, {})) as (world, client):
            stored = next(page for page in world.records.read())
            world.now = max(record.decided_at for record in stored) + 60_000_000
            known = [record for record in stored if record.request_id.startswith("q-1-")][:10]
            again = [world.records.decision_of_request(each.source, each.request_id).answer for each in known]
            new = [
                client.done("/v1/decisions", {"customer_id": each.customer_id, "request_id": f"new-{place}"})
                for place, each in enumerate(known)
            ]
            answers.append([again, [_told(each) for each in new]])

    assert answers[0] == answers[1]


def _told(answer: dict[str, Any]) -> dict[str, Any]:
    changing = ("decision_id", "degraded", "features")
    return {name: value for name, value in answer.items() if name not in changing}


def _run(home: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    errors = io.StringIO()
    code = run(list(arguments), {**os.environ, HOME_VARIABLE: str(home)}, commands=COMMANDS, stderr=errors)
    return code, capsys.readouterr().out, errors.getvalue()


@pytest.fixture
def run_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command of an installation."""

    def runs(home: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv(HOME_VARIABLE, str(home))
        monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
        return _run(home, *arguments, capsys=capsys)

    return runs


def test_the_commands_say_what_they_did(lived: Home, tmp_path: Path, run_in: Any) -> None:
    """A folder gets a file named by the time; then the home is there and the next steps are told."""
    code, out, _ = run_in(lived.root, "backup", str(tmp_path), "--json")
    told = json.loads(out)
    again, told_again, _ = run_in(tmp_path / "new", "restore", told["file"])

    assert (code, again) == (0, 0)
    assert told["stores"]["records"]["rows"]["decisions"] == 40
    assert Path(told["file"]).parent == tmp_path
    assert "every byte verified" in told_again
    assert "Next: `headway features backfill`" in told_again
    assert rows(Home(tmp_path / "new").records_db) == rows(lived.records_db)


def test_what_is_refused_has_exit_code_2(lived: Home, tmp_path: Path, run_in: Any) -> None:
    """A file that is there, and a home that holds something."""
    target = str(tmp_path / "b.zip")
    run_in(lived.root, "backup", target)

    assert run_in(lived.root, "backup", target)[::2] == (
        2,
        f"Error: {target} exists, expected a new file: choose another name, or add --force\n",
    )
    code, _, said = run_in(lived.root, "restore", target)
    assert code == 2
    assert "expected an empty home" in said


def test_the_json_of_a_restore(lived: Home, tmp_path: Path, run_in: Any) -> None:
    """For programs: where, as of when, and what went aside."""
    target = str(tmp_path / "b.zip")
    run_in(lived.root, "backup", target)
    run_in(tmp_path / "other", "restore", target)

    code, out, _ = run_in(tmp_path / "other", "restore", target, "--force", "--json")

    told = json.loads(out)
    assert code == 0
    assert told["home"] == str(tmp_path / "other")
    assert told["moved_aside"].startswith(str(tmp_path / "other.before-"))
    assert (told["upgraded"], told["warnings"]) == ([], [])
