"""The one use case of the hot path: observe the customer, deliberate, record, answer. Both doors come through here."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias, cast

import msgspec

from features.errors import Conflict, InFlight, UnknownObject
from features.events import shown
from features.identity import Person
from features.moments import Moments
from features.profile import time_zone_of
from models.asked import question_of, request_hash, stated_context
from models.capacity import capacity_windows, slot_assignees
from models.contact_policy import cap_limits
from models.decision import DEADLINE, CountedContact, DecisionRecord
from models.deliberation import Deliberation, Inputs, Rulebook, deliberate
from models.experiment import arm_of, arm_probabilities
from models.funnel import Question
from models.ids import decision_id
from models.policy import Arm, ContactPolicy
from models.prices import PriceList
from models.records import (
    AssigneeTaken,
    CapacityNeed,
    Committed,
    Contact,
    CustomerRecords,
    LostRace,
    RecordStore,
    Reservation,
    as_known,
)
from models.scoring import Scorer
from serving.answers import Answering, answer_bytes
from serving.observe import Observed, Observer
from serving.prices import Charged, charged_prices
from serving.questions import rulebook_for
from serving.regret import RegretMeter
from serving.reservations import Staffing, needs_of_decision
from serving.schemas import DecisionRequest, canonical_request

MODEL_MISSING: Final = "model_missing"
CHALLENGER_MISSING: Final = "challenger_missing"
RECORDS_SLOW: Final = "record_store_slow"
EXPLORING: Final = ("champion", "challenger")

SLOW_SECONDS: Final = 0.25
"""A commit takes milliseconds; one that has waited for so long tells of a disk in trouble."""


class Commit(NamedTuple):
    """A decision as it is to be committed before its answer leaves."""

    record: DecisionRecord
    answer: bytes
    reservation: Reservation | None


class Essence(NamedTuple):
    """What is counted and told of an answer.

    Attributes:
        age_seconds: of the newest event that it saw; None where there was none, and of an answer given before.
    """

    decision_id: str
    chosen: str
    arm: str
    degraded: tuple[str, ...]
    age_seconds: float | None = None


class Answered(NamedTuple):
    """An answer as JSON, with its essence."""

    answer: bytes
    essence: Essence


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


Steps: TypeAlias = Generator[Commit, Committed, Answered]
"""A decision up to its answer. Each commit that it asks for is answered with what holds, or with ``LostRace``."""

Observe: TypeAlias = Callable[..., Observed]
"""``Observer.observe``, or ``observe_at_hand``."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The bundle that decides for a journey.

    Attributes:
        label: ``name@alias/version``.
    """

    scorer: Scorer
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
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


class Decider:
    """Decides.

    Args:
        rulebooks: by journey, as they hold at this moment; taken once by each decision.
        versions: what every decision names beside those of its rulebook: ``service``.
        observer: reads customers.
        moments: what gives decisions their moments, the same that stamps arrivals.
        records: keeps decisions.
        served_model: the champion of a journey at this moment; None where there is none.
        challenger: the challenger of a journey likewise, asked for where the policy gives it a share.
        randomness: so many random bytes.
        timer: a monotonic clock in microseconds.
        deadline_ms: how long a caller who does not say waits.
        prices: the price list that was published last for a journey; None where there is none.
    """

    def __init__(
        self,
        *,
        rulebooks: Callable[[], Mapping[str, Rulebook]],
        versions: Mapping[str, str],
        observer: Observer,
        moments: Moments,
        records: RecordStore,
        served_model: Callable[[str], ServedModel | None],
        challenger: Callable[[str], ServedModel | None] = lambda journey_id: None,
        randomness: Callable[[int], bytes],
        timer: Callable[[], int],
        deadline_ms: int,
        prices: Callable[[str], PriceList | None] = lambda journey_id: None,
    ) -> None:
        self._rulebooks = rulebooks
        self._versions = versions
        self._observer = observer
        self._moments = moments
        self._records = records
        self._served_model = served_model
        self._challenger = challenger
        self._randomness = randomness
        self._timer = timer
        self._deadline_ms = deadline_ms
        self._prices = prices
        self._regret = RegretMeter()
        self._in_flight: set[tuple[str, str]] = set()
        self._in_flight_lock = threading.Lock()

    def decide(self, request: DecisionRequest, *, source: str, now: int) -> bytes:
        """The answer to a request, recorded before it is returned; the same request again gives the same bytes.

        Args:
            request: what is asked.
            source: who asks, from the caller's key.
            now: microseconds since the epoch.

        Returns:
            The answer as JSON.

        Raises:
            InvalidInput: with every bad field.
            Conflict: the request id was used for another body.
            InFlight: the same request is being answered right now.
            UnknownObject: the customer must be known, and is not.
            StoreUnavailable: the event log or the record store does not answer.
        """
        return self.answered(request, Asking(source=source, now=now, arrived=self._timer())).answer

    def answered(self, request: DecisionRequest, asking: Asking) -> Answered:
        """``decide`` for a request that came a while ago, with what is told of its answer."""
        with closing(self._steps(request, asking, self._observer.observe)) as steps:
            try:
                commit = next(steps)
                while True:
                    try:
                        committed = self._records.commit(*commit)
                    except LostRace as race:
                        commit = steps.throw(race)
                    else:
                        commit = steps.send(committed)
            except StopIteration as end:
                return cast(Answered, end.value)

    def at_hand(self, request: DecisionRequest, asking: Asking) -> Steps:
        """The steps of ``answered`` for whoever must not wait: between commits they only read what is at hand.

        Raises:
            NotAtHand: when they are run, before anything was committed: ``decide`` is to be called in a thread.
        """
        return self._steps(request, asking, self._observer.observe_at_hand)

    def deadline_ms(self, request: DecisionRequest) -> int:
        """How long the caller will wait from the request's arrival on."""
        return request.deadline_ms or self._deadline_ms

    def _steps(self, request: DecisionRequest, asking: Asking, observe: Observe) -> Steps:
        if request.mode == "dry_run":
            return (yield from self._answer(request, asking, observe))
        key = (asking.source, request.request_id)
        with self._in_flight_lock:
            if key in self._in_flight:
                raise InFlight(f"request {request.request_id} is being answered; ask again in a moment")
            self._in_flight.add(key)
        try:
            stored = self._records.decision_of_request(*key) if asking.may_be_known else None
            if stored is None:
                return (yield from self._answer(request, asking, observe))
            if stored.record.request_hash != request_hash(canonical_request(request)):
                raise Conflict(f"request_id {request.request_id} was used for another body; use a new one")
            return Answered(stored.answer, _essence(stored.record)._replace(age_seconds=None))
        finally:
            with self._in_flight_lock:
                self._in_flight.discard(key)

    def _answer(self, request: DecisionRequest, asking: Asking, observe: Observe) -> Steps:
        asked = self._asked(request, asking, observe)
        rulebook, person = asked.rulebook, asked.observed.person
        records = self._customer_records(asked)
        staffing = Staffing.read(self._records, request, rulebook, person, asked.at)
        lost: dict[str, str] = {}
        while True:
            records = staffing.assigned(records, asked.decision_id)
            out_of_time = self._timer() - asking.arrived > 1000 * self.deadline_ms(request)
            question = question_of(request, at=asked.at, lost=lost, out_of_time=out_of_time)
            inputs = _inputs(asked, records, question)
            deliberation = deliberate(inputs, rulebook, _scorer(asked.served), _scorer(asked.challenger))
            record = asked.charged.said_in(self._record(asked, inputs, deliberation))
            answer = answer_bytes(record, deliberation, Answering.of(rulebook, request, inputs, deliberation))
            if request.mode == "dry_run":
                return Answered(answer, _essence(record))
            needs = needs_of_decision(deliberation, rulebook, asked.now)
            try:
                committed = yield Commit(record, answer, _reservation(request, record, person, rulebook, needs))
            except AssigneeTaken as race:
                staffing = staffing.without(race.treatment_id, race.person_id)
                continue
            except LostRace as race:
                lost[race.treatment_id] = race.rule_id
                continue
            if committed.was_stored_before:  # by another process, or before a crash
                return Answered(committed.answer, _essence_of_answer(committed.answer))
            if request.mode == "live" and inputs.arm in EXPLORING and not math.isnan(deliberation.exploration_loss):
                self._regret.note(deliberation.exploration_loss)
            return Answered(committed.answer, _essence(record))

    def _asked(self, request: DecisionRequest, asking: Asking, observe: Observe) -> _Asked:
        rulebook = rulebook_for(request, self._rulebooks(), now=asking.now)
        now = self._moments.question(asking.now)
        if request.as_of_at is None:
            at = now
        else:
            at, observe = request.as_of_at, self._observer.observe_past
        journey_id = rulebook.journey.id
        observed = observe(request.customer_id, journey_id, at=at, context=stated_context(request))
        if request.require_known and not observed.is_known:
            raise UnknownObject(f"customer {shown(request.customer_id)} is not known, and require_known is true")
        return _Asked(
            request=request,
            asking=asking,
            rulebook=rulebook,
            observed=observed,
            now=now,
            at=at,
            served=self._served_model(journey_id),
            challenger=self._challenger(journey_id) if rulebook.policy.experiment.challenger > 0 else None,
            charged=charged_prices(self._published(journey_id, request), rulebook, at=at),
            epsilon=self._regret.epsilon(rulebook.policy.exploration),
            decision_id=decision_id(at=now, customer_id=observed.person.customer_id, randomness=self._randomness(9)),
        )

    def _published(self, journey_id: str, request: DecisionRequest) -> PriceList | None:
        """The prices of a journey; of the past none that were published later."""
        prices = self._prices(journey_id)
        is_of_later = prices is not None and request.as_of_at is not None and prices.created_at > request.as_of_at
        return None if is_of_later else prices

    def _customer_records(self, asked: _Asked) -> CustomerRecords:
        request, rulebook, at = asked.request, asked.rulebook, asked.at
        since = at - rulebook.plan.looks_back
        person = asked.observed.person
        windows = capacity_windows(rulebook.policy.capacity, at, rulebook.taxonomy.time_zone)
        records = self._records.customer(
            person.customer_id, since=since, now=at, spans=person.spans, windows=windows, send_id=request.send_id
        )
        if request.send_id is not None:
            # A send that is asked for again stands in its own lease's place, as the commit will see it.
            contacts = tuple(one for one in records.contacts if not one.is_lease_of(request.send_id))
            records = replace(records, contacts=contacts)
        if request.as_of is None:
            return records
        # In the past the profile says what had been consented to then; the record store knows only what holds now.
        contacts = tuple(as_known(contact, at) for contact in records.contacts if contact.at < at)
        return CustomerRecords(contacts=contacts, consents=asked.observed.profile.consents)

    def _record(self, asked: _Asked, inputs: Inputs, deliberation: Deliberation) -> DecisionRecord:
        request, rulebook, observed = asked.request, asked.rulebook, asked.observed
        latency_us = self._timer() - asked.asking.arrived
        body = canonical_request(request)
        degraded = [*observed.degraded]
        is_challenged = inputs.arm == "challenger"
        if is_challenged and asked.challenger is None:
            degraded.append(CHALLENGER_MISSING)
        deciding = asked.challenger if is_challenged and asked.challenger is not None else asked.served
        if deciding is None:
            degraded.append(MODEL_MISSING)
        if inputs.question.out_of_time:
            degraded.append(DEADLINE)
        if self._records.commits().delay_seconds > SLOW_SECONDS:
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
            versions=self._versions_of(asked, deciding),
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

    def _versions_of(self, asked: _Asked, deciding: ServedModel | None) -> dict[str, str]:
        rulebook = asked.rulebook
        versions = {**self._versions, **rulebook.versions, "features": rulebook.feature_set.version}
        if deciding is not None:
            versions |= {"bundle": deciding.label, **deciding.scorer.bundle.parts}
        # Both bundles stand behind the selection probabilities, whichever decided.
        if asked.challenger is not None:
            versions["challenger"] = asked.challenger.label
            if asked.served is not None:
                versions["champion"] = asked.served.label
        return versions


def _inputs(asked: _Asked, records: CustomerRecords, question: Question) -> Inputs:
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


def _scorer(model: ServedModel | None) -> Scorer | None:
    return None if model is None else model.scorer


def _essence(record: DecisionRecord) -> Essence:
    age = (record.as_of - record.last_event_at) / 1_000_000 if record.last_event_at else None
    chosen = "action" if record.selected else "no_action"
    return Essence(record.decision_id, chosen, record.arm, record.degraded, age)


class _NoAction(msgspec.Struct):
    chosen: bool


class _Arm(msgspec.Struct):
    arm: str


class _Told(msgspec.Struct):
    decision_id: str
    no_action: _NoAction
    experiment: _Arm
    degraded: tuple[str, ...]


_TOLD: Final = msgspec.json.Decoder(_Told)


def _essence_of_answer(answer: bytes) -> Essence:
    told = _TOLD.decode(answer)
    return Essence(
        told.decision_id, "no_action" if told.no_action.chosen else "action", told.experiment.arm, told.degraded
    )


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


def _reservation(
    request: DecisionRequest,
    record: DecisionRecord,
    person: Person,
    rulebook: Rulebook,
    needs: tuple[CapacityNeed, ...],
) -> Reservation | None:
    """The contacts of a live decision: counted at once where we reach out and activate, leased otherwise.

    They take the place of the leases of their send, also where there are none.
    """
    if record.mode != "live" or not (record.selected or record.send_id):
        return None
    channel_of = {candidate.treatment_id: candidate.channel for candidate in record.candidates}
    counted = record.activated and request.direction == "outbound"
    contacts = tuple(
        Contact(
            decision_id=record.decision_id,
            customer_id=record.customer_id,
            action_id=selected.action_id,
            channel=channel_of[selected.treatment_id] or "",
            at=record.decided_at,
            status="confirmed" if counted else "lease",
            expires_at=record.expires_at,
            send_id=record.send_id,
        )
        for selected in record.selected
    )
    caps = {
        cap.rule_id: cap
        for contact in contacts
        for cap in cap_limits(rulebook.plan.caps, contact.channel, contact.action_id, record.decided_at)
    }
    treatment_ids = tuple(selected.treatment_id for selected in record.selected)
    return Reservation(
        contacts, treatment_ids, tuple(caps.values()), record.send_id, person.spans, needs, record.assignees
    )
