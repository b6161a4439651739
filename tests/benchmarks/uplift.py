"""B6: effects of four actions on 60,000 logged decisions, against causalml's X-learner and EconML's DR-learner.

Each fit runs in a process of its own, the three in turn for each seed, so that all are judged on the same rows. Theirs
are as a user would run them: LightGBM as it comes for every model, on one thread, with logged probabilities where the
library takes any (EconML estimates them itself). Figures are means over the seeds; a difference is judged in pairs.
Memory is what a fit takes above what its process held before, with all imported and the rows loaded; the peak of the
whole process, most of which is imports, is told besides.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.forest import forest_from_text, raw_scores_block
from models.heads import effect_head, head_table, head_values
from models.uplift import UpliftParams, fit_uplift
from tests.benchmarks.report import Measure
from tests.benchmarks.world import Worlds
from tests.effect_worlds import (
    N_ARMS,
    EffectWorld,
    Floats,
    effect_error,
    effect_world,
    mean_effect_error,
    policy_share,
    true_qini,
)

ARM_IDS: Final = ("no_action", "a", "b", "c", "d")
RIVALS: Final = ("causalml_x", "econml_dr")


class Fitted(NamedTuple):
    """One fit: CPU-seconds, memory it took and the peak of its process in MB, and predicted effects ``(m, 5)``."""

    cpu: float
    memory: float
    peak: float
    effects: Floats


def measures(worlds: Worlds) -> list[Measure]:
    """Policy value, Qini, effect error, CPU and memory of each."""
    seeds, n = (2, 5_000) if worlds.quick else (8, 60_000)
    folder = worlds.folder / "uplift"
    folder.mkdir()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("ours", *RIVALS)}
    for seed in range(seeds):
        test = effect_world("exam", n // 2, 10_000 + seed)
        print(f"seed {seed}", flush=True)
        _write(folder, effect_world("exam", n, seed), test)
        for name, scored in found.items():
            scored.append(_scored(test, _in_child(name, folder, seed)))
    return [
        *(_compared(found, name, rival) for rival in RIVALS for name in ("policy_share", "qini")),
        *(_ratio(found, name, rival) for rival in RIVALS for name in ("effect_error", "cpu", "memory", "peak")),
        _ratio(found, "effect_error", "mean_effect"),
    ]


def _scored(test: EffectWorld, fitted: Fitted) -> dict[str, float]:
    return {
        "policy_share": policy_share(test, fitted.effects),
        "qini": true_qini(test, fitted.effects),
        "effect_error": effect_error(test, fitted.effects),
        "mean_effect": mean_effect_error(test),
        "cpu": fitted.cpu,
        "memory": fitted.memory,
        "peak": fitted.peak,
    }


def _compared(found: dict[str, list[dict[str, float]]], name: str, rival: str) -> Measure:
    """How much ours is above; the target is that it is not below by a standard error of the paired difference."""
    ours, theirs = (np.array([one[name] for one in found[who]]) for who in ("ours", rival))
    gap = ours - theirs
    in_errors = float(gap.mean() / (gap.std(ddof=1) / np.sqrt(len(gap))))
    print(f"{name}: ours {ours.mean():.3f}, {rival} {theirs.mean():.3f}, difference in standard errors {in_errors:.1f}")
    return Measure(
        name=f"{name}_vs_{rival}",
        unit="share",
        ours=float(ours.mean()),
        baseline=float(theirs.mean()),
        ratio=in_errors,
        target=-1.0,
        at_most=False,
        spread=(float(ours.min()), float(np.median(ours)), float(ours.max())),
    )


_UNITS: Final = {"effect_error": "share", "cpu": "CPU-s", "memory": "MB", "peak": "MB"}
_TARGETS: Final = {"effect_error": 1.0, "cpu": 0.6, "memory": 0.6, "peak": None}


def _ratio(found: dict[str, list[dict[str, float]]], name: str, rival: str) -> Measure:
    """Ours over theirs; ``mean_effect`` is to predict every action's true mean effect."""
    ours = np.array([one[name] for one in found["ours"]])
    key, who = ("mean_effect", "ours") if rival == "mean_effect" else (name, rival)
    theirs = np.array([one[key] for one in found[who]])
    return Measure(
        name=f"{name}_vs_{rival}",
        unit=_UNITS[name],
        ours=float(ours.mean()),
        baseline=float(theirs.mean()),
        ratio=float(ours.mean() / theirs.mean()),
        target=_TARGETS[name],
        at_most=True,
        spread=(float(ours.min()), float(np.median(ours)), float(ours.max())),
    )


def _write(folder: Path, known: EffectWorld, test: EffectWorld) -> None:
    np.savez(
        folder / "world.npz",
        x=known.x,
        arm=known.arm,
        y=known.y,
        probabilities=known.probabilities,
        test_x=test.x,
        test_probabilities=test.probabilities,
    )


def _in_child(name: str, folder: Path, seed: int) -> Fitted:
    script = "import sys; from tests.benchmarks.uplift import child; child(*sys.argv[1:])"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", script, name, str(folder), str(seed)], capture_output=True, text=True, env=env
    )
    if ran.returncode:
        raise RuntimeError(f"{name} failed: {ran.stderr[-2000:]}")
    cpu, memory, peak = map(float, ran.stdout.split()[-3:])
    return Fitted(cpu, memory, peak, np.load(folder / f"{name}.npy"))


def child(name: str, folder: str, seed: str) -> None:
    """One fit in a process of its own: keeps the effects, prints CPU-seconds, the fit's memory and the peak in MB."""
    warnings.simplefilter("ignore")  # the libraries warn of their own dependencies
    data = dict(np.load(Path(folder) / "world.npz"))
    prepare, predict = {"ours": _ours, "causalml_x": _causalml, "econml_dr": _econml}[name](data, int(seed))
    before = _megabytes("VmRSS")
    started = time.process_time()
    fitted = prepare()
    seconds = time.process_time() - started
    peak = _megabytes("VmHWM")
    effects = np.zeros((len(data["test_x"]), N_ARMS))
    effects[:, 1:] = predict(fitted)
    np.save(Path(folder) / f"{name}.npy", effects)
    print(seconds, peak - before, peak)


def _megabytes(key: str) -> float:
    """Of this process; not getrusage, for a child's begins at the peak of the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1_000


Works = tuple[Callable[[], Any], Callable[[Any], Floats]]
"""The fit, and what it predicts of the test rows, ``(m, 4)``."""


def _ours(data: dict[str, Any], seed: int) -> Works:
    import sklearn.linear_model  # noqa: F401  # the fit would import it while it is measured; theirs have it already

    def fit() -> Any:
        return fit_uplift(
            data["x"],
            data["arm"],
            data["y"],
            outcome_id="y",
            arm_ids=ARM_IDS,
            binary=True,
            selection_probability=data["probabilities"][np.arange(len(data["arm"])), data["arm"]],
            arm_probabilities=data["probabilities"],
            params=UpliftParams(),
            seed=seed,
        )

    def predict(fitted: Any) -> Floats:
        heads = fitted.fitted
        table = head_table(heads.heads, tuple(heads.boosters))
        forest = forest_from_text(list(heads.boosters.values()), n_features=data["x"].shape[1])
        values, _ = head_values(table, raw_scores_block(forest, data["test_x"]))
        columns: Floats = values[:, [table.names.index(effect_head("y", action_id)) for action_id in ARM_IDS[1:]]]
        return columns

    return fit, predict


def _causalml(data: dict[str, Any], seed: int) -> Works:
    from causalml.inference.meta import BaseXClassifier
    from lightgbm import LGBMClassifier, LGBMRegressor

    def among_two(probabilities: Floats) -> dict[str, Floats]:
        return {
            action_id: probabilities[:, number] / (probabilities[:, number] + probabilities[:, 0])
            for number, action_id in enumerate(ARM_IDS[1:], start=1)
        }

    plain: dict[str, Any] = {"n_jobs": 1, "verbosity": -1, "random_state": seed}

    def fit() -> Any:
        learner = BaseXClassifier(
            outcome_learner=LGBMClassifier(**plain), effect_learner=LGBMRegressor(**plain), control_name=ARM_IDS[0]
        )
        learner.fit(data["x"], np.array(ARM_IDS)[data["arm"]], data["y"], p=among_two(data["probabilities"]))
        return learner

    def predict(learner: Any) -> Floats:
        effects: Floats = learner.predict(data["test_x"], p=among_two(data["test_probabilities"]))
        return effects

    return fit, predict


def _econml(data: dict[str, Any], seed: int) -> Works:
    from econml.dr import DRLearner
    from lightgbm import LGBMClassifier, LGBMRegressor

    plain: dict[str, Any] = {"n_jobs": 1, "verbosity": -1, "random_state": seed}

    def fit() -> Any:
        learner = DRLearner(
            model_propensity=LGBMClassifier(**plain),
            model_regression=LGBMClassifier(**plain),
            model_final=LGBMRegressor(**plain),
            discrete_outcome=True,
            allow_missing=True,
            random_state=seed,
        )
        learner.fit(data["y"], data["arm"], X=data["x"])
        return learner

    def predict(learner: Any) -> Floats:
        effects = [learner.effect(data["test_x"], T0=0, T1=number).ravel() for number in range(1, N_ARMS)]
        return np.stack(effects, axis=1)

    return fit, predict
