"""The decision record: everything that one answer was made of, in versioned canonical bytes.

This one record feeds replay, off-policy evaluation, uplift training, drift, audit, reports and erase. The format is
frozen by golden files: a new version adds a decoder and never changes an old one.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Final, Literal

import msgspec
from msgspec import structs

from features.errors import StoreCorrupted
from models.actions import NO_ACTION

RECORD_VERSION: Final = 1
_HEADER: Final = b"HWD"

Mode = Literal["live", "shadow", "dry_run", "imported"]
DropStage = Literal["catalogue", "eligibility", "applicability", "suitability", "contact_policy", "capacity", "scoring"]


# gc=False: these two hold text and numbers only, and tracking them took two thirds of the time to load records.
class Candidate(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One action x treatment x channel of a decision, whether it survived the funnel or not.

    Attributes:
        dropped: the stage of the funnel that dropped it; None for one that was scored.
        rule_ids: every rule that failed, the first of the stage first.
        selection_probability: probability of slot 1, marginal over the experiment's arms.
        arm_selection_probability: the same, given the arm that the customer is in.
        control_response: response without action, p0. NaN where it was not scored; so for all numbers below.
        uplift: response with the action minus p0.
        sigma: one standard deviation of the uplift.
        effect_source: where the uplift came from: ``model``, ``mean``, ``prior`` or ``none``.
        outcome: the declared outcome that response and uplift are about; None where it was not scored.
        net_value: money.
        priority: what the ranking sorts by, money.
        value: money of one more response.
    """

    action_id: str
    treatment_id: str
    channel: str | None
    dropped: DropStage | None = None
    rule_ids: tuple[str, ...] = ()
    selection_probability: float = 0.0
    arm_selection_probability: float = 0.0
    control_response: float = float("nan")
    uplift: float = float("nan")
    sigma: float = float("nan")
    effect_source: str = "none"
    outcome: str | None = None
    value: float = float("nan")
    contact_cost: float = float("nan")
    incentive_cost: float = float("nan")
    fatigue_cost: float = float("nan")
    channel_price: float = float("nan")
    budget_price: float = float("nan")
    context_weight_pct: float = 0.0
    lever_pct: float = 0.0
    net_value: float = float("nan")
    priority: float = float("nan")

    @property
    def is_scored(self) -> bool:
        """Whether it came as far as the arbitration; the numbers of the others are unknown."""
        return not math.isnan(self.priority)


class Selected(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One filled slot.

    Attributes:
        slot: 1 for what was chosen first.
        conditional_probability: probability of it here, given the arm and the slots before it; NaN where unknown.
    """

    slot: int
    placement: str | None
    action_id: str
    treatment_id: str
    conditional_probability: float = float("nan")


class CountedContact(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A contact, or a live lease on one, that the contact rules counted."""

    action_id: str
    channel: str
    at: int
    is_lease: bool


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One decision, with all that it was made from: it can be made again without asking any store.

    Times are microseconds since the epoch, UTC.

    Attributes:
        source: who asked, from the caller's key; with ``request_id`` the idempotency key.
        request_hash: hash of the canonical request body.
        request: the canonical request body, so that it can be decided again.
        as_of: the moment that the features were read at; events strictly before it count.
        customer_id: the canonical id of whom was decided on; what was asked for stands in ``request``.
        arm: the customer's part of the experiment.
        arm_probabilities: probability of each arm, for this customer's population.
        vector: the feature vector as read, in the order of ``versions["features"]``; empty where there was none.
        log_position: position in the event log that the state had folded.
        last_event_at: ``occurred_at`` of the newest event in the state; 0 where there is none.
        attributes: the customer's attributes as rules and reasons saw them; personal ones never are among them.
        holdings: products held, sorted; None where nothing was known of the customer.
        consents: state by consent as the contact rules saw them.
        contacts: what the contact rules counted, oldest first.
        time_zone: the customer's, for quiet hours.
        candidates: the full candidate set in catalogue order, ``no_action`` last.
        explored: slot 1 was drawn, not ranked first.
        activated: contacts are counted from the commit on.
        degraded: what was missing or stale when deciding.
        linked_ids: the customer's other ids whose events, contacts and consents counted, sorted.
        benign_wait: of a stalled customer, the probability of progress without a contact; NaN of others.
        contact_responses: what came back for each of ``contacts``: ``positive``, ``negative``, ``neutral``, or nothing
            yet, ``""``; empty where the contact rules did not ask.
        capacity_used: what was taken of each capacity and budget, by its id, as the capacity rules saw it.
        assignees: who was to handle each selected slot, None where it is nobody in particular; empty where no slot
            needs anybody.
        epsilon: share that explored while a regret budget held it down; NaN where it was the policy's own.
    """

    decision_id: str
    source: str
    request_id: str
    request_hash: str
    request: bytes
    customer_id: str
    journey_id: str
    mode: Mode
    decided_at: int
    as_of: int
    expires_at: int
    arm: str
    experiment_id: str
    arm_probabilities: dict[str, float]
    versions: dict[str, str]
    vector: tuple[float, ...]
    log_position: int
    last_event_at: int
    attributes: dict[str, str | float | bool] = {}
    holdings: tuple[str, ...] | None = None
    consents: dict[str, str] = {}
    contacts: tuple[CountedContact, ...] = ()
    time_zone: str | None = None
    stage: str | None
    state: str | None
    stall_propensity: float
    abandon_probability: float
    expected_days_to_progress: float
    candidates: tuple[Candidate, ...]
    selected: tuple[Selected, ...]
    explored: bool
    activated: bool
    send_id: str | None
    degraded: tuple[str, ...]
    latency_us: int
    linked_ids: tuple[str, ...] = ()
    benign_wait: float = math.nan
    contact_responses: tuple[str, ...] = ()
    capacity_used: dict[str, float] = {}
    assignees: tuple[str | None, ...] = ()
    epsilon: float = math.nan

    @property
    def first(self) -> Candidate:
        """The candidate in slot 1, which is ``no_action`` where no slot was filled."""
        treatment_id = self.selected[0].treatment_id if self.selected else NO_ACTION
        return next(candidate for candidate in self.candidates if candidate.treatment_id == treatment_id)

    @property
    def expected_net_value(self) -> float:
        """Mean net value of slot 1 over the draw and the arms, by the record's own estimates, in money.

        ``sum over scored a of selection_probability(a) * net_value(a)``. What this arm's bundle did not score has no
        estimate here, though another arm's may select it.
        """
        return math.fsum(one.selection_probability * one.net_value for one in self.candidates if one.is_scored)


DEADLINE: Final = "deadline_exceeded"
"""Among what a record calls degraded: time was up before scoring, so no model was asked and nothing chosen."""

_CANDIDATES: Final = DecisionRecord.__struct_fields__.index("candidates")
_FIRST_LATER: Final = DecisionRecord.__struct_fields__.index("linked_ids")
_FIRST_SCORE: Final = Candidate.__struct_fields__.index("control_response")
_before_scores: Final = attrgetter(*Candidate.__struct_fields__[:_FIRST_SCORE])
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(DecisionRecord)


def dump_record(record: DecisionRecord) -> bytes:
    """Canonical bytes of a record: ``HWD``, one byte of version, then MessagePack. NaN survives bit for bit."""
    fields: list[object] = [*structs.astuple(record)]
    # Most candidates may be dropped, and their scores would be most of the record.
    fields[_CANDIDATES] = [one if one.is_scored else _before_scores(one) for one in record.candidates]
    # What came later stands last and is left out where it says nothing: the bytes are those from before there was any.
    while _says_nothing(fields[-1]) and len(fields) > _FIRST_LATER:
        fields.pop()
    return _HEADER + bytes([RECORD_VERSION]) + _ENCODER.encode(fields)


def _says_nothing(value: object) -> bool:
    return math.isnan(value) if isinstance(value, float) else not value


def load_record(data: bytes) -> DecisionRecord:
    """The record that ``dump_record`` wrote.

    Raises:
        StoreCorrupted: the bytes are no record, or of a version that this code does not know.
    """
    if data[:3] != _HEADER or data[3:4] != bytes([RECORD_VERSION]):
        raise StoreCorrupted(f"no decision record of version {RECORD_VERSION}: starts with {data[:4].hex()}")
    try:
        return _DECODER.decode(data[4:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupted(f"decision record cannot be decoded: {error}") from error
