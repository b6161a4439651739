"""What can be read back and what batches answer: shapes on the wire. Numbers that are not known are null."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from features.events import dump_timestamp
from models.decision import Candidate, DecisionRecord, Selected
from models.records import Stored
from models.unknown_numbers import if_finite
from serving.customer_views import OutcomeView
from serving.problems import FieldError, ProblemDetails
from serving.schemas import DecisionAnswer, Timestamp


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a batch that was refused, and why."""

    index: int
    errors: tuple[FieldError, ...]


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: ``accepted + duplicate + rejected`` is what was sent. Everything accepted is durable.

    Attributes:
        duplicate: items that were known already; nothing changed.
        rejections: every rejected item by its index in the batch.
        degraded: what could not be brought up to date yet; nothing accepted is lost.
    """

    accepted: int
    duplicate: int
    rejected: int
    rejections: tuple[Rejection, ...]
    degraded: tuple[str, ...]


class EventsAnswer(BatchAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a batch of events, and the decision that was asked for with it.

    Attributes:
        duplicate: items that were known already; nothing changed.
        rejections: every rejected item by its index in the batch.
        degraded: what could not be brought up to date yet; nothing accepted is lost.
        decision: the answer of `POST /v1/decisions` for the customer; only with `?decide=true`.
        decision_problem: why there is none though it was asked for. The events are safe: send the batch again.
    """

    decision: DecisionAnswer | None = None
    decision_problem: ProblemDetails | None = None


class EventsAnswerOnWire(BatchAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """``EventsAnswer`` as it is sent: the bytes of the decision are not parsed again."""

    decision: msgspec.Raw | None = None
    decision_problem: msgspec.Raw | None = None


class OutcomesAnswer(BatchAnswer, frozen=True, kw_only=True):
    """What became of a batch of exposures and outcomes.

    Attributes:
        duplicate: items that were known already; nothing changed.
        rejections: every rejected item by its index in the batch.
        degraded: what could not be brought up to date yet; nothing accepted is lost.
        late: indices of outcomes that happened after their reward window. They are kept, and count as no response.
    """

    late: tuple[int, ...]


class PersonAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who somebody is after a link or its end, which is on disk.

    Attributes:
        customer_id: the canonical id of the customer that was named.
        linked_ids: the other ids that are theirs, now or for some time.
        status: `duplicate` where it was known already, and nothing changed.
        degraded: what could not be brought up to date yet; the link is not lost.
    """

    customer_id: str
    linked_ids: tuple[str, ...]
    status: Literal["accepted", "duplicate"]
    degraded: tuple[str, ...]


class LookupMatch(msgspec.Struct, frozen=True, kw_only=True):
    """One person that was found.

    Attributes:
        customer_id: the canonical id.
        linked_ids: the other ids that are theirs, now or for some time.
    """

    customer_id: str
    linked_ids: tuple[str, ...]


class LookupAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody whose identifier has the value that was asked for.

    Attributes:
        name: the identifier.
        matches: by canonical id; empty where nobody was found.
    """

    name: str
    matches: tuple[LookupMatch, ...]


class CandidateView(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of a recorded decision; numbers are null where it was not scored."""

    action_id: str
    treatment_id: str
    channel: str | None
    dropped: str | None
    rule_ids: tuple[str, ...]
    control_response: float | None
    uplift: float | None
    sigma: float | None
    effect_source: str
    outcome: str | None
    value: float | None
    contact_cost: float | None
    incentive_cost: float | None
    fatigue_cost: float | None
    channel_price: float | None
    budget_price: float | None
    context_weight_pct: float
    lever_pct: float
    net_value: float | None
    priority: float | None
    selection_probability: float
    arm_selection_probability: float


class SelectedView(msgspec.Struct, frozen=True, kw_only=True):
    """One filled slot of a recorded decision.

    Attributes:
        slot: 1 for what was chosen first.
        conditional_probability: probability of it here, given the arm and the slots before it; null where unknown.
    """

    slot: int
    placement: str | None
    action_id: str
    treatment_id: str
    conditional_probability: float | None


class ContactView(msgspec.Struct, frozen=True, kw_only=True):
    """A contact, or a live lease on one, that the contact rules counted."""

    action_id: str
    channel: str
    at: str
    is_lease: bool


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a decision.

    Attributes:
        request: the request that was decided, without fields that had their default; null for a decision that was
            imported.
        customer_id: the canonical id of whom was decided on.
        linked_ids: the customer's other ids whose events, contacts and consents counted.
        vector: the features as the models saw them, in the order of the feature set.
        features: the same by name; null where the feature set has changed since.
        attributes: the customer's attributes as rules saw them, without personal ones.
        holdings: products held; null where nothing was known of the customer.
        consents: state by consent as the contact rules saw them.
        contacts: what the contact rules counted, oldest first.
        candidates: the full candidate set in catalogue order, ``no_action`` last.
        selected: the filled slots, in order of choice.
        contact_responses: what came back for each of `contacts`: `positive`, `negative`, `neutral`, or nothing yet,
            empty; an empty list where the contact rules did not ask.
        capacity_used: what was taken of each capacity and budget, by its id, as the capacity rules saw it.
        assignees: who was to handle each selected slot; an empty list where no slot needs anybody.
        epsilon: share that explored while a regret budget held it down; null where it was the policy's own.
    """

    source: str
    request_id: str
    request_hash: str
    request: msgspec.Raw
    customer_id: str
    journey_id: str
    mode: str
    decided_at: str
    as_of: str
    expires_at: str
    arm: str
    experiment_id: str
    arm_probabilities: dict[str, float]
    versions: dict[str, str]
    vector: tuple[float | None, ...]
    features: dict[str, float | None] | None
    log_position: int
    last_event_at: str | None
    attributes: dict[str, str | float | bool]
    holdings: tuple[str, ...] | None
    consents: dict[str, str]
    contacts: tuple[ContactView, ...]
    time_zone: str | None
    stage: str | None
    state: str | None
    stall_propensity: float | None
    abandon_probability: float | None
    expected_days_to_progress: float | None
    benign_wait: float | None
    candidates: tuple[CandidateView, ...]
    selected: tuple[SelectedView, ...]
    explored: bool
    activated: bool
    send_id: str | None
    degraded: tuple[str, ...]
    latency_us: int
    linked_ids: tuple[str, ...]
    contact_responses: tuple[str, ...]
    capacity_used: dict[str, float]
    assignees: tuple[str | None, ...]
    epsilon: float | None


class StoredDecisionOnWire(msgspec.Struct, frozen=True, kw_only=True):
    """``StoredDecision`` as it is sent: the bytes of the answer are not parsed again."""

    decision_id: str
    answer: msgspec.Raw
    record: RecordView
    outcomes: tuple[OutcomeView, ...] | None


class StoredDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A stored decision: the very answer that was given, and its record.

    Attributes:
        answer: None for a decision that was imported.
        outcomes: what has come of it, by every outcome that its journey declares; None where the event log did not
            answer, empty of a shadow decision.
    """

    decision_id: str
    answer: DecisionAnswer | None
    record: RecordView
    outcomes: tuple[OutcomeView, ...] | None


class ActivatedContact(msgspec.Struct, frozen=True, kw_only=True):
    """One contact of a decision, as it counts now.

    Attributes:
        status: `confirmed`: it counts under the contact limits.
        at: the moment that it counts from.
        was_counted_before: by an earlier activation, an exposure, or the decision itself; nothing changed.
    """

    slot: int
    placement: str | None
    action_id: str
    treatment_id: str
    channel: str
    status: Literal["confirmed"]
    at: Timestamp
    was_counted_before: bool


class Activation(msgspec.Struct, frozen=True, kw_only=True):
    """The contacts of a decision that were asked for, all of which count."""

    decision_id: str
    contacts: tuple[ActivatedContact, ...]


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    live: bool


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests can be served.

    Attributes:
        ready: the stores take work.
        bundles: label of the bundle that decides for each journey; null where decisions say ``model_missing``.
        configuration: version of all configuration files in force together.
        configuration_refused: the files hold something else that may not be put in force; the log says why.
        notes: what an operator should look at before it becomes a problem.
    """

    ready: bool
    bundles: dict[str, str | None]
    configuration: str
    configuration_refused: bool
    notes: tuple[str, ...] = ()


def decision_view(
    stored: Stored, *, feature_names: tuple[str, ...] | None, outcomes: tuple[OutcomeView, ...] | None = None
) -> StoredDecisionOnWire:
    """A stored decision to be read.

    Args:
        stored: the decision.
        feature_names: names of the vector's numbers, where they are known.
        outcomes: what has come of it, where that is known.
    """
    return StoredDecisionOnWire(
        decision_id=stored.record.decision_id,
        answer=msgspec.Raw(stored.answer or b"null"),
        record=_record_view(stored.record, feature_names),
        outcomes=outcomes,
    )


def _record_view(record: DecisionRecord, feature_names: tuple[str, ...] | None) -> RecordView:
    vector = tuple(if_finite(number) for number in record.vector)
    is_named = feature_names is not None and len(feature_names) == len(vector)
    return RecordView(
        source=record.source,
        request_id=record.request_id,
        request_hash=record.request_hash,
        request=msgspec.Raw(record.request or b"null"),
        customer_id=record.customer_id,
        journey_id=record.journey_id,
        mode=record.mode,
        decided_at=dump_timestamp(record.decided_at),
        as_of=dump_timestamp(record.as_of),
        expires_at=dump_timestamp(record.expires_at),
        arm=record.arm,
        experiment_id=record.experiment_id,
        arm_probabilities=record.arm_probabilities,
        versions=record.versions,
        vector=vector,
        features=dict(zip(feature_names or (), vector, strict=True)) if is_named else None,
        log_position=record.log_position,
        last_event_at=dump_timestamp(record.last_event_at) if record.last_event_at else None,
        attributes=record.attributes,
        holdings=record.holdings,
        consents=record.consents,
        contacts=tuple(
            ContactView(action_id=one.action_id, channel=one.channel, at=dump_timestamp(one.at), is_lease=one.is_lease)
            for one in record.contacts
        ),
        time_zone=record.time_zone,
        stage=record.stage,
        state=record.state,
        stall_propensity=if_finite(record.stall_propensity),
        abandon_probability=if_finite(record.abandon_probability),
        expected_days_to_progress=if_finite(record.expected_days_to_progress),
        benign_wait=if_finite(record.benign_wait),
        candidates=tuple(CandidateView(**_known_fields(candidate)) for candidate in record.candidates),
        selected=tuple(SelectedView(**_known_fields(selected)) for selected in record.selected),
        explored=record.explored,
        activated=record.activated,
        send_id=record.send_id,
        degraded=record.degraded,
        latency_us=record.latency_us,
        linked_ids=record.linked_ids,
        contact_responses=record.contact_responses,
        capacity_used=record.capacity_used,
        assignees=record.assignees,
        epsilon=if_finite(record.epsilon),
    )


def _known_fields(struct: Candidate | Selected) -> dict[str, Any]:
    fields = msgspec.structs.asdict(struct)
    return {name: if_finite(value) if isinstance(value, float) else value for name, value in fields.items()}
