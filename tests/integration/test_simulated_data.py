"""Simulated data through the product's own parts: the shipped mapping, the kernel, and the truth behind it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.event_tables import whole_table
from features.history import reads_at
from features.importing import DryRun, Importer, Rejects
from features.mapping import mapping_folder, read_mapping
from features.mapping_checks import mapping_problems
from features.mapping_fields import Vocabulary
from features.past_decisions import PastDecision
from features.schema import feature_set
from models.configuration import built_in_configuration
from models.import_decisions import past_decision_id
from models.situation import situation_of
from training.simulate import IMPORTED, Simulation, simulate

CONFIGURATION = built_in_configuration()
JOURNEY = CONFIGURATION.journeys.by_id["credit_card_application"]
SIMULATION = Simulation(customers=6_000, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulation large enough for means."""
    out = tmp_path_factory.mktemp("simulation")
    simulate(SIMULATION, out)
    return out


@pytest.fixture(scope="module")
def effects(folder: Path) -> pd.DataFrame:
    """The truth, with the net value of every candidate under it, as is and as far as it can be observed."""
    prices = CONFIGURATION.policy.channel_price
    money_frame = pd.DataFrame(
        [
            {
                "treatment_id": treatment.id,
                "value": JOURNEY.outcome_by_id[action.outcome].value,
                "cost": treatment.contact_cost + treatment.fatigue_cost + prices.get(treatment.channel, 0.0),
                "incentive": action.incentive_cost,
            }
            for action in CONFIGURATION.catalogue.actions
            for treatment in action.treatments
        ]
    )
    frame = pq.read_table(folder / "truth" / "effects.parquet").to_pandas().merge(money_frame, on="treatment_id")
    for net, p0, p1 in (("net", "p0", "p1"), ("net_observed", "p0_observed", "p1_observed")):
        frame[net] = (frame[p1] - frame[p0]) * frame["value"] - frame["cost"] - frame[p1] * frame["incentive"]
    return frame


def tables(folder: Path) -> duckdb.DuckDBPyConnection:
    """The events and the truth of a simulation as tables."""
    connection = duckdb.connect()
    connection.read_parquet(str(folder / "events.parquet")).create_view("events")
    connection.read_parquet(str(folder / "truth" / "effects.parquet")).create_view("effects")
    return connection


class Keeping(DryRun):
    """A trial that keeps the decisions to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: list[PastDecision] = []

    def append_decisions(self, decisions: list[PastDecision]) -> int:
        """Keep them."""
        self.decisions += decisions
        return super().append_decisions(decisions)


def test_the_shipped_mapping_takes_everything(tmp_path: Path) -> None:
    """Nothing is refused or skipped, repetitions are known as such, and the decision ids are those of the file."""
    simulated = simulate(Simulation(customers=200, seed=4), tmp_path / "simulation")
    mapping_at, name = mapping_folder("simulated")
    loaded = read_mapping(mapping_at, name)
    assert loaded.value is not None
    words = {"taxonomy": CONFIGURATION.taxonomy, "journeys": CONFIGURATION.journeys}
    assert not mapping_problems(loaded.value, loaded.document, treatments=CONFIGURATION.treatment_ids, **words)
    vocabulary = Vocabulary(
        taxonomy=CONFIGURATION.taxonomy,
        outcomes=JOURNEY.outcome_by_id,
        journeys=CONFIGURATION.journeys.by_id.keys(),
        treatments=CONFIGURATION.treatment_ids,
        decision_ids=past_decision_id,
        latest=SIMULATION.until,
    )
    sink = Keeping()

    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        importer = Importer(loaded.value, vocabulary, sink, rejects)
        for file in IMPORTED:
            importer.read(tmp_path / "simulation" / file, lambda path, done: None)

    events = importer.result.tallies["events"]
    assert (events.rejected, importer.result.problems) == (0, [])
    assert importer.result.rows_skipped == simulated.identities - simulated.customers  # only cookies are linked
    assert events.accepted + events.duplicate == simulated.events + simulated.customers
    assert events.duplicate > 0
    written = pq.read_table(tmp_path / "simulation" / "decisions.parquet")["decision_id"].to_pylist()
    assert [decision.decision_id for decision in sink.decisions] == written


def test_the_kernel_sees_the_stage_and_state_that_the_world_acted_on(folder: Path) -> None:
    """At every decision on a customer without late events; with them, for nearly all."""
    connection = tables(folder)
    events = connection.sql(
        "select row_number() over () - 1 as position, * from events "
        "where customer_id < 'c-0000400' qualify row_number() over (partition by event_id order by arrived_at) = 1"
    ).to_arrow_table()
    known = connection.sql(
        "select decision_id, any_value(customer_id), any_value(epoch_us(decided_at)), any_value(stage), "
        "any_value(state) from effects where customer_id < 'c-0000400' group by 1 order by 1"
    ).fetchall()
    late = {
        row[0] for row in connection.sql("select customer_id from events where arrived_at > occurred_at").fetchall()
    }
    features = feature_set(CONFIGURATION.taxonomy, JOURNEY)

    vectors = reads_at(
        whole_table(events, CONFIGURATION.taxonomy),
        features,
        pa.array([row[1] for row in known]),
        np.array([row[2] for row in known]),
    )

    situations = [
        situation_of(JOURNEY, features, vector, attributes={}, holdings=None, context={}, channel=None)
        for vector in vectors
    ]
    agrees = [(s.stage, s.state) == row[3:] for s, row in zip(situations, known, strict=True)]
    on_time = [agreed for agreed, row in zip(agrees, known, strict=True) if row[1] not in late]
    assert len(on_time) > 200
    assert all(on_time)
    assert np.mean(agrees) > 0.97


def test_outcomes_follow_from_the_effects(folder: Path) -> None:
    """Of those who were treated so many progress in time as their probabilities say; within four standard errors."""
    settled = SIMULATION.until - 12 * 86_400_000_000
    rows = (
        tables(folder)
        .execute(
            """
            select count(*), sum(p1), sum(p1 * (1 - p1)), sum((exists (
                select 1 from events e
                where e.customer_id = t.customer_id and e.occurred_at > t.decided_at
                and e.occurred_at <= t.decided_at + interval 7 day
                and e.kind in ('identity_verified', 'card_offer_accepted', 'card_activated', 'card_used')))::int)
            from effects t
            where is_chosen and outcome_id = 'progress_7d' and epoch_us(decided_at) < $settled
            """,
            {"settled": settled},
        )
        .fetchall()
    )
    n, expected, variance, happened = (float(number) for number in rows[0])

    assert n > 2_000
    assert abs(happened - expected) < 4 * np.sqrt(variance)


def test_what_can_be_observed_is_right_on_average(effects: pd.DataFrame) -> None:
    """The expectation given the observable does not lean to either side of the truth, in any fifth of it."""
    typed = effects[~effects["action_id"].isin(["offer_protection", "survey_experience"])]
    fifths = pd.qcut(typed["p1_observed"], 5)

    means = typed.groupby(fifths, observed=True)[["p1", "p1_observed"]].mean()

    assert (means["p1"] - means["p1_observed"]).abs().max() < 0.015


def test_there_are_four_kinds_of_people(effects: pd.DataFrame) -> None:
    """Sure things progress anyway, persuadables are moved, lost causes are not, sleeping dogs should be left alone."""
    reminded = effects[effects["treatment_id"] == "sms_remind_v1"].groupby("customer_type")
    alone = reminded["p0"].mean()
    moved = reminded["p1"].mean() - alone

    assert alone["sure_thing"] > 2 * alone["persuadable"]
    assert alone["lost_cause"] < 0.1
    assert moved["persuadable"] > 0.05
    assert abs(moved["lost_cause"]) < 0.01
    assert moved["sleeping_dog"] < -0.03


def test_learning_pays(effects: pd.DataFrame) -> None:
    """The best policy on observed features clearly beats the best single treatment of each stage.

    Ranking by response probability is worse than the latter: it pays for what would have happened anyway.
    """
    by_decision = effects.groupby("decision_id")
    n = by_decision.ngroups
    best = effects.loc[by_decision["net_observed"].idxmax()]
    oracle = best["net"].where(best["net_observed"] > 0, 0.0).sum() / n
    per_stage = effects.groupby(["stage", "treatment_id"])["net"].sum().groupby("stage").max().clip(lower=0).sum() / n
    response = effects.loc[by_decision["p1_observed"].idxmax(), "net"].sum() / n
    logged = (effects["net"] * effects["selection_probability"]).sum() / n

    assert oracle > 1.4 * per_stage
    assert per_stage > response + 0.5
    assert per_stage > logged + 1.0
    assert (best["net_observed"] <= 0).mean() > 0.1
