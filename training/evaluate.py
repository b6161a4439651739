"""Judge the models of a journey on rows that they were not fitted on: arrays in, a plain document out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from features.events import dump_timestamp
from features.journeys import Journey, Outcome
from features.kernel import Floats
from models.actions import Catalogue
from models.metrics import (
    auc,
    auuc,
    bootstrap_interval,
    brier,
    calibration_slope,
    ece,
    effect_calibration_slope,
    qini_curve,
    qini_sklift,
)
from models.off_policy import doubly_robust_responses
from models.policy import Policy
from models.selection import estimated_table
from training.dataset import DecisionFrame, Frames
from training.effect_calibration import decile_table, share_clipped
from training.fit import JourneyFit, StallFit, UpliftTest
from training.moments import Booleans
from training.params import Params
from training.policy_value import policy_value
from training.split import hashed_halves

CURVE_BINS = 15


def evaluation(
    fit: JourneyFit, frames: Frames, *, journey: Journey, catalogue: Catalogue, policy: Policy, params: Params
) -> dict[str, Any]:
    """The evaluation of one journey: ``stall``, ``uplift`` and ``policy``, and ``about``: how it was judged.

    JSON values; None is "cannot be known", and ``about.notes`` says why. ``stall`` is None where there is no stall
    model, the numbers of ``policy`` are None where nothing was logged to judge a policy by.
    """
    notes = list(fit.notes)
    tests = fit.tests
    actions = {outcome_id: [arm.action_id for arm in arms] for outcome_id, arms in fit.arms.items()}
    uplift = uplift_metrics(tests, actions, frames.decisions, params)
    for outcome_id, arms in uplift.items():
        observed = [action_id for action_id, found in arms.items() if not found["randomised"]]
        if observed:
            notes.append(
                f"uplift on {outcome_id} of {', '.join(observed)} is observational: no selection probabilities were "
                f"logged, they are estimated; what was not recorded may explain the difference"
            )
    return {
        "stall": None if fit.stall is None else _stall(fit.stall, journey),
        "uplift": uplift,
        "policy": _policy(frames.decisions, tests, journey, catalogue, policy, params, notes),
        "about": {
            "split": tests[0].how if tests else None,
            "n_splits": len(tests),
            "horizon_days": journey.horizon / 86_400_000_000,
            **_stall_about(fit.stall, params),
            "fits": {
                outcome_id: {arm.action_id: _plain(asdict(arm)) for arm in arms}
                for outcome_id, arms in fit.arms.items()
            },
            "effects": {
                outcome.id: effects_about(tests, actions[outcome.id], frames.decisions, outcome, params)
                for outcome in journey.outcomes
                if outcome.id in actions
            },
            "notes": notes,
        },
    }


def _stall(stall: StallFit, journey: Journey) -> dict[str, Any]:
    test = stall.test
    document: dict[str, Any] = _plain(
        {
            **_probability_metrics(test.stalled, test.stall_propensity),
            "by_stage": {
                stage_id: _probability_metrics(
                    test.stalled[test.stage == index], test.stall_propensity[test.stage == index]
                )
                for index, stage_id in enumerate(journey.stage_ids)
                if (test.stage == index).any()
            },
        }
    )
    return document


def _probability_metrics(happened: Floats, probability: Floats) -> dict[str, float]:
    return {
        "auc": auc(happened, probability),
        "brier": brier(happened, probability),
        "ece": ece(happened, probability),
        "slope": calibration_slope(happened, probability),
        "n": len(happened),
    }


def _stall_about(stall: StallFit | None, params: Params) -> dict[str, Any]:
    if stall is None:
        return {}
    test = stall.test
    interval = bootstrap_interval(
        lambda rows: auc(test.stalled[rows], test.stall_propensity[rows]),
        len(test.stalled),
        clusters=test.customer_ids,
        seed=params.seed,
        # A resample of some hundred thousand moments takes a while; the interval's ends need no more than this.
        n_resamples=min(params.evaluation.resamples, 20 if len(test.stalled) > 50_000 else 200),
    )
    return {
        "stall_auc_interval": _plain([interval.low, interval.high]),
        "stall_calibrate_from": dump_timestamp(stall.calibrate_from),
        "stall_test_from": dump_timestamp(stall.test_from),
        "stall_n_train": stall.n_train,
    }


def uplift_metrics(
    tests: Sequence[UpliftTest], actions: Mapping[str, Sequence[str]], frame: DecisionFrame, params: Params
) -> dict[str, dict[str, Any]]:
    """The metrics of every action on every outcome that a test has predictions for.

    Args:
        tests: held-out rows, one for each split.
        actions: by outcome, the actions whose effect on it was estimated.
        frame: past decisions.
        params: of the experiment.
    """
    judged = [(test, probability_table(frame, test, params)) for test in tests]
    document = {}
    for outcome_id, action_ids in actions.items():
        # A rare outcome may be fitted on some splits and not on others.
        ours = [(test, table) for test, table in judged if outcome_id in test.control]
        if ours:
            document[outcome_id] = {
                action_id: _arm(frame, ours, outcome_id, frame.arm_ids.index(action_id), params)
                for action_id in action_ids
            }
    return document


def effects_about(
    tests: Sequence[UpliftTest], action_ids: Sequence[str], frame: DecisionFrame, outcome: Outcome, params: Params
) -> dict[str, dict[str, Any]]:
    """By action: ``deciles`` of its effect on one outcome, and ``share_clipped`` of the responses that it leads to.

    The rows of all splits stand together; intervals know whose they are.
    """
    judged = [(test, probability_table(frame, test, params)) for test in tests if outcome.id in test.control]
    document = {}
    for action_id in action_ids if judged else ():
        number = frame.arm_ids.index(action_id)
        compared = [Compared(frame, test, table, outcome.id, number) for test, table in judged]
        score, predicted, people = (
            np.concatenate([getattr(one, name) for one in compared]) for name in ("score", "predicted", "people")
        )
        ends = [share_clipped(test.control[outcome.id], test.uplift[outcome.id][:, number]) for test, _ in judged]
        clipped = _mean(ends) if outcome.type == "binary" else 0.0
        document[action_id] = _plain({"deciles": decile_table(score, predicted, people), "share_clipped": clipped})
    return document


def probability_table(frame: DecisionFrame, test: UpliftTest, params: Params) -> Floats:
    """``(m, n_arms)`` probabilities of the held-out decisions: as logged, and estimated where they were not."""
    logged = frame.arm_probabilities[test.rows]
    unknown: Booleans = np.asarray(np.isnan(logged).any(axis=1), dtype=np.bool_)
    if not unknown.any():
        return logged
    fold = hashed_halves(frame.people[test.rows].tolist(), "estimated")[0].astype(np.int64)
    table, _ = estimated_table(
        frame.x[test.rows],
        frame.arm[test.rows],
        len(frame.arm_ids),
        fold,
        smallest=params.uplift.smallest_probability,
    )
    return np.where(unknown[:, None], table, logged)


def _arm(
    frame: DecisionFrame,
    judged: Sequence[tuple[UpliftTest, Floats]],
    outcome_id: str,
    number: int,
    params: Params,
) -> dict[str, Any]:
    """One action on one outcome; where there are several splits, everything is the mean over them, bounds too."""
    compared = [Compared(frame, test, table, outcome_id, number) for test, table in judged]
    resamples = max(20, params.evaluation.resamples // len(compared))
    bounds = np.array([one.qini_bounds(seed=params.seed, resamples=resamples) for one in compared])
    document: dict[str, Any] = _plain(
        {
            "qini_sklift": _mean([one.qini for one in compared]),
            "qini_interval": [_mean(bounds[:, 0].tolist()), _mean(bounds[:, 1].tolist())],
            "auuc": _mean([one.auuc for one in compared]),
            "calibration_slope": _mean([one.slope for one in compared]),
            "n_treated": round(float(np.mean([one.treated.sum() for one in compared]))),
            "n_control": round(float(np.mean([(1 - one.treated).sum() for one in compared]))),
            "randomised": all(one.randomised for one in compared),
        }
    )
    return document


class Compared:
    """Held-out decisions with an action or with none, where either could have been chosen.

    Attributes:
        y: ``(n,)`` response.
        treated: ``(n,)`` 1 for the action.
        uplift: ``(n,)`` predicted.
        customers: ``(n,)`` ids.
        score: ``(m,)`` doubly robust effect scores of all decisions on which the two could have been chosen.
        predicted: ``(m,)`` predicted uplift of those.
        people: ``(m,)`` whose they are.
        randomised: whether all their probabilities were logged.
    """

    def __init__(self, frame: DecisionFrame, test: UpliftTest, table: Floats, outcome_id: str, number: int) -> None:
        y = frame.response[outcome_id][test.rows]
        arm = frame.arm[test.rows]
        # An arm's mean, clipped to a probability and back, differs from row to row by rounding, which is no ranking.
        uplift = np.round(test.uplift[outcome_id][:, number], 12)
        control = test.control[outcome_id]
        known = ~(np.isnan(y) | np.isnan(uplift))
        possible: Booleans = known & (table[:, number] > 0) & (table[:, 0] > 0)
        pair = possible & ((arm == number) | (arm == 0))
        rows = test.rows[pair]
        self.y = y[pair]
        self.treated = (arm[pair] == number).astype(np.float64)
        self.uplift = uplift[pair]
        self.customers = frame.people[rows]
        self.randomised = not np.isnan(frame.selection_probability[rows]).any()
        taken = table[possible, arm[possible]]
        # Rows of other arms carry the difference of the predictions: predicting their own response corrects nothing.
        scores = doubly_robust_responses(
            y[possible],
            np.select([arm[possible] == number, arm[possible] == 0], [1, 0], 2),
            taken,
            np.stack([control[possible], control[possible] + uplift[possible], y[possible]], axis=1),
        )
        self.score: Floats = scores[:, 1] - scores[:, 0]
        self.predicted: Floats = uplift[possible]
        self.people = frame.people[test.rows[possible]]

    @property
    def is_judgeable(self) -> bool:
        """Whether there are rows of both kinds."""
        return 0 < int(self.treated.sum()) < len(self.treated)

    @property
    def ranks(self) -> bool:
        """Whether the predictions differ. Metrics of an order that is not there would be rounding, or the file's."""
        return self.is_judgeable and bool((self.uplift != self.uplift[0]).any())

    @property
    def qini(self) -> float:
        """``qini_sklift``, 0 where the predictions do not differ; NaN where it cannot be known."""
        if not self.ranks:
            return 0.0 if self.is_judgeable else math.nan
        return qini_sklift(self.y, self.uplift, self.treated)

    def qini_bounds(self, *, seed: int, resamples: int) -> tuple[float, float]:
        """95 % interval of ``qini``, by bootstrap over customers."""
        if not self.ranks:
            return self.qini, self.qini
        found = bootstrap_interval(
            lambda rows: qini_sklift(self.y[rows], self.uplift[rows], self.treated[rows]),
            len(self.y),
            clusters=self.customers,
            seed=seed,
            n_resamples=resamples,
        )
        return found.low, found.high

    @property
    def auuc(self) -> float:
        """``auuc``; NaN where it cannot be known, or the predictions do not differ."""
        return auuc(self.y, self.uplift, self.treated) if self.ranks else math.nan

    @property
    def slope(self) -> float:
        """``effect_calibration_slope``; NaN where the predictions do not differ."""
        return effect_calibration_slope(self.score, self.predicted) if self.ranks else math.nan


def _policy(
    frame: DecisionFrame,
    tests: Sequence[UpliftTest],
    journey: Journey,
    catalogue: Catalogue,
    policy: Policy,
    params: Params,
    notes: list[str],
) -> dict[str, Any]:
    found = None
    if tests:
        found = policy_value(
            frame,
            tests[0],
            journey=journey,
            catalogue=catalogue,
            policy=policy,
            seed=params.seed,
            resamples=params.evaluation.resamples,
        )
    if found is None:
        notes.append("no policy value: it needs held-out decisions with logged selection probabilities")
        return dict.fromkeys(("value", "interval", "best_single", "random", "ess"))
    document: dict[str, Any] = _plain(asdict(found))
    return document


def reliability(stalled: Floats, probability: Floats, n_bins: int = CURVE_BINS) -> list[dict[str, float]]:
    """Points of the reliability plot: mean prediction and observed share in bins of equal mass."""
    order = np.argsort(probability, kind="stable")
    return [
        {"predicted": float(probability[part].mean()), "observed": float(stalled[part].mean()), "n": len(part)}
        for part in np.array_split(order, n_bins)
        if len(part)
    ]


def qini_points(y: Floats, uplift: Floats, treated: Floats, n_points: int) -> list[dict[str, float]]:
    """Points of the Qini plot: share of the rows taken, and incremental outcomes per row among them."""
    taken, gained = qini_curve(y, uplift, treated)
    at = np.linspace(0, taken[-1], n_points)
    gains = np.interp(at, taken, gained) / taken[-1]
    return [{"share": float(t / taken[-1]), "gain": float(g)} for t, g in zip(at, gains, strict=True)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _plain(value: Any) -> Any:
    """JSON values: what is not a finite number is None, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
