"""What decisions were truly worth, by the laws of the simulated world; it scores the loop, which never looks here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from features.journeys import Journey
from models.actions import NO_ACTION, Catalogue
from models.policy import Policy
from training.simulated_draws import Floats


class Worth(NamedTuple):
    """What one treatment would truly earn in one decision over no action, in money.

    Attributes:
        selection_probability: as decided; 0 of what was no candidate.
        expected: by the mean of the laws given all that can be observed.
    """

    selection_probability: float
    expected: float


class Truth:
    """The worth of every candidate of every decision of a round.

    Args:
        effects: batches of columns, as the simulator notes them.
        catalogue: says what contacts and incentives cost.
        journey: says what a response is worth.
        policy: says what the channels cost.
    """

    def __init__(
        self, effects: Sequence[Mapping[str, Any]], *, catalogue: Catalogue, journey: Journey, policy: Policy
    ) -> None:
        prices = _prices(catalogue, journey, policy)
        self._worth: dict[str, dict[str, Worth]] = {}
        for batch in effects:
            treatment = str(batch["treatment_id"][0])
            value, incentive, cost = prices[treatment]
            before, after = batch["p0_observed"], batch["p1_observed"]
            earned: Floats = value * (after - before) - incentive * after - cost
            for decision_id, probability, expected in zip(
                batch["decision_id"], batch["selection_probability"].tolist(), earned.tolist(), strict=True
            ):
                self._worth.setdefault(decision_id, {})[treatment] = Worth(probability, expected)

    def as_decided(self, decision_ids: Sequence[str]) -> Floats:
        """``(n,)`` expected worth of each decision, over all of its arms."""
        return np.array(
            [sum(one.selection_probability * one.expected for one in self._candidates(each)) for each in decision_ids]
        )

    def best(self, decision_ids: Sequence[str]) -> Floats:
        """``(n,)`` worth of the best candidate of each, no action among them: what nobody can exceed."""
        return np.array(
            [
                max(
                    [
                        0.0,
                        *(one.expected for one in self._worth.get(each, {}).values() if one.selection_probability > 0),
                    ]
                )
                for each in decision_ids
            ]
        )

    def _candidates(self, decision_id: str) -> Iterable[Worth]:
        return self._worth.get(decision_id, {}).values()

    def of_policy(self, decision_ids: Sequence[str], treatments: Sequence[str], chosen: Floats) -> Floats:
        """``(n,)`` expected worth of a policy.

        Args:
            decision_ids: ``(n,)``.
            treatments: ``(m,)``, no action among them.
            chosen: ``(n, m)`` probability with which the policy takes each.
        """
        table = np.zeros(chosen.shape)
        column = {treatment: place for place, treatment in enumerate(treatments)}
        for row, each in enumerate(decision_ids):
            for treatment, one in self._worth.get(each, {}).items():
                if treatment in column:
                    table[row, column[treatment]] = one.expected
        earned: Floats = (chosen * table).sum(axis=1)
        return earned


def _prices(catalogue: Catalogue, journey: Journey, policy: Policy) -> dict[str, tuple[float, float, float]]:
    """By treatment: money of one response, incentive paid for it, and cost of the contact, as decisions count them."""
    value = {one.id: one.value for one in journey.outcomes}
    return {
        treatment.id: (
            value[action.outcome],
            action.incentive_cost,
            treatment.contact_cost + treatment.fatigue_cost + policy.channel_price.get(treatment.channel or "", 0.0),
        )
        for action in catalogue.actions
        for treatment in action.treatments
        if treatment.id != NO_ACTION
    }
