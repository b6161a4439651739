"""Reasons in the words of the configuration, stated only where the model's own contributions bear them out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.reason_templates import VALUE, Quantity, ReasonTemplate
from features.schema import FeatureSet

FloatArray = NDArray[np.float64]

STRONGEST: Final = 10
"""A reason contributes at least as much as the feature in this place when all are put in order of strength."""
MOST: Final = 5
"""No more reasons than a person reads."""
_HOURS_TO_DAYS: Final = 48.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedReason:
    """One reason.

    Attributes:
        contribution: of the template's features together, on the scale of the quantity.
    """

    code: str
    text: str
    contribution: float
    talking_points: tuple[str, ...]


def stated_reasons(
    templates: Sequence[ReasonTemplate],
    feature_set: FeatureSet,
    vector: FloatArray,
    by_feature: FloatArray,
    *,
    quantity: Quantity,
    action_id: str | None = None,
) -> tuple[StatedReason, ...]:
    """The reasons for one quantity of one customer, the strongest first, equal ones by code.

    Args:
        templates: of the journey.
        feature_set: of the journey.
        vector: ``(n_features,)``.
        by_feature: ``(n_features,)`` contributions to the quantity.
        quantity: what they are contributions to.
        action_id: whose effect it is, where it is one.
    """
    places = feature_set.places
    weakest = _weakest_of_the_strongest(by_feature)
    found = []
    for template in templates:
        if template.quantity != quantity or template.action not in (None, action_id):
            continue
        value = float(vector[places[template.features[0]]])
        contribution = math.fsum(float(by_feature[places[name]]) for name in template.features)
        towards = contribution if template.direction == "raises" else -contribution
        if towards > 0 and towards >= weakest and template.holds(value):
            text = template.text.format(**{VALUE: value_text(feature_set, template.features[0], value)})
            found.append(
                StatedReason(
                    code=template.code,
                    text=text,
                    contribution=contribution,
                    talking_points=template.talking_points,
                )
            )
    return tuple(sorted(found, key=lambda reason: (-abs(reason.contribution), reason.code))[:MOST])


def talking_points_of(reasons: Sequence[StatedReason]) -> tuple[str, ...]:
    """The talking points of reasons, each once, those of the strongest reason first."""
    return tuple(dict.fromkeys(point for reason in reasons for point in reason.talking_points))


def _weakest_of_the_strongest(by_feature: FloatArray) -> float:
    strengths = np.sort(np.abs(by_feature))[::-1]
    return float(strengths[min(STRONGEST, len(strengths)) - 1]) if len(strengths) else 0.0


def value_text(feature_set: FeatureSet, name: str, value: float) -> str:
    """A feature's value as people read it, with its unit.

    Args:
        feature_set: of the journey.
        name: of the feature.
        value: NaN is ``unknown``.
    """
    if math.isnan(value):
        return "unknown"
    spec = feature_set.specs[feature_set.names.index(name)]
    if labels := _labels(feature_set, name):
        place = int(value)
        return labels[place] if 0 <= place < len(labels) else number_text(value)
    if spec.unit == "flag":
        return "yes" if value else "no"
    if spec.unit == "hours":
        return hours_text(value)
    has_own_unit = spec.source != "state" and spec.unit not in ("index", "number")
    return f"{number_text(value)} {spec.unit}" if has_own_unit else number_text(value)


def _labels(feature_set: FeatureSet, name: str) -> tuple[str, ...]:
    """The words that a feature's numbers stand for, where they do."""
    if name in ("last_channel", "preferred_channel"):
        return tuple(feature_set.channel_index)
    for prefix, declared in (("attribute_", feature_set.attributes), ("context_", feature_set.context)):
        if name.startswith(prefix) and (attribute := declared.get(name.removeprefix(prefix))) is not None:
            return attribute.values
    return ()


def hours_text(hours: float) -> str:
    """So many hours in the unit that suits them.

    >>> hours_text(0.5), hours_text(36.0), hours_text(80.0)
    ('30 minutes', '36 hours', '3 days')
    """
    if hours >= _HOURS_TO_DAYS:
        return _counted(round(hours / 24), "day")
    return _counted(round(hours), "hour") if hours >= 1 else _counted(round(hours * 60), "minute")


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"


def number_text(value: float) -> str:
    """A number with as many digits as a person wants to see.

    >>> number_text(12000.0), number_text(3.0), number_text(3.14159), number_text(-0.253)
    ('12,000', '3', '3.1', '-0.25')
    """
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"
