"""Distributions of features and scores, compared by Evidently: the method and the threshold of each column are pinned.

Its own choice of a test changes with the number of rows, and its p-values alarm on any large sample. A population
stability index, or a distance, says how large a shift is, on samples of one size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from features.kernel import Floats
from features.schema import FeatureSpec
from models.scoring import Scorer
from training.drift_verdict import INVESTIGATE, RETRAIN, Reason
from training.params import ColumnDriftParams, DriftParams

SCORE: Final = "score:"
STALL_SCORE: Final = f"{SCORE}stall_propensity"
_CATEGORIES: Final = ("boolean", "category")
_UNSEEN_SHARE: Final = 0.01
_FEWEST: Final = 2
"""Columns that must have drifted: of few, one is a large share, and one may always be its own story."""

_OUTSIDE_SHARE: Final = 0.05
"""Rows outside what was seen in training: a twentieth, since what only grows leaves its range a little all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One compared column.

    Attributes:
        method: by which it was compared.
        threshold: from which it has drifted.
        value: of the measure.
        is_score: it is what the models say, not what they see.
    """

    name: str
    method: str
    threshold: float
    value: float
    is_score: bool

    @property
    def has_drifted(self) -> bool:
        """Whether the measure reaches the threshold."""
        return self.value >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What is wrong with the values of one column, as shares of the rows.

    Attributes:
        missing: unknown before, and lately.
        unseen: lately of values that were never seen before; 0 for numbers.
        outside: lately outside the range of before; 0 for categories.
    """

    name: str
    missing: tuple[float, float]
    unseen: float
    outside: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """How columns compare.

    Attributes:
        columns: those compared, furthest from before first.
        quality: of the columns that the models use and that changed at all in what is missing, unseen or outside.
        appeared: columns that were never known before.
        vanished: columns that are not known any more.
        share_change: from which a change of what is missing counts.
        n: rows of either side that were compared.
    """

    columns: tuple[Column, ...]
    quality: tuple[Quality, ...]
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]
    n: tuple[int, int]

    @property
    def features(self) -> tuple[Column, ...]:
        """Columns that models see."""
        return tuple(one for one in self.columns if not one.is_score)

    @property
    def scores(self) -> tuple[Column, ...]:
        """Columns that models say."""
        return tuple(one for one in self.columns if one.is_score)

    @property
    def drifted_share(self) -> float:
        """Of the features, those that appeared or vanished too; NaN where none could be compared."""
        gone = len([name for name in (*self.appeared, *self.vanished) if not name.startswith(SCORE)])
        n = len(self.features) + gone
        return (sum(one.has_drifted for one in self.features) + gone) / n if n else math.nan

    @property
    def largest_index(self) -> float:
        """The largest population stability index of a feature or score; NaN where none was compared by it."""
        return max((one.value for one in self.columns if one.method == "psi"), default=math.nan)


def most_used(scorer: Scorer, names: Sequence[str], n: int) -> list[str]:
    """The features that the bundle's trees split on most, at most ``n``: a change in the others changes no decision."""
    uses = np.bincount(scorer.bundle.forest.feature, minlength=len(names))[: len(names)]  # the period is none
    return [names[i] for i in np.argsort(-uses, kind="stable")[:n] if uses[i] > 0]


def feature_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    specs: Mapping[str, FeatureSpec],
    params: DriftParams,
    html: Path | None = None,
) -> FeatureDrift:
    """How the columns of two samples compare.

    Args:
        reference: rows that were trained on, or earlier ones; scores are columns whose names start with ``score:``.
        current: recent rows, with the same columns.
        specs: of the features, by name.
        params: methods and thresholds.
        html: where Evidently's own page goes; nowhere if None.
    """
    compared, appeared, vanished = comparable(reference, current, params.smallest)
    pinned = {name: pinned_method(name, specs, params) for name in compared}
    categories = [name for name in compared if _is_category(name, specs)]
    found = _evidently(reference[compared], current[compared], pinned, categories, params, html) if compared else {}
    columns = [
        Column(
            name=name,
            method=pinned[name].method,
            threshold=pinned[name].threshold,
            value=value,
            is_score=name.startswith(SCORE),
        )
        for name, value in found.items()
    ]
    features = [name for name in reference.columns if not name.startswith(SCORE)]
    quality = [
        _quality(reference[name], current[name], params.smallest, is_category=_is_category(name, specs))
        for name in features
    ]
    return FeatureDrift(
        columns=tuple(sorted(columns, key=lambda one: -one.value / one.threshold)),
        quality=tuple(one for one in quality if one.missing[0] != one.missing[1] or one.unseen or one.outside),
        appeared=tuple(appeared),
        vanished=tuple(vanished),
        n=(len(reference), len(current)),
    )


def feature_reasons(found: FeatureDrift, params: DriftParams) -> list[Reason]:
    """What shifted distributions speak for.

    Features alone: looking into them. Where what the models say has shifted with them, they are asked about other
    customers than they learned from: learning anew.
    """
    reasons = []
    moved = [one for one in found.scores if one.has_drifted]
    n_drifted = sum(one.has_drifted for one in found.features) + len(found.appeared) + len(found.vanished)
    if found.drifted_share >= params.drift_share and n_drifted >= _FEWEST:
        text = f"{found.drifted_share:.0%} of the features that matter most have another distribution than before"
        if moved:
            text += (
                f", and what the models say moved with them: {', '.join(one.name.removeprefix(SCORE) for one in moved)}"
            )
        reasons.append(
            Reason(
                code="features.drifted",
                calls_for=RETRAIN if moved else INVESTIGATE,
                value=found.drifted_share,
                threshold=params.drift_share,
                text=text,
            )
        )
    reasons += [
        Reason(
            code="scores.drifted",
            calls_for=INVESTIGATE,
            subject=one.name,
            value=one.value,
            threshold=one.threshold,
            text=f"the models' {one.name.removeprefix(SCORE)} has another distribution than before: "
            f"{one.method} {one.value:.2f}",
        )
        for one in moved
    ]
    reasons += [
        Reason(
            code="columns.vanished",
            calls_for=INVESTIGATE,
            subject=name,
            value=1.0,
            text=f"{name} is not known any more of anybody",
        )
        for name in found.vanished
    ]
    return reasons + [reason for one in found.quality for reason in _quality_reasons(one, found, params)]


def _quality_reasons(one: Quality, found: FeatureDrift, params: DriftParams) -> Iterable[Reason]:
    before, lately = one.missing
    pooled = (before * found.n[0] + lately * found.n[1]) / sum(found.n)
    se = math.sqrt(pooled * (1 - pooled) * (1 / found.n[0] + 1 / found.n[1]))
    rise = lately - before
    if rise >= params.share_change and rise > params.certainty * se and one.name not in found.vanished:
        yield Reason(
            code="columns.missing",
            calls_for=INVESTIGATE,
            subject=one.name,
            value=lately,
            threshold=before + params.share_change,
            text=f"{one.name} is unknown of {lately:.1%} of the customers; it was of {before:.1%}",
        )
    if one.unseen >= _UNSEEN_SHARE:
        yield Reason(
            code="columns.unseen",
            calls_for=INVESTIGATE,
            subject=one.name,
            value=one.unseen,
            threshold=_UNSEEN_SHARE,
            text=f"{one.unseen:.1%} of the values of {one.name} are ones that were never seen before",
        )
    if one.outside >= _OUTSIDE_SHARE:
        yield Reason(
            code="columns.outside",
            calls_for=INVESTIGATE,
            subject=one.name,
            value=one.outside,
            threshold=_OUTSIDE_SHARE,
            text=f"{one.outside:.1%} of the values of {one.name} are outside the range of before",
        )


def comparable(reference: pd.DataFrame, current: pd.DataFrame, smallest: int) -> tuple[list[str], list[str], list[str]]:
    """Columns known often enough on both sides and not constant; columns that appeared; columns that vanished."""
    in_reference, in_current = reference.notna().sum(), current.notna().sum()
    compared, appeared, vanished = [], [], []
    for name in reference.columns:
        known = (in_reference[name] >= smallest, in_current[name] >= smallest)
        if known == (False, True) and in_reference[name] == 0:
            appeared.append(name)
        elif known == (True, False) and in_current[name] == 0:
            vanished.append(name)
        elif known == (True, True) and pd.concat([reference[name], current[name]]).nunique() > 1:
            compared.append(name)
    return compared, appeared, vanished


def pinned_method(name: str, specs: Mapping[str, FeatureSpec], params: DriftParams) -> ColumnDriftParams:
    """Method and threshold of a column: what the parameters say of it, else what its kind says."""
    if (own := params.overrides.get(name)) is not None:
        return own
    if _is_category(name, specs):
        return ColumnDriftParams(method="jensenshannon", threshold=params.category_threshold)
    return ColumnDriftParams(method="psi", threshold=params.psi_threshold)


def _is_category(name: str, specs: Mapping[str, FeatureSpec]) -> bool:
    return name in specs and specs[name].dtype in _CATEGORIES


def _quality(reference: pd.Series[Any], current: pd.Series[Any], smallest: int, *, is_category: bool) -> Quality:
    """What is wrong with one column; what was seen of few customers is no range of all."""
    before, lately = (side.to_numpy(dtype=np.float64) for side in (reference, current))
    missing = tuple(float(np.isnan(side).mean()) if len(side) else math.nan for side in (before, lately))
    known, seen = lately[~np.isnan(lately)], before[~np.isnan(before)]
    unseen = outside = 0.0
    if min(len(known), len(seen)) >= smallest:
        if is_category:
            unseen = float((~np.isin(known, np.unique(seen))).mean())
        else:
            outside = _outside(seen, known)
    return Quality(name=str(reference.name), missing=(missing[0], missing[1]), unseen=unseen, outside=outside)


def _outside(seen: Floats, known: Floats) -> float:
    return float(((known < seen.min()) | (known > seen.max())).mean())


def _evidently(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    pinned: Mapping[str, ColumnDriftParams],
    categories: Sequence[str],
    params: DriftParams,
    html: Path | None,
) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report  # some ten seconds: only where there is something to judge
    from evidently.presets import DataDriftPreset

    columns = list(reference.columns)
    definition = DataDefinition(
        numerical_columns=[name for name in columns if name not in categories], categorical_columns=list(categories)
    )
    preset = DataDriftPreset(
        columns=columns,
        drift_share=params.drift_share,
        per_column_method={name: pinned[name].method for name in columns},
        per_column_threshold={name: pinned[name].threshold for name in columns},
        include_tests=False,
    )
    result = Report([preset]).run(
        Dataset.from_pandas(_texts(current, categories), data_definition=definition),
        Dataset.from_pandas(_texts(reference, categories), data_definition=definition),
    )
    if html is not None:
        result.save_html(str(html))
    scores = {}
    for metric in json.loads(result.json())["metrics"]:
        column = metric.get("config", {}).get("column")
        if column in columns:
            scores[column] = float(metric["value"])
    return scores


def _texts(frame: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """The frame with categories as texts: as numbers they would be drawn as amounts."""
    names = {name: frame[name].map(lambda one: f"{one:g}", na_action="ignore") for name in categories}
    return frame.assign(**names)
