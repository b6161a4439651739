"""Feast itself: registration, history point in time, and the slow feature store that its online reads make.

``features.online`` reads and writes the same tables several times faster. This is
what it is checked against, and what ``HEADWAY_FEATURE_READER=feast`` falls back to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import pyarrow as pa

from features import kernel
from features.errors import HeadwayError, Refused, StoreUnavailable
from features.events import moment_of
from features.feast_layout import (
    CREATED_TIME,
    CUSTOMER_KEY,
    EVENT_TIME,
    HOLDINGS,
    JOURNEY_KEY,
    PROFILE_VIEW,
    STATE_VIEW,
    ColumnType,
    ColumnValue,
    attribute_column,
    layout,
    profile_columns,
    profile_row,
    state_columns,
    state_row,
)
from features.feast_repo import feast_objects, import_feast, repo_config
from features.home import Home, lock_file
from features.kernel import Floats, Integers
from features.schema import FeatureSet, attribute_number
from features.store import CustomerRow, ProfileRow, StateRow
from features.taxonomy import Taxonomy

if TYPE_CHECKING:
    import feast
    import pandas as pd

_ROW_ID = "row_id"
_CUSTOMERS_PER_CALL: Final = 100
# Feast cannot delete a row, and refuses one that holds nothing at all. With any other column missing there is no row.
_NO_STATE: Final[dict[str, Any]] = {"version": "", EVENT_TIME: 0}
_NO_PROFILE: Final[dict[str, Any]] = {HOLDINGS: [], EVENT_TIME: 0}


class Closable(Protocol):
    """Something that is given back at the end."""

    def close(self) -> None:
        """Give it back."""


class Keeper(Closable, Protocol):
    """Knows whose rows an online store holds."""

    def holds(self) -> bool:
        """Whether they are this home's."""

    def claim(self) -> None:
        """Make a store that is nobody's this home's; refused where it is another's."""


class AlreadyHeld:
    """The keeper where this process has the online store open beside Feast, and so has its lock."""

    def holds(self) -> bool:
        """They are."""
        return True

    def claim(self) -> None:
        """It was claimed when it was opened."""

    def close(self) -> None:
        """Whoever opened it closes it."""


def open_feast(home: Home, *, online_store: Mapping[str, Any] | None = None) -> feast.FeatureStore:
    """Feast over a home's registry, history and online store."""
    import_feast()
    import feast

    return feast.FeatureStore(config=repo_config(home, online_store=online_store))


def apply(
    home: Home,
    feature_sets: Iterable[FeatureSet],
    taxonomy: Taxonomy,
    *,
    online_store: Mapping[str, Any] | None = None,
) -> feast.FeatureStore:
    """Feast with the entities and views of these feature sets registered and their online tables made."""
    store = open_feast(home, online_store=online_store)
    store.apply(feast_objects(home, feature_sets, taxonomy))
    return store


def historical_reads(
    store: feast.FeatureStore, feature_set: FeatureSet, customer_ids: Sequence[str], at: Integers
) -> Floats:
    """Features of customers at moments, out of the history that Feast joins point in time.

    What had occurred and arrived strictly before a moment counts, as in ``history.reads_at``, which gives the same.

    Args:
        store: Feast over a home whose history was written by a backfill.
        feature_set: the features to read.
        customer_ids: ``(n_moments,)`` in any order, repeated as needed.
        at: ``(n_moments,)`` microseconds since the epoch.

    Returns:
        ``(n_moments, n_features)`` in the order of the moments; NaN means unknown.

    Raises:
        Refused: the history was folded by another feature set.
        StoreUnavailable: Feast did not give one row for each moment.
    """
    import pandas as pd

    # Feast takes what happened up to and including the moment, so we ask for the microsecond before it.
    just_before = pd.to_datetime(np.asarray(at, dtype=np.int64) - 1, unit="us", utc=True).as_unit("us")
    moments = pd.DataFrame(
        {
            _ROW_ID: np.arange(len(at)),
            CUSTOMER_KEY: list(customer_ids),
            JOURNEY_KEY: feature_set.journey_id,
            EVENT_TIME: just_before,
        }
    )
    fields = [each.name for each in feature_set.fields]
    attributes = [attribute_column(name) for name in feature_set.attributes]
    job = store.get_historical_features(
        entity_df=moments,
        features=[
            *(f"{STATE_VIEW}:{name}" for name in (*fields, "version")),
            *(f"{PROFILE_VIEW}:{name}" for name in attributes),
        ],
        filter_by_created_timestamp=True,
    )
    rows: pa.Table = job.to_arrow().sort_by(_ROW_ID)
    if rows[_ROW_ID].to_pylist() != list(range(len(at))):
        raise StoreUnavailable(
            f"Feast answered {rows.num_rows} rows for {len(at)} moments, expected one each: look at the offline store"
        )
    return _features_of(rows, feature_set, at)


class FeastStore:
    """The feature store by way of Feast's own online reads and writes.

    Args:
        home: the home; its online file is locked while this is open.
        feature_sets: the feature sets whose states it keeps, by journey.
        taxonomy: the taxonomy whose profiles it keeps.
        online_store: another online store than the home's SQLite file, as Feast's configuration writes it.
        keeper: knows whose rows that store holds, has its lock, and is closed with this.

    Raises:
        HomeLocked: another process writes the online file.
    """

    is_shared = False

    def __init__(
        self,
        home: Home,
        feature_sets: Mapping[str, FeatureSet],
        taxonomy: Taxonomy,
        *,
        online_store: Mapping[str, Any] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._feature_sets = dict(feature_sets)
        self._layout = layout(self._feature_sets.values(), taxonomy)
        self._keeper = keeper
        self._lock: Closable = keeper or lock_file(home.online_db)
        # Feast shares one SQLite connection between threads and does not guard it.
        self._guard = threading.Lock()
        self._is_closed = False
        try:
            self._feast = apply(home, self._feature_sets.values(), taxonomy, online_store=online_store)
        except BaseException:
            self._lock.close()
            raise
        self._features = [
            *(f"{STATE_VIEW}:{name}" for name in self._layout.state),
            *(f"{PROFILE_VIEW}:{name}" for name in self._layout.profile),
        ]

    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        """State and profile of one customer.

        Raises:
            StoreUnavailable: the store was closed, or does not answer.
        """
        return self._read_part([customer_id], journey_id)[0]

    def read_many(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        """State and profile of each customer, a hundred in one call of Feast's.

        Raises:
            StoreUnavailable: the store was closed, or does not answer.
        """
        return [
            row
            for start in range(0, len(customer_ids), _CUSTOMERS_PER_CALL)
            for row in self._read_part(customer_ids[start : start + _CUSTOMERS_PER_CALL], journey_id)
        ]

    def _read_part(self, customer_ids: Sequence[str], journey_id: str) -> list[CustomerRow]:
        keys = [{CUSTOMER_KEY: customer_id, JOURNEY_KEY: journey_id} for customer_id in customer_ids]
        with self._asking():
            if self._keeper is not None and not self._keeper.holds():
                return [CustomerRow(None, None, is_reset=True)] * len(keys)
            answer = self._feast.get_online_features(features=self._features, entity_rows=keys).to_dict()
        return [
            self._row(customer_id, journey_id, {name: values[place] for name, values in answer.items()})
            for place, customer_id in enumerate(customer_ids)
        ]

    def _row(self, customer_id: str, journey_id: str, columns: Mapping[str, ColumnValue]) -> CustomerRow:
        return CustomerRow(
            state_row(customer_id, journey_id, columns, self._layout.fields),
            profile_row(customer_id, columns, self._layout.attributes),
        )

    def write(self, states: Sequence[StateRow], profiles: Sequence[ProfileRow]) -> None:
        """Write states and profiles, each view in its own transaction.

        Raises:
            Refused: a state of a journey that this store was not opened for.
            StoreUnavailable: the store was closed, does not answer, or is another home's.
        """
        unknown = {row.journey_id for row in states} - self._feature_sets.keys()
        if unknown:
            raise Refused(
                f"states of the journeys {sorted(unknown)}, expected only {', '.join(self._feature_sets)}: "
                f"open the store with the configuration that declares them"
            )
        state_rows = [
            {
                CUSTOMER_KEY: row.customer_id,
                JOURNEY_KEY: row.journey_id,
                **state_columns(row, self._feature_sets[row.journey_id]),
                EVENT_TIME: row.last_event_at,
            }
            for row in states
        ]
        profile_rows = [
            {CUSTOMER_KEY: row.customer_id, **profile_columns(row, self._layout.attributes), EVENT_TIME: row.updated_at}
            for row in profiles
        ]
        with self._asking():
            self._claim()
            # A state vouches for its profile, so it must never be there before it.
            if profile_rows:
                self._feast.write_to_online_store(PROFILE_VIEW, _frame(profile_rows, self._layout.profile))
            if state_rows:
                self._feast.write_to_online_store(STATE_VIEW, _frame(state_rows, self._layout.state))

    def forget(self, customer_ids: Sequence[str], *, gone_at: int | None = None) -> None:
        """Remove the states and profiles of customers; Feast keeps next to empty rows in their place.

        Raises:
            StoreUnavailable: the store was closed, does not answer, or is another home's.
        """
        states: list[dict[str, Any]] = [
            {CUSTOMER_KEY: one, JOURNEY_KEY: journey_id, **dict.fromkeys(self._layout.state), **_NO_STATE}
            for one in customer_ids
            for journey_id in self._feature_sets
        ]
        profiles: list[dict[str, Any]] = [
            {CUSTOMER_KEY: one, **dict.fromkeys(self._layout.profile), **_NO_PROFILE} for one in customer_ids
        ]
        with self._asking():
            self._claim()
            self._feast.write_to_online_store(STATE_VIEW, _frame(states, self._layout.state))
            self._feast.write_to_online_store(PROFILE_VIEW, _frame(profiles, self._layout.profile))

    def close(self) -> None:
        """Give the file back; closing twice is harmless."""
        with self._guard:
            self._is_closed = True
            self._lock.close()

    def _claim(self) -> None:
        try:
            if self._keeper is not None:
                self._keeper.claim()
        except Refused as error:
            raise StoreUnavailable(str(error)) from error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """One caller at a time; whatever Feast raises leaves as an error of the store."""
        with self._guard:
            if self._is_closed:
                raise StoreUnavailable("the Feast store was closed; expected to be open: open the store again")
            try:
                yield
            except HeadwayError:
                raise
            except Exception as error:
                raise StoreUnavailable(
                    f"Feast failed ({type(error).__name__}: {error}); expected its online store to answer: look at it"
                ) from error


def _features_of(rows: pa.Table, feature_set: FeatureSet, at: Integers) -> Floats:
    versions = set(rows["version"].to_pylist()) - {None, feature_set.version}
    if versions:
        raise Refused(
            f"the history of {feature_set.journey_id} was folded by version {', '.join(sorted(versions))}, expected "
            f"{feature_set.version}: run `headway features backfill` again"
        )
    states = np.tile(kernel.new_state(feature_set.plan), (rows.num_rows, 1))
    is_known = rows["version"].is_valid().to_numpy()
    parts = [_matrix(rows[each.name].filter(pa.array(is_known)), len(each.slots)) for each in feature_set.fields]
    states[is_known] = np.concatenate(parts, axis=1)
    features = np.full((rows.num_rows, len(feature_set.specs)), np.nan)
    for state, moment, out in zip(states, np.asarray(at, dtype=np.float64), features, strict=True):
        kernel.read(state, feature_set.plan, moment, out[: feature_set.n_state_features])
    for i, (name, attribute) in enumerate(feature_set.attributes.items(), start=feature_set.n_state_features):
        features[:, i] = [attribute_number(value, attribute) for value in rows[attribute_column(name)].to_pylist()]
    return features


def _matrix(lists: pa.ChunkedArray, width: int) -> Floats:
    flat = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(flat, dtype=np.float64).reshape(len(lists), width)


def _frame(rows: Sequence[Mapping[str, Any]], types: Mapping[str, ColumnType]) -> pd.DataFrame:
    """Rows as Feast takes them; typed where pandas would guess, as it does for a column of nothing but None."""
    import pandas as pd

    frame = pd.DataFrame(list(rows))
    for name, kind in types.items():
        if kind == "number":
            frame[name] = frame[name].astype(np.float64)
    frame[EVENT_TIME] = [moment_of(int(at)) for at in frame[EVENT_TIME]]
    frame[CREATED_TIME] = frame[EVENT_TIME]
    return frame
