"""Every feature as people read it: the reference page in Markdown, and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from features.schema import FeatureSet, FeatureSpec

_HEADER: Final = ("Feature", "Type", "Unit", "Meaning", "Missing", "From")

_INTRODUCTION: Final = """# Features

Every feature that the models see, in the order of their vector. One kernel computes them, in training and in serving
alike, from the events that had occurred and had arrived strictly before the moment that is asked. They follow from the
taxonomy and the journeys: another kind of event, channel, stage or attribute brings its own, without code.

The page is generated for the built-in configuration by `headway features list --markdown`; run that command on another
home to see its features.
"""


def feature_page(feature_sets: Iterable[FeatureSet]) -> str:
    """The reference page in Markdown: a table per journey."""
    return "\n".join([_INTRODUCTION, *(line for each in feature_sets for line in _markdown(each))])


def feature_tables(feature_sets: Iterable[FeatureSet]) -> str:
    """The same for a terminal, in columns."""
    return "\n".join(line for each in feature_sets for line in _columns(each)) + "\n"


def _markdown(feature_set: FeatureSet) -> Iterator[str]:
    yield f"## Journey `{feature_set.journey_id}`"
    yield ""
    yield f"{len(feature_set.specs)} features."
    yield ""
    yield f"| {' | '.join(_HEADER)} |"
    yield f"|{'---|' * len(_HEADER)}"
    for spec in feature_set.specs:
        name, *rest = (cell.replace("|", "\\|") for cell in _cells(spec))
        yield f"| {' | '.join([f'`{name}`', *rest])} |"
    yield ""


def _columns(feature_set: FeatureSet) -> Iterator[str]:
    rows: list[Sequence[str]] = [_HEADER, *(_cells(spec) for spec in feature_set.specs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    yield f"Journey {feature_set.journey_id}: {len(feature_set.specs)} features, version {feature_set.version}"
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(spec: FeatureSpec) -> tuple[str, str, str, str, str, str]:
    return (spec.name, spec.dtype, spec.unit, spec.meaning, spec.missing, spec.source)
