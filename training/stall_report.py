"""How good the stall model is on moments that it was not fitted on: overall, by stage, by time in it, and by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from features.journeys import Journey
from features.kernel import Floats, Integers
from features.schema import FeatureSet
from models.hazards import Course, observed_incidence
from models.metrics import auc, bootstrap_interval, brier, calibration_slope, ece
from training.dataset import MomentFrame
from training.fit_stall import ProbabilityTest, StallFit, WaitingTest
from training.moments import Booleans
from training.params import Params

ELAPSED_HOURS: Final = (1, 24, 72, 168, 336)
"""Where the time in a stage is cut."""
_MOST_RESAMPLES: Final = 100
"""A resample of some hundred thousand moments takes a while; the ends of a 95 % interval need about so many."""


def stall_document(stall: StallFit, frame: MomentFrame, journey: Journey) -> dict[str, Any]:
    """The promised numbers: of all test moments, and ``by_stage``."""
    stalled, probability = stall.test.stalled, stall.test.scores.stall_propensity
    stage = frame.stage[stall.test.rows]
    return {
        **probability_metrics(stalled, probability),
        "by_stage": _by(
            {stage_id: stage == index for index, stage_id in enumerate(journey.stage_ids)}, stalled, probability
        ),
    }


def stall_about(
    stall: StallFit, frame: MomentFrame, journey: Journey, features: FeatureSet, params: Params
) -> dict[str, Any]:
    """The rest: by time in the stage, by group, the other readings, and the interval of the AUC."""
    test, rows = stall.test, stall.test.rows
    stalled, probability = test.stalled, test.scores.stall_propensity
    x = frame.x[rows]
    interval = bootstrap_interval(
        lambda drawn: auc(stalled[drawn], probability[drawn]),
        len(rows),
        clusters=frame.customer_ids[rows],
        seed=params.seed,
        n_resamples=min(params.evaluation.resamples, _MOST_RESAMPLES if len(rows) > 50_000 else 200),
    )
    after = frame.after.where(rows)
    end = float(journey.horizon)
    known = np.isfinite(test.scores.expected_days_to_progress)
    waited = np.minimum(after.progress, end) / 86_400_000_000
    return {
        "auc_interval": [interval.low, interval.high],
        "by_elapsed": _by(elapsed_groups(x[:, features.names.index("hours_since_progress")]), stalled, probability),
        "by_group": {name: _by(groups, stalled, probability) for name, groups in attribute_groups(x, features).items()},
        "abandon": probability_metrics(after.abandoned(end).astype(np.float64), test.scores.abandon_probability),
        "days_to_progress": {
            "predicted": float(test.scores.expected_days_to_progress[known].mean()) if known.any() else None,
            "observed": float(waited.mean()),
        },
        "benign_wait": None if stall.waiting is None else _waiting(stall.waiting, float(stall.periods.ends_us[-1])),
        "forecasts": {outcome_id: _judged(one) for outcome_id, one in stall.forecasts.items()},
    }


def elapsed_groups(hours: Floats) -> dict[str, Booleans]:
    """Rows by time in the stage, under names like ``24-72h``."""
    edges = [0.0, *map(float, ELAPSED_HOURS), np.inf]
    names = [f"{edges[i]:g}-{edges[i + 1]:g}h" for i in range(len(ELAPSED_HOURS))] + [f"{ELAPSED_HOURS[-1]}h+"]
    return {
        name: np.asarray((hours >= low) & (hours < high), dtype=np.bool_)
        for name, low, high in zip(names, edges, edges[1:], strict=False)
    }


def attribute_groups(x: Floats, features: FeatureSet) -> dict[str, dict[str, Booleans]]:
    """By declared category, the rows of each of its values, and of those where it is unknown."""
    found = {}
    for name, attribute in features.attributes.items():
        if attribute.dtype != "category":
            continue
        codes = x[:, features.names.index(f"attribute_{name}")]
        found[name] = {
            **{value: np.asarray(codes == code, dtype=np.bool_) for code, value in enumerate(attribute.values)},
            "unknown": np.isnan(codes),
        }
    return found


def probability_metrics(happened: Floats, probability: Floats) -> dict[str, float]:
    """AUC, Brier score, ECE and slope of probabilities, and how many there are."""
    return {
        "auc": auc(happened, probability),
        "brier": brier(happened, probability),
        "ece": ece(happened, probability),
        "slope": calibration_slope(happened, probability),
        "n": len(happened),
    }


def _judged(test: ProbabilityTest) -> dict[str, float]:
    return {"rate": float(test.happened.mean()), **probability_metrics(test.happened, test.probability)}


def _waiting(test: WaitingTest, within_us: float) -> dict[str, Any]:
    """Predicted and observed progress without a contact, overall and by fifths of the prediction."""
    if not len(test.benign_wait):
        return {"n": 0}
    order = np.argsort(test.benign_wait, kind="stable")

    def judged(rows: Integers) -> dict[str, float]:
        observed = observed_incidence(Course(*(column[rows] for column in test.course)), within_us)
        return {"predicted": float(test.benign_wait[rows].mean()), "observed": observed, "n": len(rows)}

    return {**judged(order), "by_fifth": [judged(part) for part in np.array_split(order, 5) if len(part)]}


def _by(groups: Mapping[str, Booleans], happened: Floats, probability: Floats) -> dict[str, dict[str, float]]:
    return {
        name: probability_metrics(happened[chosen], probability[chosen])
        for name, chosen in groups.items()
        if chosen.any()
    }
