"""Effect learners behind one call: ours, and those that it is compared with. One thread each.

All are given the same rows, features and known selection probabilities. The base learner of the others is a LightGBM of
a modest size, which does far better on small effects than LightGBM as it comes; ours chooses its sizes itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
from causalml.inference.meta import BaseXRegressor
from econml.dr import DRLearner
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier

from models.forest import forest_from_text, raw_scores_block
from models.heads import control_head, effect_head, head_table, head_values
from models.uplift import FittedUplift, UpliftParams, fit_uplift

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Effects = Callable[[Floats], Floats]
"""``(n, n_features)`` to ``(n, n_arms - 1)``."""


def base(seed: int, **changed: Any) -> lgb.LGBMRegressor:
    """The base learner of the others."""
    sizes = {"n_estimators": 100, "num_leaves": 8, "learning_rate": 0.05, "min_child_samples": 50, **changed}
    return lgb.LGBMRegressor(n_jobs=1, verbosity=-1, random_state=seed, **sizes)


def base_classifier(seed: int, **changed: Any) -> lgb.LGBMClassifier:
    """The same as a classifier."""
    sizes = {"n_estimators": 100, "num_leaves": 8, "learning_rate": 0.05, "min_child_samples": 50, **changed}
    return lgb.LGBMClassifier(n_jobs=1, verbosity=-1, random_state=seed, **sizes)


class Ours:
    """The product's learner, read through the heads that serve.

    Attributes:
        fitted: as ``models.uplift`` gives it.
    """

    def __init__(
        self,
        x: Floats,
        arm: Integers,
        y: Floats,
        *,
        seed: int,
        probability: Floats | None = None,
        table: Floats | None = None,
        params: UpliftParams | None = None,
        binary: bool = True,
    ) -> None:
        arms = ("no_action", *(f"arm_{number}" for number in range(1, int(arm.max()) + 1)))
        self.fitted: FittedUplift = fit_uplift(
            x,
            arm,
            y,
            outcome_id="y",
            arm_ids=arms,
            binary=binary,
            selection_probability=np.full(len(y), np.nan) if probability is None else probability,
            arm_probabilities=table,
            params=params or UpliftParams(),
            seed=seed,
        )
        heads = self.fitted.fitted
        self._arms = arms[1:]
        self._table = head_table(heads.heads, tuple(heads.boosters))
        self._forest = forest_from_text(list(heads.boosters.values()), n_features=x.shape[1])

    def effects(self, x: Floats) -> Floats:
        """Predicted effects ``(n, n_arms - 1)``; an arm too small for any estimate changes nothing."""
        return self.beliefs(x)[0]

    def beliefs(self, x: Floats) -> tuple[Floats, Floats]:
        """Predicted effects and their standard deviations, each ``(n, n_arms - 1)``."""
        values, sigmas = head_values(self._table, raw_scores_block(self._forest, x))
        effects, deviations = np.zeros((len(x), len(self._arms))), np.zeros((len(x), len(self._arms)))
        for column, name in enumerate(self._arms):
            if effect_head("y", name) in self._table.names:
                at = self._table.names.index(effect_head("y", name))
                effects[:, column], deviations[:, column] = values[:, at], sigmas[:, at]
        return effects, deviations

    def control(self, x: Floats) -> Floats:
        """Predicted response without action, ``(n,)``."""
        values, _ = head_values(self._table, raw_scores_block(self._forest, x))
        column: Floats = values[:, self._table.names.index(control_head("y"))]
        return column


def causalml_x(x: Floats, arm: Integers, y: Floats, *, seed: int, **sizes: Any) -> Effects:
    """The X-learner of causalml with the known, constant probabilities of the arms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner = BaseXRegressor(base(seed, **sizes), control_name=0)
        counts = np.bincount(arm)
        chances = {number: counts[number] / (counts[0] + counts[number]) for number in range(1, len(counts))}
        learner.fit(x, arm, y, p={number: np.full(len(y), chance) for number, chance in chances.items()})

    def effects(new: Floats) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Floats = learner.predict(
                new, p={number: np.full(len(new), chance) for number, chance in chances.items()}
            )
        return found

    return effects


def econml_dr(x: Floats, arm: Integers, y: Floats, *, seed: int, **sizes: Any) -> Effects:
    """EconML's DR learner; the probabilities are the arms' shares."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner = DRLearner(
            model_propensity=DummyClassifier(strategy="prior"),
            model_regression=base(seed, **sizes),
            model_final=base(seed, **{"num_leaves": 4, **sizes}),
            cv=3,
            allow_missing=True,
            random_state=seed,
        )
        learner.fit(y, arm, X=x)

    def effects(new: Floats) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.stack([learner.effect(new, T0=0, T1=number) for number in range(1, arm.max() + 1)], axis=1)

    return effects


def responses(x: Floats, arm: Integers, y: Floats, *, seed: int) -> Effects:
    """Probability of the response under each arm, by a classifier of its rows: what "propensity" models rank by."""
    models = [base_classifier(seed).fit(x[arm == number], y[arm == number]) for number in range(arm.max() + 1)]

    def probabilities(new: Floats) -> Floats:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.stack([model.predict_proba(new)[:, 1] for model in models], axis=1)

    return probabilities
