"""The service and the commands over a PostgreSQL database: the same answers, and nothing of it in the home's files."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.database_location import VARIABLE, DatabaseLocation
from features.event_store import SqlEventLog
from features.home import Home
from models.record_store import SqlRecordStore
from tests.integration.serving.test_process import KEY, Service
from tests.postgres_servers import postgres_database

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def database() -> Iterator[DatabaseLocation]:
    """An empty database with our tables."""
    with postgres_database() as location:
        yield location


def _headway(home: Home, database: DatabaseLocation, *words: object) -> str:
    """What a command prints; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    environment |= {"HEADWAY_HOME": str(home.root), VARIABLE: database.url}
    command = [sys.executable, "-c", "from features.cli import main; main()", *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=home.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def _event(customer_id: str, kind: str, *, hours_ago: float, **more: Any) -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat()
    return {"event_id": secrets.token_hex(8), "customer_id": customer_id, "kind": kind, "occurred_at": at, **more}


def test_a_home_on_postgres_goes_the_whole_way(trained_home: Home, tmp_path: Path, database: DatabaseLocation) -> None:
    """Served, killed, served again and read by every command: the files of the home hold no event and no decision."""
    home = Home(tmp_path / "home")
    shutil.copytree(trained_home.root, home.root)
    with closing(SqlEventLog(home.events_db, readonly=True)) as before, closing(SqlEventLog(database)) as log:
        for page in before.read():
            log.append([one.event for one in page])
        head = log.head()
    for own in (home.events_db, home.records_db):
        own.unlink()
    body = {"customer_id": "new", "request_id": "r-1"}

    service = _service(home, database)
    try:
        sent = [
            _event("new", "application_submitted", hours_ago=30, channel="web", facts={"product": "classic"}),
            _event("new", "consent_changed", hours_ago=29, facts={"consent": "email", "state": "granted"}),
        ]
        taken = service.post("/v1/events", {"events": sent})
        assert taken.json()["accepted"] == 2, taken.text
        first = service.post("/v1/decisions", body)
        assert first.status_code == 200, first.text
    finally:
        service.kill()

    service = _service(home, database)
    try:
        again = service.post("/v1/decisions", body)
        assert again.content == first.content
        decision_id = first.json()["decision_id"]
        came = {
            "type": "outcome",
            "decision_id": decision_id,
            "outcome_id": "progress_7d",
            "value": 1,
            "occurred_at": datetime.now(UTC).isoformat(),
        }
        noted = service.post("/v1/outcomes", {"outcomes": [came]})
        assert noted.json()["accepted"] == 1, noted.text
        assert service.get("/readyz").status_code == 200
        found: httpx.Response = service.get(f"/v1/decisions/{decision_id}")
        assert found.json()["decision_id"] == decision_id
        assert service.stop() == 0
    finally:
        service.kill()

    assert not home.events_db.exists()
    assert not home.records_db.exists()
    with closing(SqlEventLog(database, readonly=True)) as log:
        assert log.head() == head + 3
    with closing(SqlRecordStore(database, readonly=True)) as records:
        assert [one.decision_id for page in records.read() for one in page] == [decision_id]

    said = [
        _headway(home, database, "replay", decision_id),
        _headway(home, database, "features", "parity"),
        _headway(home, database, "export", "events", "--output", tmp_path / "events.jsonl"),
        _headway(home, database, "rank", "--output", tmp_path / "ranked.csv"),
        _headway(home, database, "database", "status", "--json"),
    ]
    assert json.loads(said[-1])["revision"] == json.loads(said[-1])["expected"]
    assert "sqlite" not in "".join(said).lower()
    assert ".db" not in "".join(said)


def _service(home: Home, database: DatabaseLocation) -> Service:
    service = Service(home.root, database=database.url)
    service.wait_until_ready()
    return service


def test_a_start_without_the_database_says_so(tmp_path: Path) -> None:
    """Before a worker is started again and again, and without the password."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    environment |= {
        "HEADWAY_HOME": str(tmp_path),
        "HEADWAY_BOOTSTRAP_KEY": KEY,
        VARIABLE: "postgresql://someone:secret@127.0.0.1:1/headway",
    }
    command = [sys.executable, "-c", "from features.cli import main; main()", "serve"]

    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "postgresql://***@127.0.0.1:1/headway" in done.stderr
    assert "secret" not in done.stdout + done.stderr
