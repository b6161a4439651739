"""Judge the models of a journey on rows that they were not fitted on: arrays in, a plain document out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from features.events import dump_timestamp
from features.journeys import Journey
from features.kernel import Floats
from features.schema import FeatureSet
from models.actions import Catalogue
from models.metrics import (
    Interval,
    qini_curve,
)
from models.policy import Policy
from models.selection import estimated_table
from training.compared import Compared, share_clipped
from training.dataset import DecisionFrame, Frames, MomentFrame
from training.drivers import drivers
from training.fit import JourneyFit, UpliftTest
from training.fit_stall import StallFit
from training.moments import Booleans
from training.params import Params
from training.policy_value import policy_value
from training.split import hashed_halves
from training.stall_report import stall_about, stall_document

CURVE_BINS: Final = 15


def evaluation(
    fit: JourneyFit,
    frames: Frames,
    *,
    journey: Journey,
    features: FeatureSet,
    catalogue: Catalogue,
    policy: Policy,
    params: Params,
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
    money, beside = _policy(frames.decisions, tests, journey, catalogue, policy, params, notes)
    return {
        "stall": None if fit.stall is None else _plain(stall_document(fit.stall, frames.moments, journey)),
        "uplift": uplift,
        "policy": money,
        "about": {
            "policy": beside,
            "split": tests[0].how if tests else None,
            "n_splits": len(tests),
            "horizon_days": journey.horizon / 86_400_000_000,
            **_stall_about(fit.stall, frames.moments, journey, features, params),
            "drivers": drivers(fit.stall, frames, journey),
            "effects": _effect_tables(tests, actions, frames.decisions, journey, params),
            "fits": {
                outcome_id: {arm.action_id: _plain(asdict(arm)) for arm in arms}
                for outcome_id, arms in fit.arms.items()
            },
            "notes": notes,
        },
    }


def _stall_about(
    stall: StallFit | None, frame: MomentFrame, journey: Journey, features: FeatureSet, params: Params
) -> dict[str, Any]:
    if stall is None:
        return {}
    return {
        "stall": _plain(stall_about(stall, frame, journey, features, params)),
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
    found = [one.measures(seed=params.seed, resamples=resamples) for one in compared]
    measures = {name: _mean_interval([measured[name] for measured in found]) for name in found[0]}
    document: dict[str, Any] = _plain(
        {
            "qini_sklift": measures["qini_sklift"].estimate,
            "qini_interval": _bounds(measures["qini_sklift"]),
            "qini_random": _mean([one.random_qini(seed=params.seed) for one in compared]),
            "auuc": measures["auuc"].estimate,
            "auuc_interval": _bounds(measures["auuc"]),
            "uplift_at_10": measures["uplift_at_10"].estimate,
            "uplift_at_10_interval": _bounds(measures["uplift_at_10"]),
            "uplift_at_30": measures["uplift_at_30"].estimate,
            "uplift_at_30_interval": _bounds(measures["uplift_at_30"]),
            "mean_effect": measures["mean_effect"].estimate,
            "mean_effect_interval": _bounds(measures["mean_effect"]),
            "autoc": measures["autoc"].estimate,
            "autoc_interval": _bounds(measures["autoc"]),
            "calibration_slope": measures["calibration_slope"].estimate,
            "calibration_slope_interval": _bounds(measures["calibration_slope"]),
            "n_treated": round(float(np.mean([one.treated.sum() for one in compared]))),
            "n_control": round(float(np.mean([(1 - one.treated).sum() for one in compared]))),
            "randomised": all(one.randomised for one in compared),
        }
    )
    return document


def _effect_tables(
    tests: Sequence[UpliftTest],
    actions: Mapping[str, Sequence[str]],
    frame: DecisionFrame,
    journey: Journey,
    params: Params,
) -> dict[str, dict[str, Any]]:
    """Of the first split, by action: ``tenths`` of predicted against doubly robust effects, and ``share_clipped``."""
    tables: dict[str, dict[str, Any]] = {}
    for test in tests[:1]:
        probabilities = probability_table(frame, test, params)
        for outcome_id in [outcome_id for outcome_id in actions if outcome_id in test.control]:
            tables[outcome_id] = {}
            for action_id in actions[outcome_id]:
                number = frame.arm_ids.index(action_id)
                one = Compared(frame, test, probabilities, outcome_id, number)
                if one.is_judgeable:
                    tables[outcome_id][action_id] = {
                        "tenths": one.effect_table(seed=params.seed, resamples=params.evaluation.resamples),
                        "share_clipped": share_clipped(test.control[outcome_id], test.uplift[outcome_id][:, number])
                        if journey.outcome_by_id[outcome_id].type == "binary"
                        else 0.0,
                    }
    document: dict[str, dict[str, Any]] = _plain(tables)
    return document


def _policy(
    frame: DecisionFrame,
    tests: Sequence[UpliftTest],
    journey: Journey,
    catalogue: Catalogue,
    policy: Policy,
    params: Params,
    notes: list[str],
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The promised numbers, and what stands beside them."""
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
        return dict.fromkeys(("value", "interval", "best_single", "random", "ess")), None
    document: dict[str, Any] = _plain(asdict(found))
    return document, document.pop("compared")


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


def _mean_interval(found: Sequence[Interval]) -> Interval:
    return Interval(*(_mean([one[place] for one in found]) for place in range(3)))


def _bounds(found: Interval) -> list[float]:
    return [found.low, found.high]


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
