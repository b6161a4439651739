"""``docs/closed-loop.md`` and its picture, from runs of the loop without and with drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from tests.closed_loop.setting import DRIFT_ROUND, ROOT, ROUND_DAYS, SHARES, Setting
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
uv run python -m tests.closed_loop --drift --told     # likewise, and somebody says so
uv run python -m tests.closed_loop --json > runs.json # one JSON document; --write --read makes the page of some
```

## Method

- **A world** begins with an empty home. Customers apply in each of its rounds of {days} days; what happens to them is
  drawn from the simulator's frozen laws. Here: {worlds}.
- **Deciding** is the service's own decider, on the features that the kernel reads from the events that had arrived. The
  built-in configuration decides with its caps, quiet hours, consents and offer rules; every decision is committed to
  the record store with its exact probabilities and counts its contact. The first round is random, all of it. From the
  second on {holdout:.0f} % get no contact, {random:.0f} % a random choice, {challenger:.0f} % are the challenger's
  where there is one, and the champion has the rest. That leaves more to chance than the built-in shares (5 % and 10 %).
- **Observing.** Events reach the event log when they arrive, some late; what follows from a decision arrives after it.
  The cookies from before the application are known to be the customer's.
- **Training** is that of `headway train` on everything that the home holds, without the tracking server, with fewer
  moments, trees and candidate learners than the shipped parameters: for speed. The first bundle becomes the champion.
- **Promoting** is the gate of `headway promote` at the end of each round, on the decisions since the challenger was
  trained whose outcome windows are over.
- **Operating** is what we would recommend for so few decisions. A challenger that lacks nothing but evidence stays and
  is judged again on more of it, {patience} times in all; another is trained when it is promoted, refused for another
  reason, or has had its chances. Where the world may change, with more customers a round, each has one. Judging anew by
  an interval of fixed level is no free look: each has its own 2.5 % chance to promote what is no better. Where
  `headway drift` says that effects changed, training is due at once, and from then on learns only from the decisions
  since the training before (`uplift.max_age_days`).
- **Worth** is money a decision over doing nothing: value of the outcome times the true effect, less incentive and
  contact costs, given all that can be observed of the customer. "As decided" is over all arms; "the champion's
  choices" are those of its own arm; "random choices" draw evenly from the candidates; the best candidate needs the
  laws. The candidates of the first round are fewer: actions that ask for a stall propensity have none without a model.
- **Intervals** are the gate's: doubly robust, 95 %, by bootstrap over customers. The truth of a round is that of the
  very decisions that its interval is about.
"""
_DRIFT: Final = f"""\
From round {DRIFT_ROUND} on messages are worn out (five nudges lose 0.9 on the logit scale) and help is welcome (calls,
cases and chat gain 0.9). Nobody is told.
"""
_TOLD: Final = f"""\
The same change from round {DRIFT_ROUND} on, but the operator hears of it: at the end of that round a challenger is
trained whatever the gate and `headway drift` say, and from then on only on decisions since the round began
(`uplift.max_age_days`).
"""
_HONESTY: Final = """\
How often the truth lay within its 95 % interval, over all rounds of all worlds but those of which somebody told,
which are others over again up to the change. Intervals of one world share a champion, and those of one challenger share
decisions, so that the bounds of the share are too narrow.
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


class _Kind(NamedTuple):
    """What happens to a world: whether its effects change, and whether somebody says so."""

    drifts: bool
    told: bool

    @property
    def title(self) -> str:
        if not self.drifts:
            return "The world stays as it is"
        return "The effects change, and somebody says so" if self.told else "The effects change"


def _groups(runs: Sequence[Run]) -> dict[_Kind, list[Run]]:
    groups: dict[_Kind, list[Run]] = {}
    for run in runs:
        setting = run["setting"]
        groups.setdefault(_Kind(bool(setting["drifts"]), bool(setting.get("told"))), []).append(run)
    return dict(sorted(groups.items()))


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
        f"In {int((true > 0).sum())} of {len(true)} judgements the challenger was truly better than its champion; on "
        f"average it was worth EUR {true.mean():+.2f} a decision more. The gate promoted {int(promoted.sum())} times, "
        f"{int((true[promoted] > 0).sum())} times what was truly better.\n"
    )


def _judgements(runs: Sequence[Run]) -> str:
    """What the gate said of each challenger each time, beside the truth."""
    lines = [
        "| world | round | champion | challenger | truly better by | estimate | the gate |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        for one in run["rounds"]:
            judged, found = one["judged"], told(one, "difference")
            if judged is None or found is None:
                continue
            said = "promoted" if judged["promoted"] else _listed(judged.get("reasons", ()))
            versions = f"{judged.get('champion', '')} | {judged.get('challenger', '')}"
            lines.append(
                f"| {run['seed']} | {one['number'] + 1} | {versions} "
                f"| {found['truth']:+.2f} | {found['estimate']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] "
                f"| {said} |"
            )
    return "\n".join(lines) + "\n"


def _noticed(runs: Sequence[Run]) -> str:
    """Whether drift named effects, when, and whether a challenger that was trained then won: for each world."""
    said = []
    for run in runs:
        rounds = run["rounds"]
        named = [one["number"] + 1 for one in rounds if _names_effects(one)]
        early, late = [one for one in named if one < DRIFT_ROUND], [one for one in named if one >= DRIFT_ROUND]
        found = f"World {run['seed']}: `headway drift` "
        found += (
            f"named effects at the end of round {late[0]}"
            if late
            else "did not name effects after the change (what a round leaves to chance is too little to be that sure)"
        )
        found += f", and falsely at the end of round {early[0]}" if early else ", and never falsely before it"
        others = [
            one["number"] + 1
            for one in rounds
            if one["number"] + 1 < DRIFT_ROUND and (one.get("drift") or {}).get("verdict") == "retrain"
        ]
        if others and not early:
            found += f", though it called for training for other reasons at the end of round {others[0]}"
        won = [one["number"] + 1 for one in rounds if one["number"] + 1 >= DRIFT_ROUND and _is_promoted(one)]
        found += (
            f"; a challenger was promoted at the end of round {won[0]}." if won else "; no challenger won after it."
        )
        before, after, last = (
            rounds[number]["champion_value"] for number in (DRIFT_ROUND - 2, DRIFT_ROUND - 1, len(rounds) - 1)
        )
        found += (
            f" The champion's choices were worth EUR {before:.2f} a decision before the change, EUR {after:.2f} in its "
            f"round and EUR {last:.2f} in the last."
        )
        said.append(found)
    return "\n\n".join(said) + "\n"


def _names_effects(one: Mapping[str, Any]) -> bool:
    reasons = (one.get("drift") or {}).get("reasons") or ()
    return any(isinstance(each, Mapping) and str(each["code"]).startswith("effect.") for each in reasons)


def _is_promoted(one: Mapping[str, Any]) -> bool:
    return one["judged"] is not None and bool(one["judged"]["promoted"])


def _drift(runs: Sequence[Run]) -> str:
    """What drift said around the change, and who won."""
    lines = [
        "| world | round | `headway drift` says |",
        "|---|---|---|",
    ]
    for run in runs:
        for one in run["rounds"]:
            if (found := one.get("drift")) is not None:
                reasons = found.get("reasons")
                verdict = found["verdict"] + ("" if not reasons else f": {_listed(reasons)}")
                lines.append(f"| {run['seed']} | {one['number'] + 1} | {verdict} |")
    return "\n".join(lines) + "\n"


def _listed(reasons: Sequence[Any]) -> str:
    return ", ".join(
        " ".join(str(one[key]) for key in ("code", "subject") if one.get(key)) if isinstance(one, Mapping) else str(one)
        for one in reasons
    )


def picture(runs: Sequence[Run]) -> str:
    """True values by round, without and with drift, as SVG."""
    groups = _groups(runs)
    drawn = new_figure(width=9.0, height=3.6)
    panels = drawn.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, (kind, group) in zip(panels, groups.items(), strict=True):
        _panel(axes, group, kind)
    panels[0].set_ylabel("EUR a decision over doing nothing")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return svg_of(drawn)


def _panel(axes: Any, runs: Sequence[Run], kind: _Kind) -> None:
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
    if kind.drifts:
        axes.axvline(DRIFT_ROUND - 0.5, color=SOFT, linestyle="--", linewidth=1)
    title = f"effects change in round {DRIFT_ROUND}" if kind.drifts else "the world stays as it is"
    axes.set_title(f"{title}, told" if kind.told else title, fontsize=10)
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
    worlds = "; ".join(_worlds(group, kind) for kind, group in groups.items())
    method = _METHOD.format(
        days=ROUND_DAYS,
        holdout=100 * SHARES["no_contact_holdout"],
        random=100 * SHARES["random_eligible"],
        challenger=100 * SHARES["challenger"],
        patience=Setting().judged_times,
        worlds=worlds,
    )
    parts = [method]
    for kind, group in groups.items():
        parts.append(f"## {kind.title}\n")
        if not kind.drifts:
            parts.append(_learned(group))
        else:
            parts.append(_TOLD if kind.told else _DRIFT)
            parts.append(_noticed(group))
        parts.append(_rounds(group))
        if kind.drifts:
            parts.append(_drift(group))
        parts.append(_judgements(group))
    counted = [run for run in runs if not run["setting"].get("told")]
    parts.append(f"## Whether estimates are honest\n\n{_HONESTY}\n{_coverage(counted)}\n{_verdicts(counted)}")
    return "\n".join(parts)


def _worlds(runs: Sequence[Run], kind: _Kind) -> str:
    setting = runs[0]["setting"]
    count = "one world" if len(runs) == 1 else f"{len(runs)} worlds"
    manner = "that stays as it is" if len(runs) == 1 else "that stay as they are"
    if kind.drifts:
        manner = "whose effects change, which somebody tells" if kind.told else "whose effects change"
    return f"{count} {manner}, {setting['rounds']} rounds of {setting['customers']:,} customers"
