"""Slots: which of the ranked candidates a decision selects, one a placement, no action twice, all under the caps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from models.contact_policy import cap_limits, contacts_under
from models.decision import Candidate, Selected
from models.funnel import Question
from models.policy import Arm, ContactPolicy
from models.records import CustomerRecords

PLACEMENT_SEPARATOR: Final = "/"
"""A placement is ``channel/name``, such as ``web/home_banner``."""

_NOWHERE: Final = ""


def channel_of_placement(placement: str) -> str:
    """The channel that a placement is on.

    >>> channel_of_placement("web/home_banner")
    'web'
    """
    return placement.partition(PLACEMENT_SEPARATOR)[0]


def filled_slots(
    ranking: Sequence[str],
    candidates: Mapping[str, Candidate],
    *,
    question: Question,
    records: CustomerRecords,
    policy: ContactPolicy,
    arm: Arm,
    fits: Callable[[str, Sequence[str]], bool],
) -> tuple[Selected, ...]:
    """Slots in order of choice: the chosen candidate, then by priority, above 0, no action twice, all under the limits.

    Each takes the first free placement of its channel. A random decision fills only one slot: what is behind it was not
    drawn.

    Args:
        ranking: treatment ids, the chosen one first, then by priority.
        candidates: by treatment id.
        question: its placements; without any there is one slot.
        records: the contacts that count already.
        policy: the caps.
        arm: the customer's.
        fits: whether there is capacity for a treatment beside those selected already.
    """
    free: list[str | None] = [*(question.placements or (None,))]
    filled: list[Selected] = []
    for treatment_id in ranking:
        candidate = candidates[treatment_id]
        place = next((place for place in free if _fits(place, candidate.channel)), _NOWHERE)
        if place is _NOWHERE:
            continue
        if filled:
            channels = [candidates[one.treatment_id].channel for one in filled]
            is_repeated = any(one.action_id == candidate.action_id for one in filled)
            is_worth_it = candidate.priority > 0 and arm != "random_eligible"
            if is_repeated or not is_worth_it:
                continue
            if not _has_room(candidate.channel, channels, question=question, records=records, policy=policy):
                continue
            if not fits(treatment_id, [one.treatment_id for one in filled]):
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


def _fits(placement: str | None, channel: str | None) -> bool:
    return placement is None or channel_of_placement(placement) == channel


def _has_room(
    channel: str | None,
    filled: Sequence[str | None],
    *,
    question: Question,
    records: CustomerRecords,
    policy: ContactPolicy,
) -> bool:
    """Whether the caps allow one more contact over a channel beside those of the slots that are filled."""
    return all(
        contacts_under(cap, records.contacts) + sum(cap.channel in (None, one) for one in filled) < cap.limit
        for cap in cap_limits(policy, channel or "", question.at)
    )
