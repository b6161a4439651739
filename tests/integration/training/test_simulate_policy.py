"""``headway simulate-policy`` over a home that a service filled: the document, the page, and what is refused."""

from __future__ import annotations

import io
import json
import os
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.cli import run
from features.event_store import SqlEventLog
from features.events import dump_timestamp
from features.home import HOME_VARIABLE, Home
from models.configuration import load_configuration
from models.decision import DecisionRecord
from models.record_store import SqlRecordStore
from models.registry import CHALLENGER, LocalRegistry
from tests.doors import World
from tests.lived import GOOD, believing_bundle
from tests.recorded import NAME, live, promote, recorded_world

COMMANDS = [EntryPoint("simulate-policy", "training.change_commands:simulate_policy", "headway.commands")]
DECISIONS = 150


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which version 1 decided for every kind of question; version 2 believes something else."""
    folder = tmp_path_factory.mktemp("home")
    home = Home(folder).create()
    log = SqlEventLog(home.events_db, durability="NORMAL")
    with closing(log), closing(SqlRecordStore(home.records_db, durability="NORMAL")) as records:
        world = recorded_world(folder, records=records, log=log)
        promote(world, 1)
        with world.client() as client:
            world.champions[-1].refresh()
            live(world, client, decisions=DECISIONS, customers=60, seed=1)
        promote(world, 2, CHALLENGER)
    return home


@pytest.fixture(autouse=True)
def in_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names it."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)


def _run(*arguments: str) -> tuple[int, str]:
    errors = io.StringIO()
    return run(["simulate-policy", *arguments], os.environ, commands=COMMANDS, stderr=errors), errors.getvalue()


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    code, errors = _run(*arguments, "--json")
    printed = capsys.readouterr().out
    assert code == 0, errors
    document: dict[str, Any] = json.loads(printed)
    return document


def _live(home: Home) -> list[DecisionRecord]:
    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        return [one for page in records.read() for one in page if one.mode == "live"]


def _policy(home: Home, folder: Path, **changes: Any) -> Path:
    policy = yaml.safe_load((home.config / "policy.yaml").read_text())
    policy["contact_policy"] |= changes
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(policy))
    return file


def _no_contacts(home: Home, folder: Path) -> Path:
    return _policy(home, folder, caps=[{"id": "cap.none", "contacts": 0, "period": "7d"}])


def test_one_decision_has_no_interval(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one customer nobody can say what chance does: the figures are told without an interval, on the page too."""
    policy = str(_no_contacts(home, tmp_path))

    found = _json(capsys, "--policy", policy, "--last", "1")
    code, errors = _run("--policy", policy, "--last", "1")

    difference = found["value"]["estimated"]["difference"]
    page = (home.reports / "simulations" / f"{found['id']}.html").read_text(encoding="utf-8")
    assert (code, errors) == (0, "")
    assert (difference["low"], difference["high"]) == (None, None)
    assert "of too few customers to say what chance explains" in page
    assert "None" not in capsys.readouterr().out


def test_a_stricter_policy_takes_actions_away(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cap of none leaves no action to anybody: all that were allowed are lost, and the rule says why."""
    found = _json(capsys, "--policy", str(_no_contacts(home, tmp_path)))

    idle = next(one for one in found["actions"] if one["action_id"] == "no_action")
    (cap,) = [one for one in found["funnel"]["rules"] if one["rule_id"] == "cap.none"]
    assert (idle["after"], found["funnel"]["allowed"]["after"]) == (1.0, 0)
    assert found["contacts"]["after"] == found["spend"]["total"]["after"] == found["value"]["estimated"]["after"] == 0.0
    assert (cap["before"]["candidates"], cap["after"]["candidates"] > 0) == (0, True)
    assert found["access"]["lost_all"]["decisions"] > 0
    assert {one["after"] for one in found["moves"]} == {"no_action"}


def test_the_policy_in_force_changes_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Every probability comes out again as it was recorded, so that the two sides are the same exactly."""
    found = _json(capsys, "--policy", str(home.config / "policy.yaml"))

    assert found["changed"] == {"decisions": 0, "share": 0.0, "probability_moved": 0.0}
    assert found["value"]["estimated"]["difference"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}
    robust = found["value"]["doubly_robust"]
    assert robust["difference"] in (None, {"estimate": 0.0, "low": 0.0, "high": 0.0})


def test_live_decisions_are_the_sample(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, also the newest, whose outcomes nobody knows yet; none of those only shadowed."""
    found = _json(capsys, "--version", "2")

    records = _live(home)
    sample = found["sample"]
    assert (sample["decisions"], sample["compared"], sample["skipped"]) == (len(records), len(records), {})
    assert (sample["first"], sample["last"]) == tuple(
        dump_timestamp(one.decided_at) for one in (records[0], records[-1])
    )
    assert sample["customers"] == len({one.customer_id for one in records})


def test_a_sample_is_chosen(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest, or a period."""
    records = _live(home)
    edge = dump_timestamp(records[20].decided_at)

    last = _json(capsys, "--version", "2", "--last", "7")
    until = _json(capsys, "--version", "2", "--until", edge)
    since = _json(capsys, "--version", "2", "--since", edge)

    assert last["sample"]["compared"] == 7
    assert last["sample"]["first"] == dump_timestamp(records[-7].decided_at)
    assert (until["sample"]["compared"], since["sample"]["compared"]) == (20, len(records) - 20)


def test_another_model_believes_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Its estimates are its own, which the caveats say."""
    found = _json(capsys, "--version", "2")

    assert found["value"]["estimated"]["before"] != found["value"]["estimated"]["after"]
    assert {"own_estimates", "each_by_itself"} <= {one["code"] for one in found["caveats"]}


def test_few_known_outcomes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Value by outcomes is null, with every reason."""
    robust = _json(capsys, "--version", "2", "--last", "5")["value"]["doubly_robust"]

    assert (robust["before"], robust["after"], robust["difference"]) == (None, None, None)
    assert [one["code"] for one in robust["refused"]] == ["few_decisions"]


def test_groups_are_those_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Or every category and boolean that is not personal; what a record does not hold is a group of its own."""
    asked = _json(capsys, "--version", "2", "--group-by", "region")
    every = _json(capsys, "--version", "2")

    assert {(one["attribute"], one["group"]) for one in asked["fairness"]["groups"]} == {
        ("region", "north"),
        ("region", "south"),
        ("region", "unknown"),
    }
    assert {"region", "income_band", "vulnerable_flag"} <= set(every["fairness"]["attributes"])
    assert asked["question"]["group_by"] == ["region"]


def test_the_same_question_gets_the_same_answer(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To the byte, under the same id; another question has another id."""
    policy = str(_no_contacts(home, tmp_path))

    first, again = _json(capsys, "--policy", policy), _json(capsys, "--policy", policy)
    other = _json(capsys, "--policy", policy, "--last", "20")

    assert first == again
    assert first["id"] != other["id"]


def test_the_report_is_kept(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document as it was printed, and a page that stands alone and says what was found."""
    found = _json(capsys, "--policy", str(_no_contacts(home, tmp_path)))

    folder = home.reports / "simulations"
    page = (folder / f"{found['id']}.html").read_text()
    assert json.loads((folder / f"{found['id']}.json").read_text()) == found
    assert f"{found['access']['lost_all']['decisions']:,} decisions" in page
    assert "cap.none" in page
    assert [word for word in ("<script", "src=", "<link", "url(http") if word in page] == []


def test_people_read_the_summary(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the report is, among it."""
    capsys.readouterr()
    code, errors = _run("--policy", str(_no_contacts(home, tmp_path)))
    printed = capsys.readouterr().out

    assert (code, errors) == (0, "")
    assert "lose every allowed action" in printed
    report = Path(printed.rstrip().rpartition("Report: ")[2])
    assert report.is_file()


def test_a_policy_that_looks_further_back_is_told(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No record holds the contacts that it would count."""
    policy = _policy(home, tmp_path, caps=[{"id": "cap.year", "contacts": 3, "period": "360d"}])

    found = _json(capsys, "--policy", str(policy))

    assert "looks_further_back" in {one["code"] for one in found["caveats"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "nothing to simulate, expected a --policy, --actions or --version"),
        (("--version", "9"), "9"),
        (("--version", "2", "--group-by", "shoe_size", "--group-by", "time_zone"), "'time_zone'"),
        (("--version", "2", "--since", "yesterday"), "--since"),
        (("--version", "2", "--journey", "mortgage"), "mortgage"),
    ],
)
def test_a_bad_question_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    """By name, with nothing on standard output."""
    capsys.readouterr()
    code, errors = _run(*arguments, "--json")

    assert (code, capsys.readouterr().out) == (2, "")
    assert expected in errors


def test_every_problem_of_a_file_is_told(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At once, and nothing is simulated."""
    policy = _policy(home, tmp_path, caps=[{"id": "cap.none", "contacts": -1, "period": "soon"}])
    capsys.readouterr()

    code, errors = _run("--policy", str(policy), "--json")

    assert (code, capsys.readouterr().out) == (2, "")
    assert "contacts" in errors
    assert "period" in errors


def test_a_changed_catalogue_changes_the_spend(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dearer contacts are spent on or done without; outcomes go on being valued as they were recorded."""
    catalogue = yaml.safe_load((home.config / "actions.yaml").read_text())
    for action in catalogue["actions"]:
        for treatment in action["treatments"]:
            treatment["contact_cost"] = treatment.get("contact_cost", 0.0) + 0.25
    file = tmp_path / "actions.yaml"
    file.write_text(yaml.safe_dump(catalogue))

    found = _json(capsys, "--actions", str(file))

    assert found["spend"]["contact_cost"]["after"] > found["spend"]["contact_cost"]["before"]
    assert found["value"]["estimated"]["difference"]["high"] < 0
    assert "recorded_money" in {one["code"] for one in found["caveats"]}
    assert (found["question"]["policy"], found["question"]["version"]) == (None, None)


def test_what_no_record_holds_is_told(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new capacity counts as untouched, and another salt deals the arms anew."""
    policy = yaml.safe_load((home.config / "policy.yaml").read_text())
    policy["capacity"]["limits"].append({"id": "limit.new", "channel": "email", "units": 5, "period": "1d"})
    policy["experiment"]["salt"] = "another"
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(policy))

    caveats = {one["code"]: one["text"] for one in _json(capsys, "--policy", str(file))["caveats"]}

    assert "limit.new" in caveats["unknown_capacity"]
    assert "other_arms" in caveats


def test_a_truly_better_model_is_valued_as_better(decided_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Version 1 decided and believes in what harms, version 2 in what helps: outcomes show it, beyond chance."""
    found = _json(capsys, "--version", "2")

    robust = found["value"]["doubly_robust"]
    assert (robust["refused"], robust["learned_from"]) == ([], 0)
    assert robust["difference"]["low"] > 0
    assert robust["decisions"] + robust["not_valued"] == found["sample"]["compared"]


def test_what_a_model_learned_from_does_not_value_it(
    decided_home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its choices would be praised by the very outcomes that taught them."""
    learned = _live(decided_home)[-50].decision_id
    world = World(tmp_path / "world", configuration=load_configuration(decided_home, {}))
    made = believing_bundle(world, tmp_path / "made", GOOD, learned_until=learned)
    version = LocalRegistry(decided_home.bundles).register(made, NAME, {})

    found = _json(capsys, "--version", str(version))

    robust = found["value"]["doubly_robust"]
    assert robust["learned_from"] > 0
    assert robust["decisions"] < 50
    assert [one["code"] for one in robust["refused"]][:1] == ["few_decisions"]
    assert next(one["text"] for one in found["caveats"] if one["code"] == "learned_from").count(learned) == 1


def test_every_key_of_the_document_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure without a word is not there."""
    found = _json(capsys, "--version", "2")
    group = next(one for one in found["fairness"]["groups"] if not one["suppressed"])
    reference = (Path(__file__).parents[3] / "docs" / "reference" / "simulations.md").read_text()
    keys = {*found, *found["sample"], *found["changed"], *found["funnel"], *found["value"], *found["access"]}
    keys |= {*found["spend"], *found["value"]["doubly_robust"], *group["after"], "unpriced", "comparisons"}

    assert [key for key in sorted(keys) if f"`{key}`" not in reference and f".{key}`" not in reference] == []
