"""Experiment arms by stable hash: the same customer is always in the same part of an experiment."""

from __future__ import annotations

from features.stable_hash import stable_unit
from models.policy import Arm, Experiment


def arm_probabilities(experiment: Experiment) -> dict[Arm, float]:
    """Share of each arm, in the order in which the unit interval is cut."""
    learning = experiment.no_contact_holdout + experiment.random_eligible + experiment.challenger
    return {
        "no_contact_holdout": experiment.no_contact_holdout,
        "random_eligible": experiment.random_eligible,
        "challenger": experiment.challenger,
        "champion": max(0.0, 1.0 - learning),
    }


def arm_of(customer_id: str, experiment: Experiment) -> Arm:
    """The arm of a customer, by the stable hash of the experiment's salt and the customer's id."""
    place = stable_unit(f"arm|{experiment.salt}", customer_id)
    edge = 0.0
    for arm, share in arm_probabilities(experiment).items():
        edge += share
        if place < edge:
            return arm
    return "champion"
