"""Customers as callers read them: timeline, standing and context, and what came of decisions. Shapes on the wire."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from serving.decision_search import FoundDecision
from serving.schemas import Timestamp

DEFAULT_TIMELINE: Final = 100
LARGEST_TIMELINE: Final = 500


class OutcomeView(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome of one decision, as it is known now.

    Attributes:
        status: `pending` while the reward window lasts and nothing has settled it.
        by_default: a `no` that nobody told: the window ended without anything.
        value: 0 or 1 of a binary outcome, the sum so far of a continuous one.
        window_ends_at: what happens later counts for nothing.
        settled_at: when it could no longer change; null while it can.
        late: how many outcomes were sent for this decision that happened after the window.
    """

    outcome_id: str
    status: Literal["pending", "yes", "no"]
    by_default: bool
    value: float
    window_ends_at: Timestamp
    settled_at: Timestamp | None
    late: int


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a customer stands in one journey, and what is expected; null where it is not known.

    Attributes:
        status: `never` entered, `open`, `reached` the goal, `exited` or `abandoned`.
        stage: the stage, or the goal.
        state: how they are stuck, `ACTIVE` where no declared state holds; null while the journey is not open.
        stall_state: the stage's name for being stuck; null while not stalled.
        since: when the stage was entered.
        dwell_hours: since then.
        stall_propensity: probability of no progress within `horizon_days`.
        expected_days_to_progress: mean days until progress, counting no more than `horizon_days`.
        benign_wait: of a stalled customer, the probability of progress without any contact.
    """

    journey_id: str
    status: str
    stage: str | None
    state: str | None
    stall_state: str | None
    since: Timestamp | None
    dwell_hours: float | None
    stall_propensity: float | None
    horizon_days: float
    abandon_probability: float | None
    expected_days_to_progress: float | None
    benign_wait: float | None


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a customer, or that was decided for them.

    Attributes:
        type: `event`, `exposure`, `outcome` or `decision`.
        at: when.
        customer_id: the id that it came under, one of the customer's.
        source: who told it, or asked for the decision.
        event_id: with the source, the identity of an event; null of a decision.
        kind: of the event.
        title: of its kind, for people.
        facts: key facts, personal ones left out.
        masked: names of facts that this key may not see.
        decision: what was decided.
        outcomes: what has come of it.
    """

    type: Literal["event", "exposure", "outcome", "decision"]
    at: Timestamp
    customer_id: str
    source: str
    event_id: str | None = None
    kind: str | None = None
    title: str | None = None
    channel: str | None = None
    facts: dict[str, str | float | bool] = {}
    masked: tuple[str, ...] = ()
    decision: FoundDecision | None = None
    outcomes: tuple[OutcomeView, ...] = ()


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a customer apart from what happened.

    Attributes:
        attributes: those that are known, personal ones left out.
        masked: names of those that this key may not see.
        holdings: products held.
        consents: newest state by consent, as the next decision obeys it.
    """

    attributes: dict[str, str | float | bool]
    masked: tuple[str, ...]
    holdings: tuple[str, ...]
    consents: dict[str, str]


class CustomerJourney(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's path over all channels, and where it stands now.

    Attributes:
        customer_id: the canonical id.
        linked_ids: the other ids that are theirs, now or for some time.
        standings: in every declared journey.
        timeline: newest first.
        next_cursor: where to go on; null at the end.
        degraded: what was missing, or had to be done the slow way.
    """

    customer_id: str
    linked_ids: tuple[str, ...]
    profile: ProfileView
    standings: tuple[Standing, ...]
    timeline: tuple[TimelineEntry, ...]
    next_cursor: str | None
    degraded: tuple[str, ...]


class LastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One of the last things that happened."""

    kind: str
    channel: str | None
    occurred_at: Timestamp


class NextBestAction(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision now would choose.

    Attributes:
        disclosures: what must be said with it.
    """

    journey_id: str
    action_id: str
    treatment_id: str
    channel: str | None
    issue: str
    net_value: float | None
    currency: str
    uplift: float | None
    response_probability: float | None
    reasons: tuple[str, ...]
    talking_points: tuple[str, ...]
    disclosures: tuple[str, ...]


class CustomerContext(msgspec.Struct, frozen=True, kw_only=True):
    """A customer in short, without anything personal.

    Attributes:
        customer_id: the canonical id.
        linked_ids: the other ids that are theirs, now or for some time.
        standings: in every journey that they ever entered, or in the one asked for.
        last_events: what they did or what was done, newest first.
        events_total: how many such events there are.
        contacts: in the last 30 days, reserved ones included, by channel.
        consents: newest state by consent.
        open_complaint: whether a complaint is not resolved yet; null where that is not known.
        nps_last: what they last answered to how likely they are to recommend us; null where they never did.
        sentiment_last: of their last feedback, from -1 to 1; likewise.
        attributes: those that are known.
        holdings: products held.
        next_best_action: null where nothing is to be done; to act on it, ask for a decision.
        held_out: they are in the part of the experiment that is never contacted.
        degraded: what was missing, or had to be done the slow way.
    """

    customer_id: str
    linked_ids: tuple[str, ...]
    as_of: Timestamp
    standings: tuple[Standing, ...]
    last_events: tuple[LastEvent, ...]
    events_total: int
    contacts: dict[str, int]
    consents: dict[str, str]
    open_complaint: bool | None
    nps_last: float | None
    sentiment_last: float | None
    attributes: dict[str, str | float | bool]
    holdings: tuple[str, ...]
    next_best_action: NextBestAction | None
    held_out: bool
    degraded: tuple[str, ...]
