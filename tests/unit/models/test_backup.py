"""Backup and restore: what comes back is what was there, and what cannot be restored is refused by name."""

from __future__ import annotations

import re
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.backup_file import open_backup
from features.errors import HomeLocked, Refused, StoreCorrupted, StoreUnavailable
from features.event_store import SqlEventLog
from features.home import Home, lock_file
from features.store_head import verify_head
from models.configuration import built_in_configuration
from models.jobs import ClaimLost, PutBack, Succeeded
from models.record_store import SqlRecordStore
from models.restore import restore_backup
from tests.backups import backed_up, edited, files, killed_at, layout, lived_in, rows, sealed, small_home
from tests.decision_records import contact as contact_of
from tests.decision_records import record, reservation
from tests.doors import NOW
from tests.faults.full_disk import full_disk
from tests.histories import event
from tests.job_records import ASKED_AT, claim, submission

_STEPS = pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
"""Every look at the disk in the slow tier."""
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that was lived in."""
    return lived_in(tmp_path_factory.mktemp("lived"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small home and a backup of it."""
    folder = tmp_path_factory.mktemp("small")
    backed_up(small_home(folder / "home"), folder / "backup.zip")
    return folder


@pytest.fixture
def home(small: Path, tmp_path: Path) -> Home:
    """A small home."""
    shutil.copytree(small / "home", tmp_path / "home")
    return Home(tmp_path / "home")


@pytest.fixture
def backup(small: Path, tmp_path: Path, home: Home) -> Path:
    """A backup of it."""
    return Path(shutil.copy(small / "backup.zip", tmp_path))


def test_everything_comes_back(lived: Home, tmp_path: Path) -> None:
    """Every row of both stores under the same declarations, and every file with its bytes; caches and locks do not.

    The restored files have heads of their own.
    """
    restored = Home(tmp_path / "restored")
    lived.audit.mkdir(mode=0o700)
    (lived.audit / "secret").write_bytes(b"of pseudonyms")

    restore_backup(backed_up(lived, tmp_path / "b.zip").path, restored, at=NOW)

    assert sorted(path.name for path in restored.state.iterdir() if path.suffix != ".lock") == [
        *("events.db", "events.head", "keys.json", "records.db", "records.head")
    ]
    for name in ("events.db", "records.db"):
        assert rows(restored.state / name) == rows(lived.state / name)
        assert layout(restored.state / name) == layout(lived.state / name)
        found, before = verify_head(restored.state / name), verify_head(lived.state / name)
        assert (found.problem, found.note) == ("", "")
        assert found.kept is not None
        assert before.kept is not None
        assert found.kept.store_id != before.kept.store_id
    told = files(restored.root)
    assert told == {name: data for name, data in files(lived.root).items() if name in told}
    assert {name.partition("/")[0] for name in told} == {
        *("audit", "bundles", "config", "configurations", "prices", "reports", "snapshot.json")
    }
    keys = restored.state / "keys.json"
    assert keys.read_bytes() == (lived.state / "keys.json").read_bytes()
    assert stat.S_IMODE(keys.stat().st_mode) == stat.S_IMODE((lived.state / "keys.json").stat().st_mode) == 0o600


def test_a_backup_is_its_owners_alone(home: Home, tmp_path: Path) -> None:
    """It holds personal data; and nothing is left beside it."""
    made = backed_up(home, tmp_path / "new" / "backup.zip")

    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert made.size == made.path.stat().st_size
    assert [path.name for path in made.path.parent.iterdir()] == ["backup.zip"]
    assert made.manifest.stores["events"].head == "3"


def test_a_file_is_replaced_only_when_asked(home: Home, backup: Path) -> None:
    """Otherwise it stays as it is."""
    before = backup.read_bytes()

    with pytest.raises(Refused, match=r"backup\.zip exists, expected a new file: choose another name, or add --force"):
        backed_up(home, backup, at=NOW + 1)
    assert backup.read_bytes() == before

    backed_up(home, backup, at=NOW + 1, replace=True)
    assert backup.read_bytes() != before


def test_a_backup_is_not_written_among_what_it_holds(home: Home) -> None:
    """Each would hold all before it."""
    with pytest.raises(Refused, match="is among the files that a backup holds; expected a place outside"):
        backed_up(home, home.reports / "backups" / "b.zip")


def test_folders_without_an_end_are_refused(home: Home, tmp_path: Path) -> None:
    """A link that leads back is named."""
    (home.reports / "loop").symlink_to(home.reports, target_is_directory=True)

    with pytest.raises(StoreUnavailable, match=r"loop leads back to .*reports; expected folders that end"):
        backed_up(home, tmp_path / "b.zip")


def test_folders_elsewhere_are_followed(home: Home, tmp_path: Path) -> None:
    """Bundles on another disk, say; the restored home has them itself."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "1").mkdir(parents=True)
    (elsewhere / "1" / "manifest.json").write_text("a bundle")
    (home.bundles / "nba").symlink_to(elsewhere, target_is_directory=True)
    restored = Home(tmp_path / "restored")

    restore_backup(backed_up(home, tmp_path / "b.zip").path, restored, at=NOW)

    assert (restored.bundle("nba", 1) / "manifest.json").read_text() == "a bundle"
    assert not (restored.bundles / "nba").is_symlink()


def test_a_home_without_stores_is_refused(tmp_path: Path) -> None:
    """There is nothing that could be lost."""
    with pytest.raises(Refused, match="holds neither events nor decisions; expected a home that was served"):
        backed_up(Home(tmp_path / "home").create(), tmp_path / "b.zip")


def test_a_home_with_events_alone_comes_back(home: Home, tmp_path: Path) -> None:
    """An import makes no record store before it needs one."""
    home.records_db.unlink()
    restored = Home(tmp_path / "restored")

    restore_backup(backed_up(home, tmp_path / "b.zip").path, restored, at=NOW)

    assert rows(restored.events_db) == rows(home.events_db)


def test_what_was_not_told_is_told_again(home: Home, tmp_path: Path) -> None:
    """A consent, an exposure and an outcome whose request was under way: in the log, not yet in the record store."""
    consent = {"kind": "consent_changed", "channel": None, "facts": {"consent": "sms", "state": "granted"}}
    shown = {"decision_id": "d-000001", "action_id": "nudge", "treatment_id": "nudge_sms"}
    came = {"decision_id": "d-000001", "outcome_id": "progress_7d", "value": 1.0}
    decision = record(1, customer_id="c-1")
    leased = contact_of(decision, status="lease", at=NOW - 1)
    with closing(SqlEventLog(home.events_db)) as log, closing(SqlRecordStore(home.records_db)) as records:
        records.commit(decision, b"answer", reservation(leased))
        under_way = [
            event("consent", customer_id="c-1", at=NOW, **consent),
            event("shown", customer_id="c-1", at=NOW, kind="action_exposed", channel="sms", facts=shown),
            event("came", customer_id="c-1", at=NOW + 1, kind="outcome_observed", channel=None, facts=came),
        ]
        log.append([replace(one, arrived_at=NOW) for one in under_way])
    restored = Home(tmp_path / "restored")

    made = restore_backup(backed_up(home, tmp_path / "b.zip").path, restored, at=NOW)

    assert made.told_again == 6
    with closing(SqlRecordStore(restored.records_db, readonly=True)) as records:
        known = records.customer("c-1", since=0, now=NOW + 2)
    assert dict(known.consents) == {"sms": "granted"}
    assert [(one.action_id, one.status, one.at) for one in known.contacts] == [("nudge", "confirmed", NOW)]


def test_what_was_forgotten_stays_forgotten(home: Home, tmp_path: Path) -> None:
    """An old exposure of a decision that was deleted, as its time had passed, counts as a contact no more."""
    shown = {"decision_id": "d-gone", "action_id": "nudge", "treatment_id": "nudge_sms"}
    old = NOW - 24 * 3_600_000_000
    with closing(SqlEventLog(home.events_db)) as log:
        one = event("shown", customer_id="c-1", at=old, kind="action_exposed", channel="sms", facts=shown)
        log.append([replace(one, arrived_at=old)])
    restored = Home(tmp_path / "restored")

    restore_backup(backed_up(home, tmp_path / "b.zip").path, restored, at=NOW)

    assert rows(restored.records_db)["contacts"] == []


def test_jobs_of_a_backup_go_on(home: Home, tmp_path: Path) -> None:
    """One that ran waits again, and what its process writes is refused; what has ended stays as it was."""
    with closing(SqlRecordStore(home.records_db)) as records:
        for number in (1, 2, 3):
            records.jobs.submit(submission(number), most_queued=9, now=ASKED_AT)
        done = records.jobs.claim(claim(), now=ASKED_AT)
        assert done is not None
        done = records.jobs.end(done.job_id, done.token, Succeeded(b"{}", "1/out.csv"), now=ASKED_AT)
        running = records.jobs.claim(claim(), now=ASKED_AT)
        assert running is not None
        (home.jobs / running.job_id).mkdir(parents=True)
        (home.jobs / running.job_id / "out.csv").write_text("of customers")
        made = backed_up(home, tmp_path / "b.zip")
    restored = Home(tmp_path / "restored")

    restore_backup(made.path, restored, at=ASKED_AT + 1)

    assert not restored.jobs.exists()
    with closing(SqlRecordStore(restored.records_db)) as records:
        assert [job.state for job in records.jobs.newest(rows=9)] == ["queued", "queued", "succeeded"]
        assert records.jobs.job(done.job_id) == done
        with pytest.raises(ClaimLost):
            records.jobs.end(running.job_id, running.token, PutBack(), now=ASKED_AT + 2)
        again = records.jobs.claim(claim(), now=ASKED_AT + 2)
        assert again is not None
        assert (again.job_id, again.token) == (running.job_id, running.token + 1)


def _of_layout(path: Path, name: str, version: int) -> None:
    path.unlink()
    statements = re.split(r"\n(?=CREATE)", (GOLDEN / f"{name}.sql").read_text())
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO consent_changes VALUES ('c-1', 'sms', 'granted', 5)")
        connection.execute("INSERT INTO contacts VALUES ('d', 'c-1', 'a', 'sms', 7, 'confirmed', 7, NULL, 7)")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


def test_an_older_layout_comes_back_as_the_present_one(home: Home, tmp_path: Path) -> None:
    """A backup made before an upgrade, restored after it."""
    present = layout(home.records_db)
    _of_layout(home.records_db, "records_layout_v2", 2)
    made = backed_up(home, tmp_path / "b.zip")
    restored = Home(tmp_path / "restored")

    told = restore_backup(made.path, restored, at=NOW)

    assert (made.manifest.stores["records"].layout, told.upgraded) == (2, ("records",))
    assert {name for name, _ in layout(restored.records_db)} == {name for name, _ in present}
    assert rows(restored.records_db)["consent_changes"] == [("c-1", "sms", "granted", 5)]
    assert rows(restored.records_db)["contacts"] == [
        ("d", "c-1", "a", "sms", 7, "confirmed", 7, None, 7, "", 0),
    ]
    with closing(SqlRecordStore(restored.records_db)) as records:
        assert dict(records.customer("c-1", since=0, now=9).consents) == {"sms": "granted"}


def test_a_newer_store_is_not_backed_up(home: Home, tmp_path: Path) -> None:
    """This release cannot know what is in it."""
    with closing(sqlite3.connect(home.events_db)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreCorrupted, match=r"layout version 99; expected 1 to \d+: use the release that wrote it"):
        backed_up(home, tmp_path / "b.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_home_that_holds_something_is_not_touched(home: Home, backup: Path) -> None:
    """What is in the way is named."""
    before = rows(home.events_db), files(home.root)

    with pytest.raises(Refused, match="holds reports, state; expected an empty home: name another one, or add --force"):
        restore_backup(backup, home, at=NOW)

    assert (rows(home.events_db), files(home.root)) == before


def test_a_home_is_moved_aside_when_asked(home: Home, backup: Path) -> None:
    """Nothing of it is deleted, and the restored one is in its place."""
    with closing(SqlEventLog(home.events_db)) as log:
        log.append([event("later", customer_id="c-1")])
    before = rows(home.events_db)

    told = restore_backup(backup, home, at=NOW, move_aside=True)

    assert told.moved_aside == home.root.with_name("home.before-20260301T120000000000Z")
    assert rows(Home(told.moved_aside).events_db) == before
    assert len(rows(home.events_db)["events"]) == 3


def test_a_home_that_is_being_written_is_not_moved(home: Home, backup: Path) -> None:
    """The process is named."""
    with lock_file(home.records_db), pytest.raises(HomeLocked, match=r"records\.db is being written by process"):
        restore_backup(backup, home, at=NOW, move_aside=True)

    assert sorted(path.name for path in home.root.parent.iterdir()) == ["backup.zip", "home"]


def test_folders_and_caches_alone_are_an_empty_home(backup: Path, tmp_path: Path) -> None:
    """Any command makes them."""
    empty = Home(tmp_path / "empty").create()
    (empty.numba_cache / "compiled.nbi").write_bytes(b"code")
    (empty.state / "events.db.lock").write_bytes(b"")

    told = restore_backup(backup, empty, at=NOW)

    assert told.moved_aside is None
    assert len(rows(empty.events_db)["events"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.zip", "empty", "home"]


def test_a_restored_home_has_an_epoch_that_no_redis_holds(home: Home, tmp_path: Path) -> None:
    """Of the same home, so that the Redis is its own, and above every number that it gave out."""
    home.online_epoch.write_text("0123456789abcdef.7")
    restored = Home(tmp_path / "restored")

    restore_backup(backed_up(home, tmp_path / "b.zip").path, restored, at=NOW)

    assert restored.online_epoch.read_text() == f"0123456789abcdef.{NOW}"


def test_a_configuration_from_elsewhere_becomes_the_homes_own(home: Home, tmp_path: Path) -> None:
    """The restored home decides by the same files, and it is told where they came from."""
    folder = tmp_path / "etc"
    folder.mkdir()
    for part, text in built_in_configuration().texts.items():
        (folder / f"{part}.yaml").write_text(text + "\n# ours\n")
    made = backed_up(home, tmp_path / "b.zip", env={"HEADWAY_CONFIG": str(folder)})
    restored = Home(tmp_path / "restored")

    told = restore_backup(made.path, restored, at=NOW)

    assert told.configuration_from == str(folder)
    assert (restored.config / "policy.yaml").read_text() == (folder / "policy.yaml").read_text()


def test_a_bad_configuration_is_no_reason_to_have_no_backup(home: Home, tmp_path: Path) -> None:
    """It is said when the backup is restored."""
    (home.config / "policy.yaml").write_text("nonsense: [")
    made = backed_up(home, tmp_path / "b.zip")
    restored = Home(tmp_path / "restored")

    told = restore_backup(made.path, restored, at=NOW)

    assert made.manifest.configuration is None
    assert "could not be read" in told.warnings[0]
    assert (restored.config / "policy.yaml").read_text() == "nonsense: ["


def test_tracking_comes_along_when_asked(home: Home, tmp_path: Path) -> None:
    """MLflow's database with what its log holds yet, and its artefacts."""
    (home.mlflow_artifacts / "run").mkdir(parents=True)
    (home.mlflow_artifacts / "run" / "model.txt").write_text("an artefact")
    restored = {}
    with closing(sqlite3.connect(home.mlflow_db)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (name TEXT)")
        connection.execute("INSERT INTO runs VALUES ('r-1')")
        connection.commit()
        for with_tracking in (False, True):
            made = backed_up(home, tmp_path / f"{with_tracking}.zip", with_tracking=with_tracking)
            restored[with_tracking] = Home(tmp_path / f"restored-{with_tracking}")
            restore_backup(made.path, restored[with_tracking], at=NOW)

    assert not restored[False].mlflow_db.exists()
    assert rows(restored[True].mlflow_db) == {"runs": [("r-1",)]}
    assert (restored[True].mlflow_artifacts / "run" / "model.txt").read_text() == "an artefact"


def test_a_full_disk_leaves_nothing(home: Home, backup: Path, tmp_path: Path) -> None:
    """Neither half a backup nor half a home; both say where there was no room."""
    running = closing(SqlEventLog(home.events_db)), closing(SqlRecordStore(home.records_db))
    with running[0], running[1], full_disk():
        with pytest.raises(StoreUnavailable, match=r"cannot write .*second\.zip"):
            backed_up(home, tmp_path / "second.zip")
        with pytest.raises(StoreUnavailable, match="restored"):
            restore_backup(backup, Home(tmp_path / "restored"), at=NOW)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.zip", "home"]


@_STEPS
def test_a_backup_that_is_killed_leaves_the_old_one_or_a_new_one(home: Home, backup: Path, step: int) -> None:
    """At whatever step; the next one is made as if nothing had been."""
    before = backup.read_bytes()
    stop = 1

    while killed_at(stop, lambda: backed_up(home, backup, at=NOW + 1, replace=True)):
        stop += step
        assert backup.read_bytes() == before or _is_whole(backup)

    assert stop > 10
    assert sorted(path.name for path in backup.parent.iterdir()) == ["backup.zip", "home"]
    assert backup.read_bytes() != before


def _is_whole(backup: Path) -> bool:
    with open_backup(backup) as found:
        found.check()
    return True


@_STEPS
def test_a_restore_that_is_killed_leaves_nothing_or_all(backup: Path, tmp_path: Path, step: int) -> None:
    """At whatever step: there is no home, or one that holds everything; and the next restore goes through."""
    home = Home(tmp_path / "restored")
    stop = 1

    while killed_at(stop, lambda: restore_backup(backup, home, at=NOW)):
        if home.root.exists():
            assert len(rows(home.events_db)["events"]) == 3
            home.root.rename(tmp_path / f"found-{stop}")
        stop += step

    assert stop > 20
    assert len(rows(home.events_db)["events"]) == 3
    assert not home.root.with_name(".restored.restoring").exists()


def _manifest(**changes: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda manifest, _: manifest.update(changes)


def _file(**changes: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], content: dict[str, bytes]) -> None:
        named = next(one for one in manifest["files"] if one["name"].startswith("home/reports"))
        content[changes.get("name", named["name"])] = content.pop(named["name"])
        named.update(changes)

    return change


def _store(**changes: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda manifest, _: manifest["stores"]["events"].update(changes)


def _table(of: str, /, **changes: Any) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    def change(manifest: dict[str, Any], _: dict[str, bytes]) -> None:
        next(one for one in manifest["stores"]["events"]["tables"] if one["name"] == of).update(changes)

    return change


def _smuggle(name: str) -> Callable[[dict[str, Any], dict[str, bytes]], None]:
    return lambda _, content: content.update({name: b"more"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_manifest(format=2, headway="9.0"), "of format 2, made by 9.0; expected format 1"),
        (_manifest(made_at="yesterday"), "expected a moment and a position"),
        (_manifest(told_up_to=2**70), "expected a moment and a position"),
        (_manifest(extra=1), "manifest.json is damaged"),
        (_manifest(stores={}), "neither|no table"),
        (_store(layout=99), r"holds events of layout 99; this release knows up to \d"),
        (_store(layout=0), "layout 0; expected 1"),
        (_store(tables=[]), "a page of no table"),
        (_table("events", rows=4), "hold 3 rows, expected 4"),
        (_table("events", name="events; DROP TABLE x"), "none that a store has"),
        (_table("events", key=[]), "none that a store has"),
        (_table("claims", unique=[["alias"]]), r"has other tables than this release declares \(claims\)"),
        (_store(head="9"), "end at 3, expected 9"),
        (_file(name="home/../../evil"), "which no backup has"),
        (_file(name="/etc/evil"), "which no backup has"),
        (_file(name="home/config/../../../evil"), "which no backup has"),
        (_file(name="home/state/events.db-wal"), "which no backup has"),
        (_file(name="home/config/.hidden"), "which no backup has"),
        (_file(name="home/config/a\\b"), "which no backup has"),
        (_file(size=3), "has 8 bytes, expected 3"),
        (_file(sha256="0" * 64), "is not what the manifest names"),
        (_file(mode=0o4777), "mode 2559"),
        (_smuggle("home/config/more.yaml"), "which its manifest does not name"),
    ],
)
def test_a_strange_backup_is_refused(
    backup: Path, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], said: str
) -> None:
    """Even where its seal fits; nothing is at the home's place."""
    strange = edited(backup, tmp_path / "strange.zip", change)

    with pytest.raises((Refused, StoreCorrupted), match=said):
        restore_backup(strange, Home(tmp_path / "restored"), at=NOW)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.zip", "home", "strange.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    """Whatever a zip can carry besides plain files."""
    link = sealed(tmp_path / "b.zip", {"manifest.json": b"{}"}, attributes={"manifest.json": stat.S_IFLNK << 16})

    with pytest.raises(Refused, match=r"manifest\.json"):
        restore_backup(link, Home(tmp_path / "restored"), at=NOW)


def test_no_file_and_any_file_are_no_backups(tmp_path: Path) -> None:
    """Each is said as what it is."""
    other = tmp_path / "other.zip"
    other.write_bytes(b"something else")

    with pytest.raises(Refused, match=r"there is no file .*missing\.zip"):
        restore_backup(tmp_path / "missing.zip", Home(tmp_path / "restored"), at=NOW)
    with pytest.raises(Refused, match="is no backup, or its end is missing"):
        restore_backup(other, Home(tmp_path / "restored"), at=NOW)
