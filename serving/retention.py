"""Old decisions, raw texts and finished jobs go when their time is over, in steps so small that nobody waits long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from features.errors import HomeLocked, StoreError
from features.event_log import EventLog
from features.home import lock_file
from models.jobs import Jobs
from models.records import RecordStore
from serving.job_files import JobFiles
from serving.telemetry import log_event

PAUSE_SECONDS: Final = 3_600.0
"""How often is looked for what has been kept for long enough."""

TAKEOVER_SECONDS: Final = 60.0
"""How soon another process goes on with what one did that has ended."""

BATCH: Final = 100
"""Decisions or jobs in one transaction: what a commit may have to wait for."""

_DAY_US: Final = 86_400_000_000

BETWEEN_SECONDS: Final = 0.05
"""Between two batches, so that deleting takes a small share of the writer."""


async def in_one_process(
    path: Path, work: Callable[[], Awaitable[object]], *, pause_seconds: float = TAKEOVER_SECONDS
) -> None:
    """Do ``work`` in one of the processes of a home: in another one where that one ends.

    Args:
        path: what stands for the work; its lock says who does it.
        work: goes on until it is cancelled.
        pause_seconds: between two looks at whether nobody does it.
    """
    while True:
        try:
            lock = lock_file(path)
        except (HomeLocked, StoreError):  # another process has it; or a folder that is full, which is said elsewhere
            await asyncio.sleep(pause_seconds)
            continue
        with lock:
            await work()


async def forget_decisions(
    records: RecordStore,
    clock: Callable[[], int],
    kept_for: Callable[[], int | None],
    *,
    pause_seconds: float = PAUSE_SECONDS,
    between_seconds: float = BETWEEN_SECONDS,
) -> None:
    """Delete decisions once their time is over, for good; a store that does not answer is asked again an hour later.

    Args:
        records: the record store.
        clock: now, microseconds since the epoch.
        kept_for: how long decisions are kept, by the policy that holds now; None for ever.
        pause_seconds: between two rounds.
        between_seconds: between two batches of a round.
    """
    while True:
        if (kept := kept_for()) is not None:
            await _forget_round(records, clock() - kept, between_seconds)
        await asyncio.sleep(pause_seconds)


async def _forget_round(records: RecordStore, decided_before: int, between_seconds: float) -> None:
    forgotten, gone = 0, BATCH
    try:
        while gone == BATCH:
            gone = await asyncio.to_thread(records.forget_decisions, decided_before=decided_before, most=BATCH)
            forgotten += gone
            await asyncio.sleep(between_seconds)
    except StoreError as error:
        log_event("decisions_not_forgotten", error=error)
    if forgotten:
        log_event("decisions_forgotten", decisions=forgotten)


async def forget_jobs(
    jobs: Jobs, files: JobFiles, clock: Callable[[], int], kept_days: int, *, pause_seconds: float = PAUSE_SECONDS
) -> None:
    """Delete finished jobs with their files once their time is over, and what killed processes left of others."""
    while True:
        try:
            forgotten = await asyncio.to_thread(_forgotten_jobs, jobs, files, clock(), kept_days)
        except (StoreError, OSError) as error:
            log_event("jobs_not_forgotten", error=error)
        else:
            if forgotten:
                log_event("jobs_forgotten", jobs=forgotten)
        await asyncio.sleep(pause_seconds)


def _forgotten_jobs(jobs: Jobs, files: JobFiles, now: int, kept_days: int) -> int:
    """How many jobs were deleted. Rows go first: a file that is left behind is swept, a row would promise one."""
    forgotten, gone = 0, [""]
    while gone:
        gone = jobs.forget(kept_us=kept_days * _DAY_US, most=BATCH, now=now)
        forgotten += len(gone)
    files.sweep(jobs.job)
    return forgotten


async def forget_texts(
    log: EventLog, clock: Callable[[], int], kept_for: int, *, pause_seconds: float = PAUSE_SECONDS
) -> None:
    """Forget raw texts once their time is over; a log that does not answer is asked again an hour later."""
    while True:
        try:
            forgotten = await asyncio.to_thread(log.forget_texts, arrived_before=clock() - kept_for)
        except StoreError as error:
            log_event("texts_not_forgotten", error=error)
        else:
            if forgotten:
                log_event("texts_forgotten", texts=forgotten)
        await asyncio.sleep(pause_seconds)
