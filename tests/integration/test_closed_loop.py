"""The closed loop at a small size: its records keep the product's promises, and what it learns is worth something."""

from __future__ import annotations

import math
from contextlib import closing
from typing import NamedTuple

import pytest

from features.home import Home
from models.configuration import Configuration, read_configuration
from models.configuration_history import ConfigurationHistory
from models.decision import DecisionRecord
from models.feature_commands import compared_features
from models.price_files import PriceLists
from models.promotion_log import promotions_file, read_promotions
from models.record_store import SqlRecordStore
from models.registry import LocalRegistry
from models.replayer import Replayer, Scorers
from models.served_features import Chosen
from tests.closed_loop.loop import Round, run
from tests.closed_loop.setting import JOURNEY_ID, Setting

pytestmark = pytest.mark.slow

SETTING = Setting(rounds=3, customers=300)


class Lived(NamedTuple):
    """A loop that was lived through."""

    home: Home
    configuration: Configuration
    rounds: list[Round]
    records: list[DecisionRecord]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Three rounds of one world."""
    home = Home(tmp_path_factory.mktemp("loop"))
    rounds = run(SETTING, 1, home)
    with closing(SqlRecordStore(home.records_db, readonly=True)) as store:
        records = [record for page in store.read() for record in page]
    return Lived(home, read_configuration(home.config, origin="loop"), rounds, records)


def test_every_decision_replays_from_its_record(lived: Lived) -> None:
    """Bit for bit, with the configuration and the bundles that it names."""
    replayer = Replayer(
        ConfigurationHistory(lived.home), Scorers(LocalRegistry(lived.home.bundles)), PriceLists(lived.home.prices)
    )

    different = [record.decision_id for record in lived.records if not replayer.replay(record).identical]

    assert different == []


def test_decisions_were_served_the_features_that_training_reads(lived: Lived) -> None:
    """No value of any vector differs from what the event log gives for the same moment."""
    report = compared_features(lived.home, lived.configuration, chosen=Chosen(journey_id=JOURNEY_ID))

    assert report.decisions == len(lived.records)
    assert report.is_proven


def test_every_decision_records_a_distribution(lived: Lived) -> None:
    """Over its candidates and no action, with what was done among them."""
    for record in lived.records:
        chances = {one.treatment_id: one.selection_probability for one in record.candidates}
        chosen = record.selected[0].treatment_id if record.selected else "no_action"
        assert math.isclose(sum(chances.values()), 1.0, abs_tol=1e-9)
        assert chances[chosen] > 0


def test_the_world_decides_on_everybody_that_was_recorded(lived: Lived) -> None:
    """The rounds count each recorded decision once."""
    assert sum(one.decisions for one in lived.rounds) == len(lived.records)


def test_nothing_was_learned_before_the_first_round_ended(lived: Lived) -> None:
    """The first round is random; a model decides from then on."""
    arms = [{record.arm for record in lived.records if record.versions.get("bundle") is None}]

    assert lived.rounds[0].champion is None
    assert [one.champion for one in lived.rounds[1:]] == [1, 1]
    assert "random_eligible" in arms[0]


def test_the_gate_was_asked_and_its_answer_kept(lived: Lived) -> None:
    """The third round's challenger is in the promotion log, with finite estimates beside their truth."""
    judged = lived.rounds[2].judged
    entries = read_promotions(promotions_file(lived.home.bundles))

    assert judged is not None
    assert judged.difference is not None
    assert [one.after.version for one in entries if one.step in ("refused", "done")] == [2]
    told = (judged.difference.truth, judged.difference.estimate, judged.difference.low, judged.difference.high)
    assert all(map(math.isfinite, told))


def test_what_was_learned_is_worth_more_than_chance(lived: Lived) -> None:
    """By the laws of the world, which nothing in the loop looks at."""
    last = lived.rounds[-1]

    assert last.champion_value > last.random_value
    assert last.champion_value < last.best
