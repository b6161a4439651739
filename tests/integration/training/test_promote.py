"""``headway promote`` and ``headway rollback`` over a home that a service filled: gate, alias and promotion log."""

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
import numpy as np
import pytest
import yaml

from features.cli import run
from features.event_store import SqlEventLog
from features.events import dump_timestamp
from features.home import HOME_VARIABLE, Home, lock_file
from models.bundle import compiled, write_bundle
from models.configuration import Configuration, built_in_configuration, install_texts, load_configuration
from models.decision import dump_record, load_record
from models.forest import raw_scores_block
from models.hazards import Periods
from models.heads import FittedHeads, Head, control_head, effect_head, hazard_head, incidence_head
from models.manifest import Lineage
from models.promotions import promotions_file, read_promotions
from models.record_store import SqlRecordStore
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from models.rulebooks import feature_sets_of
from tests.boosters import booster, stump
from tests.doors import HOUR_US, JOURNEY, World, event
from tests.recorded import NAME

COMMANDS = [
    EntryPoint(name, f"training.promote_commands:{name}", "headway.commands") for name in ("promote", "rollback")
]
CUSTOMERS = 1_500
GOOD, BAD = "callback_help", "nudge_documents"
TRUTH = {"no_action": 0.2, GOOD: 0.6, BAD: 0.1}
"""Chance of progress by action; 0.2 of any other."""


def _bundle(world: World, directory: Path, best: str, learned_until: str = "", features_version: str = "") -> Path:
    """A bundle that believes in one action and knows the response without any."""
    configuration = world.configuration
    features = feature_sets_of(configuration)[JOURNEY]
    n = len(features.names)
    stage = list(features.names).index("stage_index")
    logit = float(np.log(0.2 / 0.8))
    effects = {effect_head("progress_7d", one): 0.4 if one == best else -0.1 for one in (GOOD, BAD, "remind_next_step")}
    fitted = FittedHeads(
        heads=(
            Head(name=hazard_head("progress", 0), mean=0.3),
            Head(name=hazard_head("abandon", 0), mean=0.2),
            Head(name=control_head("progress_7d"), members=("control",), link="logistic"),
            *(
                Head(name=one, members=(one,), mean=uplift, mean_se=0.01, weight=1.0, spread="jackknife")
                for one, uplift in effects.items()
            ),
        ),
        boosters={
            "control": booster(stump(stage, 0.5, logit - 0.01, logit + 0.01), n_features=n),
            **{one: booster(stump(stage, 0.5, uplift, uplift), n_features=n) for one, uplift in effects.items()},
        },
        periods=Periods((configuration.journeys.by_id[JOURNEY].horizon,), 0),
        incidence=(
            Head(name=incidence_head("progress", 0), members=("progress@0",)),
            Head(name=incidence_head("abandon", 0), members=("abandon@0",)),
        ),
    )
    lineage = Lineage(
        name=NAME,
        journey_id=JOURNEY,
        created_at=world.now,
        feature_names=features.names,
        features_version=features_version or features.version,
        configuration=dict(configuration.versions),
        training={"last_decision_id": learned_until},
    )
    rows = np.random.default_rng(1).normal(1.0, 2.0, size=(8, n))
    raw = raw_scores_block(compiled([fitted], lineage).forest, rows)
    write_bundle(directory, lineage=lineage, fitted=[fitted], golden_rows=rows, golden_raw=raw)
    return directory


def _roomy(configuration: Configuration) -> dict[str, str]:
    """The texts of the built-in files under a policy that draws often: what is chosen is up to the models."""
    texts = {f"{part}.yaml": text for part, text in configuration.texts.items()}
    policy = yaml.safe_load(texts["policy.yaml"])
    policy["experiment"] |= {"no_contact_holdout": 0.1, "random_eligible": 0.25, "challenger": 0.1}
    policy["exploration"] = {"epsilon": 0.5, "temperature": 3.0}
    policy["rules"] = [rule for rule in policy["rules"] if rule["id"] == "elig.journey_open"]
    return {**texts, "policy.yaml": yaml.safe_dump(policy)}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which version 1 decided, versions 1 and 3 believe in what harms, 2 in what helps. Copy it to write."""
    folder = tmp_path_factory.mktemp("lived")
    home = Home(folder).create()
    log = SqlEventLog(home.events_db, durability="NORMAL")
    with closing(log), closing(SqlRecordStore(home.records_db, durability="NORMAL")) as records:
        world = World(folder, records=records, log=log)
        install_texts(home, _roomy(built_in_configuration()))
        world.configuration = load_configuration(home, {})
        registry = LocalRegistry(home.bundles)
        for version, best in enumerate((BAD, GOOD, BAD), start=1):
            registry.register(_bundle(world, folder / f"made-{version}", best), NAME, {})
        registry.set_alias(NAME, CHAMPION, 1, at=world.now)
        registry.set_alias(NAME, CHALLENGER, 2, at=world.now)
        _lived(world)
    return home


def _lived(world: World) -> None:
    rng = np.random.default_rng(5)
    with world.client() as client:
        world.champions[-1].refresh()
        people = [f"c-{number}" for number in range(CUSTOMERS)]
        for start in range(0, CUSTOMERS, 250):
            applied = [
                event(f"applied-{one}", customer_id=one, occurred_at=dump_timestamp(world.now - 100 * HOUR_US))
                for one in people[start : start + 250]
            ]
            granted = [
                event(
                    f"granted-{one['customer_id']}",
                    kind="consent_changed",
                    customer_id=one["customer_id"],
                    occurred_at=one["occurred_at"],
                    channel=None,
                    facts={"consent": "email", "state": "granted"},
                )
                for one in applied
            ]
            client.done("/v1/events", {"events": applied + granted})
        outcomes = []
        for number, person in enumerate(people):
            world.now += HOUR_US // 20
            told = client.done("/v1/decisions", {"request_id": f"q-{number}", "customer_id": person, "max_actions": 1})
            stored = world.records.decision(told["decision_id"])
            if rng.random() < TRUTH.get(stored.record.first.action_id, 0.2):
                facts = {"decision_id": told["decision_id"], "outcome_id": "progress_7d", "value": 1}
                outcomes.append((person, facts))
        world.now += 24 * HOUR_US
        at = dump_timestamp(world.now - HOUR_US)
        came = [
            event(f"came-{one}", customer_id=one, kind="outcome_observed", occurred_at=at, channel=None, facts=facts)
            for one, facts in outcomes
        ]
        for start in range(0, len(came), 250):
            client.done("/v1/events", {"events": came[start : start + 250]})
        world.now += 20 * 24 * HOUR_US
        late = event("late", customer_id="somebody", occurred_at=dump_timestamp(world.now - HOUR_US))
        client.done("/v1/events", {"events": [late]})


@pytest.fixture
def home(lived: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy, which the environment names."""
    copy = Home(tmp_path / "home")
    shutil.copytree(lived.root, copy.root)
    monkeypatch.setenv(HOME_VARIABLE, str(copy.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return copy


def headway(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what was printed, and the message."""
    capsys.readouterr()
    stderr = io.StringIO()
    code = run([*arguments, "--json"], os.environ, commands=COMMANDS, stderr=stderr)
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}, stderr.getvalue()


def codes(told: dict[str, Any]) -> set[str]:
    """The reasons' codes."""
    return {one["code"] for one in told["verdict"]["reasons"]}


def test_a_better_challenger_is_promoted_and_rolled_back(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """The alias moves, the log keeps the evidence, and one command undoes it."""
    code, told, _ = headway(capsys, "promote", "--reason", "it earns more")

    assert (code, told["promoted"]) == (0, True), told["verdict"]["reasons"]
    verdict = told["verdict"]
    assert (verdict["champion"], verdict["challenger"], verdict["skipped"]) == (1, 2, 0)
    # 54 % are called at +.4 of 38 less 4.35, where 99 % were written to at -.1 of 38 less .03.
    assert 0 < verdict["difference"]["low"] < 9.7 < verdict["difference"]["high"]
    assert verdict["decisions"] == CUSTOMERS
    registry = LocalRegistry(home.bundles)
    assert registry.alias(NAME, CHAMPION) == 2
    intent = read_promotions(promotions_file(home.bundles))[0]
    assert (intent.reason, intent.forced, intent.evidence["promotes"]) == ("it earns more", False, True)

    code, told, _ = headway(capsys, "rollback")

    assert (code, told["entry"]["after"]["version"]) == (0, 1)
    assert registry.alias(NAME, CHAMPION) == 1


def test_a_dry_run_changes_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the alias nor the log."""
    code, told, _ = headway(capsys, "promote", "--dry-run")

    assert (code, told["promoted"], told["entry"], told["verdict"]["promotes"]) == (0, False, None, True)
    assert LocalRegistry(home.bundles).alias(NAME, CHAMPION) == 1
    assert not promotions_file(home.bundles).exists()


def test_a_worse_version_is_refused_and_kept_in_the_log(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, reasons that a machine can read, and the alias where it was."""
    registry = LocalRegistry(home.bundles)
    registry.set_alias(NAME, CHAMPION, 2, at=1)

    code, told, _ = headway(capsys, "promote", "--version", "3")

    assert (code, told["promoted"]) == (1, False)
    assert codes(told) & {"worse", "not_better"}
    assert registry.alias(NAME, CHAMPION) == 2
    (entry,) = read_promotions(promotions_file(home.bundles))
    assert (entry.step, entry.after.version) == ("refused", 3)
    assert entry.evidence["reasons"] == told["verdict"]["reasons"]


def test_what_believes_the_same_is_refused(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions 1 and 3 are equal."""
    code, told, _ = headway(capsys, "promote", "--version", "3")

    assert (code, "same_choices" in codes(told)) == (1, True)


def test_decisions_that_a_version_learned_from_do_not_judge_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Right after a training there is none left, and the gate says so."""
    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        newest = next(records.read_back(page=1))[0].decision_id
    world = World(home.root)
    world.configuration = load_configuration(home, {})
    registry = LocalRegistry(home.bundles)
    version = registry.register(_bundle(world, home.root / "made-4", GOOD, newest), NAME, {})

    code, told, _ = headway(capsys, "promote", "--version", str(version))

    assert (code, codes(told), told["verdict"]["decisions"]) == (1, {"few_decisions"}, 0)


def test_a_version_that_reads_other_features_cannot_be_compared(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """No record holds what both would have read."""
    world = World(home.root)
    world.configuration = load_configuration(home, {})
    made = _bundle(world, home.root / "made-4", GOOD, features_version="another")
    version = LocalRegistry(home.bundles).register(made, NAME, {})

    code, told, _ = headway(capsys, "promote", "--version", str(version))

    assert (code, codes(told)) == (1, {"few_decisions", "not_replayable"})
    assert told["verdict"]["skipped"] == CUSTOMERS


def test_people_are_told_in_a_few_lines(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Who was compared, by how much they differ, and what became of it."""
    assert run(["promote"], os.environ, commands=COMMANDS) == 0
    told = capsys.readouterr().out
    assert "version 2 against the champion, version 1, on 1,500 decisions of 1,500 customers" in told
    assert told.endswith(f"the gate: passed\n{NAME} version 2 is the champion now\n")

    assert run(["rollback"], os.environ, commands=COMMANDS) == 0
    assert capsys.readouterr().out == f"{NAME} version 1 is the champion again; it was version 2\n"


def test_a_forced_promotion_asks_nobody_and_says_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs a reason."""
    assert headway(capsys, "promote", "--version", "3", "--force")[0] == 2

    code, told, _ = headway(capsys, "promote", "--version", "3", "--force", "--reason", "the champion leaks")

    assert (code, told["promoted"], told["verdict"]) == (0, True, None)
    assert LocalRegistry(home.bundles).alias(NAME, CHAMPION) == 3
    assert {(one.forced, one.reason) for one in read_promotions(promotions_file(home.bundles))} == {
        (True, "the champion leaks")
    }


def test_a_log_without_probabilities_is_refused(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """What was written does not say how likely it was."""
    with closing(sqlite3.connect(home.records_db)) as records, records:
        for decision_id, data in records.execute("SELECT decision_id, record FROM decisions").fetchall():
            record = load_record(data)
            candidates = tuple(msgspec.structs.replace(one, selection_probability=0.0) for one in record.candidates)
            changed = dump_record(msgspec.structs.replace(record, candidates=candidates))
            records.execute("UPDATE decisions SET record = ? WHERE decision_id = ?", (changed, decision_id))

    code, told, _ = headway(capsys, "promote")

    assert (code, "broken_probabilities" in codes(told)) == (1, True)


def test_it_works_while_a_service_writes(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes only bundles."""
    with lock_file(home.records_db), lock_file(home.events_db):
        assert headway(capsys, "promote")[0] == 0
        assert headway(capsys, "rollback")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "--journey", "none"], "is not declared"),
        (["promote", "--version", "9"], "has no version 9"),
        (["promote", "--version", "1"], "the champion already"),
        (["rollback"], "names no champion"),
    ],
)
def test_what_cannot_be_is_refused(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Exit code 2, and what was expected."""
    code, _, said = headway(capsys, *arguments)

    assert code == 2
    assert message in said


def test_a_running_service_drops_a_challenger_that_was_promoted(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Its arm is decided by the champion then, and every such answer says so."""
    world = World(home.root)
    world.configuration = load_configuration(home, {})
    with world.client() as client:
        watched = (world.champions[-1], world.challengers[-1])
        for one in watched:
            one.refresh()
        before = _by_arm(client, "before")
        assert before["challenger"] == [(f"{NAME}@challenger/2", [])]

        assert headway(capsys, "promote")[0] == 0
        for one in watched:
            one.refresh()

        after = _by_arm(client, "after")
    assert after["challenger"] == [(f"{NAME}@champion/2", ["challenger_missing"])]
    assert after["champion"] == [(f"{NAME}@champion/2", [])]


def _by_arm(client: Any, prefix: str) -> dict[str, list[tuple[str, list[str]]]]:
    """By arm of the experiment, which bundles decided, and what the answers say was missing."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for number in range(60):
        asked = {"request_id": f"{prefix}-{number}", "customer_id": f"c-{number}", "mode": "dry_run"}
        told = client.done("/v1/decisions", asked)
        degraded = [one for one in told["degraded"] if one == "challenger_missing"]
        seen = (told["versions"]["bundle"], degraded)
        listed = found.setdefault(told["experiment"]["arm"], [])
        if seen not in listed:
            listed.append(seen)
    return found
