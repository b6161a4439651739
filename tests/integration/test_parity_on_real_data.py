"""A real log lived through again over HTTP, late, doubled and disordered: decisions see to the bit what training reads.

On SQLite and on Redis; and what the online store holds at the end is what a backfill writes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from features.cli import run
from features.events import JourneyEvent
from features.home import HOME_VARIABLE, Home
from features.online_location import RedisLocation
from features.online_stores import open_online_store
from models.configuration import Configuration, load_configuration
from models.feature_commands import fill_feature_store
from serving.bootstrap import feature_sets_of
from tests.replays import Replay, events_in, installed, serving_over

CASES: Final = 2_500
DECISIONS: Final = 5_500
SEED: Final = 2012
COMMANDS = [EntryPoint("features", "models.feature_commands:features", "headway.commands")]


@pytest.fixture(scope="module")
def applications(
    real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[JourneyEvent, ...]:
    """The events of the first applications of BPI Challenge 2012."""
    root = tmp_path_factory.mktemp("bpic2012")
    whole = gzip.decompress(real_data("bpic2012/bpic2012.xes.gz").read_bytes())
    first = whole.split(b"</trace>", CASES)[:CASES]
    (root / "bpic2012.xes").write_bytes(b"</trace>".join(first) + b"</trace></log>")
    configuration = installed(Home(root / "home"), "bpic2012")
    return tuple(events_in(root / "bpic2012.xes", "bpic2012", configuration))


@pytest.fixture(params=["sqlite", "redis"])
def location(request: pytest.FixtureRequest) -> RedisLocation | None:
    """Where the online store is."""
    return request.getfixturevalue("redis_location") if request.param == "redis" else None


def _kept(home: Home, configuration: Configuration, location: RedisLocation | None, customers: list[str]) -> list[Any]:
    """All that the online store keeps of customers, states as bytes."""
    ((journey_id, _),) = feature_sets = [*feature_sets_of(configuration).items()]
    kept = []
    with closing(open_online_store(home, location, dict(feature_sets), configuration.taxonomy)) as store:
        for customer_id in customers:
            row = store.read(customer_id, journey_id)
            assert row.state is not None
            kept.append((row.state.vector.tobytes(), row.state.order, row.state.log_position, row.profile))
    return kept


@pytest.mark.slow
def test_a_real_log_is_served_as_training_reads_it(
    applications: tuple[JourneyEvent, ...],
    location: RedisLocation | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No feature of any of 5,500 decisions differs, is missing or too much; the final states are a backfill's."""
    home = Home(tmp_path / "home")
    configuration = installed(home, "bpic2012")
    with serving_over(home, configuration, location) as (world, client):
        Replay(batch=300, decisions=DECISIONS).run(world, client, applications, np.random.default_rng(SEED))
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    capsys.readouterr()

    code = run(["features", "parity", "--json"], {}, commands=COMMANDS)

    report = json.loads(capsys.readouterr().out)
    customers = sorted({event.customer_id for event in applications})
    served = _kept(home, load_configuration(home, {}), location, customers)
    fill_feature_store(home, configuration, location=location)
    assert code == 0
    assert report["decisions"] == DECISIONS
    assert (report["mismatch"], report["missing"], report["extra"], report["behind"]) == (0, 0, 0, 0)
    assert len(customers) == CASES
    assert served == _kept(home, configuration, location, customers)
