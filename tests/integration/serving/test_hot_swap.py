"""A champion is replaced while eight callers ask: nobody is refused, and the old model does not stay behind."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from features.home import Home
from models.bundle import compiled, write_bundle
from models.configuration import built_in_configuration
from models.forest import raw_scores_block
from models.hazards import Periods
from models.manifest import Lineage
from models.registry import CHAMPION, LocalRegistry, model_name
from serving.auth import Principal
from serving.bootstrap import feature_sets_of, open_runtime
from serving.runtime import Runtime
from tests.boosters import constant_waits

JOURNEY = "credit_card_application"
MODEL = model_name(JOURNEY)
CALLERS = 8
VERSIONS = 3
CALLER = Principal("k", "web", frozenset({"caller"}))


def _registry(home: Home, folder: Path) -> LocalRegistry:
    """A registry with three versions of a bundle without a tree, on the built-in journey's features; none promoted."""
    configuration = built_in_configuration()
    names = feature_sets_of(configuration)[JOURNEY].names
    horizon = configuration.journeys.by_id[JOURNEY].horizon
    lineage = Lineage(
        name=MODEL,
        journey_id=JOURNEY,
        created_at=1_700_000_000_000_000,
        feature_names=names,
        features_version="v",
        configuration={},
    )
    fitted = [replace(constant_waits(), periods=Periods((horizon,), 0))]
    rows = np.zeros((2, len(names)))
    raw = raw_scores_block(compiled(fitted, lineage).forest, rows)
    write_bundle(folder, lineage=lineage, fitted=fitted, golden_rows=rows, golden_raw=raw)
    registry = LocalRegistry(home.champion_file.parent)
    for _ in range(VERSIONS):
        registry.register(folder, MODEL, {})
    return registry


def test_a_champion_is_swapped_under_load(tmp_path: Path) -> None:
    """Each caller sees the versions in order; every answer was made by one of them, and every one came."""
    home = Home(tmp_path / "home").create()
    registry = _registry(home, tmp_path / "made")
    registry.set_alias(MODEL, CHAMPION, 1, at=1)

    seen, gone = asyncio.run(_swapped_under_load(home, registry))

    for versions in seen:
        assert versions == sorted(versions)
        assert set(versions) == set(range(1, VERSIONS + 1))
    assert gone == [True] * (VERSIONS - 1)


async def _swapped_under_load(home: Home, registry: LocalRegistry) -> tuple[list[list[int]], list[bool]]:
    env = {"HEADWAY_HOME": str(home.root), "HEADWAY_LOG_LEVEL": "error"}
    async with open_runtime(env) as runtime:
        over = asyncio.Event()
        callers = [asyncio.create_task(_caller(runtime, place, over)) for place in range(CALLERS)]
        scorers: list[weakref.ref[object]] = []
        for version in range(2, VERSIONS + 1):
            served = runtime.decider._served_model(JOURNEY)  # type: ignore[attr-defined]  # what answers are made with
            scorers.append(weakref.ref(served.scorer))
            del served
            registry.set_alias(MODEL, CHAMPION, version, at=version)
            await _until(lambda wanted=version: _version(runtime.loaded_bundles()[JOURNEY]) == wanted)
            await asyncio.sleep(0.1)  # some answers of every version
        over.set()
        seen = await asyncio.gather(*callers)
        gc.collect()
        return seen, [scorer() is None for scorer in scorers]


async def _caller(runtime: Runtime, place: int, over: asyncio.Event) -> list[int]:
    versions = []
    while not over.is_set():
        body = {"customer_id": f"c-{place}", "mode": "live" if len(versions) % 2 else "dry_run"}
        answer: Any = msgspec.json.decode(
            await runtime.desk.answer(lambda: body, CALLER, idempotency_key=None, arrived=runtime.timer())  # noqa: B023  # read at once
        )
        versions.append(_version(answer["versions"]["bundle"]))
    return versions


def _version(label: str | None) -> int:
    return int((label or "/0").rpartition("/")[2])


async def _until(claim: Any) -> None:
    until = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
