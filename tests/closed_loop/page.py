"""``docs/closed-loop.md`` and its picture, from runs of the loop without and with drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from tests.closed_loop.setting import DRIFT_ROUND, ROOT
from training.plots import COLOURS, SOFT, new_figure, svg_of

PAGE: Final = ROOT / "docs" / "closed-loop.md"
PICTURE: Final = ROOT / "docs" / "images" / "closed-loop.svg"
LEVEL: Final = 0.95
_Z: Final = 1.959964

Run = Mapping[str, Any]
"""One world: ``setting``, ``seed`` and ``rounds``, as ``--json`` prints it."""


class Covered(NamedTuple):
    """How often the truth lay within its intervals."""

    inside: int
    intervals: int

    @property
    def share(self) -> float:
        """NaN where there was none."""
        return self.inside / self.intervals if self.intervals else math.nan

    @property
    def bounds(self) -> tuple[float, float]:
        """95 % interval of the share, as if intervals were independent.

        References:
            Wilson 1927, Probable inference, the law of succession, and statistical inference.
        """
        n, share = self.intervals, self.share
        centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n) if n else math.nan
        half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n)) / (1 + _Z**2 / n) if n else math.nan
        return centre - half, centre + half


def told(one: Mapping[str, Any], what: str) -> Mapping[str, Any] | None:
    """An estimate of a round beside its truth: of the ``champion``, the ``challenger`` or the ``difference``."""
    if what == "champion":
        found: Mapping[str, Any] | None = one["estimate"]
        return found
    judged = one["judged"]
    return None if judged is None else judged["value" if what == "challenger" else what]


def covered(runs: Iterable[Run], what: str) -> Covered:
    """Over all rounds of all runs."""
    found = [each for run in runs for one in run["rounds"] if (each := told(one, what)) is not None]
    return Covered(sum(each["low"] <= each["truth"] <= each["high"] for each in found), len(found))


def by_round(runs: Sequence[Run], figure: Callable[[Mapping[str, Any]], float | None]) -> np.ndarray:
    """``(n_seeds, n_rounds)`` of one figure; NaN where a round has none."""
    table = [[figure(one) for one in run["rounds"]] for run in runs]
    return np.array([[math.nan if value is None else value for value in row] for row in table], dtype=np.float64)


def mean_and_error(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of each round, and its standard error; NaN where there is nothing."""
    n = (~np.isnan(table)).sum(axis=0)
    mean = np.array([column[~np.isnan(column)].mean() if k else math.nan for column, k in zip(table.T, n, strict=True)])
    error = np.array(
        [
            column[~np.isnan(column)].std(ddof=1) / math.sqrt(k) if k > 1 else math.nan
            for column, k in zip(table.T, n, strict=True)
        ]
    )
    return mean, error


def summary(runs: Sequence[Run]) -> str:
    """What came of some runs, as Markdown tables."""
    return "\n".join(_section(group) for group in _groups(runs).values())


def _groups(runs: Sequence[Run]) -> dict[bool, list[Run]]:
    groups: dict[bool, list[Run]] = {}
    for run in runs:
        groups.setdefault(bool(run["setting"]["drifts"]), []).append(run)
    return groups


def _section(runs: Sequence[Run]) -> str:
    return f"{_rounds(runs)}\n{_coverage(runs)}\n"


def _rounds(runs: Sequence[Run]) -> str:
    columns: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
        "as decided": lambda one: one["value"],
        "the champion's choices": lambda one: one["champion_value"],
        "random choices": lambda one: one["random_value"],
        "best candidate": lambda one: one["best"],
    }
    found = {name: mean_and_error(by_round(runs, figure)) for name, figure in columns.items()}
    difference = by_round(runs, lambda one: (told(one, "difference") or {}).get("truth"))
    lines = [
        f"| round | decisions | {' | '.join(columns)} | challenger less champion | promoted |",
        f"|---|---|{'---|' * len(columns)}---|---|",
    ]
    for number in range(difference.shape[1]):
        decisions = np.mean([run["rounds"][number]["decisions"] for run in runs])
        figures = " | ".join(_money(mean[number], error[number]) for mean, error in found.values())
        judged = [run["rounds"][number]["judged"] for run in runs]
        promoted = sum(one is not None and one["promoted"] for one in judged)
        asked = sum(one is not None for one in judged)
        gained = _money(*(each[number] for each in mean_and_error(difference)))
        lines.append(
            f"| {number + 1} | {decisions:,.0f} | {figures} | {gained} | {f'{promoted} of {asked}' if asked else ''} |"
        )
    return "\n".join(lines) + "\n"


def _money(mean: float, error: float) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def _coverage(runs: Sequence[Run]) -> str:
    lines = ["| interval of | truth inside | share | 95 % bounds of the share |", "|---|---|---|---|"]
    for what, name in (
        ("champion", "the champion's value"),
        ("challenger", "the challenger's value"),
        ("difference", "the difference, which the gate decides by"),
    ):
        found = covered(runs, what)
        if found.intervals:
            low, high = found.bounds
            lines.append(
                f"| {name} | {found.inside} of {found.intervals} | {found.share:.0%} | {low:.0%} to {high:.0%} |"
            )
    return "\n".join(lines) + "\n"


def picture(runs: Sequence[Run]) -> str:
    """True values by round, without and with drift, as SVG."""
    groups = _groups(runs)
    drawn = new_figure(width=9.0, height=3.6)
    panels = drawn.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (drifts, group) in zip(panels, sorted(groups.items()), strict=True):
        _panel(axes, group, drifts=drifts)
    panels[0].set_ylabel("EUR a decision over doing nothing")
    panels[0].legend(loc="lower right", frameon=False, fontsize=8)
    return svg_of(drawn)


def _panel(axes: Any, runs: Sequence[Run], *, drifts: bool) -> None:
    curves: tuple[tuple[str, Callable[[Mapping[str, Any]], float | None], str], ...] = (
        ("best candidate", lambda one: one["best"], SOFT),
        ("champion's choices", lambda one: one["champion_value"], COLOURS[0]),
        ("as decided", lambda one: one["value"], COLOURS[2]),
        ("random choices", lambda one: one["random_value"], COLOURS[1]),
    )
    for name, figure, colour in curves:
        mean, error = mean_and_error(by_round(runs, figure))
        at = np.arange(1, len(mean) + 1)
        axes.plot(at, mean, color=colour, marker="o", markersize=3, linewidth=1.5, label=name)
        axes.fill_between(at, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
    estimates = {name: by_round(runs, _part(name)) for name in ("estimate", "low", "high")}
    at = np.arange(1, estimates["estimate"].shape[1] + 1)
    low, middle, high = (mean_and_error(estimates[name])[0] for name in ("low", "estimate", "high"))
    known = ~np.isnan(middle)
    axes.errorbar(
        at[known] + 0.15,
        middle[known],
        yerr=np.stack([middle - low, high - middle])[:, known],
        fmt="none",
        ecolor=COLOURS[0],
        elinewidth=1,
        capsize=2,
        label="estimate, mean 95 % interval",
    )
    axes.axhline(0.0, color=SOFT, linewidth=0.8)
    if drifts:
        axes.axvline(DRIFT_ROUND - 0.5, color=SOFT, linestyle="--", linewidth=1)
    axes.set_title("effects change in round 6" if drifts else "the world stays as it is", fontsize=10)
    axes.set_xlabel("round")
    axes.set_xticks(at)


def _part(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda one: (told(one, "champion") or {}).get(name)
