"""Effects learned while half of the reward windows are open, in a world whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.actions import Catalogue
from models.uplift import FittedUplift
from tests.histories import START_AT, journey
from training.dataset import DECISIONS_FILE, DecisionFrame, Frames, MomentFrame, read_frames, write_frames
from training.fit import arms_of_outcomes, fitted_outcomes, uplift_splits, young_enough
from training.moments import HOUR_US, Aftermath
from training.params import load_params

N = 8_000
WINDOW = 24 * HOUR_US
"""That of ``paid``."""
UNTIL = START_AT + 10 * WINDOW
JOURNEY = journey()
PARAMS = load_params()
ACTIONS = ("call", "mail")
CATALOGUE = Catalogue.model_validate(
    {
        "version": 1,
        "actions": [
            {
                "id": action_id,
                "title": action_id,
                "kind": "nudge",
                "issue": "grow",
                "group": "cards",
                "journey": "application",
                "outcome": "paid",
                "treatments": [{"id": f"{action_id}_web", "channel": "web", "contact_cost": 0.5}],
            }
            for action_id in ACTIONS
        ],
    }
)


class World(NamedTuple):
    """Decisions, whose outcomes are known to us alone.

    Attributes:
        frame: what training sees of them.
        y: ``(n,)`` what came of each in the end.
        control: mean response under no action.
        effects: mean effect of each action.
    """

    frame: DecisionFrame
    y: np.ndarray
    control: float
    effects: dict[str, float]


def world(seed: int, *, oldest: int = 2 * WINDOW, new_at: int = 2 * WINDOW) -> World:
    """Half of the windows open, payments late, later after a call; the mail could be chosen only since ``new_at``."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 4))
    elapsed = rng.integers(0, oldest, N)
    table = np.where((elapsed < new_at)[:, None], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0])
    arm = (rng.random(N)[:, None] > np.cumsum(table, axis=1)).sum(axis=1)
    nobody = 1 / (1 + np.exp(1.5 - 0.8 * x[:, 0]))
    call = np.where(x[:, 1] > 0, 0.15, 0.0)
    y = (rng.random(N) < nobody + np.where(arm == 1, call, 0)).astype(np.float64)
    delay = np.ceil(WINDOW * rng.random(N) ** np.where(arm == 1, 0.5, 1.0)).astype(np.int64)
    frame = DecisionFrame(
        customer_ids=np.array([f"c{i}" for i in range(N)]),
        people=np.array([f"c{i}" for i in range(N)]),
        at=UNTIL - elapsed,
        arm=arm,
        arm_ids=("no_action", *ACTIONS),
        selection_probability=table[np.arange(N), arm],
        arm_probabilities=table,
        response={"paid": np.where(elapsed >= WINDOW, y, np.nan)},
        recorded=np.ones(N, dtype=np.bool_),
        x=x,
        observed_until=UNTIL,
        settled_after={"paid": np.where(y == 1, delay, WINDOW)},
    )
    return World(frame, y, float(nobody.mean()), {"call": float(call.mean()), "mail": 0.0})


def fitted(frame: DecisionFrame, notes: list[str] | None = None, **uplift: Any) -> FittedUplift:
    """What is served of ``paid``."""
    params = PARAMS.model_copy(update={"uplift": PARAMS.uplift.model_copy(update=uplift)})
    arms = arms_of_outcomes(frame, JOURNEY, CATALOGUE)
    everything = np.ones(len(frame), dtype=np.bool_)
    return fitted_outcomes(frame, JOURNEY, arms, everything, params, [] if notes is None else notes, {})["paid"]


def left_out(frame: DecisionFrame) -> DecisionFrame:
    """Nothing known of when outcomes were settled, as in frames of before that was kept."""
    return replace(frame, settled_after={})


def taken_for_a_no(of: World) -> DecisionFrame:
    """What was not seen by the end of observation did not happen."""
    seen = of.frame.settled_after["paid"] <= UNTIL - of.frame.at
    return replace(of.frame, response={"paid": of.y * seen}, settled_after={})


def mean_response(fit: FittedUplift) -> float:
    """Under no action."""
    return float(fit.fitted.head("control:paid").facts["mean_response"])


@pytest.fixture(scope="module")
def late() -> World:
    """Half of the windows are open."""
    return world(0)


@pytest.fixture(scope="module")
def fits(late: World) -> Mapping[str, FittedUplift]:
    """The three ways to deal with it."""
    return {
        "no": fitted(taken_for_a_no(late)),
        "left out": fitted(left_out(late.frame)),
        "weighed": fitted(late.frame),
    }


def test_open_windows_taken_for_a_no_are_wrong(late: World, fits: Mapping[str, FittedUplift]) -> None:
    """What comes late is missed, and more of it after a call: over 20 seeds .031 for an effect of .075."""
    call = fits["no"].arms[0]
    assert call.mean_effect < late.effects["call"] - 3 * call.mean_se
    assert mean_response(fits["no"]) < 0.85 * late.control


@pytest.mark.parametrize("how", ["left out", "weighed"])
def test_effects_and_responses_are_right_left_out_or_weighed(
    late: World, fits: Mapping[str, FittedUplift], how: str
) -> None:
    """Within two standard errors."""
    for arm in fits[how].arms:
        assert arm.mean_effect == pytest.approx(late.effects[arm.action_id], abs=2 * arm.mean_se)
    n = int((late.frame.arm == 0).sum()) / 2
    assert mean_response(fits[how]) == pytest.approx(late.control, abs=2 * np.sqrt(late.control / n))


def test_weighed_outcomes_tell_more_than_those_that_are_left(fits: Mapping[str, FittedUplift]) -> None:
    """More rows, and smaller errors of every effect and of the response."""
    for weighed, left in zip(fits["weighed"].arms, fits["left out"].arms, strict=True):
        assert weighed.n_treated > left.n_treated
        assert weighed.n_control > left.n_control
        assert weighed.mean_se < left.mean_se
    heads = [fits[how].fitted.head("control:paid") for how in ("weighed", "left out")]
    assert heads[0].mean_se < heads[1].mean_se


def test_an_action_that_is_new_is_compared_with_decisions_as_young() -> None:
    """Its windows are mostly open, those of no action are not: weighed by the age of all it would seem to work."""
    of = world(1, oldest=6 * WINDOW, new_at=3 * WINDOW // 2)
    mail = fitted(of.frame).arms[1]
    assert mail.mean_effect == pytest.approx(0.0, abs=2 * mail.mean_se)
    assert mail.n_treated > fitted(left_out(of.frame)).arms[1].n_treated


def test_where_every_window_is_over_nothing_changes(late: World) -> None:
    """Heads and boosters to the last character."""
    frame = replace(late.frame, response={"paid": late.y}, observed_until=UNTIL + WINDOW)
    assert fitted(frame) == fitted(left_out(frame))


def test_too_few_windows_that_are_over_are_said_and_not_stretched() -> None:
    """Only those count, as before, and a person is told."""
    of = world(2, oldest=11 * WINDOW // 10)
    notes: list[str] = []

    assert fitted(of.frame, notes) == fitted(left_out(of.frame))

    n_open = int(np.isnan(of.frame.response["paid"]).sum())
    assert f"uplift on paid: decisions left out for an open window: {n_open}; fewer than 1 in 5 like" in notes[0]


def test_the_bound_is_a_parameter() -> None:
    """A larger one lets the same decisions count."""
    of = world(2, oldest=11 * WINDOW // 10)
    assert fitted(of.frame, largest_delay_weight=20.0).arms[0].n_treated > fitted(of.frame).arms[0].n_treated


def test_frames_keep_when_outcomes_were_settled(tmp_path: Path, late: World) -> None:
    """They come back as written; those without it come back without, and their open windows are left out."""
    moments = MomentFrame(
        customer_ids=np.empty(0, dtype=np.str_),
        at=np.empty(0, dtype=np.int64),
        stage=np.empty(0, dtype=np.int64),
        after=Aftermath(**{one.name: np.empty(0) for one in fields(Aftermath)}),
        happened={},
        x=np.empty((0, 4)),
    )
    write_frames(Frames("application", ("a", "b", "c", "d"), moments, late.frame), tmp_path)

    kept = read_frames("application", tmp_path).decisions

    assert kept.observed_until == UNTIL
    assert kept.settled_after["paid"].tolist() == late.frame.settled_after["paid"].tolist()

    rows = pq.read_table(tmp_path / DECISIONS_FILE)
    older = {key: value for key, value in rows.schema.metadata.items() if key == b"headway.arms"}
    rows = rows.drop_columns(["settled_after:paid"]).replace_schema_metadata(older)
    pq.write_table(rows, tmp_path / DECISIONS_FILE)
    assert read_frames("application", tmp_path).decisions.settled_after == {}


def test_only_young_decisions_are_learned_from_where_an_age_is_set() -> None:
    """None that is older is in any half of any split, and without an age all are in one."""
    frame = world(3).frame
    days = 1.5 * WINDOW / (24 * HOUR_US)
    asked = PARAMS.model_copy(update={"uplift": PARAMS.uplift.model_copy(update={"max_age_days": days})})
    young = young_enough(frame, asked)
    assert 0.6 < young.mean() < 0.9
    assert np.array_equal(young, UNTIL - frame.at <= round(1.5 * WINDOW))
    assert young_enough(frame, PARAMS).all()
    for _, train, test in uplift_splits(frame, JOURNEY, asked):
        assert train.any()
        assert test.any()
        assert not ((train | test) & ~young).any()
