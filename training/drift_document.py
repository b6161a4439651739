"""A drift report as JSON values: what machines read, and what the page for people is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from features.events import dump_timestamp
from training.drift_calibration import Calibration
from training.drift_choices import ChoiceEffect
from training.drift_effects import ActionEffect
from training.drift_features import FeatureDrift

if TYPE_CHECKING:
    from training.drift import JourneyDrift

FORMAT: Final = 2


def document_of(found: JourneyDrift, *, at: int, distributions: str | None) -> dict[str, Any]:
    """A report as JSON values; None is "cannot be known".

    Args:
        found: the report.
        at: the moment that it bears, microseconds since the epoch.
        distributions: name of Evidently's page beside it, if there is one.
    """
    compared = found.compared
    sides = (compared.before, compared.lately) if compared.before is not None else compared.x
    document: dict[str, Any] = _plain(
        {
            "format": FORMAT,
            "journey_id": found.journey_id,
            "at": dump_timestamp(at),
            "verdict": found.verdict,
            "reasons": [reason.document() for reason in found.reasons],
            "headline": {"at": dump_timestamp(at), "verdict": found.verdict, **_headline(found)},
            "comparison": compared.what,
            "n_reference": 0 if sides[0] is None else len(sides[0]),
            "n_current": 0 if sides[1] is None else len(sides[1]),
            "features": None if found.features is None else _features_document(found.features),
            "calibration": [
                _calibration_document(
                    one, [each for each in found.decisions.calibrations_before if each.name == one.name]
                )
                for one in found.decisions.calibrations
            ],
            "effects": [_effect_document(one) for one in found.decisions.effects],
            "choices": [_choice_document(one) for one in found.decisions.choices],
            "rates": None if found.decisions.rates is None else found.decisions.rates.document(),
            "process": {
                **found.process.document(),
                "windows": [[dump_timestamp(moment) for moment in one] for one in found.process.windows],
                "is_judged": found.process.is_judged,
            },
            "distributions": distributions,
        }
    )
    return document


def _headline(found: JourneyDrift) -> dict[str, Any]:
    """The few numbers that are watched over time; NaN where unknown."""
    slopes = [one.slope.estimate for one in found.decisions.calibrations if one.is_judged]
    features, shares, effects = found.features, found.decisions.rates, found.decisions.effects
    return {
        "drifted_share": math.nan if features is None else features.drifted_share,
        "largest_psi": math.nan if features is None else features.largest_index,
        "calibration_slope": slopes[0] if slopes else math.nan,
        "effect_drifted": sum(one.has_drifted for one in effects) if effects else None,
        "no_action_rate": math.nan if shares is None else shares.no_action.lately,
        "cap_saturation": math.nan if shares is None else shares.saturation.lately,
    }


def _features_document(found: FeatureDrift) -> dict[str, Any]:
    return {
        "n": list(found.n),
        "drifted_share": found.drifted_share,
        "columns": {
            one.name: {
                "method": one.method,
                "value": one.value,
                "threshold": one.threshold,
                "drifted": one.has_drifted,
            }
            for one in found.columns
        },
        "appeared": list(found.appeared),
        "vanished": list(found.vanished),
        "quality": {
            one.name: {"missing": list(one.missing), "unseen": one.unseen, "outside": one.outside}
            for one in found.quality
        },
    }


def _calibration_document(one: Calibration, before: Sequence[Calibration]) -> dict[str, Any]:
    return {
        "name": one.name,
        "n": one.n,
        "predicted": one.predicted,
        "happened": one.happened,
        "slope": list(one.slope),
        "error": list(one.error),
        "judged": one.is_judged,
        "points": [list(point) for point in one.points],
        "before": {"n": before[0].n, "slope": list(before[0].slope), "error": list(before[0].error)}
        if before
        else None,
    }


def _effect_document(one: ActionEffect) -> dict[str, Any]:
    document = asdict(one)
    for name in ("before", "lately", "change", "gap", "slope"):
        estimate = getattr(one, name)
        document[name] = [estimate.value, *estimate.interval()]
    return document


def _choice_document(one: ChoiceEffect) -> dict[str, Any]:
    document = asdict(one)
    for name in ("observed", "gap"):
        estimate = getattr(one, name)
        document[name] = [estimate.value, *estimate.interval()]
    return document


def _plain(value: Any) -> Any:
    """JSON values: what is not a finite number is None, since JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
