"""``headway features``: what the command line promises about the feature store."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from io import StringIO
from pathlib import Path

import pytest

from features.cli import run
from features.event_store import SqlEventLog
from features.events import JourneyEvent
from features.feast_layout import PROFILE_VIEW, STATE_VIEW
from features.feast_repo import offline_file
from features.home import Home, lock_file
from features.online import SqliteOnlineStore
from features.schema import feature_set
from features.subjects import SUBJECTS_FILE, subject_buckets
from models.configuration import built_in_configuration
from tests.histories import START_AT, event

COMMANDS = [EntryPoint("features", "models.feature_commands:features", "headway.commands")]
CONFIGURATION = built_in_configuration()
JOURNEY = CONFIGURATION.journeys.journeys[0]
ENTRY = JOURNEY.entry[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, which the environment names."""
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))  # else the command sets it for the whole test run
    return Home(tmp_path / "home")


def _run(*arguments: str) -> tuple[int, str]:
    stderr = StringIO()
    return run(["features", *arguments], {}, commands=COMMANDS, stderr=stderr), stderr.getvalue()


def _fill(home: Home, events: list[JourneyEvent]) -> None:
    log = SqlEventLog(home.create().events_db)
    log.append(events)
    log.close()


def test_a_backfill_makes_states_and_history_from_the_log(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Every customer of the log is online, up to its last arrival, and the history is there for training."""
    _fill(
        home,
        [event("e1", kind=ENTRY), event("e2", kind=ENTRY, at=START_AT + 1), event("e3", customer_id="c2", kind=ENTRY)],
    )

    code, _ = _run("backfill", "--json")

    report = json.loads(capsys.readouterr().out)
    counts = {name: value for name, value in report.items() if name not in ("seconds", "configuration")}
    assert code == 0
    assert counts == {
        "events": 3,
        "customers": 2,
        "states": 2,
        "profiles": 2,
        "history_states": 3,
        "history_profiles": 2,
    }
    assert report["configuration"] == CONFIGURATION.version
    assert offline_file(home, STATE_VIEW).is_file()
    assert offline_file(home, PROFILE_VIEW).is_file()
    assert json.loads((home.offline / SUBJECTS_FILE).read_text())["buckets"] == subject_buckets(["c1", "c2"])
    features = feature_set(CONFIGURATION.taxonomy, JOURNEY)
    store = SqliteOnlineStore(home.online_db, {JOURNEY.id: features}, CONFIGURATION.taxonomy)
    state = store.read("c1", JOURNEY.id).state
    store.close()
    assert state is not None
    assert (state.log_position, state.last_event_id, state.version) == (2, "e2", features.version)


def test_a_backfill_is_refused_while_a_server_runs(home: Home) -> None:
    """Whoever writes the online store is named, and nothing is touched."""
    _fill(home, [event("e1", kind=ENTRY)])

    with lock_file(home.online_db, command="headway serve"):
        code, message = _run("backfill")

    assert code == 2
    assert "online.db is being written by process" in message
    assert "(headway serve)" in message
    assert list(home.offline.iterdir()) == []


def test_a_backfill_without_a_log_is_refused(home: Home) -> None:
    """A home without events is refused, saying what makes some, and none is made."""
    code, message = _run("backfill")

    assert code == 2
    assert "import or serve first" in message
    assert not home.root.exists()


def test_features_are_listed_as_json(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Every feature of every journey, with its declaration, and no home is made by asking."""
    code, _ = _run("list", "--json")

    listed = json.loads(capsys.readouterr().out)
    features = feature_set(CONFIGURATION.taxonomy, JOURNEY)
    assert code == 0
    assert listed[JOURNEY.id]["version"] == features.version
    assert [each["name"] for each in listed[JOURNEY.id]["features"]] == list(features.names)
    assert listed[JOURNEY.id]["features"][0] == {
        "name": "hours_since_event",
        "unit": "hours",
        "meaning": "since the last event of any kind",
        "missing": "NaN until it happened",
        "source": "state",
    }
    assert not home.root.exists()


def test_two_formats_at_once_are_refused(home: Home) -> None:
    """Asking for JSON and Markdown together is a usage error."""
    assert _run("list", "--json", "--markdown") == (
        2,
        "Error: --json and --markdown were both given; expected at most one of them\n",
    )
