"""The audit log: one line a call, counted where machines call, bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from pathlib import Path

import pytest

from features.errors import HomeLocked, StoreUnavailable
from features.home import lock_file
from serving import audit
from serving.audit import MOST_WAITING, AuditLine, AuditTrail, write_audit
from serving.auth import Principal
from tests.faults.failing_calls import failing_calls

AT = 1_772_366_400_000_000
MINUTE_US = 60_000_000
AGENT = Principal("0a0b0c0d", "desk", frozenset({"agent"}))
READ = "GET /v1/customers/{customer_id}/journey"


class Clock:
    """A clock that is set by hand."""

    at = AT

    def __call__(self) -> int:
        """Microseconds since the epoch."""
        return self.at


@pytest.fixture
def clock() -> Clock:
    """Noon."""
    return Clock()


@pytest.fixture
def trail(tmp_path: Path, clock: Clock) -> AuditTrail:
    """The log of a home."""
    return AuditTrail(tmp_path / "audit", clock=clock, randomness=lambda n: b"s" * n)


def _read(trail: AuditTrail, customer_id: str = "c-1", status: int = 200) -> None:
    trail.note(AGENT, READ, status=status, object_id=customer_id, is_customer=True)


def test_a_line_tells_who_asked_what(trail: AuditTrail, tmp_path: Path) -> None:
    """When, with which roles, about whom, and how it ended; the newest first."""
    _read(trail)
    trail.note(AGENT, "GET /v1/decisions/{decision_id}", status=404, object_id="d-1")
    trail.write()

    assert list(trail.lines()) == [
        AuditLine(
            at="2026-03-01T12:00:00.000000Z",
            who="0a0b0c0d",
            roles=("agent",),
            call="GET /v1/decisions/{decision_id}",
            object="d-1",
            status=404,
        ),
        AuditLine(
            at="2026-03-01T12:00:00.000000Z",
            who="0a0b0c0d",
            roles=("agent",),
            call=READ,
            object=trail.hash_of("c-1"),
            status=200,
        ),
    ]
    assert stat.S_IMODE((tmp_path / "audit" / "calls.jsonl").stat().st_mode) == 0o600
    assert "agent" in next(trail.lines()).said


def test_what_a_caller_named_cannot_write_on_the_screen(trail: AuditTrail) -> None:
    """The object of a call is what the caller put into the path."""
    trail.note(AGENT, "GET /v1/decisions/{decision_id}", status=404, object_id="d\x1b[2J\nroot")
    trail.write()

    assert next(trail.lines()).said.endswith("/v1/decisions/{decision_id}  d\\x1b[2J\\nroot  404")


def test_a_customer_stands_there_as_a_hash(trail: AuditTrail, tmp_path: Path, clock: Clock) -> None:
    """The same each time and in each process of the home, another in another home; the id is nowhere."""
    _read(trail, "ada@example.com")
    trail.write()

    same = AuditTrail(tmp_path / "audit", clock=clock, randomness=lambda n: b"t" * n)
    other = AuditTrail(tmp_path / "other", clock=clock, randomness=lambda n: b"t" * n)

    hashes = {one.hash_of("ada@example.com") for one in (trail, same)}
    assert hashes == {next(trail.lines()).object}
    assert other.hash_of("ada@example.com") not in hashes
    assert all(b"ada" not in path.read_bytes() for path in (tmp_path / "audit").iterdir())


def test_a_secret_is_there_whole_or_not_at_all(tmp_path: Path, clock: Clock) -> None:
    """A process that came to grief while it made one leaves none that is short: hashes under that tell everything."""

    def broken(_: int) -> bytes:
        raise OSError(errno.EIO, "no chance to be had")

    with pytest.raises(OSError, match="no chance"):
        AuditTrail(tmp_path / "audit", clock=clock, randomness=broken).hash_of("c-1")
    secrets = [
        AuditTrail(tmp_path / folder, clock=clock, randomness=lambda n: b"s" * n).hash_of("c-1")
        for folder in ("audit", "other")
    ]

    assert secrets[0] == secrets[1]
    assert [path.name for path in (tmp_path / "audit").iterdir()] == ["secret"]
    assert stat.S_IMODE((tmp_path / "audit" / "secret").stat().st_mode) == 0o600


def test_calls_of_machines_are_counted_by_the_minute(trail: AuditTrail, clock: Clock) -> None:
    """Once the minute is over; who could not be told is nobody, and a flood of them is one line."""
    for status in (200, 200, 429):
        trail.note(AGENT, "POST /v1/decisions", status=status, counted=True)
    for _ in range(1_000):
        trail.note(None, READ, status=401, object_id="c-1", is_customer=True)
    trail.write()
    assert list(trail.lines()) == []

    clock.at += MINUTE_US
    trail.write()
    trail.write()

    told = {(one.who, one.status): (one.calls, one.object) for one in trail.lines()}
    assert told == {("0a0b0c0d", 200): (2, None), ("0a0b0c0d", 429): (1, None), ("nobody", 401): (1_000, None)}


def test_what_does_not_fit_is_dropped_and_told(tmp_path: Path, clock: Clock) -> None:
    """In a metric at once, and in the log once it can be written again."""
    dropped: list[int] = []
    trail = AuditTrail(tmp_path / "audit", clock=clock, randomness=lambda n: b"s" * n, count_dropped=dropped.append)
    for _ in range(MOST_WAITING + 3):
        _read(trail)

    trail.write()

    lines = list(trail.lines())
    assert sum(dropped) == 3
    assert len(lines) == MOST_WAITING + 1
    assert (lines[0].dropped, lines[0].said) == (3, "2026-03-01T12:00:00.000000Z  3 lines were lost")


def test_a_disk_that_fails_loses_nothing_that_fits(trail: AuditTrail, tmp_path: Path) -> None:
    """It is written when the disk does again."""
    (tmp_path / "audit").write_text("a file where the folder should be")
    _read(trail)
    with pytest.raises(StoreUnavailable):
        trail.write()
    (tmp_path / "audit").unlink()

    trail.write()

    assert len(list(trail.lines())) == 1


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_lines_that_a_full_disk_took_in_part_are_there_once(call: str, trail: AuditTrail) -> None:
    """What was taken of them is taken back, and all are written when there is room."""

    def full(number: int) -> OSError | None:
        return OSError(errno.ENOSPC, "No space left on device") if number == 1 else None

    _read(trail)
    trail.write()
    _read(trail)
    with failing_calls(os, call, full), pytest.raises(OSError, match="No space"):
        trail.write()
    trail.write()

    assert len(list(trail.lines())) == 2


def test_processes_of_one_home_write_one_after_the_other(trail: AuditTrail, tmp_path: Path, clock: Clock) -> None:
    """Whoever finds another one writing tries again, and loses nothing."""
    other = AuditTrail(tmp_path / "audit", clock=clock, randomness=lambda n: b"t" * n)
    _read(trail)
    _read(other, "c-2")
    with lock_file(tmp_path / "audit" / "calls.jsonl"), pytest.raises(HomeLocked):
        trail.write()

    trail.write()
    other.write()

    assert [one.object for one in trail.lines()] == [trail.hash_of("c-2"), trail.hash_of("c-1")]


def test_the_log_is_bounded(trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest file goes; the newest lines stay, in order over all files."""
    monkeypatch.setattr(audit, "LARGEST_FILE", 600)
    for number in range(200):
        trail.note(AGENT, "GET /v1/decisions/{decision_id}", status=200, object_id=f"d-{number}")
        trail.write()

    files = [path for path in (tmp_path / "audit").iterdir() if path.suffix == ".jsonl"]
    told = [one.object for one in trail.lines()]
    assert len(files) == audit.MOST_FILES
    assert all(path.stat().st_size <= 600 for path in files)
    assert told == [f"d-{number}" for number in range(199, 199 - len(told), -1)]


def test_a_line_that_was_cut_off_spoils_no_other(trail: AuditTrail, tmp_path: Path) -> None:
    """A process that was killed within a write."""
    _read(trail)
    trail.write()
    with (tmp_path / "audit" / "calls.jsonl").open("ab") as file:
        file.write(b'{"at": "2026-03')
    _read(trail)

    trail.write()

    assert [one.status for one in trail.lines()] == [200, 200]


def test_all_is_written_when_the_service_ends(trail: AuditTrail) -> None:
    """Counted calls of the present minute too."""
    _read(trail)
    trail.note(AGENT, "POST /v1/decisions", status=200, counted=True)

    async def served() -> None:
        task = asyncio.create_task(write_audit(trail))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(served())

    assert [one.call for one in trail.lines()] == ["POST /v1/decisions", READ]
