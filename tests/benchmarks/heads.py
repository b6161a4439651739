"""What the head of a store costs: commits of the record store without it, with it, and with an fsync of its own.

``python -m tests.benchmarks.heads [FOLDER]`` prints a table; the folder is on the disk that is measured.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from features import sqlite_store
from features.sqlite_files import SqliteTransactions
from features.vouched_transactions import VouchedTransactions
from models.ids import decision_id
from models.record_store import SqlRecordStore
from tests.decision_records import DECIDED_AT, record

CALLERS: Final = ((1, 300), (32, 4_000))
ROUNDS: Final = 3


class _Plain(SqliteTransactions[Any]):
    """Without a head."""

    def __init__(self, path: Path, driver: Any, connection: Any, **_: Any) -> None:
        super().__init__(path, driver, connection)

    def check_head(self) -> None:
        """Nothing to check."""


class _Synced(VouchedTransactions[Any]):
    """With an fsync for each head."""

    def _keep(self) -> None:
        super()._keep()
        self._kept.sync()


WAYS: Final[dict[str, Callable[..., Any]]] = {
    "without a head": _Plain,
    "written with each commit": VouchedTransactions,
    "synced with each commit": _Synced,
}


def main(folder: Path | None) -> None:
    """Print the best of some rounds for each way."""
    print(f"{'':26}" + "".join(f"{f'{callers} callers':>18}" for callers, _ in CALLERS))
    for name, way in WAYS.items():
        best = [max(_rate(way, folder, callers, commits) for _ in range(ROUNDS)) for callers, commits in CALLERS]
        print(f"{name:26}" + "".join(f"{rate:>16,.0f}/s" for rate in best))


def _rate(way: Callable[..., Any], folder: Path | None, callers: int, commits: int) -> float:
    with (
        tempfile.TemporaryDirectory(dir=folder) as home,
        _transactions(way),
        closing(SqlRecordStore(Path(home) / "records.db")) as store,
    ):
        waiting = iter([_made(number) for number in range(commits)])
        door = threading.Lock()

        def commit() -> None:
            while True:
                with door:
                    made = next(waiting, None)
                if made is None:
                    return
                store.commit(made, bytes(3_000), None)

        threads = [threading.Thread(target=commit) for _ in range(callers)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return commits / (time.perf_counter() - begun)


@contextmanager
def _transactions(way: Callable[..., Any]) -> Iterator[None]:
    sqlite_store.VouchedTransactions = way  # type: ignore[misc,assignment]  # another way for one store
    try:
        yield
    finally:
        sqlite_store.VouchedTransactions = VouchedTransactions  # type: ignore[misc]  # as it was


def _made(number: int) -> Any:
    at = DECIDED_AT + 1_000 * number
    new_id = decision_id(at=at, customer_id=f"c{number}", randomness=number.to_bytes(9, "big"))
    return record(number, decision_id=new_id, decided_at=at, customer_id=f"c{number}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
