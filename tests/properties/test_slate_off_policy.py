"""Slate estimators against worlds that are small enough to sum over every slate: expectations are exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.off_policy import EstimateParams
from models.off_policy_log import Guard
from models.slate_off_policy import Slates, slate_estimates, slate_terms, slot_weights

Floats = NDArray[np.float64]
ITEMS, SLOTS = 3, 3
SEEDS = st.integers(0, 10**6)
EVERY = np.array(list(product(range(ITEMS), repeat=SLOTS)))
"""Every slate that there is, ``(27, 3)``."""


def conditionals(rng: np.random.Generator) -> list[Floats]:
    """For each slot the probabilities of its items, given the items before it."""
    return [0.05 + 0.85 * rng.dirichlet(np.ones(ITEMS), size=(ITEMS,) * slot) for slot in range(SLOTS)]


def chances(given_before: list[Floats]) -> Floats:
    """``(27, 3)`` conditional probability of what stands in each slot of each slate."""
    return np.stack(
        [given_before[slot][tuple(EVERY[:, place] for place in range(slot + 1))] for slot in range(SLOTS)], axis=1
    )


def marginals(chance: Floats) -> Floats:
    """``(27, 3)`` probability of what stands in each slot, whatever stands before."""
    whole = chance.prod(axis=1)
    return np.stack(
        [np.bincount(EVERY[:, slot], weights=whole, minlength=ITEMS)[EVERY[:, slot]] for slot in range(SLOTS)],
        axis=1,
    )


@dataclass(frozen=True)
class Every:
    """Every slate once, with its probabilities under who logged and under the policy, and the policy's true value."""

    slates: Slates
    logged: Floats
    truth: float

    def mean(self, name: str, slates: Slates | None = None) -> float:
        """Exact expectation of an estimator."""
        told = self.slates if slates is None else slates
        return float(self.logged @ slate_terms(name, told, slot_weights(told)[name]))  # type: ignore[arg-type, index]

    def variance(self, name: str) -> float:
        """Exact variance of an estimator's term."""
        terms = slate_terms(name, self.slates, slot_weights(self.slates)[name])  # type: ignore[arg-type, index]
        return float(self.logged @ (terms - self.mean(name)) ** 2)


def normed(tables: list[Floats]) -> list[Floats]:
    """Conditionals that sum to 1."""
    return [table / table.sum(axis=-1, keepdims=True) for table in tables]


def a_world(seed: int, depends: str) -> Every:
    """Rewards that depend on the slot alone, on the slots up to it, or on the whole slate."""
    rng = np.random.default_rng(seed)
    logged, policy = (chances(normed(conditionals(rng))) for _ in range(2))
    seen = {"alone": lambda slot: [slot], "cascade": lambda slot: [*range(slot + 1)], "whole": lambda slot: [0, 1, 2]}
    reward = np.stack(
        [
            rng.normal(1, 1, (ITEMS,) * SLOTS)[tuple(EVERY[:, p] if p in seen[depends](k) else 0 for p in range(SLOTS))]
            for k in range(SLOTS)
        ],
        axis=1,
    )
    slates = Slates(
        reward=reward,
        logged=logged,
        policy=policy,
        logged_at=marginals(logged),
        policy_at=marginals(policy),
        **model(policy, reward, rng),
    )
    return Every(slates, logged.prod(axis=1), float(policy.prod(axis=1) @ reward.sum(axis=1)))


def model(policy: Floats, reward: Floats, rng: np.random.Generator, wrong: float = 1.0) -> dict[str, Floats]:
    """A model of the reward to come, off by a random number for each prefix; its mean under the policy is exact."""
    taken, mean = np.zeros((27, SLOTS)), np.zeros((27, SLOTS))
    to_go = np.zeros(27)
    for slot in reversed(range(SLOTS)):
        to_go = to_go + reward[:, slot]
        prefix = ITEMS ** (SLOTS - 1 - slot)
        group = np.arange(27) // prefix  # slates that are the same up to this slot
        later = policy[:, slot + 1 :].prod(axis=1)
        q = np.bincount(group, weights=later * to_go) + wrong * rng.normal(size=ITEMS ** (slot + 1))
        taken[:, slot] = q[group]
        chance = policy[::prefix, slot]
        mean[:, slot] = np.bincount(np.arange(len(q)) // ITEMS, weights=chance * q)[np.arange(27) // (prefix * ITEMS)]
    return {"predicted_taken": taken, "predicted_policy": mean}


@settings(deadline=None)
@given(SEEDS)
def test_slate_ips_is_right_whatever_depends_on_what(seed: int) -> None:
    """Rewards that depend on the whole slate, and so for every weaker dependence."""
    for depends in ("alone", "cascade", "whole"):
        world = a_world(seed, depends)
        assert world.mean("slate IPS") == pytest.approx(world.truth)


@settings(deadline=None)
@given(SEEDS)
def test_cascades_are_right_for_cascades(seed: int) -> None:
    """RIPS and cascade DR, whatever the model says; where rewards depend on later slots they are not."""
    for depends in ("alone", "cascade"):
        world = a_world(seed, depends)
        assert world.mean("RIPS") == pytest.approx(world.truth)
        assert world.mean("cascade DR") == pytest.approx(world.truth)


def test_each_belief_that_does_not_hold_misleads() -> None:
    """Of 50 worlds: cascades where the whole slate matters, independence where the slots before matter."""
    off = {
        (name, depends): np.mean([abs(world.mean(name) - world.truth) for world in worlds])
        for depends in ("whole", "cascade", "alone")
        for worlds in [[a_world(seed, depends) for seed in range(50)]]
        for name in ("RIPS", "independent IPS")
    }

    assert off["RIPS", "whole"] > 0.05
    assert off["independent IPS", "cascade"] > 0.05
    assert off["independent IPS", "alone"] < 1e-9


def test_the_more_is_believed_the_less_an_estimate_varies() -> None:
    """Over 50 worlds in which each slot is its own: independent IPS, then RIPS, then slate IPS."""
    worlds = [a_world(seed, "alone") for seed in range(50)]
    spread = {name: np.mean([world.variance(name) for world in worlds]) for name in slot_weights(worlds[0].slates)}

    assert spread["independent IPS"] < spread["RIPS"] < spread["slate IPS"]


@settings(deadline=None)
@given(SEEDS)
def test_a_perfect_model_makes_weights_wrong_without_harm(seed: int) -> None:
    """Cascade DR with the true rewards is right also where the logged probabilities are not."""
    world = a_world(seed, "cascade")
    rng = np.random.default_rng(seed)
    sure = model(world.slates.policy, world.slates.reward, rng, wrong=0.0)
    wrong = np.clip(world.slates.logged * rng.uniform(0.5, 1.0, (27, SLOTS)), 0.01, 1.0)

    assert world.mean("cascade DR", replace(world.slates, logged=wrong, **sure)) == pytest.approx(world.truth)


@settings(deadline=None)
@given(SEEDS)
def test_the_policy_that_logged_has_the_mean_of_its_log(seed: int) -> None:
    """All weights are 1, and every estimator without a model is the mean reward."""
    world = a_world(seed, "whole")
    same = replace(world.slates, policy=world.slates.logged, policy_at=world.slates.logged_at)
    mean = float(world.logged @ world.slates.reward.sum(axis=1))

    for name in ("slate IPS", "RIPS", "independent IPS"):
        assert world.mean(name, same) == pytest.approx(mean)


def test_intervals_hold_the_truth() -> None:
    """Of 60 drawn logs of 600 slates, two a customer: each estimator at least 52 times, where 57 are meant."""
    rng = np.random.default_rng(3)
    world = a_world(4, "alone")
    params = EstimateParams(resamples=100, guard=Guard(smallest_ess=20, smallest_ess_share=0.01))
    held: dict[str, int] = dict.fromkeys(slot_weights(world.slates), 0)
    for _ in range(60):
        rows = rng.choice(27, 600, p=world.logged / world.logged.sum())
        tables = {
            name: getattr(world.slates, name)[rows]
            for name in (
                *("reward", "logged", "policy", "logged_at", "policy_at", "predicted_taken", "predicted_policy"),
            )
        }
        log = Slates(**tables, clusters=np.repeat(np.arange(300), 2))
        for name, found in slate_estimates(log, params).items():
            held[name] += found.low <= world.truth <= found.high

    assert all(count >= 52 for count in held.values()), held
