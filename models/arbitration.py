"""Net value, priority, ranking, and the exact probability with which each candidate is selected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Literal, TypeAlias

import msgspec

from features.stable_hash import stable_unit
from models.actions import NO_ACTION
from models.policy import Arm, Exploration

Z_95: Final = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""

Probabilities: TypeAlias = dict[str, float]
"""Probability of slot 1 by treatment id, ``no_action`` included."""


class Factors(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that a net value is made of, in money unless it says otherwise.

    Attributes:
        control_response: p0, expected outcome without action; NaN where unknown.
        uplift: what the action changes of it.
        sigma: one standard deviation of the uplift.
        is_binary: the outcome is a yes or no, so responses are probabilities.
        value: money of one more unit of the outcome.
        incentive_cost: paid to everyone who responds under the action.
        channel_price: the policy's own price of the channel, and the prices of the capacities that are taken from.
        budget_price: ``spend`` times the prices of the budgets that pay it.
        context_weight_pct: percent, raises a positive priority only.
        lever_pct: percent, likewise.
    """

    control_response: float
    uplift: float
    sigma: float
    is_binary: bool
    value: float
    contact_cost: float
    incentive_cost: float
    fatigue_cost: float
    channel_price: float
    budget_price: float = 0.0
    context_weight_pct: float = 0.0
    lever_pct: float = 0.0

    @property
    def incentive_share(self) -> float:
        """Share of customers to whom the incentive is paid: p_a, or everyone where p_a is unknown or no probability."""
        if not self.is_binary or math.isnan(self.control_response):
            return 1.0
        return self.control_response + self.uplift

    @property
    def spend(self) -> float:
        """Money that is spent: the contact, and the incentive times the share of customers to whom it is paid."""
        return self.contact_cost + self.incentive_share * self.incentive_cost

    @property
    def net_value(self) -> float:
        """``uplift * value - contact - p_a * incentive - fatigue - channel price - budget price``."""
        return self._worth()[0]

    @property
    def net_value_sigma(self) -> float:
        """One standard deviation of the net value: the uplift's, times the money that moves with it."""
        return self._worth()[1]

    @property
    def priority(self) -> float:
        """``(1 + context/100)(1 + lever/100) V`` where V > 0, else V: a boost never lifts a harmful action."""
        return self._worth()[2]

    def _worth(self) -> tuple[float, float, float]:
        """Net value, its standard deviation and priority, all at once: a decision wants them of every candidate."""
        uplift, value, incentive_cost = self.uplift, self.value, self.incentive_cost
        if self.is_binary and not math.isnan(self.control_response):
            share, moving = self.control_response + uplift, value - incentive_cost
        else:
            share, moving = 1.0, value
        net_value = (
            uplift * value
            - self.contact_cost
            - share * incentive_cost
            - self.fatigue_cost
            - self.channel_price
            - self.budget_price
        )
        boost = (1 + self.context_weight_pct / 100) * (1 + self.lever_pct / 100) if net_value > 0 else 1.0
        return net_value, self.sigma * abs(moving), boost * net_value

    def scored(self, action_id: str, treatment_id: str, *, mandatory: bool = False) -> Scored:
        """The candidate that these are the factors of, as arbitration sees it."""
        net_value, sigma, priority = self._worth()
        return Scored(action_id, treatment_id, priority, net_value, sigma, mandatory)


def interval(center: float, sigma: float) -> tuple[float, float]:
    """The two-sided 95 % interval of a normal estimate."""
    return (center - Z_95 * sigma, center + Z_95 * sigma)


class Scored(msgspec.Struct, frozen=True, gc=False):
    """One candidate that reached arbitration, in catalogue order.

    Attributes:
        mandatory: it goes before everything that is not, whatever it is worth.
    """

    action_id: str
    treatment_id: str
    priority: float
    net_value: float
    net_value_sigma: float
    mandatory: bool = False


_NOTHING: Final = Scored(NO_ACTION, NO_ACTION, 0.0, 0.0, 0.0)
_PRIORITY: Final = attrgetter("priority")


def ranked(candidates: Sequence[Scored]) -> list[Scored]:
    """Candidates by priority, highest first, mandatory ones before all; equal ones keep the catalogue's order."""
    by_priority = sorted(candidates, key=_PRIORITY, reverse=True)  # in reverse, equal ones keep their order too
    return sorted(by_priority, key=attrgetter("mandatory"), reverse=True)


def greedy_choice(candidates: Sequence[Scored]) -> str:
    """Treatment with the highest priority above 0, else ``no_action``; a mandatory one wins whatever it is worth."""
    best = _first_mandatory(candidates) or max(candidates, key=_PRIORITY, default=_NOTHING)
    return best.treatment_id if best.priority > 0 or best.mandatory else NO_ACTION


def _first_mandatory(candidates: Sequence[Scored]) -> Scored | None:
    mandatory = [candidate for candidate in candidates if candidate.mandatory]
    return max(mandatory, key=_PRIORITY) if mandatory else None


def _explorable(candidates: Sequence[Scored]) -> list[Scored]:
    """Nothing, and what may be worth more by the upper bound of its net value."""
    return [*[one for one in candidates if one.net_value + Z_95 * one.net_value_sigma > 0], _NOTHING]


def softmax(scored: Sequence[Scored], temperature: float) -> Probabilities:
    """Softmax of the priorities at a temperature in money."""
    top = max([candidate.priority for candidate in scored])
    weights = {c.treatment_id: math.exp((c.priority - top) / temperature) for c in scored}
    total = math.fsum(weights.values())
    return {treatment_id: weight / total for treatment_id, weight in weights.items()}


def exploration_loss(candidates: Sequence[Scored], exploration: Exploration) -> float:
    """Money that a decision is expected to lose if it explores: net value of the greedy choice minus that of the draw.

    Never below 0: levers may rank something first that is worth less. 0 where something mandatory leaves no choice.
    """
    if _first_mandatory(candidates) is not None:
        return 0.0
    worth = {NO_ACTION: 0.0, **{candidate.treatment_id: candidate.net_value for candidate in candidates}}
    drawn = softmax(_explorable(candidates), exploration.temperature)
    expected = math.fsum(probability * worth[treatment_id] for treatment_id, probability in drawn.items())
    return max(0.0, worth[greedy_choice(candidates)] - expected)


def arm_selection(arm: Arm, candidates: Sequence[Scored], exploration: Exploration) -> Probabilities:
    """Exact probability of each candidate in slot 1, given the arm; they sum to 1.

    The holdout always gets ``no_action``. Elsewhere a mandatory candidate is certain. ``random_eligible`` is uniform
    over all candidates and ``no_action``. The others are greedy with probability 1 - epsilon and draw from the softmax
    over the safe set otherwise.
    """
    found = dict.fromkeys([*[candidate.treatment_id for candidate in candidates], NO_ACTION], 0.0)
    if arm == "no_contact_holdout":
        found[NO_ACTION] = 1.0
    elif (first := _first_mandatory(candidates)) is not None:
        found[first.treatment_id] = 1.0
    elif arm == "random_eligible":
        return dict.fromkeys(found, 1.0 / len(found))
    else:
        for treatment_id, probability in softmax(_explorable(candidates), exploration.temperature).items():
            found[treatment_id] = exploration.epsilon * probability
        found[greedy_choice(candidates)] += 1 - exploration.epsilon
    return found


def marginal_selection(shares: Mapping[Arm, float], given_arm: Mapping[Arm, Probabilities]) -> Probabilities:
    """Exact probability of each candidate in slot 1, marginal over the arms.

    Args:
        shares: of the arms; they sum to 1.
        given_arm: ``arm_selection`` of every arm that has a share.
    """
    total: Probabilities = {}
    for arm, share in shares.items():
        if share == 0:
            continue
        found = given_arm[arm]
        if found.keys() == total.keys():
            total = {treatment_id: before + share * found[treatment_id] for treatment_id, before in total.items()}
            continue
        for treatment_id, probability in found.items():
            total[treatment_id] = total.get(treatment_id, 0.0) + share * probability
    # What is certain in every arm would add up to a little more than 1 otherwise.
    return {treatment_id: min(probability, 1.0) for treatment_id, probability in total.items()}


@dataclass(frozen=True, slots=True)
class Choice:
    """Slot 1, and whether chance rather than the ranking chose it."""

    treatment_id: str
    how: Literal["greedy", "explored", "random", "holdout", "mandatory"]


def choose(
    arm: Arm, candidates: Sequence[Scored], exploration: Exploration, *, decision_id: str, policy_version: str
) -> Choice:
    """Draw slot 1 with the probabilities of ``arm_selection``.

    The draw is a Gumbel-max with noise from the stable hash of decision, policy version and candidate, and the coin of
    epsilon has a hash of its own: it replays bit for bit, and removing a candidate that lost never changes the winner.

    References:
        Gumbel (1954), Statistical Theory of Extreme Values; argmax(log p + G) has distribution p for i.i.d. standard G.
    """
    if arm == "no_contact_holdout":
        return Choice(NO_ACTION, "holdout")
    if _first_mandatory(candidates) is not None:
        return Choice(greedy_choice(candidates), "mandatory")
    if arm == "random_eligible":
        return Choice(_gumbel_max([*candidates, _NOTHING], math.inf, decision_id, policy_version), "random")
    if stable_unit("epsilon", decision_id, policy_version) < exploration.epsilon:
        drawn = _gumbel_max(_explorable(candidates), exploration.temperature, decision_id, policy_version)
        return Choice(drawn, "explored")
    return Choice(greedy_choice(candidates), "greedy")


def _gumbel_max(scored: Sequence[Scored], temperature: float, decision_id: str, policy_version: str) -> str:
    def noisy(candidate: Scored) -> float:
        return candidate.priority / temperature + gumbel_noise(decision_id, policy_version, candidate.treatment_id)

    return max(scored, key=noisy).treatment_id


def gumbel_noise(*key: str) -> float:
    """A standard Gumbel variate from the stable hash of a key."""
    return -math.log(-math.log(stable_unit("gumbel", *key)))
