"""Which single feature, had it been another, would have put an action first: a search over the model's own splits.

A statement about the model, not about the world: the features of a person seldom change one at a time, some cannot
change at all, and the rules are not asked again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.schema import FeatureSpec
from models.actions import NO_ACTION
from models.decision import Candidate
from models.forest import Splits, splits_of
from models.heads import control_head, effect_head
from models.scoring import Scorer
from models.winning import recorded_factors

FloatArray = NDArray[np.float64]

MOST_FEATURES: Final = 30
"""Features that are tried, the strongest first."""
MOST_VALUES: Final = 200
"""Values that are tried of each, the nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One feature which, changed alone, puts the action first.

    Attributes:
        feature: its name.
        present: NaN where it was unknown.
        changed: the nearest value that does it, and it just does.
        steps: how many of the models' splits of this feature lie between; 1 where they have no order.
        priority: of the action's best treatment then.
    """

    feature: str
    present: float
    changed: float
    steps: int
    priority: float


def feature_flips(
    scorer: Scorer,
    vector: FloatArray,
    candidates: Sequence[Candidate],
    action_id: str,
    *,
    is_binary: Mapping[str, bool],
    strength: FloatArray,
    specs: Sequence[FeatureSpec],
) -> tuple[Flip, ...]:
    """The single features that would put an action first, those with the fewest splits between first.

    Every scored candidate is scored again with the changed vector; the table of candidates stays what it was. At most
    ``MOST_FEATURES`` features and ``MOST_VALUES`` values of each are tried.

    Args:
        scorer: of the bundle that decided, with the catalogue's priors.
        vector: ``(n_features,)`` as recorded.
        candidates: the full candidate set of the decision.
        action_id: one of those that were scored.
        is_binary: by outcome, whether it is a yes or no.
        strength: ``(n_features,)`` how much each matters to the action against its rival; the strongest are tried.
        specs: of the features.
    """
    scored = [one for one in candidates if one.is_scored and one.action_id != NO_ACTION]
    if all(one.action_id != action_id for one in scored):
        return ()
    splits = splits_of(scorer.bundle.forest, _members(scorer, scored))
    ours = np.array([one.action_id == action_id for one in scored])
    flips = []
    for feature in _tried(splits, strength):
        tried = tried_values(splits, feature, float(vector[feature]), specs[feature])
        rows = np.repeat(vector[None, :], len(tried), axis=0)
        rows[:, feature] = [value for _, value in tried]
        priorities = priorities_of(scorer, rows, scored, is_binary)
        best_of_ours = priorities[:, ours].max(axis=1)
        best_of_others = np.max(priorities[:, ~ours], axis=1, initial=0.0)  # doing nothing is worth 0
        flipping = np.flatnonzero(best_of_ours > best_of_others)
        if len(flipping):
            nearest = int(flipping[0])
            flips.append(
                Flip(
                    feature=specs[feature].name,
                    present=float(vector[feature]),
                    changed=tried[nearest][1],
                    steps=tried[nearest][0],
                    priority=float(best_of_ours[nearest]),
                )
            )
    return tuple(sorted(flips, key=lambda flip: flip.steps))


def priorities_of(
    scorer: Scorer, rows: FloatArray, scored: Sequence[Candidate], is_binary: Mapping[str, bool]
) -> FloatArray:
    """The priorities ``(n_rows, n_candidates)`` of scored candidates for customers with these vectors.

    ``Factors.priority``, for many at once.
    """
    block = scorer.effect_block(rows, [(one.outcome or "", one.action_id) for one in scored])
    priorities = np.empty((len(rows), len(scored)))
    for place, candidate in enumerate(scored):
        factors = recorded_factors(candidate, is_binary)
        control, uplift = block.control_response[:, place], block.uplift[:, place]
        share = np.where(factors.is_binary & ~np.isnan(control), control + uplift, 1.0)
        net_value = (
            uplift * factors.value
            - factors.contact_cost
            - share * factors.incentive_cost
            - factors.fatigue_cost
            - factors.channel_price
            - factors.budget_price
        )
        boost = (1 + factors.context_weight_pct / 100) * (1 + factors.lever_pct / 100)
        priorities[:, place] = np.where(net_value > 0, boost * net_value, net_value)
    return priorities


def _members(scorer: Scorer, scored: Sequence[Candidate]) -> tuple[int, ...]:
    """Places in the forest of all members that the candidates' effects and control responses are made of."""
    wanted = {control_head(one.outcome or "") for one in scored}
    wanted |= {effect_head(one.outcome or "", one.action_id) for one in scored}
    table, forest = scorer.bundle.table, scorer.bundle.forest
    scores: set[int] = set()
    for place, name in enumerate(table.names):
        if name in wanted:
            scores |= set(table.member[table.start[place] : table.start[place + 1]].tolist())
    # Scores are of timed members, one a period, and then of the others, which these are.
    n_timed_scores = forest.n_timed * forest.n_periods
    return tuple(sorted(score - n_timed_scores + forest.n_timed for score in scores))


def _tried(splits: Splits, strength: FloatArray) -> list[int]:
    """The features that are tried: those that the members split on, the strongest first, equal ones in order."""
    split_on = np.unique(splits.feature).tolist()
    return sorted(split_on, key=lambda feature: (-abs(float(strength[feature])), feature))[:MOST_FEATURES]


def tried_values(splits: Splits, feature: int, present: float, spec: FeatureSpec) -> list[tuple[int, float]]:
    """One value for each part between two splits, with the number of splits between it and the present one.

    The nearest first. The parts are half open: a split's own value lies below it. A count's values are whole.
    """
    at = np.unique(splits.threshold[(splits.feature == feature) & ~np.isnan(splits.threshold)]).tolist()
    is_whole = spec.dtype != "number"
    below = sorted({float(math.floor(split)) if is_whole else split for split in at}, reverse=True)
    above = sorted({math.floor(split) + 1.0 if is_whole else math.nextafter(split, math.inf) for split in at})
    categories = sorted(splits.categories.get(feature, ()))
    if math.isnan(present):
        return [(1, value) for value in sorted({*below, *above, *map(float, categories)})][:MOST_VALUES]
    lower = enumerate((value for value in below if value < present), start=1)
    higher = enumerate((value for value in above if value > present), start=1)
    others = ((1, float(category)) for category in categories if category != present)
    nearest = sorted({*lower, *higher, *others}, key=lambda step: (step[0], abs(step[1] - present), step[1]))
    return nearest[:MOST_VALUES]
