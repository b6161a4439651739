"""The deep checks: what LightGBM and Feast themselves say of a trained home, and of one that was tampered with."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from features.check_findings import Finding
from features.event_store import SqlEventLog
from features.home import Home
from features.kernel import new_state
from features.online import STATE_TABLE
from features.online_location import RedisLocation
from features.online_stores import open_online_store
from features.schema import FeatureSet
from features.store import StateRow
from models.configuration import load_configuration
from models.registry import LocalRegistry
from models.rulebooks import feature_sets_of
from serving.doctor import Installation, libraries

pytestmark = pytest.mark.slow  # Feast and LightGBM take seconds to import


@pytest.fixture
def home(trained_home: Home, tmp_path: Path) -> Home:
    """A copy of the trained home."""
    shutil.copytree(trained_home.root, tmp_path / "home")
    return Home(tmp_path / "home")


def deep(home: Home, **env: str) -> dict[str, Finding]:
    """The findings of the deep checks, by name."""
    return {one.name: one for one in libraries(Installation.of({"HEADWAY_HOME": str(home.root), **env}))}


def fill(home: Home, location: RedisLocation | None) -> None:
    """Write a state of everybody in the event log to the online store."""
    configuration = load_configuration(home, {})
    feature_sets = feature_sets_of(configuration)
    with closing(open_online_store(home, location, feature_sets, configuration.taxonomy)) as store:
        store.write([state(one, journey) for one in customers(home) for journey in feature_sets.values()], [])


def customers(home: Home) -> Sequence[str]:
    """Everybody in the event log."""
    with closing(SqlEventLog(home.events_db, readonly=True)) as log:
        return sorted({logged.event.customer_id for page in log.read() for logged in page})


def state(customer_id: str, features: FeatureSet) -> StateRow:
    """A state before any event."""
    return StateRow(customer_id, features.journey_id, features.version, new_state(features.plan), 1, 0, "", "", 1)


def changes(home: Home) -> dict[Path, int]:
    """When each file was changed last; SQLite's index of a log that is in use is made anew by each reader."""
    files = (path for path in home.root.rglob("*") if path.is_file() and not path.name.endswith("-shm"))
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_trained_home_is_well_and_stays_as_it_is(home: Home) -> None:
    """The forest is LightGBM's, and states are read alike; bytes that are no states are told."""
    fill(home, None)
    before = changes(home)

    found = deep(home)

    assert [one.status for one in found.values()] == ["ok", "ok"], found
    assert found["feast"].found == "Feast reads 25 states as serving does"
    assert changes(home) == before

    with closing(sqlite3.connect(home.online_db)) as connection, connection:
        connection.execute(f"UPDATE {STATE_TABLE} SET value = x'ff'")  # noqa: S608  # our own name

    assert deep(home)["feast"].status == "failed"


def test_a_forest_that_is_not_lightgbms_fails(home: Home) -> None:
    """Even where manifest and alias were made to match."""
    (manifest,) = home.bundles.glob("*/1/manifest.json")
    booster = manifest.parent / "boosters" / "0000.txt"
    # Each leaf as long as before, for LightGBM takes trees apart by their lengths.
    swapped = str.maketrans("12", "21")
    changed = re.sub(r"(?m)^leaf_value=.*", lambda line: line[0].translate(swapped), booster.read_text()).encode()
    booster.write_bytes(changed)
    document = json.loads(manifest.read_bytes())
    document["parts"]["boosters/0000.txt"] = {"sha256": sha256(changed).hexdigest(), "bytes": len(changed)}
    manifest.write_text(json.dumps(document))

    assert lightgbms(home).status == "failed"

    LocalRegistry(home.bundles).set_alias(manifest.parent.parent.name, "champion", 1, at=1)
    found = lightgbms(home)
    assert (found.status, found.found) == ("failed", "the forest and LightGBM score the golden rows differently")


def lightgbms(home: Home) -> Finding:
    """The one finding about LightGBM."""
    (found,) = (one for name, one in deep(home).items() if name.startswith("lightgbm"))
    return found


def test_a_redis_is_read_both_ways(home: Home, redis_location: RedisLocation) -> None:
    """At the Redis itself; one that is another home's is nothing to compare."""
    fill(home, redis_location)
    env = {"HEADWAY_ONLINE_STORE": redis_location.url}

    assert deep(home, **env)["feast"].found == "Feast reads 25 states as serving does"

    home.online_epoch.write_text("0123456789abcdef.1")
    assert deep(home, **env)["feast"].status == "not_applicable"
