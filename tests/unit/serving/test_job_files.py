"""Folders of jobs: of an attempt alone, tidied behind it, and swept where a process was killed before it did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from features.errors import StoreUnavailable
from models.jobs import Job, submitted
from serving.job_files import JobFiles
from tests.job_records import ASKED_AT, submission

JOB = replace(submitted(submission(1), now=ASKED_AT), state="running", token=2, attempts=1)
DONE = replace(JOB, state="succeeded", file="2/out.csv")


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    """No folder yet."""
    return JobFiles(tmp_path / "jobs")


def _worked(files: JobFiles, job: Job = JOB) -> Path:
    """The folder of a job whose attempt has left a checkpoint and a result."""
    folders = files.prepared(job)
    (folders.checkpoints / "half.json").write_text("1")
    folders.checkpoints.with_name("checkpoints.lock").touch()
    (folders.results / "out.csv").write_text("a")
    return folders.results.parent


def test_an_attempt_finds_the_checkpoints_of_the_one_before(files: JobFiles) -> None:
    """And a folder for its results that is its own."""
    _worked(files)

    again = files.prepared(replace(JOB, token=3))

    assert (again.checkpoints / "half.json").read_text() == "1"
    assert list(again.results.iterdir()) == []
    assert [path.stat().st_mode & 0o777 for path in (again.checkpoints, again.results)] == [0o700, 0o700]


@pytest.mark.parametrize(
    "name", ["other.csv", "../2/out.csv", "out.exe", "", ".csv", "out.csv/", "folder.csv", "l.csv"]
)
def test_only_a_file_that_an_attempt_left_is_its_result(files: JobFiles, name: str) -> None:
    """In its own folder, of a known type, and no link."""
    folder = _worked(files) / "2"
    (folder / "folder.csv").mkdir()
    (folder / "out.exe").touch()
    (folder / "l.csv").symlink_to(folder / "out.csv")

    assert files.result_of(JOB, name) is None
    assert files.result_of(JOB, "out.csv") == "2/out.csv"
    assert files.result_of(replace(JOB, token=3), "out.csv") is None


def test_of_a_job_that_is_done_its_result_stays(files: JobFiles) -> None:
    """What attempts that had lost it left goes too."""
    folder = _worked(files)
    _worked(files, replace(JOB, token=1))

    files.tidy(DONE)

    assert [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))] == ["2", "2/out.csv"]
    with files.open(DONE) as file:  # type: ignore[union-attr]  # it is there
        assert file.read() == b"a"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_of_any_other_nothing_stays(files: JobFiles, state: str) -> None:
    """Nor of one whose result was lost."""
    folder = _worked(files)

    files.tidy(replace(JOB, state=state, file=None))

    assert not folder.exists()
    assert files.open(DONE) is None
    assert files.open(JOB) is None


def test_what_killed_processes_left_is_swept(files: JobFiles, tmp_path: Path) -> None:
    """Of jobs that are over or gone; one that waits or runs keeps all of it, and what is not a job's is left alone."""
    names = [submission(number).job_id for number in (1, 2, 3)]
    folders = [_worked(files, replace(JOB, job_id=name)) for name in names]
    (tmp_path / "jobs" / "lost+found").mkdir()
    known = {names[0]: replace(JOB, job_id=names[0]), names[1]: replace(DONE, job_id=names[1])}

    assert files.sweep(known.get) == 1

    assert sorted(path.name for path in folders[0].iterdir()) == ["2", "checkpoints", "checkpoints.lock"]
    assert [path.name for path in folders[1].iterdir()] == ["2"]
    assert not folders[2].exists()
    assert (tmp_path / "jobs" / "lost+found").is_dir()


def test_nothing_is_swept_where_there_was_never_a_job(files: JobFiles) -> None:
    """No folder is made for it."""
    assert files.sweep(lambda _: None) == 0


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """By its name."""
    (tmp_path / "jobs").write_text("in the way")

    with pytest.raises(StoreUnavailable, match=r"cannot make .*jobs.*expected a home with room"):
        JobFiles(tmp_path / "jobs").prepared(JOB)
