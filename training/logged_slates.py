"""Recorded decisions that fill several slots, as slates beside a policy: ``models.slate_off_policy`` on the log.

What can be told of slots behind the first: only the arm ``random_eligible`` draws them, and a record says how likely
what stands there was given its own arm, not given every other. So slates are those of that arm, with their
probabilities given it. Its customers are drawn by hash from all; who has several ids is in it less often, and counts
for as many more.

Outcomes are of a decision, not of a slot. Each is credited to the first slot whose action aims at it, as

    ``v (y - q_0) - i y``,

with ``q_0`` what was predicted of it without any action; every filled slot bears its own costs. So money is over what
the models of the time expected of doing nothing. Where they were wrong it is off by as much, whatever the
probabilities; and where a later slot changes what an earlier one is credited with, only slate IPS is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import CannotReplay
from models.asked import asked_in
from models.decision import DecisionRecord
from models.metrics import bootstrap_interval
from models.off_policy import EstimateParams
from models.off_policy_log import UnsupportedPolicy
from models.replayer import Replayer
from models.slate_off_policy import Slates, slate_estimates
from models.slots import following_chances
from training.decision_log import DecisionLog

DRAWN: Final = "random_eligible"
"""The arm that draws every slot."""

CHANGED: Final = "slate_changed"
"""A reason to leave a slate out: made again, its slots could not have been filled as they were."""

_ABOUT: Final = (
    "Decisions with several places, of the arm that draws every slot. Money per decision over what was predicted of "
    "doing nothing: an outcome is credited to the first slot whose action aims at it."
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MetSlates:
    """Decisions that fill several slots at random, met while a log is made again: it is ``Noted``.

    Attributes:
        asked: name of the alternative that is to be valued.
        met: by id, each as it was recorded and under the alternative.
    """

    asked: str
    met: dict[str, tuple[DecisionRecord, DecisionRecord]] = field(default_factory=dict)

    def __call__(self, recorded: DecisionRecord, made: Mapping[str, DecisionRecord]) -> None:
        """Keep a decision, if it is one of them."""
        if recorded.arm == DRAWN and len(asked_in(recorded.request).placements) > 1:
            self.met[recorded.decision_id] = (recorded, made[self.asked])


def slates_document(
    log: DecisionLog, met: MetSlates, recorded: Replayer, asked: Replayer, params: EstimateParams
) -> dict[str, Any]:
    """The section ``slates`` of a report; None with the reason where no decision has several slots.

    Args:
        log: the decisions, with what came of them.
        met: those of several slots among them.
        recorded: makes them again as they were.
        asked: makes them again as the policy would.
        params: of the estimates.
    """
    rows = {str(one): row for row, one in enumerate(log.decision_ids)}
    pairs = [(rows[name], *pair) for name, pair in met.met.items() if name in rows]
    if not pairs:
        reason = f"no decision with several places in the arm {DRAWN}, which alone draws every slot"
        return {"slates": None, "slates_reason": reason}
    kept, skipped = _with_chances(pairs, recorded, asked)
    found: dict[str, Any] = {"about": _ABOUT, "arm": DRAWN, "decisions": len(kept), "skipped": dict(skipped)}
    if not kept:
        found |= {"slots": 0, "logging": None, "estimates": None, "refused": []}
        return {"slates": found, "slates_reason": None}
    slates = _slates(log, kept)
    earned = slates.reward.sum(axis=1)
    own = bootstrap_interval(
        lambda drawn: float(earned[drawn].mean()),
        len(earned),
        clusters=slates.clusters,
        seed=params.seed,
        n_resamples=params.resamples,
        level=params.level,
    )
    found |= {"slots": slates.reward.shape[1], "logging": {"value": own.estimate, "low": own.low, "high": own.high}}
    try:
        estimates = slate_estimates(slates, params)
    except UnsupportedPolicy as error:
        refused = [
            {"code": one.code, "value": one.value, "threshold": one.threshold, "text": one.reason}
            for one in error.refusals
        ]
        return {"slates": {**found, "estimates": None, "refused": refused}, "slates_reason": None}
    told = {str(name): {**asdict(one), "ess": list(one.ess)} for name, one in estimates.items()}
    return {"slates": {**found, "estimates": told, "refused": []}, "slates_reason": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A slate with its chances.

    Attributes:
        row: of the log.
        treatments: in the order of the slots.
        share: probability of the arm for this customer.
        logged: chance of each slot and of the end, given the arm.
        policy: the same of the policy.
        unsupported: probability that the policy puts into slot 1 what the arm could not.
    """

    row: int
    treatments: tuple[str, ...]
    share: float
    logged: tuple[float, ...]
    policy: tuple[float, ...]
    unsupported: float


def _with_chances(
    pairs: Sequence[tuple[int, DecisionRecord, DecisionRecord]], recorded: Replayer, asked: Replayer
) -> tuple[list[_Kept], Counter[str]]:
    kept, skipped = [], Counter[str]()
    for row, record, made in pairs:
        treatments = tuple(one.treatment_id for one in record.selected)
        ours = {one.treatment_id: one.arm_selection_probability for one in record.candidates}
        theirs = {one.treatment_id: one.arm_selection_probability for one in made.candidates}
        first = record.first.treatment_id
        try:
            logged = (ours[first], *following_chances(recorded.filling(record), treatments))
            policy = (theirs.get(first, 0.0), *following_chances(asked.filling(record), treatments))
        except CannotReplay as error:
            skipped[error.reason] += 1
            continue
        if min(logged) <= 0:
            skipped[CHANGED] += 1
            continue
        unsupported = sum(chance for name, chance in theirs.items() if ours.get(name, 0.0) <= 0)
        share = record.arm_probabilities[DRAWN]
        kept.append(
            _Kept(
                row=row,
                treatments=treatments,
                share=share,
                logged=logged,
                policy=policy[: len(logged)],
                unsupported=unsupported,
            )
        )
    return kept, skipped


def _slates(log: DecisionLog, kept: Sequence[_Kept]) -> Slates:
    n_slots = max(len(one.logged) for one in kept)
    rows = np.array([one.row for one in kept])
    # Who has several ids is in the arm less often, and stands for as many more.
    counts = 1 / np.array([one.share for one in kept])
    reward = np.stack([_earned(log, one, n_slots) for one in kept]) * (counts / counts.mean())[:, None]
    return Slates(
        reward=reward,
        logged=np.stack([_padded(one.logged, n_slots) for one in kept]),
        policy=np.stack([_padded(one.policy, n_slots) for one in kept]),
        unsupported=np.array([one.unsupported for one in kept]),
        clusters=log.choices.people[rows],
    )


def _padded(chances: Sequence[float], n_slots: int) -> Floats:
    return np.array([*chances, *[1.0] * (n_slots - len(chances))])


def _earned(log: DecisionLog, slate: _Kept, n_slots: int) -> Floats:
    """``(n_slots,)`` money of each slot."""
    choices, row = log.choices, slate.row
    earned = np.zeros(n_slots)
    credited: set[int] = set()
    for slot, treatment_id in enumerate(slate.treatments):
        columns = [place for place, option in enumerate(log.options) if option.treatment_id == treatment_id]
        column = next((one for one in columns if log.arbitrated.eligible[row, one]), columns[0])
        earned[slot] -= choices.cost[row, column]
        aim = int(choices.aim[column])
        if aim not in credited:
            credited.add(aim)
            came = choices.response[row, aim]
            earned[slot] += choices.value[row, column] * (came - choices.control[row, aim])
            earned[slot] -= choices.incentive[row, column] * came
    return earned
