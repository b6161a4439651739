"""A process that does jobs of a store as the service does, without all else that the service has; for killing it.

``python -m tests.faults.job_server PLACE HOME LEASE_SECONDS`` says `ready`, and goes on until its standard input ends.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from features.database_location import DatabaseLocation
from features.sql_store import Place
from models.job_work import SILENCE_SECONDS
from models.jobs import Jobs
from models.record_store import SqlRecordStore
from serving.job_files import JobFiles
from serving.job_kinds import JobKind
from serving.job_runner import JobPace, JobRunner
from tests.job_records import KIND

COUNTING: Final = (sys.executable, "-m", "tests.faults.counting_job")


def quick_pace(lease: float = SILENCE_SECONDS) -> JobPace:
    """Beats for tests, which must not wait."""
    return JobPace(beat=0.05, lease=lease, slow=1.0, poll=0.05, ending=1.0, again=0.0)


def job_runner(
    jobs: Jobs, root: Path, *, is_alone: bool, lease: float = SILENCE_SECONDS, seconds: float = 60.0
) -> JobRunner:
    """What does jobs in the folder ``root``, each attempt for so many seconds at most."""
    return JobRunner(
        jobs=jobs,
        files=JobFiles(root),
        kinds=[JobKind(name=KIND, words=(), seconds=seconds)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        clock=lambda: time.time_ns() // 1_000,
        is_alone=is_alone,
        command=COUNTING,
        pace=quick_pace(lease),
    )


def main(place: str, root: str, lease: str) -> None:
    """Do jobs."""
    where: Place = DatabaseLocation.of(place) if "://" in place else Path(place)
    with closing(SqlRecordStore(where)) as records:
        runner = job_runner(records.jobs, Path(root), is_alone=isinstance(where, Path), lease=float(lease))
        runner.start()
        print("ready", flush=True)
        sys.stdin.read()
        runner.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
