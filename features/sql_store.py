"""Where tables are kept: an SQLite file, or a PostgreSQL database; what a store of either does for its adapters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from sqlalchemy import MetaData

from features.commit_figures import CommitFigures
from features.database_location import VARIABLE, DatabaseLocation
from features.errors import Refused
from features.sql_text import SqlConnection
from features.sqlite_files import Durability
from features.sqlite_store import SqliteStore

T = TypeVar("T")

Place: TypeAlias = Path | DatabaseLocation
"""A file, or a database."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The tables of one store.

    Attributes:
        metadata: the tables.
        version: of the layout in an SQLite file; in PostgreSQL it is the database that has a revision.
        facts: names of the tables that hold what was answered; a file's head vouches for their rows.
        upgrades: the earlier versions that a file is brought from on opening, once its missing tables are made: the
            statements of each.
    """

    metadata: MetaData
    version: int
    facts: Sequence[str] = ()
    upgrades: Mapping[int, Sequence[str]] = field(default_factory=dict)


class SqlStore(Protocol):
    """Tables that one process writes in groups of jobs, and any thread reads."""

    @property
    def name(self) -> str:
        """What messages call it; without a password."""

    def reading(self) -> AbstractContextManager[SqlConnection]:
        """A connection that reads; each statement sees what was committed when it began.

        Raises:
            StoreUnavailable: the store was closed or does not answer.
            StoreCorrupted: it is damaged.
        """

    def run(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> T:
        """What a job gives once its transaction is on disk.

        Args:
            job: what is done on the connection; done again where its transaction was lost before the commit.
            keys: of what it reads and then writes: no other job with one of them runs meanwhile, in any process.

        Raises:
            StoreUnavailable: the store was opened read-only, or the transaction failed.
        """

    def submit(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> Future[T]:
        """``run`` for callers that must not block."""

    def leave(self, job: Callable[[SqlConnection], T], *, keys: Collection[str] = ()) -> Future[T]:
        """``submit`` of a job that is begun with others at ``write_left``, or before."""

    def write_left(self) -> None:
        """Have everything written that was left."""

    def wait_for(self, keys: Collection[str]) -> None:
        """Nothing, once no job of another process that has one of some keys is under way.

        Raises:
            StoreUnavailable: the store does not answer, or a job takes too long.
        """

    def check_writes(self) -> None:
        """Write something that changes nothing.

        Raises:
            StoreUnavailable: it cannot be written, or not in time.
        """

    @property
    def commits(self) -> CommitFigures:
        """How the writing goes."""

    def close(self) -> None:
        """Finish what was accepted and release what is held; closing twice is harmless."""


def open_store(place: Place, layout: Layout, *, readonly: bool, durability: Durability) -> SqlStore:
    """The store at a place.

    Raises:
        HomeLocked: another process writes the file.
        UnknownObject: there is no such file and it was opened read-only, or the database has no tables.
        StoreUnavailable: it cannot be opened.
        StoreCorrupted: it has another layout.
        Refused: PostgreSQL's driver is not installed.
    """
    if isinstance(place, Path):
        return SqliteStore(
            place,
            layout.metadata,
            layout.version,
            facts=layout.facts,
            readonly=readonly,
            durability=durability,
            upgrades=layout.upgrades,
        )
    with needing_driver(place):
        from features.postgres_store import PostgresStore
    return PostgresStore(place, readonly=readonly, durability=durability)


@contextmanager
def needing_driver(location: DatabaseLocation) -> Iterator[None]:
    """The lack of PostgreSQL's driver as a refusal that tells what to install.

    Raises:
        Refused: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise Refused(
            f"{VARIABLE} is {location.masked}, expected the package psycopg for it: "
            f"install headway with the extra `server`"
        ) from error
