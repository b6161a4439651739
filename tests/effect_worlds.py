"""Logged decisions with known effects: what the effect estimator is tuned, tested and benchmarked on.

Benchmarks judge on ``exam`` alone, with seeds of their own; nothing is tuned on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
N_FEATURES: Final = 20
N_ARMS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class EffectWorld:
    """Logged decisions among no action (arm 0) and four actions.

    Attributes:
        x: ``(n, 20)`` normal amounts, the last four codes and counts, some unknown (NaN).
        arm: ``(n,)`` the arm taken.
        y: ``(n,)`` the outcome.
        binary: whether it is 0 or 1.
        probabilities: ``(n, 5)`` of every arm, as logged.
        p0: ``(n,)`` mean outcome without action.
        effects: ``(n, 5)`` true effects, given ``x`` as it was before anything became unknown; 0 for no action.
    """

    x: Floats
    arm: Integers
    y: Floats
    binary: bool
    probabilities: Floats
    p0: Floats
    effects: Floats

    @property
    def taken(self) -> Floats:
        """``(n,)`` logged probability of the arm taken."""
        return self.probabilities[np.arange(len(self.arm)), self.arm]

    def rows(self, chosen: NDArray[np.generic]) -> EffectWorld:
        """The chosen rows."""
        parts = ("x", "arm", "y", "probabilities", "p0", "effects")
        return replace(self, **{name: getattr(self, name)[chosen] for name in parts})


def _x(rng: np.random.Generator, n: int) -> Floats:
    x = rng.normal(size=(n, N_FEATURES))
    x[:, 1] = 0.6 * x[:, 0] + 0.8 * x[:, 1]
    x[:, 16] = rng.integers(0, 4, n)
    x[:, 17] = rng.poisson(1.5, n)
    x[:, 18] = rng.random(n) < 0.3
    x[:, 19] = rng.exponential(size=n)
    return x


def _expit(z: Floats) -> Floats:
    probability: Floats = 0.5 * (1 + np.tanh(0.5 * z))
    return probability


def _softmax(z: Floats) -> Floats:
    grown = np.exp(z - z.max(axis=1, keepdims=True))
    shares: Floats = grown / grown.sum(axis=1, keepdims=True)
    return shares


Effects = tuple[Floats, Floats, Floats, bool]
"""Mean outcome without action ``(n,)``, effects of the four actions ``(n, 4)``, logits of the five arms, binary."""


def _steps(x: Floats) -> Effects:
    """Effects that jump at a threshold, arms drawn evenly."""
    p0 = 0.12 + 0.10 * (x[:, 2] > 0) + 0.06 * (x[:, 5] > 0.5)
    effects = np.stack(
        [
            0.04 * (x[:, 0] > 0) - 0.01,
            0.05 * (x[:, 3] > 0.5),
            0.03 * (x[:, 16] == 2) + 0.01,
            np.full(len(x), 0.012),
        ],
        axis=1,
    )
    return p0, effects, np.zeros((len(x), N_ARMS)), True


def _smooth(x: Floats) -> Effects:
    """Effects on the log odds, arms drawn unevenly by what is known."""
    base = -1.7 + 0.5 * x[:, 0] + 0.4 * np.tanh(x[:, 2]) - 0.3 * x[:, 18]
    shift = np.stack(
        [
            0.15 + 0.25 * x[:, 1],
            0.15 - 0.25 * x[:, 3] + 0.1 * x[:, 4],
            0.10 + 0.3 * np.tanh(x[:, 5] * x[:, 6]),
            0.25 - 0.2 * (x[:, 17] > 2),
        ],
        axis=1,
    )
    p0 = _expit(base)
    logits = np.stack([0.3 * x[:, 0], 0.4 * x[:, 1], -0.3 * x[:, 2], 0 * x[:, 0], 0.3 * x[:, 3]], axis=1)
    return p0, _expit(base[:, None] + shift) - p0[:, None], logits, True


def _faint(x: Floats) -> Effects:
    """Effects that hardly differ: the mean is nearly all that can be known."""
    p0 = _expit(-2.0 + 0.6 * x[:, 0] + 0.4 * x[:, 2])
    effects = np.stack(
        [0.010 + 0.006 * np.tanh(x[:, 1]), np.full(len(x), 0.015), 0.005 + 0.006 * (x[:, 7] > 0), 0 * x[:, 0]], axis=1
    )
    return p0, effects, 0.2 * x[:, :N_ARMS], True


def _spend(x: Floats) -> Effects:
    """Amounts with a long tail; effects in money."""
    base = 8 + 3 * x[:, 0] + 2 * np.tanh(x[:, 2]) + 1.5 * x[:, 19]
    effects = np.stack(
        [
            1.5 * (x[:, 1] > 0) - 0.3,
            0.6 + 0.8 * x[:, 3],
            1.2 * np.tanh(x[:, 5]) * (x[:, 18] == 1) + 0.4,
            np.full(len(x), 0.5),
        ],
        axis=1,
    )
    return (
        base,
        effects,
        np.stack([0.4 * x[:, 1], 0 * x[:, 0], 0.3 * x[:, 0], 0 * x[:, 0], -0.2 * x[:, 3]], axis=1),
        False,
    )


def _dogs(x: Floats) -> Effects:
    """A third of the customers are put off by every contact; the others are moved."""
    p0 = _expit(-1.2 + 0.5 * x[:, 2] + 0.3 * x[:, 19])
    asleep = x[:, 0] + 0.5 * x[:, 1] > 0.5
    moved = np.stack(
        [
            0.04 + 0.03 * np.tanh(x[:, 3]),
            0.05 + 0.02 * x[:, 18],
            0.03 + 0.04 * (x[:, 5] > 0.5),
            0.04 + 0.02 * np.tanh(x[:, 6]),
        ],
        axis=1,
    )
    return p0, np.where(asleep[:, None], -0.06, moved), 0.25 * x[:, 8 : 8 + N_ARMS], True


def _exam(x: Floats) -> Effects:
    """Jumps, slopes and interactions of a few points on a base of some fifteen percent; logged policy uneven."""
    base = -2.0 + 0.6 * x[:, 2] + 0.4 * np.sin(x[:, 9]) + 0.3 * (x[:, 16] == 1) + 0.25 * x[:, 10] * (x[:, 18] == 1)
    p0 = _expit(base)
    effects = np.stack(
        [
            0.015 + 0.03 * np.tanh(x[:, 0] + 0.5 * x[:, 3]),
            0.010 + 0.04 * (x[:, 5] > 0.3) - 0.03 * (x[:, 18] == 1),
            0.012 + 0.03 * np.sign(x[:, 7]) * (np.abs(x[:, 8]) < 1),
            0.015 + 0.015 * np.tanh(x[:, 17] - 1.5) - 0.05 * (x[:, 6] > 1),
        ],
        axis=1,
    )
    return p0, effects, 0.3 * x[:, [2, 0, 5, 7, 11]], True


RECIPES: Final[Mapping[str, Callable[[Floats], Effects]]] = {
    "steps": _steps,
    "smooth": _smooth,
    "faint": _faint,
    "spend": _spend,
    "dogs": _dogs,
    "exam": _exam,
}


def effect_world(name: str, n: int, seed: int, *, share_unknown: float = 0.03) -> EffectWorld:
    """``n`` decisions of a world; its responses stay inside [0, 1] where it is binary.

    Args:
        name: one of ``RECIPES``.
        n: rows.
        seed: fixes everything that is drawn.
        share_unknown: of the amounts that are NaN to whoever learns.
    """
    rng = np.random.default_rng([seed, sorted(RECIPES).index(name)])
    x = _x(rng, n)
    p0, effects, logits, binary = RECIPES[name](x)
    probabilities = _softmax(logits)
    means = np.concatenate([p0[:, None], p0[:, None] + effects], axis=1)
    if binary:
        means = np.clip(means, 0.002, 0.998)
    arm = np.minimum((rng.random(n)[:, None] > np.cumsum(probabilities, axis=1)).sum(axis=1), N_ARMS - 1)
    mean = means[np.arange(n), arm]
    y = (rng.random(n) < mean).astype(np.float64) if binary else mean * rng.gamma(2.0, 0.5, n)
    known = np.where(rng.random(x.shape) < share_unknown, np.nan, x)
    known[:, 16:] = x[:, 16:]
    return EffectWorld(known, arm, y, binary, probabilities, means[:, 0], means - means[:, :1])


def policy_share(world: EffectWorld, predicted: Floats) -> float:
    """Gain of the best predicted arm over the best single arm (no action is one), as a share of the oracle's.

    Args:
        world: rows that nothing was fitted on.
        predicted: ``(n, 5)`` predicted effects, 0 for no action.
    """
    single = world.effects.mean(axis=0).max()
    chosen = world.effects[np.arange(len(predicted)), predicted.argmax(axis=1)].mean()
    return float((chosen - single) / (world.effects.max(axis=1).mean() - single))


def effect_error(world: EffectWorld, predicted: Floats) -> float:
    """Root mean squared error of the effects (PEHE), averaged over the actions."""
    return float(np.sqrt(((predicted - world.effects)[:, 1:] ** 2).mean(axis=0)).mean())


def mean_effect_error(world: EffectWorld) -> float:
    """``effect_error`` of predicting every action's true mean effect."""
    return float(world.effects[:, 1:].std(axis=0).mean())


def true_qini(world: EffectWorld, predicted: Floats) -> float:
    """Area between the true effects gained by predicted rank and the random line, over that by true rank; mean of arms.

    1 is the true order, 0 a random one. Actions with the same effect on everybody have no order and are left out.
    """
    found = []
    for number in range(1, predicted.shape[1]):
        truth = world.effects[:, number] - world.effects[:, number].mean()
        if truth.std() < 1e-9:
            continue
        areas = []
        for score in (predicted[:, number], truth):
            _, group = np.unique(-score, return_inverse=True)
            rank = np.argsort(group, kind="stable")
            # Rows that are tied gain their mean: an order that was not predicted earns nothing.
            tied = np.bincount(group, weights=truth) / np.bincount(group)
            areas.append(np.cumsum(tied[group][rank]).mean())
        found.append(areas[0] / areas[1])
    return float(np.mean(found))
