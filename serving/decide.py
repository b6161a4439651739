"""The one use case of the hot path: observe the customer, deliberate, record, answer. Both doors come through here."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias, cast

import msgspec

from features.errors import Conflict, InFlight, UnknownObject
from features.events import shown
from features.moments import Moments
from models.asked import question_of, request_hash, stated_context
from models.capacity import capacity_windows
from models.decision import DecisionRecord
from models.deliberation import Deliberation, Inputs, Rulebook, deliberate
from models.ids import decision_id
from models.prices import PriceList
from models.records import (
    AssigneeTaken,
    Committed,
    CustomerRecords,
    LostRace,
    RecordStore,
    Reservation,
    SendDecided,
    Stored,
    as_known,
)
from models.scoring import Scorer
from serving.answers import Answering, answer_bytes
from serving.observe import Observed, Observer
from serving.prices import charged_prices
from serving.questions import rulebook_for
from serving.recording import Asked, Asking, ServedModel, inputs_of, record_of
from serving.regret import RegretMeter
from serving.reservations import Staffing, needs_of_decision, reservation_of
from serving.schemas import DecisionRequest, canonical_request
from serving.sends import still_holds

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


Steps: TypeAlias = Generator[Commit, Committed, Answered]
"""A decision up to its answer. Each commit that it asks for is answered with what holds, or with ``LostRace``."""

Observe: TypeAlias = Callable[..., Observed]
"""``Observer.observe``, or ``observe_at_hand``."""


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
            return _as_before(stored)
        finally:
            with self._in_flight_lock:
                self._in_flight.discard(key)

    def _answer(self, request: DecisionRequest, asking: Asking, observe: Observe) -> Steps:
        asked = self._asked(request, asking, observe)
        rulebook, person = asked.rulebook, asked.observed.person
        records = self._customer_records(asked)
        if (held := self._held(asked, records)) is not None:
            return held
        staffing = Staffing.read(self._records, request, rulebook, person, asked.at)
        lost: dict[str, str] = {}
        while True:
            records = staffing.assigned(records, asked.decision_id)
            out_of_time = self._timer() - asking.arrived > 1000 * self.deadline_ms(request)
            question = question_of(request, at=asked.at, lost=lost, out_of_time=out_of_time)
            inputs = inputs_of(asked, records, question)
            deliberation = deliberate(inputs, rulebook, _scorer(asked.served), _scorer(asked.challenger))
            record = asked.charged.said_in(self._record(asked, inputs, deliberation))
            answer = answer_bytes(record, deliberation, Answering.of(rulebook, request, inputs, deliberation))
            if request.mode == "dry_run":
                return Answered(answer, _essence(record))
            needs = needs_of_decision(deliberation, rulebook, asked.now)
            try:
                held_by = reservation_of(request, record, person, rulebook, needs, records.sent)
                committed = yield Commit(record, answer, held_by)
            except SendDecided:
                records = self._customer_records(asked)
                if (held := self._held(asked, records)) is not None:
                    return held
                staffing = Staffing.read(self._records, request, rulebook, person, asked.at)
                continue
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

    def _held(self, asked: Asked, records: CustomerRecords) -> Answered | None:
        """What was decided of the request's send before, where that still holds."""
        if asked.request.mode != "live" or not records.sent:
            return None
        stored = self._records.decision(records.sent)
        if stored is None or not still_holds(stored.record, asked, records):
            return None
        return _as_before(stored)

    def _asked(self, request: DecisionRequest, asking: Asking, observe: Observe) -> Asked:
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
        return Asked(
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

    def _customer_records(self, asked: Asked) -> CustomerRecords:
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

    def _record(self, asked: Asked, inputs: Inputs, deliberation: Deliberation) -> DecisionRecord:
        is_slow = self._records.commits().delay_seconds > SLOW_SECONDS
        return record_of(asked, inputs, deliberation, service=self._versions, at_us=self._timer(), is_slow=is_slow)


def _scorer(model: ServedModel | None) -> Scorer | None:
    return None if model is None else model.scorer


def _essence(record: DecisionRecord) -> Essence:
    age = (record.as_of - record.last_event_at) / 1_000_000 if record.last_event_at else None
    chosen = "action" if record.selected else "no_action"
    return Essence(record.decision_id, chosen, record.arm, record.degraded, age)


def _as_before(stored: Stored) -> Answered:
    return Answered(stored.answer, _essence(stored.record)._replace(age_seconds=None))


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
