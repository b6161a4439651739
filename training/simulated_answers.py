"""How simulated customers answer what we send: they open, click, reply, pick up, or ask us to stop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.simulated_activity import MINUTE_US
from training.simulated_course import DAY_US, Course
from training.simulated_decisions import Decided, exposure_delay
from training.simulated_draws import Floats, Integers
from training.simulated_events import facts_json, picked
from training.simulated_policy import Option

_PATIENCE_US = 2 * DAY_US


def answer(
    course: Course,
    rows: Integers,
    at: Integers,
    decided: Decided,
    ends: Integers,
    succeeded: NDArray[np.bool_],
    step: int,
    options: tuple[Option, ...],
) -> None:
    """Answers to what was sent, before progress or within two days.

    An answer depends on what came of it and on what is observed, never on the type of person: it tells no more about
    the type than progress does.
    """
    channels = np.array([*(option.treatment.channel for option in options), ""], dtype=object)[decided.option]
    ids = np.array(decided.ids, dtype=object)
    sent_at = at + exposure_delay(course, rows) + MINUTE_US
    latest = np.minimum(ends, at + _PATIENCE_US)
    draws = course.draws
    for name, kind, few, more in (
        ("email", "message_opened", 0.30, 0.30),
        ("email", "link_clicked", 0.06, 0.25),
        ("push", "message_opened", 0.22, 0.35),
        ("sms", "link_clicked", 0.10, 0.30),
        ("web", "link_clicked", 0.12, 0.30),
    ):
        likely = np.where(succeeded, few + more, few)
        some = np.flatnonzero((channels == name) & draws.happens(f"{kind}-{name}", rows, step, likely))
        when = _between(course, f"{kind}-{name}-at", rows[some], sent_at[some], latest[some], step)
        facts = facts_json({"decision_id": ids[some]})
        course.events.add(kind, rows[some], when, channel=name, facts=facts)
        course.own_events[rows[some]] += 1
    _pick_up(course, rows, channels, ids, sent_at, succeeded, step)
    _resolve_case(course, rows, channels, ids, at, ends, step)
    _stop(course, rows, channels, ids, sent_at, step)


def _pick_up(
    course: Course,
    rows: Integers,
    channels: NDArray[np.object_],
    ids: NDArray[np.object_],
    sent_at: Integers,
    succeeded: NDArray[np.bool_],
    step: int,
) -> None:
    draws = course.draws
    likely = np.where(succeeded, 0.85, 0.5)
    some = np.flatnonzero((channels == "call") & draws.happens("pick-up", rows, step, likely))
    who = rows[some]
    durations = draws.between("pick-up-for", who, step, 45.0, 700.0).astype(np.int64)
    facts = facts_json(
        {
            "decision_id": ids[some],
            "campaign": ["onboarding"] * who.size,
            "duration_s": durations,
            "lead_class": picked(draws, "lead", who, step, ("hot", "warm", "cold")),
        }
    )
    course.events.add("callback_answered", who, sent_at[some], channel="call", facts=facts)
    course.own_events[who] += 1


def _resolve_case(
    course: Course,
    rows: Integers,
    channels: NDArray[np.object_],
    ids: NDArray[np.object_],
    at: Integers,
    ends: Integers,
    step: int,
) -> None:
    draws = course.draws
    some = np.flatnonzero((channels == "case") & draws.happens("resolved", rows, step, 0.92))
    who = rows[some]
    longest: Floats = np.minimum(ends - at, 3 * DAY_US)[some] * draws.between("resolved-at", who, step, 0.4, 0.97)
    facts = facts_json(
        {
            "decision_id": ids[some],
            "queue": picked(draws, "queue", who, step, ("verification_desk", "digital_support")),
            "result": picked(draws, "result", who, step, ("solved", "solved", "information_given")),
        }
    )
    course.events.add("case_resolved", who, at[some] + longest.astype(np.int64), channel="case", facts=facts)


def _stop(
    course: Course,
    rows: Integers,
    channels: NDArray[np.object_],
    ids: NDArray[np.object_],
    sent_at: Integers,
    step: int,
) -> None:
    """Some answer a message by withdrawing their consent to more of them."""
    draws, events = course.draws, course.events
    for name in ("sms", "email"):
        likely = 0.008 + 0.01 * np.minimum(course.contacts[rows], 3)
        some = np.flatnonzero((channels == name) & draws.happens(f"stop-{name}", rows, step, likely))
        who, when = rows[some], sent_at[some] + 5 * MINUTE_US
        facts = facts_json({"decision_id": ids[some], "stopped": [True] * who.size})
        events.add("message_replied", who, when, channel=name, facts=facts)
        withdrawn = [f'{{"consent":"{name}","state":"withdrawn"}}'] * who.size
        events.add("consent_changed", who, when + 1_000_000, channel=None, facts=withdrawn)
        course.consents[name][who] = False
        course.own_events[who] += 1


def _between(course: Course, purpose: str, rows: Integers, start: Integers, end: Integers, step: int) -> Integers:
    moment: Integers = start + (course.draws.uniform(purpose, rows, step) * (end - start)).astype(np.int64)
    return moment
