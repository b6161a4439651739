"""The callers' page is followed to the letter: every block of shell, against a service as people run it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from features.home import Home
from models.jobs import Job, Succeeded
from models.record_store import SqlRecordStore, open_record_store
from tests.integration.serving.test_process import Service
from tests.job_records import claim, submission
from tests.pages import DOCS, Followed, assert_as_shown, calm_home, follow, steps_of

STEPS = steps_of((DOCS / "how-to" / "caller.md").read_text(encoding="utf-8"))
RESULT = "customer_id,action_id\nc-7,remind_next_step\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of the service that the page is followed against."""
    return calm_home(tmp_path_factory.mktemp("caller") / "home").create()


@pytest.fixture(scope="module")
def job(home: Home) -> Job:
    """A job of the page's source that has succeeded: which calls are answered with one is said elsewhere."""
    now = time.time_ns() // 1_000
    with closing(SqlRecordStore(home.records_db)) as records:
        asked = records.jobs.submit(submission(source="crm"), most_queued=1, now=now).job
        begun = records.jobs.claim(claim(), now=now)
        assert begun is not None
        file = home.jobs / asked.job_id / str(begun.token) / "out.csv"
        file.parent.mkdir(parents=True)
        file.write_text(RESULT)
        return records.jobs.end(asked.job_id, begun.token, Succeeded(b'{"rows":1}', f"{begun.token}/out.csv"), now=now)


@pytest.fixture(scope="module")
def followed(home: Home, job: Job) -> Iterator[list[Followed]]:
    """What came of each block, one after the other in one shell."""
    service = Service(home.root)
    try:
        service.wait_until_ready()
        yield follow(
            STEPS,
            home.root.parent,
            environment={"HEADWAY_HOME": str(home.root), "JOB": job.job_id},
            changes=[("http://127.0.0.1:3000", service.url)],
        )
    finally:
        service.kill()


def test_every_call_succeeds(followed: list[Followed]) -> None:
    """With a key of the role caller; only a job that is over cannot be cancelled."""
    failed = [(one.step.commands, one.statuses) for one in followed if set(one.statuses) - {200}]

    assert [statuses for _, statuses in failed] == [(200, 200, 409)], failed
    assert "/cancel" in failed[0][0]
    assert sum(len(one.statuses) for one in followed) == sum(one.step.commands.count("curl ") for one in followed)


@pytest.mark.parametrize("place", [place for place, step in enumerate(STEPS) if step.shown])
def test_answers_are_as_they_are_shown(followed: list[Followed], place: int) -> None:
    """Where the page shows one."""
    assert_as_shown(followed[place])


def test_the_page_leaves_behind_what_it_says(followed: list[Followed], home: Home) -> None:
    """One decision, made again the same, whose contact counts and whose outcome is known."""
    (read_back,) = [one for one in followed if "/explanation" in one.step.commands]
    stored, explained, replayed, _, found = read_back.values
    (told,) = [one for one in followed if "/v1/outcomes" in one.step.commands]
    with closing(open_record_store(home, readonly=True)) as records:
        (contact,) = records.customer("c-7", since=0, now=2**60).contacts

    assert stored["decision_id"] == explained["decision_id"] == found["decisions"][0]["decision_id"]
    assert (replayed["identical"], replayed["answer_identical"]) == (True, True)
    assert (told.values[0]["accepted"], told.values[0]["rejected"]) == (2, 0)
    assert (contact.status, contact.action_id) == ("confirmed", "remind_next_step")


def test_the_result_of_a_job_is_a_file(followed: list[Followed], home: Home) -> None:
    """Under the name that the service gives it, where the shell stands."""
    (written,) = home.root.parent.glob("*.csv")

    assert written.read_text() == RESULT
