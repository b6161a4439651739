"""IHDP: the effect of child care on test scores, semi-synthetic, so that every true effect is known; very few rows."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np
from sklearn.linear_model import LinearRegression

from models.boosting import Boosting
from models.uplift import UpliftParams
from tests.benchmarks.report import Measure
from tests.quality.learners import Effects, Floats, Integers, Ours, base, causalml_x, econml_dr
from tests.quality.measures import below, versus
from tests.quality.setting import FILES, Setting

TITLE: Final = "IHDP"
METHOD: Final = """\
747 children, 139 of them treated, and not at random: selection probabilities are estimated. Effect error (PEHE, root
mean squared error against the true effect `mu1 - mu0`) on held-out children, mean over 3 realisations and 10 splits
of 80/20, stratified by treatment. So few rows need smaller leaves than the defaults, which are made for tens of
thousands: see `SMALL` in `tests/quality/ihdp.py`. The T-learners fit one response model for each arm, by ordinary
least squares or by LightGBM.
"""
SMALL: Final = UpliftParams(
    n_folds=5,
    response=Boosting(rounds=400, patience=40, num_leaves=4, min_rows=5, learning_rate=0.05),
    effect=Boosting(rounds=300, patience=40, num_leaves=4, min_rows=5, learning_rate=0.05),
    smallest_leaf=0.01,
    smallest_arm=50,
    shrink_rows=20,
)


def measures(setting: Setting) -> list[Measure]:
    """Effect errors beside each other's."""
    errors: dict[str, list[float]] = defaultdict(list)
    for file in FILES["ihdp"][: setting.repeats(3)]:
        rows = setting.csv(file, header=None).to_numpy(np.float64)
        for seed in range(setting.repeats(10)):
            _one(rows, seed, errors)
    mean = {name: float(np.mean(found)) for name, found in errors.items()}
    return [
        below("PEHE, OLS T-learner", mean["ours"], mean["OLS T"], unit="points"),
        below("PEHE, LightGBM T-learner", mean["ours"], mean["LightGBM T"], unit="points"),
        *(
            versus(f"PEHE, {name}", mean["ours"], mean[name], unit="points")
            for name in ("ours, default parameters", "causalml X", "EconML DR", "mean effect")
        ),
    ]


def _one(rows: Floats, seed: int, errors: dict[str, list[float]]) -> None:
    arm, y, effect, x = rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 4] - rows[:, 3], rows[:, 5:]
    train, test = _split(arm, seed)
    given, taken, came, new = x[train], arm[train], y[train], x[test]
    ours = Ours(given, taken, came, seed=seed, params=SMALL, binary=False)
    plain = Ours(given, taken, came, seed=seed, binary=False)
    small = {"min_child_samples": 5}
    learners: dict[str, Effects] = {
        "ours": lambda new: ours.effects(new)[:, 0],
        "ours, default parameters": lambda new: plain.effects(new)[:, 0],
        "OLS T": _t_learner(given, taken, came, LinearRegression),
        "LightGBM T": _t_learner(given, taken, came, lambda: base(seed, **small)),
        "causalml X": lambda new: causalml_x(given, taken, came, seed=seed, **small)(new)[:, 0],
        "EconML DR": lambda new: econml_dr(given, taken, came, seed=seed, **small)(new)[:, 0],
        "mean effect": lambda new: np.full(len(new), came[taken == 1].mean() - came[taken == 0].mean()),
    }
    for name, learner in learners.items():
        errors[name].append(float(np.sqrt(np.mean((learner(new) - effect[test]) ** 2))))


def _split(arm: Integers, seed: int) -> tuple[Integers, Integers]:
    """Four fifths and one fifth of the rows, equal in treatment."""
    order = np.lexsort((np.random.default_rng(seed).random(len(arm)), arm))
    held_out = np.arange(len(arm)) % 5 == 0
    return np.sort(order[~held_out]), np.sort(order[held_out])


def _t_learner(x: Floats, arm: Integers, y: Floats, model: type | Effects) -> Effects:
    treated, control = (model().fit(x[arm == number], y[arm == number]) for number in (1, 0))
    return lambda new: treated.predict(new) - control.predict(new)
