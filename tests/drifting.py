"""Decisions of a made-up journey in two periods, of which a test says only what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from features.kernel import Floats
from training.drift_samples import Decided

ACTIONS = ("nudge", "call")
SHARES = (0.4, 0.35, 0.25)


def decided(
    n: int,
    seed: int,
    *,
    effects: Sequence[float] = (0.2, 0.05),
    predicted: Sequence[float] | None = None,
    shares: Sequence[float] = SHARES,
    stretch: float = 1.0,
    off: float = 0.0,
    held: float = 0.2,
    degraded: float = 0.02,
    missing: float = 0.05,
    shift: float = 0.0,
    seen: bool = True,
) -> Decided:
    """``n`` randomised decisions on 0.8 n people with one binary outcome that two actions aim at.

    Args:
        n: decisions.
        seed: fixes what is drawn.
        effects: true effect of either action on the probability of the outcome.
        predicted: what the models say of it; the truth if None.
        shares: logged probabilities of no action and the actions, everybody's alike.
        stretch: what logits of predictions are multiplied by: above 1 they are too extreme.
        off: what is added to predicted probabilities.
        held: share of the candidates that limits hold back.
        degraded: share of degraded decisions.
        missing: share of unknown values of the first feature.
        shift: of the features, in standard deviations; with it moves nothing else.
        seen: the windows are over.
    """
    rng = np.random.default_rng(seed)
    people = rng.integers(0, max(int(0.8 * n), 1), n).astype(str)
    x = rng.normal(size=(n, 4))
    p0 = 0.15 + 0.4 / (1 + np.exp(-x[:, 1]))
    true = np.array([0.0, *effects])
    arm = rng.choice(3, size=n, p=shares)
    y = (rng.random(n) < p0 + true[arm]).astype(np.float64)
    stall = 0.1 + 0.8 / (1 + np.exp(-x[:, 2]))
    stalled = (rng.random(n) < stall).astype(np.float64)
    said = np.array([0.0, *(effects if predicted is None else predicted)])
    x[rng.random(n) < missing, 0] = np.nan
    reached = np.full(n, 5)
    held_back = rng.binomial(5, held, n)
    held_by = np.empty(n, dtype=np.object_)
    held_by[:] = [("cap.week",) if one else () for one in held_back]
    unknown = np.full(n, np.nan)
    return Decided(
        arm_ids=("no_action", *ACTIONS),
        outcome_ids=("paid",),
        aims=np.array([-1, 0, 0]),
        worth=np.array([40.0]),
        place=rng.random(n),
        people=people,
        at=np.sort(rng.integers(0, 10**9, n)),
        arm=arm,
        probabilities=np.tile(np.array(shares, dtype=np.float64), (n, 1)),
        control=np.clip(_stretched(p0, stretch) + off, 0, 1)[:, None],
        uplift=np.tile(np.where(np.arange(3) == 0, np.nan, said), (n, 1)),
        sigma=np.full((n, 3), 0.01),
        net_value=np.where(arm > 0, 10.0 * said[arm], 0.0),
        is_recorded=np.ones(n, dtype=np.bool_),
        stall=np.clip(_stretched(stall, stretch) + off, 0, 1),
        stalled=stalled if seen else unknown,
        response=(y if seen else unknown)[:, None],
        reached=reached,
        held=held_back,
        held_by=held_by,
        degraded=rng.random(n) < degraded,
        x=x + shift,
    )


def _stretched(probability: Floats, by: float) -> Floats:
    logit = np.log(probability) - np.log1p(-probability)
    found: Floats = 1 / (1 + np.exp(-by * logit))
    return found


def frame(side: Decided, n: int = 2_000) -> pd.DataFrame:
    """Features and scores of a sample of them, as a report compares them."""
    some = side.sample(n)
    columns: dict[str, Any] = {f"f{place}": some.x[:, place] for place in range(some.x.shape[1])}
    return pd.DataFrame({"score:stall_propensity": some.stall, **columns})
