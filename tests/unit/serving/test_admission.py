"""Admission by kind: what can wait is refused first, decisions last, health and metrics never."""

from __future__ import annotations

import pytest

from serving.admission import SHARES, Admission, Kind, kind_of
from serving.api.app import ROUTES
from serving.pace import Pace
from serving.problems import TooManyRequests

MOST = 100


def _paces(*, decisions: int, others: int = 0) -> tuple[Pace, Pace]:
    paces = tuple(Pace(most=MOST, longest_wait=1.0, timer=lambda: 0.0) for _ in range(2))
    for pace, under_way in zip(paces, (decisions, others), strict=True):
        for _ in range(under_way):
            pace.begin()
    return paces[0], paces[1]


def _admitted(*, decisions: int, others: int = 0) -> list[Kind]:
    first, second = _paces(decisions=decisions, others=others)
    admission = Admission(decisions=first, others=second)
    found: list[Kind] = []
    for kind in SHARES:
        try:
            admission.admit(kind)
        except TooManyRequests:
            continue
        found.append(kind)
    return found


@pytest.mark.parametrize(
    ("under_way", "admitted"),
    [
        (0, ["explanations", "reports", "events", "decisions"]),
        (24, ["explanations", "reports", "events", "decisions"]),
        (25, ["reports", "events", "decisions"]),
        (50, ["events", "decisions"]),
        (75, ["decisions"]),
        (100, []),
    ],
)
def test_explanations_go_first_and_decisions_last(under_way: int, admitted: list[Kind]) -> None:
    """By how much of the room for decisions is taken."""
    assert _admitted(decisions=under_way) == admitted


def test_what_others_wait_for_keeps_no_decision_out() -> None:
    """A crowd of reports or events is refused, and decided beside."""
    assert _admitted(decisions=0, others=100) == ["decisions"]


def test_a_refusal_says_how_full_it_is_and_is_counted_by_kind() -> None:
    """So that an operator sees what was given up for what."""
    first, second = _paces(decisions=60)
    admission = Admission(decisions=first, others=second)

    with pytest.raises(TooManyRequests, match=r"60% of the room .* expected less than 50% for reports") as refusal:
        admission.admit("reports")

    assert refusal.value.retry_after == 1
    assert admission.refused == {"explanations": 0, "reports": 1, "events": 0}


def test_a_wait_that_is_too_long_counts_as_room_that_is_taken() -> None:
    """Six under way at one every 0.1 s are 0.6 s of the second that a decision may wait."""
    now = [0.0]
    pace = Pace(most=1_000, longest_wait=1.0, timer=lambda: now[0])
    for _ in range(200):
        pace.begin()
        now[0] += 0.1
        pace.end()
    for _ in range(6):
        pace.begin()

    assert pace.load == pytest.approx(0.6)


def test_every_route_has_the_kind_that_it_should() -> None:
    """Reads are reports unless they explain; what tells or changes something goes with the events."""
    found: dict[Kind | None, set[str]] = {}
    for route in ROUTES:
        for method in route.http_methods:
            for template in (path.replace(":str", "").replace(":path", "") for path in route.paths):
                found.setdefault(kind_of(str(method), template), set()).add(f"{method} {template}")

    assert found[None] == {"GET /metrics"}
    flags = "POST /ofrep/v1/evaluate/flags"
    assert found["decisions"] == {"POST /v1/decisions", flags, f"{flags}/{{key}}"}
    assert found["explanations"] == {
        "GET /v1/decisions/{decision_id}/explanation",
        "POST /v1/decisions/{decision_id}/replay",
        "POST /v1/audiences/estimate",
        "POST /v1/audiences/screen",
        "POST /v1/policies/validate",
        "POST /v1/simulations",
    }
    assert all(one.startswith("GET ") for one in found["reports"])
    assert not any(one.startswith("GET ") for one in found["events"])
