"""What one decision is made from, and the record of it: everything that was found for a request, put down once.

Nothing here reads a store: it is all in ``Asked`` by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from features.profile import time_zone_of
from models.asked import request_hash, stated_context
from models.capacity import slot_assignees
from models.decision import DEADLINE, CountedContact, DecisionRecord
from models.deliberation import Deliberation, Inputs, Rulebook
from models.experiment import arm_of, arm_probabilities
from models.funnel import Question
from models.policy import Arm, ContactPolicy
from models.records import CustomerRecords
from models.scoring import Scorer
from serving.observe import Observed
from serving.prices import Charged
from serving.schemas import DecisionRequest, canonical_request

MODEL_MISSING: Final = "model_missing"
MODEL_NOT_FINITE: Final = "model_not_finite"
CHALLENGER_MISSING: Final = "challenger_missing"
RECORDS_SLOW: Final = "record_store_slow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Who asks, and when.

    Attributes:
        source: from the caller's key.
        now: microseconds since the epoch.
        arrived: when the request came, by the timer, in microseconds; from then on its deadline counts.
        may_be_known: the request id may have been used before; not where it was made just now.
    """

    source: str
    now: int
    arrived: int
    may_be_known: bool = True


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The bundle that decides for a journey.

    Attributes:
        label: ``name@alias/version``.
    """

    scorer: Scorer
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request with what was found for it: what stays the same however often it has to be decided again.

    Attributes:
        now: the moment of the decision.
        at: the moment that it is decided as of.
        served: the champion.
        challenger: where the policy gives it a share.
    """

    request: DecisionRequest
    asking: Asking
    rulebook: Rulebook
    observed: Observed
    now: int
    at: int
    served: ServedModel | None
    challenger: ServedModel | None
    charged: Charged
    epsilon: float | None
    decision_id: str


def inputs_of(asked: Asked, records: CustomerRecords, question: Question) -> Inputs:
    """What a request is decided from, with the records and the question of this attempt."""
    request, rulebook, observed = asked.request, asked.rulebook, asked.observed
    person = observed.person
    return Inputs(
        decision_id=asked.decision_id,
        vector=observed.vector,
        attributes=rulebook.taxonomy.without_personal(observed.profile.attributes),
        holdings=observed.profile.holdings if observed.is_known else None,
        context=stated_context(request),
        channel=request.channel,
        records=records,
        question=question,
        time_zone=time_zone_of(observed.profile, rulebook.taxonomy.time_zone),
        arm=arm_of(person.customer_id, rulebook.policy.experiment, linked_ids=person.linked_ids),
        n_linked=len(person.linked_ids),
        epsilon=asked.epsilon,
        prices=asked.charged.prices,
    )


def record_of(
    asked: Asked, inputs: Inputs, deliberation: Deliberation, *, service: Mapping[str, str], at_us: int, is_slow: bool
) -> DecisionRecord:
    """The record of a decision, before it is committed.

    Args:
        asked: the request with what was found for it.
        inputs: what it was decided from.
        deliberation: how.
        service: versions that every decision names beside those of its rulebook.
        at_us: now, by the timer that the request's arrival was read from, microseconds.
        is_slow: the record store is slow at present.
    """
    request, rulebook, observed = asked.request, asked.rulebook, asked.observed
    latency_us = at_us - asked.asking.arrived
    body = canonical_request(request)
    degraded = [*observed.degraded]
    is_challenged = inputs.arm == "challenger"
    if is_challenged and asked.challenger is None:
        degraded.append(CHALLENGER_MISSING)
    deciding = asked.challenger if is_challenged and asked.challenger is not None else asked.served
    if deciding is None:
        degraded.append(MODEL_MISSING)
    if not deliberation.is_finite:
        degraded.append(MODEL_NOT_FINITE)
    if inputs.question.out_of_time:
        degraded.append(DEADLINE)
    if is_slow:
        degraded.append(RECORDS_SLOW)
    return DecisionRecord(
        decision_id=inputs.decision_id,
        source=asked.asking.source,
        request_id=request.request_id,
        request_hash=request_hash(body),
        request=body,
        customer_id=observed.person.customer_id,
        journey_id=rulebook.journey.id,
        mode=request.mode,
        decided_at=asked.now,
        as_of=inputs.question.at,
        expires_at=asked.now + rulebook.policy.ttl(outbound=request.direction == "outbound"),
        arm=inputs.arm,
        experiment_id=rulebook.policy.experiment.id,
        arm_probabilities=_by_name(arm_probabilities(rulebook.policy.experiment, n_linked=inputs.n_linked)),
        versions=_versions(asked, deciding, service),
        vector=tuple(inputs.vector.tolist()),
        log_position=observed.log_position,
        last_event_at=observed.last_event_at,
        attributes=dict(inputs.attributes),
        holdings=None if inputs.holdings is None else tuple(sorted(inputs.holdings)),
        consents=dict(inputs.records.consents),
        contacts=_counted(inputs.records),
        time_zone=inputs.time_zone,
        stage=deliberation.situation.stage,
        state=deliberation.situation.state,
        stall_propensity=deliberation.stall.stall_propensity,
        abandon_probability=deliberation.stall.abandon_probability,
        expected_days_to_progress=deliberation.stall.expected_days_to_progress,
        benign_wait=deliberation.stall.benign_wait,
        candidates=deliberation.candidates,
        selected=deliberation.selected,
        explored=deliberation.choice.how in ("explored", "random"),
        activated=request.activate and request.mode == "live",
        send_id=request.send_id,
        degraded=tuple(degraded),
        latency_us=latency_us,
        linked_ids=observed.person.linked_ids,
        capacity_used=dict(inputs.records.capacity_used),
        assignees=slot_assignees(deliberation.selected, inputs.records),
        epsilon=math.nan if inputs.epsilon is None else inputs.epsilon,
        contact_responses=_responses(inputs.records, rulebook.policy.contact_policy),
    )


def _versions(asked: Asked, deciding: ServedModel | None, service: Mapping[str, str]) -> dict[str, str]:
    rulebook = asked.rulebook
    versions = {**service, **rulebook.versions, "features": rulebook.feature_set.version}
    if deciding is not None:
        versions |= {"bundle": deciding.label, **deciding.scorer.bundle.parts}
    # Both bundles stand behind the selection probabilities, whichever decided.
    if asked.challenger is not None:
        versions["challenger"] = asked.challenger.label
        if asked.served is not None:
            versions["champion"] = asked.served.label
    return versions


def _by_name(arms: Mapping[Arm, float]) -> dict[str, float]:
    return {str(arm): share for arm, share in arms.items()}


def _counted(records: CustomerRecords) -> tuple[CountedContact, ...]:
    return tuple(
        CountedContact(action_id=one.action_id, channel=one.channel, at=one.at, is_lease=one.status == "lease")
        for one in records.contacts
    )


def _responses(records: CustomerRecords, policy: ContactPolicy) -> tuple[str, ...]:
    """What came back for each contact; nothing where no rule asks for it."""
    return tuple(one.response for one in records.contacts) if policy.suppressions else ()
