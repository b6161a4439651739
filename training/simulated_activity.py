"""What simulated customers do between the milestones: look around, ask, come back, complain, give feedback."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from training.simulated_course import DAY_US, Course
from training.simulated_draws import Floats, Integers
from training.simulated_events import HOUR_US, facts_json, picked
from training.simulated_population import CONSENT_CHANNELS

Options: TypeAlias = dict[str, tuple[object, ...]]
"""For each fact, the values that it may take, evenly."""

MINUTE_US: Final = 60_000_000
_SPREAD: Final = 16
"""Draws per step for events of one kind; more of a kind than this do not happen between two milestones."""

LOOP_KIND: Final = {
    "applied": "application_edited",
    "verified": "card_offer_reopened",
    "offer_accepted": "activation_failed",
    "activated": "purchase_declined",
}
_LOOP_CHANNELS: Final = {
    "applied": ("web", "app"),
    "verified": ("web", "app", "email"),
    "offer_accepted": ("app", "web", "ivr"),
    "activated": ("web", "store"),
}
_LOOP_FACT: Final = {
    "applied": ("section", ("income", "address", "employment", "limit")),
    "verified": ("duration_s", ("12", "35", "80", "160")),
    "offer_accepted": ("reason", ("wrong_code", "card_number_not_recognised", "session_expired")),
    "activated": ("reason", ("wrong_pin", "online_use_not_enabled", "limit_reached")),
}
TOPICS: Final = {
    "applied": ("which_documents", "upload_fails", "status_of_application"),
    "verified": ("fees", "interest_rate", "credit_limit"),
    "offer_accepted": ("card_not_arrived", "activation_code", "pin"),
    "activated": ("wallet", "declined_purchase", "limits"),
}
_PAGES: Final = {
    "before": ("cards", "card_comparison", "fees", "requirements"),
    "applied": ("application_status", "upload_documents", "faq_documents"),
    "verified": ("offer_details", "fees", "rate_calculator"),
    "offer_accepted": ("activate_card", "delivery_status", "faq_activation"),
    "activated": ("wallet_setup", "card_settings", "cashback_terms"),
}
_SCREENS: Final = ("home", "cards", "documents", "messages", "settings")
_DOCUMENTS: Final = ("passport", "identity_card", "payslip", "proof_of_address")

_GOOD_TEXTS: Final = (
    "That was quick and easy, I had my answer within minutes.",
    "Very clear explanation and friendly staff, thank you.",
    "The app made it simple to send my documents.",
    "Happy with the card so far, setting up the wallet took one minute.",
    "Great service, someone called me back exactly when promised.",
)
_MIXED_TEXTS: Final = (
    "It works, but I had to look for the activation page.",
    "Fine in the end, although the upload failed twice.",
    "The offer is okay, I would have liked the fees up front.",
    "Waiting for the card took longer than I expected.",
)
_BAD_TEXTS: Final = (
    "I sent my documents a week ago and nobody answers.",
    "I called three times and had to explain everything again.",
    "The activation keeps failing and the error message is useless.",
    "Too many messages, please stop reminding me.",
    "The fees were only shown at the very end, that is misleading.",
)


def scattered(
    course: Course, purpose: str, rows: Integers, counts: Integers, start: Integers, end: Integers, step: int
) -> tuple[Integers, Integers, Integers]:
    """Moments evenly spread between two times: positions in ``rows``, times, and the steps of their draws."""
    where = np.repeat(np.arange(rows.size), counts)
    within = np.arange(where.size) - np.repeat(np.cumsum(counts) - counts, counts)
    steps = (step * _SPREAD + within).astype(np.int64)
    span = np.maximum(end[where] - start[where] - 2 * MINUTE_US, 0)
    at = start[where] + MINUTE_US + (course.draws.uniform(purpose, rows[where], steps) * span).astype(np.int64)
    return where, at, steps


def before_application(course: Course, rows: Integers) -> None:
    """How customers found the card; then who they are and what they consent to; then the application itself."""
    people, draws, events = course.people, course.draws, course.events
    entered = people.entered_at
    clicked = rows[draws.happens("ad", rows, 0, 0.42)]
    found_at = entered[clicked] - (draws.between("ad-at", clicked, 0, 0.05, 10.0) * DAY_US).astype(np.int64)
    campaigns = picked(draws, "campaign", clicked, 0, ("spring_card", "travel_card", "no_fee_first_year"))
    keywords = picked(draws, "keyword", clicked, 0, ("credit card", "card without fee", "travel card"))
    source = picked(draws, "ad-channel", clicked, 0, ("sem", "sem", "social", "partner"))
    events.add(
        "ad_clicked", clicked, found_at, channel=source, facts=facts_json({"campaign": campaigns, "keyword": keywords})
    )
    _page_views(course, rows, entered - 3 * DAY_US, entered - 20 * MINUTE_US, "before", 0, np.full(rows.size, 1.5))
    visited = rows[draws.happens("store-before", rows, 0, np.where(people.preferred == 5, 0.5, 0.03))]
    at = entered[visited] - (draws.between("store-before-at", visited, 0, 1.0, 70.0) * HOUR_US).astype(np.int64)
    events.add("store_visited", visited, at, channel="store", facts=['{"purpose":"advice"}'] * visited.size)
    _profiles(course, rows)
    channel = np.select(
        [
            (people.preferred == 5) & draws.happens("apply-store", rows, 0, 0.5),
            draws.happens("apply-partner", rows, 0, 0.06),
            (people.preferred == 4) & draws.happens("apply-call", rows, 0, 0.4),
            people.app_user & (people.device == 0) & draws.happens("apply-app", rows, 0, 0.75),
        ],
        ["store", "partner", "call", "app"],
        "web",
    )
    limits = (500 * (2 + people.income * 3 + draws.words("limit", rows) % np.uint64(4))).astype(np.int64)
    products = picked(draws, "product", rows, 0, ("classic", "classic", "gold", "travel"))
    facts = facts_json({"product": products, "requested_limit": limits})
    events.add("application_submitted", rows, entered, channel=channel.tolist(), facts=facts)


def _profiles(course: Course, rows: Integers) -> None:
    people, events = course.people, course.events
    emails, phones = contact_hashes(course, rows)
    names = list(people.attributes(0))
    columns: dict[str, list[object]] = {name: [] for name in names}
    for row in rows.tolist():
        for name, value in people.attributes(row).items():
            columns[name].append(value)
    facts = facts_json(columns | {"email_hash": list(emails), "phone_hash": list(phones)})
    events.add("profile_updated", rows, people.entered_at - 5 * MINUTE_US, channel=None, facts=facts)
    for position, name in enumerate(CONSENT_CHANNELS):
        granted = rows[people.consents[name]]
        at = people.entered_at[granted] - 4 * MINUTE_US + position * 1_000_000
        facts = [f'{{"consent":"{name}","state":"granted"}}'] * granted.size
        events.add("consent_changed", granted, at, channel=None, facts=facts)
    refused = rows[~people.consents["call"]]
    facts = ['{"consent":"call","state":"withdrawn"}'] * refused.size
    events.add("consent_changed", refused, people.entered_at[refused] - 3 * MINUTE_US, channel=None, facts=facts)


def contact_hashes(course: Course, rows: Integers) -> tuple[list[str], list[str]]:
    """What stands for keyed hashes of the e-mail address and the telephone number."""
    return (
        [f"{word:016x}" for word in course.draws.words("email", rows).tolist()],
        [f"{word:016x}" for word in course.draws.words("phone", rows).tolist()],
    )


def look_around(
    course: Course, rows: Integers, start: Integers, end: Integers, *, stage: str, step: int, busy: float
) -> None:
    """The customer's own events of an interval inside a stage; ``busy`` scales their number."""
    people, draws = course.people, course.draws
    app = people.app_user[rows].astype(np.float64)
    _page_views(course, rows, start, end, stage, step, busy * (1.1 - 0.5 * app))
    _some(course, "app_opened", rows, start, end, step, busy * 1.0 * app, channel="app", facts={"screen": _SCREENS})
    asking: tuple[tuple[str, str, float, Options], ...] = (
        ("assistant_asked", "assistant", 0.10, {"intent": TOPICS[stage], "resolved": (True, False)}),
        ("chat_held", "chat", 0.08, {"topic": TOPICS[stage], "messages": (4, 7, 12), "resolved": (True, False)}),
        ("ivr_used", "ivr", 0.06, {"menu": TOPICS[stage], "contained": (True, False)}),
        ("store_visited", "store", 0.03, {"purpose": TOPICS[stage]}),
    )
    for kind, channel, mean, facts in asking:
        _some(course, kind, rows, start, end, step, np.full(rows.size, busy * mean), channel=channel, facts=facts)
    call(course, rows, draws.count("calls", rows, step, 0.09 * busy, 2), start, end, stage=stage, step=step)
    go_back(course, rows, draws.count("loops", rows, step, 0.10 * busy, 2), start, end, stage=stage, step=step)


def call(
    course: Course, rows: Integers, counts: Integers, start: Integers, end: Integers, *, stage: str, step: int
) -> None:
    """So many calls to us in an interval."""
    draws = course.draws
    where, at, steps = scattered(course, "call-at", rows, counts, start, end, step)
    who = rows[where]
    waits = (draws.between("call-wait", who, steps, 5.0, 400.0)).astype(np.int64)
    durations = (draws.between("call-duration", who, steps, 60.0, 900.0)).astype(np.int64)
    topics = picked(draws, "call-topic", who, steps, TOPICS[stage])
    facts = facts_json({"topic": topics, "duration_s": durations, "wait_s": waits})
    course.events.add("call_received", who, at, channel="call", facts=facts)
    course.calls[rows] += counts
    course.own_events[rows] += counts


def go_back(
    course: Course, rows: Integers, counts: Integers, start: Integers, end: Integers, *, stage: str, step: int
) -> None:
    """So many returns to the stage in an interval."""
    where, at, steps = scattered(course, "loop-at", rows, counts, start, end, step)
    who = rows[where]
    name, values = _LOOP_FACT[stage]
    texts = picked(course.draws, "loop-fact", who, steps, values)
    facts = facts_json({name: [int(text) for text in texts] if name == "duration_s" else texts})
    channels = picked(course.draws, "loop-channel", who, steps, _LOOP_CHANNELS[stage])
    course.events.add(LOOP_KIND[stage], who, at, channel=channels, facts=facts)
    course.loops[rows] += counts
    course.own_events[rows] += counts


def upload(course: Course, rows: Integers, at: Integers, step: int) -> None:
    """Documents sent: from now on the customer waits on us."""
    names = picked(course.draws, "document", rows, step, _DOCUMENTS)
    pages = (1 + course.draws.words("pages", rows, step) % np.uint64(4)).astype(np.int64)
    channel = np.where(course.people.app_user[rows], "app", "web").tolist()
    facts = facts_json({"document": names, "pages": pages})
    course.events.add("documents_uploaded", rows, at, channel=channel, facts=facts)
    course.waiting_since[rows] = at
    course.own_events[rows] += 1


def complain(course: Course, rows: Integers, start: Integers, end: Integers, *, stage: str, step: int) -> None:
    """Some of those who struggle complain; a complaint is resolved within two weeks."""
    draws, events = course.draws, course.events
    some = draws.happens("complaint", rows, step, 0.07)
    rows, start, end = rows[some], start[some], end[some]
    at = start + (draws.between("complaint-at", rows, step, 0.6, 0.95) * (end - start)).astype(np.int64)
    resolved = at + (draws.between("complaint-for", rows, step, 3.0, 14.0) * DAY_US).astype(np.int64)
    channels = picked(draws, "complaint-channel", rows, step, ("web", "email", "call", "social"))
    topics = picked(draws, "complaint-topic", rows, step, TOPICS[stage])
    events.add("complaint_opened", rows, at, channel=channels, facts=facts_json({"topic": topics}))
    events.add("profile_updated", rows, at + 1_000_000, channel=None, facts=['{"open_complaint":true}'] * rows.size)
    events.add("complaint_resolved", rows, resolved, channel="back_office")
    facts = ['{"open_complaint":false}'] * rows.size
    events.add("profile_updated", rows, resolved + 1_000_000, channel=None, facts=facts)
    course.complaint_from[rows], course.complaint_to[rows] = at, resolved
    course.own_events[rows] += 1


def give_feedback(course: Course, rows: Integers, at: Integers, *, mood: Floats, survey: str, step: int) -> None:
    """Feedback with a score and a few words.

    Args:
        course: moved on.
        rows: who.
        at: when.
        mood: the mean likelihood to recommend of each, 0 to 10.
        survey: what was asked.
        step: of the draws.
    """
    draws = course.draws
    noise = sum(draws.uniform(f"nps-{i}", rows, step) for i in range(3)) - 1.5
    nps = np.clip(np.round(mood + 3.0 * noise), 0, 10)
    sentiment = np.round(np.clip((nps - 6.0) / 5.0 + draws.between("sentiment", rows, step, -0.2, 0.2), -1, 1), 2)
    good, mixed, bad = (picked(draws, "text", rows, step, texts) for texts in (_GOOD_TEXTS, _MIXED_TEXTS, _BAD_TEXTS))
    text = [
        g if score >= 9 else m if score >= 7 else b
        for score, g, m, b in zip(nps.tolist(), good, mixed, bad, strict=True)
    ]
    facts = facts_json(
        {
            "nps": nps,
            "csat": np.clip(np.ceil((nps + 1) / 2.2), 1, 5),
            "sentiment": sentiment,
            "survey": [survey] * rows.size,
        }
    )
    channels = picked(draws, "feedback-channel", rows, step, ("email", "web", "sms", "app"))
    course.events.add("feedback_given", rows, at, channel=channels, facts=facts, text=text)
    course.last_nps[rows] = nps
    course.own_events[rows] += 1


def _page_views(
    course: Course, rows: Integers, start: Integers, end: Integers, place: str, step: int, mean: Floats
) -> None:
    seconds = tuple(range(5, 240, 7))
    facts: Options = {"page": _PAGES[place], "duration_s": seconds}
    _some(
        course,
        "page_viewed",
        rows,
        start,
        end,
        step,
        mean,
        channel="web",
        facts=facts,
        purpose=f"page-{place == 'before'}",
    )


def _some(
    course: Course,
    kind: str,
    rows: Integers,
    start: Integers,
    end: Integers,
    step: int,
    mean: Floats,
    *,
    channel: str,
    facts: Options,
    purpose: str | None = None,
) -> None:
    draws = course.draws
    name = purpose or kind
    counts = draws.count(name, rows, step, mean, 5)
    where, at, steps = scattered(course, f"{name}-at", rows, counts, start, end, step)
    who = rows[where]
    columns = {}
    for fact, options in facts.items():
        positions = (draws.words(f"{name}-{fact}", who, steps) % np.uint64(len(options))).tolist()
        columns[fact] = [options[position] for position in positions]
    course.events.add(kind, who, at, channel=channel, facts=facts_json(columns))
    course.own_events[rows] += counts
