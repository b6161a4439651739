"""The one place that opens an online store.

Importing this imports jitted code; ``features.online_location``, which says which store there is, does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from features.errors import StoreUnavailable
from features.home import FileLock, Home, lock_file
from features.online import SqliteOnlineStore
from features.online_location import RedisLocation
from features.redis_online import RedisOnlineStore
from features.schema import FeatureSet
from features.store import FeatureStore
from features.taxonomy import Taxonomy


class OnlineStore(FeatureStore, Protocol):
    """A feature store that can forget everything before all of it is written anew."""

    def clear(self) -> None:
        """Forget every state and profile."""


def open_online_store(
    home: Home,
    location: RedisLocation | None,
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
    *,
    lock: Callable[[Path], FileLock] = lock_file,
) -> OnlineStore:
    """The online store of a home, to read and to write.

    A Redis that does not answer is opened all the same: it is a cache, and may come back.

    Args:
        home: the home.
        location: the Redis; None for the home's own file.
        feature_sets: the feature sets whose states it keeps, by journey.
        taxonomy: the taxonomy whose profiles it keeps.
        lock: takes the right to write it; of a Redis it may be shared between processes.

    Raises:
        HomeLocked: another process has it open.
        Refused: another home keeps the Redis, or the package ``redis`` is not installed.
        StoreUnavailable: a file of the home cannot be opened.
    """
    if location is None:
        return SqliteOnlineStore(home.online_db, feature_sets, taxonomy)
    return open_redis_store(home, location, feature_sets, taxonomy, lock=lock)


def open_redis_store(
    home: Home,
    location: RedisLocation,
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
    *,
    lock: Callable[[Path], FileLock] = lock_file,
) -> RedisOnlineStore:
    """``open_online_store`` for a Redis."""
    store = _redis_store(home, location, feature_sets, taxonomy, lock)
    try:
        with suppress(StoreUnavailable):
            store.claim()
    except BaseException:
        store.close()
        raise
    return store


def take_over(home: Home, location: RedisLocation, feature_sets: Mapping[str, FeatureSet], taxonomy: Taxonomy) -> None:
    """Empty a Redis that another home keeps, and make it this one's.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with closing(_redis_store(home, location, feature_sets, taxonomy, lock_file)) as store:
        store.clear()


def _redis_store(
    home: Home,
    location: RedisLocation,
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
    lock: Callable[[Path], FileLock],
) -> RedisOnlineStore:
    return RedisOnlineStore(
        location,
        epoch_file=home.online_epoch,
        # The same lock for every kind: whoever rebuilds the online store of a home is alone.
        lock=lambda: lock(home.online_db),
        feature_sets=feature_sets,
        taxonomy=taxonomy,
    )
