"""A run under way: what is simulated, what is known of it, and calls that are made again until their fault is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

from features.database_location import DatabaseLocation
from features.errors import StoreError
from features.store import ProfileRow, StateRow
from tests.faults.full_disk import full_disk
from tests.simulation.checks import check_stores
from tests.simulation.drawing import Plan
from tests.simulation.faults import Died
from tests.simulation.installation import Installation, StoreKind
from tests.simulation.model import Broken, Decided, Model, hold
from tests.simulation.setting import POLICIES

T = TypeVar("T")

_PATIENCE: Final = 4
"""So often a call is made again before what fails is repaired."""


class Course:
    """A run under way: the installation, what it was told, and what may be wrong with it by now.

    Attributes:
        there: the installation.
        model: what is known of what it was told and answered.
        labels: the version that each alias is on.
        latest: the latest moment that the clock ever told, microseconds since the epoch.
        suspect: customers whose features a fault may have spoiled.
        healing: those whose features were made anew by the step under way.
        is_full: the disk is full.
        n_failed: how often the call under way failed.
        seen_rows: what the online store held when it was last lost.
    """

    def __init__(self, plan: Plan, kind: StoreKind, folder: Path, database: DatabaseLocation | None) -> None:
        self.kind = kind
        self.there = Installation(folder, kind=kind, variant=plan.variant, seed=plan.seed, database=database)
        self.model = Model(policy=POLICIES[plan.variant])
        self.labels: dict[str, int] = {"champion": 1, "challenger": 2}
        self.latest = self.there.now
        self.suspect: set[str] = set()
        self.healing: set[str] = set()
        self.is_full = False
        self.n_failed = 0
        self.seen_rows: list[tuple[StateRow, ProfileRow]] = []

    def close(self) -> None:
        """Release the files."""
        self.there.close()

    def everybody(self) -> set[str]:
        """Every id of which anything was told."""
        ids = {one.customer_id for one in self.model.events.values()}
        return ids | {self.model.canonical(one) for one in ids}

    def known(self, step: Mapping[str, Any]) -> Decided | None:
        """The decision that a step is about; None where none was made yet."""
        decisions = self.model.decisions
        return decisions[-1 - step["which"] % len(decisions)] if decisions else None

    def called(self, work: Callable[[], T]) -> tuple[T, int]:
        """What a call gives, made again while it fails; and how often it failed."""
        for failed in range(_PATIENCE + 1):
            if failed == _PATIENCE:
                self.there.faults.armed.clear()
            full = full_disk() if self.is_full and not failed else nullcontext()
            try:
                self.n_failed = failed
                with full:
                    return work(), failed
            except StoreError:
                hold("fails_without_fault", bool(self.there.faults.fired) or self.is_full, "no fault was active")
            except Died:
                self.die()
            self.suspect |= self.everybody()
            self.there.faults.fired.clear()
        raise Broken("heals", "a call fails when no fault is left")

    def beside(self) -> None:
        """What the service does beside its requests."""
        try:
            self.there.later.run_all()
        except Died:
            self.die()
        fired = self.there.faults.fired
        self.suspect = self.suspect | self.everybody() if fired else self.suspect - self.healing
        self.healing.clear()
        fired.clear()

    def opened(self, opening: Callable[[], None]) -> str:
        """Open the service once more; what it told is all there."""
        opening()
        check_stores(self.there, self.model)
        return "opened"

    def die(self) -> None:
        """Be killed within a call: what was told before is all there, and what is under way may be."""
        self.there.crash(loses_features=False)
        check_stores(self.there, self.model, is_calling=True)
