"""Moves a block of simulated customers through the journey: stage by stage, and within a stage round by round.

A round is a decision and the 14 days after it. Within a stage the next decision comes only after those days, so that
what follows a decision within its window follows from that decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.journeys import Journey
from features.taxonomy import OUTCOME_OBSERVED
from training.simulated_activity import (
    before_application,
    call,
    complain,
    contact_hashes,
    give_feedback,
    go_back,
    look_around,
    upload,
)
from training.simulated_answers import answer
from training.simulated_choice import Chooser, PastPolicy
from training.simulated_course import ALWAYS_LATER, DAY_US, Course, new_course
from training.simulated_decisions import (
    DECISION_SCHEMA,
    EFFECT_SCHEMA,
    Decided,
    Decisions,
    Flags,
    decide,
)
from training.simulated_draws import Draws, Floats, Integers
from training.simulated_events import HOUR_US, Visits, facts_json, picked
from training.simulated_policy import Option
from training.simulated_population import population
from training.simulated_world import (
    EFFECTS,
    FAST_SHARE,
    LONG_DAYS,
    SHORT_DAYS,
    STAGES,
    TYPES,
    UNPROMPTED,
    Law,
    probability,
)

ROUNDS: Final = 3
_EARLY_SHARE: Final = 0.1
"""Share of customers whose first decision in a stage is made before anybody would call it a stall."""

_STRUGGLES: Final[Mapping[str, tuple[float, float, float]]] = {
    "applied": (0.24, 0.12, 0.12),
    "verified": (0.0, 0.14, 0.18),
    "offer_accepted": (0.0, 0.12, 0.20),
    "activated": (0.0, 0.10, 0.14),
}
"""Shares of customers in a stage who wait on us, need help, and go in circles."""

_FASTER: Final = float(np.log(1.0 - FAST_SHARE) / np.log(1.0 - SHORT_DAYS / LONG_DAYS))
"""Exponent that makes FAST_SHARE of the progress within 14 days fall into the first 7."""

_SOONEST_US: Final = 40 * 60 * 1_000_000
"""Progress after a decision comes no sooner: by then every exposure has been seen."""

IDENTITY_SCHEMA: Final = pa.schema(
    [
        ("customer_id", pa.string()),
        ("id_type", pa.string()),
        ("id_value", pa.string()),
        ("valid_from", pa.timestamp("us", tz="UTC")),
        ("known_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True, slots=True)
class Block:
    """Everything of some customers up to the end of simulated time."""

    events: pa.Table
    decisions: pa.Table
    effects: pa.Table
    identities: pa.Table


class Crowd:
    """Some customers on their way, moved on to any moment, and decided on as they come to moments of decision.

    What becomes of one depends neither on the others nor on how often the crowd is moved on.

    Args:
        seed: of all draws.
        numbers: the customers' numbers.
        until: the end of simulated time, microseconds since the epoch; who enters a stage later is left there.
        span_days: applications are spread over so many days before it.
        options: all candidates of the catalogue.
        journey: the built-in journey.
        chooser: who decides.
    """

    def __init__(
        self,
        *,
        seed: int,
        numbers: Integers,
        until: int,
        span_days: float,
        options: tuple[Option, ...],
        journey: Journey,
        chooser: Chooser,
    ) -> None:
        draws = Draws(seed, numbers)
        people = population(draws, numbers, until=until, span_days=span_days)
        self.course = new_course(people, draws)
        self.decisions = Decisions()
        self._until = until
        self._options = options
        self._journey = journey
        self._chooser = chooser
        rows = np.arange(people.n, dtype=np.int64)
        before_application(self.course, rows)
        self.course.start_since(rows, people.entered_at, 1)
        self._entering: list[list[Integers]] = [[rows], *([] for _ in STAGES)]
        self._due: dict[tuple[int, int], list[tuple[Integers, Integers]]] = {}

    def advance(self, before: int, *, effects: Mapping[str, Law] = EFFECTS) -> None:
        """Make every decision that falls due before a moment, and let what follows from each happen.

        Args:
            before: microseconds since the epoch.
            effects: what each action changes, from decisions of this time on.
        """
        for stage in range(len(STAGES)):
            self._enter(stage)
            for round_number in range(ROUNDS):
                self._decide(stage, round_number, before, effects)
        _after_goal(self.course, self._entered(len(STAGES)))

    def undecided(self) -> Integers:
        """Who comes to another moment of decision, in order."""
        parts = [rows for due in self._due.values() for rows, _ in due]
        return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))

    def block(self) -> Block:
        """Everything of these customers up to the end of simulated time."""
        course = self.course
        visits = Visits(cookies(course), course.people.entered_at)
        return Block(
            events=course.events.table(course.draws, course.people.ids, visits, self._until),
            decisions=_table(self.decisions.made, DECISION_SCHEMA),
            effects=_table(self.decisions.effects, EFFECT_SCHEMA),
            identities=_identities(course),
        )

    def _entered(self, stage: int) -> Integers:
        """Who entered a stage, or reached the goal, since the last time."""
        parts, self._entering[stage] = self._entering[stage], []
        return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *parts]))

    def _enter(self, stage: int) -> None:
        """Begin a stage for those who entered it: some leave it unprompted, the others come to a first decision."""
        course = self.course
        rows = self._entered(stage)
        rows = rows[course.stage_at[rows] <= self._until]
        draws, name, step = course.draws, STAGES[stage], 4 * stage
        entered = course.stage_at[rows]
        early = draws.happens("early", rows, step, _EARLY_SHARE)
        first_at = _first_decision_at(course, rows, entered, early, self._journey.stages[stage].stall_after, step)
        struggles = draws.choice("struggle", rows, step, np.array([1.0 - sum(_STRUGGLES[name]), *_STRUGGLES[name]]))
        fast = _goes_unprompted(course, rows, stage, struggles > 0, early, step)
        quick_at = entered + _unprompted_dwell(course, rows, first_at - entered, step)
        look_around(course, rows, entered, np.where(fast, quick_at, first_at), stage=name, step=step, busy=1.0)
        self._entering[stage + 1].append(rows[fast])
        _progress(course, rows[fast], quick_at[fast], stage, step)
        rows, first_at, struggles = rows[~fast], first_at[~fast], struggles[~fast]
        _struggle(course, rows, struggles, first_at, name, step)
        self._due.setdefault((stage, 0), []).append((rows, first_at))

    def _decide(self, stage: int, round_number: int, before: int, effects: Mapping[str, Law]) -> None:
        waiting = self._due.pop((stage, round_number), [])
        if not waiting:
            return
        rows, at = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        is_due = at < before
        if not is_due.all():
            self._due[stage, round_number] = [(rows[~is_due], at[~is_due])]
        rows, at = rows[is_due], at[is_due]
        if not rows.size:
            return
        step = 4 * stage + round_number
        decided = decide(
            self.course,
            self.decisions,
            rows,
            at,
            options=self._options,
            journey=self._journey,
            stage=stage,
            round_number=round_number,
            step=step,
            chooser=self._chooser,
            effects=effects,
        )
        succeeded = _follow(self.course, rows, at, decided, stage, step, self._options)
        self._entering[stage + 1].append(rows[succeeded])
        staying = _go_on(self.course, rows[~succeeded], at[~succeeded], STAGES[stage], step)
        if round_number + 1 < ROUNDS:
            self._due.setdefault((stage, round_number + 1), []).append(staying)


def simulate_block(
    *,
    seed: int,
    numbers: Integers,
    until: int,
    span_days: float,
    options: tuple[Option, ...],
    journey: Journey,
) -> Block:
    """The customers of some numbers from before their application to the end of simulated time, under the past policy.

    Args:
        seed: of all draws.
        numbers: the customers' numbers; what becomes of one does not depend on the others.
        until: the end of simulated time, microseconds since the epoch.
        span_days: applications are spread over so many days before it.
        options: all candidates of the catalogue.
        journey: the built-in journey.
    """
    crowd = Crowd(
        seed=seed,
        numbers=numbers,
        until=until,
        span_days=span_days,
        options=options,
        journey=journey,
        chooser=PastPolicy(),
    )
    crowd.advance(until + 1)
    return crowd.block()


def _first_decision_at(
    course: Course, rows: Integers, entered: Integers, early: Flags, stall_after: int, step: int
) -> Integers:
    """Working hours after the stall, except for the early ones."""
    draws = course.draws
    stalled_at = entered + stall_after
    next_day = stalled_at // DAY_US + 1
    at_work = next_day * DAY_US + (draws.between("decided", rows, step, 7.5, 16.5) * HOUR_US).astype(np.int64)
    before = entered + (draws.between("decided-early", rows, step, 0.2, 0.7) * stall_after).astype(np.int64)
    moment: Integers = np.where(early, before, at_work)
    return moment


def _goes_unprompted(course: Course, rows: Integers, stage: int, struggling: Flags, early: Flags, step: int) -> Flags:
    """Who progresses before any decision."""
    indicators = {name: values[rows] for name, values in course.people.indicators().items()}
    base = UNPROMPTED[STAGES[stage]].logit(indicators, rows.size) - 1.0 * struggling
    shifts = np.array([kind.by_themselves for kind in TYPES.values()])
    by_type = probability(base[:, None] + 0.7 * shifts) * np.where(early, 0.45, 1.0)[:, None]
    own = by_type[np.arange(rows.size), course.people.customer_type[rows]]
    fast = course.draws.happens("unprompted", rows, step, own)
    course.learn(rows, by_type, fast)
    return fast


def _unprompted_dwell(course: Course, rows: Integers, time_to_decision: Integers, step: int) -> Integers:
    share = 0.02 + 0.94 * course.draws.uniform("dwell", rows, step) ** 1.6
    dwell: Integers = (share * time_to_decision).astype(np.int64)
    return dwell


def _struggle(course: Course, rows: Integers, struggles: Integers, until: Integers, stage: str, step: int) -> None:
    draws = course.draws
    entered = course.stage_at[rows]
    waiting = np.flatnonzero(struggles == 1)
    longest = np.minimum((until - entered)[waiting], 18 * HOUR_US)
    sent_at = entered[waiting] + (draws.between("sent", rows[waiting], step, 0.05, 0.95) * longest).astype(np.int64)
    upload(course, rows[waiting], sent_at, step)
    for kind, happens in ((2, call), (3, go_back)):
        some = np.flatnonzero(struggles == kind)
        counts = 2 + draws.count("struggling", rows[some], step, 0.5, 2)
        # A step of its own: the same step already gave the moments of the occasional call or return.
        happens(course, rows[some], counts, entered[some], until[some], stage=stage, step=step + 100)
    troubled = np.flatnonzero(struggles >= 2)
    complain(course, rows[troubled], entered[troubled], until[troubled], stage=stage, step=step)


def _follow(
    course: Course,
    rows: Integers,
    at: Integers,
    decided: Decided,
    stage: int,
    step: int,
    options: tuple[Option, ...],
) -> Flags:
    """What the days after a decision bring; who progressed."""
    draws, name = course.draws, STAGES[stage]
    own = decided.progress_by_type[np.arange(rows.size), course.people.customer_type[rows]]
    succeeded = draws.happens("progress", rows, step, own)
    course.learn(rows, decided.progress_by_type, succeeded)
    share = 1.0 - (1.0 - draws.uniform("progress-at", rows, step)) ** (1.0 / _FASTER)
    window_us = LONG_DAYS * DAY_US
    progress_at = at + np.maximum((share * window_us).astype(np.int64), _SOONEST_US)
    ends = np.where(succeeded, progress_at, at + window_us)
    answer(course, rows, at, decided, ends, succeeded, step, options)
    course.decided_at[rows] = at
    look_around(course, rows, at, ends, stage=name, step=step + 200, busy=0.5)
    replies = draws.happens("feedback", rows, step, decided.feedback)
    who = rows[replies]
    replied_at = at[replies] + (draws.between("feedback-at", who, step, 0.05, 6.9) * DAY_US).astype(np.int64)
    mood = 7.4 - 1.1 * (course.calls[who] >= 2) - 1.1 * (course.loops[who] >= 2) + 0.9 * succeeded[replies]
    give_feedback(course, who, replied_at, mood=mood, survey="journey", step=step)
    course.asked_at[who] = replied_at
    _take_protection(course, rows, at, decided, step)
    _progress(course, rows[succeeded], progress_at[succeeded], stage, step)
    return succeeded


def _take_protection(course: Course, rows: Integers, at: Integers, decided: Decided, step: int) -> None:
    """Sales of the insurer, who reports them by decision: the one outcome that no event of the journey shows."""
    draws, events = course.draws, course.events
    takes = np.flatnonzero(draws.happens("protection", rows, step, decided.protection))
    who = rows[takes]
    taken_at = at[takes] + (draws.between("protection-at", who, step, 0.1, 13.9) * DAY_US).astype(np.int64)
    ids = [decided.ids[i] for i in takes.tolist()]
    facts = facts_json({"decision_id": ids, "outcome_id": ["protection_14d"] * who.size, "value": np.ones(who.size)})
    events.add(OUTCOME_OBSERVED, who, taken_at, channel=None, facts=facts)
    held = ['{"holding:card_protection":true}'] * who.size
    events.add("profile_updated", who, taken_at + 1_000_000, channel=None, facts=held)
    course.holds_protection[who] = True


def _progress(course: Course, rows: Integers, at: Integers, stage: int, step: int) -> None:
    """Enter the next stage, or the goal."""
    draws, events, people = course.draws, course.events, course.people
    app = np.where(people.app_user[rows], "app", "web")
    if stage == 0:
        missing = course.waiting_since[rows] == ALWAYS_LATER
        who = rows[missing]
        before = np.minimum((at - course.stage_at[rows])[missing] // 2, 20 * HOUR_US)
        lead = draws.between("upload-lead", who, step, 0.1, 0.95)
        upload(course, who, at[missing] - (lead * before).astype(np.int64), step + 50)
        methods = picked(draws, "method", rows, step, ("video", "document", "bank_transfer", "branch"))
        events.add("identity_verified", rows, at, channel="back_office", facts=facts_json({"method": methods}))
        course.waiting_since[rows] = ALWAYS_LATER
        limit, rate = _terms(course, rows)
        shown = facts_json({"credit_limit": limit, "annual_rate": rate})
        shown_at = at + (draws.between("shown", rows, step, 0.05, 1.5) * HOUR_US).astype(np.int64)
        events.add("card_offer_presented", rows, shown_at, channel=app.tolist(), facts=shown)
    elif stage == 1:
        facts = facts_json({"credit_limit": _terms(course, rows)[0]})
        events.add("card_offer_accepted", rows, at, channel=app.tolist(), facts=facts)
        posted_at = at + (draws.between("posted", rows, step, 2.0, 30.0) * HOUR_US).astype(np.int64)
        events.add("card_dispatched", rows, posted_at, channel="back_office")
    elif stage == 2:
        channel = np.where(draws.happens("activate-ivr", rows, step, 0.12), "ivr", app).tolist()
        events.add("card_activated", rows, at, channel=channel)
    else:
        _use_card(course, rows, at, step)
    course.start_since(rows, at, 0 if stage == 0 else 1)


def _terms(course: Course, rows: Integers) -> tuple[Integers, Floats]:
    people = course.people
    spread = course.draws.words("terms", rows)
    limit = (500 * (2 + people.income[rows] * 3 + (spread % np.uint64(3)).astype(np.int64))).astype(np.int64)
    rate = 9.9 + 0.5 * ((spread >> np.uint64(8)) % np.uint64(13)).astype(np.float64)
    return limit, rate


def _use_card(course: Course, rows: Integers, at: Integers, step: int | Integers) -> None:
    draws = course.draws
    amounts = np.round(np.exp(draws.between("amount", rows, step, 1.6, 5.2)), 2)
    groups = picked(draws, "merchant", rows, step, ("groceries", "travel", "fuel", "restaurants", "online"))
    channels = picked(draws, "use-channel", rows, step, ("store", "store", "web", "app"))
    facts = facts_json({"amount": amounts, "merchant_group": groups})
    course.events.add("card_used", rows, at, channel=channels, facts=facts)


def _go_on(course: Course, rows: Integers, at: Integers, stage: str, step: int) -> tuple[Integers, Integers]:
    """After 14 days without progress: some leave, some fall silent, the others are looked at again."""
    draws, events = course.draws, course.events
    unhappy = course.last_nps[rows] <= 6
    withdraw = 0.07 + 0.08 * unhappy
    decline = 0.07 if stage == "applied" else 0.01
    silent = np.full(rows.size, 0.25)
    shares = np.stack([1.0 - withdraw - decline - silent, withdraw, np.full(rows.size, decline), silent], axis=1)
    fate = draws.choice("fate", rows, step, shares)
    left_at = at + (draws.between("left-at", rows, step, 1.0, 13.5) * DAY_US).astype(np.int64)
    gone = fate == 1
    reasons = picked(draws, "reason", rows[gone], step, ("too_long", "other_bank", "fees", "no_longer_needed"))
    channels = picked(draws, "leave-channel", rows[gone], step, ("web", "app", "call"))
    events.add(
        "application_withdrawn", rows[gone], left_at[gone], channel=channels, facts=facts_json({"reason": reasons})
    )
    declined = fate == 2
    facts = ['{"reason":"policy"}'] * int(declined.sum())
    events.add("application_declined", rows[declined], left_at[declined], channel="back_office", facts=facts)
    stays = fate == 0
    rows, at = rows[stays], at[stays]
    _reject_documents(course, rows, at, step)
    wait_us = (LONG_DAYS + draws.between("next-round", rows, step, 0.2, 3.0)) * DAY_US
    return rows, at + wait_us.astype(np.int64)


def _reject_documents(course: Course, rows: Integers, at: Integers, step: int) -> None:
    draws = course.draws
    waiting = course.waiting_since[rows] < at
    rejected = waiting & draws.happens("rejected", rows, step, 0.6)
    who = rows[rejected]
    when = at[rejected] + (draws.between("rejected-at", who, step, 1.0, 10.0) * DAY_US).astype(np.int64)
    reasons = picked(draws, "rejected-for", who, step, ("unreadable", "expired", "wrong_document"))
    course.events.add("documents_rejected", who, when, channel="back_office", facts=facts_json({"reason": reasons}))
    course.waiting_since[who] = ALWAYS_LATER


def _after_goal(course: Course, rows: Integers) -> None:
    """The card in use."""
    draws = course.draws
    start = course.stage_at[rows]
    counts = draws.count("uses", rows, 0, 2.2, 8)
    where = np.repeat(np.arange(rows.size), counts)
    nth = np.arange(where.size) - np.repeat(np.cumsum(counts) - counts, counts)
    used_at = start[where] + (draws.between("used-at", rows[where], nth, 0.2, 40.0) * DAY_US).astype(np.int64)
    _use_card(course, rows[where], used_at, 1_000 + nth)
    # Later than a week: within it, feedback would count as the outcome of the last decision.
    some = rows[draws.happens("goal-feedback", rows, 0, 0.10)]
    at = course.stage_at[some] + (draws.between("goal-feedback-at", some, 0, 8.0, 20.0) * DAY_US).astype(np.int64)
    give_feedback(course, some, at, mood=np.full(some.size, 8.2), survey="first_use", step=1_000)
    buys = rows[~course.holds_protection[rows] & draws.happens("goal-protection", rows, 0, 0.02)]
    at = course.stage_at[buys] + (draws.between("goal-protection-at", buys, 0, 15.0, 60.0) * DAY_US).astype(np.int64)
    fees = np.round(draws.between("fee", buys, 0, 2.5, 6.5), 2)
    course.events.add("protection_taken", buys, at, channel="partner", facts=facts_json({"monthly_fee": fees}))


def cookies(course: Course) -> NDArray[np.object_]:
    """The cookie that each customer visits with."""
    return _words(course.draws, "cookie", np.arange(course.people.n, dtype=np.int64))


def _words(draws: Draws, purpose: str, rows: Integers) -> NDArray[np.object_]:
    return np.array([f"{word:016x}" for word in draws.words(purpose, rows).tolist()], dtype=object)


def _identities(course: Course) -> pa.Table:
    people, draws = course.people, course.draws
    rows = np.arange(people.n, dtype=np.int64)
    emails, phones = (np.array(values, dtype=object) for values in contact_hashes(course, rows))
    devices = _words(draws, "device-id", rows)
    early = people.entered_at - 3 * DAY_US
    parts = (
        ("email", rows, emails, people.entered_at),
        ("phone", rows, phones, people.entered_at),
        ("cookie", rows, cookies(course), early),
        ("device", rows[people.app_user], devices, people.entered_at),
    )
    tables = [
        pa.table(
            {
                "customer_id": pa.array(people.ids[who], pa.string()),
                "id_type": pa.array([kind] * who.size, pa.string()),
                "id_value": pa.array(values[who], pa.string()),
                "valid_from": pa.array(since[who], pa.timestamp("us", tz="UTC")),
                "known_at": pa.array(people.entered_at[who], pa.timestamp("us", tz="UTC")),
            },
            schema=IDENTITY_SCHEMA,
        )
        for kind, who, values, since in parts
    ]
    return pa.concat_tables(tables).combine_chunks()


def _table(batches: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    parts = [
        pa.table({f.name: pa.array(batch[f.name], f.type, from_pandas=False) for f in schema}, schema=schema)
        for batch in batches
    ]
    return pa.concat_tables(parts).combine_chunks() if parts else schema.empty_table()
