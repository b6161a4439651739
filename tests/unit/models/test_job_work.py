"""The command's side of a job: what it is given, what it says, and when it may not go on."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from features.errors import HomeLocked, Refused
from features.home import lock_file
from models.job_work import MOST_SUMMARY_BYTES, JobWork, job_work


class _Service:
    """What stands at the other end of the pipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read, self.write = os.pipe()
        self.said = io.BytesIO()
        self.has_ended = threading.Event()
        self.now = 0.0
        for name in ("checkpoints", "results"):
            (folder / name).mkdir()

    def told(self, **changes: Any) -> None:
        """Say what is to be done."""
        folders = {name: str(self.folder / name) for name in ("checkpoints", "results")}
        document = {"job": "j-1", "kind": "count", "attempt": 2, **folders, "spec": {"to": 3}}
        os.write(self.write, json.dumps(document | changes).encode() + b"\n")

    @contextmanager
    def work(self, **more: Any) -> Iterator[JobWork]:
        """The attempt."""
        options = {"silence_seconds": 60.0, "wait_seconds": 0.0} | more
        with job_work(
            source=self.read, target=self.said, end=self.has_ended.set, timer=lambda: self.now, **options
        ) as work:
            yield work

    def lines(self) -> list[Any]:
        """What was said until now."""
        return [json.loads(line) for line in self.said.getvalue().splitlines() if line]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[_Service]:
    """A service whose command was started, and that has not said anything yet."""
    umask = os.umask(0o077)
    service = _Service(tmp_path)
    yield service
    os.umask(umask)
    for descriptor in (service.read, service.write):
        os.close(descriptor)


def test_a_command_is_given_what_it_needs(service: _Service) -> None:
    """Its spec, its folders, and which attempt it is."""
    service.told()

    with service.work() as work:
        assert (work.job_id, work.kind, work.attempt, work.spec) == ("j-1", "count", 2, {"to": 3})
        assert (work.checkpoints, work.results) == (service.folder / "checkpoints", service.folder / "results")

    assert not service.has_ended.is_set()


def test_a_spec_that_fills_no_pipe_comes_whole(service: _Service) -> None:
    """However long it is, and whatever comes behind it."""
    long = "x" * 500_000
    telling = threading.Thread(target=lambda: service.told(spec={"long": long}))
    telling.start()

    with service.work() as work:
        assert work.spec == {"long": long}
    telling.join()


def test_progress_is_told_but_not_without_end(service: _Service) -> None:
    """Each step at once, and each end of one; in between once a second."""
    service.told()

    with service.work() as work:
        for number in range(1, 101):
            service.now += 0.1
            work.tell("counting", done=number, total=100)
        work.tell("writing")

    told = [(one["progress"]["step"], one["progress"]["done"]) for one in service.lines()]
    assert told[0] == ("counting", 1)
    assert told[-2:] == [("counting", 100), ("writing", 0)]
    assert 10 <= len(told) <= 13


def test_a_result_is_on_disk_when_it_is_named(service: _Service) -> None:
    """For its owner only."""
    service.told()

    with service.work() as work:
        (work.results / "out.csv").write_text("a")
        (work.results / "out.csv").chmod(0o644)
        work.finish({"rows": 1}, file="out.csv")
        work.finish({"rows": 0})

    assert service.lines() == [{"result": {"rows": 1}, "file": "out.csv"}, {"result": {"rows": 0}, "file": None}]
    assert (service.folder / "results" / "out.csv").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_there_is_no_result(service: _Service) -> None:
    """Nor is a link, and nothing is said."""
    service.told()
    (service.folder / "results" / "link.csv").symlink_to("/etc/hosts")

    with service.work() as work:
        for name in ("none.csv", "link.csv"):
            with pytest.raises(OSError, match=name):
                work.finish({}, file=name)
        with pytest.raises(Refused, match="characters of JSON; expected at most"):
            work.finish({"long": "x" * MOST_SUMMARY_BYTES})

    assert service.lines() == []


def test_a_command_ends_with_its_service(service: _Service) -> None:
    """As soon as its standard input does."""
    service.told()

    with service.work():
        os.close(service.write)
        assert service.has_ended.wait(30)
    service.write = os.dup(service.read)


def test_a_command_that_hears_nothing_ends(service: _Service) -> None:
    """After so long."""
    service.told()

    with service.work(silence_seconds=0.01):
        assert service.has_ended.wait(30)


def test_a_folder_that_another_attempt_has_is_waited_for(service: _Service) -> None:
    """Then it says who has it."""
    service.told()

    with (
        lock_file(service.folder / "checkpoints", command="another attempt"),
        pytest.raises(HomeLocked, match="another attempt"),
        service.work(),
    ):
        pass


@pytest.mark.parametrize("said", [b"\n", b"no JSON\n"])
def test_a_command_that_nobody_told_what_to_do_says_so(service: _Service, said: bytes) -> None:
    """And where jobs come from."""
    os.write(service.write, said)

    with pytest.raises(Refused, match=r"standard input holds no job .*ask for jobs by its HTTP API"), service.work():
        pass


def test_a_command_that_somebody_types_says_so() -> None:
    """Instead of waiting for a line."""
    terminal, other = os.openpty()
    try:
        with pytest.raises(Refused, match="standard input is a terminal"), job_work(source=other):
            pass
    finally:
        os.close(terminal)
        os.close(other)
