"""Where the judgement of the models is kept: ``reports/evaluation.json`` and ``.html``, and the points of its plots."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from features.errors import Refused, UnknownObject
from features.home import Home
from training.compared import Compared
from training.dataset import DecisionFrame
from training.evaluate import probability_table, qini_points, reliability
from training.fit import JourneyFit
from training.params import Params

FORMAT: Final = 1
SHOWN: Final = ("stall", "uplift", "policy")
"""What ``headway evaluate --json`` prints of a journey, in this order."""


def evaluation_file(home: Home) -> Path:
    """The judgement of the models trained last."""
    return home.reports / "evaluation.json"


def page_file(home: Home) -> Path:
    """The same as a page for people; see ``training.evaluation_report``."""
    return home.reports / "evaluation.html"


def figures_folder(home: Home) -> Path:
    """The figures of that page, one SVG each."""
    return home.reports / "figures"


def plots_folder(home: Home) -> Path:
    """Points of the plots: ``reliability.json`` and ``qini.json``."""
    return home.reports / "plots"


def metrics_file(home: Home) -> Path:
    """The headline numbers of it."""
    return home.reports / "metrics.json"


def write_evaluations(home: Home, evaluations: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep the judgement of every journey, and its headline numbers apart."""
    write_json(evaluation_file(home), {"format": FORMAT, "journeys": evaluations})
    write_json(metrics_file(home), {journey_id: headline(judged) for journey_id, judged in evaluations.items()})


def write_figures(home: Home, figures: Mapping[str, str]) -> None:
    """Keep the figures of the page, and none of an earlier one."""
    folder = figures_folder(home)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, svg in figures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")


def headline(judged: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers that two trainings are compared by."""
    stall = judged["stall"] or {}
    qini = {
        outcome_id: {
            action_id: found["qini_sklift"] for action_id, found in arms.items() if found["qini_sklift"] is not None
        }
        for outcome_id, arms in judged["uplift"].items()
    }
    return {
        "stall": {key: stall[key] for key in ("auc", "brier", "ece", "slope") if stall.get(key) is not None},
        "qini_sklift": {outcome_id: arms for outcome_id, arms in qini.items() if arms},
        "policy": {
            key: judged["policy"][key]
            for key in ("value", "best_single", "random", "ess")
            if judged["policy"][key] is not None
        },
    }


def read_evaluation(home: Home, journey_id: str | None = None) -> dict[str, Any]:
    """The judgement of one journey.

    Args:
        home: of the installation.
        journey_id: the journey; may be left out where there is one.

    Raises:
        UnknownObject: nothing was trained yet, or not this journey.
        Refused: there are several journeys and none was named.
    """
    path = evaluation_file(home)
    try:
        journeys: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["journeys"]
    except FileNotFoundError as error:
        raise UnknownObject(f"{path} is not there: nothing was trained in this home; run `headway train`") from error
    except (ValueError, KeyError) as error:
        raise Refused(
            f"{path} is damaged ({error!r:.100}), expected what training wrote; run `headway train`"
        ) from error
    known = ", ".join(journeys)
    if journey_id is None:
        if len(journeys) > 1:
            raise Refused(f"{len(journeys)} journeys were trained, expected one to be named: --journey {known}")
        return next(iter(journeys.values()))
    if journey_id not in journeys:
        raise UnknownObject(f"the journey {journey_id!r:.100} was not trained, expected one of {known}")
    return journeys[journey_id]


def plot_points(
    journey_id: str, fit: JourneyFit, frame: DecisionFrame, params: Params
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Points of the reliability plot and of the Qini plot (of the first split), with their 95 % intervals."""
    n_points = params.evaluation.curve_points
    stall = [] if fit.stall is None else reliability(fit.stall.test.stalled, fit.stall.test.scores.stall_propensity)
    qini: list[dict[str, Any]] = []
    for test in fit.tests[:1]:
        table = probability_table(frame, test, params)
        for outcome_id, arms in fit.arms.items():
            for arm in arms:
                if outcome_id not in test.control:
                    continue
                compared = Compared(frame, test, table, outcome_id, frame.arm_ids.index(arm.action_id))
                if compared.is_judgeable:
                    points = qini_points(compared.y, compared.uplift, compared.treated, n_points)
                    band = compared.qini_band(
                        [point["share"] for point in points], seed=params.seed, resamples=params.evaluation.resamples
                    )
                    curve = f"{outcome_id}: {arm.action_id}"
                    qini += [
                        {"journey": journey_id, "curve": curve, **point, "low": low, "high": high}
                        for point, (low, high) in zip(points, band, strict=True)
                    ]
    return [{"journey": journey_id, **point, **share_interval(point)} for point in stall], qini


def share_interval(point: Mapping[str, float]) -> dict[str, float]:
    """Wilson's interval of an observed share; moments of one customer are taken for independent, so it is narrow.

    References:
        Wilson 1927, Probable inference, the law of succession, and statistical inference:
        ``(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)`` with z = 1.96.
    """
    p, n, z = point["observed"], point["n"], 1.96
    middle, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # The share itself is inside; where all or none are, rounding leaves it outside by one digit of the last place.
    return {"low": min(p, max(0.0, (middle - spread) / scale)), "high": max(p, min(1.0, (middle + spread) / scale))}


def write_json(path: Path, document: object) -> None:
    """Write JSON, replaced in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.new")
    staging.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    staging.replace(path)
