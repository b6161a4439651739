"""What a bundle believes of customers: stall, response and uplift, with one pass over the forest for each customer.

One customer is a block of one: serving and evaluation run the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, compiled
from models.curves import Curve, HazardColumns, curve
from models.forest import raw_scores_block
from models.forest_blocks import SMALLEST_BLOCK, BlockForest
from models.hazards import days_until
from models.heads import ABANDON, STALL, FittedHeads, control_head, effect_head, forecast_head, head_values
from models.manifest import Lineage

FloatArray = NDArray[np.float64]
Source = Literal["model", "mean", "prior", "none"]
Pair = tuple[str, str]
"""An outcome and an action that aims at it."""


class StallScore(NamedTuple):
    """Where a customer's journey is going; NaN where the bundle does not estimate it.

    Attributes:
        stall_propensity: probability of no progress within the journey's horizon.
        abandon_probability: probability of leaving the journey within the horizon.
        expected_days_to_progress: mean days until progress, counting no more than the horizon.
        benign_wait: of a customer who is stalled, the probability of progress without any contact, as far as the model
            looks. High: slow by choice; low: blocked.
    """

    stall_propensity: float
    abandon_probability: float
    expected_days_to_progress: float
    benign_wait: float = math.nan


def finite_stall(score: StallScore) -> StallScore:
    """A stall score in which what is no finite number is unknown.

    >>> finite_stall(StallScore(math.inf, 0.1, math.nan)).stall_propensity
    nan
    """
    if not any(map(math.isinf, score)):
        return score
    return StallScore(*[math.nan if math.isinf(number) else number for number in score])


class EffectScore(NamedTuple):
    """What one action would change for one customer; NaN where nothing is known.

    Attributes:
        control_response: expected outcome under no action.
        uplift: expected outcome under the action, minus that; for a binary outcome both stay probabilities.
        sigma: standard deviation of the uplift.
        source: ``model`` this customer's own effect, ``mean`` the arm's, ``prior`` the catalogue's, ``none`` unknown.
    """

    control_response: float
    uplift: float
    sigma: float
    source: Source


class StallBlock(NamedTuple):
    """``StallScore`` of many customers, each ``(n,)``."""

    stall_propensity: FloatArray
    abandon_probability: FloatArray
    expected_days_to_progress: FloatArray
    benign_wait: FloatArray


class EffectBlock(NamedTuple):
    """``EffectScore`` of many customers, each ``(n, n_pairs)``, and ``n_pairs`` sources."""

    control_response: FloatArray
    uplift: FloatArray
    sigma: FloatArray
    source: tuple[Source, ...]


class _Column(NamedTuple):
    """How to score a pair: columns of its heads, and the catalogue's belief."""

    control: int
    effect: int
    is_binary: bool
    prior: float
    prior_sigma: float
    source: Source


_ABSENT: Final = -1
_UNKNOWN: Final = np.full(1, np.nan)


class CustomerScores:
    """The scores of a block of customers; the forest has been walked already."""

    __slots__ = ("_scorer", "_sigmas", "_values")

    def __init__(self, scorer: Scorer, values: FloatArray, sigmas: FloatArray) -> None:
        self._scorer = scorer
        self._values = values
        self._sigmas = sigmas

    def stall_curve(self) -> Curve | None:
        """What becomes of the journeys of the block; None where the bundle has no hazards."""
        return self._curve(self._scorer.bundle.hazards)

    def _curve(self, columns: HazardColumns | None) -> Curve | None:
        return None if columns is None else curve(self._values, columns)

    def stall_block(self) -> StallBlock:
        """Stall scores of all customers of the block."""
        waiting = self._curve(self._scorer.bundle.waiting)
        unknown = np.full(len(self._values), np.nan)
        return self._stall_block(unknown if waiting is None else waiting.incidence.progress[:, -1])

    def _stall_block(self, benign_wait: FloatArray) -> StallBlock:
        ahead = self.stall_curve()
        if ahead is None:
            # Bundles of format 1 have the two probabilities at the horizon themselves.
            stall, abandon = self._scorer.stall_columns
            unknown = np.full(len(self._values), np.nan)
            return StallBlock(
                unknown if stall == _ABSENT else self._values[:, stall],
                unknown if abandon == _ABSENT else self._values[:, abandon],
                unknown,
                benign_wait,
            )
        progress, abandoned = ahead.incidence
        horizon = ahead.periods.horizon
        return StallBlock(
            1.0 - progress[:, horizon], abandoned[:, horizon], days_until(progress, ahead.periods), benign_wait
        )

    def forecast_block(self, outcome_ids: Sequence[str]) -> FloatArray:
        """``(n, n_outcomes)`` probability of each outcome within its window; NaN where the bundle forecasts it not."""
        columns = [self._scorer.place(forecast_head(outcome_id)) for outcome_id in outcome_ids]
        found = np.full((len(self._values), len(columns)), np.nan)
        for place, column in enumerate(columns):
            if column != _ABSENT:
                found[:, place] = self._values[:, column]
        return found

    def effect_block(self, pairs: Sequence[Pair]) -> EffectBlock:
        """Effect scores of all customers of the block for each pair."""
        columns = [self._scorer.column(pair) for pair in pairs]
        shape = (len(self._values), len(columns))
        control, tau, sigma = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
        for place, column in enumerate(columns):
            if column.control != _ABSENT:
                control[:, place] = self._values[:, column.control]
            if column.effect != _ABSENT:
                tau[:, place] = self._values[:, column.effect]
                sigma[:, place] = self._sigmas[:, column.effect]
            else:
                tau[:, place], sigma[:, place] = column.prior, column.prior_sigma
        is_binary = np.array([column.is_binary for column in columns], dtype=np.bool_)
        # Where p0 is unknown the clipped response is too, and the effect stays what it is.
        bounded = is_binary & ~np.isnan(control)
        uplift = np.where(bounded, np.clip(control + tau, 0.0, 1.0) - control, tau)
        return EffectBlock(control, uplift, sigma, tuple(column.source for column in columns))

    def stall(self, *, is_stalled: bool = True) -> StallScore:
        """The stall score of the only customer; only who is stalled can have a benign wait."""
        block = self.stall_block() if is_stalled else self._stall_block(_UNKNOWN)
        return StallScore(*[column.item(0) for column in block])

    def is_stall_whole(self, score: StallScore) -> bool:
        """Whether a stall score says all that the bundle estimates of every customer."""
        if self._scorer.bundle.hazards is not None:
            return math.isfinite(score.stall_propensity) and math.isfinite(score.abandon_probability)
        stall, abandon = self._scorer.stall_columns
        return (stall == _ABSENT or math.isfinite(score.stall_propensity)) and (
            abandon == _ABSENT or math.isfinite(score.abandon_probability)
        )

    def effects(self, pairs: Sequence[Pair]) -> tuple[EffectScore, ...]:
        """The effect scores of the only customer, one a pair."""
        values, sigmas = self._values[0].tolist(), self._sigmas[0].tolist()
        return tuple([_effect(self._scorer.column(pair), values, sigmas) for pair in pairs])


def _effect(column: _Column, values: list[float], sigmas: list[float]) -> EffectScore:
    control_column, effect_column, is_binary, tau, sigma, source = column
    control = math.nan if control_column == _ABSENT else values[control_column]
    if effect_column != _ABSENT:
        tau, sigma = values[effect_column], sigmas[effect_column]
    if is_binary:
        response = control + tau  # NaN is neither below 0 nor above 1, and stays
        if response < 0.0:
            tau = -control
        elif response > 1.0:
            tau = 1.0 - control
        else:
            tau = response - control
    return EffectScore(control, tau, sigma, source)


class Scorer:
    """Scores customers with one bundle.

    Args:
        bundle: a loaded bundle.
        priors: mean and standard deviation of the uplift of a pair that the bundle has no head for.
    """

    def __init__(self, bundle: Bundle, priors: Mapping[Pair, tuple[float, float]] | None = None) -> None:
        self.bundle = bundle
        self._priors: Mapping[Pair, tuple[float, float]] = {} if priors is None else priors
        self._places = {name: place for place, name in enumerate(bundle.table.names)}
        self._heads = {head.name: head for head in bundle.heads}
        self._columns: dict[Pair, _Column] = {}
        self.stall_columns = (self.place(STALL), self.place(ABANDON))
        self._other: Scorer | None = None

    def believing(self, priors: Mapping[Pair, tuple[float, float]]) -> Scorer:
        """This scorer under other priors, itself where they are its own. The last other one is kept."""
        if priors is self._priors:
            return self
        other = self._other
        if other is None or priors is not other._priors:
            other = self._other = self if priors == self._priors else Scorer(self.bundle, priors)
        return other

    def customer(self, x: FloatArray) -> CustomerScores:
        """All scores of one customer, from one pass over the forest.

        Args:
            x: ``(n_features,)`` in the order of the bundle's feature names; NaN means unknown.
        """
        return self.customers(x.reshape(1, -1))

    def customers(self, x: FloatArray) -> CustomerScores:
        """All scores of a block of customers.

        Args:
            x: ``(n, n_features)``.
        """
        block = len(x) >= SMALLEST_BLOCK
        raw = self._blocks.raw_scores(x) if block else raw_scores_block(self.bundle.forest, x)
        return CustomerScores(self, *head_values(self.bundle.table, raw))

    @cached_property
    def _blocks(self) -> BlockForest:
        """Laid out when the first block is scored: single decisions do not need it."""
        return BlockForest(self.bundle.forest)

    def place(self, head: str) -> int:
        """The column of a head, -1 where the bundle does not have it."""
        return self._places.get(head, _ABSENT)

    def stall(self, x: FloatArray) -> StallScore:
        """The stall score of one customer; ``customer`` is cheaper where effects are wanted too."""
        return self.customer(x).stall()

    def effects(self, x: FloatArray, pairs: Sequence[Pair]) -> tuple[EffectScore, ...]:
        """The effect scores of one customer, one a pair."""
        return self.customer(x).effects(pairs)

    def stall_block(self, x: FloatArray) -> StallBlock:
        """Stall scores of the rows of ``x``, ``(n, n_features)``."""
        return self.customers(x).stall_block()

    def stall_curve(self, x: FloatArray) -> Curve | None:
        """What becomes of the journeys of the rows of ``x``; None where the bundle has no hazards."""
        return self.customers(x).stall_curve()

    def effect_block(self, x: FloatArray, pairs: Sequence[Pair]) -> EffectBlock:
        """Effect scores of the rows of ``x``, ``(n, n_features)``, for each pair."""
        return self.customers(x).effect_block(pairs)

    def column(self, pair: Pair) -> _Column:
        """How this scorer scores a pair; found once."""
        try:
            return self._columns[pair]
        except KeyError:
            return self._columns.setdefault(pair, self._found_column(pair))

    def _found_column(self, pair: Pair) -> _Column:
        control_name, effect_name = control_head(pair[0]), effect_head(*pair)
        control = self._heads.get(control_name)
        effect = self._heads.get(effect_name)
        prior = self._priors.get(pair, (math.nan, math.nan))
        source: Source = "none"
        if effect is not None:
            source = "model" if effect.members and effect.weight > 0 else "mean"
        elif pair in self._priors:
            source = "prior"
        return _Column(
            control=self._places.get(control_name, _ABSENT),
            effect=self._places.get(effect_name, _ABSENT),
            is_binary=control is not None and control.link == "logistic",
            prior=prior[0],
            prior_sigma=prior[1],
            source=source,
        )


def scorer_of(fitted: Sequence[FittedHeads], n_features: int) -> Scorer:
    """A scorer of models that are not kept, to judge them with."""
    lineage = Lineage(
        name="", journey_id="", created_at=0, feature_names=("",) * n_features, features_version="", configuration={}
    )
    return Scorer(compiled(fitted, lineage))
