"""Measures: to digits against the libraries whose definitions they name.

scikit-uplift 0.5 does not run on the present numpy. What is compared with is written here from its formulas, with loops
over thresholds, and shares no line with ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.effect_metrics import EffectRanking
from models.uplift_metrics import UpliftRanking
from tests.crosscheck.worlds import Floats, World, library, world

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the libraries warn of their own dependencies
SEEDS = range(5)
EXACT = 1e-9


def _judged(seed: int) -> tuple[World, Floats, pd.DataFrame]:
    """A known world, a score without ties, and both as causalml takes them."""
    known = world(seed, n=3_000)
    score = known.effect + 0.05 * np.random.default_rng(seed).normal(size=3_000)
    return known, score, pd.DataFrame({"score": score, "y": known.y, "w": known.treated})


def _theirs(name: str, frame: pd.DataFrame, **settings: Any) -> float:
    found = getattr(library("causalml.metrics"), name)(frame, outcome_col="y", treatment_col="w", **settings)
    return float(found["score"])


@pytest.mark.parametrize("seed", SEEDS)
def test_auuc_is_causalmls(seed: int) -> None:
    """Ours equals ``auuc_score`` for a score without ties; with ties, theirs follows the order of the file."""
    known, score, frame = _judged(seed)

    theirs = _theirs("auuc_score", frame, normalize=True)

    assert UpliftRanking(known.y, score, known.treated).auuc_causalml() == pytest.approx(theirs, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_qini_is_causalmls(seed: int) -> None:
    """Likewise ``qini_score``."""
    known, score, frame = _judged(seed)

    theirs = _theirs("qini_score", frame, normalize=True)

    assert UpliftRanking(known.y, score, known.treated).qini_causalml() == pytest.approx(theirs, abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_toc_is_causalmls(seed: int) -> None:
    """Our TOC at every rank equals ``get_toc`` when it is given the doubly robust scores as effects."""
    known, score, _ = _judged(seed)
    effect = 2 * known.y * (2 * known.treated - 1)
    theirs = library("causalml.metrics").get_toc(pd.DataFrame({"score": score, "tau": effect}))

    share, toc = EffectRanking(effect, score).toc()

    assert share == pytest.approx(theirs.index.to_numpy()[1:], abs=EXACT)
    assert toc == pytest.approx(theirs["score"].to_numpy()[1:], abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rate_of_causalml_is_another_mean_of_the_same_curve(seed: int) -> None:
    """``rate_score("qini")`` takes middles of ranks and weights that sum to 1: twice ours, up to 1/n.

    Its ``"autoc"`` weighs by 1/q, while the AUTOC of Yadlowsky et al. is the plain area, which is ours.
    """
    known, score, _ = _judged(seed)
    effect = 2 * known.y * (2 * known.treated - 1)
    metrics = library("causalml.metrics")
    theirs = metrics.rate_score(pd.DataFrame({"score": score, "tau": effect}), weighting="qini")["score"]
    toc = metrics.get_toc(pd.DataFrame({"score": score, "tau": effect}))["score"].to_numpy()

    ours = EffectRanking(effect, score)

    assert 2 * ours.rate_qini() == pytest.approx(theirs, abs=2 / len(score))
    assert ours.autoc() == pytest.approx(toc[1:].mean(), abs=EXACT)
    ranks = np.arange(1, len(toc)) / (len(toc) - 1)
    assert ours.rate_qini() == pytest.approx((ranks * toc[1:]).mean(), abs=EXACT)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_qini_and_auuc_are_scikit_uplifts(seed: int, ties: bool) -> None:
    """``qini_auc_score`` and ``uplift_auc_score``, also where many rows share a score."""
    known, score, _ = _judged(seed)
    score = np.round(score, 1) if ties else score
    ours = UpliftRanking(known.y, score, known.treated)

    assert ours.qini_sklift() == pytest.approx(_sklift_qini(known, score), abs=EXACT)
    assert ours.auuc_sklift() == pytest.approx(_sklift_auuc(known, score), abs=EXACT)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_uplift_at_k_is_scikit_uplifts(seed: int, share: float) -> None:
    """``uplift_at_k(strategy="overall")``."""
    known, score, _ = _judged(seed)
    best = np.argsort(score)[::-1][: int(len(score) * share)]
    y, treated = known.y[best], known.treated[best]

    found = UpliftRanking(known.y, score, known.treated).uplift_at(share)

    assert found == pytest.approx(y[treated == 1].mean() - y[treated == 0].mean(), abs=EXACT)


def _sklift_curve(known: World, score: Floats, kind: str) -> tuple[list[float], list[float]]:
    """``qini_curve`` or ``uplift_curve``, threshold by threshold."""
    x, gained = [0.0], [0.0]
    for threshold in sorted(set(score.tolist()), reverse=True):
        taken = score >= threshold
        y_treated, y_control = (float(known.y[taken & (known.treated == arm)].sum()) for arm in (1, 0))
        n_treated, n_control = (float((taken & (known.treated == arm)).sum()) for arm in (1, 0))
        if kind == "qini":
            gain = y_treated - y_control * (n_treated / n_control if n_control else 0.0)
        else:
            treated = y_treated / n_treated if n_treated else 0.0
            gain = (treated - (y_control / n_control if n_control else 0.0)) * (n_treated + n_control)
        x.append(n_treated + n_control)
        gained.append(gain)
    return x, gained


def _area(x: list[float], gained: list[float]) -> float:
    steps = zip(x[1:], x[:-1], gained[1:], gained[:-1], strict=True)
    return sum((x1 - x0) * (y1 + y0) / 2 for x1, x0, y1, y0 in steps)


def _over_perfect(known: World, score: Floats, ideal: Floats, kind: str) -> float:
    perfect_x, perfect = _sklift_curve(known, ideal, kind)
    random = perfect_x[-1] * perfect[-1] / 2
    return (_area(*_sklift_curve(known, score, kind)) - random) / (_area(perfect_x, perfect) - random)


def _sklift_qini(known: World, score: Floats) -> float:
    """``qini_auc_score(negative_effect=True)``."""
    return _over_perfect(known, score, known.y * known.treated - known.y * (1 - known.treated), "qini")


def _sklift_auuc(known: World, score: Floats) -> float:
    """``uplift_auc_score``."""
    responders = ((known.y == 1) & (known.treated == 0)).sum()
    non_responders = ((known.y == 0) & (known.treated == 1)).sum()
    summand = known.y if responders > non_responders else known.treated
    return _over_perfect(known, score, 2 * (known.y == known.treated) + summand, "uplift")
