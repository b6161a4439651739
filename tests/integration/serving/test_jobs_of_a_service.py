"""A job of the service as people run it, killed in the middle and started again: one result, fetched over HTTP."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.home import Home
from models.record_store import SqlRecordStore
from tests.faults.counting_job import journal
from tests.faults.processes import is_alive, until
from tests.integration.serving.test_process import Service, _descendants
from tests.job_records import KIND, submission

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
_REGISTERED = f"""
import serving.job_kinds
serving.job_kinds.KINDS = (serving.job_kinds.JobKind(name={KIND!r}, words=("count-job",), seconds=600.0),)
"""
_METADATA = "Metadata-Version: 2.1\nName: counting\nVersion: 1\n"
_COMMAND = "[headway.commands]\ncount-job = tests.faults.counting_job:count_job\n"


@pytest.fixture
def kinds(tmp_path: Path) -> str:
    """A path of imports with one more kind of job, and one more command of the console script."""
    folder = tmp_path / "kinds"
    (folder / "counting-1.dist-info").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(_REGISTERED)
    (folder / "counting-1.dist-info" / "METADATA").write_text(_METADATA)
    (folder / "counting-1.dist-info" / "entry_points.txt").write_text(_COMMAND)
    return os.pathsep.join([str(folder), str(ROOT)])


def test_a_job_survives_its_service(tmp_path: Path, kinds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides is never what counts, and of a service that was killed nothing goes on."""
    monkeypatch.setenv("PYTHONPATH", kinds)
    home, log = Home(tmp_path / "home").create(), tmp_path / "journal"
    spec = msgspec.json.encode({"to": 300, "pause": 0.02, "journal": str(log)})
    with closing(SqlRecordStore(home.records_db)) as records:
        now = time.time_ns() // 1_000
        job_id = records.jobs.submit(submission(spec=spec), most_queued=1, now=now).job.job_id
    path = f"/v1/jobs/{job_id}"
    service = Service(home.root)
    try:
        service.wait_until_ready()
        until(lambda: _told(service, path)["progress"]["done"] > 5)
        child = journal(log)[-1][2]
        others = {service.process.pid, *_descendants(service.process.pid)} - {child}
        assert child not in others
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(child))
    finally:
        service.kill()
    counted = len(journal(log))
    service = Service(home.root)
    try:
        service.wait_until_ready()
        until(lambda: _told(service, path)["state"] == "succeeded")
        told, result = _told(service, path), service.get(f"{path}/result")
        stopped = service.stop()
    finally:
        service.kill()

    assert (told["attempts"], told["result"]) == (2, {"counted": 300})
    assert result.status_code == 200
    assert result.headers["content-type"] == "text/csv; charset=utf-8"
    assert result.text == "".join(f"{number}\n" for number in range(1, 301))
    second = [number for attempt, number, _ in journal(log) if attempt == 2]
    assert second == list(range(second[0], 301))
    assert second[0] >= counted
    assert stopped == 0


def _told(service: Service, path: str) -> dict[str, Any]:
    answer = service.get(path)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told
