"""``docs/closed-loop.md`` and its picture, from runs of the loop without and with drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from tests.closed_loop.setting import DRIFT_ROUND, ROOT, ROUND_DAYS, SHARES
from training.plots import COLOURS, SOFT, new_figure, svg_of

PAGE: Final = ROOT / "docs" / "closed-loop.md"
PICTURE: Final = ROOT / "docs" / "images" / "closed-loop.svg"
LEVEL: Final = 0.95
_Z: Final = 1.959964

Run = Mapping[str, Any]
"""One world: ``setting``, ``seed`` and ``rounds``, as ``--json`` prints it."""


_METHOD: Final = """\
# The closed loop on simulated truth

Whether the whole thing works: start from chance, decide, observe, train, judge, promote, and again. The
[simulator](reference/simulator.md) moves customers on and knows what every decision is truly worth; nothing in the loop
looks at that, it only draws the curves. No figure on this page is typed: one command computes and writes it.

![True value of decisions by round](images/closed-loop.svg)

```bash
uv run python -m tests.closed_loop --write            # this page and its picture
uv run python -m tests.closed_loop --drift --seeds 1  # one world whose effects change, as tables
uv run python -m tests.closed_loop --json > runs.json # one JSON document; --write --read runs.json makes the page of it
```

## Method

- **A world** begins with an empty home. Customers apply in each of its rounds of {days} days; what happens to them is
  drawn from the simulator's frozen laws. Here: {worlds}.
- **Deciding** is the service's own decider, on the features that the kernel reads from the events that had arrived. The
  built-in configuration decides with its caps, quiet hours, consents and offer rules; every decision is committed to
  the record store with its exact probabilities and counts its contact. The first round is random, all of it. From the
  second on the shares are the built-in ones (5 % no contact, 10 % random), {share:.0f} % for the challenger where there
  is one, and the champion for the rest.
- **Observing.** Events reach the event log when they arrive, some late; what follows from a decision arrives after it.
  The cookies from before the application are known to be the customer's.
- **Training** is that of `headway train` on everything that the home holds, at the end of each round, without the
  tracking server, with fewer moments, trees and candidate learners than the shipped parameters: for speed. The first
  bundle becomes the champion; each later one is the challenger of one round.
- **Promoting** is the gate of `headway promote` on the decisions since the challenger was trained whose outcome windows
  are over.
- **Worth** is money a decision over doing nothing: value of the outcome times the true effect, less incentive and
  contact costs, given all that can be observed of the customer. "As decided" is over all arms; "the champion's
  choices" are those of its own arm; "random choices" draw evenly from the candidates; the best candidate needs the
  laws. The candidates of the first round are fewer: actions that ask for a stall propensity have none without a model.
- **Intervals** are the gate's: doubly robust, 95 %, by bootstrap over customers. The truth of a round is that of the
  very decisions that its interval is about.
"""
_DRIFT: Final = f"""\
In round {DRIFT_ROUND} messages wear out (five nudges lose 0.9 on the logit scale) and help becomes welcome (calls,
cases and chat gain 0.9). Nobody is told. Training goes on learning from all rounds, old and new alike.
"""
_HONESTY: Final = """\
How often the truth lay within its 95 % interval, over all rounds of all worlds. Intervals of one world share a
champion, so that the bounds of the share are a little too narrow.
"""


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


def _learned(runs: Sequence[Run]) -> str:
    """How far the decisions came, in one sentence."""
    value, _ = mean_and_error(by_round(runs, lambda one: one["champion_value"]))
    best, _ = mean_and_error(by_round(runs, lambda one: one["best"]))
    chance, _ = mean_and_error(by_round(runs, lambda one: one["random_value"]))
    return (
        f"The champion's choices are worth EUR {value[1]:.2f} a decision in the second round and EUR {value[-1]:.2f} "
        f"in the last; chance would earn EUR {chance[-1]:.2f} there, and the laws allow EUR {best[-1]:.2f}.\n"
    )


def _verdicts(runs: Sequence[Run]) -> str:
    """Whether the gate promoted what is truly better, in two sentences."""
    judged = [one["judged"] for run in runs for one in run["rounds"] if one["judged"] is not None]
    true = np.array([one["difference"]["truth"] for one in judged if one["difference"] is not None])
    promoted = np.array([one["promoted"] for one in judged if one["difference"] is not None], dtype=np.bool_)
    if not len(true):
        return ""
    return (
        f"Of {len(true)} challengers {int((true > 0).sum())} were truly better than their champion; on average they "
        f"were worth EUR {true.mean():+.2f} a decision more. The gate promoted {int(promoted.sum())}, "
        f"{int((true[promoted] > 0).sum())} of them truly better.\n"
    )


def _drift(runs: Sequence[Run]) -> str:
    """What drift said around the change, and who won."""
    lines = [
        "| world | round | `headway drift` says | most surprising treatment, s.e. |",
        "|---|---|---|---|",
    ]
    for run in runs:
        for one in run["rounds"]:
            if (found := one.get("drift")) is not None:
                surprise = "" if one["judged"] is None else f"{one['judged']['surprise']:.1f}"
                reasons = found.get("reasons")
                verdict = found["verdict"] + ("" if not reasons else f": {_listed(reasons)}")
                lines.append(f"| {run['seed']} | {one['number'] + 1} | {verdict} | {surprise} |")
    return "\n".join(lines) + "\n"


def _listed(reasons: Sequence[Any]) -> str:
    return ", ".join(str(one["code"]) if isinstance(one, Mapping) else str(one) for one in reasons)


def picture(runs: Sequence[Run]) -> str:
    """True values by round, without and with drift, as SVG."""
    groups = _groups(runs)
    drawn = new_figure(width=9.0, height=3.6)
    panels = drawn.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (drifts, group) in zip(panels, sorted(groups.items()), strict=True):
        _panel(axes, group, drifts=drifts)
    panels[0].set_ylabel("EUR a decision over doing nothing")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
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


def write_page(runs: Sequence[Run]) -> None:
    """Write the page and its picture."""
    PICTURE.write_text(picture(runs) + "\n", encoding="utf-8")
    PAGE.write_text(page(runs), encoding="utf-8")


def page(runs: Sequence[Run]) -> str:
    """The page as Markdown."""
    groups = _groups(runs)
    worlds = "; ".join(_worlds(group, drifts=drifts) for drifts, group in sorted(groups.items()))
    parts = [_METHOD.format(days=ROUND_DAYS, share=100 * SHARES["challenger"], worlds=worlds)]
    if False in groups:
        parts.append(f"## The world stays as it is\n\n{_learned(groups[False])}\n{_rounds(groups[False])}")
    if True in groups:
        parts.append(f"## The effects change\n\n{_DRIFT}\n{_rounds(groups[True])}\n{_drift(groups[True])}")
    parts.append(f"## Whether estimates are honest\n\n{_HONESTY}\n{_coverage(runs)}\n{_verdicts(runs)}")
    return "\n".join(parts)


def _worlds(runs: Sequence[Run], *, drifts: bool) -> str:
    setting = runs[0]["setting"]
    count = "one world" if len(runs) == 1 else f"{len(runs)} worlds"
    manner = "whose effects change" if drifts else "that stays as it is" if len(runs) == 1 else "that stay as they are"
    return f"{count} {manner}, {setting['rounds']} rounds of {setting['customers']:,} customers"
