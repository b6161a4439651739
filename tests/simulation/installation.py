"""One simulated installation: real home, stores and composition; time, chance and threads are simulated."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, TypeVar

from features.database_location import DatabaseLocation
from features.event_log import MemoryEventLog
from features.event_store import SqlEventLog
from features.home import Home
from features.online_stores import open_online_store
from features.store import MemoryStore
from models.configuration import Configuration
from models.journey_reports import KeptReports
from models.memory_jobs import MemoryJobs
from models.memory_records import MemoryRecordStore
from models.record_store import SqlRecordStore
from models.registry import LocalRegistry
from models.rulebooks import feature_sets_of
from serving.assembly import Stores, assemble
from serving.champions import served_bundles
from serving.keys import KeyFile
from serving.runtime import Runtime
from serving.settings import Settings
from serving.surroundings import Surroundings
from serving.telemetry import Metrics
from tests.doors import NOW
from tests.postgres_servers import drop_connections
from tests.recorded import NAME
from tests.simulation.faults import Failing, Faults
from tests.simulation.setting import copied_home, loaded_configuration, new_home

T = TypeVar("T")

StoreKind = Literal["sqlite", "memory", "postgres"]
STORE_KINDS: Final = ("sqlite", "memory", "postgres")
_TICK_US: Final = 7
"""What every look at the timer takes."""


@dataclass(frozen=True, slots=True)
class RawStores:
    """The three stores, without faults."""

    log: Any
    records: Any
    features: Any

    def close(self) -> None:
        """Close all of them."""
        for store in (self.log, self.records, self.features):
            if hasattr(store, "close"):
                store.close()


def opened_stores(kind: StoreKind, home: Home, configuration: Configuration, before: RawStores | None) -> RawStores:
    """The stores of a home.

    Args:
        kind: of what sort.
        home: where they keep their files, and the database of events and records, if one keeps them.
        configuration: names identifiers and features.
        before: of the process before, if any: what is in memory stays for the next one, as a server would keep it.
    """
    identifiers = configuration.taxonomy.identifiers
    if kind == "memory":
        return before or RawStores(MemoryEventLog(identifiers=identifiers), MemoryRecordStore(), MemoryStore())
    # What is killed is the process, not the machine: the system has every byte that was written.
    return RawStores(
        log=SqlEventLog(home.events_place, durability="NORMAL", identifiers=identifiers),
        records=SqlRecordStore(home.records_place, durability="NORMAL"),
        features=open_online_store(home, None, feature_sets_of(configuration), configuration.taxonomy),
    )


class LaterInTurn(Executor):
    """Threads that are none: what is left to them is done when the simulation says so, in order."""

    def __init__(self) -> None:
        self._left: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """Leave a piece of work."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **named))
            except Exception as error:
                future.set_exception(error)

        self._left.append(run)
        return future

    def run_all(self) -> None:
        """Do what was left."""
        while self._left:
            self._left.pop(0)()


class Installation:
    """A service that can be stopped, killed and opened again; never two of it at once.

    Args:
        folder: for its homes: each crash leaves one behind.
        kind: of its stores.
        variant: of the policy that it starts with.
        seed: of its randomness.
        database: empty, for events and records; for stores of the kind ``postgres`` and no other.

    Attributes:
        now: the clock, microseconds since the epoch.
        faults: of its stores.
    """

    def __init__(
        self, folder: Path, *, kind: StoreKind, variant: int, seed: int, database: DatabaseLocation | None = None
    ) -> None:
        if (kind == "postgres") != (database is not None):
            raise ValueError(f"stores of the kind {kind} with database {database}; expected one for postgres alone")
        self._folder, self._kind = folder, kind
        self._seed = seed
        self._chance = Random(seed)  # noqa: S311  # the same bytes in every run
        self._ticks = 0
        self._stamps = NOW * 1000
        self._n_homes = 1
        self.now = NOW
        self.faults = Faults()
        self.home = replace(new_home(folder / "home-1", variant), database=database)
        self.raw: RawStores | None = None
        self._open()

    def draw_anew(self, occasion: str) -> None:
        """Have what chance gives from here on depend on the seed and on this alone, and on nothing drawn before."""
        self._chance.seed(f"{self._seed} {occasion}")

    @property
    def stores(self) -> RawStores:
        """The stores without faults."""
        if self.raw is None:
            raise AssertionError("the installation is closed")
        return self.raw

    def _open(self) -> None:
        self.faults.armed.clear()  # whoever finds that it does not open opens it again
        configuration = loaded_configuration(self.home)
        self.feature_sets = feature_sets_of(configuration)
        self.raw = raw = opened_stores(self._kind, self.home, configuration, self.raw)
        self.champions, self.challengers = served_bundles(self.home, configuration, self.feature_sets)
        self.taxonomy = configuration.taxonomy
        log, records, features = (
            Failing("log", raw.log, self.faults),
            Failing("records", raw.records, self.faults),
            Failing("features", raw.features, self.faults),
        )
        stores: dict[str, Any] = {"log": log, "records": records, "features": features, "jobs": MemoryJobs()}
        is_remote = self.home.database is not None
        self.runtime = self._assembled(configuration, Stores(**stores, are_local=not is_remote, are_shared=is_remote))
        self.later = LaterInTurn()
        for pool in (self.runtime.workers, self.runtime.errands):
            pool.close()
            pool._pool = self.later  # threads are the one thing that is not given from outside
        for one in (self.champions, self.challengers):
            one.refresh()

    def _assembled(self, configuration: Configuration, stores: Stores) -> Runtime:
        def nothing(_: Any) -> Any:
            raise AssertionError("no process is started in a simulation")

        return assemble(
            settings=Settings(bootstrap_key="hw_simulated_0123456789", threads=2),
            configuration=configuration,
            stores=stores,
            keys=KeyFile(self.home.root / "keys.json"),
            champions=self.champions,
            challengers=self.challengers,
            metrics=Metrics(),
            surroundings=Surroundings(clock=lambda: self.now, randomness=self._chance.randbytes, timer=self.timer),
            kept_reports=KeptReports(self.home.root / "kept"),
            make_report=nothing,
            home=self.home,
            env={},
            make_explanation=nothing,
            run_command=nothing,
        )

    def timer(self) -> float:
        """The monotonic clock, seconds."""
        self._ticks += _TICK_US
        return self._ticks / 1_000_000

    def spend(self, seconds: float) -> None:
        """Let the timer alone go on."""
        self._ticks += int(seconds * 1_000_000)

    def close(self) -> None:
        """Stop in order."""
        if self._kind != "memory":
            self.stores.close()

    def restart(self) -> None:
        """Stop in order and open the same files again."""
        self.close()
        self._open()

    def crash(self, *, loses_features: bool) -> None:
        """Be killed, and open what the system has of the files.

        Args:
            loses_features: the online store, which is not synchronised, is lost with the power.
        """
        self._n_homes += 1
        self.home = copied_home(self.home, self._folder / f"home-{self._n_homes}")
        if self.home.database is not None:
            drop_connections(self.home.database)
        self.close()  # of the dead process's connections; its files are not looked at again
        if loses_features:
            for name in ("", "-wal"):
                self.home.online_db.with_name(self.home.online_db.name + name).unlink(missing_ok=True)
        self._open()

    def promote(self, version: int, alias: str) -> None:
        """Put an alias on a bundle, as another process would, and let the service look."""
        LocalRegistry(self.home.bundles).set_alias(NAME, alias, version, at=self.now)
        file, bundles = {
            "champion": (self.home.champion_file, self.champions),
            "challenger": (self.home.challenger_file, self.challengers),
        }[alias]
        self.touch(file)
        bundles.refresh()

    def touch(self, file: Path) -> None:
        """Make a file look changed also within the grain of the file system's clock."""
        self._stamps += 1_000_000
        os.utime(file, ns=(self._stamps, self._stamps))
