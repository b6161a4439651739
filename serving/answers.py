"""From a decision and its deliberation to the answer on the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import msgspec

from features.events import MICROSECONDS_PER_DAY, dump_timestamp
from models.arbitration import Factors as NetValueFactors
from models.arbitration import interval
from models.decision import Candidate, DecisionRecord, DropStage
from models.deliberation import Deliberation, Inputs, Rulebook, failing_rules_of
from models.reasons import reason_codes
from models.unknown_numbers import if_finite
from serving.schemas import (
    DecisionAnswer,
    DecisionRequest,
    DroppedAction,
    ExperimentArm,
    Factors,
    FeatureFreshness,
    Funnel,
    JourneyStanding,
    NoAction,
    RankedAction,
    SelectedAction,
    Versions,
)

_FUNNEL = (
    ("catalogue", "catalogue"),
    ("eligible", "eligibility"),
    ("applicable", "applicability"),
    ("suitable", "suitability"),
    ("contactable", "contact_policy"),
    ("capacity", "capacity"),
    ("scored", "scoring"),
)
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Answering:
    """What an answer needs beside the record.

    Attributes:
        failing: stage and id of every rule that stands against each candidate, by treatment; None where nobody asked
            for more than the first stage.
    """

    rulebook: Rulebook
    request: DecisionRequest
    failing: Mapping[str, Sequence[tuple[DropStage, str]]] | None = None

    @classmethod
    def of(cls, rulebook: Rulebook, request: DecisionRequest, inputs: Inputs, deliberation: Deliberation) -> Answering:
        """What the answer to a request needs, after what was decided from what."""
        if request.explain == "none":
            return cls(rulebook, request)
        return cls(rulebook, request, failing_rules_of(inputs, deliberation.situation, rulebook))


def answer_bytes(record: DecisionRecord, deliberation: Deliberation, about: Answering) -> bytes:
    """The answer as JSON."""
    return _ENCODER.encode(answer_of(record, deliberation, about))


def answer_of(record: DecisionRecord, deliberation: Deliberation, about: Answering) -> DecisionAnswer:
    """The answer.

    In the holdout nothing is ranked, so that nothing can be done by mistake.
    """
    holdout = record.arm == "no_contact_holdout"
    ranking = () if holdout else deliberation.ranking[: about.request.max_actions]
    return DecisionAnswer(
        decision_id=record.decision_id,
        request_id=record.request_id,
        decided_at=dump_timestamp(record.decided_at),
        expires_at=dump_timestamp(record.expires_at),
        customer_id=about.request.customer_id,
        journey=_standing(record, deliberation, about.rulebook),
        ranked_actions=tuple(
            _ranked_action(rank, treatment_id, deliberation, about.rulebook)
            for rank, treatment_id in enumerate(ranking, start=1)
        ),
        selected=tuple(
            SelectedAction(
                slot=one.slot,
                placement=one.placement,
                action_id=one.action_id,
                treatment_id=one.treatment_id,
                assignee=assignee,
            )
            for one, assignee in zip(record.selected, record.assignees or repeat(None), strict=False)
        ),
        no_action=NoAction(net_value=0.0, chosen=not record.selected),
        funnel=_funnel(record.candidates),
        dropped=_dropped(record.candidates, about.failing or {}),
        experiment=ExperimentArm(arm=record.arm, experiment_id=record.experiment_id, holdout=holdout),
        versions=Versions(
            policy=record.versions["policy"],
            bundle=record.versions.get("bundle"),
            stall=record.versions.get("stall"),
            uplift=record.versions.get("uplift"),
            features=record.versions["features"],
            prices=record.versions.get("prices"),
            service=record.versions["service"],
        ),
        features=_freshness(record, deliberation),
        degraded=record.degraded,
        latency_ms=record.latency_us / 1000,
    )


def _standing(record: DecisionRecord, deliberation: Deliberation, rulebook: Rulebook) -> JourneyStanding:
    return JourneyStanding(
        journey_id=record.journey_id,
        stage=record.stage,
        state=record.state,
        stall_propensity=if_finite(record.stall_propensity),
        horizon_days=rulebook.journey.horizon / MICROSECONDS_PER_DAY,
        abandon_probability=if_finite(record.abandon_probability),
        expected_days_to_progress=if_finite(record.expected_days_to_progress),
        benign_wait=if_finite(record.benign_wait),
        lead_class=deliberation.situation.lead_class,
    )


def _ranked_action(rank: int, treatment_id: str, deliberation: Deliberation, rulebook: Rulebook) -> RankedAction:
    candidate = deliberation.candidate_by_treatment[treatment_id]
    factors = deliberation.factors[treatment_id]
    action = rulebook.catalogue.by_id[candidate.action_id]
    treatment = rulebook.catalogue.treatment_by_id[treatment_id]
    choice = deliberation.choice
    is_first = treatment_id == choice.treatment_id
    return RankedAction(
        rank=rank,
        action_id=candidate.action_id,
        treatment_id=treatment_id,
        channel=candidate.channel,
        issue=action.issue,
        group=action.group,
        response_probability=if_finite(factors.control_response + factors.uplift) if factors.is_binary else None,
        control_response_probability=if_finite(factors.control_response) if factors.is_binary else None,
        uplift=if_finite(factors.uplift),
        uplift_interval=_interval(factors.uplift, factors.sigma),
        net_value=if_finite(candidate.net_value),
        net_value_interval=_interval(candidate.net_value, factors.net_value_sigma),
        currency=rulebook.taxonomy.currency,
        priority=if_finite(candidate.priority),
        factors=_wire_factors(factors),
        selection_probability=candidate.selection_probability,
        explored=is_first and choice.how in ("explored", "random"),
        reasons=reason_codes(
            deliberation.situation,
            factors,
            effect_source=candidate.effect_source,
            channel=candidate.channel,
            choice=choice if is_first else None,
        ),
        talking_points=treatment.talking_points,
        disclosures=action.disclosures,
    )


def _wire_factors(factors: NetValueFactors) -> Factors:
    return Factors(
        value=factors.value,
        contact_cost=factors.contact_cost,
        incentive_cost=factors.incentive_cost,
        fatigue_cost=factors.fatigue_cost,
        channel_price=factors.channel_price,
        budget_price=factors.budget_price,
        context_weight_pct=factors.context_weight_pct,
        lever_pct=factors.lever_pct,
    )


def _funnel(candidates: tuple[Candidate, ...]) -> Funnel:
    dropped = [candidate.dropped for candidate in candidates]
    left = len(dropped) - 1  # doing nothing is no action, and is never dropped
    counts = {}
    for name, stage in _FUNNEL:
        left -= dropped.count(stage)  # type: ignore[arg-type]  # the stages of the table are drop stages
        counts[name] = left
    return Funnel(**counts)


def _dropped(
    candidates: tuple[Candidate, ...], failing: Mapping[str, Sequence[tuple[DropStage, str]]]
) -> tuple[DroppedAction, ...]:
    """The dropped candidates by action: the rules of the stage that dropped each, then those of the other stages."""
    rows: dict[tuple[str, DropStage, str], None] = {}
    for candidate in candidates:
        if (dropped := candidate.dropped) is not None:
            for rule_id in candidate.rule_ids:
                rows[candidate.action_id, dropped, rule_id] = None
            for stage, rule_id in failing.get(candidate.treatment_id, ()):
                rows[candidate.action_id, stage, rule_id] = None
    return tuple([DroppedAction(action_id=action, stage=stage, rule_id=rule) for action, stage, rule in rows])


def _freshness(record: DecisionRecord, deliberation: Deliberation) -> FeatureFreshness:
    # A state behind the log is rebuilt before it is read: nothing stale is ever served.
    age = (record.as_of - record.last_event_at) / 1_000_000 if record.last_event_at else None
    return FeatureFreshness(as_of=dump_timestamp(record.as_of), age_seconds=age, stale=(), missing=deliberation.missing)


def _interval(center: float, sigma: float) -> tuple[float, float] | None:
    low, high = interval(center, sigma)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
