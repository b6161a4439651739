"""Who should handle it: able, predicted to succeed, and with room."""

from __future__ import annotations

from collections import Counter

import pytest

from models.actions import Action
from models.workforce import OpenPerson, Person, Results, assignees, is_able, queue_mean, suitability
from tests.decisions import action


def person(
    person_id: str = "p1",
    *,
    queues: tuple[str, ...] = ("desk",),
    skills: tuple[str, ...] = (),
    available: bool = True,
    most_open: int = 4,
    open_work: int = 0,
    results: dict[str, tuple[int, int]] | None = None,
) -> OpenPerson:
    """Somebody at the desk with room for four and no work, unless told otherwise; results are handled, succeeded."""
    counts = {name: Results(handled=n, succeeded=s) for name, (n, s) in (results or {}).items()}
    return OpenPerson(
        Person(
            person_id=person_id,
            queues=queues,
            skills=skills,
            available=available,
            most_open=most_open,
            results=counts,
        ),
        open_work,
    )


def call(**changes: object) -> Action:
    """A call of the desk."""
    return action("call", assigned_to="desk", **changes)


def _chosen(*people: OpenPerson, decision_id: str = "d-1", **changes: object) -> str | None:
    return assignees([call(**changes)], people, decision_id=decision_id)["call"]


def test_a_queue_of_which_nobody_was_told_stays_unassigned() -> None:
    """As does an action without a queue; both are left out."""
    assert assignees([call(), action("tip")], [person(queues=("other",))], decision_id="d-1") == {}


def test_whoever_cannot_is_never_chosen() -> None:
    """Away, full, or without a skill: where nobody else is there, nobody is."""
    cannot = [person("a", available=False), person("b", open_work=4), person("c", skills=("dutch",))]
    for one in cannot:
        assert _chosen(one, skills=("dutch", "cards")) is None
    able = person("d", skills=("cards", "dutch"))
    assert _chosen(*cannot, able, skills=("dutch", "cards")) == "d"
    assert is_able(able, call(skills=("cards",)))


def test_more_open_work_than_may_be_is_no_room() -> None:
    """The load was told higher, or the room lower."""
    assert _chosen(person(most_open=2, open_work=5), person("none", most_open=0)) is None


def test_the_better_result_goes_first() -> None:
    """On as many pieces of work as tell it from chance."""
    assert _chosen(person("a", results={"desk": (200, 60)}), person("b", results={"desk": (200, 100)})) == "b"


def test_few_results_say_little() -> None:
    """One success of one is no better than the queue; its prediction stays near the mean of 0.5."""
    lucky, steady = person("a", results={"desk": (1, 1)}), person("b", results={"desk": (199, 119)})
    mean = queue_mean([lucky, steady], call())
    assert mean == pytest.approx(0.6)
    assert suitability(lucky, call(), mean) == pytest.approx((1 + 20 * 0.6) / 21)
    assert suitability(steady, call(), mean) == pytest.approx((119 + 20 * 0.6) / 219)


def test_results_of_the_very_action_go_before_those_of_the_queue() -> None:
    """Somebody who is good at the desk may be bad at this call."""
    assert _chosen(person("a", results={"desk": (200, 160), "call": (200, 20)}), person("b")) == "b"


def test_load_evens_out() -> None:
    """The best gets work first, until half full where the other is at half the rate and idle."""
    best = {"desk": (980, 980)}
    other = {"desk": (980, 490)}
    chosen = [
        _chosen(person("a", open_work=n, most_open=8, results=best), person("b", most_open=8, results=other))
        for n in range(8)
    ]
    assert chosen == ["a"] * 4 + ["b"] * 4


def test_equals_get_equal_shares() -> None:
    """The decision's id settles ties, whatever the order of the people, and the same decision gets the same."""
    people = [person(f"p{i}") for i in range(4)]
    shares = Counter(_chosen(*people, decision_id=f"d-{i}") for i in range(2_000))

    assert set(shares) == {"p0", "p1", "p2", "p3"}
    assert min(shares.values()) > 400
    assert all(
        _chosen(*people, decision_id=f"d-{i}") == _chosen(*reversed(people), decision_id=f"d-{i}") for i in range(50)
    )


def test_who_was_taken_meanwhile_is_left_out_for_that_action() -> None:
    """For another action they may still have room."""
    both = [call(), action("case", assigned_to="desk")]
    found = assignees(both, [person("a")], decision_id="d-1", taken={("call", "a")})
    assert found == {"call": None, "case": "a"}


def test_in_a_queue_without_results_everybody_is_alike() -> None:
    """Only the room tells them apart."""
    assert queue_mean([person()], call()) == 0.5
    assert _chosen(person("a", open_work=1), person("b")) == "b"
