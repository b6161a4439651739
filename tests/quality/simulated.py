"""Simulated truth: what a policy learned from logged decisions is worth, and whether what models say is so."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple

import numpy as np

from models.metrics import qini_sklift
from tests.benchmarks.report import Measure
from tests.quality.learners import Effects, Floats, Ours, causalml_x, econml_dr, responses
from tests.quality.measures import at_least, at_most, below, beside, holds, spread, told, versus
from tests.quality.setting import Setting
from tests.quality.worlds import Table, money, table

TITLE: Final = "Simulated truth"
METHOD: Final = """\
Decisions over an undecided offer under the [simulator's](reference/simulator.md) frozen laws: no action or one of
four treatments (reminder, call-back, explanation, fee waiver), drawn evenly; the response is acceptance within 14
days. The truth of every customer is the laws' mean given all that can be observed. Net value as in decisions: EUR 60
for one more acceptance, less the contact and, where the offer is accepted, the incentive. **Attainable gain** is the
best policy on what can be observed less the best single action for all, both from the truth of 50,000 fresh
customers. The share of it that a policy reaches is 100 % for the best policy, 0 % for the best single action,
negative below that. The policy of a learner takes the action of highest predicted net value where that is above 0;
"response ranking" takes the action with the highest predicted response. Coverage: of 90 % intervals of single
customers, averaged over each decile of predicted uplift of each action, how many hold the decile's true mean effect.
Slope: of true effects on predicted ones, mean over actions. PEHE: root mean squared error of effects, mean over
actions. Harmed: the true effect of the action taken is below 0. Decisions of one seed share their control rows, so that
a seed's deciles are off together: coverage is the mean over more seeds than the comparisons with the other learners.
Comparisons are gates from 10,000 decisions an arm on, about the size of benchmark B6; with 2,000 ours errs less and
holds back more.
"""
Z_90: Final = 1.645
SIZES: Final = {2_000: 5, 10_000: 5, 30_000: 3, 100_000: 2}
"""Seeds by decisions an arm."""
HONESTY_SEEDS: Final = {2_000: 5, 10_000: 8, 30_000: 8, 100_000: 3}
"""Likewise of intervals and slopes, for which the other learners are not fitted."""
N_ARMS: Final = 5
SMALLEST_JUDGED: Final = 10_000
"""Decisions an arm from which on comparisons, intervals and slopes are judged."""
MOST_HARMED: Final = 5.0
RANKINGS: Final = ("response ranking", "response ranking by the truth")
GAIN: Final = "% of attainable"
QINI: Final = "Qini (sklift)"


class _Judge(NamedTuple):
    """Fresh customers and what can be earned with them."""

    fresh: Table
    worth: Floats
    single: int

    def share(self, chosen: np.ndarray) -> float:
        """Share of the attainable gain, in percent."""
        gained = float(self.worth[np.arange(len(chosen)), chosen].mean())
        base = float(self.worth[:, self.single].mean())
        return 100 * (gained - base) / (float(self.worth.max(axis=1).mean()) - base)

    def harmed(self, chosen: np.ndarray) -> float:
        """Share of the customers whom what is chosen harms, in percent."""
        effect = np.concatenate([np.zeros((len(chosen), 1)), self.fresh.effects], axis=1)
        return 100 * float((effect[np.arange(len(chosen)), chosen] < 0).mean())


def _judge(seed: int, n: int) -> _Judge:
    fresh = table(10_000 + seed, n)
    worth = money(fresh.truth[:, 0], fresh.effects)
    return _Judge(fresh, worth, int(worth.mean(axis=0).argmax()))


def measures(setting: Setting) -> list[Measure]:
    """The gates on simulated truth."""
    sizes = {2_000: 1} if setting.quick else SIZES
    found: list[Measure] = []
    gains: list[float] = []
    ranked: list[float] = []
    for size, repeats in sizes.items():
        collected: dict[str, list[float]] = defaultdict(list)
        n_fresh = 5_000 if setting.quick else 50_000
        for seed in range(repeats):
            _one(seed, size, n_fresh, collected)
        for seed in range(repeats, repeats if setting.quick else HONESTY_SEEDS[size]):
            judge = _judge(seed, n_fresh)
            _judge_honesty(judge, *_ours(table(seed, size * N_ARMS), seed).beliefs(judge.fresh.x), collected)
        found += _measures(size, collected)
        gains.append(float(np.mean(collected["gain ours"])))
        ranked += collected["gain response ranking"]
    found.append(holds("gain grows with data", is_true=gains == sorted(gains)))
    found.append(at_most("response ranking: gain over the best single action, best seed", max(ranked), 0.0, unit=GAIN))
    return found


def _one(seed: int, size: int, n_fresh: int, collected: dict[str, list[float]]) -> None:
    known, judge = table(seed, size * N_ARMS), _judge(seed, n_fresh)
    x, truth = judge.fresh.x, judge.fresh.effects
    ours = _ours(known, seed)
    effects, sigmas = ours.beliefs(x)
    control = ours.control(x)
    answered = responses(known.x, known.arm, known.y, seed=seed)
    ranked = answered(x)
    libraries: dict[str, Effects] = {
        "causalml X": causalml_x(known.x, known.arm, known.y, seed=seed),
        "EconML DR": econml_dr(known.x, known.arm, known.y, seed=seed),
    }
    predicted = {"ours": effects, **{name: learner(x) for name, learner in libraries.items()}}
    for name, found in predicted.items():
        base = control if name == "ours" else ranked[:, 0]
        chosen = money(base, found).argmax(axis=1)
        collected[f"gain {name}"].append(judge.share(chosen))
        collected[f"pehe {name}"].append(float(np.sqrt(((found - truth) ** 2).mean(axis=0)).mean()))
        collected[f"qini {name}"].append(_qini(judge.fresh, found))
        collected[f"harmed {name}"].append(judge.harmed(chosen))
    policies = {
        "response ranking": 1 + ranked[:, 1:].argmax(axis=1),
        "response ranking by the truth": 1 + judge.fresh.truth[:, 1:].argmax(axis=1),
        "best single action": np.full(len(x), judge.single),
        "random": np.random.default_rng(seed).integers(0, N_ARMS, len(x)),
    }
    for name, chosen in policies.items():
        collected[f"gain {name}"].append(judge.share(chosen))
        collected[f"harmed {name}"].append(judge.harmed(chosen))
    collected["pehe mean effect"].append(float(truth.std(axis=0).mean()))
    _judge_honesty(judge, effects, sigmas, collected)


def _ours(known: Table, seed: int) -> Ours:
    return Ours(known.x, known.arm, known.y, seed=seed, probability=np.full(len(known.y), 1 / N_ARMS))


def _judge_honesty(judge: _Judge, effects: Floats, sigmas: Floats, collected: dict[str, list[float]]) -> None:
    truth = judge.fresh.effects
    collected["coverage"].append(100 * _coverage(effects, sigmas, truth))
    collected["slope"].append(float(np.mean([_slope(effects[:, k], truth[:, k]) for k in range(N_ARMS - 1)])))


def _coverage(effects: Floats, sigmas: Floats, truth: Floats) -> float:
    """Share of the deciles, over all actions, whose mean bounds hold the true mean effect."""
    inside = [
        abs(float(effects[rows, k].mean() - truth[rows, k].mean())) <= Z_90 * float(sigmas[rows, k].mean())
        for k in range(effects.shape[1])
        for rows in np.array_split(np.argsort(effects[:, k], kind="stable"), 10)
    ]
    return float(np.mean(inside))


def _slope(predicted: Floats, truth: Floats) -> float:
    """Slope of the truth on the prediction; 0 where predictions do not differ."""
    spread_ = predicted - predicted.mean()
    squares = float((spread_**2).sum())
    return float((spread_ * truth).sum()) / squares if squares > 1e-12 else 0.0


def _qini(fresh: Table, predicted: Floats) -> float:
    """Mean over the actions, each against no action."""
    found = []
    for column in range(predicted.shape[1]):
        shown = (fresh.arm == 0) | (fresh.arm == column + 1)
        treated = (fresh.arm[shown] == column + 1).astype(np.float64)
        found.append(qini_sklift(fresh.y[shown], predicted[shown, column], treated))
    return float(np.mean(found))


def _measures(size: int, collected: dict[str, list[float]]) -> list[Measure]:
    label = f"{size // 1000}k an arm"
    gates, gains = size == max(SIZES), collected["gain ours"]
    is_judged = size >= SMALLEST_JUDGED
    mean = {name: float(np.mean(values)) for name, values in collected.items()}
    found = [at_least(f"{label}: gain", mean["gain ours"], 90.0 if gates else None, unit=GAIN, bounds=spread(gains))]
    for name in ("causalml X", "EconML DR"):
        found += beside(f"{label}: gain, {name}", gains, collected[f"gain {name}"], unit=GAIN, gate=is_judged)
        found += beside(
            f"{label}: Qini, {name}", collected["qini ours"], collected[f"qini {name}"], unit=QINI, gate=is_judged
        )
        found.append(below(f"{label}: PEHE, {name}", mean["pehe ours"], mean[f"pehe {name}"], unit="probability"))
    found.append(below(f"{label}: PEHE, mean effect", mean["pehe ours"], mean["pehe mean effect"], unit="probability"))
    found += [
        versus(f"{label}: gain, {name}", mean["gain ours"], mean[f"gain {name}"], unit=GAIN)
        for name in (*RANKINGS, "random")
    ]
    found += _honesty(label, collected, mean, is_gate=is_judged)
    found.append(
        Measure(
            name=f"{label}: customers harmed",
            unit="%",
            ours=mean["harmed ours"],
            baseline=None,
            ratio=None,
            target=MOST_HARMED if gates else None,
            at_most=True,
        )
    )
    found += [
        versus(f"{label}: customers harmed, {name}", mean["harmed ours"], mean[f"harmed {name}"], unit="%")
        for name in ("best single action", "causalml X", "response ranking")
    ]
    return found


def _honesty(label: str, collected: dict[str, list[float]], mean: dict[str, float], *, is_gate: bool) -> list[Measure]:
    """Whether intervals hold what they promise, and effects are as large as they are said to be."""
    coverage, slope = "coverage of 90 % intervals", "calibration slope"
    found = [
        told(f"{label}: {coverage}", mean["coverage"], unit="%", bounds=spread(collected["coverage"])),
        told(f"{label}: {slope}", mean["slope"], unit="", bounds=spread(collected["slope"])),
    ]
    if is_gate:
        found.append(at_most(f"{label}: {coverage}, off 90", abs(mean["coverage"] - 90), 5.0, unit="% points"))
        found.append(at_most(f"{label}: {slope}, off 1", abs(mean["slope"] - 1), 0.1, unit=""))
    return found
