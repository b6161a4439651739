"""The decisions of a log as arrays: what was done, how likely it was, what came of it, and what changes would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from features.home import Home
from models.actions import NO_ACTION
from models.configuration import load_configuration
from models.decision import DecisionRecord
from models.logged_choices import broken_rows, policy_scores
from models.replayer import WhatIf
from tests.doors import JOURNEY
from tests.lived import BAD, CUSTOMERS, GOOD
from training.decision_log import DecisionLog, Wanted, decision_log

ALL = Wanted(most=10_000)
AS_CHAMPION = {f"version {n}": WhatIf(bundle=n, as_champion=True) for n in (1, 2)}


def read(home: Home, wanted: Wanted = ALL, alternatives: Mapping[str, WhatIf] | None = None) -> DecisionLog:
    """The decisions of the one journey."""
    configuration = load_configuration(home, {})
    return decision_log(home, configuration, configuration.journeys.by_id[JOURNEY], wanted, alternatives or {})


@pytest.fixture(scope="module")
def log(lived: Home) -> DecisionLog:
    """Everything, beside what two models would do."""
    return read(lived, alternatives=AS_CHAMPION)


def test_every_decision_is_there_once_oldest_first(log: DecisionLog) -> None:
    """With whole probabilities, and with the one that was taken above 0."""
    assert len(log) == len(set(log.decision_ids.tolist())) == CUSTOMERS
    assert (np.diff(log.decided_at) >= 0).all()
    assert not broken_rows(log.choices).any()
    assert log.skipped.total() == 0


def test_the_holdout_was_never_contacted(log: DecisionLog) -> None:
    """Its decisions are among the others, with what came of doing nothing."""
    held = log.arms == "no_contact_holdout"
    assert held.sum() > 50
    assert (log.choices.taken[held] == 0).all()
    assert np.isin(log.choices.response[held], (0.0, 1.0)).all()


def test_models_in_the_champions_place_do_what_they_believe_in(log: DecisionLog) -> None:
    """Version 1 mostly does what harms, version 2 what helps; each row is a distribution."""
    for name, believed in (("version 1", BAD), ("version 2", GOOD)):
        policy = log.policies[name]
        assert policy.sum(axis=1) == pytest.approx(1.0)
        by_action: dict[str, float] = {}
        for option, share in zip(log.options, policy.mean(axis=0), strict=True):
            by_action[option.action_id] = by_action.get(option.action_id, 0.0) + float(share)
        assert max(by_action, key=lambda action: by_action[action]) == believed
    assert log.options[0].action_id == NO_ACTION


def test_scores_tell_the_better_model_apart(log: DecisionLog) -> None:
    """What helps is worth more than what harms, by far more than the error of the estimate."""
    worse, better = (policy_scores(log.choices, log.policies[name]) for name in AS_CHAMPION)
    difference = better - worse
    assert difference.mean() > 3 * difference.std() / np.sqrt(len(log))


def test_bounds_choose_decisions(lived: Home, log: DecisionLog) -> None:
    """By number (the newest), by moment and by id."""
    ids, at = log.decision_ids.tolist(), log.decided_at.tolist()
    assert read(lived, Wanted(most=10)).decision_ids.tolist() == ids[-10:]
    assert read(lived, Wanted(most=10_000, since=at[5], until=at[9])).decision_ids.tolist() == ids[5:9]
    assert read(lived, Wanted(most=10_000, after=ids[-4])).decision_ids.tolist() == ids[-3:]


def test_decisions_made_again_are_told_beside_the_recorded_ones(lived: Home, log: DecisionLog) -> None:
    """The newest first, under every alternative."""
    told: list[str] = []

    def noted(recorded: DecisionRecord, made: Mapping[str, DecisionRecord]) -> None:
        assert {one.decision_id for one in made.values()} == {recorded.decision_id}
        assert list(made) == list(AS_CHAMPION)
        told.append(recorded.decision_id)

    configuration = load_configuration(lived, {})
    journey = configuration.journeys.by_id[JOURNEY]
    decision_log(lived, configuration, journey, Wanted(most=20), AS_CHAMPION, noted=noted)
    assert told == log.decision_ids.tolist()[:-21:-1]


def test_what_cannot_be_made_again_is_counted_by_reason(lived: Home) -> None:
    """A bundle that is not there makes no decision, and features that one side cannot read neither."""
    missing = read(lived, Wanted(most=7), {"none": WhatIf(bundle=99, as_champion=True)})
    assert (len(missing), dict(missing.skipped)) == (0, {"bundle_missing": 7})
    other = read(lived, replace(ALL, most=7, features=frozenset({"another"})))
    assert other.skipped["other_features"] == 7


def test_an_empty_home_has_no_decisions(lived: Home, tmp_path_factory: pytest.TempPathFactory) -> None:
    """And says nothing of any outcome."""
    configuration = load_configuration(lived, {})
    empty = Home(tmp_path_factory.mktemp("empty")).create()
    found = decision_log(empty, configuration, configuration.journeys.by_id[JOURNEY], ALL, {})
    assert len(found) == 0
    assert found.choices.response.shape == (0, len(found.outcomes))
