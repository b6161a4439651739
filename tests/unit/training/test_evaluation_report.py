"""The page on a judgement: what is not certain is not told as if it were, and what is unknown says so."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from defusedxml import ElementTree

from models.configuration import built_in_configuration
from training.evaluation_report import evaluation_page

JOURNEY = "credit_card_application"
UNKNOWN_POLICY = dict.fromkeys(("value", "interval", "best_single", "random", "ess"))


def arm(**changes: Any) -> dict[str, Any]:
    """How an action was judged: it ranks customers for certain."""
    return {
        "qini_sklift": 0.05,
        "qini_interval": [0.01, 0.09],
        "auuc": 0.6,
        "mean_effect": 0.031,
        "mean_effect_interval": [0.012, 0.05],
        "n_treated": 1200,
        "n_control": 800,
        "randomised": True,
        **changes,
    }


STALL = {"auc": 0.76, "brier": 0.2, "ece": 0.016, "slope": 1.0, "n": 4000}
JUDGED: dict[str, Any] = {
    "stall": {**STALL, "by_stage": {"applied": STALL, "verified": {**STALL, "auc": None, "n": 12}}},
    "uplift": {"progress_7d": {"nudge_documents": arm()}},
    "policy": {"value": 1.76, "interval": [0.67, 2.95], "best_single": 0.61, "random": -0.48, "ess": 1788.0},
    "about": {
        "horizon_days": 7.0,
        "split": "time",
        "stall_n_train": 9000,
        "stall_calibrate_from": "2025-10-22T12:14:44Z",
        "stall_test_from": "2025-11-22T12:14:44Z",
        "policy": {
            "n": 7000,
            "contacts": 0.55,
            "single_action": "remind_next_step",
            "best_single_interval": [-0.2, 1.3],
            "random_interval": [-1.0, 0.2],
            "over_best_single": 1.15,
            "over_best_single_interval": [0.1, 2.1],
        },
        "effects": {
            "progress_7d": {
                "nudge_documents": {
                    "tenths": [
                        {"predicted": 0.01, "effect": -0.0001, "low": -0.05, "high": 0.05, "n": 300},
                        {"predicted": 0.09, "effect": 0.2, "low": 0.1, "high": 0.3, "n": 301},
                    ]
                }
            }
        },
        "drivers": {"applied": [{"feature": "dwell_over_stall_after", "mean_abs": 0.3, "mean": 0.1}], "verified": []},
        "notes": ["a <note>"],
    },
}
RELIABILITY = [
    {"journey": JOURNEY, "predicted": p, "observed": p, "low": p - 0.02, "high": p + 0.02, "n": 200}
    for p in (0.1, 0.5, 0.8)
]
QINI = [
    {
        "journey": JOURNEY,
        "curve": "progress_7d: nudge_documents",
        "share": s,
        "gain": 0.03 * s,
        "low": None if s == 0 else 0.02 * s,
        "high": 0.04 * s,
    }
    for s in (0.0, 0.5, 1.0)
]


def page(judged: dict[str, Any] | None = None, qini: list[dict[str, Any]] | None = None) -> str:
    """The page, on one line, with ordinary spaces."""
    text = evaluation_page(
        built_in_configuration(),
        {JOURNEY: judged or JUDGED},
        RELIABILITY,
        QINI if qini is None else qini,
        about="made from a test",
    ).text
    return re.sub(r"\s+", " ", text)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The judgement with another value under a dotted path."""
    judged = copy.deepcopy(JUDGED)
    *parents, last = path.split(".")
    inner = judged
    for key in parents:
        inner = inner[key]
    inner[last] = value
    return judged


def test_what_was_found_is_said_in_sentences() -> None:
    """Before any table; numbers come with their intervals."""
    text = page()
    assert "gives the higher risk to the right one in 76 of 100 cases" in text
    assert "is worth EUR 1.76 per decision more than doing nothing (95 % interval 0.67 to 2.95)." in text
    assert "For 1 of 1 actions it is certain" in text
    assert "EUR 1.15 per decision more than the best single choice for everybody, “Remind of the next step”" in text
    assert "made from a test" in text


def test_every_part_is_drawn_once() -> None:
    """Calibration, Qini curves, effects by tenths, the policy's value, drivers."""
    assert page().count("<svg") == 5


def test_figures_stand_alone() -> None:
    """Each is an SVG that any viewer opens, and is the one on the page."""
    told = evaluation_page(built_in_configuration(), {JOURNEY: JUDGED}, RELIABILITY, QINI, about="")
    names = ("reliability", "qini", "effects", "policy", "drivers")
    assert set(told.figures) == {f"{JOURNEY}-{name}" for name in names}
    for svg in told.figures.values():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert svg in told.text


def test_titles_stand_for_ids_and_notes_are_escaped() -> None:
    """People know actions, stages and outcomes by their titles; what a note says is no markup."""
    text = page()
    assert "Show how to send the missing documents" in text
    assert "Application submitted" in text
    assert "nudge_documents" not in text
    assert "a &lt;note&gt;" in text


def test_effects_are_told_in_points_and_a_nought_has_no_sign() -> None:
    """A minus before a nought would look like harm."""
    text = page()
    assert "+3.1 (+1.2 to +5.0)" in text
    assert "0.0 (-5.0 to +5.0)" in text
    assert "-0.0" not in text
    assert "In 1 of 2 tenths the predicted effect lies within" in text


def test_a_value_that_may_be_nothing_says_so() -> None:
    """Its interval holds 0."""
    text = page(changed("policy.interval", [-0.4, 2.9]))
    assert "from these data it is not certain that it is worth anything" in text


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (arm(), ">yes<"),
        (arm(qini_interval=[-0.01, 0.09]), ">not certain<"),
        (arm(qini_interval=[None, None]), ">not certain<"),
        (arm(auuc=None, qini_sklift=0.0, qini_interval=[0.0, 0.0]), "the same effect is used for everybody"),
        (arm(qini_sklift=None, auuc=None, qini_interval=[None, None], mean_effect=None), "cannot be judged"),
        (arm(randomised=False), ">not randomised<"),
    ],
)
def test_whether_customers_are_told_apart_is_not_flattered(found: dict[str, Any], said: str) -> None:
    """Certain, not certain, not at all, or not known."""
    assert said in page(changed("uplift.progress_7d.nudge_documents", found))


def test_predictions_that_are_too_extreme_are_told() -> None:
    """A calibration slope far from 1."""
    assert "too extreme" in page(changed("stall.slope", 0.6))
    assert "too timid" in page(changed("stall.slope", 1.6))
    assert "too extreme" not in page()


def test_a_page_without_models_says_what_is_missing() -> None:
    """No stall model, nothing to learn effects from, no logged probabilities."""
    about = {"horizon_days": 7.0, "split": None, "notes": ["no stall model: too few"], "policy": None, "drivers": {}}
    judged = {"stall": None, "uplift": {}, "policy": UNKNOWN_POLICY, "about": about}
    text = page(judged, qini=[])
    assert "There is no stall model that could be judged" in text
    assert "What the recommendations are worth cannot be told" in text
    assert "No past decisions could be learned from" in text
    assert "no stall model: too few" in text
    assert "<svg" not in text


def test_the_same_judgement_gives_the_same_page() -> None:
    """Byte for byte: drawings hold no times and no random names."""
    assert page() == page()
