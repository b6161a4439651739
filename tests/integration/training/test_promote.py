"""``headway promote`` and ``headway rollback`` over a home that a service filled: gate, alias and promotion log."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import msgspec
import pytest

from features.cli import run
from features.home import Home, lock_file
from models.bundle import compiled, write_bundle
from models.configuration import load_configuration
from models.decision import dump_record, load_record
from models.forest import raw_scores_block
from models.promotion_log import promotions_file, read_promotions
from models.record_store import SqlRecordStore
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from tests.boosters import ROWS, fitted_heads, lineage
from tests.doors import World
from tests.lived import CUSTOMERS, GOOD, believing_bundle
from tests.recorded import NAME

COMMANDS = [
    EntryPoint(name, f"training.promote_commands:{name}", "headway.commands") for name in ("promote", "rollback")
]


@pytest.fixture
def home(decided_home: Home) -> Home:
    """A home of a service that decided."""
    return decided_home


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
    version = registry.register(believing_bundle(world, home.root / "made-4", GOOD, newest), NAME, {})

    code, told, _ = headway(capsys, "promote", "--version", str(version))

    assert (code, codes(told), told["verdict"]["decisions"]) == (1, {"few_decisions"}, 0)


def test_a_version_that_reads_other_features_cannot_be_compared(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """No record holds what both would have read."""
    world = World(home.root)
    world.configuration = load_configuration(home, {})
    made = believing_bundle(world, home.root / "made-4", GOOD, features_version="another")
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


@pytest.mark.parametrize("share", [(), ("--share", "0.2")], ids=["champion", "share"])
def test_force_passes_over_the_gate_and_not_over_what_cannot_serve(
    home: Home, capsys: pytest.CaptureFixture[str], share: tuple[str, ...]
) -> None:
    """A bundle for other features would be refused by every service: after a restart nothing would decide."""
    registry = LocalRegistry(home.bundles)
    before = [registry.alias(NAME, alias) for alias in (CHAMPION, CHALLENGER)]
    raw = raw_scores_block(compiled([fitted_heads()], lineage()).forest, ROWS)
    other = replace(lineage(), name=NAME, journey_id=NAME.removeprefix("nba-"))
    write_bundle(home.root / "other", lineage=other, fitted=[fitted_heads()], golden_rows=ROWS, golden_raw=raw)
    version = registry.register(home.root / "other", NAME, {})

    code, _, said = headway(capsys, "promote", "--version", str(version), *share, "--force", "--reason", "in a hurry")

    assert (code, "would not serve under the configuration in force" in said) == (2, True), said
    assert [registry.alias(NAME, alias) for alias in (CHAMPION, CHALLENGER)] == before
    assert not promotions_file(home.bundles).exists()
