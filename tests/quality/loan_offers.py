"""Karlan and Zinman's loan-offer mailer: the interest rate was drawn by chance within risk tier and wave."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from models.metrics import auc, qini_sklift
from tests.benchmarks.report import Measure
from tests.quality.hillstrom import halves
from tests.quality.learners import Floats, Integers, Ours, base_classifier, causalml_x, econml_dr, responses
from tests.quality.measures import at_least, beside, holds, spread, told, versus
from tests.quality.setting import FILES, Setting

TITLE: Final = "Loan offers (Karlan and Zinman 2008)"
METHOD: Final = """\
53,810 former borrowers, each offered a monthly rate drawn by chance within risk tier and wave; nobody got no offer.
Outcome: the loan was taken up. **Depth** is the tier's usual rate (11.75, 9.75 or 7.75 % a month) less the rate
offered, in bands of up to 1, 3, 5 and above 5 points; the shallow band is the control. The probability of a band is
its share within tier and wave, which is 0 for some. Mean effects are doubly robust, over all rows, with 95 %
intervals. Ranking is judged where it can be without weights: a rate below the stratum's median against one above it,
mean of 10 splits into halves, Qini as in scikit-uplift. AUC is of take-up itself, among held-out rows, given the band
that was offered.
"""
USUAL_RATE: Final = {"HIGH": 11.75, "MEDIUM": 9.75, "LOW": 7.75}
BAND_ENDS: Final = (1.0, 3.0, 5.0)
BANDS: Final = ("up to 1 point", "1 to 3 points", "3 to 5 points", "above 5 points")
NUMBERS: Final = (
    *("itcscore", "appscore", "dormancy", "lastamount", "lastterm", "trcount", "grossincome", "dependants", "age"),
    *("married", "female", "edhi", "rural", "itczero"),
)
QINI: Final = "Qini (sklift)"


class Mailer(NamedTuple):
    """The mailer as arrays.

    Attributes:
        x: ``(n, n_features)`` known before the offer.
        band: ``(n,)`` position in ``BANDS``.
        table: ``(n, n_bands)`` share of each band in the row's stratum.
        cheap: ``(n,)`` 1 where the rate is below the stratum's median.
        y: ``(n,)`` 1 where the loan was taken up.
    """

    x: Floats
    band: Integers
    table: Floats
    cheap: Integers
    y: Floats


def mailer(setting: Setting) -> Mailer:
    """All offers, or every fourth where quick."""
    rows = setting.stata(FILES["loan_offers"][0])
    rows = (rows.iloc[::4] if setting.quick else rows).reset_index(drop=True)
    usual = rows["risk"].map(USUAL_RATE).astype(np.float64)
    stratum = rows.groupby(["risk", "wave"], observed=True).ngroup().to_numpy()
    band = np.searchsorted(np.array(BAND_ENDS), (usual - rows["offer4"]).to_numpy(np.float64), side="left")
    shares = pd.crosstab(stratum, band, normalize="index").reindex(columns=range(len(BANDS)), fill_value=0.0)
    median = rows.groupby(stratum)["offer4"].transform("median")
    x = np.column_stack([rows[list(NUMBERS)].to_numpy(np.float64), usual, rows["wave"].to_numpy(np.float64)])
    return Mailer(
        x,
        band.astype(np.int64),
        shares.to_numpy()[stratum],
        (rows["offer4"] < median).to_numpy(np.int64),
        rows["tookup"].to_numpy(np.float64),
    )


def measures(setting: Setting) -> list[Measure]:
    """The gates of the mailer."""
    whole = mailer(setting)
    taken = whole.table[np.arange(len(whole.y)), whole.band]
    everyone = Ours(whole.x, whole.band, whole.y, seed=0, probability=taken, table=whole.table)
    found = []
    effects = []
    for name, arm in zip(BANDS[1:], everyone.fitted.arms, strict=True):
        bounds = (100 * (arm.mean_effect - 1.96 * arm.mean_se), 100 * (arm.mean_effect + 1.96 * arm.mean_se))
        found.append(told(f"mean effect of {name} of depth", 100 * arm.mean_effect, unit="% points", bounds=bounds))
        effects.append(arm.mean_effect / arm.mean_se)
    found.append(at_least("deepest band: mean effect, in standard errors", effects[-1], 1.96, unit="s.e."))
    found.append(holds("a lower rate never lowers take-up, band by band", is_true=min(effects) > 0))
    qini: dict[str, list[float]] = defaultdict(list)
    hits: dict[str, list[float]] = defaultdict(list)
    for seed in range(setting.repeats(10)):
        train, test = halves(whole.cheap, whole.y, seed)
        _ranked(whole, train, test, seed, qini)
        _answered(whole, train, test, seed, hits)
    return [*found, *_comparisons(qini, hits)]


def _ranked(whole: Mailer, train: Integers, test: Integers, seed: int, qini: dict[str, list[float]]) -> None:
    x, cheap, y = whole.x[train], whole.cheap[train], whole.y[train]
    new, treated, came = whole.x[test], whole.cheap[test].astype(np.float64), whole.y[test]
    share = float(cheap.mean())
    ours = Ours(x, cheap, y, seed=seed, probability=np.where(cheap == 1, share, 1 - share))
    # causalml hands missing values on; EconML must be told of them, and is.
    scores = {
        "ours": ours.effects(new)[:, 0],
        "causalml X": causalml_x(x, cheap, y, seed=seed)(new)[:, 0],
        "EconML DR": econml_dr(x, cheap, y, seed=seed)(new)[:, 0],
        "response model": responses(x, cheap, y, seed=seed)(new)[:, 1],
        "random": np.random.default_rng(seed).random(len(new)),
    }
    for name, score in scores.items():
        qini[name].append(qini_sklift(came, score, treated))


def _answered(whole: Mailer, train: Integers, test: Integers, seed: int, hits: dict[str, list[float]]) -> None:
    taken = whole.table[np.arange(len(whole.y)), whole.band]
    ours = Ours(
        whole.x[train],
        whole.band[train],
        whole.y[train],
        seed=seed,
        probability=taken[train],
        table=whole.table[train],
    )
    new, band = whole.x[test], whole.band[test]
    effects = np.concatenate([np.zeros((len(test), 1)), ours.effects(new)], axis=1)
    hits["ours"].append(auc(whole.y[test], ours.control(new) + effects[np.arange(len(test)), band]))
    with_band = np.column_stack([whole.x, whole.band])
    one = base_classifier(seed).fit(with_band[train], whole.y[train])
    hits["LightGBM"].append(auc(whole.y[test], one.predict_proba(with_band[test])[:, 1]))


def _comparisons(qini: dict[str, list[float]], hits: dict[str, list[float]]) -> list[Measure]:
    ours = qini["ours"]
    found = [told("rate below the median: ranking", float(np.mean(ours)), unit=QINI, bounds=spread(ours))]
    for name in ("causalml X", "EconML DR"):
        found += beside(f"rate below the median, {name}", ours, qini[name], unit=QINI)
    found += [
        versus(f"rate below the median, {name}", float(np.mean(ours)), float(np.mean(qini[name])), unit=QINI)
        for name in ("response model", "random")
    ]
    return [
        *found,
        *beside(
            "take-up, one LightGBM with the band as feature", hits["ours"], hits["LightGBM"], unit="AUC", gate=False
        ),
    ]
