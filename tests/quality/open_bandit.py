"""Off-policy estimates where the answer is known: Hillstrom's arms, and the Open Bandit log of two policies."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from models.off_policy import EstimateParams, off_policy_estimates
from models.off_policy_log import Logged, UnsupportedPolicy, effective_sample_size, logged_decisions
from tests.benchmarks.report import Measure
from tests.quality import hillstrom
from tests.quality.learners import Floats, Integers, responses
from tests.quality.measures import at_least, holds, told
from tests.quality.setting import FILES, Setting

TITLE: Final = "Off-policy estimates (Hillstrom, Open Bandit)"
METHOD: Final = """\
**Hillstrom**: each customer is kept with a probability that depends on sex of the goods bought, recency and arm, so
that the rows kept are a log of an uneven policy whose probabilities are known exactly; each arm's mean in the whole
experiment is the truth. 20 such logs, three arms each. Rewards are predicted by classifiers of the other half. **Open
Bandit**: 10,000 clicks-or-not of a uniform policy and of Bernoulli Thompson sampling over 80 items in 3 positions. An
item's probability under Thompson sampling, by position, is its share in that policy's own log (one row added to
each); the reward model is the item's click rate in the other half, drawn to the mean with the weight of 100 rows. Its
truth is the mean of the Thompson log: 42 clicks, so nothing finer than these intervals can be claimed. Intervals are
95 %, by bootstrap; the direct method's is widened to hold the doubly robust one.
"""
N_ITEMS: Final = 80
PRIOR_ROWS: Final = 100.0
_KEPT: Final = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.3, 0.5, 0.2], [0.2, 0.5, 0.3]])


class Clicks(NamedTuple):
    """One log of the Open Bandit.

    Attributes:
        item: ``(n,)``.
        place: ``(n,)`` position on the page, from 0.
        click: ``(n,)`` 0 or 1.
        probability: ``(n,)`` logged, of the item at its position.
    """

    item: Integers
    place: Integers
    click: Floats
    probability: Floats


def measures(setting: Setting) -> list[Measure]:
    """The gates of the estimators and of the guard."""
    params = EstimateParams(resamples=50 if setting.quick else 200)
    random, thompson = (_clicks(setting.csv(file)) for file in FILES["open_bandit"][:2])
    return [*_arms(setting, params), *_to_thompson(random, thompson, params), *_refused(thompson, params)]


def _arms(setting: Setting, params: EstimateParams) -> list[Measure]:
    """How often each estimator's interval holds an arm's true mean, over several uneven logs, and how far off it is."""
    whole = hillstrom.experiment(setting)
    truths = [float(whole.y[whole.arm == number].mean()) for number in range(len(hillstrom.ARMS))]
    held: dict[str, list[float]] = defaultdict(list)
    off: dict[str, list[float]] = defaultdict(list)
    for seed in range(setting.repeats(20)):
        for number, log in enumerate(_uneven_logs(whole, seed)):
            for estimate in off_policy_estimates(log, params).values():
                held[estimate.name].append(100.0 * (estimate.low <= truths[number] <= estimate.high))
                off[estimate.name].append(100.0 * abs(estimate.value / truths[number] - 1))
    found = []
    for name, values in held.items():
        title = f"Hillstrom: {name}"
        found.append(at_least(f"{title}, arms' true means held", float(np.mean(values)), 90.0, unit="% of intervals"))
        found.append(told(f"{title}, mean relative error", float(np.mean(off[name])), unit="%"))
    return found


def _uneven_logs(whole: hillstrom.Experiment, seed: int) -> list[Logged]:
    """A log of an uneven policy beside each policy that always does the same."""
    rng = np.random.default_rng(seed)
    womens, recency = whole.x[:, 3] == 1, whole.x[:, 0]
    table = _KEPT[(2 * womens + (recency > np.median(recency))).astype(np.int64)]
    kept = rng.random(len(whole.y)) < table[np.arange(len(whole.y)), whole.arm]
    x, arm, y, table = whole.x[kept], whole.arm[kept], whole.y[kept], table[kept]
    predicted = np.empty(table.shape)
    first, second = hillstrom.halves(arm, y, seed)
    for rows, others in ((first, second), (second, first)):
        predicted[rows] = responses(x[others], arm[others], y[others], seed=seed)(x[rows])
    taken = table[np.arange(len(y)), arm]
    return [
        logged_decisions(
            y, arm, taken, policy=np.tile(always, (len(y), 1)), predicted=predicted, arm_probabilities=table
        )
        for always in np.eye(table.shape[1])
    ]


def _covers(title: str, value: float, bounds: tuple[float, float], truth: float) -> list[Measure]:
    shown = Measure(
        name=title,
        unit="clicks per 1,000",
        ours=value,
        baseline=truth,
        ratio=value / truth,
        target=None,
        at_most=False,
        spread=(bounds[0], value, bounds[1]),
    )
    return [shown, holds(f"{title} holds the truth", is_true=bounds[0] <= truth <= bounds[1])]


def _clicks(rows: pd.DataFrame) -> Clicks:
    return Clicks(
        rows["item_id"].to_numpy(np.int64),
        rows["position"].to_numpy(np.int64) - 1,
        rows["click"].to_numpy(np.float64),
        rows["propensity_score"].to_numpy(np.float64),
    )


def _shares(log: Clicks) -> Floats:
    """Share of each item at each position, ``(n_places, n_items)``, one row added to each."""
    counts = np.ones((3, N_ITEMS))
    np.add.at(counts, (log.place, log.item), 1.0)
    return counts / counts.sum(axis=1, keepdims=True)


def _click_rates(log: Clicks) -> Floats:
    """``(n, n_items)`` click rate of every item, from the half of the log that a row is not in."""
    half = np.random.default_rng(2).integers(0, 2, len(log.click))
    rates = np.empty((2, N_ITEMS))
    for side in (0, 1):
        other = half != side
        clicks = np.bincount(log.item[other], log.click[other], N_ITEMS)
        shown = np.bincount(log.item[other], minlength=N_ITEMS)
        rates[side] = (clicks + PRIOR_ROWS * log.click[other].mean()) / (shown + PRIOR_ROWS)
    return rates[half]


def _to_thompson(random: Clicks, thompson: Clicks, params: EstimateParams) -> list[Measure]:
    log = logged_decisions(
        random.click,
        random.item,
        random.probability,
        policy=_shares(thompson)[random.place],
        predicted=_click_rates(random),
    )
    truth = float(thompson.click.mean())
    found = [told("Open Bandit, uniform to Thompson: effective rows", effective_sample_size(log.weight), unit="rows")]
    for estimate in off_policy_estimates(log, params).values():
        title = f"Open Bandit, uniform to Thompson: {estimate.name}"
        found += _covers(title, 1_000 * estimate.value, (1_000 * estimate.low, 1_000 * estimate.high), 1_000 * truth)
    return found


def _refused(thompson: Clicks, params: EstimateParams) -> list[Measure]:
    uniform = np.full((len(thompson.click), N_ITEMS), 1 / N_ITEMS)
    log = logged_decisions(thompson.click, thompson.item, thompson.probability, policy=uniform)
    codes: set[str] = set()
    try:
        off_policy_estimates(log, params)
    except UnsupportedPolicy as refused:
        codes = {one.code for one in refused.refusals}
        print(refused)
    return [
        told("Open Bandit, Thompson to uniform: effective rows", effective_sample_size(log.weight), unit="rows"),
        holds("Open Bandit, Thompson to uniform: refused for it", is_true="low_share" in codes),
    ]
