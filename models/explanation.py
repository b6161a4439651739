"""Why a recorded decision came out as it did: scored again from its record, and taken apart by the models' own trees.

Control path, for people and audits. Everything here is a statement about the models, not about the world: a
contribution says what a model made of a feature, not that changing the feature would change the customer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import Refused
from features.events import dump_timestamp
from features.journeys import Journey
from features.reason_templates import Quantity
from features.schema import FeatureSet
from models.actions import NO_ACTION, Catalogue
from models.bundle import booster_texts, load_bundle
from models.contributions import Contributions, head_contributions, stall_contributions
from models.deciding_bundle import refuse_another
from models.decision import Candidate, DecisionRecord
from models.flips import Flip, feature_flips
from models.heads import control_head, effect_head
from models.scoring import Scorer
from models.stated_reasons import StatedReason, stated_reasons, talking_points_of, value_text
from models.winning import ToWin, recorded_factors, strongest_rival, to_win

FloatArray = NDArray[np.float64]

SCOPE: Final = "about the models of this decision, not about the world"
SHOWN: Final = 10
"""Contributions that a document lists of a quantity; the sum of the others stands beside them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained:
    """One quantity, taken apart.

    Attributes:
        value: as it was served and recorded.
        raw: what baseline and contributions add up to: the value before link, calibration and clipping.
        by_feature: ``(n_features,)`` contributions; positive raises the quantity.
        reasons: in words, the strongest first.
    """

    value: float
    raw: float
    baseline: float
    by_feature: FloatArray
    reasons: tuple[StatedReason, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """Why one decision came out as it did.

    Attributes:
        stall: the log odds of no progress within the horizon; None where no stall was estimated.
        control: by outcome, the response under no action, on the control model's raw scale.
        effects: by action that was scored, what it changes of its outcome.
        largest_difference: between what was recorded and the same scored again; 0 is expected.
        scorer: of the bundle that decided; None where no model did, and there is nothing to take apart.
    """

    record: DecisionRecord
    feature_set: FeatureSet
    stall: Explained | None
    control: Mapping[str, Explained]
    effects: Mapping[str, Explained]
    largest_difference: float
    is_binary: Mapping[str, bool]
    scorer: Scorer | None

    @property
    def vector(self) -> FloatArray:
        """``(n_features,)`` as recorded."""
        return np.array(self.record.vector, dtype=np.float64)

    def to_win(self, action_id: str) -> ToWin:
        """What would have had to be different for an action to stand first.

        Raises:
            UnknownObject: it was no candidate.
        """
        return to_win(self.record.candidates, action_id, is_binary=self.is_binary)

    def flips(self, action_id: str) -> tuple[Flip, ...]:
        """The single features that would have put an action first, the nearest first; none where no model decided."""
        if self.scorer is None:
            return ()
        return feature_flips(
            self.scorer,
            self.vector,
            self.record.candidates,
            action_id,
            is_binary=self.is_binary,
            strength=self._strength(action_id),
            specs=self.feature_set.specs,
        )

    def _strength(self, action_id: str) -> FloatArray:
        """``(n_features,)`` money that each feature gives an action over its rival, as far as uplift goes."""
        rival_id, _ = strongest_rival(self.record.candidates, action_id)
        total = np.zeros(len(self.feature_set.names))
        for candidate in self.record.candidates:
            if candidate.treatment_id == rival_id:
                total -= self._money(candidate)
        ours = next((one for one in self.record.candidates if one.action_id == action_id and one.is_scored), None)
        return total if ours is None else total + self._money(ours)

    def _money(self, candidate: Candidate) -> FloatArray:
        if candidate.action_id not in self.effects:  # nothing is done, or what the catalogue believes: by no feature
            return np.zeros(len(self.feature_set.names))
        factors = recorded_factors(candidate, self.is_binary)
        pays_more = factors.is_binary and not math.isnan(factors.control_response)
        per_response = factors.value - (factors.incentive_cost if pays_more else 0.0)
        money: FloatArray = per_response * self.effects[candidate.action_id].by_feature
        return money


def explain(
    record: DecisionRecord, directory: Path | None, *, journey: Journey, catalogue: Catalogue, feature_set: FeatureSet
) -> Explanation:
    """Why a decision came out as it did.

    Args:
        record: the decision.
        directory: of the bundle that decided; ``deciding_bundle`` finds it. None where no model decided: then rules
            and beliefs alone made the decision, and what would have won is all there is to say.
        journey: of the decision, with its reason templates.
        catalogue: its actions; the priors of those that the bundle does not know.
        feature_set: of the journey, at the version that the decision was made with.

    Raises:
        Refused: the decision was made with other features, or without any.
        BundleError: the bundle is damaged, or is not the one that decided.
    """
    is_binary = {outcome.id: outcome.type == "binary" for outcome in journey.outcomes}
    if directory is None:
        return Explanation(
            record=record,
            feature_set=feature_set,
            stall=None,
            control={},
            effects={},
            largest_difference=0.0,
            is_binary=is_binary,
            scorer=None,
        )
    if record.versions.get("features") != feature_set.version or len(record.vector) != len(feature_set.names):
        raise Refused(
            f"decision {record.decision_id} was made with {len(record.vector)} features of version "
            f"{record.versions.get('features')}, expected {len(feature_set.names)} of {feature_set.version}: explain "
            f"it under the configuration that it was made under"
        )
    bundle = load_bundle(directory, feature_set.names)
    refuse_another(bundle, record, directory)
    scorer = Scorer(bundle, catalogue.priors)
    row = np.array([record.vector], dtype=np.float64)
    scored = {one.action_id: one for one in record.candidates if one.is_scored and one.action_id != NO_ACTION}
    texts = booster_texts(directory)
    heads = {head.name: head for head in bundle.heads}

    def reasons(found: Contributions, quantity: Quantity, action_id: str | None = None) -> tuple[StatedReason, ...]:
        return stated_reasons(
            journey.reason_templates,
            feature_set,
            row[0],
            found.by_feature[0],
            quantity=quantity,
            action_id=action_id,
        )

    horizon = None if bundle.hazards is None else bundle.hazards.periods.horizon
    is_known = not math.isnan(record.stall_propensity)
    stall = stall_contributions(bundle.heads, texts, row, horizon=horizon) if is_known else None
    control, effects = {}, {}
    for action_id, one in scored.items():
        outcome_id = one.outcome or ""
        if (head := heads.get(control_head(outcome_id))) and outcome_id not in control:
            control[outcome_id] = _explained(head_contributions(head, texts, row), one.control_response)
        if head := heads.get(effect_head(outcome_id, action_id)):
            found = head_contributions(head, texts, row)
            effects[action_id] = _explained(found, one.uplift, reasons(found, "effect", action_id))
    return Explanation(
        record=record,
        feature_set=feature_set,
        stall=None if stall is None else _explained(stall, record.stall_propensity, reasons(stall, "stall")),
        control=control,
        effects=effects,
        largest_difference=_largest_difference(record, scorer, row[0], scored),
        is_binary=is_binary,
        scorer=scorer,
    )


def _explained(found: Contributions, value: float, reasons: tuple[StatedReason, ...] = ()) -> Explained:
    return Explained(
        value=value,
        raw=float(found.raw[0]),
        baseline=float(found.baseline[0]),
        by_feature=found.by_feature[0],
        reasons=reasons,
    )


def _largest_difference(
    record: DecisionRecord, scorer: Scorer, vector: FloatArray, scored: Mapping[str, Candidate]
) -> float:
    """How far what is scored again lies from what was recorded; infinite where only one of the two is known."""
    scores = scorer.customer(vector)
    pairs = []
    if not math.isnan(record.stall_propensity):
        stall = scores.stall()
        pairs += [
            (record.stall_propensity, stall.stall_propensity),
            (record.abandon_probability, stall.abandon_probability),
            (record.expected_days_to_progress, stall.expected_days_to_progress),
        ]
        if not math.isnan(record.benign_wait):  # recorded of stalled customers only
            pairs.append((record.benign_wait, stall.benign_wait))
    again = scores.effects([(one.outcome or "", one.action_id) for one in scored.values()])
    for one, effect in zip(scored.values(), again, strict=True):
        pairs += [
            (one.control_response, effect.control_response),
            (one.uplift, effect.uplift),
            (one.sigma, effect.sigma),
        ]
    return max((_distance(recorded, found) for recorded, found in pairs), default=0.0)


def _distance(recorded: float, found: float) -> float:
    if math.isnan(recorded) or math.isnan(found):
        return 0.0 if math.isnan(recorded) and math.isnan(found) else math.inf
    return abs(recorded - found)


def explanation_document(explanation: Explanation, *, action_id: str | None = None) -> dict[str, Any]:
    """An explanation as JSON values; what is not known is None.

    Args:
        explanation: of a decision.
        action_id: an action of which it also says what would have put it first.

    Raises:
        UnknownObject: it was no candidate.
    """
    record = explanation.record
    document: dict[str, Any] = {
        "decision_id": record.decision_id,
        "decided_at": dump_timestamp(record.decided_at),
        "journey_id": record.journey_id,
        "scope": SCOPE,
        "versions": dict(record.versions),
        "largest_difference": explanation.largest_difference,
        "selected": record.first.action_id,
        "explored": record.explored,
        "stall": None if explanation.stall is None else _explained_document(explanation, explanation.stall),
        "control": {name: _explained_document(explanation, one) for name, one in explanation.control.items()},
        "effects": {name: _explained_document(explanation, one) for name, one in explanation.effects.items()},
    }
    if action_id is not None:
        document["to_win"] = {
            **asdict(explanation.to_win(action_id)),
            "flips": [asdict(flip) for flip in explanation.flips(action_id)],
        }
    plain: dict[str, Any] = _plain(document)
    return plain


def _explained_document(explanation: Explanation, one: Explained) -> dict[str, Any]:
    names, vector = explanation.feature_set.names, explanation.vector
    order = strongest(one.by_feature)
    return {
        "value": one.value,
        "raw": one.raw,
        "baseline": one.baseline,
        "contributions": [
            {
                "feature": names[place],
                "value": float(vector[place]),
                "value_text": value_text(explanation.feature_set, names[place], float(vector[place])),
                "contribution": float(one.by_feature[place]),
            }
            for place in order
        ],
        "others": one.raw - one.baseline - math.fsum(float(one.by_feature[place]) for place in order),
        "reasons": [asdict(reason) for reason in one.reasons],
        "talking_points": talking_points_of(one.reasons),
    }


def strongest(by_feature: FloatArray, most: int = SHOWN) -> list[int]:
    """Places of the features that contribute most, the strongest first, equal ones in order; none that adds nothing."""
    order = np.argsort(-np.abs(by_feature), kind="stable")[:most]
    return [int(place) for place in order if by_feature[place] != 0]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
