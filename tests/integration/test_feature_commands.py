"""``headway features``: what the command line promises about the feature store."""

from __future__ import annotations

import json
from contextlib import closing
from importlib.metadata import EntryPoint
from io import StringIO
from pathlib import Path

import pytest

from features import feast_rows
from features.cli import run
from features.event_store import SqlEventLog
from features.events import JourneyEvent
from features.feast_layout import PROFILE_VIEW, STATE_VIEW
from features.feast_repo import offline_file
from features.home import Home, lock_file
from features.online import SqliteOnlineStore
from features.online_location import RedisLocation
from features.online_stores import open_online_store, open_redis_store
from features.schema import feature_set
from features.store import ProfileRow
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
    monkeypatch.delenv("HEADWAY_ONLINE_STORE", raising=False)
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


def test_a_backfill_fills_a_redis(
    home: Home, redis_location: RedisLocation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The states are in the Redis that the environment names, for this home, and no file of its own is made."""
    monkeypatch.setenv("HEADWAY_ONLINE_STORE", redis_location.url)
    _fill(home, [event("e1", kind=ENTRY), event("e2", customer_id="c2", kind=ENTRY)])

    code, message = _run("backfill", "--json")

    assert (code, json.loads(capsys.readouterr().out)["states"]) == (0, 2), message
    features = {JOURNEY.id: feature_set(CONFIGURATION.taxonomy, JOURNEY)}
    with closing(open_online_store(home, redis_location, features, CONFIGURATION.taxonomy)) as store:
        state = store.read("c2", JOURNEY.id).state
    assert state is not None
    assert (state.log_position, state.last_event_id) == (2, "e2")
    assert not home.online_db.exists()


def test_a_redis_of_another_home_is_taken_over_only_when_asked(
    home: Home, redis_location: RedisLocation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other home's states are left alone by default, and gone after --take-over."""
    monkeypatch.setenv("HEADWAY_ONLINE_STORE", redis_location.url)
    features = {JOURNEY.id: feature_set(CONFIGURATION.taxonomy, JOURNEY)}
    other = Home(tmp_path / "other").create()
    with closing(open_redis_store(other, redis_location, features, CONFIGURATION.taxonomy)) as store:
        store.write([], [ProfileRow("c9")])
        _fill(home, [event("e1", kind=ENTRY)])
        refused, message = _run("backfill")
        before = store.read("c9", JOURNEY.id)

        taken, _ = _run("backfill", "--take-over")

        assert (refused, taken) == (2, 0)
        assert "holds the states of another home" in message
        assert "--take-over" in message
        assert before.profile == ProfileRow("c9")
        assert store.read("c9", JOURNEY.id).is_reset


def test_a_redis_that_is_down_fails_a_backfill(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nowhere to write the states: exit code 1, and the message names the Redis without its password."""
    monkeypatch.setenv("HEADWAY_ONLINE_STORE", "redis://app:s3cret@127.0.0.1:1/3")
    _fill(home, [event("e1", kind=ENTRY)])

    code, message = _run("backfill")

    assert code == 1
    assert "redis://***@127.0.0.1:1/3" in message
    assert "s3cret" not in message


def test_taking_over_needs_a_redis(home: Home) -> None:
    """The home's own file is nobody else's."""
    _fill(home, [event("e1", kind=ENTRY)])

    code, message = _run("backfill", "--take-over")

    assert code == 2
    assert "--take-over was given without a Redis; expected HEADWAY_ONLINE_STORE to name one" in message


def test_a_reader_that_feast_disagrees_with_fails_a_backfill(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were another version of Feast to keep its values in another way, nothing would be served from them unnoticed."""
    _fill(home, [event("e1", kind=ENTRY)])
    decode = feast_rows.decode_value
    monkeypatch.setattr(feast_rows, "decode_value", lambda data: "x" if decode(data) == "e1" else decode(data))

    code, message = _run("backfill")

    assert code == 1
    assert "our reader and Feast's disagree on last_event_id" in message
    assert "HEADWAY_FEATURE_READER=feast" in message


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
        "dtype": "number",
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
