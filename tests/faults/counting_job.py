"""A command of a job kind that counts: slowly, from its checkpoint on, and with whatever fault its spec asks for.

Each number goes into a journal, so that a test sees who counted what, and when.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from features.cli import error_document
from features.errors import HeadwayError, HomeLocked, InvalidInput, NotEnoughData, Problem, StoreUnavailable
from features.whole_files import whole_file
from models.job_work import JobWork, job_work

ERRORS: dict[str, HeadwayError] = {
    "invalid": InvalidInput("the spec cannot be used", [Problem("to", "'x'", "a number")]),
    "little": NotEnoughData("there is nothing to count"),
    "store": StoreUnavailable("the store does not answer"),
    "locked": HomeLocked("another process writes it"),
}


def count(work: JobWork, spec: dict[str, Any]) -> None:
    """Count to ``to``; the result is a file with every number."""
    checkpoint = work.checkpoints / "count.json"
    counted: list[int] = json.loads(checkpoint.read_text()) if checkpoint.exists() else []
    if spec.get("fault") in ERRORS and work.attempt <= spec.get("until_attempt", 1):
        raise ERRORS[spec["fault"]]
    for number in range(len(counted) + 1, spec["to"] + 1):
        if spec.get("die_at") == number and work.attempt <= spec.get("until_attempt", 1):
            os.kill(os.getpid(), signal.SIGKILL)
        work.tell("counting", done=number, total=spec["to"])
        time.sleep(spec.get("pause", 0.0))
        counted.append(number)
        _note(spec, work, number)
        with whole_file(checkpoint) as partial:
            partial.write_text(json.dumps(counted))
    if spec.get("fault") == "silent":
        return
    (work.results / "numbers.csv").write_text("".join(f"{number}\n" for number in counted))
    work.finish({"counted": len(counted)}, file=spec.get("file", "numbers.csv"))


def _note(spec: dict[str, Any], work: JobWork, number: int) -> None:
    if "journal" in spec:
        line = f"{work.job_id} {work.attempt} {number} {os.getpid()} {time.monotonic_ns()}\n"
        descriptor = os.open(spec["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def journal(path: Path, job_id: str | None = None) -> list[tuple[int, int, int]]:
    """Attempt, number and process of each line of a journal, of one job or of all."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(one[1]), int(one[2]), int(one[3])) for one in lines if job_id in (None, one[0])]


def count_job() -> None:
    """Count, as a command of the console script."""
    silence = os.environ.get("HEADWAY_TEST_SILENCE")
    with job_work(**{} if silence is None else {"silence_seconds": float(silence)}) as work:
        spec = dict(work.spec)
        if spec.get("fault") == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        count(work, spec)


def main() -> int:
    """The exit code of one attempt; errors are said as the console script says them."""
    try:
        count_job()
    except HeadwayError as error:
        print(json.dumps(error_document(error)), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
