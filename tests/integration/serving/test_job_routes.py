"""The calls on durable jobs: looked at, listed, cancelled, fetched; and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.errors import Conflict, Problem
from models.jobs import Failed, Job, JobError, JobProgress, PutBack, Succeeded
from serving.auth import Principal
from serving.job_views import problem_of
from serving.jobs import JobDesk
from serving.problems import TooManyRequests
from serving.runtime import Runtime
from serving.settings import Settings
from tests.doors import BOOTSTRAP, Client, World
from tests.job_records import KIND, claim

CRM = Principal("k-crm", "crm", frozenset(("marketer",)))
WEB = Principal("k-web", "web", frozenset(("marketer",)))
DAY_US = 86_400_000_000


class Desk:
    """An installation in memory, a client of it, and its jobs behind the routes."""

    def __init__(self, world: World, client: Client, runtime: Runtime) -> None:
        self.world, self.client = world, client
        self.desk: JobDesk = runtime.jobs

    def ask(self, principal: Principal = CRM, **spec: Any) -> str:
        """The id of a new job."""
        self.world.now += 1_000
        return self.desk.submit(KIND, spec, principal).job.job_id

    def begun(self) -> Job:
        """The job that is begun next."""
        job = self.world.jobs.claim(claim(), now=self.world.now)
        assert job is not None
        return job

    def done(self, text: str = "a,b\n", *, name: str = "out.csv") -> Job:
        """A job of the source crm that has succeeded, with a file."""
        self.ask()
        job = self.begun()
        folder = self.world.home.jobs / job.job_id / str(job.token)
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        ending = Succeeded(b'{"rows":2}', f"{job.token}/{name}")
        return self.world.jobs.end(job.job_id, job.token, ending, now=self.world.now)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """No jobs; two may wait."""
    world = World(tmp_path, settings=Settings(bootstrap_key=BOOTSTRAP, threads=2, most_queued_jobs=2))
    kept: list[Runtime] = []
    with world.client(keep=kept.append) as client:
        yield Desk(world, client, kept[0])


def test_a_job_is_told_from_its_beginning_to_its_end(desk: Desk) -> None:
    """State, progress, times, result and links."""
    job_id = desk.ask()
    path = f"/v1/jobs/{job_id}"
    waiting = desk.client.get(path).json()
    desk.world.now += 5_000_000
    job = desk.begun()
    desk.world.jobs.keep(job_id, job.token, JobProgress("ranking", 3, 9), lease_us=1, now=desk.world.now)
    running = desk.client.get(path).json()
    desk.world.jobs.end(job_id, job.token, Succeeded(b'{"rows":2}', "1/out.csv"), now=desk.world.now + 1_000_000)
    done = desk.client.get(path).json()

    assert (waiting["state"], waiting["attempts"], waiting["kind"], waiting["source"]) == ("queued", 0, KIND, "crm")
    assert waiting["progress"] == {"step": "", "done": 0, "total": None}
    assert waiting["links"] == {"self": path, "cancel": f"{path}/cancel", "result": None}
    assert [waiting[name] for name in ("started_at", "heartbeat_at", "finished_at", "kept_until", "result")] == [
        None
    ] * 5
    assert (running["state"], running["progress"]) == ("running", {"step": "ranking", "done": 3, "total": 9})
    assert running["started_at"] == running["heartbeat_at"] == "2026-03-01T12:00:05.001000Z"
    assert (done["state"], done["result"], done["error"]) == ("succeeded", {"rows": 2}, None)
    assert done["links"] == {"self": path, "cancel": None, "result": f"{path}/result"}
    assert (done["finished_at"], done["kept_until"]) == ("2026-03-01T12:00:06.001000Z", "2026-03-08T12:00:06.001000Z")


def test_the_result_is_fetched_as_it_is(desk: Desk) -> None:
    """With its type and name, as often as it is asked for."""
    text = "customer_id,rank\n" + "c-1,1\n" * 100_000
    job = desk.done(text)

    for _ in range(2):
        answer = desk.client.get(f"/v1/jobs/{job.job_id}/result")
        assert answer.status_code == 200
        assert answer.text == text
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-length"] == str(len(text))
        assert answer.headers["content-disposition"] == f'attachment; filename="count-{job.job_id}.csv"'


@pytest.mark.parametrize(
    ("name", "kind"), [("a.parquet", "application/vnd.apache.parquet"), ("a.json", "application/json")]
)
def test_its_type_is_told_by_its_ending(desk: Desk, name: str, kind: str) -> None:
    """As tools expect it."""
    job = desk.done("{}", name=name)

    assert desk.client.get(f"/v1/jobs/{job.job_id}/result").headers["content-type"] == kind


def test_a_job_without_a_result_says_why(desk: Desk) -> None:
    """Not yet, or never."""

    def refused(job_id: str) -> str:
        answer = desk.client.get(f"/v1/jobs/{job_id}/result")
        assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/no-result")
        detail: str = answer.json()["detail"]
        return detail

    job_id = desk.ask()
    assert "which is queued" in refused(job_id)
    job = desk.begun()
    assert "which is running" in refused(job_id)
    desk.world.jobs.end(job_id, job.token, Succeeded(b"{}"), now=desk.world.now)
    assert "whose kind leaves no file" in refused(job_id)
    cancelled = desk.ask()
    desk.client.post(f"/v1/jobs/{cancelled}/cancel", {})
    assert "which is cancelled" in refused(cancelled)


def test_a_result_that_is_gone_is_said_to_be(desk: Desk) -> None:
    """As after a restore, which has no files of jobs."""
    job = desk.done()
    (desk.world.home.jobs / job.job_id / str(job.file)).unlink()

    answer = desk.client.get(f"/v1/jobs/{job.job_id}/result")

    assert (answer.status_code, answer.json()["type"]) == (410, "/docs/problems/result-gone")


def test_a_job_is_cancelled_once_and_for_all(desk: Desk) -> None:
    """Again it is the same answer; what has ended is not cancelled."""
    job_id = desk.ask()
    path = f"/v1/jobs/{job_id}/cancel"

    first, again = desk.client.post(path, b""), desk.client.post(path, {})

    assert first.json() == again.json() == desk.client.get(f"/v1/jobs/{job_id}").json()
    assert (first.json()["state"], first.json()["links"]["cancel"]) == ("cancelled", None)
    over = desk.client.post(f"/v1/jobs/{desk.done().job_id}/cancel", {})
    assert (over.status_code, over.json()["type"]) == (409, "/docs/problems/job-over")
    assert desk.client.post(path, {"why": 1}).status_code == 422


def test_a_failed_job_says_why(desk: Desk) -> None:
    """As the problem that a call would have answered, every bad field included."""
    job_id = desk.ask()
    job = desk.begun()
    error = JobError("InvalidInput", "the spec cannot be used", (Problem("spec.to", "'x'", "a number"),))
    desk.world.jobs.end(job_id, job.token, Failed(error), now=desk.world.now)

    told = desk.client.get(f"/v1/jobs/{job_id}").json()

    assert (told["state"], told["result"]) == ("failed", None)
    assert (told["error"]["type"], told["error"]["status"]) == ("/docs/problems/invalid-input", 422)
    assert told["error"]["errors"] == [{"pointer": "/spec/to", "value": "'x'", "expected": "a number"}]


@pytest.mark.parametrize(
    ("error", "slug", "status"),
    [
        ("ConfigurationError", "invalid-input", 422),
        ("Refused", "invalid-input", 422),
        ("UnknownObject", "not-found", 404),
        ("NotEnoughData", "not-enough-data", 409),
        ("StoreUnavailable", "unavailable", 503),
        ("HomeLocked", "unavailable", 503),
        ("WorkerLost", "internal-error", 500),
        ("SomethingNew", "internal-error", 500),
    ],
)
def test_every_error_is_a_problem(error: str, slug: str, status: int) -> None:
    """Of a known type, with its own words; those of a store name its place, and are for the operator."""
    told = problem_of(JobError(error, "what and why"))

    assert (told.type, told.status) == (f"/docs/problems/{slug}", status)
    assert (told.detail == "what and why") == (slug != "unavailable")


def test_jobs_are_listed_a_page_at_a_time(desk: Desk) -> None:
    """Newest first; what is asked for meanwhile moves no page."""
    asked = [desk.done().job_id for _ in range(5)][::-1]

    page = desk.client.get("/v1/jobs?limit=2").json()
    desk.ask()
    second = desk.client.get(f"/v1/jobs?limit=2&cursor={page['next_cursor']}").json()
    third = desk.client.get(f"/v1/jobs?limit=2&cursor={second['next_cursor']}").json()

    assert [[one["job_id"] for one in each["jobs"]] for each in (page, second, third)] == [
        *(asked[:2], asked[2:4], asked[4:])
    ]
    assert third["next_cursor"] is None


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=x", "state=queued", "limit=1&limit=2"])
def test_a_bad_query_is_refused_by_name(desk: Desk, query: str) -> None:
    """And a cursor of another query."""
    answer = desk.client.get(f"/v1/jobs?{query}")

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/?{query.partition('=')[0]}"


def test_whose_jobs_a_role_sees(desk: Desk) -> None:
    """Its own source's, or everybody's; another's is not told from one that does not exist, whatever is asked of it.

    Whoever sees everybody's sees how they stand; only admins cancel them, and fetch what was made for others' eyes.
    """
    own, other = desk.ask(CRM), desk.ask(WEB)
    keys = {role: desk.world.key("crm", role) for role in ("caller", "marketer", "analyst", "admin")}

    for role, key in keys.items():
        sees_all = role in ("analyst", "admin")
        listed = [one["job_id"] for one in desk.client.get("/v1/jobs", key=key).json()["jobs"]]
        assert listed == ([other, own] if sees_all else [own])
        assert desk.client.get(f"/v1/jobs/{own}", key=key).status_code == 200
        for call in ("", "/result", "/cancel"):
            method = "POST" if call == "/cancel" else "GET"
            told = desk.client.other(method, f"/v1/jobs/{other}{call}", key=key)
            unknown = desk.client.other(method, f"/v1/jobs/j-none{call}", key=key)
            assert unknown.status_code == 404
            if not sees_all:
                assert told.status_code == 404
                assert told.text.replace(other, "j-none") == unknown.text
            elif role == "analyst" and call:
                assert told.status_code == 403
                assert "source web" in told.json()["detail"]
        assert desk.client.get("/v1/jobs?source=web", key=key).status_code == (200 if sees_all else 403)
    assert desk.client.get(f"/v1/jobs/{other}").json()["state"] == "cancelled"  # by who may see it


def test_the_same_request_is_one_job(desk: Desk) -> None:
    """Whatever the order of its fields; another body under the request id is a conflict, as of decisions."""
    first = desk.desk.submit(KIND, {"a": 1, "b": 2}, CRM, request_id="r-1")
    again = desk.desk.submit(KIND, {"b": 2, "a": 1}, CRM, request_id="r-1")

    assert (first.was_there_before, again.was_there_before) == (False, True)
    assert again.job == first.job
    for kind, spec in ((KIND, {"a": 1}), ("other", {"a": 1, "b": 2})):
        with pytest.raises(Conflict, match="request_id 'r-1' of source 'crm'"):
            desk.desk.submit(kind, spec, CRM, request_id="r-1")
    assert not desk.desk.submit(KIND, {}, WEB, request_id="r-1").was_there_before


def test_a_full_queue_says_when_to_come_back(desk: Desk) -> None:
    """It is refused before it is stored; what is there already is told all the same."""
    desk.desk.submit(KIND, {}, CRM, request_id="r-1")
    desk.ask()

    with pytest.raises(TooManyRequests, match="2 jobs are waiting, expected less than 2") as refused:
        desk.ask()

    assert refused.value.retry_after == 60
    assert desk.desk.submit(KIND, {}, CRM, request_id="r-1").was_there_before
    assert len(desk.world.jobs.newest(rows=9)) == 2


def test_what_is_put_back_is_shown_as_waiting(desk: Desk) -> None:
    """With the attempts that it took."""
    job_id = desk.ask()
    job = desk.begun()
    desk.world.jobs.end(job_id, job.token, PutBack(DAY_US, JobError("CommandFailed", "signal 9")), now=desk.world.now)

    told = desk.client.get(f"/v1/jobs/{job_id}").json()

    assert (told["state"], told["attempts"], told["error"]) == ("queued", 1, None)


def test_whoever_does_jobs_is_woken(tmp_path: Path) -> None:
    """For a new one, and for one that is cancelled."""
    world, woken = World(tmp_path), []
    with world.client(keep=lambda runtime: woken.append(runtime)):
        desk: JobDesk = woken.pop().jobs
    desk._wake = lambda: woken.append(1)
    admin = replace(CRM, roles=frozenset(("admin",)))

    job = desk.submit(KIND, {}, CRM).job
    desk.cancel(job.job_id, admin)

    assert woken == [1, 1]
