"""What the page of the closed loop says of its runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.closed_loop.page import Covered, by_round, covered, mean_and_error, page, picture, summary


def an_estimate(truth: float, low: float, high: float) -> dict[str, float]:
    """An estimate beside its truth."""
    return {"truth": truth, "estimate": (low + high) / 2, "low": low, "high": high}


def a_round(number: int, *, value: float, **given: Any) -> dict[str, Any]:
    """A round of a run."""
    fields: dict[str, Any] = {
        "number": number,
        "champion": number or None,
        "decisions": 1000,
        "value": value,
        "champion_value": value if number else None,
        "random_value": 0.1,
        "best": 3.0,
        "estimate": None,
        "judged": None,
    }
    return fields | given


def a_run(seed: int, *values: float, drifts: bool = False) -> dict[str, Any]:
    """Two first rounds without a verdict, then one each, of which every other one promotes."""
    rounds = []
    for number, value in enumerate(values):
        judged = {
            "promoted": number % 2 == 0,
            "difference": an_estimate(0.1, -0.1, 0.3),
            "value": an_estimate(2.0, 2.1, 2.5),
        }
        told = {} if number < 2 else {"estimate": an_estimate(value, value - 0.2, value + 0.2), "judged": judged}
        rounds.append(a_round(number, value=value, **told))
    setting = {"drifts": drifts, "rounds": len(values), "customers": 1000}
    return {"setting": setting, "seed": seed, "rounds": rounds}


RUNS = [a_run(1, 0.0, 1.0, 2.0, 2.5), a_run(2, 0.2, 1.2, 2.4, 2.9)]


@pytest.mark.parametrize(("what", "expected"), [("champion", 4), ("difference", 4), ("challenger", 0)])
def test_coverage_counts_the_truths_inside_their_intervals(what: str, expected: int) -> None:
    """Over all rounds of all runs that have an estimate."""
    assert covered(RUNS, what) == Covered(expected, 4)


def test_the_bounds_of_a_coverage_are_wilsons() -> None:
    """19 of 20: 76.4 % to 99.1 %."""
    assert Covered(19, 20).bounds == pytest.approx((0.7639, 0.9911), abs=1e-4)


def test_no_interval_has_no_share() -> None:
    """Unknown is not 0."""
    assert math.isnan(Covered(0, 0).share)
    assert all(map(math.isnan, Covered(0, 0).bounds))


def test_a_round_is_averaged_over_the_seeds_that_have_it() -> None:
    """With the standard error of their mean; unknown where none has it."""
    mean, error = mean_and_error(by_round(RUNS, lambda one: one["champion_value"]))

    np.testing.assert_allclose(mean, [np.nan, 1.1, 2.2, 2.7])
    np.testing.assert_allclose(error, [np.nan, 0.1, 0.2, 0.2])


def test_the_summary_has_a_row_for_each_round_and_a_table_for_each_world() -> None:
    """With the promotions of all seeds."""
    text = summary([*RUNS, a_run(1, 0.0, 1.0, drifts=True)])

    assert text.count("| round |") == 2
    assert "| 3 | 1,000 | 2.20 ± 0.20 | 2.20 ± 0.20 | 0.10 ± 0.00 | 3.00 ± 0.00 | 0.10 ± 0.00 | 2 of 2 |" in text


def test_the_same_runs_give_the_same_picture() -> None:
    """An SVG that says what its curves are, without a date."""
    drawn = picture([*RUNS, a_run(1, 0.0, 1.0, 2.0, drifts=True)])

    assert drawn == picture([*RUNS, a_run(1, 0.0, 1.0, 2.0, drifts=True)])
    assert drawn.startswith("<svg")
    assert "random choices" in drawn


def test_the_page_says_whether_the_gate_promoted_what_is_better() -> None:
    """Over all challengers, by the truth and not by the estimate."""
    text = page(RUNS)

    assert "In 4 of 4 judgements the challenger was truly better" in text
    assert "worth EUR +0.10 a decision more. The gate promoted 2 times, 2 times what was truly better." in text
    assert "| 1 | 3 |  |  | +0.10 | +0.10 [-0.10, +0.30] | promoted |" in text


def test_the_page_says_whether_the_change_was_noticed_and_who_won() -> None:
    """By world: the round in which drift named effects, false alarms, and what became of the champion's choices."""
    told = a_run(7, 0.0, 2.0, 2.1, 2.1, 2.2, 1.1, 1.2, 1.9, drifts=True)
    reasons = [{"code": "effect.drifted", "subject": "all actions"}]
    told["rounds"][5]["drift"] = {"verdict": "retrain", "reasons": reasons}
    text = page([told])

    assert "World 7: `headway drift` named effects at the end of round 6, and never falsely before it" in text
    assert "a challenger was promoted at the end of round 7." in text
    assert "EUR 2.20 a decision before the change, EUR 1.10 in its round and EUR 1.90 in the last" in text
    assert "retrain: effect.drifted all actions" in text


def test_the_page_says_that_a_change_went_unnoticed() -> None:
    """Nothing is claimed that did not come out."""
    unnoticed = a_run(7, 0.0, 2.0, 2.1, 2.2, 1.1, 1.2, drifts=True)
    unnoticed["rounds"][4]["judged"]["promoted"] = False
    text = page([unnoticed])

    assert "did not name effects after the change" in text
    assert "no challenger won after it." in text


def test_worlds_of_which_somebody_told_stand_by_themselves() -> None:
    """What an operator knew is no merit of the drift report."""
    unaware, told = (a_run(7, 0.0, 2.0, 2.1, 2.2, 1.1, 1.2, drifts=True) for _ in range(2))
    told["setting"]["told"] = True
    text = page([told, unaware])

    assert text.index("## The effects change\n") < text.index("## The effects change, and somebody says so\n")
