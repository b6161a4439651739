"""Requests and answers of the doors: their shape on the wire, and nothing of how they are decided.

Text of the wire stays text here (timestamps are ISO 8601 with an offset); unknown numbers are ``None``, never zero.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from features.events import MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS, parse_timestamp

MAX_ACTIONS: Final = 50
MAX_PLACEMENTS: Final = 20
MAX_NAMES: Final = 500
MAX_DEADLINE_MS: Final = 60_000

Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]
Timestamp: TypeAlias = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Scalar: TypeAlias = str | float | bool | None
Direction = Literal["outbound", "inbound"]
RequestMode = Literal["live", "shadow", "dry_run"]
Explain = Literal["none", "stages", "factors"]
Names: TypeAlias = Annotated[tuple[Text, ...], Meta(max_length=MAX_NAMES)]
Interval: TypeAlias = tuple[float, float]


class CandidateFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which actions may be candidates.

    Attributes:
        include: action ids; where given, only these.
        exclude: action ids never to be candidates.
        issues: where given, only actions of these issues.
    """

    include: Names = ()
    exclude: Names = ()
    issues: Names = ()


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question: what is the next best action for this customer?

    Attributes:
        request_id: the idempotency key; the doors make one where the caller gave none.
        customer_id: any id of theirs.
        channel: where given, only treatments of this channel are candidates.
        direction: ``outbound``: we reach out; ``inbound``: the customer is here, and what is shown may not be seen.
        placements: places to fill, ``channel/name``, each by an action of its channel.
        send_id: one send of a marketing tool, which may ask several times for it.
        journey_id: the journey to decide in; None where the configuration has only one.
        context: facts of the moment, for rules ``context:<name>``; the models see those that the taxonomy declares.
        max_actions: how many ranked actions the answer lists at most.
        deadline_ms: how long the caller will wait; None for the service's default.
        mode: ``live``; ``shadow``: recorded, and no contact counts; ``dry_run``: not even recorded.
        as_of: an earlier moment to decide at, ISO 8601 with an offset; only with mode ``dry_run``.
        activate: count the contacts of this decision from its commit on.
        explain: with ``stages`` or ``factors``, ``dropped`` lists the rules of all stages that stand against a
            candidate, not only of the first; the factors of what is ranked are always told.
        require_known: refuse a customer of whom nothing is known.
    """

    request_id: Text
    customer_id: Text
    channel: Text | None = None
    direction: Direction = "outbound"
    placements: Annotated[tuple[Text, ...], Meta(max_length=MAX_PLACEMENTS)] = ()
    send_id: Text | None = None
    journey_id: Text | None = None
    context: dict[str, Scalar] = msgspec.field(default_factory=dict)
    candidates: CandidateFilter = CandidateFilter()
    max_actions: Annotated[int, Meta(ge=1, le=MAX_ACTIONS)] = 3
    deadline_ms: Annotated[int, Meta(ge=1, le=MAX_DEADLINE_MS)] | None = None
    mode: RequestMode = "live"
    as_of: Timestamp | None = None
    activate: bool = True
    explain: Explain = "none"
    require_known: bool = False

    @property
    def as_of_at(self) -> int | None:
        """``as_of`` in microseconds since the epoch."""
        return None if self.as_of is None else parse_timestamp(self.as_of)


class JourneyStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Where the customer stands in the journey, and what is expected; None where it is not known.

    Attributes:
        expected_days_to_progress: mean days until progress, counting no more than ``horizon_days``.
        benign_wait: of a stalled customer, the probability of progress without any contact.
        lead_class: how good a lead the customer is by the policy's criteria; null where it declares none.
    """

    journey_id: str
    stage: str | None
    state: str | None
    stall_propensity: float | None
    horizon_days: float
    abandon_probability: float | None
    expected_days_to_progress: float | None
    benign_wait: float | None
    lead_class: str | None = None


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """What the net value and the priority were made of: money, and percentages for the two levers."""

    value: float | None
    contact_cost: float
    incentive_cost: float
    fatigue_cost: float
    channel_price: float
    budget_price: float
    context_weight_pct: float
    lever_pct: float


class RankedAction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action of the ranking.

    Attributes:
        selection_probability: probability that it was chosen for slot 1, marginal over the experiment's arms.
        explored: it stands first because it was drawn, not because it ranked first.
        reasons: codes, the strongest first.
        disclosures: what must be said with it; left out where there is nothing to say.
    """

    rank: int
    action_id: str
    treatment_id: str
    channel: str | None
    issue: str
    group: str
    response_probability: float | None
    control_response_probability: float | None
    uplift: float | None
    uplift_interval: Interval | None
    net_value: float | None
    net_value_interval: Interval | None
    currency: str
    priority: float | None
    factors: Factors
    selection_probability: float
    explored: bool
    reasons: tuple[str, ...]
    talking_points: tuple[str, ...]
    disclosures: tuple[str, ...] = ()


class SelectedAction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One filled slot.

    Attributes:
        slot: 1 for what was chosen first, to which all selection probabilities refer.
        placement: the place that it fills; null where the request names none.
        treatment_id: how it is said there; left out in answers from before it was told.
        assignee: the person who should handle it; left out where it is nobody in particular.
    """

    slot: int
    placement: str | None
    action_id: str
    treatment_id: str | None = None
    assignee: str | None = None


class NoAction(msgspec.Struct, frozen=True, kw_only=True):
    """The candidate that is always there and is worth exactly 0."""

    net_value: float
    chosen: bool


class Funnel(msgspec.Struct, frozen=True, kw_only=True):
    """How many candidates were left after each stage; ``no_action`` is not counted."""

    catalogue: int
    eligible: int
    applicable: int
    suitable: int
    contactable: int
    capacity: int
    scored: int


class DroppedAction(msgspec.Struct, frozen=True, kw_only=True):
    """An action that left the funnel, where, and by which rule."""

    action_id: str
    stage: str
    rule_id: str


class ExperimentArm(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the experiment that the customer is in."""

    arm: str
    experiment_id: str
    holdout: bool


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """What the decision was made with; None for what was missing."""

    policy: str
    bundle: str | None
    stall: str | None
    uplift: str | None
    features: str
    prices: str | None
    service: str


class FeatureFreshness(msgspec.Struct, frozen=True, kw_only=True):
    """How fresh the features were.

    Attributes:
        as_of: the moment they were read at.
        age_seconds: since the customer's newest event; None where there is none.
        stale: states that had not folded all events of the log.
        missing: features whose value is unknown.
    """

    as_of: Timestamp
    age_seconds: float | None
    stale: tuple[str, ...]
    missing: tuple[str, ...]


class DecisionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The ranked next best action, and everything needed to understand it."""

    decision_id: str
    request_id: str
    decided_at: Timestamp
    expires_at: Timestamp
    customer_id: str
    journey: JourneyStanding
    ranked_actions: tuple[RankedAction, ...]
    selected: tuple[SelectedAction, ...]
    no_action: NoAction
    funnel: Funnel
    dropped: tuple[DroppedAction, ...]
    experiment: ExperimentArm
    versions: Versions
    features: FeatureFreshness
    degraded: tuple[str, ...]
    latency_ms: float


class EventDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event as it is sent; its source is the key's own.

    Attributes:
        event_id: with the source, the identity: sent twice it counts once.
        kind: a kind of the taxonomy.
        occurred_at: ISO 8601 with an offset.
        channel: a channel of the taxonomy.
        sequence: order among equal times; where it is missing, the position in the batch.
        facts: the facts that the taxonomy allows for the kind.
        text: feedback as the customer said it.
    """

    event_id: Text
    customer_id: Text
    kind: Text
    occurred_at: Timestamp
    channel: Text | None = None
    sequence: int | None = None
    facts: dict[str, str | float | bool] | None = None
    text: Annotated[str, Meta(max_length=MAX_TEXT_CHARACTERS)] | None = None


class EventBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events to take in; each is accepted or rejected by itself."""

    events: Annotated[tuple[EventDocument, ...], Meta(min_length=1)]


class LinkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An alias belongs to a customer: a cookie or a device to who logged in, or one customer to another.

    Attributes:
        alias: the id that turned out to be the customer's.
        customer_id: whose it is.
        valid_from: the alias's events from this moment on are the customer's; by default all of them, or where the
            alias was another customer's before, those from `occurred_at` on.
        event_id: with the key's source, the identity: sent twice it counts once. By default a new one.
        occurred_at: when it turned out; by default now.
    """

    alias: Text
    customer_id: Text
    valid_from: Timestamp | None = None
    event_id: Text | None = None
    occurred_at: Timestamp | None = None


class UnlinkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An alias does not belong to a customer.

    Attributes:
        alias: the id.
        customer_id: whose it was said to be.
        valid_until: it was the customer's until this moment; by default it never was, and the link is withdrawn.
        event_id: with the key's source, the identity: sent twice it counts once. By default a new one.
        occurred_at: when it turned out; by default now.
    """

    alias: Text
    customer_id: Text
    valid_until: Timestamp | None = None
    event_id: Text | None = None
    occurred_at: Timestamp | None = None


class ExposureDocument(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="exposure", tag_field="type"
):
    """An action of a decision was really shown or sent.

    Attributes:
        action_id: which one; the first selected one where neither it nor the treatment is named.
        outcome_event_id: identity of this exposure; by default there is one for each decision and treatment.
    """

    decision_id: Text
    occurred_at: Timestamp
    action_id: Text | None = None
    treatment_id: Text | None = None
    outcome_event_id: Text | None = None


class OutcomeDocument(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="outcome", tag_field="type"
):
    """An outcome of a decision came back.

    Attributes:
        outcome_id: an outcome that the decision's journey declares.
        value: 1 or 0 for a binary outcome, the amount for a continuous one.
        outcome_event_id: identity of this outcome; by default there is one for each decision and outcome id.
    """

    decision_id: Text
    occurred_at: Timestamp
    outcome_id: Text
    value: float
    outcome_event_id: Text | None = None


class ActivationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which contacts of a decision to count; all of them where nothing is named.

    Attributes:
        action_id: an action that the decision selected.
        treatment_id: a treatment that it selected.
        slots: slots that it filled.
    """

    action_id: Text | None = None
    treatment_id: Text | None = None
    slots: Annotated[tuple[int, ...], Meta(min_length=1, max_length=MAX_ACTIONS)] | None = None


class OutcomeBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exposures and outcomes to take in; each is accepted or rejected by itself."""

    outcomes: Annotated[tuple[ExposureDocument | OutcomeDocument, ...], Meta(min_length=1)]


def canonical_request(request: DecisionRequest) -> bytes:
    """Canonical JSON of a request: what differs from the default, sorted keys. Equal questions have equal bytes.

    Defaults are left out so that a request asked again after an upgrade that added a field is still the same request.
    """
    asked = {name: getattr(request, name) for name in DecisionRequest.__struct_fields__}
    return _ENCODER.encode({name: value for name, value in asked.items() if value != getattr(_DEFAULTS, name)})


def decode_canonical_request(data: bytes) -> DecisionRequest:
    """The request that ``canonical_request`` wrote."""
    return msgspec.json.decode(data, type=DecisionRequest)


_ENCODER = msgspec.json.Encoder(order="sorted")
_DEFAULTS = DecisionRequest(request_id="", customer_id="")
