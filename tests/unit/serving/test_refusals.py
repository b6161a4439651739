"""What is refused from its bytes: as much of a crowd that comes at once as there is no room for."""

from __future__ import annotations

import pytest

from serving.access import Rule
from serving.admission import Admission
from serving.pace import Pace
from serving.refusals import KEPT_SECONDS, Refusals

MOST = 100
ASK = b"POST /v1/decisions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
EVENTS = b"POST /v1/events HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"


class Crowd:
    """Refusals over paces of a hundred places, and what they told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.noted: list[str] = []
        self.decisions, others = (Pace(most=MOST, longest_wait=1.0, timer=lambda: self.now) for _ in range(2))
        self.admission = Admission(decisions=self.decisions, others=others)
        self.refusals = Refusals(admission=self.admission, note=self._note, timer=lambda: self.now)

    def _note(self, rule: Rule) -> None:
        self.noted.append(rule.path)

    def let_in(self, data: bytes, times: int) -> int:
        """How many of so many that come at once are let in."""
        count = 0
        for _ in range(times):
            if self.refusals.answer_to(data) is None:
                self.refusals.let_through(data)
                count += 1
        return count


def test_a_crowd_that_comes_at_once_is_let_in_as_far_as_there_is_room() -> None:
    """None of it is under way yet; those that can wait get less of the room."""
    assert Crowd().let_in(ASK, 3 * MOST) == MOST
    assert Crowd().let_in(EVENTS, 3 * MOST) == 75


def test_both_doors_of_decisions_have_the_same_room() -> None:
    """Whoever decides by BentoML's door is refused as late as anybody who decides."""
    assert Crowd().let_in(ASK.replace(b"/v1/decisions", b"/rank"), 3 * MOST) == MOST


@pytest.mark.parametrize(
    "other",
    [
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\n\r\n",
        b"POST /v1/track HTTP/1.1\r\nOrigin: https://www.example.com\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/decisions/d-1/activate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_crowd_of_what_is_not_refused_here_keeps_no_decision_out(other: bytes) -> None:
    """It is no decision, so no decision waits behind it."""
    crowd = Crowd()

    assert crowd.let_in(other, 5 * MOST) == 5 * MOST
    assert crowd.let_in(ASK, 3 * MOST) == MOST
    assert crowd.let_in(EVENTS, 1) == 0


@pytest.mark.parametrize(
    "asking",
    [
        b"POST /v1/decisions?a=b HTTP/1.1",
        b"POST /rank HTTP/1.1",
        b"POST /ofrep/v1/evaluate/flags HTTP/1.1",
        b"POST /ofrep/v1/evaluate/flags/web/banner HTTP/1.1",
    ],
)
def test_decisions_wait_behind_decisions_of_every_door(asking: bytes) -> None:
    """However these are sent."""
    crowd = Crowd()

    assert crowd.let_in(asking + b"\r\nTransfer-Encoding: chunked\r\n\r\n", 60) == 60
    assert crowd.let_in(ASK, MOST) == MOST - 60


def test_those_let_in_are_counted_once() -> None:
    """By their pace, once they are under way."""
    crowd = Crowd()
    assert crowd.let_in(ASK, 60) == 60
    for _ in range(60):
        crowd.decisions.begin()
    crowd.refusals.begun()

    assert crowd.let_in(ASK, MOST) == 40


def test_the_first_one_let_through_is_told_apart() -> None:
    """Whoever lets it through must see to it that ``begun`` is said once a round."""
    refusals = Crowd().refusals

    assert [refusals.let_through(ASK) for _ in range(3)] == [True, False, False]
    refusals.begun()
    assert refusals.let_through(ASK)


def test_every_refusal_is_counted_and_noted() -> None:
    """The words are kept for a moment; the counts are of each."""
    crowd = Crowd()
    crowd.let_in(ASK, MOST + 7)
    crowd.let_in(EVENTS, 5)

    assert crowd.decisions.refused == 7
    assert crowd.admission.refused["events"] == 5
    assert crowd.noted == ["/v1/decisions"] * 7 + ["/v1/events"] * 5


def test_the_words_are_made_anew_after_a_moment() -> None:
    """So that they say how it is now."""
    crowd = Crowd()
    crowd.let_in(ASK, MOST)
    first = crowd.refusals.answer_to(ASK)
    crowd.refusals.begun()
    crowd.decisions.under_way = MOST + 1
    second = crowd.refusals.answer_to(ASK)
    crowd.now += 2 * KEPT_SECONDS
    third = crowd.refusals.answer_to(ASK)

    assert first is not None
    assert third is not None
    assert first == second
    assert b"0 requests are under way" in first
    assert b"101 requests are under way" in third


def test_what_is_always_answered_is_let_through() -> None:
    """Health and metrics; what no route is for is told so the ordinary way."""
    crowd = Crowd()
    crowd.let_in(ASK, MOST)
    always = ("GET /livez", "GET /metrics", "GET /nowhere", "PATCH /v1/decisions", "OPTIONS /v1/events")

    assert [crowd.refusals.answer_to(f"{one} HTTP/1.1\r\n\r\n".encode()) for one in always] == [None] * 5
