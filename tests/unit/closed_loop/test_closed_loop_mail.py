"""Events of the simulated world come in when they arrive, each once."""

from __future__ import annotations

import numpy as np
import pytest

from features.event_log import MemoryEventLog
from models.configuration import built_in_configuration
from models.memory_records import MemoryRecordStore
from tests.closed_loop.mail import Mail
from tests.closed_loop.setting import JOURNEY_ID, START
from training.simulated_choice import PastPolicy
from training.simulated_course import DAY_US, NEVER
from training.simulated_journeys import Crowd
from training.simulated_policy import options_of

BUILT_IN = built_in_configuration()
END = START + 90 * DAY_US


@pytest.fixture
def crowd() -> Crowd:
    """Some customers before any decision."""
    return Crowd(
        seed=2,
        numbers=np.arange(40, dtype=np.int64),
        until=END,
        span_days=90.0,
        options=options_of(BUILT_IN.catalogue),
        journey=BUILT_IN.journeys.by_id[JOURNEY_ID],
        chooser=PastPolicy(),
    )


@pytest.fixture
def log() -> MemoryEventLog:
    """Where events go."""
    return MemoryEventLog()


@pytest.fixture
def mail(crowd: Crowd, log: MemoryEventLog) -> Mail:
    """Between the two."""
    return Mail(
        crowd.course,
        log=log,
        records=MemoryRecordStore(),
        taxonomy=BUILT_IN.taxonomy,
        catalogue=BUILT_IN.catalogue,
    )


def test_an_event_comes_in_when_it_arrived_before_its_customers_moment(
    crowd: Crowd, mail: Mail, log: MemoryEventLog
) -> None:
    """Of others nothing comes in."""
    before = np.full(40, NEVER)
    before[:5] = START + 60 * DAY_US

    n = mail.deliver(before)

    events = [logged.event for page in log.read() for logged in page]
    assert n == len(events) > 0
    assert {event.customer_id for event in events} <= set(crowd.course.people.ids[:5].tolist())
    assert max(event.arrived_at for event in events) < START + 60 * DAY_US


def test_an_event_comes_in_once(crowd: Crowd, mail: Mail) -> None:
    """Whatever was delivered is not on its way any more."""
    everybody = np.full(40, END)

    first, again = mail.deliver(everybody), mail.deliver(everybody)

    assert first > 0
    assert again == 0
    assert len(mail.known(np.arange(40))) == first


def test_what_follows_from_a_decision_arrives_after_it(crowd: Crowd, mail: Mail, log: MemoryEventLog) -> None:
    """Also what is said to have happened before it: no decision can have seen it."""
    mail.deliver(np.full(40, NEVER))
    crowd.advance(START + 90 * DAY_US)
    decided = crowd.course.decided_at > NEVER
    known = {event.event_id for page in log.read() for event in (one.event for one in page)}

    mail.deliver(np.full(40, END + 400 * DAY_US))

    last = dict(zip(crowd.course.people.ids.tolist(), crowd.course.decided_at.tolist(), strict=True))
    late = [
        event
        for page in log.read()
        for event in (one.event for one in page)
        if event.kind == "action_exposed" and event.event_id not in known
    ]
    assert decided.any()
    assert late
    assert all(event.arrived_at > last[event.customer_id] for event in late)


def test_nobody_asks_for_the_events_of_those_who_are_done(mail: Mail) -> None:
    """They are forgotten, and the others' are not."""
    mail.deliver(np.full(40, END))

    mail.keep_only(np.array([3]))

    assert mail.known(np.arange(40)) == mail.known(np.array([3]))
