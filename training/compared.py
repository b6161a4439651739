"""One action against none on held-out decisions: the rows that can be compared, and how well predictions order them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.kernel import Floats
from models.effect_metrics import EffectRanking, effect_slope, effect_table
from models.metrics import Interval, bootstrap_intervals, random_qini
from models.off_policy import doubly_robust_responses
from models.unknown_numbers import if_finite
from models.uplift_metrics import UpliftRanking
from training.dataset import DecisionFrame
from training.fit import UpliftTest
from training.moments import Booleans

EFFECT_BINS: Final = 10
RESAMPLED_ROWS: Final = 40_000_000
"""Rows times resamples that an interval may take; beyond it there are fewer resamples, but not fewer than 50.

Seven measures of 20,000 compared rows take 5 ms of CPU a resample, of a million rows 450 ms.
"""

_BY_OUTCOME: Final = ("qini_sklift", "auuc", "uplift_at_10", "uplift_at_30")
_BY_SCORE: Final = ("mean_effect", "autoc", "calibration_slope")
_SAME: Final = 1e-12
_UNKNOWN: Final = Interval(math.nan, math.nan, math.nan)


class Compared:
    """Held-out decisions with an action or with none, where either could have been chosen.

    Attributes:
        y: ``(n,)`` response.
        treated: ``(n,)`` 1 for the action.
        uplift: ``(n,)`` predicted.
        customers: ``(n,)`` ids.
        score: ``(m,)`` doubly robust effect scores of all decisions on which the two could have been chosen.
        predicted: ``(m,)`` predicted uplift of those.
        score_customers: ``(m,)`` ids of those.
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
        self.score_customers = frame.people[test.rows[possible]]

    @property
    def is_judgeable(self) -> bool:
        """Whether there are rows of both kinds."""
        return 0 < int(self.treated.sum()) < len(self.treated)

    @property
    def ranks(self) -> bool:
        """Whether the predictions differ. Metrics of an order that is not there would be rounding, or the file's."""
        return self.is_judgeable and bool((self.uplift != self.uplift[0]).any())

    def measures(self, *, seed: int, resamples: int) -> dict[str, Interval]:
        """Every measure with its 95 % interval by bootstrap over customers.

        ``qini_sklift`` is 0 where the predictions do not differ, the other measures of an order are NaN there; all are
        NaN where they cannot be known. ``mean_effect`` is the mean doubly robust score, what ``uplift_at_10`` and
        ``uplift_at_30`` are of a random ranking.
        """
        if not self.is_judgeable:
            return dict.fromkeys((*_BY_OUTCOME, *_BY_SCORE), _UNKNOWN)
        by_outcome = [Interval(0.0, 0.0, 0.0), *[_UNKNOWN] * 3]
        if self.ranks:
            ranking = UpliftRanking(self.y, self.uplift, self.treated)
            by_outcome = self._intervals(
                lambda weight: (
                    ranking.qini_sklift(weight),
                    ranking.auuc_causalml(weight),
                    ranking.uplift_at(0.1, weight),
                    ranking.uplift_at(0.3, weight),
                ),
                self.customers,
                seed,
                resamples,
            )
        effects = EffectRanking(self.score, self.predicted)
        by_score = self._intervals(
            lambda weight: (
                float(np.average(self.score, weights=weight)),
                effects.autoc(weight) if self.ranks else math.nan,
                effect_slope(self.score, self.predicted, weight) if self.ranks else math.nan,
            ),
            self.score_customers,
            seed,
            resamples,
        )
        return dict(zip((*_BY_OUTCOME, *_BY_SCORE), (*by_outcome, *by_score), strict=True))

    def random_qini(self, *, seed: int) -> float:
        """``qini_sklift`` of rankings that know nothing, on average."""
        return random_qini(self.y, self.treated, seed=seed) if self.is_judgeable else math.nan

    def qini_band(
        self, shares: Sequence[float], *, seed: int, resamples: int
    ) -> list[tuple[float | None, float | None]]:
        """The 95 % interval of the Qini curve at each share of the rows, by bootstrap over customers; None if unknown.

        As ``training.evaluate.qini_points``: incremental outcomes per row, of all rows.
        """
        ranking, at = UpliftRanking(self.y, self.uplift, self.treated), np.asarray(shares)

        def gains(weight: Floats) -> Sequence[float]:
            taken, gained = ranking.qini_curve(weight)
            found: list[float] = (np.interp(at * taken[-1], taken, gained) / taken[-1]).tolist()
            return found

        bands = self._intervals(gains, self.customers, seed, resamples)
        return [(if_finite(one.low), if_finite(one.high)) for one in bands]

    def effect_table(self, *, seed: int, resamples: int) -> list[dict[str, float]]:
        """``models.effect_metrics.effect_table`` as plain rows."""
        found = effect_table(
            self.score,
            self.predicted,
            clusters=self.score_customers,
            seed=seed,
            n_bins=EFFECT_BINS,
            n_resamples=_affordable(resamples, len(self.score)),
        )
        return [
            {
                "predicted": one.predicted,
                "effect": one.effect.estimate,
                "low": one.effect.low,
                "high": one.effect.high,
                "n": one.n,
            }
            for one in found
        ]

    @staticmethod
    def _intervals(
        statistics: Callable[[Floats], Sequence[float]], customers: NDArray[np.generic], seed: int, resamples: int
    ) -> list[Interval]:
        n = len(customers)
        return list(
            bootstrap_intervals(statistics, n, clusters=customers, seed=seed, n_resamples=_affordable(resamples, n))
        )


def share_clipped(control: Floats, uplift: Floats) -> float:
    """Share of rows whose response under an action was put back to 0 or 1, which no model says; NaN without rows.

    >>> share_clipped(np.array([0.2, 0.1]), np.array([0.1, -0.1]))
    0.5
    """
    response = control + uplift
    at_an_end = (np.abs(response) < _SAME) | (np.abs(1 - response) < _SAME)
    return float(at_an_end.mean()) if len(response) else math.nan


def _affordable(resamples: int, n_rows: int) -> int:
    return min(resamples, max(50, RESAMPLED_ROWS // n_rows))
