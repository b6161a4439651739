"""Checks that go round nothing: what LightGBM and Feast themselves answer, beside what serving reads and computes.

Both take seconds to import, and Feast changes ``sqlite3`` for the whole process: import this where it is asked for.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import numpy as np

from features.check_findings import Finding, failed, not_applicable, passed
from features.errors import BundleError, HeadwayError, StoreCorrupted
from features.feast_parity import check_parity
from features.feast_store import AlreadyHeld, FeastStore
from features.home import Home, lock_file
from features.online import SqliteOnlineStore, copy_rows
from features.online_location import RedisLocation
from features.redis_online import RedisOnlineStore
from features.schema import FeatureSet
from features.sqlite_files import looked_up
from features.store import FeatureStore
from features.taxonomy import Taxonomy
from models.boosting import lightgbm_raw_scores
from models.bundle import TOLERANCE, booster_texts, golden_rows, load_bundle
from models.forest import raw_scores_block
from models.registry import Pointer

_EQUAL: Final = "the same from both"
_TRIES: Final = 5


def forest_equals_lightgbm(name: str, pointer: Pointer) -> Finding:
    """Whether a bundle's forest scores its golden rows as the installed LightGBM scores them.

    LightGBM ends the process where a text is damaged, so it sees none but those that the alias was put on.
    """
    try:
        found = load_bundle(pointer.path, None, manifest_sha256=pointer.manifest_sha256)
        rows = golden_rows(pointer.path)
        texts = list(booster_texts(pointer.path).values())
    except BundleError as error:
        return failed(name, str(error), expected="a whole bundle", remedy="restore it, or run `headway train`")
    forest = found.forest
    expected = lightgbm_raw_scores(texts, rows, n_timed=forest.n_timed, n_periods=forest.n_periods)
    ours = raw_scores_block(forest, rows)
    if ours.shape != expected.shape or not np.allclose(ours, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        return failed(
            name,
            "the forest and LightGBM score the golden rows differently",
            expected=_EQUAL,
            remedy="install the locked version of LightGBM (`uv sync --locked`), then train again",
        )
    return passed(name, f"{expected.shape[1]} scores of {len(rows)} rows are LightGBM's")


def reader_equals_feast(
    home: Home,
    location: RedisLocation | None,
    customer_ids: Iterable[str],
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
) -> Finding:
    """Whether Feast reads the online store's bytes as serving does.

    Feast and our reader look at a copy of the rows where the store is a file, and at the Redis itself otherwise.

    Args:
        home: the home; nothing in it is written.
        location: the Redis, if it is one.
        customer_ids: whose rows are compared.
        feature_sets: by journey.
        taxonomy: of the profiles.
    """
    name = "feast"
    keys = [(customer_id, journey_id) for customer_id in customer_ids for journey_id in feature_sets]
    there = home.online_db if location is None else home.online_epoch
    if not keys or not there.is_file():
        return not_applicable(name, "no customer's state is kept yet")
    try:
        compared = _compared(home, location, keys, feature_sets, taxonomy)
    except (HeadwayError, sqlite3.Error) as error:
        return failed(
            name,
            str(error),
            expected=_EQUAL,
            remedy="install the locked version of Feast (`uv sync --locked`); until then serve with "
            "HEADWAY_FEATURE_READER=feast",
        )
    if compared is None:
        return not_applicable(name, "the Redis holds other states than this home's, or none of these customers")
    return passed(name, f"Feast reads {compared} states as serving does")


def _compared(
    home: Home,
    location: RedisLocation | None,
    keys: Sequence[tuple[str, str]],
    feature_sets: Mapping[str, FeatureSet],
    taxonomy: Taxonomy,
) -> int | None:
    """How many states there are that both read alike; None where there is nothing to compare.

    Raises:
        HeadwayError: two rows differ, or a store does not answer.
        sqlite3.Error: likewise.
    """
    with ExitStack() as opened:
        trial = Home(Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="headway-check-")))).create()
        ours: SqliteOnlineStore | RedisOnlineStore
        if location is None:
            looked_up(home.online_db, lambda source: copy_rows(source, trial.online_db, keys))
            ours = SqliteOnlineStore(trial.online_db, feature_sets, taxonomy)
        else:
            trial.online_epoch.write_bytes(home.online_epoch.read_bytes())
            ours = RedisOnlineStore(
                location,
                epoch_file=trial.online_epoch,
                lock=lambda: lock_file(trial.online_db),
                feature_sets=feature_sets,
                taxonomy=taxonomy,
            )
        opened.enter_context(closing(ours))
        if isinstance(ours, RedisOnlineStore) and not ours.holds():
            return None
        known = [key for key in keys if ours.read(*key).state is not None]
        config = None if location is None else location.feast_config
        feasts = FeastStore(trial, feature_sets, taxonomy, online_store=config, keeper=AlreadyHeld())
        opened.enter_context(closing(feasts))
        for key in known:
            _check(ours, feasts, key)
    return len(known) or None


def _check(ours: FeatureStore, feasts: FeatureStore, key: tuple[str, str]) -> None:
    for _ in range(_TRIES - 1):
        with suppress(StoreCorrupted):  # the service may have written between the two reads
            check_parity(ours, feasts, [key])
            return
    check_parity(ours, feasts, [key])
