"""Drawings of a judgement: calibration of the stall, Qini curves, effects by tenths, the policy's value, drivers.

They draw the documents of ``training.evaluate`` and ``training.reports``, so a page can be made again without a model.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.plots import COLOURS, INK, SOFT, STYLE, new_figure, svg_of

COLUMNS: Final = 3
MOST_PANELS: Final = 9
"""Small drawings side by side, in as many rows as are read at once."""

Rows = Sequence[Mapping[str, Any]]


def reliability_diagram(points: Rows) -> str:
    """Predicted against observed shares with their 95 % intervals, and below how many rows get which prediction.

    Args:
        points: ``predicted``, ``observed``, ``low``, ``high`` and ``n`` of each bin.
    """
    drawn = new_figure(6.0, 5.2)
    with mpl.rc_context(STYLE):
        curve, counts = drawn.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        curve.plot([0, 1], [0, 1], color=SOFT, linewidth=1, label="as predicted")
        x = [one["predicted"] for one in points]
        y = [one["observed"] for one in points]
        errors = [[one["observed"] - one["low"] for one in points], [one["high"] - one["observed"] for one in points]]
        curve.errorbar(x, y, yerr=errors, fmt="o-", color=COLOURS[0], markersize=4, linewidth=1.2, label="observed")
        curve.set(xlim=(0, 1), ylim=(0, 1), ylabel="observed share without progress")
        curve.legend(loc="upper left", frameon=False)
        edges = [0.0, *((low + high) / 2 for low, high in pairwise(x)), 1.0]
        widths = [max(high - low, 1e-6) for low, high in pairwise(edges)]
        heights = [one["n"] / (100 * width) for one, width in zip(points, widths, strict=True)]
        counts.bar(edges[:-1], heights, width=widths, align="edge", color=COLOURS[0], edgecolor="white", linewidth=0.5)
        counts.set(xlabel="predicted stall propensity", ylabel="moments\nper point")
        for axis in (curve.xaxis, curve.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return svg_of(drawn)


def qini_curves(curves: Mapping[str, Rows]) -> str:
    """One small drawing a curve: gain by share of the customers taken, its band, and what a random order would gain.

    Args:
        curves: by title, ``share``, ``gain``, ``low`` and ``high`` of each point.
    """
    shown = dict(list(curves.items())[:MOST_PANELS])
    drawn, panels = _panels(len(shown))
    with mpl.rc_context(STYLE):
        for axes, (title, points) in zip(panels, shown.items(), strict=True):
            share = [one["share"] for one in points]
            low, high = ([one[name] for one in points] for name in ("low", "high"))
            axes.fill_between(share, _known(low), _known(high), color=COLOURS[0], alpha=0.18, linewidth=0)
            axes.plot(share, [one["gain"] for one in points], color=COLOURS[0], linewidth=1.6)
            axes.plot([0, 1], [0, points[-1]["gain"]], color=COLOURS[1], linewidth=1.2, linestyle="--")
            axes.set_title(textwrap.fill(title, 27), fontsize=8.5)
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.yaxis.set_major_locator(MaxNLocator(4))
        _shared_labels(drawn, "share of customers contacted, best first", "more outcomes per customer")
    return svg_of(drawn)


def effects_by_tenths(tables: Mapping[str, Rows], *, are_shares: bool) -> str:
    """One small drawing an action: predicted against doubly robust effects of its tenths.

    Args:
        tables: by title, ``predicted``, ``effect``, ``low`` and ``high`` of each tenth.
        are_shares: whether the effects are differences of shares, not of amounts.
    """
    shown = dict(list(tables.items())[:MOST_PANELS])
    drawn, panels = _panels(len(shown))
    with mpl.rc_context(STYLE):
        for axes, (title, tenths) in zip(panels, shown.items(), strict=True):
            x = [one["predicted"] for one in tenths]
            ends = [min(x), max(x)]
            axes.axhline(0, color=SOFT, linewidth=0.8)
            axes.plot(ends, ends, color=COLOURS[1], linewidth=1.2, linestyle="--")
            for one in tenths:
                axes.plot([one["predicted"]] * 2, _known([one["low"], one["high"]]), color=COLOURS[0], linewidth=1)
            axes.plot(x, [one["effect"] for one in tenths], "o", color=COLOURS[0], markersize=3.5)
            axes.set_title(textwrap.fill(title, 27), fontsize=8.5)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(3))
                if are_shares:
                    axis.set_major_formatter(PercentFormatter(1))
            axes.tick_params(labelsize=8.5)
        _shared_labels(drawn, "predicted effect", "observed effect")
    return svg_of(drawn)


def driver_bars(drivers: Mapping[str, Rows], *, most: int = 6) -> str:
    """A drawing a stage: how strongly its features move the stall model on average, in log odds.

    Args:
        drivers: by the stage's title, ``feature`` and ``mean_abs`` of each, the strongest first.
        most: features of a stage at most.
    """
    height = 0.5 + sum(0.42 + 0.24 * min(most, len(listed)) for listed in drivers.values())
    drawn = new_figure(7.6, max(height, 1.4))
    with mpl.rc_context(STYLE):
        ratios = [0.9 + min(most, len(listed)) for listed in drivers.values()]
        panels = drawn.subplots(len(drivers), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
        for axes, (title, listed) in zip(panels, drivers.items(), strict=True):
            chosen = listed[:most]
            axes.barh(range(len(chosen)), [one["mean_abs"] for one in chosen], color=COLOURS[0], height=0.6)
            axes.set_yticks(range(len(chosen)), [one["feature"] for one in chosen], fontsize=8)
            axes.set_ylim(len(chosen) - 0.4, -0.6)
            axes.set_title(title, fontsize=9, loc="left")
        panels[-1].set_xlabel("mean size of the contribution, log odds of no progress")
    return svg_of(drawn)


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    rows = max(1, math.ceil(n / COLUMNS))
    drawn = new_figure(8.4, 0.5 + 2.3 * rows)
    with mpl.rc_context(STYLE):
        grid = drawn.subplots(rows, COLUMNS, squeeze=False).ravel()
    for left_over in grid[n:]:
        left_over.set_visible(False)
    return drawn, list(grid[:n])


def _shared_labels(drawn: Figure, x: str, y: str) -> None:
    drawn.supxlabel(x, fontsize=10, color=INK)
    drawn.supylabel(y, fontsize=10, color=INK)


def _known(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]
