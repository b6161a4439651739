"""Jobs: what every adapter of ``models.jobs.Jobs`` promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from features.errors import Conflict, Problem, UnknownObject
from features.sql_store import Place
from models.jobs import (
    MOST_ATTEMPTS,
    WORKER_LOST,
    ClaimLost,
    Failed,
    Job,
    JobError,
    JobOver,
    Jobs,
    PutBack,
    QueueFull,
    Succeeded,
)
from models.memory_jobs import MemoryJobs
from models.record_store import SqlRecordStore
from tests.job_records import ASKED_AT, LEASE_US, SECOND_US, claim, progress, submission

DONE = Succeeded(b'{"rows":2}', "1/out.csv")
BROKEN = JobError("InvalidInput", "the spec cannot be used", (Problem("to", "'x'", "a number"),))


@pytest.fixture
def jobs(place: Place | None) -> Iterator[Jobs]:
    """No jobs, in every adapter."""
    if place is None:
        yield MemoryJobs()
        return
    store = SqlRecordStore(place)
    yield store.jobs
    store.close()


def _ask(jobs: Jobs, *numbers: int, now: int = ASKED_AT) -> list[Job]:
    return [jobs.submit(submission(number), most_queued=99, now=now).job for number in numbers]


def _running(jobs: Jobs, *, now: int = ASKED_AT, **changes: object) -> Job:
    job = jobs.claim(claim(**changes), now=now)
    assert job is not None
    return job


def test_an_empty_store_answers(jobs: Jobs) -> None:
    """Nothing is known, and nothing fails."""
    assert jobs.job("j-1") is None
    assert jobs.spec("j-1") is None
    assert jobs.newest(rows=9) == []
    assert jobs.claim(claim(), now=ASKED_AT) is None
    assert jobs.take_over(now=ASKED_AT) == 0
    assert jobs.forget(kept_us=0, most=9, now=ASKED_AT) == []


def test_what_was_asked_for_waits(jobs: Jobs) -> None:
    """With all that was said, and nothing done."""
    (job,) = _ask(jobs, 1)
    asked = submission(1)

    assert jobs.job(job.job_id) == job
    assert jobs.spec(job.job_id) == asked.spec
    assert (job.kind, job.source, job.key_id, job.request_id) == ("count", "crm", "k-1", "r-1")
    assert (job.state, job.token, job.attempts, job.owner, job.is_finished) == ("queued", 0, 0, "", False)
    assert (job.started_at, job.finished_at, job.summary, job.file, job.error) == (None,) * 5


def test_the_same_request_gives_the_same_job(jobs: Jobs) -> None:
    """However far it has come; for another source it is another job."""
    (job,) = _ask(jobs, 1)
    running = _running(jobs)

    again = jobs.submit(submission(2, request_id="r-1", request_hash="h-1"), most_queued=0, now=ASKED_AT)
    other = jobs.submit(submission(3, request_id="r-1", source="web"), most_queued=9, now=ASKED_AT)

    assert (again.was_there_before, again.job) == (True, running)
    assert (other.was_there_before, other.job.job_id == job.job_id) == (False, False)


def test_a_request_id_is_not_used_twice(jobs: Jobs) -> None:
    """Another body under it is refused, naming it, and stores nothing."""
    _ask(jobs, 1)

    with pytest.raises(Conflict, match=r"request_id 'r-1' of source 'crm' was used for another job, expected the same"):
        jobs.submit(submission(2, request_id="r-1"), most_queued=9, now=ASKED_AT)

    assert len(jobs.newest(rows=9)) == 1


def test_the_queue_is_bounded(jobs: Jobs) -> None:
    """By what waits: what runs or is over takes no room."""
    _ask(jobs, 1, 2)
    with pytest.raises(QueueFull) as refused:
        jobs.submit(submission(3), most_queued=2, now=ASKED_AT)
    _running(jobs)

    assert refused.value.queued == 2
    assert not jobs.submit(submission(3), most_queued=2, now=ASKED_AT).was_there_before


def test_the_newest_come_first_a_page_at_a_time(jobs: Jobs) -> None:
    """Of everybody, or of one source."""
    asked = _ask(jobs, 1, 2, 3)
    other = jobs.submit(submission(4, source="web"), most_queued=9, now=ASKED_AT).job
    ids = [job.job_id for job in asked]

    assert [job.job_id for job in jobs.newest(rows=2)] == [other.job_id, ids[2]]
    assert [job.job_id for job in jobs.newest(rows=9, before=ids[2])] == [ids[1], ids[0]]
    assert [job.job_id for job in jobs.newest(rows=2, source="crm")] == [ids[2], ids[1]]
    assert [job.job_id for job in jobs.newest(rows=9, source="crm", before=ids[1])] == [ids[0]]
    assert jobs.newest(rows=9, source="nobody") == []


def test_what_was_asked_for_first_is_claimed_first(jobs: Jobs) -> None:
    """By one process each, until nothing waits."""
    asked = _ask(jobs, 1, 2)

    first, second = _running(jobs), _running(jobs, owner="w-2")

    assert [first.job_id, second.job_id] == [job.job_id for job in asked]
    assert jobs.claim(claim(), now=ASKED_AT) is None
    assert (first.state, first.owner, first.token, first.attempts) == ("running", "w-1", 1, 1)
    assert first.lease_until - first.heartbeat_at == LEASE_US
    assert first.started_at == first.heartbeat_at >= asked[0].created_at
    assert jobs.job(first.job_id) == first


def test_only_kinds_that_a_process_can_do_are_claimed(jobs: Jobs) -> None:
    """What a newer release was asked for waits for one."""
    jobs.submit(submission(1, kind="other"), most_queued=9, now=ASKED_AT)
    (known,) = _ask(jobs, 2)

    assert _running(jobs).job_id == known.job_id
    assert jobs.claim(claim(), now=ASKED_AT) is None


def test_a_heartbeat_tells_progress_and_keeps_the_lease(jobs: Jobs) -> None:
    """From its moment on."""
    _ask(jobs, 1)
    job = _running(jobs)

    jobs.keep(job.job_id, job.token, progress(4), lease_us=2 * LEASE_US, now=ASKED_AT + SECOND_US)

    found = jobs.job(job.job_id)
    assert found is not None
    assert found.progress == progress(4)
    assert found.heartbeat_at > job.heartbeat_at
    assert found.lease_until - found.heartbeat_at == 2 * LEASE_US


def test_a_job_succeeds(jobs: Jobs) -> None:
    """With its summary and the name of its file, and nobody has it any more."""
    _ask(jobs, 1)
    job = _running(jobs)

    done = jobs.end(job.job_id, job.token, DONE, now=ASKED_AT + SECOND_US)

    assert (done.state, done.summary, done.file, done.owner, done.error) == (
        *("succeeded", b'{"rows":2}', "1/out.csv"),
        *("", None),
    )
    assert done.finished_at is not None
    assert done.finished_at >= job.heartbeat_at
    assert jobs.job(job.job_id) == done


def test_a_job_fails_with_its_error(jobs: Jobs) -> None:
    """Bad fields included."""
    _ask(jobs, 1)
    job = _running(jobs)

    jobs.end(job.job_id, job.token, Failed(BROKEN), now=ASKED_AT)

    found = jobs.job(job.job_id)
    assert found is not None
    assert (found.state, found.error) == ("failed", BROKEN)


def test_a_job_that_is_put_back_waits_its_time(jobs: Jobs) -> None:
    """Then it is claimed with the next token; where the attempt was not to blame, it counts as none."""
    _ask(jobs, 1)
    first = _running(jobs)
    jobs.end(first.job_id, first.token, PutBack(3_600 * SECOND_US, BROKEN), now=ASKED_AT)
    assert jobs.claim(claim(), now=ASKED_AT + SECOND_US) is None

    _ask(jobs, 2)
    second = _running(jobs)
    put_back = jobs.end(second.job_id, second.token, PutBack(), now=ASKED_AT)
    again = _running(jobs, now=ASKED_AT + SECOND_US)

    assert (put_back.state, put_back.attempts, put_back.owner) == ("queued", 0, "")
    assert (again.job_id, again.token, again.attempts) == (second.job_id, 2, 1)
    assert again.started_at == second.started_at


def test_attempts_are_bounded(jobs: Jobs) -> None:
    """The last one that goes wrong ends the job with what went wrong."""
    _ask(jobs, 1)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        job = _running(jobs, now=ASKED_AT + attempt)
        assert job.attempts == attempt
        job = jobs.end(job.job_id, job.token, PutBack(0, BROKEN), now=ASKED_AT + attempt)

    assert (job.state, job.error) == ("failed", BROKEN)
    assert jobs.claim(claim(), now=ASKED_AT + 99) is None


def test_a_lease_that_is_over_is_claimed_by_another(jobs: Jobs) -> None:
    """Whoever had it can write nothing more."""
    _ask(jobs, 1)
    first = _running(jobs, lease_us=0)

    second = _running(jobs, owner="w-2", now=ASKED_AT + 1)

    assert (second.job_id, second.token, second.owner) == (first.job_id, first.token + 1, "w-2")
    _refused(jobs, first)
    assert jobs.job(second.job_id) == second


def test_a_job_that_ended_its_processes_fails_with_the_reason(jobs: Jobs) -> None:
    """After as many attempts as there are, and the next one that waits is claimed."""
    _ask(jobs, 1, 2)
    for attempt in range(MOST_ATTEMPTS):
        lost = _running(jobs, lease_us=0, now=ASKED_AT + attempt)

    job = _running(jobs, now=ASKED_AT + 9)

    found = jobs.job(lost.job_id)
    assert found is not None
    assert job.job_id != found.job_id
    assert found.state == "failed"
    assert found.error is not None
    assert (found.error.error, found.error.message[:22]) == (WORKER_LOST, "each of 3 attempts end")
    _refused(jobs, lost)


def test_what_is_cancelled_is_over_at_once(jobs: Jobs) -> None:
    """Waiting or running, and nobody can write to it; again it changes nothing."""
    waiting, _ = _ask(jobs, 1, 2)
    jobs.cancel(waiting.job_id, now=ASKED_AT)
    running = _running(jobs)

    over = jobs.cancel(running.job_id, now=ASKED_AT)

    assert (over.state, over.owner) == ("cancelled", "")
    _refused(jobs, running)
    assert jobs.cancel(running.job_id, now=ASKED_AT + SECOND_US) == over
    assert jobs.claim(claim(), now=ASKED_AT + LEASE_US) is None


def test_what_has_ended_is_not_cancelled(jobs: Jobs) -> None:
    """And what is not there is said."""
    _ask(jobs, 1)
    job = _running(jobs)
    done = jobs.end(job.job_id, job.token, DONE, now=ASKED_AT)

    with pytest.raises(JobOver, match="has succeeded; expected one that is queued or running"):
        jobs.cancel(job.job_id, now=ASKED_AT)
    with pytest.raises(UnknownObject, match="no job 'j-none'; expected"):
        jobs.cancel("j-none", now=ASKED_AT)

    assert jobs.job(job.job_id) == done


def test_what_runs_is_taken_over(jobs: Jobs) -> None:
    """By whoever knows that its processes are gone, before its lease is over; the last attempt was the last."""
    _ask(jobs, 1)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        spent = _running(jobs, lease_us=0 if attempt < MOST_ATTEMPTS else LEASE_US, now=ASKED_AT + attempt)
    _ask(jobs, 2)
    running = _running(jobs, now=ASKED_AT + 5)

    assert jobs.take_over(now=ASKED_AT + 6) == 2

    found, failed = jobs.job(running.job_id), jobs.job(spent.job_id)
    assert found is not None
    assert failed is not None
    assert (found.state, found.attempts, failed.state) == ("queued", 1, "failed")
    _refused(jobs, running)
    assert _running(jobs, now=ASKED_AT + 9).token == running.token + 1


def test_jobs_are_forgotten_once_they_are_over_for_long(jobs: Jobs) -> None:
    """The oldest first, so many at once; never one that is not over. A request id is free again then."""
    asked = _ask(jobs, 1, 2, 3)
    for _ in range(2):
        job = _running(jobs)
        jobs.end(job.job_id, job.token, DONE, now=ASKED_AT)
    later = ASKED_AT + SECOND_US

    assert jobs.forget(kept_us=3_600 * SECOND_US, most=9, now=later) == []
    assert jobs.forget(kept_us=-SECOND_US, most=1, now=later) == [asked[0].job_id]
    assert jobs.forget(kept_us=-SECOND_US, most=9, now=later) == [asked[1].job_id]

    assert jobs.spec(asked[0].job_id) is None
    assert [job.job_id for job in jobs.newest(rows=9)] == [asked[2].job_id]
    assert not jobs.submit(submission(1), most_queued=9, now=later).was_there_before
    with pytest.raises(ClaimLost):
        jobs.keep(asked[1].job_id, 1, progress(), lease_us=LEASE_US, now=later)


def _refused(jobs: Jobs, lost: Job) -> None:
    """No write of a claim that is lost changes anything."""
    before = jobs.job(lost.job_id)
    with pytest.raises(ClaimLost, match=f"claim {lost.token} of job {lost.job_id} is not the current one"):
        jobs.keep(lost.job_id, lost.token, progress(9), lease_us=LEASE_US, now=ASKED_AT)
    for ending in (DONE, Failed(BROKEN), PutBack()):
        with pytest.raises(ClaimLost):
            jobs.end(lost.job_id, lost.token, ending, now=ASKED_AT)
    assert jobs.job(lost.job_id) == before
