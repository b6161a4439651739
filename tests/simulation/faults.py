"""Stores whose calls fail as they are told: before or after the work was done, or by the death of the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from features.commit_figures import CommitFigures
from features.errors import StoreUnavailable

Where = Literal["log", "records", "features"]
When = Literal["before", "after", "death_before", "death_after", "down"]

_NO_WORK: Final = ("close", "commits", "clear")


class Died(BaseException):
    """The process is killed here; nothing that it would have done next is done."""


@dataclass(slots=True)
class Faults:
    """Which calls of which store fail.

    Attributes:
        armed: by store, how many more calls pass, and how the next one fails; ``down`` fails all until it is lifted.
        fired: stores whose calls have failed since somebody looked.
        is_off: for the checks of the simulation itself, whose calls never fail.
    """

    armed: dict[str, tuple[int, When]] = field(default_factory=dict)
    fired: set[str] = field(default_factory=set)
    is_off: bool = False

    def called(self, where: Where, name: str, work: Callable[[], Any]) -> Any:
        """What a call gives, or how it fails."""
        passing, when = self.armed.get(where, (0, "before"))
        if self.is_off or where not in self.armed:
            return work()
        if when != "down":
            if passing > 0:
                self.armed[where] = (passing - 1, when)
                return work()
            del self.armed[where]
        self.fired.add(where)
        if when.endswith("after"):
            work()
        if when.startswith("death"):
            raise Died(f"{where}.{name}")
        raise StoreUnavailable(f"{where}.{name} fails {when}")


class Failing:
    """A store behind ``Faults``."""

    def __init__(self, where: Where, store: Any, faults: Faults) -> None:
        self.where: Where = where
        self.store = store
        self.faults = faults

    def commits(self) -> CommitFigures:
        """Nobody waits: how long a real disk takes is no part of a simulation."""
        return CommitFigures()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if name in _NO_WORK or not callable(found):
            return found
        return lambda *args, **named: self.faults.called(self.where, name, lambda: found(*args, **named))
