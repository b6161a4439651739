"""The promotion gate: what is better is promoted, and everything else is refused with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.errors import NotEnoughData
from models.gate import Comparison, Gate, Verdict, judged
from models.logged_choices import LoggedChoices, broken_rows, policy_scores
from models.metrics import Interval

GATE = Gate(resamples=200)
OPTIONS = 3
GOOD, BAD = 1, 2


def log(
    seed: int,
    *,
    n: int = 4_000,
    people: int = 1_000,
    champion: int = BAD,
    challenger: int = GOOD,
    effects: tuple[float, float] = (0.3, -0.1),
    differ: float = 1.0,
    random: float = 0.1,
) -> Comparison:
    """Decisions of customers who stay in one arm: a random tenth, a tenth left alone, and the champion's rest.

    A yes is worth 10 and a contact costs 0.5. Champion and challenger each do one thing, the challenger to the share
    ``differ`` of the decisions.
    """
    rng = np.random.default_rng(seed)
    person = rng.integers(0, people, n)
    base = np.clip(0.2 + 0.05 * rng.standard_normal(people), 0.01, 0.6)[person]
    place = rng.random(people)[person]
    first = np.tile(np.eye(OPTIONS)[champion], (n, 1))
    second = np.where((rng.random(n) < differ)[:, None], np.eye(OPTIONS)[challenger], first)
    logged = random / OPTIONS + 0.1 * np.eye(OPTIONS)[0] + (0.9 - random) * first
    drawn = rng.integers(0, OPTIONS, n)
    taken = np.where(place < random, drawn, np.where(place < random + 0.1, 0, champion))
    effect = np.array([0.0, *effects])
    response = (rng.random(n) < np.clip(base + effect[taken], 0.001, 0.999)).astype(np.float64)
    predicted = np.clip(0.2 + effect, 0.001, 0.999) + 0.02 * (base - 0.2)[:, None]
    return Comparison(
        log=LoggedChoices(
            taken=taken,
            logged=logged,
            predicted=predicted,
            control=predicted[:, :1],
            response=response[:, None],
            value=np.full((n, OPTIONS), 10.0),
            incentive=np.zeros((n, OPTIONS)),
            cost=np.tile([0.0, 0.5, 0.5], (n, 1)),
            aim=np.zeros(OPTIONS, dtype=np.int64),
            binary=np.array([True]),
            people=person,
        ),
        champion=first,
        challenger=second,
        own=predicted,
        own_control=predicted[:, :1],
        groups=np.full(n, "stage applied"),
    )


def first_decisions(compared: Comparison, n: int) -> Comparison:
    """The oldest of the decisions."""
    return Comparison(
        log=compared.log.of(np.arange(n)),
        champion=compared.champion[:n],
        challenger=compared.challenger[:n],
        own=compared.own[:n],
        own_control=compared.own_control[:n],
        groups=compared.groups[:n],
    )


def codes(verdict: Verdict) -> set[str]:
    """The reasons' codes."""
    return {one.code for one in verdict.reasons}


def test_a_better_model_is_promoted() -> None:
    """The truth is a difference of ``10 * (0.3 - -0.1)``, and the interval holds it."""
    verdict = judged(log(1), GATE)

    assert verdict.promotes
    assert isinstance(verdict.difference, Interval)
    assert verdict.difference.low < 4.0 < verdict.difference.high
    assert (verdict.decisions, verdict.changed) == (4_000, 1.0)


def test_a_worse_model_is_refused() -> None:
    """By its value, with the bound that was missed."""
    verdict = judged(log(1, champion=GOOD, challenger=BAD), GATE)

    reason = next(one for one in verdict.reasons if one.code == "worse")
    assert reason.value is not None
    assert reason.value < 0
    assert reason.threshold == 0.0
    assert "money per decision" in reason.text


def test_a_better_model_on_few_decisions_is_refused_for_their_number() -> None:
    """Too few of them were what the challenger would do."""
    verdict = judged(log(1, n=400, people=200), GATE)

    assert "few_decisions" in codes(verdict)
    found = next(one for one in verdict.reasons if one.code == "few_decisions")
    assert found.value is not None
    assert found.value < 100.0
    assert found.threshold == 100.0


def test_a_model_that_differs_on_few_decisions_is_refused_for_their_number() -> None:
    """However many others there are: on those the two would earn the same."""
    assert "few_changed" in codes(judged(log(1, differ=0.01), GATE))


def test_decisions_of_few_customers_are_refused_for_the_customers_number() -> None:
    """However many decisions they had: drawn again, twenty customers look surer than they are."""
    verdict = judged(log(1, people=20, random=0.3), GATE)

    assert "few_customers" in codes(verdict)
    assert "few_changed" not in codes(verdict)
    assert verdict.changed_customers < 20


def test_one_customer_tells_no_difference() -> None:
    """An interval without width would promote whatever that customer happened to like."""
    for looks in ("once", "many"):
        verdict = judged(log(3, people=1), replace(GATE, looks=looks))
        assert verdict.difference is None
        assert "not_better" in codes(verdict)


def test_a_gate_that_is_asked_often_asks_for_more() -> None:
    """The interval for many looks holds that for one; a much better model passes it nonetheless."""
    once, many = (judged(log(1), replace(GATE, looks=looks)) for looks in ("once", "many"))

    assert once.difference is not None
    assert many.difference is not None
    assert many.difference.low < once.difference.low < once.difference.high < many.difference.high
    assert many.difference.estimate == pytest.approx(once.difference.estimate)
    assert many.promotes


def test_the_same_model_is_refused() -> None:
    """It would change nothing."""
    assert {"same_choices", "not_better"} <= codes(judged(log(1, challenger=BAD), GATE))


def test_a_margin_is_asked_of_the_lower_bound() -> None:
    """Not of the estimate."""
    low = judged(log(1), GATE).difference
    assert low is not None
    assert "not_better" in codes(judged(log(1), replace(GATE, margin=low.low + 0.01)))


def _without(compared: Comparison) -> dict[str, Any]:
    return {"logged": np.where(np.arange(len(compared))[:, None] % 2 == 0, np.nan, compared.log.logged)}


def _half(compared: Comparison) -> dict[str, Any]:
    return {"logged": compared.log.logged / 2}


def _none_for_the_taken(compared: Comparison) -> dict[str, Any]:
    table = compared.log.logged.copy()
    rows = np.arange(0, len(compared), 3)
    table[rows, compared.log.taken[rows]] = 0.0
    return {"logged": table}


@pytest.mark.parametrize("damage", [_without, _half, _none_for_the_taken])
def test_broken_logging_is_refused(damage: Any) -> None:
    """Probabilities that are missing, do not sum to 1, or say that what was done could not be."""
    compared = log(1)

    verdict = judged(replace(compared, log=replace(compared.log, **damage(compared))), GATE)

    assert "broken_probabilities" in codes(verdict)


def test_probabilities_that_are_another_policys_are_refused() -> None:
    """They sum to 1, and were not those by which it was drawn."""
    compared = log(1)

    verdict = judged(
        replace(compared, log=replace(compared.log, logged=np.full(compared.log.logged.shape, 1 / OPTIONS))), GATE
    )

    assert "wrong_probabilities" in codes(verdict)


def test_a_few_broken_records_are_left_out() -> None:
    """And counted."""
    compared = log(1)
    table = compared.log.logged.copy()
    table[:5] = np.nan

    verdict = judged(replace(compared, log=replace(compared.log, logged=table)), GATE)

    assert verdict.promotes
    assert (verdict.decisions, verdict.skipped) == (3_995, 5)


def test_what_was_never_logged_cannot_be_promoted() -> None:
    """The challenger would do what the log holds nothing of."""
    compared = log(1, random=0.0)

    assert "no_support" in codes(judged(compared, GATE))


def test_decisions_that_cannot_be_made_again_are_a_reason() -> None:
    """Where they are many, the others may not stand for them."""
    assert codes(judged(replace(log(1), skipped=2_000), GATE)) == {"not_replayable"}


def test_a_model_whose_responses_do_not_come_true_is_refused() -> None:
    """Its order may be right, its numbers are used as money."""
    compared = log(1)
    spread = np.log(compared.own / (1 - compared.own))
    own = 1 / (1 + np.exp(-(4 * (spread + 1.0) - 1.0)))

    assert codes(judged(replace(compared, own=own, own_control=own[:, :1]), GATE)) == {"calibration"}


def test_a_group_that_is_certainly_worse_off_is_a_reason() -> None:
    """The rest gain more than they lose."""
    compared, lost = log(1), log(2, n=2_000, champion=GOOD, challenger=BAD)
    log_parts = {
        name: np.concatenate([getattr(compared.log, name), getattr(lost.log, name)])
        for name in LoggedChoices.__dataclass_fields__
        if name not in ("aim", "binary")
    }
    parts = {
        name: np.concatenate([getattr(compared, name), getattr(lost, name)])
        for name in ("champion", "challenger", "own", "own_control")
    }
    groups = np.repeat(["stage applied", "stage approved"], [4_000, 2_000])
    both = replace(compared, **parts, log=replace(compared.log, **log_parts), groups=groups)

    assert codes(judged(both, GATE)) == {"worse_for_group"}


def test_guardrails_hold_contacts_and_costs_back() -> None:
    """Here the champion does nothing, and the challenger contacts everybody."""
    gate = replace(GATE, largest_cost_rise=0.4, contact_cost_factor=None)
    verdict = judged(log(1, champion=0), gate)

    assert codes(verdict) == {"contact_rise", "cost_rise"}
    assert verdict.contact_rise == pytest.approx(1.0)
    assert verdict.cost_rise == pytest.approx(0.5)
    assert verdict.dear_contacts is None


def test_a_first_model_that_contacts_may_follow_one_that_never_did() -> None:
    """It earns ``10 * 0.3 - 0.5`` a contact, and would earn ``10 * 0.3 - 3 * 0.5`` if one cost three times as much."""
    verdict = judged(log(1, champion=0), GATE)

    assert verdict.promotes
    assert verdict.contact_rise == pytest.approx(1.0)
    assert verdict.dear_contacts is not None
    assert verdict.dear_contacts.low < 1.5 < verdict.dear_contacts.high


def test_more_contacts_that_barely_pay_are_refused() -> None:
    """They are better by ``10 * 0.1 - 0.5``, and nobody knows what being contacted costs a customer that closely."""
    verdict = judged(log(1, n=20_000, people=5_000, champion=0, effects=(0.1, -0.1), random=0.8), GATE)

    assert codes(verdict) == {"contact_rise"}
    assert verdict.difference is not None
    assert verdict.difference.low > 0
    assert "3 times as much" in verdict.reasons[0].text


def test_what_contacts_no_more_is_not_asked_what_dear_contacts_would_earn() -> None:
    """The rise stays below its limit."""
    assert judged(log(1), GATE).dear_contacts is None


def test_nothing_to_compare_is_refused() -> None:
    """Right after a training there is no decision that neither has learned from."""
    verdict = judged(log(1, n=0), GATE)

    assert codes(verdict) == {"few_decisions"}
    assert verdict.difference is None


def test_scores_are_those_computed_by_hand() -> None:
    """One decision of each kind: none taken, the policy's own, and another."""
    n = 3
    compared = replace(
        log(1, n=n).log,
        taken=np.array([0, 1, 2]),
        logged=np.tile([0.5, 0.25, 0.25], (n, 1)),
        predicted=np.tile([0.0, 0.6, 0.3], (n, 1)),
        control=np.full((n, 1), 0.2),
        response=np.ones((n, 1)),
        incentive=np.tile([0.0, 2.0, 0.0], (n, 1)),
    )
    policy = np.tile([0.2, 0.8, 0.0], (n, 1))

    scores = policy_scores(compared, policy)

    model = 0.8 * (10 * (0.6 - 0.2) - 2 * 0.6 - 0.5)
    assert scores == pytest.approx([model - 0.8 * 10 * 0.8 / 0.5, model + 0.8 * 8 * 0.4 / 0.25, model])


def test_effects_on_two_outcomes_are_each_valued_by_their_own() -> None:
    """What an action does not aim at is none of its value."""
    n = 2
    compared = replace(
        log(1, n=n).log,
        taken=np.array([0, 2]),
        logged=np.tile([0.5, 0.25, 0.25], (n, 1)),
        predicted=np.tile([0.0, 0.5, 0.5], (n, 1)),
        control=np.tile([0.2, 0.4], (n, 1)),
        response=np.tile([1.0, 0.0], (n, 1)),
        aim=np.array([0, 0, 1]),
        binary=np.array([True, True]),
    )

    scores = policy_scores(compared, np.tile([0.0, 0.0, 1.0], (n, 1)))

    model = 10 * (0.5 - 0.4) - 0.5
    assert scores == pytest.approx([model + 10 * 0.4 / 0.5, model - 10 * 0.5 / 0.25])


def test_broken_rows_are_found() -> None:
    """And rounding is none."""
    compared = replace(
        log(1, n=4).log,
        taken=np.array([0, 0, 1, 0]),
        logged=np.array([[0.5, 0.5, 1e-9], [0.5, 0.4, 0.0], [1.0, 0.0, 0.0], [np.nan, 0.5, 0.5]]),
    )
    assert broken_rows(compared).tolist() == [False, True, True, True]


def test_what_does_not_fit_is_refused() -> None:
    """A policy is a distribution, and tables are of one shape."""
    compared = log(1, n=50)
    with pytest.raises(NotEnoughData, match="no distribution"):
        judged(replace(compared, challenger=compared.challenger * 2), GATE)
    with pytest.raises(NotEnoughData, match="do not fit"):
        judged(replace(compared, log=replace(compared.log, cost=compared.log.cost[:, :2])), GATE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "world",
    [
        {"effects": (0.1, 0.1)},
        {"effects": (0.1, 0.1), "differ": 0.3},
        {"effects": (0.1, 0.1), "differ": 0.5, "random": 0.3},
        {"effects": (0.1, 0.1), "people": 200, "random": 0.3},
        {"effects": (-0.1, -0.1), "differ": 0.5},
    ],
)
def test_a_model_that_is_no_better_is_promoted_no_more_often_than_alpha(world: dict[str, Any]) -> None:
    """It differs and earns the same: 400 logs, of which a twentieth and two standard errors may pass."""
    n = 400
    passed = Counter(judged(log(seed, **world), GATE).promotes for seed in range(n))
    assert passed[True] / n <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.slow
def test_a_model_that_is_no_better_is_seldom_promoted_in_many_nights() -> None:
    """A log that grows over 20 nights: with one-look intervals a tenth of such models passes on some night."""
    n, nights, gate = 200, 20, replace(GATE, looks="many", planned=4_000)
    passed = 0
    for seed in range(n):
        compared = log(seed, effects=(0.1, 0.1), differ=0.5, random=0.3)
        ends = np.linspace(len(compared) / nights, len(compared), nights).astype(int).tolist()
        passed += any(judged(first_decisions(compared, end), gate).promotes for end in ends)
    assert passed / n <= 0.05
