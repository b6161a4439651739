"""The simulator's files: deterministic, independent of the block size, and true to the vocabulary."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from features.errors import Refused
from features.events import dump_timestamp, moment_of, parse_event
from models.configuration import built_in_configuration
from training.simulate import SCHEMAS, Simulation, simulate

BUILT_IN = built_in_configuration()
SMALL = Simulation(customers=300, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulation."""
    out = tmp_path_factory.mktemp("simulation")
    simulate(SMALL, out)
    return out


@pytest.fixture(scope="module")
def folder_in_other_blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same simulation, made in blocks of another size."""
    out = tmp_path_factory.mktemp("blocks")
    simulate(SMALL, out, block_size=170)
    return out


def times(table: pa.Table, column: str) -> np.ndarray:
    """A column of timestamps as microseconds."""
    return np.asarray(table[column].cast(pa.int64()))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_seed_gives_the_same_rows(name: str, folder: Path, folder_in_other_blocks: Path) -> None:
    """Also in blocks of another size: what becomes of a customer does not depend on the others."""
    # Rows of one customer keep their order; only the truth is written by stage inside a block.
    keys = {"events.parquet": "event_id", "identities.parquet": "id_value"}.get(name, "decision_id")
    order = [(key, "ascending") for key in ("customer_id", keys, *(["treatment_id"] if "truth" in name else []))]
    expected, actual = (pq.read_table(path / name).sort_by(order) for path in (folder, folder_in_other_blocks))
    assert actual.equals(expected)


def test_another_seed_gives_other_customers(folder: Path, tmp_path: Path) -> None:
    """The seed is what makes the population."""
    simulate(Simulation(customers=300, seed=6), tmp_path)

    assert not pq.read_table(tmp_path / "events.parquet").equals(pq.read_table(folder / "events.parquet"))


def test_every_event_is_one_of_the_taxonomy(folder: Path) -> None:
    """Kinds, channels and facts pass the same check as events from outside."""
    rows = pq.read_table(folder / "events.parquet").to_pylist()
    for number, row in enumerate(rows):
        document = {
            "event_id": row["event_id"],
            "customer_id": row["customer_id"],
            "kind": row["kind"],
            "channel": row["channel"],
            "occurred_at": row["occurred_at"].isoformat(),
            "facts": json.loads(row["facts"]),
            "text": row["text"],
        }
        at = SMALL.until
        parse_event(document, taxonomy=BUILT_IN.taxonomy, source="simulator", arrived_at=at, position=number)


def test_events_come_over_every_channel_of_the_taxonomy(folder: Path) -> None:
    """All that companies listen to occurs."""
    channels = set(pq.read_table(folder / "events.parquet")["channel"].to_pylist()) - {None}

    assert channels == set(BUILT_IN.taxonomy.channels)


def test_nothing_is_known_after_the_end(folder: Path) -> None:
    """No event arrives and no decision is made after the end of simulated time."""
    events, decisions = pq.read_table(folder / "events.parquet"), pq.read_table(folder / "decisions.parquet")

    assert times(events, "arrived_at").max() <= SMALL.until
    assert times(decisions, "decided_at").max() <= SMALL.until


def test_some_events_arrive_late_and_some_again(folder: Path) -> None:
    """None arrives before it occurred; the same id comes with the same content."""
    events = pq.read_table(folder / "events.parquet")
    delay = times(events, "arrived_at") - times(events, "occurred_at")
    again = [event_id for event_id, n in Counter(events["event_id"].to_pylist()).items() if n > 1]

    assert delay.min() == 0
    assert 0.005 < (delay > 0).mean() < 0.1
    assert 0.001 < len(again) / events.num_rows < 0.02
    contents = events.filter(pc.is_in(events["event_id"], pa.array(again))).drop_columns("arrived_at")
    assert len(set(map(str, contents.to_pylist()))) == len(again)


def test_feedback_comes_with_words_that_fit_its_score(folder: Path) -> None:
    """Promoters and detractors do not say the same."""
    events = pq.read_table(folder / "events.parquet")
    feedback = events.filter(pc.equal(events["kind"], "feedback_given")).to_pylist()
    said = {True: set(), False: set()}
    for event in feedback:
        nps = json.loads(event["facts"])["nps"]
        if nps >= 9 or nps <= 6:
            said[nps >= 9].add(event["text"])

    assert said[True]
    assert said[False]
    assert said[True] & said[False] == set()


def test_the_chosen_candidate_has_the_probability_that_is_recorded(folder: Path) -> None:
    """Candidates sum to one, hold no action, and the choice is among them."""
    for row in pq.read_table(folder / "decisions.parquet").to_pylist():
        chances = {c["treatment_id"]: c["selection_probability"] for c in json.loads(row["candidates"])}
        assert sum(chances.values()) == pytest.approx(1.0, abs=1e-12)
        assert chances["no_action"] > 0
        assert chances[row["treatment_id"]] == row["selection_probability"]


def test_exactly_the_treated_are_exposed(folder: Path) -> None:
    """Each decision other than no action has its exposure, if it arrived in time, and no other has one."""
    decisions = pq.read_table(folder / "decisions.parquet").to_pylist()
    events = pq.read_table(folder / "events.parquet")
    exposures = events.filter(pc.equal(events["kind"], "action_exposed")).to_pylist()
    exposed = {json.loads(event["facts"])["decision_id"] for event in exposures}
    recent = moment_of(SMALL.until - 4 * 86_400_000_000)
    treated = {row["decision_id"] for row in decisions if row["action_id"] != "no_action"}
    settled = {row["decision_id"] for row in decisions if row["decided_at"] < recent}

    assert exposed <= treated
    assert treated & settled <= exposed


def test_many_customers_are_in_the_middle_of_it_at_the_end(folder: Path) -> None:
    """Somebody can be decided for: an open journey and the last event some days ago."""
    events = pq.read_table(folder / "events.parquet")
    last = events.group_by("customer_id").aggregate([("occurred_at", "max")])
    days = (SMALL.until - np.asarray(last["occurred_at_max"].cast(pa.int64()))) / 86_400_000_000
    closing = events.filter(pc.is_in(events["kind"], pa.array(["card_used", "application_withdrawn"])))
    closed = set(closing["customer_id"].to_pylist())
    stuck = [c for c, d in zip(last["customer_id"].to_pylist(), days, strict=True) if 2 < d < 20 and c not in closed]

    assert len(stuck) >= 10


def test_every_customer_can_be_recognised(folder: Path) -> None:
    """By e-mail, telephone and cookie, and by device where there is an app; values are hashes."""
    identities = pq.read_table(folder / "identities.parquet")
    per_type = Counter(identities["id_type"].to_pylist())

    assert per_type["email"] == per_type["phone"] == per_type["cookie"] == SMALL.customers
    assert 0 < per_type["device"] < SMALL.customers
    assert {len(value) for value in identities["id_value"].to_pylist()} == {16}


def test_the_end_of_time_moves_everything(tmp_path: Path) -> None:
    """With another end the same customers live at another time."""
    until = SMALL.until + 40 * 86_400_000_000

    simulate(Simulation(customers=50, seed=5, until=until), tmp_path)

    latest = times(pq.read_table(tmp_path / "events.parquet"), "arrived_at").max()
    assert until - 10 * 86_400_000_000 < latest <= until


def test_the_summary_says_what_was_simulated(folder: Path) -> None:
    """Seed, end, version and counts stand beside the files."""
    summary = json.loads((folder / "simulation.json").read_text())

    assert (summary["seed"], summary["until"], summary["world_version"]) == (5, dump_timestamp(SMALL.until), 1)
    assert summary["counts"]["customers"] == 300
    assert summary["counts"]["events"] == pq.read_metadata(folder / "events.parquet").num_rows


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """Nothing of anybody is overwritten."""
    (tmp_path / "thesis.doc").write_text("years of work")

    with pytest.raises(Refused, match="holds other files"):
        simulate(SMALL, tmp_path)


def test_an_earlier_simulation_is_replaced(tmp_path: Path) -> None:
    """The folder then holds the new one only."""
    simulate(Simulation(customers=60, seed=1), tmp_path)
    simulate(Simulation(customers=40, seed=1), tmp_path)

    ids = pq.read_table(tmp_path / "identities.parquet")["customer_id"]
    assert pc.count_distinct(ids).as_py() == 40


@pytest.mark.parametrize(("customers", "span_days"), [(0, 180.0), (10, 0.0), (10, float("nan"))])
def test_senseless_numbers_are_refused(customers: int, span_days: float, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(Refused, match="cannot"):
        simulate(Simulation(customers=customers, span_days=span_days), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_visitors_are_anonymous_until_they_apply(folder: Path) -> None:
    """What they viewed and clicked before is under their cookie, and nothing of it after."""
    events, identities = (pq.read_table(folder / name) for name in ("events.parquet", "identities.parquet"))
    cookies = identities.filter(pc.equal(identities["id_type"], "cookie"))
    known_at = dict(zip(cookies["id_value"].to_pylist(), times(cookies, "known_at").tolist(), strict=True))
    visits = events.filter(pc.is_in(events["customer_id"], cookies["id_value"]))

    assert set(visits["kind"].to_pylist()) == {"ad_clicked", "page_viewed"}
    visited_at = zip(visits["customer_id"].to_pylist(), times(visits, "occurred_at").tolist(), strict=True)
    assert all(at < known_at[cookie] for cookie, at in visited_at)
    viewed = events.filter(pc.equal(events["kind"], "page_viewed"))
    assert 0 < pc.sum(pc.is_in(viewed["customer_id"], cookies["id_value"])).as_py() < len(viewed)
