"""One decision as a pure function: situation, funnel, scores, arbitration and choice, from inputs that are all values.

Serving, replay, off-policy evaluation and simulation all run this one function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from features.journeys import Journey
from features.kernel import Floats
from features.schema import FeatureSet
from features.taxonomy import Taxonomy
from models.actions import NO_ACTION, Action, Catalogue
from models.arbitration import (
    Choice,
    Factors,
    Probabilities,
    Scored,
    arm_selection,
    choose,
    marginal_selection,
    ranked,
)
from models.decision import Candidate, Selected
from models.experiment import arm_probabilities
from models.funnel import Considered, Question, considered_candidates
from models.policy import Arm, Policy
from models.records import CustomerRecords
from models.scoring import CustomerScores, EffectScore, Scorer, StallScore
from models.situation import Situation, Value, situation_of
from models.slots import filled_slots

OUT_OF_TIME: Final = "scoring.deadline"
_UNKNOWN_STALL: Final = StallScore(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """What a decision is made by, apart from the model.

    Attributes:
        policy_version: part of the seed of every draw.
    """

    taxonomy: Taxonomy
    journey: Journey
    catalogue: Catalogue
    policy: Policy
    policy_version: str
    feature_set: FeatureSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What a decision is made from.

    Attributes:
        vector: ``(n_features,)`` as of the question's moment.
        holdings: None where the profile is unknown.
        time_zone: the customer's IANA time zone.
        arm: the customer's part of the experiment.
        n_linked: how many other ids are the customer's; each had its own chance to be in the holdout.
    """

    decision_id: str
    vector: Floats
    attributes: Mapping[str, Value]
    holdings: frozenset[str] | None
    context: Mapping[str, Value]
    channel: str | None
    records: CustomerRecords
    question: Question
    time_zone: str
    arm: Arm
    n_linked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliberation:
    """A decision with everything that led to it.

    Attributes:
        candidates: the full candidate set in catalogue order, ``no_action`` last.
        factors: of every scored candidate, by treatment id.
        ranking: treatment ids of the scored candidates, the chosen one first, then by priority.
        choice: slot 1.
        selected: the filled slots, in order of choice.
    """

    situation: Situation
    stall: StallScore
    candidates: tuple[Candidate, ...]
    factors: Mapping[str, Factors]
    ranking: tuple[str, ...]
    choice: Choice
    selected: tuple[Selected, ...]


def deliberate(inputs: Inputs, rulebook: Rulebook, scorer: Scorer | None) -> Deliberation:
    """Decide.

    Without a scorer the stall propensity is unknown and uplifts come from the catalogue's priors alone.
    """
    out_of_time = inputs.question.out_of_time
    scores = None if scorer is None or out_of_time else scorer.customer(inputs.vector)
    situation = _situation(inputs, rulebook)
    stall = scores.stall() if scores is not None and situation.status == "open" else _UNKNOWN_STALL
    if situation.stall_state is None:
        stall = stall._replace(benign_wait=math.nan)  # learned from stalled customers
    situation = replace(situation, stall_propensity=stall.stall_propensity)
    considered = considered_candidates(
        catalogue=rulebook.catalogue,
        journey=rulebook.journey,
        policy=rulebook.policy,
        taxonomy=rulebook.taxonomy,
        situation=situation,
        records=inputs.records,
        question=inputs.question,
        time_zone=inputs.time_zone,
    )
    if out_of_time:
        considered = [_out_of_time(one) for one in considered]
    effects = _effects(considered, scores)
    factors = {
        one.treatment.id: _factors(one, effects[one.action.id], rulebook)
        for one in considered
        if one.dropped is None and effects[one.action.id].source != "none"
    }
    scored = [
        Scored(one.action.id, one.treatment.id, f.priority, f.net_value, f.net_value_sigma)
        for one in considered
        if (f := factors.get(one.treatment.id)) is not None
    ]
    exploration = rulebook.policy.exploration
    choice = choose(
        inputs.arm,
        scored,
        exploration,
        decision_id=inputs.decision_id,
        policy_version=rulebook.policy_version,
    )
    shares = arm_probabilities(rulebook.policy.experiment, n_linked=inputs.n_linked)
    given_arm = {
        arm: arm_selection(arm, scored, exploration) for arm, share in shares.items() if share > 0 or arm == inputs.arm
    }
    candidates = _candidates(
        considered, effects, factors, scored, marginal_selection(shares, given_arm), given_arm[inputs.arm]
    )
    ranking = _ranking(scored, choice)
    return Deliberation(
        situation=situation,
        stall=stall,
        candidates=candidates,
        factors=factors,
        ranking=ranking,
        choice=choice,
        selected=_selected(ranking, candidates, choice, inputs, rulebook),
    )


def _out_of_time(one: Considered) -> Considered:
    return one if one.dropped is not None else replace(one, dropped="scoring", rule_ids=(OUT_OF_TIME,))


def _situation(inputs: Inputs, rulebook: Rulebook) -> Situation:
    return situation_of(
        rulebook.journey,
        rulebook.feature_set,
        inputs.vector,
        attributes=inputs.attributes,
        holdings=inputs.holdings,
        context=inputs.context,
        channel=inputs.channel,
    )


def _effects(considered: list[Considered], scores: CustomerScores | None) -> dict[str, EffectScore]:
    actions = {one.action.id: one.action for one in considered if one.dropped is None}
    if scores is None:
        return {action.id: _prior(action) for action in actions.values()}
    pairs = [(action.outcome, action.id) for action in actions.values()]
    return dict(zip(actions, scores.effects(pairs), strict=True))


def _prior(action: Action) -> EffectScore:
    if action.prior_uplift is None:
        return EffectScore(math.nan, math.nan, math.nan, "none")
    return EffectScore(math.nan, action.prior_uplift, action.prior_sigma, "prior")


def _factors(one: Considered, effect: EffectScore, rulebook: Rulebook) -> Factors:
    outcome = rulebook.journey.outcome_by_id[one.action.outcome]
    return Factors(
        control_response=effect.control_response,
        uplift=effect.uplift,
        sigma=effect.sigma,
        is_binary=outcome.type == "binary",
        value=outcome.value,
        contact_cost=one.treatment.contact_cost,
        incentive_cost=one.action.incentive_cost,
        fatigue_cost=one.treatment.fatigue_cost,
        channel_price=rulebook.policy.channel_price.get(one.treatment.channel, 0.0),
        context_weight_pct=one.action.context_weight_pct,
        lever_pct=one.action.lever_pct,
    )


def _candidates(
    considered: list[Considered],
    effects: Mapping[str, EffectScore],
    factors: Mapping[str, Factors],
    scored: list[Scored],
    marginal: Probabilities,
    given_arm: Probabilities,
) -> tuple[Candidate, ...]:
    found = []
    score_of = {one.treatment_id: one for one in scored}
    for one in considered:
        known = factors.get(one.treatment.id)
        if known is None:
            dropped = one.dropped or "scoring"
            rule_ids = one.rule_ids or ("scoring.no_estimate",)
            found.append(
                Candidate(
                    action_id=one.action.id,
                    treatment_id=one.treatment.id,
                    channel=one.treatment.channel,
                    dropped=dropped,
                    rule_ids=rule_ids,
                )
            )
            continue
        score = score_of[one.treatment.id]
        found.append(
            Candidate(
                action_id=one.action.id,
                treatment_id=one.treatment.id,
                channel=one.treatment.channel,
                control_response=known.control_response,
                uplift=known.uplift,
                sigma=known.sigma,
                effect_source=effects[one.action.id].source,
                outcome=one.action.outcome,
                value=known.value,
                contact_cost=known.contact_cost,
                incentive_cost=known.incentive_cost,
                fatigue_cost=known.fatigue_cost,
                channel_price=known.channel_price,
                budget_price=known.budget_price,
                context_weight_pct=known.context_weight_pct,
                lever_pct=known.lever_pct,
                net_value=score.net_value,
                priority=score.priority,
                selection_probability=marginal[one.treatment.id],
                arm_selection_probability=given_arm[one.treatment.id],
            )
        )
    no_action = Candidate(
        action_id=NO_ACTION,
        treatment_id=NO_ACTION,
        channel=None,
        uplift=0.0,
        sigma=0.0,
        net_value=0.0,
        priority=0.0,
        selection_probability=marginal[NO_ACTION],
        arm_selection_probability=given_arm[NO_ACTION],
    )
    return (*found, no_action)


def _ranking(scored: list[Scored], choice: Choice) -> tuple[str, ...]:
    by_priority = [one.treatment_id for one in ranked(scored)]
    if choice.treatment_id == NO_ACTION:
        return tuple(by_priority)
    return (choice.treatment_id, *(one for one in by_priority if one != choice.treatment_id))


def _selected(
    ranking: tuple[str, ...], candidates: tuple[Candidate, ...], choice: Choice, inputs: Inputs, rulebook: Rulebook
) -> tuple[Selected, ...]:
    if choice.treatment_id == NO_ACTION:
        return ()
    return filled_slots(
        ranking,
        {candidate.treatment_id: candidate for candidate in candidates},
        question=inputs.question,
        records=inputs.records,
        policy=rulebook.policy.contact_policy,
        arm=inputs.arm,
    )
