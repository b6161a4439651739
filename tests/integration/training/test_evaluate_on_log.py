"""``headway evaluate --log`` over a filled home: what a policy would have earned, or why nobody can say."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from features.cli import run
from features.home import HOME_VARIABLE, Home, lock_file
from models.configuration import built_in_configuration, load_configuration
from models.decision import dump_record, load_record
from models.ope_reports import kept_ope_reports, ope_report
from models.record_store import SqlRecordStore
from models.registry import LocalRegistry
from tests.doors import World
from tests.lived import BAD, CUSTOMERS, GOOD, believing_bundle, lived_home, roomy_policy
from tests.recorded import NAME

COMMANDS = [EntryPoint("evaluate", "training.commands:evaluate", "headway.commands")]
HARM = -0.1 * 38 - 0.03
"""Money per decision of what harms: a tenth less progress at 38, and an e-mail."""
HELP = 0.54 * (0.4 * 38 - 4.35)
"""Of what helps: 54 % are called, progress is likelier by .4, and a call costs 4.35."""


@pytest.fixture
def home(lived: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy, which the environment names."""
    copy = Home(tmp_path / "home")
    shutil.copytree(lived.root, copy.root)
    return named(copy, monkeypatch)


def named(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home that the commands work on."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return home


def evaluated(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the report, and the message."""
    capsys.readouterr()
    stderr = io.StringIO()
    code = run(["evaluate", "--log", "--json", *options], os.environ, commands=COMMANDS, stderr=stderr)
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}, stderr.getvalue()


def holds(interval: dict[str, float], truth: float) -> bool:
    """Whether the interval does."""
    return interval["low"] <= truth <= interval["high"]


def codes(report: dict[str, Any]) -> set[str]:
    """Of the refusals."""
    return {one["code"] for one in report["refused"]}


def changed_policy(home: Home, folder: Path, **changes: Any) -> str:
    """A policy file that differs in something; its path."""
    document = yaml.safe_load((home.config / "policy.yaml").read_text(encoding="utf-8"))
    path = folder / "changed_policy.yaml"
    path.write_text(yaml.safe_dump(document | changes), encoding="utf-8")
    return str(path)


def test_who_decided_is_valued_for_everybody(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The champion harms; five of six estimators know, and the one that asks only the model says how unsure it is."""
    code, report, _ = evaluated(capsys)

    assert (code, report["refused"]) == (0, [])
    assert report["estimates"].keys() == {"IPS", "SNIPS", "DM", "DR", "Switch-DR", "DRos"}
    for name, found in report["estimates"].items():
        assert holds(found, HARM), name
        assert (found["value"] < 0) == (name != "DM")
    assert report["data"]["decisions"] == report["data"]["customers"] == CUSTOMERS
    assert report["data"]["arms"].keys() == {"champion", "challenger", "random_eligible", "no_contact_holdout"}
    assert report["overlap"]["unsupported"] == 0.0
    # Some were left alone, and what is done at random harms less often.
    assert report["difference"]["high"] < 0
    assert holds(report["logging"], report["estimates"]["DR"]["value"] - report["difference"]["value"])
    assert report["slates"] is None
    assert "several places" in report["slates_reason"]


def test_a_better_version_is_seen_to_be_better(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Over doing nothing, over who decided, and over chance."""
    code, report, _ = evaluated(capsys, "--version", "2")

    assert code == 0
    assert holds(report["estimates"]["DR"], HELP)
    assert report["difference"]["low"] > 0
    assert report["baselines"]["random"]["lead"]["low"] > 0
    assert report["question"]["version"] == 2
    mix = {one["action_id"]: one["policy"] for one in report["actions"]}
    assert mix[GOOD] == pytest.approx(0.54, abs=0.03)
    assert mix[BAD] < 0.01
    assert sum(mix.values()) == pytest.approx(1.0)


def test_a_worse_policy_file_is_seen_to_be_worse(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without exploration the champion harms always."""
    file = changed_policy(home, tmp_path, exploration={"epsilon": 0.0, "temperature": 3.0})

    code, report, _ = evaluated(capsys, "--policy", file)

    assert code == 0
    assert report["difference"]["high"] < 0
    assert holds(report["estimates"]["DR"], HARM)
    # It does what the baseline does that only drops the draws.
    assert report["baselines"]["by_priority"]["lead"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_better_catalogue_is_seen_to_be_better(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where what harms is applicable to nobody."""
    document = yaml.safe_load((home.config / "actions.yaml").read_text(encoding="utf-8"))
    for action in document["actions"]:
        action["min_stall_propensity"] = 1.0 if action["id"] == BAD else action.get("min_stall_propensity", 0.0)
    path = tmp_path / "other_actions.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")

    code, report, _ = evaluated(capsys, "--actions", str(path))

    assert code == 0
    assert report["difference"]["low"] > 0
    assert BAD not in {one["action_id"] for one in report["actions"] if one["policy"] > 0}


def test_what_was_never_logged_cannot_be_valued(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that asks for no consent writes to phones, which nobody here allowed: no log says what comes of it."""
    contact = yaml.safe_load((home.config / "policy.yaml").read_text(encoding="utf-8"))["contact_policy"]
    file = changed_policy(home, tmp_path, contact_policy=contact | {"consent": {"opt_in": [], "opt_out": []}})

    code, report, _ = evaluated(capsys, "--policy", file)

    assert (code, "no_support" in codes(report)) == (1, True)
    assert report["overlap"]["unsupported"] > 0.1
    assert report["estimates"] is None


def test_the_version_that_decided_is_who_decided(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Version 1 by name gives the numbers that it gives without one; the questions are two."""
    unnamed, by_name = evaluated(capsys)[1], evaluated(capsys, "--version", "1")[1]

    assert by_name["estimates"] == unnamed["estimates"]
    assert by_name["id"] != unnamed["id"]


def test_a_version_is_not_judged_by_what_it_learned_from(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained on all decisions there are, it waits for new ones; on the earlier half, the later half judges it."""
    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        ids = [one.decision_id for page in records.read() for one in page]
    world = World(home.root)
    world.configuration = load_configuration(home, {})
    registry = LocalRegistry(home.bundles)
    newest, middle = (
        registry.register(believing_bundle(world, home.root / f"made-{name}", GOOD, ids[place]), NAME, {})
        for name, place in (("newest", -1), ("middle", CUSTOMERS // 2 - 1))
    )

    code, report, _ = evaluated(capsys, "--version", str(newest))
    assert (code, codes(report), report["estimates"]) == (1, {"no_decisions"}, None)
    assert report["question"]["learned_until"] == ids[-1]

    _, report, _ = evaluated(capsys, "--version", str(middle))
    assert report["data"]["decisions"] == CUSTOMERS // 2


def test_a_log_without_probabilities_is_refused(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, the reasons by code, and no number anywhere."""
    with closing(sqlite3.connect(home.records_db)) as records, records:
        for decision_id, data in records.execute("SELECT decision_id, record FROM decisions").fetchall():
            record = load_record(data)
            candidates = tuple(msgspec.structs.replace(one, selection_probability=0.0) for one in record.candidates)
            changed = dump_record(msgspec.structs.replace(record, candidates=candidates))
            records.execute("UPDATE decisions SET record = ? WHERE decision_id = ?", (changed, decision_id))

    code, report, _ = evaluated(capsys)

    assert (code, codes(report)) == (1, {"broken_probabilities"})
    assert report["data"]["skipped"]["broken_probabilities"] == CUSTOMERS
    assert {report[name] for name in ("estimates", "logging", "difference", "baselines")} == {None}


def test_too_few_decisions_are_refused(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """With what was found and what was expected; the log itself is told about."""
    code, report, _ = evaluated(capsys, "--last", "150", "--version", "2")

    assert (code, report["data"]["decisions"]) == (1, 150)
    reason = next(one for one in report["refused"] if one["code"] == "few_decisions")
    assert reason["value"] < reason["threshold"] == 100.0
    assert report["estimates"] is report["difference"] is None
    assert report["weights"]["ess"] == reason["value"]


def test_only_the_decisions_asked_for_count(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """From a moment on, and before one: together they are all."""
    middle = "2026-03-03T00:00:00Z"

    before, after = (evaluated(capsys, option, middle)[1]["data"] for option in ("--until", "--since"))

    assert before["decisions"] + after["decisions"] == CUSTOMERS
    assert before["last_decided_at"] < "2026-03-03T00:00:00.000000Z" <= after["first_decided_at"]


def test_the_same_question_is_the_same_report(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """One report of the same bytes however often it is asked, which a list of the reports finds."""
    folder = home.evaluation_reports
    first = evaluated(capsys)[1]
    kept = {one.name: one.read_bytes() for one in folder.iterdir()}

    again = evaluated(capsys)[1]

    assert again == first == ope_report(folder, first["id"]).document
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == kept
    assert kept.keys() == {f"{first['id']}.json", f"{first['id']}.html"}
    assert [one.report_id for one in kept_ope_reports(folder)] == [first["id"]]


def test_people_get_lines_and_a_page(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What it is worth, what it is compared with, and where the page is, which loads nothing."""
    assert run(["evaluate", "--log", "--version", "2"], os.environ, commands=COMMANDS) == 0

    told = capsys.readouterr().out
    assert "model version 2 on 1,500 decisions of 1,500 customers" in told
    assert "random: " in told
    page = next(home.evaluation_reports.glob("*.html"))
    assert told.rstrip().endswith(f"The report is {page}")
    text = page.read_text(encoding="utf-8")
    assert "What model version 2 would have earned" in text
    assert "more than what was really done earned" in text
    assert "<script" not in text
    assert "src=" not in text


def test_it_works_while_a_service_writes(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes only the report."""
    with lock_file(home.records_db), lock_file(home.events_db):
        assert evaluated(capsys, "--last", "50")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--version", "2"], "--version without --log"),
        (["evaluate", "--log", "--version", "9"], "has no version 9"),
        (["evaluate", "--log", "--since", "yesterday"], "--since: got yesterday"),
        (["evaluate", "--log", "--journey", "none"], "is not declared"),
    ],
)
def test_what_cannot_be_is_refused(home: Home, arguments: list[str], message: str) -> None:
    """Exit code 2, and what was expected."""
    stderr = io.StringIO()

    assert run(arguments, os.environ, commands=COMMANDS, stderr=stderr) == 2
    assert message in stderr.getvalue()


@pytest.mark.slow
def test_the_policy_that_logged_differs_from_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the champion decided for all, it earns what was earned: the difference is 0, and every weight is 1."""
    alone = {"no_contact_holdout": 0.0, "random_eligible": 0.0, "challenger": 0.0}
    texts = roomy_policy(built_in_configuration(), alone, {"epsilon": 1.0, "temperature": 20.0})
    named(lived_home(tmp_path / "alone", texts, customers=800), monkeypatch)

    code, report, _ = evaluated(capsys)

    assert (code, report["refused"]) == (0, [])
    assert report["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (report["weights"]["mean"], report["weights"]["ess"]) == (1.0, 800.0)
    assert report["logging"]["value"] == pytest.approx(report["estimates"]["DR"]["value"])


@pytest.mark.slow
def test_slates_are_valued_where_slots_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A call and a page: nine in ten are dealt both at random; calling first is worth a call less a page."""
    at_random = {"no_contact_holdout": 0.1, "random_eligible": 0.9, "challenger": 0.0}
    asked = {"placements": ["call/agent", "web/page"], "direction": "inbound"}
    texts = roomy_policy(built_in_configuration(), at_random)
    home = named(lived_home(tmp_path / "slates", texts, asked=asked), monkeypatch)

    _, report, _ = evaluated(capsys, "--version", "2")

    slates = report["slates"]
    assert slates["refused"] == []
    assert slates["slots"] == 2
    assert slates["decisions"] == report["data"]["arms"]["random_eligible"]
    assert slates["estimates"].keys() == {"slate IPS", "RIPS"}
    called = next(one["policy"] for one in report["actions"] if one["action_id"] == GOOD)
    # A call costs 5.15 here, and the page beside it .65, which changes nothing.
    truth = called * (0.4 * 38 - 5.15 - 0.65)
    for found in slates["estimates"].values():
        assert holds(found, truth)
        assert found["low"] > slates["logging"]["value"]
        assert all(ess > 100 for ess in found["ess"])
    assert "Several slots at once" in next(home.evaluation_reports.glob("*.html")).read_text(encoding="utf-8")


def test_a_home_in_which_nothing_was_decided_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no log."""
    named(Home(tmp_path / "empty").create(), monkeypatch)
    stderr = io.StringIO()

    assert run(["evaluate", "--log"], os.environ, commands=COMMANDS, stderr=stderr) == 2
    assert "no decision was ever made" in stderr.getvalue()
