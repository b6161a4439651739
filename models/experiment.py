"""Experiment arms by stable hash: the same person is always in the same part of an experiment.

Whoever has one id in the holdout stays in it, whatever ids turn out to be theirs: it must never be contacted.
"""

from __future__ import annotations

from collections.abc import Iterable

from features.stable_hash import stable_unit
from models.policy import Arm, Experiment


def arm_probabilities(experiment: Experiment, *, n_linked: int = 0) -> dict[Arm, float]:
    """Probability of each arm for somebody with so many linked ids, in the order in which the unit interval is cut.

    Each of ``1 + n`` ids has its chance ``h`` to be in the holdout, so that is ``1 - (1 - h)^(1 + n)``; the other arms
    keep their ratios, ``share * (1 - h)^n``.
    """
    learning = experiment.no_contact_holdout + experiment.random_eligible + experiment.challenger
    spared = (1.0 - experiment.no_contact_holdout) ** n_linked
    return {
        # Written so that nothing is rounded where there is no other id.
        "no_contact_holdout": experiment.no_contact_holdout * spared + (1.0 - spared),
        "random_eligible": experiment.random_eligible * spared,
        "challenger": experiment.challenger * spared,
        "champion": max(0.0, 1.0 - learning) * spared,
    }


def arm_of(customer_id: str, experiment: Experiment, *, linked_ids: Iterable[str] = ()) -> Arm:
    """The arm of a person, by the stable hash of the experiment's salt and the canonical id.

    Args:
        customer_id: the canonical id.
        experiment: the experiment.
        linked_ids: the person's other ids: one of them in the holdout keeps the person there.
    """
    if any(_arm_of_id(one, experiment) == "no_contact_holdout" for one in linked_ids):
        return "no_contact_holdout"
    return _arm_of_id(customer_id, experiment)


def _arm_of_id(customer_id: str, experiment: Experiment) -> Arm:
    place = stable_unit(f"arm|{experiment.salt}", customer_id)
    edge = 0.0
    for arm, share in arm_probabilities(experiment).items():
        edge += share
        if place < edge:
            return arm
    return "champion"
