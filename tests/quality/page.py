"""``docs/model-quality.md``, from one run of all gates."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.benchmarks.report import Measure
from tests.quality.setting import FILES, ROOT

PAGE: Final = ROOT / "docs" / "model-quality.md"
LIBRARIES: Final = ("lightgbm", "causalml", "econml", "xgboost")
_BY_SIZE: Final = re.compile(r"(?P<column>\d+k an arm): (?P<row>.*)")
_BY_METRIC: Final = re.compile(r"stall, (?P<row>.*): (?P<column>AUC|Brier|ECE|slope)")
_INTRODUCTION: Final = """\
# Model quality

How good the models are: on simulated truth, on experiments with real customers and on a real process log, beside what
others reach on the same rows in the same run. No figure on this page is typed: one command computes and writes it.

```bash
uv run --group crosscheck python -m tests.quality --write        # this page; {minutes:.0f} minutes of one core
uv run --group crosscheck python -m tests.quality hillstrom ihdp # some data sets, as a table
uv run --group crosscheck python -m tests.quality --json         # one JSON object, keyed by data set
uv run --group crosscheck python -m tests.quality --quick        # small: shows that it runs, measures nothing well
```

The real data are looked for in `../shared/data` beside the project, in `HEADWAY_TEST_DATA`, or in `--data DIR`; a
missing file is named. Each figure is an average over seeds or splits where the method says so, and its interval then
is the mean less and plus 1.96 standard errors over them. A **gate** is a bound that must hold: "yes" and "no" say
whether it does. "s.e." is the standard error of a paired difference, ours less theirs over the same seeds or splits:
not below another learner means more than -1. The other effect learners get LightGBM of a modest size as their base
(100 trees, 8 leaves), which does far better on small effects than LightGBM as it comes; all get the same rows and
features, and ours has its default parameters except on IHDP.
"""


def write_page(found: Mapping[str, Sequence[Measure]], path: Path = PAGE) -> None:
    """Write the page of a full run."""
    path.write_text(page(found, day=datetime.now(UTC).strftime("%Y-%m-%d")), encoding="utf-8")


def page(found: Mapping[str, Sequence[Measure]], *, day: str) -> str:
    """The page as Markdown."""
    seconds = sum(_cost(measures) for measures in found.values())
    parts = [_INTRODUCTION.format(minutes=max(1.0, seconds / 60)), _provenance(day), _summary(found)]
    for name in FILES:
        module = importlib.import_module(f"tests.quality.{name}")
        parts.append(f"## {module.TITLE}\n\n{module.METHOD}\n{_tables(found[name])}")
    return "\n".join(parts)


def _provenance(day: str) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    machine = f"{platform.machine()}, one thread, beside other work; Python {platform.python_version()}"
    return f"Computed {day} on {platform.system()} {machine}; {libraries}.\n"


def _cost(measures: Sequence[Measure]) -> float:
    return sum(one.ours for one in measures if one.unit == "CPU s")


def _summary(found: Mapping[str, Sequence[Measure]]) -> str:
    lines = ["## Gates", "", "| data set | gates | met | cost, CPU s |", "|---|---|---|---|"]
    for name, measures in found.items():
        gates = [one for one in measures if one.met is not None]
        met = sum(bool(one.met) for one in gates)
        lines.append(f"| {name} | {len(gates)} | {met} | {_cost(measures):.0f} |")
    missed = [(name, one) for name, measures in found.items() for one in measures if one.met is False]
    lines += ["", "Not met:" if missed else "All gates are met."]
    lines += [f"- {name}, {one.name}: {_judged(one)}, expected {_bound(one)}" for name, one in missed]
    return "\n".join(lines) + "\n"


def _tables(measures: Sequence[Measure]) -> str:
    """What can be laid out by size or by metric is, the rest is a list."""
    left: list[Measure] = []
    pivots: dict[re.Pattern[str], list[Measure]] = {_BY_SIZE: [], _BY_METRIC: []}
    for one in measures:
        home = next((pattern for pattern in pivots if pattern.fullmatch(one.name)), None)
        (left if home is None else pivots[home]).append(one)
    parts = [_list([one for one in left if one.unit != "CPU s"])]
    parts += [_pivot(pattern, members) for pattern, members in pivots.items() if members]
    return "\n".join(part for part in parts if part)


def _list(measures: Sequence[Measure]) -> str:
    if not measures:
        return ""
    lines = ["| measure | ours | 95 % interval | baseline | gate | met |", "|---|---|---|---|---|---|"]
    for one in measures:
        interval = "" if one.spread is None else f"{_figure(one.spread[0])} to {_figure(one.spread[2])}"
        baseline = "" if one.baseline is None else _figure(one.baseline)
        ours = f"{_figure(one.ours)} {one.unit}".strip()
        lines.append(f"| {one.name} | {ours} | {interval} | {baseline} | {_bound(one)} | {_met(one)} |")
    return "\n".join(lines) + "\n"


def _pivot(pattern: re.Pattern[str], measures: Sequence[Measure]) -> str:
    cells: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for one in measures:
        named = pattern.fullmatch(one.name)
        assert named is not None
        columns[named["column"]] = None
        row = f"{named['row']}, {one.unit}" if one.unit and pattern is _BY_SIZE else named["row"]
        cells.setdefault(row, {})[named["column"]] = _cell(one)
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(found.get(column, '') for column in columns)} |" for row, found in cells.items()]
    note = "" if pattern is _BY_METRIC else "\nOurs against theirs where there are two figures; in brackets the gate.\n"
    return "\n".join(lines) + "\n" + note


def _cell(one: Measure) -> str:
    figure = _figure(one.ours) if one.baseline is None else f"{_figure(one.ours)} : {_figure(one.baseline)}"
    return figure if one.target is None else f"{figure} ({_bound(one)}: {_met(one)})"


def _judged(one: Measure) -> str:
    if one.ratio is None:
        return f"{_figure(one.ours)} {one.unit}".strip()
    return f"{_figure(one.ours)} against {_figure(one.baseline or 0.0)} {one.unit}".strip()


def _bound(one: Measure) -> str:
    if one.target is None:
        return ""
    sign = "<=" if one.at_most else ">="
    return f"{sign} {one.target:g}{'' if one.ratio is None else ' x theirs'}"


def _met(one: Measure) -> str:
    return {None: "", True: "yes", False: "**no**"}[one.met]


def _figure(value: float) -> str:
    size = abs(value)
    decimals = 4 if size < 0.1 else 3 if size < 1 else 2 if size < 100 else 0
    return f"{value:.{decimals}f}"
