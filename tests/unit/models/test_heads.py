"""Heads: how members combine, and what a damaged head file meets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from features.errors import BundleError
from models.heads import Head, control_head, effect_head, head_from_json, head_table, head_values
from models.monotone import MonotoneMap


def evaluated(head: Head, *raw: float) -> tuple[float, float]:
    """A head's value and deviation for one row of raw scores; members are named a, b, c."""
    values, sigmas = head_values(head_table([head], "abc"[: len(raw)]), np.array([raw]))
    return float(values[0, 0]), float(sigmas[0, 0])


def test_members_are_averaged() -> None:
    """Only those that the head names."""
    assert evaluated(Head(name="h", members=("a", "c")), 1.0, 100.0, 3.0)[0] == pytest.approx(2.0)


def test_the_weight_shrinks_members_to_the_mean() -> None:
    """A quarter of 2 and three quarters of 1."""
    assert evaluated(Head(name="h", members=("a",), mean=1.0, weight=0.25), 2.0)[0] == pytest.approx(1.25)


def test_without_members_there_is_the_mean() -> None:
    """Whatever the weight."""
    head = Head(name="h", mean=0.2, mean_se=0.1, spread="jackknife")
    assert evaluated(head, 5.0) == (pytest.approx(0.2), pytest.approx(0.1))


def test_the_link_and_then_the_calibration_apply() -> None:
    """A raw score of log 3 is 3/4, and Platt's map with slope 2 makes 9/10 of it."""
    head = Head(name="h", members=("a",), link="logistic", calibration=MonotoneMap("platt", 2.0, 0.0))
    assert evaluated(head, math.log(3))[0] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "calibration",
    [
        MonotoneMap(),
        MonotoneMap("platt", slope=1.5, intercept=-0.5),
        MonotoneMap("platt", slope=0.0, intercept=0.3),
        MonotoneMap("linear", slope=0.7, intercept=0.1),
        MonotoneMap("isotonic", x=(0.4,), y=(0.5,)),
        MonotoneMap("isotonic", x=(0.1, 0.5, 0.5000001, 0.9), y=(0.05, 0.05, 0.6, 0.95)),
    ],
)
def test_a_head_is_calibrated_as_the_map_says(calibration: MonotoneMap) -> None:
    """The compiled form and the map itself agree on every probability, at the knots and beyond them too."""
    heads = [Head(name="other", calibration=MonotoneMap("isotonic", x=(0.0, 1.0), y=(0.2, 0.3)))]
    heads.append(Head(name="h", members=("a",), calibration=calibration))
    p = np.concatenate([[0.0, 1.0, 0.1, 0.4, 0.5, 0.9], np.linspace(0, 1, 101)])
    found = head_values(head_table(heads, ["a"]), p[:, None])[0][:, 1]
    assert found.tolist() == pytest.approx(calibration.apply(p).tolist(), abs=1e-14)


def test_a_huge_raw_score_is_a_certain_probability() -> None:
    """No overflow."""
    assert evaluated(Head(name="h", members=("a",), link="logistic"), -1e6)[0] == pytest.approx(0.0)


def test_the_deviation_is_the_jackknifes_beside_the_means() -> None:
    """Members 1, 2, 3: 2/3 * 2 = 4/3, times weight squared, plus the mean's squared error."""
    head = Head(name="h", members=("a", "b", "c"), weight=0.5, mean_se=0.1, spread="jackknife")
    assert evaluated(head, 1.0, 2.0, 3.0)[1] == pytest.approx(math.sqrt(0.25 * 4 / 3 + 0.01))


def test_a_line_stretches_the_members_and_their_deviation() -> None:
    """Slope 2 on members 1 and 3 whose mean 2 is 1 away from nothing: value 4, jackknife 1/2 * 2 = 1, times 4."""
    head = Head(name="h", members=("a", "b"), spread="jackknife", calibration=MonotoneMap("linear", 2.0, 0.0))
    assert evaluated(head, 1.0, 3.0) == (pytest.approx(4.0), pytest.approx(2.0))


def test_the_spread_is_scaled() -> None:
    """A quarter of the variance is half of the deviation."""
    head = Head(name="h", members=("a", "b"), spread="jackknife", spread_scale=0.25)
    assert evaluated(head, 1.0, 3.0)[1] == pytest.approx(0.5)


def test_an_effect_is_the_less_sure_the_farther_it_is_from_the_mean() -> None:
    """A slope wrong by a tenth, five away from the mean."""
    head = Head(name="h", members=("a", "b"), spread="jackknife", mean=1.0, slope_se=0.1)
    assert evaluated(head, 6.0, 6.0)[1] == pytest.approx(0.5)
    assert evaluated(head, 1.0, 1.0)[1] == pytest.approx(0.0)


def test_keys_that_came_later_are_written_where_they_say_something() -> None:
    """A bundle of before stays what it was, byte for byte."""
    plain, telling = Head(name="h"), Head(name="h", spread_scale=0.5, slope_se=0.1)
    assert not {"spread_scale", "slope_se"} & plain.to_json().keys()
    assert head_from_json(telling.to_json()) == telling


@pytest.mark.parametrize("key", ["spread_scale", "slope_se"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), "x"])
def test_a_damaged_later_key_is_refused(key: str, value: object) -> None:
    """As any other number."""
    with pytest.raises(BundleError):
        head_from_json({**Head(name="h").to_json(), key: value})


def test_the_deviation_has_a_floor() -> None:
    """Members that agree do not make a certainty."""
    head = Head(name="h", members=("a", "b"), spread="jackknife", sigma_floor=0.02)
    assert evaluated(head, 1.0, 1.0)[1] == pytest.approx(0.02)


def test_a_head_without_spread_gives_no_deviation() -> None:
    """Unknown is NaN, not zero."""
    assert math.isnan(evaluated(Head(name="h", members=("a",)), 1.0)[1])


def test_no_heads_give_no_columns() -> None:
    """An empty table is a table."""
    values, sigmas = head_values(head_table([], ["a"]), np.zeros((2, 1)))
    assert values.shape == sigmas.shape == (2, 0)


def test_names_say_what_a_head_gives() -> None:
    """The names are part of the frozen format."""
    assert (control_head("visit"), effect_head("visit", "email")) == ("control:visit", "effect:visit:email")


def test_an_unknown_member_is_refused() -> None:
    """A head cannot combine what is not there."""
    with pytest.raises(BundleError, match="'b', which is not in the forest"):
        head_table([Head(name="h", members=("b",))], ["a"])


def test_two_heads_of_one_name_are_refused() -> None:
    """A name means one thing."""
    with pytest.raises(BundleError, match="the same name"):
        head_table([Head(name="h"), Head(name="h")], [])


def test_json_gives_the_head_back() -> None:
    """With every field set."""
    head = Head(
        name="h",
        members=("a",),
        link="logistic",
        calibration=MonotoneMap("platt", 2.0, 0.5),
        mean=0.1,
        mean_se=0.2,
        weight=0.3,
        spread="jackknife",
        sigma_floor=0.4,
        facts={"n_treated": 3, "randomised": False, "choice": "mean"},
    )
    assert head_from_json(head.to_json()) == head


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", 3),
        ("members", "abc"),
        ("members", [1]),
        ("combine", "cumulative_incidence"),
        ("combine", ["mean"]),
        ("link", "probit"),
        ("spread", None),
        ("mean", None),
        ("mean", float("inf")),
        ("mean", 10**400),
        ("mean_se", -0.1),
        ("weight", 1.1),
        ("sigma_floor", -1),
        ("facts", []),
        ("calibration", "identity"),
    ],
)
def test_a_damaged_head_is_refused(key: str, value: Any) -> None:
    """A rule or a value that this version does not know is never guessed."""
    with pytest.raises(BundleError):
        head_from_json({**Head(name="h").to_json(), key: value})


def test_a_head_with_another_key_is_refused() -> None:
    """A later format must not be half understood."""
    with pytest.raises(BundleError, match="expected the keys"):
        head_from_json({**Head(name="h").to_json(), "hazard": 1})
