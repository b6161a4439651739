"""What the fitted models' policy would have earned on held-out decisions, in money over doing nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.journeys import Journey
from features.kernel import Floats, Integers
from models.actions import Action, Catalogue
from models.metrics import bootstrap_intervals
from models.off_policy import doubly_robust_responses
from models.off_policy_log import effective_sample_size
from models.policy import Policy
from training.dataset import DecisionFrame
from training.fit import UpliftTest
from training.moments import Booleans


@dataclass(frozen=True, slots=True)
class PolicyCompared:
    """The policy beside simpler ones; intervals are those of ``PolicyValue``, over the same resamples.

    Attributes:
        n: decisions.
        contacts: share of them on which the policy acts.
        single_action: the one action that the models think best on average; ``no_action`` where none is worth it.
        best_single_interval: of its value.
        random_interval: of the random choice's value.
        over_best_single: what the policy earns more than that action, per decision.
        over_best_single_interval: of it.
    """

    n: int
    contacts: float
    single_action: str
    best_single_interval: tuple[float, float]
    random_interval: tuple[float, float]
    over_best_single: float
    over_best_single_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """Money per decision over doing nothing, estimated doubly robustly on held-out decisions.

    Attributes:
        value: of the policy that takes the action of highest net value where that is above 0.
        interval: 95 % of it, by bootstrap over customers.
        best_single: of always taking the one action that the models think best on average, where it could be taken.
        random: of choosing uniformly among what could be chosen, no action included.
        ess: effective sample size: how many decisions the policy would have made alike, weighted.
        compared: what stands beside it.
    """

    value: float
    interval: tuple[float, float]
    best_single: float
    random: float
    ess: float
    compared: PolicyCompared


@dataclass(frozen=True, slots=True, eq=False)
class _Money:
    """Of every held-out decision and arm: what was predicted to be earned, and its doubly robust score."""

    predicted: Floats
    scored: Floats
    possible: Booleans


def policy_value(
    frame: DecisionFrame,
    test: UpliftTest,
    *,
    journey: Journey,
    catalogue: Catalogue,
    policy: Policy,
    seed: int,
    resamples: int,
) -> PolicyValue | None:
    """The value of the greedy policy on the held-out decisions; None where nothing can be said.

    Only decisions whose probabilities were logged, and whose outcomes are all known, count. Every action is valued by
    the outcome that it aims at: ``V_a = value (p_a - p_0) - costs - p_a incentive``, so that no action is worth
    exactly 0.

    Args:
        frame: past decisions.
        test: held-out rows of it and predictions that did not see them.
        journey: values of the outcomes.
        catalogue: costs and aims of the actions.
        policy: prices of the channels.
        seed: fixes the bootstrap.
        resamples: how many.
    """
    aims = {catalogue.by_id[action_id].outcome for action_id in frame.arm_ids[1:]}
    usable: Booleans = np.asarray(~np.isnan(frame.arm_probabilities[test.rows]).any(axis=1), dtype=np.bool_)
    for outcome_id in aims:
        if outcome_id not in test.control:
            return None
        usable &= ~np.isnan(frame.response[outcome_id][test.rows])
    if not usable.any():
        return None
    rows = test.rows[usable]
    money = _money(frame, test, rows, usable, journey, catalogue, policy)
    greedy = _greedy(money)
    at = np.arange(len(rows))
    best = _best_single(money)
    single = np.where(money.possible[:, best], best, 0)
    earned = np.stack(
        [
            money.scored[at, greedy],
            money.scored[at, single],
            np.where(money.possible, money.scored, 0.0).sum(axis=1) / money.possible.sum(axis=1),
            money.scored[at, greedy] - money.scored[at, single],
        ]
    )
    value, alone, random, more = bootstrap_intervals(
        lambda weight: (earned @ weight / weight.sum()).tolist(),
        len(rows),
        clusters=frame.people[rows],
        seed=seed,
        n_resamples=resamples,
    )
    followed = frame.arm[rows] == greedy
    return PolicyValue(
        value=value.estimate,
        interval=(value.low, value.high),
        best_single=alone.estimate,
        random=random.estimate,
        ess=effective_sample_size(followed / frame.selection_probability[rows]),
        compared=PolicyCompared(
            n=len(rows),
            contacts=float((greedy > 0).mean()),
            single_action=frame.arm_ids[best],
            best_single_interval=(alone.low, alone.high),
            random_interval=(random.low, random.high),
            over_best_single=more.estimate,
            over_best_single_interval=(more.low, more.high),
        ),
    )


def _money(
    frame: DecisionFrame,
    test: UpliftTest,
    rows: Integers,
    usable: Booleans,
    journey: Journey,
    catalogue: Catalogue,
    policy: Policy,
) -> _Money:
    shape = (len(rows), len(frame.arm_ids))
    predicted, scored = np.zeros(shape), np.zeros(shape)
    responses: Mapping[str, tuple[Floats, Floats]] = {
        outcome_id: _responses(frame, test, rows, usable, outcome_id) for outcome_id in test.control
    }
    for number, action_id in enumerate(frame.arm_ids):
        if number == 0:
            continue
        action = catalogue.by_id[action_id]
        outcome = journey.outcome_by_id[action.outcome]
        cost = cheapest_contact(action, policy)
        for money, response in zip((predicted, scored), responses[action.outcome], strict=True):
            uplift = response[:, number] - response[:, 0]
            share = response[:, number] if outcome.type == "binary" else 1.0
            money[:, number] = outcome.value * uplift - action.incentive_cost * share - cost
    return _Money(predicted, scored, frame.arm_probabilities[rows] > 0)


def _responses(
    frame: DecisionFrame, test: UpliftTest, rows: Integers, usable: Booleans, outcome_id: str
) -> tuple[Floats, Floats]:
    """Predicted responses ``(n, n_arms)`` (NaN where unknown), and their doubly robust scores."""
    control = test.control[outcome_id][usable]
    known = control[:, None] + test.uplift[outcome_id][usable]
    # An arm without a prediction is taken to change nothing: the correction by what was observed keeps it unbiased.
    filled = np.where(np.isnan(known), control[:, None], known)
    scores = doubly_robust_responses(
        frame.response[outcome_id][rows], frame.arm[rows], frame.selection_probability[rows], filled
    )
    return known, scores


def cheapest_contact(action: Action, policy: Policy) -> float:
    """Money for one contact: of the action's cheapest treatment, its fatigue and its channel's price included."""
    return min(
        treatment.contact_cost + treatment.fatigue_cost + policy.channel_price.get(treatment.channel, 0.0)
        for treatment in action.treatments
    )


def _greedy(money: _Money) -> Integers:
    """``(n,)`` the possible arm of highest predicted value; no action where none is above 0."""
    worth = np.where(money.possible & ~np.isnan(money.predicted), money.predicted, -np.inf)
    worth[:, 0] = 0.0
    return np.asarray(worth.argmax(axis=1), dtype=np.int64)


def _best_single(money: _Money) -> int:
    """The one arm of highest predicted mean, counted as nothing where it is not possible.

    It is chosen by what was predicted: choosing it by what came out here would be choosing in hindsight.
    """
    worth = np.where(money.possible & ~np.isnan(money.predicted), money.predicted, 0.0).mean(axis=0)
    worth[0] = 0.0
    return int(worth.argmax())
