"""The folders of durable jobs in the home: what attempts leave for the next one, and what a job came to.

``state/jobs/<job id>/checkpoints`` is the same for all attempts of a job; ``<job id>/<token>`` is of the one attempt
that had the token, and so an attempt that has lost its job cannot touch the result of another. Which of them holds the
result says the job's own row. All of it is for its owner only, and in no backup: a job can be done again.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from features.errors import StoreUnavailable
from models.ids import is_job_id
from models.jobs import Job

MEDIA_TYPES: Final = {
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
}
"""Of results, by their endings."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True, slots=True)
class AttemptFolders:
    """Where an attempt works, and where it leaves its result."""

    checkpoints: Path
    results: Path


class JobFiles:
    """The folders of the jobs of one home.

    Args:
        root: the folder of all jobs; made when it is needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepared(self, job: Job) -> AttemptFolders:
        """The folders of a job that was claimed, there and the results empty.

        Raises:
            StoreUnavailable: they cannot be made.
        """
        folder = self._root / job.job_id
        folders = AttemptFolders(folder / _CHECKPOINTS, folder / str(job.token))
        try:
            for path in (self._root, folder, *(folders.checkpoints, folders.results)):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot make {error.filename}: {error.strerror}; expected a home with room"
            ) from error
        return folders

    def result_of(self, job: Job, name: str) -> str | None:
        """The name below the job's folder of what an attempt left as its result; None where there is no such file."""
        if not _NAME.fullmatch(name) or Path(name).suffix not in MEDIA_TYPES:
            return None
        relative = f"{job.token}/{name}"
        try:
            found = (self._root / job.job_id / relative).lstat()
        except OSError:
            return None
        return relative if stat.S_ISREG(found.st_mode) else None

    def open(self, job: Job) -> BinaryIO | None:
        """The result of a job, open to read; None where it is not here, or not any more."""
        if job.file is None:
            return None
        try:
            descriptor = os.open(self._root / job.job_id / job.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"cannot read the result of {job.job_id}: {error.strerror}") from error
        return os.fdopen(descriptor, "rb")

    def tidy(self, job: Job) -> None:
        """Remove what a job that has ended does not need: all but its result."""
        kept = None if job.file is None else job.file.partition("/")[0]
        folder = self._root / job.job_id
        if kept is None or not (folder / kept).is_dir():
            self.remove(job.job_id)
            return
        with suppress(FileNotFoundError):  # another process may be at it
            for path in folder.iterdir():
                if path.name != kept:
                    _remove(path)

    def remove(self, job_id: str) -> None:
        """Remove all that there is of a job."""
        _remove(self._root / job_id)

    def sweep(self, job_of: Callable[[str], Job | None]) -> int:
        """Remove what was left by jobs that are over or gone: a process may have been killed before it did.

        Args:
            job_of: a job by its id; None for one that is gone.

        Returns:
            How many folders of gone jobs were removed.
        """
        gone = 0
        for job_id in self._ids():
            job = job_of(job_id)
            if job is None:
                self.remove(job_id)
                gone += 1
            elif job.is_finished:
                self.tidy(job)
        return gone

    def _ids(self) -> Iterator[str]:
        if self._root.is_dir():
            yield from (path.name for path in sorted(self._root.iterdir()) if is_job_id(path.name))


def media_type(file: str) -> str:
    """The media type of a result by its name."""
    return MEDIA_TYPES[Path(file).suffix]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
