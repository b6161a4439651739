"""``headway report experiment`` over a home that a service filled: effects that are there, records that are lost."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from features.cli import run
from features.event_store import SqlEventLog
from features.events import dump_timestamp
from features.home import HOME_VARIABLE, Home, lock_file
from models.configuration import load_configuration
from models.decision import DecisionRecord, dump_record, load_record
from models.record_store import SqlRecordStore
from tests.doors import NOW, World, event
from tests.experimented import DAY_US, EXPERIMENT, RATE, RATE_IF_CONTACTED, experimented_home
from training.experiment_findings import document_of
from training.experiment_question import asked_report
from training.experiment_report import experiment_report
from training.params import load_params

COMMANDS = [
    EntryPoint("report", "models.report_commands:report", "headway.commands"),
    EntryPoint("report experiment", "training.experiment_commands:experiment", "headway.commands"),
]
CUSTOMERS = 600
FOLLOWED = 540
LONG_SETTLED = 540
"""Decisions whose longest declared window, of 14 days, is over."""
PRIMARY = "outcome:progress_7d"

Told = dict[str, Any]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home to copy."""
    return experimented_home(tmp_path_factory.mktemp("experimented"), customers=CUSTOMERS)


@pytest.fixture(scope="module")
def told(lived: Home) -> Told:
    """The whole report, by region, of the home as it was filled."""
    configuration = load_configuration(lived, {})
    asked = asked_report(configuration, None, group_by="region")
    return document_of(experiment_report(lived, configuration, load_params(), asked))


@pytest.fixture
def home(lived: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy, which the environment names."""
    copy = Home(tmp_path / "home")
    shutil.copytree(lived.root, copy.root)
    monkeypatch.setenv(HOME_VARIABLE, str(copy.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return copy


def reported(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Told, str]:
    """Exit code, the document, and the message."""
    capsys.readouterr()
    stderr = io.StringIO()
    code = run(["report", "experiment", *arguments, "--json"], os.environ, commands=COMMANDS, stderr=stderr)
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}, stderr.getvalue()


def quickly(capsys: pytest.CaptureFixture[str], *arguments: str) -> Told:
    """The report without what is valued on the log."""
    code, told, said = reported(capsys, *arguments, "--no-policies")
    assert code == 0, said
    return told


def compared(told: Told, arm: str = "champion", against: str = "no_contact_holdout") -> Told:
    """One comparison."""
    return next(one for one in told["comparisons"] if (one["arm"], one["against"]) == (arm, against))


def rewritten(home: Home, change: Callable[[DecisionRecord], DecisionRecord | None]) -> int:
    """Records changed, or lost where the change gives None; how many are left."""
    with closing(sqlite3.connect(home.records_db)) as records, records:
        rows = records.execute("SELECT decision_id, record FROM decisions ORDER BY decision_id").fetchall()
        for decision_id, data in rows:
            changed = change(load_record(data))
            if changed is None:
                records.execute("DELETE FROM decisions WHERE decision_id = ?", (decision_id,))
            else:
                row = (dump_record(changed), decision_id)
                records.execute("UPDATE decisions SET record = ? WHERE decision_id = ?", row)
        return int(records.execute("SELECT count(*) FROM decisions").fetchone()[0])


def test_an_effect_that_is_there_is_found(told: Told) -> None:
    """Half of those who are contacted move on, a fifth of the others; nearly everybody of the champion is contacted."""
    assert told["sample_ratio"]["status"] == "matches"
    assert (told["sample"]["people"], told["sample"]["settled"]) == (CUSTOMERS, FOLLOWED)
    one = compared(told)
    offered, found = one["measures"]["offered"]["estimate"], one["measures"][PRIMARY]
    truth = offered * (RATE_IF_CONTACTED - RATE)
    assert offered > 0.9
    assert found["always_low"] < found["low"] < truth < found["high"] < found["always_high"]
    assert found["always_low"] > 0
    assert "sure, however often one looks" in told["headlines"][1]
    value = one["measures"]["value"]["estimate"]
    gain, spend = one["measures"]["gain"]["estimate"], one["measures"]["spend"]["estimate"]
    # Progress is worth 38, an answer to a survey 2; patience is a cost, though no money is spent on it.
    assert gain == pytest.approx(38 * found["estimate"] + 2 * one["measures"]["outcome:feedback_7d"]["estimate"])
    assert 0 < spend < gain - value < 1.0
    assert one["roi"]["estimate"] == pytest.approx(value / spend)
    assert one["value_per_decision"]["estimate"] == pytest.approx(
        value / next(arm["decisions_per_person"] for arm in told["arms"] if arm["arm"] == "champion")
    )


def test_nobody_of_the_holdout_is_offered_anything(told: Told) -> None:
    """They have no candidate that was scored, and still tell what would have come."""
    holdout = next(one for one in told["arms"] if one["arm"] == "no_contact_holdout")
    measures = holdout["measures"]
    assert [measures[name]["estimate"] for name in ("offered", "contacts", "exposed", "spend")] == [0, 0, 0, 0]
    assert abs(measures[PRIMARY]["estimate"] - RATE) < 0.08
    assert "holdout_contacted" not in {one["code"] for one in told["warnings"]}


def test_a_holdout_that_was_contacted_after_all_is_told(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else wrote to them."""
    ids = _customers_of(home, "no_contact_holdout")
    facts = {"action_id": "nudge_documents"}
    at = dump_timestamp(NOW + 2 * DAY_US)
    _append(
        home,
        [
            event(f"x-{one}", kind="action_exposed", customer_id=one, occurred_at=at, channel="email", facts=facts)
            for one in ids[:20]
        ],
    )

    told = quickly(capsys)

    (warning,) = [one for one in told["warnings"] if one["code"] == "holdout_contacted"]
    assert "shown or sent something" in warning["text"]


def test_records_lost_in_one_arm_are_caught(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Most of the holdout's records vanish: it is said first, everywhere, and on which day."""
    rng = np.random.default_rng(4)
    rewritten(home, lambda one: None if one.arm == "no_contact_holdout" and rng.random() < 0.7 else one)

    told = quickly(capsys)

    ratio = told["sample_ratio"]
    assert ratio["status"] == "mismatch"
    assert ratio["always_valid_p"] < ratio["alpha"]
    assert ratio["first_alarm_at"] is not None
    assert ratio["where"][0]["p_value"] < 0.001
    assert told["headlines"][0].startswith("SAMPLE RATIO MISMATCH")
    assert told["warnings"][0]["code"] == "sample_ratio_mismatch"
    page = (home.reports / "experiments" / f"{EXPERIMENT}.html").read_text()
    assert page.index("SAMPLE RATIO MISMATCH") < page.index("Made progress")
    assert run(["report", "experiment", "--no-policies"], os.environ, commands=COMMANDS) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("SAMPLE RATIO MISMATCH")


def test_who_is_met_in_two_arms_counts_by_the_first(home: Home, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Another salt dealt some anew for their second decision: they are told, and stay where they were."""
    moved = {"random_eligible": "champion"}
    turned = set(_customers_of(home, "random_eligible"))
    seen: set[str] = set()

    def change(one: DecisionRecord) -> DecisionRecord:
        again = one.customer_id in seen
        seen.add(one.customer_id)
        return msgspec.structs.replace(one, arm=moved.get(one.arm, one.arm)) if again else one

    rewritten(home, change)
    after = quickly(capsys)

    assert after["sample"]["in_two_arms"] == {"shares_changed": _with_two(home, turned)}
    assert [one["people"] for one in after["arms"]] == [one["people"] for one in told["arms"]]
    assert "in_two_arms" in {one["code"] for one in after["warnings"]}


def test_ids_that_turn_out_to_be_one_person_count_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A link makes one of two customers, in the arm of whoever came first."""
    first, second = _customers_of(home, "champion")[0], _customers_of(home, "random_eligible")[-1]
    at, facts = dump_timestamp(NOW + 14 * DAY_US), {"alias": second}
    _append(
        home,
        [
            event("l", kind="identity_linked", customer_id=first, occurred_at=at, channel=None, facts=facts),
        ],
    )

    told = quickly(capsys)

    assert told["sample"]["people"] == CUSTOMERS - 1
    assert told["sample"]["in_two_arms"] == {"several_ids": 1}


def test_other_modes_and_arms_do_not_count(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Imported and shadow decisions, unknown arms, and probabilities that are none: left out with their number."""
    changes: list[dict[str, Any]] = [
        {"mode": "imported", "arm": "imported", "arm_probabilities": {"imported": 1.0}, "experiment_id": ""},
        {"arm": "another"},
        {"arm_probabilities": {}},
        {"experiment_id": "exp-before"},
    ]

    def change(one: DecisionRecord) -> DecisionRecord:
        if one.mode == "live" and one.customer_id in ("c-1", "c-2", "c-4", "c-5"):
            return msgspec.structs.replace(one, **changes[("c-1", "c-2", "c-4", "c-5").index(one.customer_id)])
        return one

    rewritten(home, change)
    told = quickly(capsys)

    assert told["sample"]["excluded"] == {
        "broken_probabilities": 1,
        "imported": 1,
        "no_arm": 1,
        "other_experiment": 1,
        "shadow": 1,
    }
    assert told["sample"]["people"] == CUSTOMERS - 4
    assert "broken_probabilities" in {one["code"] for one in told["warnings"]}
    code, earlier, _ = reported(capsys, "exp-before", "--no-policies")
    assert (code, earlier["sample"]["people"]) == (0, 1)
    assert earlier["comparisons"] == []


def test_who_came_in_decides_who_counts(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """``--since`` and ``--until`` choose people by their first decision, not decisions."""
    late = dump_timestamp(NOW + 5 * DAY_US)

    before, after = quickly(capsys, "--until", late), quickly(capsys, "--since", late)

    assert (before["sample"]["people"], before["sample"]["not_yet"]) == (FOLLOWED, 0)
    assert (after["sample"]["people"], after["sample"]["settled"]) == (CUSTOMERS - FOLLOWED, 0)
    assert after["comparisons"] == []
    assert after["unknown"][0].startswith("60 of 60 customers came in less than 7 days ago")


def test_another_outcome_and_a_longer_time(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The outcome that matters most stands first, and no event is counted twice."""
    told = quickly(capsys, "--outcome", "acceptance_14d", "--follow-up", "2d")

    assert (told["primary_outcome"], told["follow_up_days"]) == ("acceptance_14d", 2.0)
    assert told["measures"][0]["id"] == "outcome:acceptance_14d"
    assert "progress_7d" not in told["counted"]
    assert {"acceptance_14d", "activation_14d", "protection_14d", "feedback_7d"} <= set(told["counted"])
    # Only who was verified can accept: half as many as move on.
    assert 0.1 < compared(told)["measures"]["outcome:acceptance_14d"]["estimate"] < 0.25


def test_every_declared_outcome_is_there_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Within the follow-up where its value counts, in its own window where it does not or that is another."""
    told = quickly(capsys, "--follow-up", "14d")

    found = {one["id"] for one in told["measures"] if ":" in one["id"]}
    assert found == {
        *("outcome:progress_7d", "outcome:protection_14d", "outcome:feedback_7d"),
        *("declared:progress_7d", "declared:acceptance_14d", "declared:activation_14d", "declared:first_use_14d"),
        "declared:feedback_7d",
    }


def test_groups_are_compared_by_themselves(told: Told) -> None:
    """By stage and by a declared attribute at the first decision; together they are everybody."""
    groups = compared(told)["groups"]
    named = {(one["dimension"], one["group"]) for one in groups}
    assert named == {("stage", "applied"), ("stage", "verified"), ("region", "north"), ("region", "south")}
    people = compared(told)["people"]
    for dimension in ("stage", "region"):
        assert sum(one["people"] for one in groups if one["dimension"] == dimension) == people
    assert all(set(one["measures"]) == {PRIMARY, "value"} for one in groups)


def test_scores_are_compared_among_who_gives_them(told: Told) -> None:
    """Scores from 0 to 10 at random: 2 promoters and 7 detractors in 11, whatever the arm."""
    scores = compared(told)["measures"]["nps"]
    arm = next(one for one in told["arms"] if one["arm"] == "champion")["measures"]
    assert scores["low"] < 0 < scores["high"]
    assert arm["nps"]["low"] < 100 * (2 - 7) / 11 < arm["nps"]["high"]
    assert 0.4 < arm["nps_answered"]["estimate"] < 0.6


def test_the_sample_size_says_when(told: Told) -> None:
    """More where one looks at any time, and the days follow from who comes in lately."""
    size, rate = compared(told)["sample_size"], told["sample"]["people_per_day"]
    assert size["effect"] == pytest.approx(0.1 * told["arms"][0]["measures"][PRIMARY]["estimate"])
    assert CUSTOMERS < size["people"] < size["people_if_looking"]
    assert size["days"] == pytest.approx((size["people"] - CUSTOMERS) / rate + 7, rel=0.01)
    assert size["smallest_now"] == pytest.approx(size["effect"] * np.sqrt(size["people"] / FOLLOWED), rel=0.01)


def test_the_last_look_is_the_difference_now(told: Told) -> None:
    """Looks go through everybody who is settled, in the order in which they came in."""
    looks = compared(told)["looks"]

    assert looks[-1]["people"] == FOLLOWED
    assert looks[-1]["difference"] == compared(told)["measures"][PRIMARY]
    assert [one["people"] for one in looks] == sorted({one["people"] for one in looks})
    assert [one["at"] for one in looks] == sorted(one["at"] for one in looks)
    widths = [one["difference"]["always_high"] - one["difference"]["always_low"] for one in looks]
    assert widths[0] > 1.5 * widths[-1]


def test_other_ways_to_decide_are_valued(told: Told) -> None:
    """Customers were drawn into a random action; the other four are valued on the log, or refused with a reason."""
    policies = {one["id"]: one for one in told["policies"]}
    assert list(policies) == [
        "policy_random",
        "policy_response_ranking",
        "policy_without_levers",
        "policy_rules_only",
        "model_random",
    ]
    assert (policies["policy_random"]["how"], policies["policy_random"]["per"]) == ("arms", "customer")
    assert policies["policy_random"]["value"] == compared(told, against="random_eligible")["measures"]["value"]
    for one in told["policies"][1:]:
        assert (one["how"], one["per"], one["decisions"]) == ("off_policy", "decision", LONG_SETTLED)
        assert (one["value"]["estimate"] is None) == bool(one["refused"])
    # No model is there: whose estimates they are makes no difference, and the built-in levers lift nothing.
    assert policies["policy_without_levers"]["value"]["estimate"] == 0
    assert policies["policy_response_ranking"]["value"]["low"] > 0


def test_both_files_are_written(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What was printed stands under the experiment's name, beside a page that needs nothing from elsewhere."""
    told = quickly(capsys, "--group-by", "region")

    folder = home.reports / "experiments"
    assert json.loads((folder / f"{EXPERIMENT}.json").read_text()) == told
    page = (folder / f"{EXPERIMENT}.html").read_text()
    assert all(line.replace("'", "&#39;") in page for line in told["headlines"])
    assert not re.search(r"(src|href)=.http|url.http", page)
    assert page.count("<figure>") >= 4


def test_people_are_told_in_sentences(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample first, what changes, what it is worth, and what is open."""
    assert run(["report", "experiment", "--no-policies"], os.environ, commands=COMMANDS) == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == f"Experiment {EXPERIMENT} on credit_card_application"
    assert lines[2].startswith("The sample is sound: 600 customers")
    assert "points more often" in lines[3]
    assert lines[4].startswith("That is EUR +")
    assert "Not known yet:" in lines


def test_the_same_log_gives_the_same_report(home: Home, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    """Also while a service writes, and the folder of the exported events is gone."""
    with lock_file(home.records_db), lock_file(home.events_db):
        again = reported(capsys, "--group-by", "region")[1]

    assert again == told
    assert not list(home.state.glob("experiment-*"))


def test_the_document_keeps_its_form(told: Told) -> None:
    """Format 1 has these parts; another meaning needs another number."""
    assert told["format"] == 1
    assert set(told) == {
        *("format", "experiment_id", "journey_id", "currency", "configuration", "since", "until", "group_by"),
        *("observed_until", "primary_outcome", "follow_up_days", "counted", "level", "planned_people"),
        *("sample_ratio", "warnings", "headlines", "unknown", "sample", "measures", "arms", "comparisons", "policies"),
    }
    assert set(told["comparisons"][0]) == {
        *("arm", "against", "people", "people_against", "left_out", "measures", "value_per_decision", "roi"),
        *("sample_size", "groups", "looks"),
    }
    assert set(told["comparisons"][0]["roi"]) == {"estimate", "low", "high", "always_low", "always_high"}
    assert {one["id"] for one in told["measures"]} == set(told["comparisons"][0]["measures"])
    assert set(told["sample_ratio"]) == {
        *("status", "alpha", "p_value", "always_valid_p", "first_alarm_at", "decisions_p_value", "arms", "where"),
    }


def test_an_empty_home_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy's experiment is known, though nobody takes part yet."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))

    code, told, _ = reported(capsys)

    assert (code, told["experiment_id"], told["sample"]["people"]) == (0, "default-2025", 0)
    assert (told["sample_ratio"]["status"], told["headlines"]) == ("unknown", [])
    assert told["unknown"][0].startswith("No live decision of default-2025")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exp-spring"], f"no experiment 'exp-spring'; expected one of {EXPERIMENT}"),
        (["--journey", "none"], "is not declared"),
        (["--outcome", "wealth"], "expected one of progress_7d"),
        (["--group-by", "channel"], "group_by"),
        (["--follow-up", "soon"], "a duration"),
        (["--follow-up", "0d"], "above 0"),
        (["--since", "yesterday"], "ISO 8601"),
    ],
)
def test_what_cannot_be_is_refused(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Exit code 2, nothing on standard output, and what was expected."""
    code, told, said = reported(capsys, *arguments)

    assert (code, told) == (2, {})
    assert message in said


def _records(home: Home) -> list[DecisionRecord]:
    with closing(sqlite3.connect(home.records_db)) as records:
        rows = records.execute("SELECT record FROM decisions ORDER BY decision_id").fetchall()
    return [one for one in (load_record(data) for (data,) in rows) if one.mode == "live"]


def _customers_of(home: Home, arm: str) -> list[str]:
    return list(dict.fromkeys(one.customer_id for one in _records(home) if one.arm == arm))


def _with_two(home: Home, customers: set[str]) -> int:
    ids = [one.customer_id for one in _records(home) if one.customer_id in customers]
    return len(ids) - len(set(ids))


def _append(home: Home, documents: list[dict[str, Any]]) -> None:
    with (
        closing(SqlEventLog(home.events_db, durability="NORMAL")) as log,
        closing(SqlRecordStore(home.records_db, durability="NORMAL")) as records,
    ):
        world = World(home.root, records=records, log=log)
        world.now = NOW + 15 * DAY_US
        with world.client() as client:
            answer = client.done("/v1/events", {"events": documents})
    assert answer["rejected"] == 0, answer["rejections"][:3]
