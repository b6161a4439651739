"""One run: a seed's steps against a simulated installation, each answer held against the obvious model.

Steps stand in modules named for what they are about, what is looked at in ``answer_checks`` (in an answer), ``checks``
(when calls are over) and ``model`` (what is promised).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from features.database_location import DatabaseLocation
from tests.postgres_servers import empty
from tests.simulation import decision_steps, event_steps, follow_up_steps, service_steps
from tests.simulation.checks import check_history, check_stores
from tests.simulation.course import Course
from tests.simulation.drawing import Plan, Step, plan_of
from tests.simulation.installation import StoreKind
from tests.simulation.model import Broken

_MEMORY: Final = Path("/dev/shm")  # a killed process leaves its bytes in memory as well as on a disk


@dataclass(frozen=True, slots=True)
class Failure:
    """A promise that was not kept.

    Attributes:
        promise: which, by a short name.
        detail: what was found.
        step: the place of the step that showed it; the number of steps where it showed at the end.
    """

    promise: str
    detail: str
    step: int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run.

    Attributes:
        trace: a line for each step, and what was answered.
    """

    trace: tuple[str, ...]
    failure: Failure | None

    @property
    def digest(self) -> str:
        """Of the trace and the failure: the same whenever the same run is made."""
        told = [*self.trace, "" if self.failure is None else f"{self.failure.promise} {self.failure.detail}"]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def simulated(
    plan: Plan, *, kind: StoreKind = "sqlite", folder: Path | None = None, database: DatabaseLocation | None = None
) -> Run:
    """The run of a plan.

    Args:
        plan: what is done.
        kind: where the installation keeps its data.
        folder: for its homes; one that is removed at the end unless it is given.
        database: for stores of the kind ``postgres``; it is emptied first.
    """
    if database is not None:
        empty(database)
    memory = _MEMORY if _MEMORY.is_dir() else None
    made = tempfile.TemporaryDirectory(prefix="headway-simulated-", dir=memory)
    with made if folder is None else nullcontext(folder) as chosen:
        course = Course(plan, kind, Path(chosen), database)
        try:
            return _run(plan, course)
        finally:
            course.close()


def warmed_up() -> None:
    """Have the jitted code compiled, which takes seconds, before any run in which the disk is full."""
    plan = plan_of(2, steps=40)
    simulated(replace(plan, steps=tuple(step for step in plan.steps if step["do"] in ("ingest", "decide"))))


def _run(plan: Plan, course: Course) -> Run:
    """Do all steps, then look at everything; the first promise that is not kept ends it."""
    trace: list[str] = []
    done: Counter[str] = Counter()
    place = 0
    try:
        for place, step in enumerate(plan.steps):
            said = json.dumps(step, sort_keys=True)
            done[said] += 1
            # So that no other step, left out, changes what this one draws.
            course.there.draw_anew(f"{said} {done[said]}")
            told = _done(course, step)
            trace.append(f"{place} {said} -> {told}")
        place = len(plan.steps)
        course.there.draw_anew("end")
        trace.append(f"end -> {_ended(course)}")
    except Broken as broken:
        return Run(tuple(trace), Failure(broken.promise, str(broken), place))
    except Exception as error:
        return Run(tuple(trace), Failure(f"no_{type(error).__name__}", f"{type(error).__name__}: {error}", place))
    return Run(tuple(trace), None)


def _done(course: Course, step: Step) -> str:
    """What is told of a step, once it is done and what the service does beside its requests."""
    told = STEPS[step["do"]](course, step)
    course.beside()
    return told


def _fill_disk(course: Course, step: Step) -> str:
    """A step while the disk is full, as far as the store has one."""
    course.is_full = course.kind == "sqlite"
    try:
        return _done(course, step["step"])
    finally:
        if course.is_full:
            course.suspect |= course.everybody()
        course.is_full = False


STEPS: Final[Mapping[str, Callable[[Course, Step], str]]] = {
    "ingest": event_steps.ingest,
    "decide": lambda course, step: decision_steps.decide(course, step["request"]),
    "repeat": decision_steps.repeat,
    "together": decision_steps.together,
    "activate": follow_up_steps.activate,
    "returned": follow_up_steps.returned,
    "fault": service_steps.arm,
    "lift": service_steps.lift,
    "clock": service_steps.tick,
    "policy": service_steps.set_policy,
    "promote": service_steps.promote,
    "workforce": service_steps.staff,
    "restart": lambda course, _: course.opened(course.there.restart),
    "crash": service_steps.crash,
    "features_lost": service_steps.lose_features,
    "disk_full": _fill_disk,
}


def _ended(course: Course) -> str:
    course.there.faults.armed.clear()
    course.beside()
    check_stores(course.there, course.model)
    return check_history(course.there, course.model)
