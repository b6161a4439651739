"""Whether Feast reads what serving will read: checked at each training, in a process of its own beside it.

Serving goes round Feast and reads the bytes that it keeps. With another version of Feast, or another configuration,
these may mean something else; so states of the snapshot's first customers are written to a trial store and read both
ways.
Feast takes some seconds to import: as a child process (``python -m training.feature_check``) it does so while the
models are fitted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import HeadwayError, StoreCorrupted
from features.home import HOME_VARIABLE, Home, use_numba_cache
from features.taxonomy import Taxonomy

if TYPE_CHECKING:
    from features.schema import FeatureSet

_EVENTS: Final = 2_000
_CUSTOMERS: Final = 25


class FeatureCheck:
    """The child process; start it early, and ask it before anything is registered.

    Args:
        home: whose configuration holds.
        events: the snapshot's events.
    """

    def __init__(self, home: Home, events: Path) -> None:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(  # noqa: S603  # our own module, with the interpreter that runs us
            [sys.executable, "-m", "training.feature_check", str(events)],
            stdout=self._said,
            stderr=subprocess.STDOUT,
            env={**os.environ, HOME_VARIABLE: str(home.root)},
        )

    def passed(self) -> None:
        """Wait for it.

        Raises:
            StoreCorrupted: Feast reads something else, or could not be asked.
        """
        if self._process.wait() != 0:
            self._said.seek(0)
            last = self._said.read().strip().rpartition("\n")[2]
            raise StoreCorrupted(f"the features of this home and Feast's could not be shown to be equal: {last}")

    def __enter__(self) -> FeatureCheck:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.close()


def compared_rows(events: Path, feature_sets: Mapping[str, FeatureSet], taxonomy: Taxonomy) -> int:
    """Write states and profiles of some customers, and read them our way and Feast's; how many rows were equal.

    Args:
        events: an events Parquet; its first rows are folded.
        feature_sets: by journey.
        taxonomy: of the events.

    Raises:
        StoreCorrupted: two rows differ.
    """
    from features.backfill import state_rows
    from features.feast_parity import check_parity
    from features.feast_store import AlreadyHeld, FeastStore
    from features.history import final_states, profiles, whole_table
    from features.online import SqliteOnlineStore

    first = next(pq.ParquetFile(events).iter_batches(_EVENTS))
    table = whole_table(pa.Table.from_batches([first]), taxonomy)
    states = [row for each in feature_sets.values() for row in state_rows(final_states(table, each), each)]
    known = {profile.customer_id: profile for profile, _ in profiles(table.lasting, taxonomy)}
    customers = sorted(known)[:_CUSTOMERS]
    with tempfile.TemporaryDirectory(prefix="headway-check-") as folder:
        trial = Home(Path(folder)).create()
        with closing(SqliteOnlineStore(trial.online_db, feature_sets, taxonomy)) as store:
            store.write([row for row in states if row.customer_id in customers], [known[one] for one in customers])
            with closing(FeastStore(trial, feature_sets, taxonomy, keeper=AlreadyHeld())) as feast:
                return check_parity(store, feast, product(customers, feature_sets))


def main() -> None:
    """Check the events that the command line names, under the configuration of the home."""
    from models.configuration import load_configuration

    home = Home.from_environment(os.environ)
    use_numba_cache(home)
    try:
        configuration = load_configuration(home, os.environ)
        from features.schema import feature_set

        feature_sets = {one.id: feature_set(configuration.taxonomy, one) for one in configuration.journeys.journeys}
        compared_rows(Path(sys.argv[1]), feature_sets, configuration.taxonomy)
    except HeadwayError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
