"""The writer of a store that was opened read-only."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NoReturn

from features.commit_figures import CommitFigures
from features.errors import StoreUnavailable


class NoWriter:
    """In the place of ``features.group_commit.GroupCommit``: it refuses every job.

    Args:
        name: of the store, for messages.

    Attributes:
        figures: of a writer that never wrote.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.figures = CommitFigures()

    def run(self, job: Callable[[Any], Any], *, keys: Collection[str] = ()) -> NoReturn:
        """Nothing is written here.

        Raises:
            StoreUnavailable: always.
        """
        self._refuse()

    def submit(self, job: Callable[[Any], Any], *, keys: Collection[str] = ()) -> NoReturn:
        """Likewise."""
        self._refuse()

    def leave(self, job: Callable[[Any], Any], *, keys: Collection[str] = ()) -> NoReturn:
        """Likewise."""
        self._refuse()

    def write_left(self) -> NoReturn:
        """Likewise."""
        self._refuse()

    def close(self) -> None:
        """Nothing: there is nothing to finish."""

    def _refuse(self) -> NoReturn:
        raise StoreUnavailable(f"{self._name} was opened read-only; expected to be opened for writing")
