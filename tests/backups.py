"""Homes to back up, and what homes hold, table by table."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from features.event_store import SqlEventLog
from features.home import Home
from features.store_head import HEAD_TABLE
from models.backup import Backup, make_backup
from models.jobs import Failed, JobError, Succeeded
from models.price_files import publish_prices
from models.prices import PriceList
from models.record_store import SqlRecordStore
from models.registry import CHALLENGER
from serving.keys import KeyFile
from tests.doors import JOURNEY, NOW
from tests.histories import event
from tests.job_records import ASKED_AT, claim, submission
from tests.recorded import live, promote, recorded_world

SEAL = b"headway backup; sha256 of all before the digest: "
_STOPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "sqlite3.connect")


def small_home(folder: Path, *, events: int = 3) -> Home:
    """A home with a few events of one customer and no decision."""
    home = Home(folder).create()
    with closing(SqlEventLog(home.events_db)) as log, closing(SqlRecordStore(home.records_db)):
        log.append([event(f"e-{number}", customer_id="c-1") for number in range(events)])
    (home.reports / "page.html").write_text("a report")
    return home


def lived_in(folder: Path, *, decisions: int = 60) -> Home:
    """A home with all that a backup keeps: decisions of every kind, jobs, bundles, prices, keys, reports."""
    home = Home(folder).create()
    with closing(SqlEventLog(home.events_db)) as log, closing(SqlRecordStore(home.records_db)) as records:
        world = recorded_world(folder, log=log, records=records)
        promote(world, 1)
        promote(world, 2, CHALLENGER)
        published = PriceList(
            journey_id=JOURNEY,
            created_at=NOW,
            valid_until=2**53,
            policy_version=world.configuration.versions["policy"],
            capacity_version="",
            bundle=None,
            prices={"limit.sms": 0.01},
            value=1.0,
            gap=0.0,
        )
        publish_prices(home.prices, published)
        with world.client() as client:
            live(world, client, decisions=decisions, customers=12, seed=1)
        for number in (1, 2, 3):
            records.jobs.submit(submission(number), most_queued=3, now=ASKED_AT)
        for ending in (Succeeded(b"{}", "1/out.csv"), Failed(JobError("NotEnoughData", "nobody is there"))):
            job = records.jobs.claim(claim(), now=ASKED_AT)
            assert job is not None
            records.jobs.end(job.job_id, job.token, ending, now=ASKED_AT)
    KeyFile.of(home).create(source="crm", roles=("caller",), secret=b"s" * 36, at=NOW)
    (home.root / "snapshot.json").write_text("{}")
    (home.reports / "drift" / "latest").mkdir(parents=True)
    (home.reports / "drift" / "latest" / "page.html").write_text("a report")
    home.online_db.write_bytes(b"a cache")
    return home


def backed_up(home: Home, target: Path, *, env: Mapping[str, str] | None = None, **options: Any) -> Backup:
    """A backup of a home, made now by the test's clock."""
    return make_backup(home, env or {}, target, **({"at": NOW} | options))


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of every table of an SQLite file, sorted; but for the file's own head."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr)  # noqa: S608
            for name in names
            if not name.startswith("sqlite_") and name != HEAD_TABLE
        }


def layout(path: Path) -> set[tuple[str, str | None]]:
    """Tables and indexes of an SQLite file with their declarations, and the layout's version."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        declared = {(row[0], row[1]) for row in connection.execute("SELECT name, sql FROM sqlite_master")}
        return declared | {("version", str(connection.execute("PRAGMA user_version").fetchone()[0]))}


def files(root: Path) -> dict[str, bytes]:
    """Bytes of every file of a home but its databases and what is made anew."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix not in (".lock",) and path.parts[len(root.parts)] not in ("cache", "state")
    }


def edited(backup: Path, target: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """A backup whose manifest and files a stranger changed, with a seal that fits."""
    with zipfile.ZipFile(backup) as source:
        content = {name: source.read(name) for name in source.namelist()}
    manifest = msgspec.json.decode(content.pop("manifest.json"))
    change(manifest, content)
    return sealed(target, {**content, "manifest.json": msgspec.json.encode(manifest)})


def sealed(target: Path, content: Mapping[str, bytes], *, attributes: Mapping[str, int] | None = None) -> Path:
    """A zip of files with a seal that fits."""
    with zipfile.ZipFile(target, "w") as made:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (attributes or {}).get(name, 0)
            made.writestr(entry, data)
        made.comment = SEAL + b"0" * 64
    data = target.read_bytes()[:-64]
    target.write_bytes(data + sha256(data).hexdigest().encode())
    return target


def killed_at(stop: int, run: Callable[[], object]) -> bool:
    """Run something in a process that is killed at its ``stop``-th look at the disk; whether it came that far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that stay behind: the child uses none of them
        child = os.fork()
    if child == 0:
        code = 1
        try:
            _kill_at(stop)
            run()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _kill_at(stop: int) -> None:
    seen = 0

    def look(name: str, _: object) -> None:
        nonlocal seen
        if name in _STOPS:
            seen += 1
            if seen == stop:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
