"""Slots: which of the ranked candidates a decision selects, one a placement, no action twice, all under the caps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from models.actions import Treatment
from models.contact_policy import Cap, cap_limits, contacts_under
from models.decision import Candidate, Selected
from models.funnel import Question
from models.policy import Arm
from models.records import CustomerRecords

_NOWHERE: Final = ""


def filled_slots(
    ranking: Sequence[str],
    candidates: Mapping[str, Candidate],
    *,
    question: Question,
    records: CustomerRecords,
    treatments: Mapping[str, Treatment],
    caps: Sequence[Cap],
    arm: Arm,
) -> tuple[Selected, ...]:
    """Slots in order of choice: the chosen candidate, then by priority, above 0, no action twice, all under the caps.

    Each takes the first free placement that it fits. A random decision fills only one slot: what is behind it was not
    drawn.

    Args:
        ranking: treatment ids, the chosen one first, then by priority.
        candidates: by treatment id.
        question: its placements; without any there is one slot.
        records: the contacts that count already.
        treatments: by id.
        caps: all of the policy.
        arm: the customer's.
    """
    free: list[str | None] = [*(question.placements or (None,))]
    filled: list[Selected] = []
    for treatment_id in ranking:
        candidate = candidates[treatment_id]
        place = next((place for place in free if place is None or treatments[treatment_id].fits(place)), _NOWHERE)
        if place is _NOWHERE:
            continue
        if filled:
            is_repeated = any(one.action_id == candidate.action_id for one in filled)
            is_worth_it = candidate.priority > 0 and arm != "random_eligible"
            if is_repeated or not is_worth_it:
                continue
            beside = [candidates[one.treatment_id] for one in filled]
            if not _has_room(candidate, beside, question=question, records=records, caps=caps):
                continue
        free.remove(place)
        filled.append(
            Selected(
                slot=len(filled) + 1,
                placement=place,
                action_id=candidate.action_id,
                treatment_id=treatment_id,
                # What comes after the first slot follows from it.
                conditional_probability=1.0 if filled else candidate.arm_selection_probability,
            )
        )
    return tuple(filled)


def _has_room(
    candidate: Candidate,
    filled: Sequence[Candidate],
    *,
    question: Question,
    records: CustomerRecords,
    caps: Sequence[Cap],
) -> bool:
    """Whether the caps allow one more contact beside those of the slots that are filled."""
    return all(
        contacts_under(cap, records.contacts) + sum(cap.covers(one.channel, one.action_id) for one in filled)
        < cap.limit
        for cap in cap_limits(caps, candidate.channel, candidate.action_id, question.at)
    )
