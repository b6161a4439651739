"""What must hold after a soak: every acknowledged fact is there once, limits hold by recount, features are equal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from features.event_store import open_event_log
from models.record_store import open_record_store
from tests.soak.installation import CALLS, CAP, CAPACITY, Installation
from tests.soak.traffic import Answers

SPARE_BYTES_PER_SECOND = 20_000
"""What the slope of a process that leaks nothing may show within minutes: pools and caches still fill."""


def failings(installed: Installation, answers: Answers) -> list[str]:
    """In words, everything that does not hold."""
    return [
        *answers.errors,
        *_lost_events(installed, answers),
        *_lost_decisions(installed, answers),
        *_broken_limits(installed),
        *_differing_features(installed),
    ]


def _lost_events(installed: Installation, answers: Answers) -> list[str]:
    with closing(open_event_log(installed.home, readonly=True)) as log:
        logged = [each for page in log.read() for each in page]
    found = Counter(each.event.event_id for each in logged)
    failed = [
        f"event {one} was acknowledged and is there {found[one]} times" for one in answers.events if found[one] != 1
    ]
    if [each.position for each in logged] != list(range(1, len(logged) + 1)):
        failed.append("positions in the log have gaps")
    if (arrivals := [each.event.arrived_at for each in logged]) != sorted(arrivals):
        failed.append("arrivals are not in the order of the log")
    exposed = {each.event.facts.get("decision_id") for each in logged if each.event.kind == "action_exposed"}
    return failed + [f"the exposure of {one} was acknowledged and is gone" for one in answers.reported - exposed]


def _lost_decisions(installed: Installation, answers: Answers) -> list[str]:
    with closing(open_record_store(installed.home, readonly=True)) as records:
        stored = [record for page in records.read() for record in page]
        found = {record.request_id: records.decision(record.decision_id) for record in stored}
    failed = []
    for request_id, answer in answers.answers.items():
        kept = found.get(request_id)
        if kept is None or kept.answer != answer:
            failed.append(f"decision {request_id} was answered and is not there as it was")
    if len(stored) != len(answers.answers):
        failed.append(f"{len(stored)} decisions are there, {len(answers.answers)} were answered")
    return failed


def _broken_limits(installed: Installation) -> list[str]:
    """Contacts counted again, customer by customer, with the aliases that were linked to them."""
    assert installed.home.database is not None
    with psycopg.connect(installed.home.database.url) as session:
        taken = session.execute(
            "SELECT customer_id, channel, count(*) FROM contacts WHERE status IN ('confirmed', 'lease') GROUP BY 1, 2"
        ).fetchall()
    of_all: Counter[str] = Counter()
    for customer_id, _, count in taken:
        of_all[customer_id] += count
    calls = {customer_id: count for customer_id, channel, count in taken if channel == "call"}
    failed = [f"{one} has {count} contacts, of {CAP}" for one, count in of_all.items() if count > CAP]
    failed += [f"{one} has {count} calls, of {CALLS}" for one, count in calls.items() if count > CALLS]
    if sum(calls.values()) > CAPACITY:
        failed.append(f"{sum(calls.values())} calls, of {CAPACITY}")
    if not of_all:
        failed.append("nobody was contacted: nothing was tried")
    return failed


def _differing_features(installed: Installation) -> list[str]:
    told = parity(installed)
    return [] if told.get("exit") == 0 else [f"features differ: {json.dumps(told)[:2_000]}"]


def parity(installed: Installation) -> dict[str, Any]:
    """The report of ``headway features parity``, with its exit code."""
    command = [sys.executable, "-c", "from features.cli import main; main()", "features", "parity", "--json"]
    done = subprocess.run(command, env=dict(installed.env), capture_output=True, text=True)
    try:
        return {**json.loads(done.stdout), "exit": done.returncode}
    except ValueError:
        return {"exit": done.returncode, "said": done.stderr[-1_000:]}


def worker_memory(pid: int) -> dict[int, int]:
    """Resident bytes of the processes below one, by id; only of those that serve."""
    found = {}
    for child in _below(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes()
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        if b"--worker-id" in words:
            found[child] = pages * 4_096
    return found


def _below(pid: int) -> list[int]:
    children = [int(one) for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]
    return children + [below for child in children for below in _below(child)]


def slope(samples: list[tuple[float, int]]) -> float:
    """Bytes a second by which memory grew over the second half of the samples."""
    later = samples[len(samples) // 2 :]
    if len(later) < 3:
        return 0.0
    seconds, sizes = np.array(later, dtype=np.float64).T
    return float(np.polyfit(seconds - seconds[0], sizes, 1)[0])
