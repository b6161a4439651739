"""How far each customer of a block has come, as columns that the simulation moves on; and what the laws see of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.simulated_draws import Draws, Floats, Integers
from training.simulated_events import HOUR_US, EventSheet
from training.simulated_population import CONSENT_CHANNELS, Population
from training.simulated_world import STATES

NEVER: Final = np.iinfo(np.int64).min // 4
ALWAYS_LATER: Final = np.iinfo(np.int64).max // 4
DAY_US: Final = 24 * HOUR_US
ACTIVE_EVENTS: Final = 4
NEEDS_HELP_CALLS: Final = 2
LOOPING_LOOPS: Final = 2
WAITING_US: Final = 24 * HOUR_US


@dataclass(slots=True, kw_only=True)
class Course:
    """The mutable side of a block; every array has one entry per customer.

    Attributes:
        events: what happened so far.
        stage_at: when the present stage was entered.
        own_events: the customer's own events since the last progress, as ``events_since_progress`` counts them.
        calls: calls since the last progress.
        loops: returns to a stage since the last progress.
        contacts: contacts since the last progress.
        waiting_since: since when documents are with the bank; ``ALWAYS_LATER`` while they are not.
        last_nps: last likelihood to recommend, NaN where it was never given.
        asked_at: last time feedback was given or asked for.
        decided_at: last decision.
        called_at: last call from the bank.
        complaint_from: start of the last complaint.
        complaint_to: end of it.
        log_belief: ``(n_customers, n_types)`` logarithm of the probability of each type of person, up to a constant,
            given attributes and all progress and lack of it so far: what an observer could know at best.
    """

    people: Population
    draws: Draws
    events: EventSheet
    stage_at: Integers
    own_events: Integers
    calls: Integers
    loops: Integers
    contacts: Integers
    waiting_since: Integers
    last_nps: Floats
    asked_at: Integers
    decided_at: Integers
    called_at: Integers
    complaint_from: Integers
    complaint_to: Integers
    consents: dict[str, NDArray[np.bool_]]
    holds_protection: NDArray[np.bool_]
    log_belief: Floats

    def start_since(self, rows: Integers, at: Integers, own_events: int) -> None:
        """Begin a stage: what counts since the last progress starts again."""
        self.stage_at[rows] = at
        self.own_events[rows] = own_events
        for counter in (self.calls, self.loops, self.contacts):
            counter[rows] = 0

    def state(self, rows: Integers, at: Integers, stalled: NDArray[np.bool_]) -> Integers:
        """How each customer is stuck, as position in ``STATES``; the first rule that holds, as the journey declares."""
        conditions = [
            at - self.waiting_since[rows] >= WAITING_US,
            self.calls[rows] >= NEEDS_HELP_CALLS,
            self.loops[rows] >= LOOPING_LOOPS,
            stalled,
        ]
        names = ("WAITING_ON_US", "NEEDS_HELP", "LOOPING", "IDLE")
        state: Integers = np.select(conditions, [STATES.index(name) for name in names], STATES.index("ACTIVE"))
        return state

    def indicators(
        self, rows: Integers, state: Integers, stalled: NDArray[np.bool_], round_number: int
    ) -> dict[str, Floats]:
        """Every indicator of the laws at a moment of decision, each ``(n_rows,)`` of 0 and 1."""
        found = {name: values[rows] for name, values in self.people.indicators().items()}
        flags = {
            "idle": state == STATES.index("IDLE"),
            "looping": state == STATES.index("LOOPING"),
            "needs_help": state == STATES.index("NEEDS_HELP"),
            "waiting": state == STATES.index("WAITING_ON_US"),
            "active": self.own_events[rows] >= ACTIVE_EVENTS,
            "contacted": self.contacts[rows] >= 1,
            "detractor": self.last_nps[rows] <= 6,
            "later_round": np.full(rows.size, round_number > 0),
            "fresh": ~stalled,
        }
        return found | {name: flag.astype(np.float64) for name, flag in flags.items()}

    def belief(self, rows: Integers) -> Floats:
        """Probability of each type of person given what can be observed, ``(n_rows, n_types)``."""
        logs = self.log_belief[rows]
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares: Floats = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def learn(self, rows: Integers, by_type: Floats, happened: NDArray[np.bool_]) -> None:
        """Update the belief by an event whose probability under each type was ``by_type``, ``(n_rows, n_types)``."""
        self.log_belief[rows] += np.log(np.where(happened[:, None], by_type, 1.0 - by_type))


def new_course(people: Population, draws: Draws) -> Course:
    """Everybody before the application."""
    n = people.n
    return Course(
        people=people,
        draws=draws,
        events=EventSheet(),
        stage_at=people.entered_at.copy(),
        own_events=np.zeros(n, dtype=np.int64),
        calls=np.zeros(n, dtype=np.int64),
        loops=np.zeros(n, dtype=np.int64),
        contacts=np.zeros(n, dtype=np.int64),
        waiting_since=np.full(n, ALWAYS_LATER),
        last_nps=np.full(n, np.nan),
        asked_at=np.full(n, NEVER),
        decided_at=np.full(n, NEVER),
        called_at=np.full(n, NEVER),
        complaint_from=np.full(n, NEVER),
        complaint_to=np.full(n, NEVER),
        consents={name: people.consents[name].copy() for name in CONSENT_CHANNELS},
        holds_protection=people.holds_protection.copy(),
        log_belief=np.log(people.type_shares),
    )
