"""Slots: which of the ranked candidates a decision selects, one a placement, no action twice, all under the caps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.actions import NO_ACTION, Treatment
from models.arbitration import gumbel_noise
from models.contact_policy import Cap, cap_limits, contacts_under
from models.decision import Candidate, Selected
from models.funnel import Question
from models.policy import Arm
from models.records import CustomerRecords


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What slots are filled with, and within which bounds.

    Attributes:
        ranking: treatment ids, the chosen one first, then mandatory ones, then by priority.
        candidates: by treatment id.
        mandatory: treatment ids of the mandatory ones.
        question: its placements; without any there is one slot.
        records: the contacts that count already.
        treatments: by id.
        caps: all of the policy.
        arm: the customer's.
        fits: whether there is capacity for a treatment beside those selected already.
        seed: of the draws behind the first slot: decision id and policy version.
    """

    ranking: Sequence[str]
    candidates: Mapping[str, Candidate]
    mandatory: frozenset[str]
    question: Question
    records: CustomerRecords
    treatments: Mapping[str, Treatment]
    caps: Sequence[Cap]
    arm: Arm
    fits: Callable[[str, Sequence[str]], bool]
    seed: tuple[str, str]


def filled_slots(of: Filling) -> tuple[Selected, ...]:
    """Slots in order of choice: the chosen candidate, then by priority, above 0, no action twice, all under the caps.

    Each takes the first free placement of its channel. Behind what is chosen or mandatory, ``random_eligible`` draws
    each further slot uniformly among what still fits and nothing at all; nothing ends the slate.
    """
    free: list[str | None] = [*(of.question.placements or (None,))]
    filled: list[Selected] = []
    while free:
        chosen, probability = _next(filled, free, of)
        if chosen == NO_ACTION:
            break
        candidate = of.candidates[chosen]
        place = next(place for place in free if _fits(chosen, place, of))
        free.remove(place)
        filled.append(
            Selected(
                slot=len(filled) + 1,
                placement=place,
                action_id=candidate.action_id,
                treatment_id=chosen,
                conditional_probability=probability if filled else candidate.arm_selection_probability,
            )
        )
    return tuple(filled)


def following_chances(of: Filling, slate: Sequence[str]) -> tuple[float, ...]:
    """How likely each slot behind the first holds what it holds in a slate, given the slots before it.

    Where a place is left the last number is that of the end. It stops behind the first 0: what stands there, or behind
    it, cannot be filled like that.

    Args:
        of: what slots are filled with.
        slate: treatment ids in order, the first one as chosen; empty where nothing was.
    """
    free: list[str | None] = [*(of.question.placements or (None,))]
    filled: list[Selected] = []
    found: list[float] = []
    for treatment_id in (*slate, NO_ACTION) if slate else ():
        if not free:
            break
        if filled:
            found.append(_chance(treatment_id, filled, free, of))
        if treatment_id == NO_ACTION or found[-1:] == [0.0] or treatment_id not in of.candidates:
            break
        place = next((place for place in free if _fits(treatment_id, place, of)), None)
        if place not in free:
            break
        free.remove(place)
        action_id = of.candidates[treatment_id].action_id
        filled.append(Selected(slot=len(filled) + 1, placement=place, action_id=action_id, treatment_id=treatment_id))
    return tuple(found)


def _chance(treatment_id: str, filled: Sequence[Selected], free: Sequence[str | None], of: Filling) -> float:
    """Of what may follow, how likely it is this."""
    options = [one for one in of.ranking if _may_follow(one, filled, free, of)]
    if of.arm == "random_eligible" and not (options and options[0] in of.mandatory):
        return 1.0 / (len(options) + 1) if treatment_id in (*options, NO_ACTION) else 0.0
    return float(treatment_id == _next(filled, free, of)[0])


def _next(filled: Sequence[Selected], free: Sequence[str | None], of: Filling) -> tuple[str, float]:
    """What fills the next slot, ``no_action`` for nothing, and the probability of that behind the slots before it."""
    options = (one for one in of.ranking if _may_follow(one, filled, free, of))
    if not filled:
        return next(options, NO_ACTION), 1.0
    if of.arm != "random_eligible":
        return next((one for one in options if one in of.mandatory or of.candidates[one].priority > 0), NO_ACTION), 1.0
    drawn_from = list(options)
    if drawn_from and drawn_from[0] in of.mandatory:
        return drawn_from[0], 1.0
    slot = f"slot {len(filled) + 1}"
    drawn = max([*drawn_from, NO_ACTION], key=lambda treatment_id: gumbel_noise(*of.seed, slot, treatment_id))
    return drawn, 1.0 / (len(drawn_from) + 1)


def _may_follow(treatment_id: str, filled: Sequence[Selected], free: Sequence[str | None], of: Filling) -> bool:
    candidate = of.candidates[treatment_id]
    if not any(_fits(treatment_id, place, of) for place in free):
        return False
    if any(one.action_id == candidate.action_id for one in filled):
        return False
    if not filled:
        return True
    return _has_room(candidate, filled, of) and of.fits(treatment_id, [one.treatment_id for one in filled])


def _fits(treatment_id: str, place: str | None, of: Filling) -> bool:
    return place is None or of.treatments[treatment_id].fits(place)


def _has_room(candidate: Candidate, filled: Sequence[Selected], of: Filling) -> bool:
    """Whether the caps allow one more contact beside those of the slots that are filled."""
    beside = [of.candidates[one.treatment_id] for one in filled]
    return all(
        contacts_under(cap, of.records.contacts) + sum(cap.covers(one.channel, one.action_id) for one in beside)
        < cap.limit
        for cap in cap_limits(of.caps, candidate.channel, candidate.action_id, of.question.at)
    )
