"""What training and evaluation tell people."""

from typing import Any

from training.commands import summary_lines


def line(**changes: Any) -> str:
    """The line of one action."""
    found = {
        "qini_sklift": 0.05,
        "qini_interval": [0.01, 0.09],
        "auuc": 0.6,
        "calibration_slope": 1.0,
        "n_treated": 1200,
        "n_control": 800,
        "randomised": True,
    }
    judged = {"stall": None, "uplift": {"paid": {"good": {**found, **changes}}}, "policy": {"value": None}}
    return summary_lines(judged)[0]


def test_a_ranking_is_told_with_its_interval() -> None:
    """And with how many rows it was judged on."""
    assert line() == "uplift on paid of good: Qini 0.050 [0.010, 0.090], 1,200 against 800"


def test_an_observational_effect_says_so() -> None:
    """Loudly."""
    assert line(randomised=False).endswith("800, NOT randomised")


def test_no_ranking_is_not_told_as_one() -> None:
    """A Qini of 0 between 0 and 0 would look like a fault."""
    assert line(qini_sklift=0.0, qini_interval=[0.0, 0.0], auuc=None) == (
        "uplift on paid of good: the same for everybody, 1,200 against 800"
    )


def test_nothing_held_out_is_not_told_as_a_result() -> None:
    """There were no rows of both kinds."""
    assert line(qini_sklift=None, qini_interval=[None, None], auuc=None, n_treated=0) == (
        "uplift on paid of good: nothing held out to judge by, 0 against 800"
    )
