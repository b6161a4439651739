"""Comparisons as the report wants them: ours beside a baseline, and differences in their own standard errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.benchmarks.report import Measure, absolute

Bounds = tuple[float, float]


def versus(name: str, ours: float, baseline: float, *, unit: str, bounds: Bounds | None = None) -> Measure:
    """Ours beside a baseline, only told."""
    return Measure(
        name=name,
        unit=unit,
        ours=ours,
        baseline=baseline,
        ratio=ours / baseline,
        target=None,
        at_most=False,
        spread=None if bounds is None else (bounds[0], ours, bounds[1]),
    )


def told(name: str, ours: float, *, unit: str, bounds: Bounds | None = None) -> Measure:
    """A figure without a target."""
    return at_least(name, ours, None, unit=unit, bounds=bounds)


def at_least(name: str, ours: float, target: float | None, *, unit: str, bounds: Bounds | None = None) -> Measure:
    """A figure with a floor."""
    return Measure(
        name=name,
        unit=unit,
        ours=ours,
        baseline=None,
        ratio=None,
        target=target,
        at_most=False,
        spread=None if bounds is None else (bounds[0], ours, bounds[1]),
    )


def at_most(name: str, ours: float, target: float, *, unit: str) -> Measure:
    """A figure with a ceiling."""
    return absolute(name, ours, unit=unit, target=target, at_most=True)


def holds(name: str, *, is_true: bool) -> Measure:
    """A claim that must hold: 1 where it does."""
    return absolute(name, float(is_true), unit="(1 = holds)", target=1.0, at_most=False)


def below(name: str, ours: float, baseline: float, *, unit: str) -> Measure:
    """An error that must be smaller than the baseline's."""
    return Measure(name=name, unit=unit, ours=ours, baseline=baseline, ratio=ours / baseline, target=1.0, at_most=True)


def errors_apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean paired difference in its standard errors over the pairs; 0 where all pairs are equal."""
    difference = np.asarray(ours) - np.asarray(theirs)
    if len(difference) < 2:
        return float(np.sign(difference.mean()))
    error = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return float(difference.mean()) / error if error else float(np.sign(difference.mean()))


def beside(name: str, ours: Sequence[float], theirs: Sequence[float], *, unit: str, gate: bool = True) -> list[Measure]:
    """Mean of ours beside the mean of theirs, and how far apart they are, pair by pair.

    The gate: not more than one standard error below.
    """
    found = [versus(name, float(np.mean(ours)), float(np.mean(theirs)), unit=unit, bounds=spread(ours))]
    if gate:
        found.append(at_least(f"{name}: paired difference", errors_apart(ours, theirs), -1.0, unit="s.e."))
    return found


def spread(values: Sequence[float]) -> Bounds:
    """The mean less and plus 1.96 standard errors over seeds or splits."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(np.mean(values)) - 1.96 * error, float(np.mean(values)) + 1.96 * error
