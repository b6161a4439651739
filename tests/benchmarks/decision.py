"""B1: one decision in process, against the least it could take and against the usual way with Feast and LightGBM."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from features import kernel
from features.feast_layout import CUSTOMER_KEY, JOURNEY_KEY, PROFILE_VIEW, STATE_VIEW, layout
from features.home import HOME_VARIABLE, Home
from features.kernel import Floats
from features.schema import FeatureSet
from models.bundle import load_bundle
from models.configuration import Configuration, load_configuration
from models.forest import raw_scores_block
from models.heads import head_values
from models.registry import read_champions
from serving.bootstrap import feature_sets_of, open_runtime
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from tests.benchmarks.report import Measure, absolute, faster, slower
from tests.benchmarks.timing import interleaved
from tests.benchmarks.world import KEY, Worlds, present

CANDIDATES = 20
"""What the naive way scores; ours scores all treatments of the catalogue, 32."""


def measures(worlds: Worlds) -> list[Measure]:
    """One decision without and with its commit, against both baselines."""
    home, now = worlds.copy("decision"), present()
    configuration = load_configuration(home, {})
    (features,) = feature_sets_of(configuration).values()
    ids = worlds.customer_ids()
    with running(home) as runtime:
        runtime.ingest.ingest(worlds.documents(now), source="benchmark", arrived_at=now)
        naive = _Naive(worlds, home, configuration, features, ids, runtime, now)
        floor = _Floor(home, features, naive.states, ids, now)
        ours = _Ours(runtime, ids, now)
        times = interleaved(
            {"dry": ours.dry_run, "live": ours.live, "floor": floor.read_and_score, "naive": naive.decide},
            rounds=3 if worlds.quick else 60,
            calls={"dry": 20, "live": 10, "floor": 20, "naive": 1},
        )
        scored = ours.scored()
    dry, live = times["dry"], times["live"]
    return [
        slower("vs_floor", dry.median_ms, times["floor"].median_ms, target=1.5, spread=dry.spread_ms),
        faster("vs_naive", dry.median_ms, times["naive"].median_ms, target=8.0, spread=dry.spread_ms),
        faster("committed_vs_naive", live.median_ms, times["naive"].median_ms, target=None, spread=live.spread_ms),
        absolute("candidates_scored", scored, unit="candidates", target=CANDIDATES, at_most=False),
    ]


@contextmanager
def running(home: Home) -> Iterator[Runtime]:
    """The runtime of a home, opened as the service opens it."""
    env = {HOME_VARIABLE: str(home.root), "HEADWAY_BOOTSTRAP_KEY": KEY, "HEADWAY_LOG_LEVEL": "error"}
    with asyncio.Runner() as runner:
        opened = open_runtime(env)
        runtime = runner.run(opened.__aenter__())
        try:
            yield runtime
        finally:
            runner.run(opened.__aexit__(None, None, None))


class _Ours:
    def __init__(self, runtime: Runtime, ids: list[str], now: int) -> None:
        self._runtime = runtime
        self._ids = ids
        self._now = now

    def dry_run(self, number: int) -> bytes:
        return self._decide(number, "dry_run")

    def live(self, number: int) -> bytes:
        return self._decide(number, "live")

    def scored(self) -> float:
        """The median over customers."""
        return float(np.median([json.loads(self.dry_run(i))["funnel"]["scored"] for i in range(len(self._ids))]))

    def _decide(self, number: int, mode: Any) -> bytes:
        customer_id = self._ids[number % len(self._ids)]
        request = DecisionRequest(request_id=f"{mode}-{number}", customer_id=customer_id, mode=mode)
        return self._runtime.decider.decide(request, source="benchmark", now=self._now)


class _Floor:
    """One read of one packed blob and the same scores: no rules, no ranking, no answer."""

    def __init__(self, home: Home, features: FeatureSet, states: dict[str, Floats], ids: list[str], now: int) -> None:
        (pointer,) = read_champions(home.champion_file).values()
        self._bundle = load_bundle(pointer.path, features.names)
        self._connection = sqlite3.connect(home.root / "floor.db")
        self._connection.execute("CREATE TABLE states (customer_id TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID")
        rows = [(customer_id, state.tobytes()) for customer_id, state in states.items()]
        self._connection.executemany("INSERT INTO states VALUES (?, ?)", rows)
        self._connection.commit()
        self._features = features
        self._ids = ids
        self._at = float(now)

    def read_and_score(self, number: int) -> object:
        key = (self._ids[number % len(self._ids)],)
        (blob,) = self._connection.execute("SELECT state FROM states WHERE customer_id = ?", key).fetchone()
        vector = np.full((1, len(self._features.specs)), np.nan)
        state = np.frombuffer(blob).copy()
        kernel.read(state, self._features.plan, self._at, vector[0, : self._features.n_state_features])
        return head_values(self._bundle.table, raw_scores_block(self._bundle.forest, vector))


class _Naive:
    """Feast's online read as a data frame, then ``predict_proba`` of one row for each candidate, then the best."""

    def __init__(
        self,
        worlds: Worlds,
        home: Home,
        configuration: Configuration,
        features: FeatureSet,
        ids: list[str],
        runtime: Runtime,
        now: int,
    ) -> None:
        from lightgbm import LGBMClassifier

        from features.feast_store import apply
        from features.online import SqliteOnlineStore

        feature_sets = feature_sets_of(configuration)
        naive_home = Home(worlds.folder / "naive").create()
        self._feast = apply(naive_home, feature_sets.values(), configuration.taxonomy)
        columns = layout(feature_sets.values(), configuration.taxonomy)
        self._names = [
            *(f"{STATE_VIEW}:{name}" for name in columns.fields),
            *(f"{PROFILE_VIEW}:{name}" for name in columns.profile),
        ]
        self.states: dict[str, Floats] = {}
        store = SqliteOnlineStore(naive_home.online_db, feature_sets, configuration.taxonomy)
        for customer_id in ids:
            state, profile = runtime.ingest.rebuild(customer_id, features.journey_id)  # type: ignore[attr-defined]  # of the ingestor behind the port
            store.write([state], [profile])
            self.states[customer_id] = state.vector
        store.close()
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(2_000, len(features.specs)))
        labels = rng.random(2_000) < 0.3
        # Of about the size of the bundle's largest member.
        self._model = LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1).fit(rows, labels)
        self._features = features
        self._ids = ids
        self._at = float(now)

    def decide(self, number: int) -> object:
        import pandas as pd

        entity = {CUSTOMER_KEY: self._ids[number % len(self._ids)], JOURNEY_KEY: self._features.journey_id}
        frame = self._feast.get_online_features(features=self._names, entity_rows=[entity]).to_df()
        state = np.concatenate([np.asarray(frame[each.name].iloc[0], dtype=float) for each in self._features.fields])
        vector = np.full(len(self._features.specs), np.nan)
        kernel.read(state, self._features.plan, self._at, vector[: self._features.n_state_features])
        row = pd.DataFrame([vector], columns=self._model.feature_name_)
        return max(np.asarray(self._model.predict_proba(row))[0, 1] for _ in range(CANDIDATES))
