"""Who decides for simulated customers: the past policy, or whoever is put in its place.

The world asks, and does what was chosen; it never tells who asks what an action would change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models.import_decisions import past_decision_id
from training.simulated_course import Course
from training.simulated_draws import Floats, Integers
from training.simulated_events import SOURCE
from training.simulated_policy import Flags, Option, Standing, allowed, chosen, selection_probabilities


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Occasion:
    """Some customers of a stage at their moments of decision.

    Attributes:
        course: how far all customers have come, and their events so far.
        rows: ``(n,)`` positions of those who are decided on.
        at: ``(n,)`` their moments, microseconds since the epoch.
        standing: what the past policy sees of them.
        stall_state: that the stage declares.
        step: of the draws.
    """

    course: Course
    rows: Integers
    at: Integers
    standing: Standing
    stall_state: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What was chosen on an occasion.

    Attributes:
        ids: of the decisions; exposures and outcomes name them.
        request_ids: what each was asked under.
        option: ``(n,)`` column of what was chosen; one behind the last option for no action.
        probabilities: ``(n, n_options + 1)`` of every candidate, no action last; 0 where it was none, rows sum to 1.
        noted: ``(n, n_options)`` for which options the truth is noted: at least for all candidates.
    """

    ids: list[str]
    request_ids: list[str]
    option: Integers
    probabilities: Floats
    noted: Flags


class Chooser(Protocol):
    """Decides."""

    def choose(self, occasion: Occasion, options: tuple[Option, ...]) -> Choice:
        """One option, or no action, for each customer of an occasion."""


class PastPolicy:
    """The policy that made the simulated past decisions."""

    def choose(self, occasion: Occasion, options: tuple[Option, ...]) -> Choice:
        """What was drawn, with its exact probabilities."""
        course, rows = occasion.course, occasion.rows
        candidates = allowed(options, occasion.standing, occasion.stall_state)
        probabilities = selection_probabilities(options, candidates, occasion.standing)
        customers = course.people.ids[rows].tolist()
        request_ids = [f"{customer}/{occasion.step}" for customer in customers]
        # The ids that an import gives these decisions, so that exposures and outcomes can name them.
        ids = [
            past_decision_id(SOURCE, request_id, customer, moment)
            for request_id, customer, moment in zip(request_ids, customers, occasion.at.tolist(), strict=True)
        ]
        option = chosen(course.draws, rows, occasion.step, probabilities)
        return Choice(ids=ids, request_ids=request_ids, option=option, probabilities=probabilities, noted=candidates)
