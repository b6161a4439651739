"""Drawings of reports and runs, as SVG that stands alone: the same numbers give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

INK: Final = "#1c2330"
SOFT: Final = "#8a94a3"
COLOURS: Final = ("#2f6fb5", "#c8662b", "#2f8f5b", "#8a4fb0", "#b3261e", "#4f6d7a")
"""Told apart also where colours are not seen well, and in print."""

STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "headway",
    "text.parse_math": False,
}


def new_figure(width: float = 7.0, height: float = 3.2) -> Figure:
    """An empty figure in our style, inches; it belongs to no window and no global state."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def svg_of(figure: Figure) -> str:
    """A figure as an ``<svg>`` element."""
    with mpl.rc_context(STYLE), io.StringIO() as out:
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        text = out.getvalue()
    return text[text.index("<svg") :]


def intervals(
    labels: Sequence[str],
    estimates: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    *,
    unit: str,
    reference: float | None = 0.0,
) -> str:
    """Estimates with their intervals, one below the other, the first on top.

    Args:
        labels: of the rows.
        estimates: NaN leaves a row empty.
        bounds: lower and upper ends.
        unit: what the axis says.
        reference: where a line is drawn to compare with; None for none.
    """
    drawn = new_figure(height=0.9 + 0.36 * len(labels))
    with mpl.rc_context(STYLE):
        axes = drawn.subplots()
        if reference is not None:
            axes.axvline(reference, color=SOFT, linewidth=1)
        for row, (estimate, (low, high)) in enumerate(zip(estimates, bounds, strict=True)):
            axes.plot([low, high], [row, row], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
            axes.plot([estimate], [row], marker="o", color=COLOURS[0], markersize=5)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel(unit)
    return svg_of(drawn)


def shares_before_and_after(
    labels: Sequence[str], before: Sequence[float], after: Sequence[float], *, unit: str, then: str = "after"
) -> str:
    """Shares before and after as two bars a row, in percent, the first row on top.

    Args:
        labels: of the rows.
        before: shares of 1.
        after: likewise.
        unit: what the axis says.
        then: what the second bars are called.
    """
    drawn = new_figure(height=1.1 + 0.42 * len(labels))
    with mpl.rc_context(STYLE):
        axes = drawn.subplots()
        for shares, place, colour, name in ((before, -0.2, SOFT, "before"), (after, 0.2, COLOURS[0], then)):
            bars = axes.barh(
                [row + place for row in range(len(labels))],
                [100 * share for share in shares],
                height=0.36,
                color=colour,
                label=name,
            )
            axes.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=8)
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel(f"{unit}, %")
        axes.legend(frameon=False, loc="lower right")
    return svg_of(drawn)


def reliability_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Predicted against observed shares, a curve for each name, beside the line on which they are the same."""
    drawn = new_figure(width=5.2, height=4.2)
    with mpl.rc_context(STYLE):
        axes = drawn.subplots()
        top = max([0.05, *(value for points in curves.values() for point in points for value in point)]) * 1.05
        axes.plot([0, top], [0, top], color=SOFT, linewidth=1)
        for place, (name, points) in enumerate(curves.items()):
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1.2, color=colour, label=name)
        axes.set_xlabel("predicted")
        axes.set_ylabel("happened")
        axes.legend(frameon=False, loc="upper left")
    return svg_of(drawn)


def converging(
    people: Sequence[int],
    estimates: Sequence[float],
    narrow: Sequence[tuple[float, float]],
    wide: Sequence[tuple[float, float]],
    *,
    unit: str,
) -> str:
    """An estimate as ever more people tell it, with an interval for one look inside one for many.

    Args:
        people: how many, ascending.
        estimates: by then.
        narrow: lower and upper ends for one look.
        wide: for as many looks as one likes.
        unit: what the upright axis says.
    """
    drawn = new_figure()
    with mpl.rc_context(STYLE):
        axes = drawn.subplots()
        axes.axhline(0.0, color=SOFT, linewidth=1)
        for bounds, colour, label in ((wide, "#d5e3f3", "any number of looks"), (narrow, "#9cc0e5", "one look")):
            low, high = zip(*bounds, strict=True)
            axes.fill_between(people, low, high, color=colour, linewidth=0, label=label)
        axes.plot(people, estimates, color=COLOURS[0], linewidth=2)
        axes.set_xlabel("customers followed to the end")
        axes.set_ylabel(unit)
        axes.legend(frameon=False, loc="upper right")
    return svg_of(drawn)
