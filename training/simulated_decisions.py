"""Past decisions of the simulated world: who could get what, what was drawn, and what it truly changed.

The true effects are kept apart from the decisions from here on; they are written to files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.journeys import Journey
from models.actions import NO_ACTION
from training.simulated_choice import Chooser, Occasion
from training.simulated_course import DAY_US, Course
from training.simulated_draws import Floats, Integers
from training.simulated_events import HOUR_US, facts_json
from training.simulated_policy import Option, Standing, candidates_json
from training.simulated_population import CHANNELS
from training.simulated_world import (
    EFFECTS,
    FAST_SHARE,
    FEEDBACK,
    MANNER_OF_CHANNEL,
    PREFERRED_CHANNEL,
    PROGRESS,
    PROTECTION,
    STAGES,
    STATES,
    TYPE_NAMES,
    TYPES,
    UNTYPED_ACTIONS,
    Law,
    Manner,
    probability,
)

Flags = NDArray[np.bool_]

SHORT_PROGRESS: Final = "progress_7d"
FEEDBACK_SPACING_US: Final = 7 * DAY_US

DECISION_SCHEMA: Final = pa.schema(
    [
        ("decision_id", pa.string()),
        ("request_id", pa.string()),
        ("customer_id", pa.string()),
        ("journey_id", pa.string()),
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("action_id", pa.string()),
        ("treatment_id", pa.string()),
        ("channel", pa.string()),
        ("selection_probability", pa.float64()),
        ("candidates", pa.string()),
    ]
)
EFFECT_SCHEMA: Final = pa.schema(
    [
        ("decision_id", pa.string()),
        ("customer_id", pa.string()),
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("stage", pa.string()),
        ("state", pa.string()),
        ("customer_type", pa.string()),
        ("action_id", pa.string()),
        ("treatment_id", pa.string()),
        ("outcome_id", pa.string()),
        ("selection_probability", pa.float64()),
        ("is_chosen", pa.bool_()),
        ("p0", pa.float64()),
        ("p1", pa.float64()),
        ("p0_observed", pa.float64()),
        ("p1_observed", pa.float64()),
    ]
)


@dataclass(slots=True)
class Decisions:
    """The decisions of a block and, apart from them, the truth about each of their candidates: column batches."""

    made: list[dict[str, Any]] = field(default_factory=list)
    effects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Decided:
    """What one round of decisions does to what follows; arrays have one entry per row.

    Attributes:
        ids: decision ids.
        option: column of what was chosen, ``n_options`` for no action.
        progress_by_type: ``(n_rows, n_types)`` probability of progress within 14 days under what was chosen.
        feedback: probability of feedback within 7 days.
        protection: probability of taking card protection within 14 days; 0 before the last stage.
    """

    ids: list[str]
    option: Integers
    progress_by_type: Floats
    feedback: Floats
    protection: Floats


def decide(
    course: Course,
    decisions: Decisions,
    rows: Integers,
    at: Integers,
    *,
    options: tuple[Option, ...],
    journey: Journey,
    stage: int,
    round_number: int,
    step: int,
    chooser: Chooser,
    effects: Mapping[str, Law] = EFFECTS,
) -> Decided:
    """Have customers decided on at their moments, note it down, and give what follows from it."""
    declared = journey.stages[stage]
    stalled = at - course.stage_at[rows] >= declared.stall_after
    state = course.state(rows, at, stalled)
    standing = _standing(course, rows, at, stage=stage, state=state, stalled=stalled, round_number=round_number)
    occasion = Occasion(course=course, rows=rows, at=at, standing=standing, stall_state=declared.stall_state, step=step)
    choice = chooser.choose(occasion, options)
    ids, option, probabilities = choice.ids, choice.option, choice.probabilities
    laws = _Laws(course, rows, course.indicators(rows, state, stalled, round_number), stage, standing, effects)
    _note(course, decisions, rows, at, ids, choice.request_ids, option, probabilities, options, journey.id)
    progress, feedback, protection = laws.progress_without.copy(), laws.feedback_without, laws.protection_without
    feedback, protection = feedback.copy(), protection.copy()
    for column, candidate in enumerate(options):
        fits = np.flatnonzero(choice.noted[:, column])
        if not fits.size:
            continue
        before, after = laws.outcome(candidate, fits)
        is_chosen = option[fits] == column
        taken = fits[is_chosen]
        if candidate.action.id == "survey_experience":
            feedback[taken] = after[is_chosen, 0]
        elif candidate.action.id == "offer_protection":
            protection[taken] = after[is_chosen, 0]
        else:
            progress[taken] = laws.progress(candidate, taken)
        decisions.effects.append(
            _effects(
                course,
                rows,
                at,
                ids,
                state,
                stage,
                candidate,
                fits,
                before,
                after,
                is_chosen,
                probabilities[fits, column],
            )
        )
    return Decided(ids, option, progress, feedback, protection)


class _Laws:
    """The laws of the world at some moments of decision."""

    def __init__(
        self,
        course: Course,
        rows: Integers,
        indicators: dict[str, Floats],
        stage: int,
        standing: Standing,
        effects: Mapping[str, Law],
    ) -> None:
        n = rows.size
        self._effects = effects
        self._n = n
        self._indicators = indicators
        self._preferred = standing.preferred
        shifts = np.array([kind.by_themselves for kind in TYPES.values()])
        self._logit = PROGRESS[STAGES[stage]].logit(indicators, n)[:, None] + shifts
        self.progress_without = probability(self._logit)
        self._feedback_logit = FEEDBACK.logit(indicators, n)
        self._protection_logit = PROTECTION.logit(indicators, n)
        self.feedback_without = np.where(standing.may_be_asked, probability(self._feedback_logit), 0.0)
        is_last = stage == len(STAGES) - 1
        self.protection_without = np.where(
            is_last & ~standing.holds_protection, probability(self._protection_logit), 0.0
        )

    def progress(self, option: Option, fits: Integers) -> Floats:
        """Probability of progress within 14 days under a candidate, ``(n_fits, n_types)``."""
        manner: Manner = (
            "incentive" if option.action.incentive_cost > 0 else MANNER_OF_CHANNEL[option.treatment.channel]
        )
        factors = np.array([kind.susceptibility[manner] for kind in TYPES.values()])
        return probability(self._logit[fits] + self._effect(option, fits)[:, None] * factors)

    def outcome(self, option: Option, fits: Integers) -> tuple[Floats, Floats]:
        """Probability of the candidate's own outcome, without and with it: ``(n_fits, n_types)`` or ``(n_fits, 1)``."""
        if option.action.id in UNTYPED_ACTIONS:
            logit = (self._feedback_logit if option.action.id == "survey_experience" else self._protection_logit)[fits]
            return probability(logit)[:, None], probability(logit + self._effect(option, fits))[:, None]
        share = FAST_SHARE if option.action.outcome == SHORT_PROGRESS else 1.0
        return share * self.progress_without[fits], share * self.progress(option, fits)

    def _effect(self, option: Option, fits: Integers) -> Floats:
        effect = self._effects[option.action.id].logit(
            {name: flag[fits] for name, flag in self._indicators.items()}, fits.size
        )
        if option.treatment.channel in CHANNELS:
            effect += PREFERRED_CHANNEL * (self._preferred[fits] == CHANNELS.index(option.treatment.channel))
        return effect


def _standing(
    course: Course, rows: Integers, at: Integers, *, stage: int, state: Integers, stalled: Flags, round_number: int
) -> Standing:
    people = course.people
    complains = (course.complaint_from[rows] < at) & (at <= course.complaint_to[rows] + 1_000_000)
    flagged = people.arrears[rows] | people.hardship[rows] | people.vulnerable[rows]
    spaced = at - course.decided_at[rows] >= FEEDBACK_SPACING_US
    return Standing(
        stage=stage,
        state=state,
        stalled=stalled,
        consents={name: consent[rows] for name, consent in course.consents.items()},
        offers_allowed=~flagged & ~complains,
        low_income=people.income[rows] == 0,
        documents_sent=course.waiting_since[rows] < at,
        holds_protection=course.holds_protection[rows],
        # Also not so soon after another decision that its week of possible feedback is still running.
        may_be_asked=(at - course.asked_at[rows] >= 30 * DAY_US) & spaced,
        called_lately=at - course.called_at[rows] < 14 * DAY_US,
        preferred=people.preferred[rows],
        is_later_round=np.full(rows.size, round_number > 0),
    )


def _note(
    course: Course,
    decisions: Decisions,
    rows: Integers,
    at: Integers,
    ids: list[str],
    request_ids: list[str],
    option: Integers,
    probabilities: Floats,
    options: tuple[Option, ...],
    journey_id: str,
) -> None:
    actions = np.array([*(o.action.id for o in options), NO_ACTION], dtype=object)
    treatments = np.array([*(o.treatment.id for o in options), NO_ACTION], dtype=object)
    channels = np.array([*(o.treatment.channel for o in options), None], dtype=object)
    decisions.made.append(
        {
            "decision_id": ids,
            "request_id": request_ids,
            "customer_id": course.people.ids[rows],
            "journey_id": np.full(rows.size, journey_id, dtype=object),
            "decided_at": at,
            "action_id": actions[option],
            "treatment_id": treatments[option],
            "channel": channels[option],
            "selection_probability": probabilities[np.arange(rows.size), option],
            "candidates": candidates_json(options, probabilities),
        }
    )
    _expose(course, rows, at, ids, option, options, actions, treatments, channels)


def _expose(
    course: Course,
    rows: Integers,
    at: Integers,
    ids: list[str],
    option: Integers,
    options: tuple[Option, ...],
    actions: NDArray[np.object_],
    treatments: NDArray[np.object_],
    channels: NDArray[np.object_],
) -> None:
    treated = np.flatnonzero(option < len(options))
    who, column = rows[treated], option[treated]
    exposed_at = at[treated] + exposure_delay(course, who)
    facts = facts_json(
        {
            "decision_id": [ids[i] for i in treated.tolist()],
            "action_id": actions[column],
            "treatment_id": treatments[column],
        }
    )
    course.events.add("action_exposed", who, exposed_at, channel=channels[column].tolist(), facts=facts)
    course.contacts[who] += 1
    course.called_at[who[channels[column] == "call"]] = exposed_at[channels[column] == "call"]


def exposure_delay(course: Course, rows: Integers) -> Integers:
    """From decision to exposure: one to twenty minutes, the same for a customer's every decision."""
    delay: Integers = (course.draws.between("exposed", rows, 0, 1 / 60, 1 / 3) * HOUR_US).astype(np.int64)
    return delay


def _effects(
    course: Course,
    rows: Integers,
    at: Integers,
    ids: list[str],
    state: Integers,
    stage: int,
    option: Option,
    fits: Integers,
    before: Floats,
    after: Floats,
    is_chosen: Flags,
    probabilities: Floats,
) -> dict[str, Any]:
    who = rows[fits]
    own = course.people.customer_type[who] if before.shape[1] > 1 else np.zeros(who.size, dtype=np.int64)
    belief = course.belief(who) if before.shape[1] > 1 else np.ones((who.size, 1))
    pick = np.arange(who.size)
    return {
        "decision_id": [ids[i] for i in fits.tolist()],
        "customer_id": course.people.ids[who],
        "decided_at": at[fits],
        "stage": np.full(who.size, STAGES[stage], dtype=object),
        "state": np.array(STATES, dtype=object)[state[fits]],
        "customer_type": np.array(TYPE_NAMES, dtype=object)[course.people.customer_type[who]],
        "action_id": np.full(who.size, option.action.id, dtype=object),
        "treatment_id": np.full(who.size, option.treatment.id, dtype=object),
        "outcome_id": np.full(who.size, option.action.outcome, dtype=object),
        "selection_probability": probabilities,
        "is_chosen": is_chosen,
        "p0": before[pick, own],
        "p1": after[pick, own],
        "p0_observed": (before * belief).sum(axis=1),
        "p1_observed": (after * belief).sum(axis=1),
    }
