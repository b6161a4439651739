"""The doctor: every check is asked, none stops another, and a failed one is the exit code."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from contextlib import closing, redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from features.check_findings import Finding, passed
from features.cli import COMMAND_GROUP, run
from features.event_store import SqlEventLog
from features.home import Home
from serving.doctor import CHECKS, Installation, clock, database, environment, examined, keys, online_store, stores
from serving.doctor_commands import doctor_document, doctor_text
from serving.keys import KeyFile
from tests.histories import START_AT, event
from tests.postgres_servers import postgres_database

NOW = START_AT + 1_000_000


def installation(root: Path, **env: str) -> Installation:
    """The installation of a home and further variables."""
    return Installation.of({"HEADWAY_HOME": str(root), **env}, clock=lambda: NOW)


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The findings by their names."""
    return {finding.name: finding for finding in findings}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one event."""
    home = Home(tmp_path).create()
    with closing(SqlEventLog(home.events_db)) as log:
        log.append([event("e1")])
    return home


def doctor(root: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    for name in [name for name in os.environ if name.startswith("HEADWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADWAY_HOME", str(root))
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", ""))
    said = io.StringIO()
    with redirect_stdout(said):
        code = run(["doctor", *options], {}, commands=entry_points(group=COMMAND_GROUP))
    return code, said.getvalue()


def test_a_new_home_fails_nothing_and_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed by looking."""
    code, said = doctor(tmp_path / "none", monkeypatch, "--json")

    document: dict[str, Any] = json.loads(said)
    assert (code, document["ok"]) == (0, True)
    assert list(document["checks"][0]) == ["name", "status", "found", "expected", "remedy"]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_is_exit_code_1(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text says what was expected and what to do."""
    KeyFile.of(home).create(source="crm", roles=["caller"], secret=bytes(36), at=NOW)
    KeyFile.of(home).path.chmod(0o644)
    before = sorted(home.root.rglob("*"))

    code, said = doctor(home.root, monkeypatch)

    assert code == 1
    lines = said.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("FAILED")]
    assert lines[place].split()[1:3] == ["secret", "files"]
    assert lines[place + 2].strip() == f"to do: chmod 600 {KeyFile.of(home).path}"
    assert lines[-1].endswith(" 1 failed")
    assert sorted(home.root.rglob("*")) == before


def test_a_broken_check_is_a_finding_and_stops_no_other(home: Home) -> None:
    """With its name and its error."""

    def bad_check(one: Installation) -> Iterable[Finding]:
        raise OSError(f"no luck at {one.home.root}")

    def good_check(one: Installation) -> Iterable[Finding]:
        return [passed("good", "fine")]

    bad, good = examined(installation(home.root), [bad_check, good_check])

    assert (bad.name, bad.status) == ("bad check", "failed")
    assert bad.found == f"the check itself failed: OSError: no luck at {home.root}"
    assert good.status == "ok"


def test_a_bad_environment_and_configuration_are_told(tmp_path: Path) -> None:
    """All problems of both, without secrets, and the rest is checked all the same."""
    bad = {"HEADWAY_PORT": "x", "HEADWAY_ONLINE_STORE": "redis://a:s3cret@h/x", "HEADWAY_CONFIG": "none"}

    found = by_name(examined(installation(tmp_path, **bad), CHECKS))

    assert {name for name, one in found.items() if one.status == "failed"} == {"settings", "configuration"}
    assert "HEADWAY_PORT: got 'x'" in found["settings"].found
    assert "s3cret" not in str(found)
    assert "HEADWAY_CONFIG: got none" in found["configuration"].found
    assert found["bundles"].status == "not_applicable"
    assert found["online store"].status == "not_applicable"


def test_a_usable_environment_is_well(home: Home) -> None:
    """Both loaded."""
    assert [one.status for one in environment(installation(home.root))] == ["ok", "ok"]


def test_who_can_call_is_told(home: Home) -> None:
    """Nobody, everybody with the first key, those with keys of their own; and a damaged file fails."""
    file = KeyFile.of(home)
    nobody = keys(file, has_bootstrap_key=False)
    made = file.create(source="crm", roles=["caller"], secret=bytes(36), at=NOW)
    own, first = keys(file, has_bootstrap_key=False), keys(file, has_bootstrap_key=True)
    file.path.write_text("{")

    assert (nobody.status, own.status, first.status) == ("warning", "ok", "warning")
    assert own.found == "1 valid"
    assert made not in str(first)
    assert keys(KeyFile.of(home), has_bootstrap_key=False).status == "failed"


def test_the_stores_are_checked_while_they_are_written(home: Home) -> None:
    """As beside a running service."""
    with closing(SqlEventLog(home.events_db)):
        found = by_name(stores(installation(home.root)))

    assert {one.status for one in found.values()} == {"ok", "not_applicable"}
    assert f"process {os.getpid()} (" in found["events writer"].found


def test_a_damaged_store_says_how_to_get_it_back(home: Home) -> None:
    """The log by a backup, the online store from the log."""
    for path in (home.events_db, home.online_db):
        path.write_bytes(b"x" * 8_192)

    logs, online = by_name(stores(installation(home.root))), by_name(online_store(installation(home.root)))

    assert (logs["events pages"].status, online["online store pages"].status) == ("failed", "failed")
    assert "restore the home from a backup" in logs["events pages"].remedy
    assert "headway features backfill" in online["online store pages"].remedy


def test_events_that_are_gone_are_told(home: Home) -> None:
    """An older copy in the place of the file, whose pages are all sound."""
    older = home.events_db.read_bytes()
    with closing(SqlEventLog(home.events_db)) as log:
        log.append([event("e2")])
    assert by_name(stores(installation(home.root)))["events head"].status == "ok"

    home.events_db.write_bytes(older)

    found = by_name(stores(installation(home.root)))
    assert (found["events pages"].status, found["events head"].status) == ("ok", "failed")


def test_a_clock_behind_the_newest_event_is_told(home: Home) -> None:
    """By the store's own moments."""
    (well,) = clock(installation(home.root))
    early = Installation.of({"HEADWAY_HOME": str(home.root)}, clock=lambda: NOW - 3_600_000_000)
    (behind,) = clock(early)

    assert (well.status, well.found) == ("ok", "not behind the newest moment of the events")
    assert behind.status == "warning"


def test_a_redis_that_is_down_fails(home: Home) -> None:
    """It is the online store's only finding."""
    (found,) = online_store(installation(home.root, HEADWAY_ONLINE_STORE="redis://127.0.0.1:1/0"))

    assert (found.name, found.status) == ("redis", "failed")


def test_a_home_with_a_postgresql_is_checked_there(tmp_path: Path) -> None:
    """Its files of events and records are no more, and the clock is held against the database."""
    with postgres_database() as location:
        with closing(SqlEventLog(location)) as log:
            log.append([event("e1")])
        one = installation(tmp_path, HEADWAY_DATABASE=location.url)
        found = by_name(examined(one, [stores, database, clock]))

    assert found["events and records"].status == "not_applicable"
    assert found["database tables"].status == "ok"
    assert found["clock"].found == "not behind the newest moment of the events"


def test_a_bad_address_of_a_database_is_told_with_the_settings(tmp_path: Path) -> None:
    """The checks go on."""
    found = by_name(examined(installation(tmp_path, HEADWAY_DATABASE="mysql://x"), CHECKS))

    assert found["settings"].status == "failed"
    assert "HEADWAY_DATABASE" in found["settings"].found
    assert found["database"].status == "not_applicable"


def test_warnings_are_no_failure() -> None:
    """They are counted."""
    findings = [passed("a", "well"), Finding(name="b", status="warning", found="odd", remedy="look")]

    assert doctor_document(findings)["ok"] is True
    assert doctor_text(findings).splitlines() == [
        "ok       a  well",
        "WARNING  b  odd",
        "            to do: look",
        "1 ok, 1 warnings, 0 failed",
    ]
