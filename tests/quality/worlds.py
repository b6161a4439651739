"""Tables of decisions under the simulator's frozen laws, with the truth beside them: no streams of events.

One moment of decision for each customer, all waiting over an offer (stage ``verified``, stalled), with no history that
would tell the type of person: so the truth given what can be observed is exactly the laws' mean over the types, and
100,000 decisions an arm take seconds. Everybody may get everything; arms are drawn evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from features.stable_hash import stable_hash
from models.configuration import built_in_configuration
from training.simulated_course import ACTIVE_EVENTS, LOOPING_LOOPS, NEEDS_HELP_CALLS, WAITING_US
from training.simulated_draws import Draws, Floats, Integers
from training.simulated_events import HOUR_US
from training.simulated_population import CHANNELS, Population, population
from training.simulated_world import (
    EFFECTS,
    MANNER_OF_CHANNEL,
    PREFERRED_CHANNEL,
    PROGRESS,
    STATES,
    TYPES,
    Manner,
    probability,
)

STAGE: Final = "verified"
VALUE: Final = 60.0
"""Money for one more accepted offer, as in the built-in journey."""

TREATMENTS: Final = {
    "remind_next_step": "email_remind_v1",
    "callback_help": "call_help_v1",
    "explain_offer": "email_explain_v1",
    "offer_fee_waiver": "email_waiver_v1",
}
"""The arms besides no action."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Decisions with their truth.

    Attributes:
        x: ``(n, n_features)`` what can be observed.
        truth: ``(n, n_arms)`` probability of the response under each arm, no action first, given ``x``.
        arm: ``(n,)`` drawn evenly.
        y: ``(n,)`` 1 where the offer was accepted within 14 days.
    """

    x: Floats
    truth: Floats
    arm: Integers
    y: Floats

    @property
    def effects(self) -> Floats:
        """True effects ``(n, n_arms - 1)``."""
        return self.truth[:, 1:] - self.truth[:, :1]


def table(seed: int, n: int) -> Table:
    """``n`` decisions of one seed."""
    numbers = np.arange(n, dtype=np.int64)
    draws = Draws(stable_hash("quality", str(seed)) % 2**31, numbers)
    people = population(draws, numbers, until=0, span_days=180.0)
    counts = _counts(draws, numbers)
    indicators = people.indicators() | _standing(counts)
    by_type = _responses_by_type(people, indicators)
    truth = np.einsum("nat,nt->na", by_type, people.type_shares)
    arm = draws.choice("arm", numbers, 0, np.full(truth.shape[1], 1 / truth.shape[1]))
    own = by_type[numbers, arm, people.customer_type]
    return Table(_features(people, counts), truth, arm, draws.happens("response", numbers, 0, own).astype(np.float64))


def _counts(draws: Draws, rows: Integers) -> dict[str, Floats]:
    """What happened since the last progress, as features hold it; most of it did to few."""
    waits = draws.happens("waits", rows, 0, 0.15)
    asked = draws.happens("asked", rows, 0, 0.12)
    return {
        "waiting_hours": np.where(waits, draws.between("waiting", rows, 0, 2.0, 90.0), 0.0),
        "calls": draws.count("calls", rows, 0, 0.7, 6).astype(np.float64),
        "loops": draws.count("loops", rows, 0, 0.8, 6).astype(np.float64),
        "own_events": draws.count("own", rows, 0, 2.5, 15).astype(np.float64),
        "contacts": draws.count("contacts", rows, 0, 0.5, 5).astype(np.float64),
        "round": draws.count("round", rows, 0, 0.4, 3).astype(np.float64),
        "nps": np.where(asked, np.floor(draws.between("nps", rows, 0, 0.0, 11.0)), np.nan),
    }


def _standing(counts: dict[str, Floats]) -> dict[str, Floats]:
    """The indicators of the laws that change; all are stalled, so nobody is fresh."""
    conditions = [
        counts["waiting_hours"] * HOUR_US >= WAITING_US,
        counts["calls"] >= NEEDS_HELP_CALLS,
        counts["loops"] >= LOOPING_LOOPS,
    ]
    names = ("WAITING_ON_US", "NEEDS_HELP", "LOOPING")
    state = np.select(conditions, [STATES.index(name) for name in names], STATES.index("IDLE"))
    flags = {
        "idle": state == STATES.index("IDLE"),
        "looping": state == STATES.index("LOOPING"),
        "needs_help": state == STATES.index("NEEDS_HELP"),
        "waiting": state == STATES.index("WAITING_ON_US"),
        "active": counts["own_events"] >= ACTIVE_EVENTS,
        "contacted": counts["contacts"] >= 1,
        "detractor": counts["nps"] <= 6,
        "later_round": counts["round"] >= 1,
        "fresh": np.zeros(len(state), dtype=np.bool_),
    }
    return {name: flag.astype(np.float64) for name, flag in flags.items()}


def _responses_by_type(people: Population, indicators: dict[str, Floats]) -> Floats:
    """Probability of the response under each arm for each type of person, ``(n, n_arms, n_types)``."""
    catalogue = built_in_configuration().catalogue
    shifts = np.array([kind.by_themselves for kind in TYPES.values()])
    logit = PROGRESS[STAGE].logit(indicators, people.n)[:, None] + shifts
    arms = [probability(logit)]
    for action_id, treatment_id in TREATMENTS.items():
        action = catalogue.by_id[action_id]
        channel = next(one.channel for one in action.treatments if one.id == treatment_id)
        manner: Manner = "incentive" if action.incentive_cost > 0 else MANNER_OF_CHANNEL[channel]
        factors = np.array([kind.susceptibility[manner] for kind in TYPES.values()])
        effect = EFFECTS[action_id].logit(indicators, people.n)
        effect = effect + PREFERRED_CHANNEL * (people.preferred == CHANNELS.index(channel))
        arms.append(probability(logit + effect[:, None] * factors))
    return np.stack(arms, axis=1)


def _features(people: Population, counts: dict[str, Floats]) -> Floats:
    columns: Sequence[Floats] = (
        *(getattr(people, name) for name in ("age", "income", "sensitivity", "tenure", "region", "device")),
        *(getattr(people, name) for name in ("app_user", "existing", "arrears", "hardship", "vulnerable")),
        *((people.preferred == place) for place in range(len(CHANNELS))),
        *counts.values(),
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def costs() -> tuple[Floats, Floats]:
    """Money of each arm besides no action: for the contact, and for the incentive if the response comes."""
    configuration = built_in_configuration()
    contact, incentive = [], []
    for action_id, treatment_id in TREATMENTS.items():
        action = configuration.catalogue.by_id[action_id]
        one = next(one for one in action.treatments if one.id == treatment_id)
        price = configuration.policy.channel_price.get(one.channel, 0.0)
        contact.append(one.contact_cost + one.fatigue_cost + price)
        incentive.append(action.incentive_cost)
    return np.array(contact), np.array(incentive)


def money(control: Floats, effects: Floats) -> Floats:
    """Net value of every arm, ``(n, n_arms)``: ``value (p_a - p_0) - cost - incentive p_a``; 0 for no action."""
    contact, incentive = costs()
    worth = VALUE * effects - contact - incentive * np.clip(control[:, None] + effects, 0.0, 1.0)
    return np.concatenate([np.zeros((len(worth), 1)), worth], axis=1)
