"""The client against the service over a real port, and with a network between that loses answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from features.events import dump_timestamp
from serving.client.failures import NoAnswer, Problem
from serving.client.headway import Headway
from serving.client.patience import Patience
from serving.client.sending import Surroundings
from serving.schemas import EventDocument, ExposureDocument, LinkRequest, OutcomeDocument, UnlinkRequest
from tests.doors import BOOTSTRAP, HOUR_US, NOW, World
from tests.faults.proxy import Proxy
from tests.served import served

GUIDE = (Path(__file__).parents[3] / "docs" / "how-to" / "caller.md").read_text(encoding="utf-8")
SHOWN_KEY = "hw_choose_your_own_0123456789"
COMPILING: dict[str, float] = {"deadline_seconds": 300, "attempt_seconds": 300}
"""The first decision of a process on a new machine compiles code; a service does that before it is ready."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def url(world: World) -> Iterator[str]:
    """Where it is served."""
    with served(world) as url:
        yield url


@pytest.fixture
def headway(url: str) -> Iterator[Headway]:
    """A client with the bootstrap key."""
    with Headway(url, BOOTSTRAP, patience=Patience(**COMPILING)) as headway:
        yield headway


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """A network that can be cut."""
    parts = urlsplit(url)
    with closing(Proxy(str(parts.hostname), int(parts.port or 0))) as proxy:
        yield proxy


def _event(event_id: str, *, hours_ago: float = 1.0, customer_id: str = "c-1") -> EventDocument:
    return EventDocument(
        event_id=event_id,
        customer_id=customer_id,
        kind="application_submitted",
        channel="web",
        occurred_at=dump_timestamp(NOW - int(hours_ago * HOUR_US)),
        facts={"product": "classic"},
    )


def _now() -> str:
    return dump_timestamp(NOW)


def test_the_loop_closes(headway: Headway) -> None:
    """Events, a decision, its activation, what came of it, and all of it read back, typed."""
    taken = headway.send_events([_event("e-1", hours_ago=72), _event("e-1", hours_ago=72), _event("", hours_ago=1)])
    decision = headway.decide(
        "c-1", request_id="r-1", direction="inbound", placements=("web/home_banner",), max_actions=2
    )
    shown = headway.activate(decision.decision_id)
    outcomes = headway.send_outcomes(
        [
            ExposureDocument(decision_id=decision.decision_id, occurred_at=_now()),
            OutcomeDocument(decision_id=decision.decision_id, occurred_at=_now(), outcome_id="progress_7d", value=1),
        ]
    )
    stored = headway.decision(decision.decision_id)

    assert (taken.accepted, taken.duplicate, [one.index for one in taken.rejections]) == (1, 1, [2])
    assert [one.action_id for one in shown.contacts] == [one.action_id for one in decision.selected]
    assert (outcomes.accepted, outcomes.rejections, outcomes.late) == (2, (), ())
    assert stored.answer == decision
    assert {one.outcome_id: one.status for one in stored.outcomes or ()}["progress_7d"] == "yes"


def test_events_and_a_decision_in_one_call(headway: Headway) -> None:
    """The decision is the one that the same call gives again."""
    events = [_event("e-1", hours_ago=72)]

    first = headway.send_events_and_decide(events, channel="web")
    second = headway.send_events_and_decide(events, channel="web")

    assert (first.accepted, second.duplicate) == (1, 1)
    assert first.decision == second.decision
    assert first.decision is not None


def test_who_somebody_is(headway: Headway) -> None:
    """Links, context and timeline of one person under either id."""
    headway.send_events([_event("e-1", customer_id="cookie", hours_ago=72)])

    linked = headway.link(LinkRequest(alias="cookie", customer_id="c-1"))
    again = headway.link(LinkRequest(alias="cookie", customer_id="c-1"))
    context = headway.context("cookie", channel="web", direction="inbound")
    journey = headway.journey("c-1", limit=1)
    unlinked = headway.unlink(UnlinkRequest(alias="cookie", customer_id="c-1"))

    assert (linked.status, again.status, linked.linked_ids) == ("accepted", "duplicate", ("cookie",))
    assert (context.customer_id, context.standings[0].stage) == ("c-1", "applied")
    assert len(journey.timeline) == 1
    assert unlinked.linked_ids == ()


def test_decisions_are_found_over_pages(headway: Headway) -> None:
    """All of them, once each, newest first."""
    asked = [headway.decide("c-1", activate=False).decision_id for _ in range(5)]

    found = [one.decision_id for one in headway.decisions(customer_id="c-1", limit=2)]

    assert sorted(found) == sorted(asked)
    assert [one.decision_id for one in headway.decisions(customer_id="c-1", degraded=False)] == []


def test_a_refusal_is_told_with_its_fields(headway: Headway) -> None:
    """All of them, by pointer, at once."""
    with pytest.raises(Problem) as caught:
        headway.decide("c-1", max_actions=0, deadline_ms=0)

    assert (caught.value.status, caught.value.type) == (422, "/docs/problems/invalid-input")
    assert {one.pointer for one in caught.value.errors} == {"/max_actions", "/deadline_ms"}
    assert caught.value.attempts == 1


def test_a_key_that_is_none_is_told_without_it(url: str) -> None:
    """Neither here nor in what the service says."""
    with Headway(url, "hw_not_a_key_at_all") as headway, pytest.raises(Problem) as caught:
        headway.decision("d-1")

    assert caught.value.status == 401
    assert "hw_not_a_key_at_all" not in str(caught.value)


def test_the_guide_shows_what_works(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The program of the callers' page, as it stands there."""
    (program,) = [one for one in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "serving.client" in one]

    exec(compile(program.replace("http://127.0.0.1:3000", url).replace(SHOWN_KEY, BOOTSTRAP), "guide", "exec"), {})  # noqa: S102  # our own page

    assert capsys.readouterr().out.splitlines()[-1].split()[1].startswith("d-")


def _through(proxy: Proxy, between: Callable[[], object] = lambda: None, **patience: float) -> Headway:
    """A client behind a network; ``between`` happens where it would wait."""
    surroundings = Surroundings(sleep=lambda _: between() and None)
    url = f"http://127.0.0.1:{proxy.port}"
    return Headway(url, BOOTSTRAP, patience=Patience(**COMPILING | patience), surroundings=surroundings)


@pytest.mark.parametrize("which", ["lost_question", "lost_answer"])
def test_what_a_broken_connection_swallowed_is_counted_once(proxy: Proxy, world: World, which: str) -> None:
    """Before the service had it, or after it was committed: asked again, the answer is the one that was kept."""
    setattr(proxy, which, b"HTTP/1.1")
    breaks = []

    def between() -> None:
        breaks.append(which)
        if len(breaks) % 2 == 0:
            setattr(proxy, which, None)

    with _through(proxy, between) as headway:
        taken = headway.send_events([_event("e-1", hours_ago=72)])
        setattr(proxy, which, b"HTTP/1.1")
        decision = headway.decide("c-1", direction="inbound")
        setattr(proxy, which, b"HTTP/1.1")
        shown = headway.activate(decision.decision_id)
        setattr(proxy, which, b"HTTP/1.1")
        outcome = OutcomeDocument(
            decision_id=decision.decision_id, occurred_at=_now(), outcome_id="progress_7d", value=1
        )
        outcomes = headway.send_outcomes([outcome])
        stored = headway.decision(decision.decision_id)
        found = list(headway.decisions(customer_id="c-1"))

    is_kept = which == "lost_answer"
    assert len(breaks) == 8
    assert (taken.accepted, taken.duplicate) == ((0, 1) if is_kept else (1, 0))
    assert (outcomes.accepted, outcomes.duplicate) == ((0, 1) if is_kept else (1, 0))
    assert stored.answer == decision
    assert [one.decision_id for one in found] == [decision.decision_id]
    assert [one.was_counted_before for one in shown.contacts] == [is_kept] * len(decision.selected)
    assert len(shown.contacts) == len(world.records.customer("c-1", since=0, now=NOW).contacts) > 0


def test_a_cut_network_is_waited_for_until_the_deadline(proxy: Proxy) -> None:
    """And told as no answer; the same client asks again once it is mended."""
    proxy.cut()

    with (
        _through(proxy, deadline_seconds=0.3, first_wait_seconds=0.01) as headway,
        pytest.raises(NoAnswer) as caught,
    ):
        headway.decide("c-1")
    with _through(proxy, proxy.mend) as headway:
        decision = headway.decide("c-1")

    assert caught.value.attempts > 1
    assert decision.customer_id == "c-1"


def test_a_slow_network_is_not_waited_for_longer_than_an_attempt_may_take(proxy: Proxy) -> None:
    """Each attempt ends by itself; the deadline ends the last."""
    proxy.delay_seconds = 600

    with _through(proxy, deadline_seconds=0.4, attempt_seconds=0.1) as headway, pytest.raises(NoAnswer):
        headway.decide("c-1")
