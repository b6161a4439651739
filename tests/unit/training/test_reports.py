"""Reports: what is not a number is not written as one, and the curves start where they must."""

from pathlib import Path

import numpy as np
import pytest

from features.errors import Refused, UnknownObject
from features.home import Home
from training.evaluate import qini_points, reliability
from training.reports import (
    evaluation_file,
    headline,
    read_evaluation,
    share_interval,
    write_evaluations,
    write_json,
)

POLICY = dict.fromkeys(("value", "interval", "best_single", "random", "ess"))
EMPTY = {"stall": None, "uplift": {}, "policy": POLICY, "about": {"notes": []}}


def test_one_journey_needs_no_name(tmp_path: Path) -> None:
    """Where one was trained it is the one."""
    home = Home(tmp_path)
    write_evaluations(home, {"card": EMPTY})
    assert read_evaluation(home) == EMPTY


def test_of_several_journeys_one_is_named(tmp_path: Path) -> None:
    """The message names them."""
    home = Home(tmp_path)
    write_evaluations(home, {"card": EMPTY, "loan": EMPTY})
    assert read_evaluation(home, "loan") == EMPTY
    with pytest.raises(Refused, match="--journey card, loan"):
        read_evaluation(home)
    with pytest.raises(UnknownObject, match="card, loan"):
        read_evaluation(home, "house")


def test_a_damaged_report_is_refused(tmp_path: Path) -> None:
    """It says what to run."""
    home = Home(tmp_path)
    evaluation_file(home).parent.mkdir(parents=True)
    evaluation_file(home).write_text("{")
    with pytest.raises(Refused, match="headway train"):
        read_evaluation(home)


def test_json_has_no_nan(tmp_path: Path) -> None:
    """A NaN that slipped through is an error and not a broken file."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.glob("*.json")) == []


def test_the_headline_leaves_out_what_is_unknown() -> None:
    """Only numbers are compared between trainings."""
    judged = {**EMPTY, "uplift": {"paid": {"nudge": {"qini_sklift": None}, "offer": {"qini_sklift": 0.1}}}}
    assert headline(judged) == {"stall": {}, "qini_sklift": {"paid": {"offer": 0.1}}, "policy": {}}


def test_a_reliability_curve_counts_every_row() -> None:
    """Bins of equal mass, from low to high predictions."""
    points = reliability(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.8, 0.9]), n_bins=2)
    assert [(point["predicted"], point["observed"], point["n"]) for point in points] == [
        (pytest.approx(0.15), 0.0, 2),
        (pytest.approx(0.85), 1.0, 2),
    ]


def test_a_qini_curve_runs_from_nobody_to_everybody() -> None:
    """It starts at 0 and ends at the effect per row."""
    y, uplift = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.8, 0.2, 0.1])
    points = qini_points(y, uplift, np.array([1.0, 0.0, 1.0, 0.0]), n_points=5)
    assert (points[0], points[-1]) == ({"share": 0.0, "gain": 0.0}, {"share": 1.0, "gain": 0.25})


@pytest.mark.parametrize("observed", [0.0, 0.25, 1.0])
def test_a_share_lies_within_its_interval(observed: float) -> None:
    """For every number of rows, also where all or none are: what is drawn from it needs distances, not signs."""
    for n in range(1, 400):
        found = share_interval({"observed": observed, "n": n})

        assert 0.0 <= found["low"] <= observed <= found["high"] <= 1.0
