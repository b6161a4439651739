"""What the promotion gate asks before a challenger decides for a share: less than of a champion, and more as it grows.

A champion must be certainly better. A step must not be certainly worse, on a log that can be believed, within the same
guardrails; and the first, small step asks for no sample, since it is what makes one.

Pure: a verdict in, a verdict out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from models.gate import Verdict

NOT_CERTAIN: Final = frozenset({"not_better"})
"""Reasons against a champion that are none against a step: the difference is not certainly above the margin."""

TOO_LITTLE_SEEN: Final = frozenset(
    {"few_decisions", "low_share", "few_changed", "few_customers", "no_support", "calibration_unknown"}
)
"""Reasons that say how little the log can tell of the challenger."""

NOT_TO_BE_JUDGED: Final = frozenset({"calibration"})
"""What few decisions cannot tell either."""


def step_verdict(verdict: Verdict, share: float, *, largest_blind_share: float) -> Verdict:
    """The verdict on a challenger that is to decide for a share of the population.

    What stays a reason at every share: ``worse`` (the upper bound of the difference is below 0), ``worse_for_group``,
    broken, wrong or missing probabilities, decisions that cannot be made again, ``calibration``, guardrails, and a
    challenger that would decide the same everywhere.

    Args:
        verdict: on the same challenger as a champion.
        share: that it is to decide for.
        largest_blind_share: up to it too small a sample is no reason, nor a calibration slope from too few decisions.
    """
    waived = set(NOT_CERTAIN)
    if share <= largest_blind_share:
        waived |= TOO_LITTLE_SEEN
        if any(one.code == "few_decisions" for one in verdict.reasons):
            waived |= NOT_TO_BE_JUDGED
    return replace(verdict, reasons=tuple(one for one in verdict.reasons if one.code not in waived))
