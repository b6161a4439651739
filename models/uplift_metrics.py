"""How well predicted uplift orders customers, judged by the outcomes of an action and of no action.

The order is found once, and every measure takes row weights: a bootstrap resample is a count for each row, so that it
costs a few cumulative sums and no sort.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class UpliftRanking:
    """Rows with an action and with none, best predicted uplift first.

    Every measure takes ``weight``, ``(n,)`` counts in the order of the arguments: it is what the measure would be on a
    table that holds each row so many times, and on the rows as they are if None. Rows of equal uplift count as one
    step, so that the order in which they come does not matter. A measure is NaN where there are no rows of one of the
    two kinds.

    Args:
        y: ``(n,)`` outcome.
        uplift: ``(n,)`` predicted uplift; only its order counts.
        treated: ``(n,)`` 1 for the action, 0 for no action.

    Raises:
        ValueError: the arrays differ in length, or one holds NaN: rows that cannot be judged are left out beforehand.
    """

    def __init__(self, y: FloatArray, uplift: FloatArray, treated: FloatArray) -> None:
        if not len(y) == len(uplift) == len(treated):
            raise ValueError(f"{len(y)} outcomes, {len(uplift)} uplifts and {len(treated)} arms, expected as many")
        for name, values in (("outcomes", y), ("uplifts", uplift), ("arms", treated)):
            if unknown := int(np.isnan(values).sum()):
                raise ValueError(f"{unknown} of {len(values)} {name} are NaN; leave out those rows")
        self._y = y.astype(np.float64)
        self._treated = treated.astype(np.float64)
        self._predicted = _Order(self._y, self._treated, uplift)
        self._responders = _Order(self._y, self._treated, self._y * self._treated - self._y * (1 - self._treated))

    def qini_curve(self, weight: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Rows taken, best uplift first, and the incremental outcomes among them.

        At each distinct uplift: ``Y_t - Y_c * N_t / N_c`` over the rows taken so far (0 in place of the ratio where
        ``N_c`` is 0). Both start at 0.

        References:
            Radcliffe 2007, Using control groups to target on predicted lift; as scikit-uplift's ``qini_curve``.
        """
        return _qini_points(self._predicted.steps(weight))

    def qini_sklift(self, weight: FloatArray | None = None) -> float:
        """Area between the Qini curve and the random line, over that of the perfect curve: 0 is random, 1 is perfect.

        The perfect ranking is by ``y * treated - y * (1 - treated)``; the random line goes to the curve's end. NaN
        where there is nothing to gain.

        References:
            Radcliffe 2007 (as above); scikit-uplift 0.5, ``qini_auc_score(negative_effect=True)``.
        """
        return self._over_perfect(_qini_points, self._responders, weight)

    def auuc_sklift(self, weight: FloatArray | None = None) -> float:
        """Area between the uplift curve and the random line, over that of the perfect curve: 0 is random, 1 is perfect.

        The uplift curve is ``(Y_t / N_t - Y_c / N_c) (N_t + N_c)`` (0 in place of a mean of no rows). The perfect
        ranking is by ``2 [y = treated] + s``, where ``s`` is ``y`` if more of the others responded than of the treated
        did not, else ``treated``. For binary outcomes.

        References:
            Rzepakowski and Jaroszewicz 2010, Decision trees for uplift modeling; scikit-uplift 0.5,
            ``uplift_auc_score``.
        """
        counts = np.ones(len(self._y)) if weight is None else weight
        responded, silent = (self._y == 1) & (self._treated == 0), (self._y == 0) & (self._treated == 1)
        by_outcome = counts[responded].sum() > counts[silent].sum()
        ideal = 2.0 * (self._y == self._treated) + (self._y if by_outcome else self._treated)
        return self._over_perfect(_gain_points, _Order(self._y, self._treated, ideal), weight)

    def qini_causalml(self, weight: FloatArray | None = None) -> float:
        """Mean distance of the normalised Qini curve from the random line: 0 is random, and there is no fixed maximum.

        ``mean over k = 0..n of (Q(k) - Q(n) k / n) / |Q(n)|`` with ``Q(k)`` as in ``qini_curve``, linear where no row
        of no action is among the first k.

        References:
            Radcliffe 2007 (as above); causalml 0.18, ``qini_score(normalize=True)``.
        """
        steps = self._predicted.steps(weight)
        if not steps.is_judgeable:
            return float("nan")
        some = steps.n_control > 0
        x = np.r_[0.0, steps.n[some]]
        gained = np.r_[0.0, (steps.y_treated - steps.y_control * steps.n_treated / _above_0(steps.n_control))[some]]
        return _mean_over_rows(x, gained, baseline=0.5 * gained[-1]) if gained[-1] else float("nan")

    def auuc_causalml(self, weight: FloatArray | None = None) -> float:
        """Area under the normalised cumulative gain: about 0.5 is random.

        After k rows the gain is k times the mean outcome of the treated minus that of the others among them, linearly
        interpolated where one of the two is missing; it is divided by the absolute gain of all rows and averaged over
        k = 0..n.

        References:
            Gutierrez and Gerardy 2017, Causal inference and uplift modelling: a review of the literature; causalml
            0.18, ``auuc_score(normalize=True)``.
        """
        steps = self._predicted.steps(weight)
        if not steps.is_judgeable:
            return float("nan")
        both = (steps.n_treated > 0) & (steps.n_control > 0)
        lift = np.interp(steps.n, np.r_[0.0, steps.n[both]], np.r_[0.0, steps.lift[both]])
        x, gain = np.r_[0.0, steps.n], np.r_[0.0, steps.n * lift]
        return _mean_over_rows(x, gain) if gain[-1] else float("nan")

    def uplift_at(self, share: float, weight: FloatArray | None = None) -> float:
        """Mean outcome of the treated minus that of the others, among the ``share`` of all rows with the best uplift.

        As scikit-uplift's ``uplift_at_k(strategy="overall")``, except that of rows of equal uplift at the edge each
        counts in part. The random baseline is the mean effect. NaN if one of the two kinds is missing there.
        """
        steps = self._predicted.steps(weight)
        taken = float(int(steps.n[-1] * share)) if len(steps.n) else 0.0
        n_treated, n_control, y_treated, y_control = (
            float(np.interp(taken, np.r_[0.0, steps.n], np.r_[0.0, sums]))
            for sums in (steps.n_treated, steps.n_control, steps.y_treated, steps.y_control)
        )
        if n_treated <= 0 or n_control <= 0:
            return float("nan")
        return y_treated / n_treated - y_control / n_control

    def _over_perfect(
        self, points: Callable[[_Steps], tuple[FloatArray, FloatArray]], perfect: _Order, weight: FloatArray | None
    ) -> float:
        steps = self._predicted.steps(weight)
        if not steps.is_judgeable:
            return float("nan")
        x, gained = points(steps)
        x_perfect, gained_perfect = points(perfect.steps(weight))
        random = 0.5 * x[-1] * gained[-1]
        attainable = np.trapezoid(gained_perfect, x_perfect) - random
        return float((np.trapezoid(gained, x) - random) / attainable) if attainable else float("nan")


class _Order:
    """Rows by falling score; rows of equal score are one step."""

    def __init__(self, y: FloatArray, treated: FloatArray, score: FloatArray) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._treated = treated[self._order]
        self._y = y[self._order]
        ordered = score[self._order]
        self._ends = np.r_[np.flatnonzero(np.diff(ordered)), len(ordered) - 1] if len(ordered) else np.empty(0, np.intp)

    def steps(self, weight: FloatArray | None) -> _Steps:
        n = np.ones(len(self._y)) if weight is None else weight[self._order]
        n_treated = n * self._treated
        y, y_treated = n * self._y, n_treated * self._y
        n, n_treated, y, y_treated = (np.cumsum(each)[self._ends] for each in (n, n_treated, y, y_treated))
        return _Steps(n, n_treated, y_treated, y - y_treated)


class _Steps:
    """Sums over the rows taken so far, at the end of each step."""

    def __init__(self, n: FloatArray, n_treated: FloatArray, y_treated: FloatArray, y_control: FloatArray) -> None:
        self.n = n
        self.n_treated = n_treated
        self.n_control = n - n_treated
        self.y_treated = y_treated
        self.y_control = y_control

    @property
    def is_judgeable(self) -> bool:
        """Whether there are rows of both kinds."""
        return len(self.n) > 0 and 0 < float(self.n_treated[-1]) < float(self.n[-1])

    @property
    def lift(self) -> FloatArray:
        """Mean outcome of the treated minus that of the others; 0 in place of a mean of no rows."""
        return self.y_treated / _above_0(self.n_treated) - self.y_control / _above_0(self.n_control)


def _above_0(counts: FloatArray) -> FloatArray:
    """Counts to divide by: what is counted is 0 where they are."""
    return np.where(counts > 0, counts, 1.0)


def _qini_points(steps: _Steps) -> tuple[FloatArray, FloatArray]:
    ratio = np.where(steps.n_control > 0, steps.n_treated, 0.0) / _above_0(steps.n_control)
    return np.r_[0.0, steps.n], np.r_[0.0, steps.y_treated - steps.y_control * ratio]


def _gain_points(steps: _Steps) -> tuple[FloatArray, FloatArray]:
    return np.r_[0.0, steps.n], np.r_[0.0, steps.lift * steps.n]


def _mean_over_rows(x: FloatArray, gained: FloatArray, baseline: float = 0.0) -> float:
    """Mean over k = 0..n of a curve that is linear between its points, less a baseline, over its absolute end."""
    total = np.trapezoid(gained, x) + 0.5 * (gained[0] + gained[-1])  # of all whole k
    return float((total / (x[-1] + 1) - baseline) / abs(gained[-1]))


def random_baseline(
    measure: Callable[[FloatArray], float], n_rows: int, *, seed: int, n_draws: int = 20
) -> tuple[float, float]:
    """What a measure gives for rankings that know nothing: mean and standard deviation over random scores.

    Args:
        measure: of a score ``(n_rows,)``.
        n_rows: how many rows are ranked.
        seed: fixes the scores.
        n_draws: random rankings.

    >>> treated = np.arange(2_000) % 2.0
    >>> y = (np.arange(2_000) % 5 < 1 + treated).astype(float)
    >>> mean, _ = random_baseline(lambda score: UpliftRanking(y, score, treated).qini_sklift(), 2_000, seed=1)
    >>> abs(mean) < 0.02
    True
    """
    rng = np.random.default_rng(seed)
    found = [measure(rng.random(n_rows)) for _ in range(n_draws)]
    known = [value for value in found if not np.isnan(value)]
    return (float(np.mean(known)), float(np.std(known))) if known else (float("nan"), float("nan"))
