"""Parity: what counts as a difference, how it is counted, and how it is told."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.parity import ParityReport, differences, is_behind, parity_document, parity_text

NAMES = ("calls", "nps", "gap")


def _report(served: list[list[float]], recomputed: list[list[float]], *, behind: bool = False) -> ParityReport:
    report = ParityReport()
    report.add(
        NAMES,
        [f"d-{i}" for i in range(len(served))],
        np.array(served),
        np.array(recomputed),
        is_behind=np.full(len(served), behind),
        degraded=[["features_rebuilt"] if i == 0 else [] for i in range(len(served))],
    )
    return report


@pytest.mark.parametrize(
    ("served", "recomputed", "fault"),
    [
        (1.0, 1.0, None),
        (math.nan, math.nan, None),
        (math.nan, -math.nan, None),
        (1.0, np.nextafter(1.0, 2.0), "mismatch"),
        (0.0, -0.0, "mismatch"),
        (math.inf, -math.inf, "mismatch"),
        (math.nan, 0.0, "missing"),
        (0.0, math.nan, "extra"),
    ],
)
def test_a_value_is_the_same_only_to_the_bit(served: float, recomputed: float, fault: str | None) -> None:
    """Unknown is equal to unknown; nothing else is excused, and each difference is of one kind."""
    found = differences(np.array([[served]]), np.array([[recomputed]]))

    assert [name for name in ("mismatch", "missing", "extra") if getattr(found, name).any()] == (
        [fault] if fault else []
    )


def test_nothing_differing_is_proven() -> None:
    """Where something was compared."""
    report = _report([[1.0, math.nan, 2.0]], [[1.0, math.nan, 2.0]])

    assert report.is_proven
    assert not ParityReport().is_proven
    assert "mismatch  0 (0.0000%)" in parity_text(report, examples=3)


def test_a_state_behind_the_log_is_never_excused() -> None:
    """Also where no feature happens to show it."""
    report = _report([[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]], behind=True)

    assert (report.behind, report.is_proven) == (1, False)


def test_differences_are_counted_by_feature() -> None:
    """With their shares of the decisions compared, and of all values."""
    served = [[1.0, math.nan, 2.0], [1.0, 7.0, 2.0], [5.0, 7.0, 2.0], [1.0, 7.0, 2.0]]
    report = _report(served, [[1.0, 7.0, 2.0]] * 2 + [[2.0, math.nan, 2.0], [1.0, 7.0, 2.0]])

    document = parity_document(report, examples=5)

    assert {name: document[name] for name in ("decisions", "features", "mismatch", "missing", "extra")} == {
        "decisions": 4,
        "features": 3,
        "mismatch": 1,
        "missing": 1,
        "extra": 1,
    }
    assert document["mismatch_rate"] == pytest.approx(1 / 12)
    assert document["by_feature"] == {
        "calls": {
            "decisions": 4,
            "mismatch": 1,
            "missing": 0,
            "extra": 0,
            "mismatch_rate": 0.25,
            "missing_rate": 0.0,
            "extra_rate": 0.0,
        },
        "nps": {
            "decisions": 4,
            "mismatch": 0,
            "missing": 1,
            "extra": 1,
            "mismatch_rate": 0.0,
            "missing_rate": 0.25,
            "extra_rate": 0.25,
        },
    }
    assert document["degraded"] == {"features_rebuilt": 1}


def test_the_furthest_value_of_a_feature_is_its_example() -> None:
    """Features that differ most often come first; unknown is null in JSON."""
    report = _report([[1.0, 3.0, 0.0], [1.0, 9.0, 0.0]], [[1.0, 1.0, 0.0], [math.nan, 1.0, 0.0]])

    assert parity_document(report, examples=5)["examples"] == [
        {
            "feature": "nps",
            "decision_id": "d-1",
            "fault": "mismatch",
            "served": 9.0,
            "recomputed": 1.0,
            "behind": False,
        },
        {
            "feature": "calls",
            "decision_id": "d-1",
            "fault": "extra",
            "served": 1.0,
            "recomputed": None,
            "behind": False,
        },
    ]
    assert len(report.worst(1)) == 1


def test_the_text_lists_only_what_differs() -> None:
    """And says what was skipped, and why."""
    report = _report([[1.0, 3.0, 0.0]], [[1.0, 1.0, 0.0]], behind=True)
    report.skip("mode_imported")
    report.skip("mode_imported")

    text = parity_text(report, examples=3)

    assert "1 decisions, 3 features, 3 values compared" in text
    assert "skipped   mode_imported 2" in text
    assert "nps      100.0000%    0.0000%    0.0000%" in text
    assert "d-0  nps: served 3.0, recomputed 1.0, behind the log" in text
    assert "calls" not in text


def test_a_state_is_behind_what_had_arrived() -> None:
    """One that has folded more is not: it may have folded what says whose events are whose."""
    assert is_behind(np.array([3, 4, 5]), np.array([4, 4, 4])).tolist() == [True, False, False]
