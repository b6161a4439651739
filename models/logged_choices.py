"""Logged decisions as arrays: what could be done, how likely it was, what was done, and what came of it, in money.

Pure. What any policy would have earned on them follows from its table of probabilities: ``policy_scores``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SUM_TOLERANCE: Final = 1e-6
"""How far probabilities may sum from 1."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoggedChoices:
    """``n`` decisions among ``m`` options that aim at ``k`` outcomes. Option 0 is no action.

    Attributes:
        taken: ``(n,)`` the option taken.
        logged: ``(n, m)`` logged marginal probability of each option; NaN where none was logged.
        predicted: ``(n, m)`` predicted response of the outcome that each option aims at, by a model that did not see
            the decision; column 0 is not read.
        control: ``(n, k)`` the same of each outcome under no action.
        response: ``(n, k)`` what came of each outcome.
        value: ``(n, m)`` money of one more response of the outcome that each option aims at.
        incentive: ``(n, m)`` money paid for each response to it.
        cost: ``(n, m)`` money of the contact.
        aim: ``(m,)`` the outcome that each option aims at; that of column 0 is not read.
        binary: ``(k,)`` whether it is 0 or 1.
        people: ``(n,)`` whose decisions these are.
    """

    taken: IntArray
    logged: FloatArray
    predicted: FloatArray
    control: FloatArray
    response: FloatArray
    value: FloatArray
    incentive: FloatArray
    cost: FloatArray
    aim: IntArray
    binary: BoolArray
    people: NDArray[np.generic]

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.taken)

    def of(self, rows: BoolArray | IntArray) -> LoggedChoices:
        """Some of the decisions."""
        by_row = [one.name for one in fields(self) if one.name not in ("aim", "binary")]
        return replace(self, **{name: getattr(self, name)[rows] for name in by_row})

    def check(self) -> None:
        """Raise where an array does not fit the others.

        Raises:
            NotEnoughData: naming them.
        """
        n, m = self.logged.shape
        k = len(self.binary)
        tables = ("predicted", "value", "incentive", "cost")
        wrong = [name for name in tables if getattr(self, name).shape != (n, m)]
        wrong += [name for name in ("control", "response") if getattr(self, name).shape != (n, k)]
        wrong += [name for name in ("taken", "people") if len(getattr(self, name)) != n]
        if wrong or len(self.aim) != m:
            raise NotEnoughData(f"arrays that do not fit {n} decisions, {m} options and {k} outcomes: {wrong}")


def check_policy(log: LoggedChoices, policy: FloatArray, name: str) -> None:
    """Raise where a table of probabilities is none for these decisions.

    Raises:
        NotEnoughData: naming the policy.
    """
    if policy.shape != log.logged.shape:
        raise NotEnoughData(f"probabilities of the {name} of shape {policy.shape}, expected {log.logged.shape}")
    if not (np.allclose(policy.sum(axis=1), 1.0, atol=SUM_TOLERANCE) and (policy >= 0).all()):
        raise NotEnoughData(f"probabilities of the {name} that are no distribution, expected rows that sum to 1")


def policy_scores(log: LoggedChoices, policy: FloatArray) -> FloatArray:
    """``(n,)`` doubly robust scores whose mean is what the policy earns a decision over doing nothing, in money.

    Of the policy ``pi``:

        ``sum_a pi(a) (v_a (q_a - q_0a) - i_a q_a - c_a)  +  [A != 0] pi(A)/e(A) (v_A - i_A) (y_A - q_A)
        - [A == 0] sum_a pi(a)/e(0) v_a (y_a - q_0a)``

    with ``y_a`` the outcome that ``a`` aims at, ``v_a`` its value, ``i_a`` the incentive paid for a response, ``c_a``
    the cost of the contact, ``q_a`` and ``q_0a`` the predicted outcome under ``a`` and under no action, ``A`` what was
    done and ``e`` its logged probabilities.

    Args:
        log: decisions whose logged probabilities are whole; see ``broken_rows``.
        policy: ``(n, m)`` probability with which it takes each option; rows sum to 1.

    References:
        Dudik, Erhan, Langford and Li 2014, Doubly robust policy evaluation and optimization.
    """
    option, aim = policy[:, 1:], log.aim[1:]
    value, incentive = log.value[:, 1:], log.incentive[:, 1:]
    none, predicted = log.control[:, aim], log.predicted[:, 1:]
    earned = value * (predicted - none) - incentive * predicted - log.cost[:, 1:]
    score: FloatArray = (option * earned).sum(axis=1)
    rows = np.flatnonzero(log.taken > 0)
    taken = log.taken[rows]
    weight = policy[rows, taken] / log.logged[rows, taken]
    money = log.value[rows, taken] - log.incentive[rows, taken]
    score[rows] += weight * money * (log.response[rows, log.aim[taken]] - log.predicted[rows, taken])
    rows = np.flatnonzero(log.taken == 0)
    surprise = (log.response - log.control)[rows][:, aim]
    score[rows] -= (option[rows] * value[rows] * surprise).sum(axis=1) / log.logged[rows, 0]
    return score


def broken_rows(log: LoggedChoices) -> BoolArray:
    """``(n,)`` decisions whose logged probabilities are missing, outside [0, 1], not summing to 1, or 0 for the taken.

    A log without the probability of what was done cannot tell what another policy would have earned.
    """
    table = log.logged
    inside = ((table >= 0) & (table <= 1 + SUM_TOLERANCE)).all(axis=1)  # NaN is not
    sums = np.abs(table.sum(axis=1) - 1) <= SUM_TOLERANCE
    taken = table[np.arange(len(log)), log.taken] > 0
    broken: BoolArray = ~(inside & sums & taken)
    return broken
