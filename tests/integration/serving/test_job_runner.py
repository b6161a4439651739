"""Jobs done by real processes: every way they end, what is left of them, and who goes on where one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.database_location import DatabaseLocation
from features.errors import StoreUnavailable
from features.sql_store import Place
from models.job_work import SILENCE_SECONDS
from models.jobs import FINISHED, Claim, ClaimLost, Ending, Job, JobError, JobProgress, Jobs
from models.memory_jobs import MemoryJobs
from models.record_store import SqlRecordStore
from serving.job_runner import COMMAND_FAILED, JobPace
from tests.faults.counting_job import journal
from tests.faults.job_server import COUNTING, job_runner
from tests.faults.processes import LONGEST_WAIT, is_alive, until
from tests.job_records import KIND, claim, submission
from tests.postgres_servers import postgres_database

ROOT = Path(__file__).parents[3]


class Site:
    """A store of jobs, the folder they work in, and what does them."""

    def __init__(self, folder: Path) -> None:
        self.records = SqlRecordStore(folder / "records.db")
        self.jobs: Jobs = self.records.jobs
        self.root = folder / "jobs"
        self.journal = folder / "journal"
        self.runner = job_runner(self.jobs, self.root, is_alone=True)

    def ask(self, number: int = 1, **spec: Any) -> str:
        """The id of a new job that counts to 5."""
        return ask(self.jobs, number, journal=str(self.journal), **spec)

    def over(self, job_id: str) -> Job:
        """A job once it has ended."""
        until(lambda: found(self.jobs, job_id).state in FINISHED)
        return found(self.jobs, job_id)

    def files(self) -> list[str]:
        """All files of all jobs."""
        walked = os.walk(self.root)  # which does not mind that folders are being removed
        return sorted(
            str((Path(folder) / name).relative_to(self.root)) for folder, _, names in walked for name in names
        )

    def restarted(self) -> None:
        """Another runner in place of the one that was closed."""
        self.runner = job_runner(self.jobs, self.root, is_alone=True)
        self.runner.start()


def ask(jobs: Jobs, number: int, **spec: Any) -> str:
    """The id of a new job."""
    wanted = submission(number, spec=msgspec.json.encode({"to": 5, **spec}))
    return jobs.submit(wanted, most_queued=99, now=time.time_ns() // 1_000).job.job_id


def found(jobs: Jobs, job_id: str) -> Job:
    """A job that is there."""
    job = jobs.job(job_id)
    assert job is not None
    return job


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An empty store, and nothing that does jobs yet."""
    site = Site(tmp_path)
    yield site
    site.runner.close()
    site.records.close()


def test_a_job_is_done(site: Site) -> None:
    """Its result is there whole, for its owner only, and nothing else of it; its progress is the last that was said."""
    job_id = site.ask()
    site.runner.start()

    job = site.over(job_id)

    assert (job.state, job.summary, job.error) == ("succeeded", b'{"counted":5}', None)
    assert (job.attempts, job.progress) == (1, JobProgress("counting", 5, 5))
    assert job.file == "1/numbers.csv"
    until(lambda: [path.name for path in (site.root / job_id).iterdir()] == ["1"])
    assert site.files() == [f"{job_id}/1/numbers.csv"]
    path = site.root / job_id / job.file
    assert path.read_text() == "1\n2\n3\n4\n5\n"
    assert [one.stat().st_mode & 0o777 for one in (path, path.parent, site.root)] == [0o600, 0o700, 0o700]


def test_jobs_are_done_one_at_a_time_in_their_order(site: Site) -> None:
    """Each by a process of its own."""
    asked = [site.ask(number) for number in (1, 2, 3)]
    site.runner.start()

    for job_id in asked:
        site.over(job_id)

    lines = [line.split()[0] for line in site.journal.read_text().splitlines()]
    assert lines == [job_id for job_id in asked for _ in range(5)]
    assert len({process for _, _, process in journal(site.journal)}) == 3


@pytest.mark.parametrize(("fault", "error"), [("invalid", "InvalidInput"), ("little", "NotEnoughData")])
def test_what_is_refused_fails_at_once(site: Site, fault: str, error: str) -> None:
    """With the error of the command, and every bad field of it."""
    job_id = site.ask(fault=fault)
    site.runner.start()

    job = site.over(job_id)

    assert (job.state, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert job.error.error == error
    assert [one.path for one in job.error.problems] == (["to"] if fault == "invalid" else [])
    until(lambda: site.files() == [])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("store", JobError("StoreUnavailable", "the store does not answer")),
        ("locked", JobError("HomeLocked", "another process writes it")),
    ],
)
def test_what_may_pass_is_tried_again(site: Site, fault: str, error: JobError) -> None:
    """So often as there are attempts."""
    job_id, hopeless = site.ask(fault=fault, until_attempt=2), site.ask(2, fault=fault, until_attempt=9)
    site.runner.start()

    assert (site.over(job_id).state, site.over(job_id).attempts) == ("succeeded", 3)
    job = site.over(hopeless)
    assert (job.state, job.attempts, job.error) == ("failed", 3, error)


def test_a_child_that_is_killed_is_followed_by_another(site: Site) -> None:
    """Which goes on from its checkpoint: every number is counted once."""
    job_id = site.ask(die_at=4)
    site.runner.start()

    job = site.over(job_id)

    assert (job.state, job.attempts, job.file) == ("succeeded", 2, "2/numbers.csv")
    assert [(attempt, number) for attempt, number, _ in journal(site.journal)] == [
        *((1, 1), (1, 2), (1, 3), (2, 4), (2, 5))
    ]


def test_a_job_that_kills_its_processes_fails_with_the_reason(site: Site) -> None:
    """And the next one is done."""
    job_id, other = site.ask(die_at=2, until_attempt=9), site.ask(2)
    site.runner.start()

    job = site.over(job_id)

    assert (job.state, job.attempts) == ("failed", 3)
    assert job.error is not None
    assert (job.error.error, job.error.message) == (COMMAND_FAILED, "its process ended with signal 9")
    assert site.over(other).state == "succeeded"
    until(lambda: not (site.root / job_id).exists())


def test_a_running_job_is_cancelled(site: Site) -> None:
    """Its process ends, though it does not listen, nothing is left of it, and it stays cancelled."""
    job_id = site.ask(to=10_000, pause=0.01, fault="deaf")
    site.runner.start()
    until(lambda: len(journal(site.journal)) > 2)
    (process,) = {process for _, _, process in journal(site.journal)}

    site.jobs.cancel(job_id, now=0)
    site.runner.wake()

    until(lambda: not is_alive(process) and not (site.root / job_id).exists())
    assert found(site.jobs, job_id).state == "cancelled"
    assert site.over(site.ask(2)).state == "succeeded"


def test_a_service_that_stops_gives_its_job_back(site: Site) -> None:
    """The attempt counts as none, and the next service goes on from the checkpoint."""
    job_id = site.ask(to=60, pause=0.02)
    site.runner.start()
    until(lambda: len(journal(site.journal)) > 2)

    site.runner.close()

    waiting = found(site.jobs, job_id)
    assert (waiting.state, waiting.attempts, waiting.owner) == ("queued", 0, "")
    site.restarted()
    job = site.over(job_id)
    numbers = [number for _, number, _ in journal(site.journal)]
    assert (job.state, job.attempts, job.token) == ("succeeded", 1, 2)
    assert sorted(set(numbers)) == list(range(1, 61))
    assert len(numbers) <= 61  # the one that it was at may have been noted without its checkpoint


def test_a_job_that_was_lost_is_let_go(site: Site) -> None:
    """Its process ends, before another goes on with it."""
    job_id = site.ask(to=60, pause=0.02)
    site.runner.start()
    until(lambda: len(journal(site.journal)) > 2)

    site.jobs.take_over(now=time.time_ns() // 1_000)

    job = site.over(job_id)
    first, second = ([line for line in journal(site.journal) if line[0] == attempt] for attempt in (1, 2))
    assert (job.state, job.token) == ("succeeded", 2)
    assert min(number for _, number, _ in second) >= max(number for _, number, _ in first)
    until(lambda: site.files() == [f"{job_id}/2/numbers.csv"])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"fault": "silent"}, "it ended without a result"),
        ({"file": "other.csv"}, "its process ended with exit code 1"),
        ({"file": "../numbers.csv"}, "its process ended with exit code 1"),
    ],
)
def test_a_command_that_keeps_to_no_contract_fails(site: Site, spec: dict[str, Any], said: str) -> None:
    """It is said what it did."""
    job_id = site.ask(**spec)
    site.runner.start()

    job = site.over(job_id)

    assert job.state == "failed"
    assert job.error is not None
    assert job.error.error == COMMAND_FAILED
    assert said in job.error.message
    assert str(site.root) not in job.error.message


def test_a_job_that_takes_too_long_fails(site: Site) -> None:
    """Its process is ended."""
    job_id = site.ask(to=10_000, pause=0.01)
    site.runner = job_runner(site.jobs, site.root, is_alone=True, seconds=1.0)
    site.runner.start()

    job = site.over(job_id)

    assert job.error is not None
    assert job.error.message == "it took longer than 1 s; ask for less"
    until(lambda: not any(is_alive(process) for _, _, process in journal(site.journal)))


class _Away(MemoryJobs):
    """Does not answer while it is away."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False

    def _answer(self) -> None:
        if self.is_away:
            raise StoreUnavailable("away")

    def keep(self, job_id: str, token: int, progress: JobProgress, *, lease_us: int, now: int) -> None:
        self._answer()
        super().keep(job_id, token, progress, lease_us=lease_us, now=now)

    def end(self, job_id: str, token: int, ending: Ending, *, now: int) -> Job:
        self._answer()
        return super().end(job_id, token, ending, now=now)

    def claim(self, claim: Claim, *, now: int) -> Job | None:
        self._answer()
        return super().claim(claim, now=now)


@contextmanager
def _away(folder: Path, *, lease: float) -> Iterator[_Away]:
    jobs = _Away()
    runner = job_runner(jobs, folder / "jobs", is_alone=False, lease=lease)
    runner.start()
    try:
        yield jobs
    finally:
        jobs.is_away = False
        runner.close()


def test_an_end_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    """Nothing is done again for it."""
    log = tmp_path / "journal"
    with _away(tmp_path, lease=60.0) as jobs:
        job_id = ask(jobs, 1, pause=0.05, journal=str(log))
        until(lambda: len(journal(log)) > 1)
        jobs.is_away = True
        until(lambda: not is_alive(journal(log)[-1][2]))
        jobs.is_away = False
        until(lambda: found(jobs, job_id).is_finished)

    assert (found(jobs, job_id).state, found(jobs, job_id).attempts) == ("succeeded", 1)


def test_a_store_that_stays_away_ends_the_attempt(tmp_path: Path) -> None:
    """When the lease is over, since another process may have the job by then; it goes on from its checkpoint."""
    log = tmp_path / "journal"
    with _away(tmp_path, lease=1.0) as jobs:
        job_id = ask(jobs, 1, to=300, pause=0.02, journal=str(log))
        until(lambda: len(journal(log)) > 1)
        first = journal(log)[-1][2]
        jobs.is_away = True
        until(lambda: not is_alive(first))
        assert len(journal(log)) < 300
        jobs.is_away = False
        until(lambda: found(jobs, job_id).is_finished)

    assert (found(jobs, job_id).state, found(jobs, job_id).attempts) == ("succeeded", 2)
    assert sorted({number for _, number, _ in journal(log)}) == list(range(1, 301))


def test_the_lease_outlasts_a_child_that_hears_nothing() -> None:
    """So no other process has a job while its child may go on."""
    pace = JobPace()

    assert pace.slow + SILENCE_SECONDS < pace.lease


# ---- the child's own side


@contextmanager
def _child(folder: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    for name in ("checkpoints", "results"):
        (folder / name).mkdir(exist_ok=True)
    told = {
        **{"job": "j-1", "kind": KIND, "attempt": 1},
        **{name: str(folder / name) for name in ("checkpoints", "results")},
        "spec": {"to": 10_000, "pause": 0.01, "journal": str(folder / "journal")},
    }
    child = subprocess.Popen(
        COUNTING,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **env},
        start_new_session=True,
    )
    with child:
        try:
            assert child.stdin is not None
            child.stdin.write(msgspec.json.encode(told) + b"\n")
            child.stdin.flush()
            yield child
        finally:
            child.kill()


def test_a_child_whose_service_is_gone_ends(tmp_path: Path) -> None:
    """As soon as its standard input ends."""
    with _child(tmp_path) as child:
        until(lambda: len(journal(tmp_path / "journal")) > 2)
        assert child.stdin is not None
        child.stdin.close()

        assert child.wait(LONGEST_WAIT) == -signal.SIGKILL


@pytest.mark.slow
def test_a_child_that_hears_nothing_ends(tmp_path: Path) -> None:
    """One that is told in time goes on: its service may hang as well as be gone."""
    with _child(tmp_path, HEADWAY_TEST_SILENCE="2") as child:
        assert child.stdin is not None
        until(lambda: len(journal(tmp_path / "journal")) > 2)
        began = time.monotonic()
        while time.monotonic() - began < 4.0:
            child.stdin.write(b"\n")
            child.stdin.flush()
            time.sleep(0.1)
        assert child.poll() is None

        assert child.wait(LONGEST_WAIT) == -signal.SIGKILL


def test_two_attempts_never_work_in_one_folder(tmp_path: Path) -> None:
    """The second waits until the first is over."""
    with _child(tmp_path) as first:
        until(lambda: len(journal(tmp_path / "journal")) > 2)
        with _child(tmp_path) as second:
            time.sleep(1.0)  # it has begun, and waits
            assert {process for _, _, process in journal(tmp_path / "journal")} == {first.pid}
            first.kill()
            first.wait()
            until(lambda: second.pid in {process for _, _, process in journal(tmp_path / "journal")})
        numbers = [number for _, number, _ in journal(tmp_path / "journal")]
    assert numbers == sorted(numbers)


# ---- services that are killed


class Server:
    """A process that does jobs."""

    def __init__(self, place: Place, root: Path, *, lease: float) -> None:
        where = place.url if isinstance(place, DatabaseLocation) else str(place)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.job_server", where, str(root), str(lease)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        """Kill -9, to it alone."""
        with self.process:
            self.process.kill()

    def stop(self) -> None:
        """End it in order."""
        with self.process:  # closes its standard input, which is what it waits for
            pass


def test_a_service_that_is_killed_is_followed_by_another(tmp_path: Path) -> None:
    """The child ends by itself; the next service goes on from its checkpoint at once; there is one result."""
    place, root, log = tmp_path / "records.db", tmp_path / "jobs", tmp_path / "journal"
    with closing(SqlRecordStore(place)) as records:
        job_id = ask(records.jobs, 1, to=100, pause=0.02, journal=str(log))
    server = Server(place, root, lease=3_600.0)
    until(lambda: len(journal(log)) > 5)
    child = journal(log)[-1][2]

    server.kill()
    until(lambda: not is_alive(child))
    counted = len(journal(log))
    server = Server(place, root, lease=3_600.0)
    try:
        with closing(SqlRecordStore(place, readonly=True)) as records:
            until(lambda: found(records.jobs, job_id).is_finished)
            job = found(records.jobs, job_id)
    finally:
        server.stop()

    assert (job.state, job.attempts, job.file, job.summary) == ("succeeded", 2, "2/numbers.csv", b'{"counted":100}')
    second = [number for attempt, number, _ in journal(log) if attempt == 2]
    assert second[0] >= counted > 5
    assert second == list(range(second[0], 101))
    assert [path.name for path in (root / job_id).iterdir()] == ["2"]


@pytest.fixture
def database() -> Iterator[DatabaseLocation]:
    """An empty database with our tables."""
    with postgres_database() as location:
        yield location


@pytest.mark.slow
def test_two_services_never_do_a_job_at_once(database: DatabaseLocation, tmp_path: Path) -> None:
    """Many jobs, two services over one PostgreSQL: each number of each job is counted once, by one process."""
    root, log = tmp_path / "jobs", tmp_path / "journal"
    with closing(SqlRecordStore(database)) as records:
        asked = [ask(records.jobs, number, to=20, pause=0.005, journal=str(log)) for number in range(8)]
        servers = [Server(database, root, lease=30.0) for _ in range(2)]
        try:
            until(lambda: all(found(records.jobs, job_id).is_finished for job_id in asked))
        finally:
            for server in servers:
                server.stop()
        done = [found(records.jobs, job_id) for job_id in asked]

    assert {(job.state, job.attempts, job.token) for job in done} == {("succeeded", 1, 1)}
    assert all([line[1] for line in journal(log, job_id)] == list(range(1, 21)) for job_id in asked)
    assert all(len({line[2] for line in journal(log, job_id)}) == 1 for job_id in asked)


@pytest.mark.slow
def test_another_service_goes_on_once_the_lease_is_over(database: DatabaseLocation, tmp_path: Path) -> None:
    """Of one that was killed, and of one that hangs: when that wakes up, what it writes is refused."""
    root, log = tmp_path / "jobs", tmp_path / "journal"
    with closing(SqlRecordStore(database)) as records:
        job_id = ask(records.jobs, 1, to=200, pause=0.02, journal=str(log))
        killed = Server(database, root, lease=2.0)
        until(lambda: len(journal(log)) > 5)
        killed.kill()
        hanging = Server(database, root, lease=2.0)
        until(lambda: found(records.jobs, job_id).attempts == 2 and journal(log)[-1][0] == 2)
        hanging.process.send_signal(signal.SIGSTOP)
        os.kill(journal(log)[-1][2], signal.SIGKILL)  # its child would hear nothing for longer than tests wait
        last = Server(database, root, lease=2.0)
        try:
            until(lambda: found(records.jobs, job_id).attempts == 3)
            hanging.process.send_signal(signal.SIGCONT)
            until(lambda: found(records.jobs, job_id).is_finished)
            job = found(records.jobs, job_id)
            with pytest.raises(ClaimLost):
                records.jobs.keep(job_id, 2, JobProgress(), lease_us=1, now=0)
        finally:
            hanging.stop()
            last.stop()
        assert records.jobs.claim(claim(), now=0) is None

    assert (job.state, job.token, job.file) == ("succeeded", 3, "3/numbers.csv")
    assert sorted({number for _, number, _ in journal(log)}) == list(range(1, 201))
