"""The policy that made the simulated past decisions: randomised over what the rules allowed, with exact probabilities.

It stands for the systems that a company had before. It is not uniform: it prefers calls where people call, cases where
something is stuck, and the channel that a customer likes; and every allowed candidate, no action too, stays possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.actions import NO_ACTION, Action, Catalogue, Treatment
from training.simulated_draws import Draws, Floats, Integers
from training.simulated_population import CHANNELS
from training.simulated_world import STAGES, STATES

Flags = NDArray[np.bool_]

UNIFORM_SHARE: Final = 0.2
"""Share of every decision that is spread evenly over the candidates; it bounds the probabilities from below."""

_NO_ACTION_WEIGHT: Final = {"ACTIVE": 2.0, "IDLE": 1.2, "LOOPING": 1.0, "NEEDS_HELP": 0.8, "WAITING_ON_US": 1.0}
_KIND_WEIGHT: Final = {"nudge": 0.8, "message": 0.5, "offer": 0.7, "call": 0.4, "case": 0.7}
_PREFERRED_FACTOR: Final = 1.6
_CALL_FACTOR_NEEDS_HELP: Final = 2.5
_LATER_NUDGE_FACTOR: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the policy sees of customers at their moments of decision, each ``(n,)``.

    Attributes:
        stage: position in ``STAGES``, the same for all.
        state: position in ``STATES``.
        stalled: the stage's ``stall_after`` has passed.
        consents: by channel, whether it is open.
        offers_allowed: no flag and no open complaint stands against credit and sales offers.
        low_income: too low an income for offers that invite borrowing.
        documents_sent: documents are with the bank.
        holds_protection: holds card protection.
        may_be_asked: feedback was not asked for or given lately.
        called_lately: had a call from the bank within a fortnight.
        preferred: position in ``CHANNELS``.
        is_later_round: decided on before in this stage.
    """

    stage: int
    state: Integers
    stalled: Flags
    consents: Mapping[str, Flags]
    offers_allowed: Flags
    low_income: Flags
    documents_sent: Flags
    holds_protection: Flags
    may_be_asked: Flags
    called_lately: Flags
    preferred: Integers
    is_later_round: Flags


@dataclass(frozen=True, slots=True)
class Option:
    """One candidate besides no action."""

    action: Action
    treatment: Treatment


def options_of(catalogue: Catalogue) -> tuple[Option, ...]:
    """All candidates of a catalogue in its order."""
    return tuple(Option(action, treatment) for action in catalogue.actions for treatment in action.treatments)


def allowed(options: tuple[Option, ...], standing: Standing, stall_state: str) -> Flags:
    """Which candidates the rules allow, ``(n, n_options)``."""
    n = standing.state.size
    table = np.zeros((n, len(options)), dtype=np.bool_)
    in_state = {name: standing.state == position for position, name in enumerate(STATES)}
    for column, option in enumerate(options):
        action, channel = option.action, option.treatment.channel
        if action.stages and STAGES[standing.stage] not in action.stages:
            continue
        if action.stall_states and stall_state not in action.stall_states:
            continue
        fits = np.ones(n, dtype=np.bool_)
        if action.stall_states:
            fits &= standing.stalled
        if not action.transactional and channel in standing.consents:
            fits &= standing.consents[channel]
        if channel == "call":
            fits &= ~standing.called_lately
        if action.issue == "grow":
            fits &= standing.offers_allowed
        table[:, column] = fits & _own_rules(action.id, standing, in_state, n)
    return table


def _own_rules(action_id: str, standing: Standing, in_state: Mapping[str, Flags], n: int) -> Flags:
    if action_id == "nudge_documents":
        return ~standing.documents_sent
    if action_id in ("explain_waiting", "case_verification"):
        return in_state["WAITING_ON_US"]
    if action_id == "case_fix_problem":
        return in_state["LOOPING"] | in_state["NEEDS_HELP"]
    if action_id == "offer_intro_rate":
        return ~standing.low_income
    if action_id == "offer_protection":
        return ~standing.holds_protection
    if action_id == "survey_experience":
        return standing.may_be_asked
    return np.ones(n, dtype=np.bool_)


def selection_probabilities(options: tuple[Option, ...], candidates: Flags, standing: Standing) -> Floats:
    """Probability of every candidate, ``(n, n_options + 1)`` with no action last; 0 where it is none, rows sum to 1."""
    n = candidates.shape[0]
    weights = np.zeros((n, len(options) + 1))
    needs_help = standing.state == STATES.index("NEEDS_HELP")
    for column, option in enumerate(options):
        weight = np.full(n, _KIND_WEIGHT[option.action.kind] / len(option.action.treatments) ** 0.5)
        if option.treatment.channel in CHANNELS:
            weight[standing.preferred == CHANNELS.index(option.treatment.channel)] *= _PREFERRED_FACTOR
        if option.action.kind == "call":
            weight[needs_help] *= _CALL_FACTOR_NEEDS_HELP
        if option.action.kind == "nudge":
            weight[standing.is_later_round] *= _LATER_NUDGE_FACTOR
        weights[:, column] = weight
    weights[:, -1] = np.array([_NO_ACTION_WEIGHT[state] for state in STATES])[standing.state]
    possible = np.concatenate([candidates, np.ones((n, 1), dtype=np.bool_)], axis=1)
    weights *= possible
    preferred = weights / weights.sum(axis=1, keepdims=True)
    even = possible / possible.sum(axis=1, keepdims=True)
    probabilities: Floats = (1.0 - UNIFORM_SHARE) * preferred + UNIFORM_SHARE * even
    return probabilities


def chosen(draws: Draws, rows: Integers, step: int, probabilities: Floats) -> Integers:
    """The column drawn for each row, ``(n,)``; the last column is no action."""
    return draws.choice("policy", rows, step, probabilities)


def candidates_json(options: tuple[Option, ...], probabilities: Floats) -> list[str]:
    """The candidates of each decision as a JSON list, in catalogue order with no action last."""
    parts = [
        f'{{"action_id":"{o.action.id}","treatment_id":"{o.treatment.id}","channel":"{o.treatment.channel}",'
        '"selection_probability":'
        for o in options
    ]
    parts.append(f'{{"action_id":"{NO_ACTION}","treatment_id":"{NO_ACTION}","channel":null,"selection_probability":')
    return [
        "[" + ",".join(f"{parts[c]}{p!r}}}" for c, p in enumerate(row) if p > 0) + "]" for row in probabilities.tolist()
    ]
