"""Simple policies to compare with, each as the probabilities ``(n, m)`` with which it takes each option of a log.

They choose among what the arbitration of each recorded decision had to choose among, by the estimates that it had then,
so nothing that came later is used. Pure. A mandatory option goes before all others, as it does everywhere else.
All but ``random_policy`` draw nothing: compare them with ``by_priority_policy``, which draws no more than they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

BaselineName = Literal[
    "no_action",
    "random",
    "best_single",
    "response_ranking",
    "without_levers",
    "rules_only",
    "shuffled_model",
    "by_priority",
]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Arbitrated:
    """What the arbitration of ``n`` decisions had before it, of ``m`` options. Option 0 is no action.

    Attributes:
        eligible: ``(n, m)`` what came as far as the arbitration; column 0 always does.
        response: ``(n, m)`` expected response under each option, NaN where unknown.
        net_value: ``(n, m)`` expected money, before levers; NaN where not eligible.
        context_weight_pct: ``(n, m)`` percent of a positive net value.
        lever_pct: ``(n, m)`` likewise.
        mandatory: ``(m,)`` whether it goes before everything that is not.
        order: ``(m,)`` place in the catalogue, the lower first; equal ones keep the order of the columns.
    """

    eligible: BoolArray
    response: FloatArray
    net_value: FloatArray
    context_weight_pct: FloatArray
    lever_pct: FloatArray
    mandatory: BoolArray
    order: IntArray

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.eligible)

    def of(self, rows: BoolArray | IntArray) -> Arbitrated:
        """Some of the decisions."""
        return Arbitrated(
            eligible=self.eligible[rows],
            response=self.response[rows],
            net_value=self.net_value[rows],
            context_weight_pct=self.context_weight_pct[rows],
            lever_pct=self.lever_pct[rows],
            mandatory=self.mandatory,
            order=self.order,
        )


def baseline_policies(log: Arbitrated, *, seed: int) -> dict[BaselineName, FloatArray]:
    """All of them; see the function of each. The seed is that of ``shuffled_model_policy``."""
    return {
        "no_action": no_action_policy(log),
        "random": random_policy(log),
        "best_single": single_policy(log, best_single(log)),
        "response_ranking": response_ranking_policy(log),
        "without_levers": without_levers_policy(log),
        "rules_only": rules_only_policy(log),
        "shuffled_model": shuffled_model_policy(log, seed=seed),
        "by_priority": by_priority_policy(log),
    }


def no_action_policy(log: Arbitrated) -> FloatArray:
    """Nothing, to everybody; also where something is mandatory."""
    return _certain(log, np.zeros(len(log), dtype=np.int64))


def random_policy(log: Arbitrated) -> FloatArray:
    """Each of what is eligible with the same probability, nothing among it: what the arm ``random_eligible`` does."""
    among = _choosable(log)
    table: FloatArray = among / among.sum(axis=1, keepdims=True)
    return table


def by_priority_policy(log: Arbitrated) -> FloatArray:
    """The highest priority above 0, else nothing: what the recorded arbitration ranked first, without any draw."""
    return _certain(log, _best(log, _priority(log, log.net_value, log.lever_pct)))


def without_levers_policy(log: Arbitrated) -> FloatArray:
    """The same where no business lever lifts anything."""
    return _certain(log, _best(log, _priority(log, log.net_value, np.zeros_like(log.lever_pct))))


def response_ranking_policy(log: Arbitrated) -> FloatArray:
    """Whatever is most likely to be answered with a yes, whether or not it changes anything and whatever it costs.

    Something eligible of which a response is known is always taken.
    """
    return _certain(log, _best(log, log.response, floor=-np.inf))


def rules_only_policy(log: Arbitrated) -> FloatArray:
    """The first of the catalogue that the rules let through: no model and no value."""
    return _certain(log, _best(log, np.broadcast_to(-log.order.astype(np.float64), log.eligible.shape), floor=-np.inf))


def shuffled_model_policy(log: Arbitrated, *, seed: int) -> FloatArray:
    """The highest priority above 0, where each option's net value is that of another decision it was eligible in.

    Values, costs, levers and the spread of the estimates stay what they are; only whose estimates they are is drawn
    anew. What is lost against ``by_priority_policy`` is what telling customers apart earns.
    """
    rng = np.random.default_rng(seed)
    net_value = log.net_value.copy()
    for option in range(1, net_value.shape[1]):
        rows = np.flatnonzero(log.eligible[:, option])
        net_value[rows, option] = net_value[rng.permutation(rows), option]
    return _certain(log, _best(log, _priority(log, net_value, log.lever_pct)))


def best_single(log: Arbitrated) -> int:
    """The option of the highest expected money over all decisions, 0 where it is not eligible; 0 if none is above 0.

    By what was expected: choosing it by what came out would be choosing in hindsight.
    """
    if not len(log):
        return 0
    worth = np.where(log.eligible & ~np.isnan(log.net_value), log.net_value, 0.0).mean(axis=0)
    worth[0] = 0.0
    return int(worth.argmax())


def single_policy(log: Arbitrated, option: int) -> FloatArray:
    """One option wherever it is eligible, else nothing."""
    score = np.full(log.eligible.shape, -np.inf)
    score[:, option] = np.inf
    return _certain(log, _best(log, score))


_NOTHING: Final = 0


def _priority(log: Arbitrated, net_value: FloatArray, lever_pct: FloatArray) -> FloatArray:
    """``(1 + context/100)(1 + lever/100) V`` where V > 0, else V, as ``models.arbitration.Factors.priority``."""
    boost = (1 + log.context_weight_pct / 100) * (1 + lever_pct / 100)
    return np.where(net_value > 0, boost * net_value, net_value)


def _choosable(log: Arbitrated) -> BoolArray:
    """``(n, m)`` what is eligible, or of it what is mandatory."""
    forced = log.eligible & log.mandatory
    forced[:, _NOTHING] = False
    return np.where(forced.any(axis=1, keepdims=True), forced, log.eligible)


def _best(log: Arbitrated, score: FloatArray, floor: float = 0.0) -> IntArray:
    """``(n,)`` the choosable option of the highest score above ``floor``, else nothing; the catalogue breaks ties.

    Something mandatory is chosen whatever its score.
    """
    among = _choosable(log)
    known = np.where(among & ~np.isnan(score), score, -np.inf)
    known[:, _NOTHING] = np.where(among[:, _NOTHING], floor, -np.inf)
    place = np.argsort(np.r_[np.iinfo(np.int64).min, log.order[1:]], kind="stable")
    best = place[known[:, place].argmax(axis=1)]
    # Where all that is mandatory is unknown, the first of it.
    unknown = ~among[np.arange(len(log)), best]
    best[unknown] = place[among[:, place].argmax(axis=1)][unknown]
    return np.asarray(best, dtype=np.int64)


def _certain(log: Arbitrated, option: IntArray) -> FloatArray:
    table = np.zeros(log.eligible.shape)
    table[np.arange(len(log)), option] = 1.0
    return table
