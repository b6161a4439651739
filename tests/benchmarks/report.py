"""What a benchmark found: as a table for people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One comparison.

    Attributes:
        name: against what.
        unit: of ``ours`` and ``baseline``.
        ours: what Headway took or reached.
        baseline: likewise; None where the target is absolute.
        ratio: what ``target`` is about, if it is relative; above or below 1 as the target is put.
        target: of the ratio, or of ``ours`` where there is no baseline; None where the figure is only told.
        at_most: whether the target is a bound from above.
        spread: least, median and most of ours; of the ratio, where each of several rounds had a baseline of its own.
    """

    name: str
    unit: str
    ours: float
    baseline: float | None
    ratio: float | None
    target: float | None
    at_most: bool
    spread: tuple[float, float, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        judged = self.ours if self.ratio is None else self.ratio
        return judged <= self.target if self.at_most else judged >= self.target


def slower(
    name: str,
    ours: float,
    baseline: float,
    *,
    target: float | None,
    spread: tuple[float, float, float] | None = None,
    unit: str = "ms",
) -> Measure:
    """How many times the baseline's time ours takes, at most ``target``."""
    return Measure(
        name=name,
        unit=unit,
        ours=ours,
        baseline=baseline,
        ratio=ours / baseline,
        target=target,
        at_most=True,
        spread=spread,
    )


def faster(
    name: str,
    ours: float,
    baseline: float,
    *,
    target: float | None,
    spread: tuple[float, float, float] | None = None,
    unit: str = "ms",
) -> Measure:
    """How many times less than the baseline ours takes, at least ``target``."""
    return Measure(
        name=name,
        unit=unit,
        ours=ours,
        baseline=baseline,
        ratio=baseline / ours,
        target=target,
        at_most=False,
        spread=spread,
    )


def absolute(name: str, ours: float, *, unit: str, target: float | None, at_most: bool) -> Measure:
    """A figure with a bound of its own."""
    return Measure(name=name, unit=unit, ours=ours, baseline=None, ratio=None, target=target, at_most=at_most)


def as_json(found: Mapping[str, Sequence[Measure]]) -> dict[str, list[dict[str, object]]]:
    """The comparisons of each row."""
    keys = ("name", "unit", "ours", "baseline", "ratio", "target")
    return {
        row: [{**{key: asdict(one)[key] for key in keys}, "met": one.met} for one in measures]
        for row, measures in found.items()
    }


def print_table(found: Mapping[str, Sequence[Measure]], *, spread: str = "min / median / max") -> None:
    """A table of every comparison; ``spread`` says what the last column is."""
    table = Table("row", "measure", "ours", "baseline", "ratio", "target", "met", spread)
    for row, measures in found.items():
        for one in measures:
            bound = "-" if one.target is None else f"{'<=' if one.at_most else '>='} {one.target:g}"
            table.add_row(
                row,
                one.name,
                f"{one.ours:.4g} {one.unit}",
                "-" if one.baseline is None else f"{one.baseline:.4g} {one.unit}",
                "-" if one.ratio is None else f"{one.ratio:.2f}",
                bound,
                {None: "-", True: "yes", False: "no"}[one.met],
                "-" if one.spread is None else " / ".join(f"{part:.4g}" for part in one.spread),
            )
    Console(width=140).print(table)
