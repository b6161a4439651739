"""A step of a rollout: what the gate still asks where a version is to decide for a share, and what no longer."""

from __future__ import annotations

import pytest

from models.gate import Gate, Reason, Verdict, judged
from models.gate_steps import step_verdict
from tests.unit.models.test_gate import BAD, GATE, GOOD, codes, log

BLIND = 0.05


def _verdict(*found: str) -> Verdict:
    reasons = tuple(Reason(code=code, value=None, threshold=None, text=code) for code in found)
    return Verdict(reasons=reasons, decisions=10)


def _left(share: float, *found: str) -> set[str]:
    return codes(step_verdict(_verdict(*found), share, largest_blind_share=BLIND))


def test_what_is_not_certainly_better_may_take_a_step() -> None:
    """No champion, since the lower bound is below 0; but the upper one is not."""
    verdict = judged(log(1, effects=(0.3, 0.3)), GATE)
    assert codes(verdict) == {"not_better"}

    assert step_verdict(verdict, 0.5, largest_blind_share=BLIND).promotes


def test_what_is_certainly_worse_takes_no_step() -> None:
    """Not even for one in a hundred."""
    verdict = judged(log(1, champion=GOOD, challenger=BAD), GATE)

    assert codes(step_verdict(verdict, 0.01, largest_blind_share=BLIND)) >= {"worse"}


def test_a_first_step_asks_for_no_sample_and_a_larger_one_does() -> None:
    """The first is what makes one."""
    verdict = judged(log(1, n=400, people=200), GATE)
    assert "few_decisions" in codes(verdict)

    assert step_verdict(verdict, 0.01, largest_blind_share=BLIND).promotes
    assert "few_decisions" in codes(step_verdict(verdict, 0.5, largest_blind_share=BLIND))


@pytest.mark.parametrize("code", ["few_decisions", "low_share", "few_changed", "no_support", "calibration_unknown"])
def test_too_little_seen_is_a_reason_from_a_share_on(code: str) -> None:
    """Up to the parameter's share it is none."""
    assert _left(BLIND, code) == set()
    assert _left(BLIND + 0.01, code) == {code}


@pytest.mark.parametrize(
    "code",
    [
        *("worse", "worse_for_group", "broken_probabilities", "wrong_probabilities", "wrong_weights"),
        *("not_replayable", "same_choices", "contact_rise", "cost_rise", "calibration"),
    ],
)
def test_harm_and_an_unsound_log_are_reasons_at_every_share(code: str) -> None:
    """One in a hundred is somebody too."""
    assert _left(0.01, code) == {code}
    assert _left(0.5, code) == {code}


def test_a_slope_from_few_decisions_says_nothing_of_a_first_step() -> None:
    """Of a larger one the few decisions are the reason."""
    assert _left(0.01, "few_decisions", "calibration") == set()
    assert _left(0.5, "few_decisions", "calibration") == {"few_decisions", "calibration"}


def test_every_code_of_the_gate_is_decided_upon() -> None:
    """A reason that the gate gains is a reason at every share until somebody says otherwise."""
    assert _left(0.01, "something_new") == {"something_new"}
    assert Gate().guard.smallest_ess > 0
