"""``headway promote --share`` over a home that a service filled: the gate of a step, alias, policy, promotion log."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from features.home import Home
from models.configuration import load_configuration
from models.promotion_log import promotions_file, read_promotions
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name
from models.rollouts import write_share
from tests.doors import World
from tests.integration.training.test_promote import codes, headway
from tests.lived import GOOD, believing_bundle
from tests.recorded import NAME


@pytest.fixture
def home(decided_home: Home) -> Home:
    """A home of a service that decided, a tenth of everybody by the challenger."""
    return decided_home


@pytest.fixture
def unshared(home: Home) -> Home:
    """The home, with nobody decided for by a challenger."""
    policy = home.config / "policy.yaml"
    policy.write_text("# ours\n" + policy.read_text().replace("challenger: 0.1", "challenger: 0.0 # nobody yet"))
    return home


def _share(home: Home) -> float:
    return load_configuration(home, {}).policy.experiment.challenger


def test_a_rollout_goes_step_by_step_to_the_champion(unshared: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """One in a hundred, one in ten, half of them, everybody; then the share is where it was. All of it is logged."""
    registry = LocalRegistry(unshared.bundles)
    before = load_configuration(unshared, {}).versions["policy"]

    for share in ("0.01", "0.1", "0.5"):
        code, told, _ = headway(capsys, "promote", "--share", share, "--by", "key-1")
        assert (code, told["promoted"], told["share"]["after"]) == (0, False, float(share)), told
        assert (registry.alias(NAME, CHAMPION), registry.alias(NAME, CHALLENGER)) == (1, 2)
        assert told["share"]["policy_version"] == load_configuration(unshared, {}).versions["policy"]
    text = (unshared.config / "policy.yaml").read_text()
    assert text.startswith("# ours\n")
    assert "challenger: 0.5 # nobody yet" in text

    code, told, _ = headway(capsys, "promote", "--by", "key-1")

    assert (code, told["promoted"], registry.alias(NAME, CHAMPION)) == (0, True, 2)
    assert (told["share"]["before"], told["share"]["after"]) == (0.5, 0.0)
    assert load_configuration(unshared, {}).versions["policy"] == before
    done = [one for one in read_promotions(promotions_file(unshared.bundles)) if one.step == "done"]
    assert [(one.kind, None if one.share is None else one.share.after, one.by) for one in done] == [
        *(("share", share, "key-1") for share in (0.01, 0.1, 0.5)),
        ("promote", None, "key-1"),
        ("share", 0.0, "key-1"),
    ]
    assert registry.alias(NAME, CHALLENGER) in (None, 2)  # the champion challenges nobody; its share is 0 at any rate


def test_a_step_that_is_certainly_worse_is_refused(unshared: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Even a first one; what was found is in the log, and nothing else changed."""
    registry = LocalRegistry(unshared.bundles)
    registry.set_alias(NAME, CHAMPION, 2, at=1)
    registry.set_alias(NAME, CHALLENGER, 3, at=1)
    before = (unshared.config / "policy.yaml").read_bytes()

    code, told, _ = headway(capsys, "promote", "--share", "0.01")

    assert (code, "worse" in codes(told), told["share"]) == (1, True, None)
    assert (unshared.config / "policy.yaml").read_bytes() == before
    (entry,) = read_promotions(promotions_file(unshared.bundles))
    assert (entry.kind, entry.step, entry.evidence["share"]) == ("share", "refused", 0.01)
    assert (entry.evidence["reasons"], entry.evidence["promotes"]) == (told["verdict"]["reasons"], False)


def test_what_nobody_has_seen_may_begin_small(unshared: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A version that learned from all there is: one in a hundred is let, one in ten is not."""
    from models.record_store import SqlRecordStore

    with closing(SqlRecordStore(unshared.records_db, readonly=True)) as records:
        newest = next(records.read_back(page=1))[0].decision_id
    world = World(unshared.root)
    world.configuration = load_configuration(unshared, {})
    registry = LocalRegistry(unshared.bundles)
    version = registry.register(believing_bundle(world, unshared.root / "made-4", GOOD, newest), NAME, {})

    code, told, _ = headway(capsys, "promote", "--version", str(version), "--share", "0.1")
    assert (code, codes(told)) == (1, {"few_decisions"})
    code, told, _ = headway(capsys, "promote", "--version", str(version), "--share", "0.01")

    assert (code, _share(unshared), registry.alias(NAME, CHALLENGER)) == (0, 0.01, version)


def test_the_end_asks_nobody(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of a standing share, where no gate would let the challenger go on; twice is the same as once."""
    LocalRegistry(home.bundles).set_alias(NAME, CHALLENGER, 3, at=1)

    code, told, _ = headway(capsys, "promote", "--share", "0", "--reason", "complaints")
    again, nothing, _ = headway(capsys, "promote", "--share", "0")

    assert (code, told["verdict"], told["share"]["before"], _share(home)) == (0, None, 0.1, 0.0)
    assert (again, nothing["entry"], nothing["share"]) == (0, None, None)
    last = read_promotions(promotions_file(home.bundles))[-1]
    assert (last.step, last.after.version, last.reason) == ("done", 1, "complaints")


def test_a_dry_run_of_a_step_changes_nothing(unshared: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither policy, alias nor log."""
    before = (unshared.config / "policy.yaml").read_bytes()

    code, told, _ = headway(capsys, "promote", "--share", "0.5", "--dry-run")

    assert (code, told["verdict"]["promotes"], told["entry"]) == (0, True, None)
    assert (unshared.config / "policy.yaml").read_bytes() == before
    assert not promotions_file(unshared.bundles).exists()


def test_a_forced_step_and_a_rollback_beside_it(unshared: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Force needs a reason; a rollback moves the champion, and the rollout goes on until somebody ends it."""
    assert headway(capsys, "promote", "--version", "3", "--share", "0.5", "--force")[0] == 2
    assert headway(capsys, "promote", "--version", "2", "--force", "--reason", "r")[0] == 0

    code, told, _ = headway(capsys, "promote", "--version", "3", "--share", "0.5", "--force", "--reason", "we know")
    assert (code, told["verdict"], _share(unshared)) == (0, None, 0.5)
    code, told, _ = headway(capsys, "rollback")

    assert (code, told["entry"]["after"]["version"], _share(unshared)) == (0, 1, 0.5)
    assert headway(capsys, "promote", "--share", "0")[0] == 0
    assert _share(unshared) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share", "0.9"], "expected at most 0.65"),
        (["--share", "1.5"], "less than or equal to 1"),
        (["--share", "nan"], "Input should be"),
        (["--share", "0.2", "--version", "9"], "has no version 9"),
        (["--share", "0.2", "--version", "1"], "the champion already"),
    ],
)
def test_steps_that_cannot_be_are_refused(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Exit code 2, and what was expected; nothing is written."""
    code, _, said = headway(capsys, "promote", *arguments)

    assert code == 2
    assert message in said
    assert not promotions_file(home.bundles).exists()


def test_a_share_that_another_journeys_challenger_would_get_is_refused(
    unshared: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share holds for every journey: nobody asked the gate about that one."""
    journeys = unshared.config / "journeys.yaml"
    text = journeys.read_text()
    other = text[text.index("  - id:") :].replace("credit_card_application", "second_application", 1)
    for outcome in load_configuration(unshared, {}).journeys.journeys[0].outcomes:
        other = re.sub(rf"\b{outcome.id}\b", f"second_{outcome.id}", other)
    journeys.write_text(text + "\n" + other)
    registry = LocalRegistry(unshared.bundles)
    shutil.copytree(registry.root / NAME, registry.root / model_name("second_application"))
    registry.set_alias(model_name("second_application"), CHAMPION, 1, at=1)
    registry.set_alias(model_name("second_application"), CHALLENGER, 2, at=1)

    code, _, said = headway(capsys, "promote", "--journey", "credit_card_application", "--share", "0.1")

    assert (code, "nba-second_application have a challenger too" in said) == (2, True), said


def test_a_share_set_by_hand_is_nobodys_rollout(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A standing share stays where it is when a version is promoted."""
    write_share(home, {}, 0.2)

    code, told, _ = headway(capsys, "promote")

    assert (code, told["promoted"], told["share"], _share(home)) == (0, True, None, 0.2)


def test_a_promotion_stands_where_the_share_cannot_be_put_back(
    unshared: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to do is said; the champion is the champion."""
    assert headway(capsys, "promote", "--share", "0.5")[0] == 0

    def fail(path: Path, data: bytes) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("models.rollouts.replace_durably", fail)
    code, told, _ = headway(capsys, "promote")

    assert (code, told["promoted"], told["share"], _share(unshared)) == (0, True, None, 0.5)
    assert LocalRegistry(unshared.bundles).alias(NAME, CHAMPION) == 2
