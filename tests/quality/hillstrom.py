"""Hillstrom's e-mail experiment: 64,000 customers, men's e-mail, women's e-mail or none, a third each."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from models.metrics import qini_sklift
from models.off_policy import doubly_robust_responses
from tests.benchmarks.report import Measure
from tests.quality.learners import Floats, Integers, Ours, causalml_x, econml_dr, responses
from tests.quality.measures import at_least, beside, spread, versus
from tests.quality.setting import FILES, Setting

TITLE: Final = "Hillstrom e-mail experiment"
METHOD: Final = """\
Outcome: visit within two weeks. Each of 10 splits halves the customers, stratified by arm and outcome; models learn
on one half and are judged on the other. Qini is scikit-uplift's definition (area between the Qini curve and the
random line over the same area of the perfect curve). "Paired difference" is the mean over the splits of ours less
theirs, in its standard error over the splits (which overlap, so it is optimistic). The response model ranks by the
probability of a visit if mailed. Policies are valued by inverse propensity scoring with the known probability of 1/3,
and doubly robustly with the learner's own predictions.
"""
ARMS: Final = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")
MENS, WOMENS = 1, 2
UNIT: Final = "Qini (sklift)"


class Experiment(NamedTuple):
    """The table as arrays.

    Attributes:
        x: ``(n, n_features)``.
        arm: ``(n,)`` position in ``ARMS``.
        y: ``(n,)`` 1 for a visit.
    """

    x: Floats
    arm: Integers
    y: Floats


def experiment(setting: Setting) -> Experiment:
    """All customers, or every fourth where quick."""
    rows = setting.csv(FILES["hillstrom"][0])
    rows = rows.iloc[::4] if setting.quick else rows
    numbers = rows[["recency", "history", "mens", "womens", "newbie"]].astype(np.float64)
    flags = pd.get_dummies(rows[["zip_code", "channel"]]).astype(np.float64)
    arm = rows["segment"].map({name: number for number, name in enumerate(ARMS)}).to_numpy(np.int64)
    return Experiment(np.hstack([numbers.to_numpy(), flags.to_numpy()]), arm, rows["visit"].to_numpy(np.float64))


def halves(arm: Integers, y: Floats, seed: int) -> tuple[Integers, Integers]:
    """Two halves of the rows, equal in arm and outcome."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(y)), y, arm))
    return np.sort(order[::2]), np.sort(order[1::2])


def measures(setting: Setting) -> list[Measure]:
    """The gates of this experiment."""
    whole = experiment(setting)
    qini: dict[str, list[float]] = defaultdict(list)
    worth: dict[str, list[float]] = defaultdict(list)
    for seed in range(setting.repeats(10)):
        train, test = halves(whole.arm, whole.y, seed)
        _three_arms(whole, train, test, seed, qini, worth)
        _any_mail(whole, train, test, seed, qini)
    return [*_qini_measures(qini), *_policy_measures(worth)]


def _three_arms(
    whole: Experiment,
    train: Integers,
    test: Integers,
    seed: int,
    qini: dict[str, list[float]],
    worth: dict[str, list[float]],
) -> None:
    x, arm, y = whole.x[train], whole.arm[train], whole.y[train]
    ours = Ours(x, arm, y, seed=seed, probability=np.full(len(train), 1 / 3))
    pair = arm != MENS
    two = np.where(arm[pair] == WOMENS, 1, 0)
    alone = Ours(x[pair], two, y[pair], seed=seed, probability=np.full(int(pair.sum()), 0.5))
    new, taken, came = whole.x[test], whole.arm[test], whole.y[test]
    predicted = {
        "ours": ours.effects(new),
        "causalml X": causalml_x(x, arm, y, seed=seed)(new),
        "EconML DR": econml_dr(x, arm, y, seed=seed)(new),
    }
    answered = responses(x, arm, y, seed=seed)(new)
    shown = taken != MENS
    treated = (taken[shown] == WOMENS).astype(np.float64)
    rankings = {name: effects[:, WOMENS - 1] for name, effects in predicted.items()}
    rankings |= {"ours": alone.effects(new)[:, 0], "response model": answered[:, WOMENS]}
    rankings["random"] = np.random.default_rng(seed).random(len(new))
    for name, score in rankings.items():
        qini[name].append(qini_sklift(came[shown], score[shown], treated))
    policies = {
        name: np.concatenate([np.zeros((len(new), 1)), effects], axis=1).argmax(axis=1)
        for name, effects in predicted.items()
    }
    policies["response model"] = answered.argmax(axis=1)
    policies["best single action"] = np.full(len(new), MENS)
    for name, chosen in policies.items():
        worth[name].append(float(np.mean(came * (taken == chosen) * 3)))
    worth["random"].append(float(came.mean()))
    control = ours.control(new)[:, None]
    scores = doubly_robust_responses(
        came,
        taken,
        np.full(len(new), 1 / 3),
        np.concatenate([control, control + predicted["ours"]], axis=1),
    )
    for name in ("ours", "best single action"):
        worth[f"{name} (DR)"].append(float(scores[np.arange(len(new)), policies[name]].mean()))


def _any_mail(whole: Experiment, train: Integers, test: Integers, seed: int, qini: dict[str, list[float]]) -> None:
    mailed = (whole.arm > 0).astype(np.int64)
    x, arm, y = whole.x[train], mailed[train], whole.y[train]
    new, treated, came = whole.x[test], mailed[test].astype(np.float64), whole.y[test]
    ours = Ours(x, arm, y, seed=seed, probability=np.where(arm == 1, 2 / 3, 1 / 3))
    qini["any: ours"].append(qini_sklift(came, ours.effects(new)[:, 0], treated))
    qini["any: causalml X"].append(qini_sklift(came, causalml_x(x, arm, y, seed=seed)(new)[:, 0], treated))


def _qini_measures(qini: dict[str, list[float]]) -> list[Measure]:
    ours, any_mail = qini["ours"], qini["any: ours"]
    found = [at_least("Womens vs none", float(np.mean(ours)), 0.057, unit=UNIT, bounds=spread(ours))]
    for library in ("causalml X", "EconML DR"):
        found += beside(f"Womens vs none, {library}", ours, qini[library], unit=UNIT)
    for name in ("response model", "random"):
        found.append(versus(f"Womens vs none, {name}", float(np.mean(ours)), float(np.mean(qini[name])), unit=UNIT))
    found.append(at_least("any e-mail vs none", float(np.mean(any_mail)), 0.032, unit=UNIT, bounds=spread(any_mail)))
    found += beside("any e-mail vs none, causalml X", any_mail, qini["any: causalml X"], unit=UNIT)
    return found


def _policy_measures(worth: dict[str, list[float]]) -> list[Measure]:
    shares = {name: [100 * value for value in values] for name, values in worth.items()}
    ours = shares["ours"]
    found = beside("three-arm policy (IPS), Mens to all", ours, shares["best single action"], unit="% visits")
    for name in ("causalml X", "EconML DR", "response model", "random"):
        found += beside(f"three-arm policy (IPS), {name}", ours, shares[name], unit="% visits", gate=False)
    found += beside(
        "three-arm policy (DR), Mens to all", shares["ours (DR)"], shares["best single action (DR)"], unit="% visits"
    )
    return found
