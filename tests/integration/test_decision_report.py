"""``headway report decision``: a recorded decision of a trained home, explained on the command line."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.cli import COMMAND_GROUP, run
from features.home import HOME_VARIABLE, Home
from features.schema import feature_set
from models.bundle import load_bundle
from models.configuration import load_configuration
from models.decision import DecisionRecord
from models.deliberation import Inputs, Rulebook, deliberate
from models.funnel import Question
from models.record_store import SqlRecordStore
from models.records import CustomerRecords
from models.registry import read_champion
from models.scoring import Scorer
from tests import decision_records
from training.dataset import read_frames
from training.reports import evaluation_file

JOURNEY = "credit_card_application"
NAME = f"nba-{JOURNEY}"
NOON_US = 1_750_000_000_000_000 // 86_400_000_000 * 86_400_000_000 + 12 * 3_600_000_000


@pytest.fixture
def home(trained_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of the trained home, which the environment names, with a decision on a stuck customer."""
    copy = Home(tmp_path / "home")
    shutil.copytree(trained_home.root, copy.root)
    monkeypatch.setenv(HOME_VARIABLE, str(copy.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    record = decided(copy)
    with closing(SqlRecordStore(copy.records_db)) as records:
        records.commit(record, b"{}", None)
    return copy


def decided(home: Home) -> DecisionRecord:
    """A decision by the home's champion on the moment with the largest stall propensity."""
    configuration = load_configuration(home, {})
    journey = configuration.journeys.by_id[JOURNEY]
    features = feature_set(configuration.taxonomy, journey)
    champion = read_champion(home.champion_file, NAME)
    assert champion is not None
    scorer = Scorer(load_bundle(champion.path, features.names), configuration.catalogue.priors)
    x = read_frames(JOURNEY, home.frames / JOURNEY).moments.x
    vector = x[int(np.argmax(scorer.stall_block(x).stall_propensity))]
    rulebook = Rulebook(
        taxonomy=configuration.taxonomy,
        journey=journey,
        catalogue=configuration.catalogue,
        policy=configuration.policy,
        policy_version="p1",
        feature_set=features,
    )
    inputs = Inputs(
        decision_id="d-000001",
        vector=vector,
        attributes={"tenure_years": 3.0},
        holdings=frozenset(),
        context={},
        channel=None,
        records=CustomerRecords(consents={"sms": "granted", "push": "granted", "email": "granted"}),
        question=Question(at=NOON_US, outbound=True),
        time_zone="Europe/Amsterdam",
        arm="champion",
    )
    found = deliberate(inputs, rulebook, scorer)
    digest = champion.manifest_sha256[:12]
    return decision_records.record(
        journey_id=JOURNEY,
        versions={"features": features.version, "bundle": f"{NAME}@champion/1", "stall": digest, "uplift": digest},
        vector=tuple(vector.tolist()),
        stall_propensity=found.stall.stall_propensity,
        abandon_probability=found.stall.abandon_probability,
        expected_days_to_progress=found.stall.expected_days_to_progress,
        candidates=found.candidates,
        selected=(),
    )


def headway(*arguments: str) -> int:
    """The exit code of a command line."""
    return run(arguments, os.environ, commands=entry_points(group=COMMAND_GROUP))


def test_a_decision_is_explained(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Scored again it is the same; contributions add up; each reason is one that the journey declares."""
    assert headway("report", "decision", "d-000001", "--json") == 0

    document = json.loads(capsys.readouterr().out)
    assert document["largest_difference"] == 0.0
    parts: list[dict[str, Any]] = [document["stall"], *document["effects"].values(), *document["control"].values()]
    for part in parts:
        total = part["baseline"] + sum(one["contribution"] for one in part["contributions"]) + part["others"]
        assert total == pytest.approx(part["raw"], abs=1e-6)
    declared = {one.code for one in load_configuration(home, {}).journeys.by_id[JOURNEY].reason_templates}
    codes = [reason["code"] for part in parts for reason in part["reasons"]]
    assert document["stall"]["reasons"]
    assert set(codes) <= declared


def test_what_would_have_put_an_action_first(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """For one that was dropped the rules are named; for people it is a page of text."""
    assert headway("report", "decision", "d-000001", "--action", "survey_experience", "--json") == 0
    found = json.loads(capsys.readouterr().out)["to_win"]
    assert all(one["dropped"] is None or one["rule_ids"] for one in found["treatments"])

    assert headway("report", "decision", "d-000001", "--action", "survey_experience") == 0
    assert "about the models of this decision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("d-9",), "no decision 'd-9'"),
        (("d-000001", "--action", "survey"), "the action 'survey' was no candidate"),
    ],
)
def test_what_is_not_there_is_refused(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    """Exit 2, with what would be right."""
    assert headway("report", "decision", *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_imported_decision_has_nothing_to_take_apart(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """No model of this home made it."""
    with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
        imported = next(one for page in records.read() for one in page if one.mode == "imported")

    assert headway("report", "decision", imported.decision_id) == 2
    assert "was made without a bundle of this home" in capsys.readouterr().err


def test_the_evaluation_says_what_drives_stalls(trained_home: Home) -> None:
    """By stage, a few features each, of the model that serves."""
    about = json.loads(evaluation_file(trained_home).read_text())["journeys"][JOURNEY]["about"]

    assert set(about["drivers"]) <= {"applied", "verified", "offer_accepted", "activated"}
    for listed in about["drivers"].values():
        assert 0 < len(listed) <= 15
        assert all(abs(one["mean"]) <= one["mean_abs"] + 1e-12 for one in listed)
        assert {key for one in listed for key in one} == {"feature", "mean_abs", "mean"}
