"""What a change is worth by what really came of recorded decisions, where the log can tell.

Pure. Both sides are valued by the same doubly robust scores of the same decisions, so what they do alike cancels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.group_differences import mean_intervals
from models.logged_choices import FloatArray, LoggedChoices, broken_rows, check_policy, policy_scores
from models.metrics import Interval
from models.off_policy_log import Guard, Refusal, effective_sample_size
from models.policy_values import money_over_nothing, value_refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueOfChange:
    """Money per decision over doing nothing, before and after.

    Attributes:
        decisions: that were valued.
        people: whose they are.
        ess: effective sample size of the changed policy's weights.
        before: None where the log cannot tell.
        after: likewise.
        difference: after less before, likewise.
        refusals: why it cannot; empty where it can.
    """

    decisions: int
    people: int
    ess: float
    before: Interval | None = None
    after: Interval | None = None
    difference: Interval | None = None
    refusals: tuple[Refusal, ...] = ()


def value_of_change(
    log: LoggedChoices, after: FloatArray, guard: Guard, *, seed: int, n_resamples: int, level: float
) -> ValueOfChange:
    """The value of what was logged, of a change, and of the difference, each with an interval over customers.

    Args:
        log: decisions whose outcomes are known; those with broken probabilities are left out.
        after: ``(n, m)`` probability with which the changed policy takes each option; rows sum to 1.
        guard: what is asked of the log.
        seed: fixes the resamples.
        n_resamples: how many.
        level: of the intervals.

    Raises:
        NotEnoughData: an array does not fit the others, or ``after`` is no distribution.

    References:
        Dudik, Erhan, Langford and Li 2014, Doubly robust policy evaluation and optimization.
    """
    log.check()
    check_policy(log, after, "changed policy")
    whole = ~broken_rows(log)
    log, after = log.of(whole), after[whole]
    if not len(log):
        none = Refusal(
            "few_decisions", "no decision whose outcomes are known by now, expected some", 0.0, guard.smallest_ess
        )
        return ValueOfChange(decisions=0, people=0, ess=0.0, refusals=(none,))
    weight = after[np.arange(len(log)), log.taken] / log.logged[np.arange(len(log)), log.taken]
    found = ValueOfChange(decisions=len(log), people=len(np.unique(log.people)), ess=effective_sample_size(weight))
    reasons = value_refusals(money_over_nothing(log, after), guard)
    if reasons:
        return replace(found, refusals=reasons)
    scores = [policy_scores(log, one) for one in (log.logged, after)]
    figures = np.column_stack([*scores, scores[1] - scores[0]])
    intervals = mean_intervals(figures, log.people, seed=seed, n_resamples=n_resamples, level=level)
    return replace(found, before=intervals[0], after=intervals[1], difference=intervals[2])
