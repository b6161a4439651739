"""A first journey out of cases: start, steps, goal and exits."""

from __future__ import annotations

from features.main_paths import MOST_STAGES, main_path

HOUR = 3_600_000_000


def _case(*kinds: str, hours: float = 1.0) -> list[tuple[int, str]]:
    return [(int(place * hours * HOUR), kind) for place, kind in enumerate(kinds)]


def test_the_goal_is_the_ending_that_got_furthest() -> None:
    """Not the most frequent one, which may be a refusal; that is a way out."""
    cases = [_case("apply", "refuse")] * 6 + [_case("apply", "check", "sign", "pay")] * 4

    path = main_path(cases)

    assert path is not None
    assert (path.entry, tuple(path.stages), path.goal) == (("apply",), ("apply", "check", "sign"), "pay")
    assert path.exits == ("refuse",)


def test_a_rare_ending_is_no_goal() -> None:
    """One case in a hundred says little, however far it got."""
    cases = [_case("apply", "check", "pay")] * 99 + [_case("apply", "check", "sue", "settle", "write_off")]

    path = main_path(cases)

    assert path is not None
    assert path.goal == "pay"


def test_a_step_that_few_take_on_the_way_is_no_stage() -> None:
    """Half of those who reach the goal must."""
    cases = [_case("apply", "check", "pay")] * 3 + [_case("apply", "complain", "pay")]

    path = main_path(cases)

    assert path is not None
    assert list(path.stages) == ["apply", "check"]


def test_nine_of_ten_stay_within_the_time_of_a_stage() -> None:
    """Rounded up; the silence that abandons is longer than each of them."""
    cases = [_case("apply", "pay", hours=hours) for hours in range(1, 11)]

    path = main_path(cases)

    assert path is not None
    assert path.stages == {"apply": 10 * HOUR}
    assert path.abandon_after == 24 * HOUR


def test_a_long_path_keeps_its_most_usual_steps() -> None:
    """In their order."""
    steps = [f"step_{n:02}" for n in range(20)]
    cases = [_case("apply", *steps, "pay")] * 2 + [_case("apply", *steps[9:], "pay")]

    path = main_path(cases)

    assert path is not None
    assert list(path.stages) == ["apply", *steps[9:]]
    assert len(path.stages) == MOST_STAGES


def test_one_kind_makes_no_path() -> None:
    """There is nothing to get to."""
    assert main_path([_case("apply", "apply"), _case("apply")]) is None


def test_the_order_of_cases_does_not_matter() -> None:
    """Ties are broken by name."""
    cases = [_case("a", "b", "c"), _case("a", "c", "b"), _case("b", "a", "c")]

    assert main_path(cases) == main_path(cases[::-1])
