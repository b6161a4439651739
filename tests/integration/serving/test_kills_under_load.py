"""A service is killed under load, at every step that leaves something half done: nothing that was answered is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.home import Home
from tests.faults import audit
from tests.faults.kill_points import AtCall, AtStatement, KillPoint
from tests.faults.load import killed, prepare

_EVENTS, _RECORDS, _ONLINE = "events.db", "records.db", "online.db"

QUICK: dict[str, KillPoint] = {
    "events are appended, and not yet folded": AtCall(
        target="features.ingest:Ingestor._refresh", when="before", count=12
    ),
    "decision is committed, and not yet answered": AtStatement(
        file=_RECORDS, statement="COMMIT", when="after", count=40
    ),
    "contacts are there, and their decision is not": AtStatement(
        file=_RECORDS, statement="INSERT INTO decisions", when="before", count=17
    ),
}
SLOW: dict[str, KillPoint] = {
    "before an append": AtStatement(file=_EVENTS, statement="BEGIN", when="before", count=21),
    "before the first append": AtStatement(file=_EVENTS, statement="INSERT INTO events", when="before"),
    "within an append": AtStatement(file=_EVENTS, statement="INSERT INTO events", when="after", count=30),
    "within a group of appends": AtStatement(file=_EVENTS, statement="RELEASE", when="after", count=5),
    "while an append is committed": AtStatement(file=_EVENTS, statement="COMMIT", when="during", count=25),
    "append is committed, and not yet answered": AtStatement(file=_EVENTS, statement="COMMIT", when="after", count=33),
    "before a decision is written": AtStatement(file=_RECORDS, statement="BEGIN", when="before", count=60),
    "before contacts are counted": AtStatement(file=_RECORDS, statement="INSERT INTO contacts", when="before", count=9),
    "capacity is taken, and no contact is there": AtStatement(
        file=_RECORDS, statement="UPDATE capacity_counters", when="after", count=11
    ),
    "before what a lease holds is written": AtStatement(
        file=_RECORDS, statement="INSERT INTO capacity_holds", when="before", count=5
    ),
    "decision is written, and not yet committed": AtStatement(
        file=_RECORDS, statement="INSERT INTO decisions", when="after", count=26
    ),
    "within a group of decisions": AtStatement(file=_RECORDS, statement="SAVEPOINT", when="after", count=7),
    "between two decisions of a group": AtStatement(file=_RECORDS, statement="RELEASE", when="before", count=14),
    "while decisions are committed": AtStatement(file=_RECORDS, statement="COMMIT", when="during", count=45),
    "before consents are told on": AtCall(target="features.ingest:remember_consents", when="before", count=13),
    "consents are written, and not yet committed": AtStatement(
        file=_RECORDS, statement="INSERT INTO consent_changes", when="after", count=22
    ),
    "exposures are counted, and responses are not": AtStatement(
        file=_RECORDS, statement="UPDATE contacts", when="before", count=4
    ),
    "before states are written": AtStatement(file=_ONLINE, statement="BEGIN", when="before", count=27),
    "states are written, and profiles are not": AtStatement(
        file=_ONLINE, statement="INSERT INTO", when="after", count=31
    ),
    "while states are committed": AtStatement(file=_ONLINE, statement="COMMIT", when="during", count=29),
    "states are committed, and not yet answered": AtStatement(file=_ONLINE, statement="COMMIT", when="after", count=24),
    "a customer is folded, and not written": AtCall(target="features.ingest:Ingestor._write", when="before", count=19),
    "a customer is rebuilt from the log": AtCall(target="features.ingest:Ingestor.rebuild", when="after", count=2),
    "a commit is on disk, and its head is not": AtCall(
        target="features.head_file:HeadWriter.write", when="before", count=50
    ),
    "a head is written, and its commit not yet answered": AtCall(
        target="features.head_file:HeadWriter.write", when="after", count=61
    ),
    "while the log of events is written back": AtStatement(
        file=_EVENTS, statement="COMMIT", when="during", count=40, delay_seconds=0.001, checkpoint_pages=2
    ),
    "while the log of records is written back": AtStatement(
        file=_RECORDS, statement="COMMIT", when="during", count=70, delay_seconds=0.001, checkpoint_pages=2
    ),
}


def _survives(tmp_path: Path, point: KillPoint | None, *, seconds: float | None = None) -> None:
    home = Home(tmp_path / "home")
    prepare(home)

    told = killed(home, point, seconds=seconds)

    assert told.exit_code == -9, "the service came to its end; expected it to be killed on its way"
    audit.check_nothing_was_lost(home, told)
    audit.check_asking_again(home, told)
    audit.check_each_once(home, told)
    audit.check_counters(home)
    audit.check_states(home, tmp_path / "anew")


@pytest.mark.parametrize("point", QUICK.values(), ids=QUICK)
def test_killed_at_the_worst_moments(tmp_path: Path, point: KillPoint) -> None:
    """What was answered is there once, counters equal a recount, retries get what was committed, states a backfill."""
    _survives(tmp_path, point)


@pytest.mark.slow
@pytest.mark.parametrize("point", SLOW.values(), ids=SLOW)
def test_killed_at_every_step(tmp_path: Path, point: KillPoint) -> None:
    """Likewise, at every other step."""
    _survives(tmp_path, point)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5, 1.0, 1.5])
def test_killed_from_outside(tmp_path: Path, seconds: float) -> None:
    """Likewise, whenever."""
    _survives(tmp_path, None, seconds=seconds)
