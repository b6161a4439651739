"""One decision as a pure function: situation, funnel, scores, arbitration and choice, from inputs that are all values.

Serving, replay, off-policy evaluation and simulation all run this one function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

import numpy as np
from msgspec import structs

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
    exploration_loss,
    marginal_selection,
    ranked,
)
from models.capacity import Room, needs_of
from models.catalogue_plan import Plan, PlannedTreatment, plan_of
from models.contact_policy import fatigue_factor
from models.decision import Candidate, DropStage, Selected
from models.experiment import arm_probabilities
from models.funnel import Considered, Question, considered_candidates, every_failing_rule
from models.leads import lead_standing
from models.policy import Arm, Exploration, Policy
from models.prices import PriceList, money_price, unit_price
from models.records import CustomerRecords
from models.scoring import CustomerScores, EffectScore, Pair, Scorer, StallScore, finite_stall
from models.situation import Situation, Value, situation_of
from models.slots import Filling, filled_slots

OUT_OF_TIME: Final = "scoring.deadline"
NO_ESTIMATE: Final = ("scoring.no_estimate",)
NOT_FINITE: Final = ("scoring.not_finite",)
NOTHING: Final = Candidate(
    action_id=NO_ACTION, treatment_id=NO_ACTION, channel=None, uplift=0.0, sigma=0.0, net_value=0.0, priority=0.0
)
UNKNOWN_STALL: Final = StallScore(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """What a decision is made by, apart from the model.

    Attributes:
        policy_version: part of the seed of every draw.
        versions: content hash of each configuration file that it was made from, by name.
        plan: what follows from catalogue and policy for the candidates of the journey.
    """

    taxonomy: Taxonomy
    journey: Journey
    catalogue: Catalogue
    policy: Policy
    policy_version: str
    feature_set: FeatureSet
    versions: Mapping[str, str] = field(default_factory=dict)
    plan: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the plan, once for all decisions."""
        object.__setattr__(self, "plan", plan_of(self.catalogue, self.policy, journey=self.journey))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What a decision is made from.

    Attributes:
        vector: ``(n_features,)`` as of the question's moment.
        holdings: None where the profile is unknown.
        time_zone: the customer's IANA time zone.
        arm: the customer's part of the experiment.
        n_linked: how many other ids are the customer's; each had its own chance to be in the holdout.
        epsilon: share that explores while a regret budget holds it down; None for the policy's own.
        prices: what scarce capacity costs, of a list that is valid for the question; None where none is.
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
    epsilon: float | None = None
    prices: PriceList | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliberation:
    """A decision with everything that led to it.

    Attributes:
        missing: the features of which nothing is known.
        candidates: the full candidate set in catalogue order, ``no_action`` last.
        candidate_by_treatment: the same by treatment id.
        factors: of every scored candidate, by treatment id.
        ranking: treatment ids of the scored candidates, the chosen one first, then by priority.
        choice: slot 1.
        selected: the filled slots, in order of choice.
        exploration_loss: money that this decision is expected to lose if it explores; NaN without a regret budget.
        is_finite: false where the model gave a number that is none, and something was left out for it.
    """

    situation: Situation
    stall: StallScore
    missing: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    candidate_by_treatment: Mapping[str, Candidate]
    factors: Mapping[str, Factors]
    ranking: tuple[str, ...]
    choice: Choice
    selected: tuple[Selected, ...]
    exploration_loss: float
    is_finite: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """A customer as one bundle sees them: what its stall propensity lets through, and what the rest is worth."""

    situation: Situation
    stall: StallScore
    considered: list[Considered]
    effects: Mapping[Pair, EffectScore]
    factors: Mapping[str, Factors]
    scored: list[Scored]
    room: Room
    is_finite: bool


def deliberate(
    inputs: Inputs, rulebook: Rulebook, scorer: Scorer | None, challenger: Scorer | None = None
) -> Deliberation:
    """Decide.

    Without a scorer the stall propensity is unknown and uplifts come from the catalogue's priors alone. A challenger
    decides for its arm, and tells with what probability it would have chosen each candidate for everybody else; without
    one the champion decides for that arm too.
    """
    champion_view = _view(inputs, rulebook, scorer)
    challenger_view = champion_view if challenger is None else _view(inputs, rulebook, challenger)
    view = challenger_view if inputs.arm == "challenger" else champion_view
    exploration = _exploration(inputs, rulebook)
    choice = choose(
        inputs.arm, view.scored, exploration, decision_id=inputs.decision_id, policy_version=rulebook.policy_version
    )
    shares = arm_probabilities(rulebook.policy.experiment, n_linked=inputs.n_linked)
    given_arm = {
        arm: arm_selection(arm, (challenger_view if arm == "challenger" else champion_view).scored, exploration)
        for arm, share in shares.items()
        if share > 0 or arm == inputs.arm
    }
    candidates = _candidates(rulebook.plan, view, marginal_selection(shares, given_arm), given_arm[inputs.arm])
    by_treatment = {candidate.treatment_id: candidate for candidate in candidates}
    ranking = _ranking(view.scored, choice)
    return Deliberation(
        situation=view.situation,
        stall=view.stall,
        missing=tuple(compress(rulebook.feature_set.names, np.isnan(inputs.vector).tobytes())),
        candidates=candidates,
        candidate_by_treatment=by_treatment,
        factors=view.factors,
        ranking=ranking,
        choice=choice,
        selected=_selected(ranking, by_treatment, choice, view, inputs, rulebook),
        exploration_loss=math.nan if exploration.regret_budget is None else exploration_loss(view.scored, exploration),
        is_finite=view.is_finite,
    )


def _exploration(inputs: Inputs, rulebook: Rulebook) -> Exploration:
    declared = rulebook.policy.exploration
    return declared if inputs.epsilon is None else declared.model_copy(update={"epsilon": inputs.epsilon})


def _view(inputs: Inputs, rulebook: Rulebook, scorer: Scorer | None) -> _View:
    # The catalogue may have been replaced since the bundle was loaded: what is believed is the rulebook's.
    asked = None if inputs.question.out_of_time else scorer
    scores = None if asked is None else asked.believing(rulebook.catalogue.priors).customer(inputs.vector)
    situation, stall, considered = consider(
        inputs,
        rulebook,
        lambda is_stalled: UNKNOWN_STALL if scores is None else scores.stall(is_stalled=is_stalled),
    )
    if inputs.question.out_of_time:
        considered = [_out_of_time(one) for one in considered]
    left = [planned for planned, one in zip(rulebook.plan.treatments, considered, strict=True) if one.dropped is None]
    effects = _effects(left, scores, rulebook.catalogue)
    fatigue = fatigue_factor(rulebook.policy.contact_policy.fatigue, inputs.records.contacts, at=inputs.question.at)
    prices = {} if inputs.prices is None else inputs.prices.prices
    factors = {
        planned.dropped.treatment_id: _factors(planned, effect, rulebook, fatigue, prices)
        for planned in left
        if (effect := effects[planned.pair]).source != "none"
    }
    scored = {
        treatment_id: known.scored(planned.pair[1], treatment_id, mandatory=planned.is_mandatory)
        for planned in left
        if (known := factors.get(treatment_id := planned.dropped.treatment_id)) is not None
    }
    # Damage, or numbers so large that their product is none: nothing may be ranked by them, nor paid.
    if broken := {name: NOT_FINITE for name, one in scored.items() if not _is_finite(one, factors[name])}:
        considered, factors = _without(broken, "scoring", considered, factors)
    room = Room(rulebook.policy.capacity, inputs.records)
    if room.has_budgets:
        considered, factors = _within_budgets(considered, factors, room)
    return _View(
        situation=situation,
        stall=stall,
        considered=considered,
        effects=effects,
        factors=factors,
        scored=[one for name, one in scored.items() if name in factors],
        room=room,
        is_finite=not broken and (scores is None or situation.status != "open" or scores.is_stall_whole(stall)),
    )


def consider(
    inputs: Inputs, rulebook: Rulebook, stall_of: Callable[[bool], StallScore]
) -> tuple[Situation, StallScore, list[Considered]]:
    """The funnel up to scoring: where the customer stands, and which candidates that leaves.

    Args:
        inputs: what the decision is made from.
        rulebook: what it is made by.
        stall_of: the score of a customer who is stalled, or is not; only asked while the journey is open.
    """
    situation, stall = standing_of(inputs, rulebook, stall_of)
    return situation, stall, considered_in(situation, inputs, rulebook)


def standing_of(
    inputs: Inputs, rulebook: Rulebook, stall_of: Callable[[bool], StallScore]
) -> tuple[Situation, StallScore]:
    """Where a customer stands, with what the models expect of it; arguments as of ``consider``."""
    situation = _situation(inputs, rulebook)
    is_stalled = situation.stall_state is not None
    stall = finite_stall(stall_of(is_stalled)) if situation.status == "open" else UNKNOWN_STALL
    return _expected(situation, stall, rulebook), stall


def considered_in(situation: Situation, inputs: Inputs, rulebook: Rulebook) -> list[Considered]:
    """The candidates that the funnel up to scoring leaves to a customer who stands like this, and those it does not."""
    return considered_candidates(
        plan=rulebook.plan,
        catalogue=rulebook.catalogue,
        policy=rulebook.policy,
        taxonomy=rulebook.taxonomy,
        situation=situation,
        records=inputs.records,
        question=inputs.question,
        time_zone=inputs.time_zone,
    )


def failing_rules_of(
    inputs: Inputs, situation: Situation, rulebook: Rulebook
) -> dict[str, tuple[tuple[DropStage, str], ...]]:
    """Stage and id of every rule that stands against each candidate of a deliberation, by treatment.

    Args:
        inputs: what was decided from.
        situation: the deliberation's.
        rulebook: what was decided by.
    """
    return every_failing_rule(
        plan=rulebook.plan,
        catalogue=rulebook.catalogue,
        policy=rulebook.policy,
        taxonomy=rulebook.taxonomy,
        situation=situation,
        records=inputs.records,
        question=inputs.question,
        time_zone=inputs.time_zone,
    )


def _out_of_time(one: Considered) -> Considered:
    return one if one.dropped is not None else structs.replace(one, dropped="scoring", rule_ids=(OUT_OF_TIME,))


def _expected(situation: Situation, stall: StallScore, rulebook: Rulebook) -> Situation:
    """The situation with what the models expect of it, and how good a lead that makes."""
    situation = structs.replace(
        situation, stall_propensity=stall.stall_propensity, abandon_probability=stall.abandon_probability
    )
    if rulebook.policy.lead_qualification is None:
        return situation
    return structs.replace(
        situation, lead_class=lead_standing(rulebook.policy.lead_qualification, situation).lead_class
    )


def _situation(inputs: Inputs, rulebook: Rulebook) -> Situation:
    return situation_of(
        rulebook.journey,
        rulebook.feature_set,
        inputs.vector,
        attributes=inputs.attributes,
        holdings=inputs.holdings,
        context=inputs.context,
        channel=inputs.channel,
        direction="outbound" if inputs.question.outbound else "inbound",
        consents=inputs.records.consents,
    )


def _effects(
    left: list[PlannedTreatment], scores: CustomerScores | None, catalogue: Catalogue
) -> dict[Pair, EffectScore]:
    pairs = list(dict.fromkeys([planned.pair for planned in left]))
    if scores is None:
        return {pair: _prior(catalogue.by_id[pair[1]]) for pair in pairs}
    return dict(zip(pairs, scores.effects(pairs), strict=True))


def _prior(action: Action) -> EffectScore:
    if action.prior_uplift is None:
        return EffectScore(math.nan, math.nan, math.nan, "none")
    return EffectScore(math.nan, action.prior_uplift, action.prior_sigma, "prior")


def _factors(
    planned: PlannedTreatment, effect: EffectScore, rulebook: Rulebook, fatigue: float, prices: Mapping[str, float]
) -> Factors:
    control_response, uplift, sigma, _ = effect
    found = structs.replace(
        planned.factors,
        control_response=control_response,
        uplift=uplift,
        sigma=sigma,
        fatigue_cost=planned.factors.fatigue_cost * fatigue,
    )
    if not prices:
        return found
    policy, action = rulebook.policy, rulebook.catalogue.by_id[planned.pair[1]]
    per_money = money_price(policy, prices, issue=action.issue)
    return structs.replace(
        found,
        channel_price=unit_price(policy, prices, channel=planned.treatment.channel, queue=action.assigned_to),
        budget_price=per_money * found.spend if per_money else 0.0,
    )


def _within_budgets(
    considered: list[Considered], factors: dict[str, Factors], room: Room
) -> tuple[list[Considered], dict[str, Factors]]:
    """The same, without what costs more than is left now that it is known how likely the incentive is paid."""
    full = {
        one.treatment.id: rule_ids
        for one in considered
        if (known := factors.get(one.treatment.id)) is not None
        and (rule_ids := room.too_dear(one.action, one.treatment, known.incentive_share))
    }
    return _without(full, "capacity", considered, factors) if full else (considered, factors)


def _is_finite(one: Scored, factors: Factors) -> bool:
    """Whether a candidate can be ranked; that a response or a deviation is unknown does not keep it from that."""
    return math.isfinite(one.priority) and not (
        math.isinf(factors.sigma) or math.isinf(one.net_value_sigma) or math.isinf(factors.control_response)
    )


def _without(
    rule_ids: Mapping[str, tuple[str, ...]],
    stage: DropStage,
    considered: list[Considered],
    factors: dict[str, Factors],
) -> tuple[list[Considered], dict[str, Factors]]:
    """The same, with some treatments dropped at a stage, each for its own rules."""
    left = [
        structs.replace(one, dropped=stage, rule_ids=rule_ids[one.treatment.id])
        if one.treatment.id in rule_ids
        else one
        for one in considered
    ]
    return left, {treatment_id: known for treatment_id, known in factors.items() if treatment_id not in rule_ids}


def _candidates(plan: Plan, view: _View, marginal: Probabilities, given_arm: Probabilities) -> tuple[Candidate, ...]:
    found = []
    scores = iter(view.scored)  # in the same order
    for planned, one in zip(plan.treatments, view.considered, strict=True):
        treatment_id = planned.dropped.treatment_id
        known = view.factors.get(treatment_id)
        if known is None:
            candidate = structs.replace(
                planned.dropped,
                dropped=one.dropped or "scoring",
                rule_ids=one.rule_ids or NO_ESTIMATE,
                # Not 0 where another arm's bundle lets it through.
                selection_probability=marginal.get(treatment_id, 0.0),
            )
        else:
            score = next(scores)
            candidate = structs.replace(
                planned.scored,
                control_response=known.control_response,
                uplift=known.uplift,
                sigma=known.sigma,
                effect_source=view.effects[planned.pair].source,
                fatigue_cost=known.fatigue_cost,
                channel_price=known.channel_price,
                budget_price=known.budget_price,
                net_value=score.net_value,
                priority=score.priority,
                # Not there where nobody is in the arm that was asked for, and the others drop it.
                selection_probability=marginal.get(treatment_id, 0.0),
                arm_selection_probability=given_arm[treatment_id],
            )
        found.append(candidate)
    no_action = structs.replace(
        NOTHING, selection_probability=marginal[NO_ACTION], arm_selection_probability=given_arm[NO_ACTION]
    )
    return (*found, no_action)


def _ranking(scored: list[Scored], choice: Choice) -> tuple[str, ...]:
    by_priority = [one.treatment_id for one in ranked(scored)]
    if choice.treatment_id == NO_ACTION:
        return tuple(by_priority)
    return (choice.treatment_id, *(one for one in by_priority if one != choice.treatment_id))


def _fits(view: _View, rulebook: Rulebook) -> Callable[[str, Sequence[str]], bool]:
    """Whether there is capacity for a treatment beside others that are selected already."""

    def needs(treatment_id: str) -> dict[str, int]:
        action = rulebook.catalogue.action_by_treatment[treatment_id]
        treatment = rulebook.catalogue.treatment_by_id[treatment_id]
        return needs_of(rulebook.policy.capacity, action, treatment, view.factors[treatment_id].incentive_share)

    return lambda treatment_id, selected: view.room.fits_beside(needs(treatment_id), [needs(one) for one in selected])


def _selected(
    ranking: tuple[str, ...],
    candidates: Mapping[str, Candidate],
    choice: Choice,
    view: _View,
    inputs: Inputs,
    rulebook: Rulebook,
) -> tuple[Selected, ...]:
    if choice.treatment_id == NO_ACTION:
        return ()
    return filled_slots(_filling(ranking, candidates, view, inputs, rulebook))


def _filling(
    ranking: Sequence[str], candidates: Mapping[str, Candidate], view: _View, inputs: Inputs, rulebook: Rulebook
) -> Filling:
    return Filling(
        ranking=ranking,
        candidates=candidates,
        mandatory=frozenset(one.treatment_id for one in view.scored if one.mandatory),
        question=inputs.question,
        records=inputs.records,
        treatments=rulebook.catalogue.treatment_by_id,
        caps=rulebook.plan.caps,
        arm=inputs.arm,
        fits=_fits(view, rulebook),
        seed=(inputs.decision_id, rulebook.policy_version),
    )


def slate_filling(
    inputs: Inputs, rulebook: Rulebook, scorer: Scorer | None, challenger: Scorer | None = None
) -> Filling:
    """What the slots of a decision are filled with, by priority whatever stands first: what may follow what.

    Never part of a decision: it deliberates anew.
    """
    deliberation = deliberate(inputs, rulebook, scorer, challenger)
    view = _view(inputs, rulebook, challenger if inputs.arm == "challenger" and challenger is not None else scorer)
    ranking = [one.treatment_id for one in ranked(view.scored)]
    candidates = {name: one for name, one in deliberation.candidate_by_treatment.items() if one.is_scored}
    return _filling(ranking, candidates, view, inputs, rulebook)
