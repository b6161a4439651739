"""A list of people screened: each row is kept, or removed for one reason. Pure; no store, no clock.

The reason is where the last candidate of a row fell in the funnel of a decision, in a marketer's words. One person gets
one row: whoever stands in a list twice, be it under two ids, would be contacted twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from features.identity import Person
from models.batch_observation import Observed, Scene
from models.batch_population import CountedContacts, batch_inputs, furthest
from models.deliberation import UNKNOWN_STALL, considered_in, standing_of
from models.experiment import arm_of
from models.removals import REMOVALS, Removal, removal_of
from models.scoring import StallScore
from models.screen_lists import ScreenRow, Verdict


def first_rows(persons: Iterable[Person]) -> Iterator[bool]:
    """Whether each row is the first of its person."""
    seen: set[str] = set()
    for person in persons:
        yield person.customer_id not in seen
        seen.add(person.customer_id)


def screened_rows(
    numbered: Sequence[tuple[int, ScreenRow]],
    persons: Sequence[Person],
    is_first: Sequence[bool],
    observed: Observed,
    scene: Scene,
    *,
    records: CountedContacts,
) -> list[Verdict]:
    """What becomes of some rows.

    Args:
        numbered: the rows, each with its place in the list.
        persons: of each row.
        is_first: of each row, whether its person stands in none before it.
        observed: the persons of the rows that are the first, in that order.
        scene: what they are screened by.
        records: contacts; only read.
    """
    scored = None if scene.scorer is None else scene.scorer.customers(observed.vectors)
    stalls = None if scored is None else zip(*(one.tolist() for one in scored.stall_block()), strict=True)
    found: list[Verdict] = []
    place = 0
    for (number, row), person, first in zip(numbered, persons, is_first, strict=True):
        if not first:
            found.append(_removed(number, row, "duplicate_row"))
            continue
        stall = UNKNOWN_STALL if stalls is None else StallScore(*next(stalls))
        found.append(_screened(number, row, person, place, stall, observed, scene, records))
        place += 1
    return found


def _screened(
    number: int,
    row: ScreenRow,
    person: Person,
    place: int,
    stall: StallScore,
    observed: Observed,
    scene: Scene,
    records: CountedContacts,
) -> Verdict:
    rulebook, profile = scene.rulebook, observed.profiles[place]
    if profile is None:
        return _removed(number, row, "unknown_customer")
    arm = arm_of(person.customer_id, rulebook.policy.experiment, linked_ids=person.linked_ids)
    if arm == "no_contact_holdout":
        return _removed(number, row, "holdout")
    asked = replace(
        scene,
        include=frozenset() if row.action_id is None else frozenset([row.action_id]),
        channels=None if row.channel is None else frozenset([row.channel]),
    )
    inputs = batch_inputs(asked, observed.vectors[place], person, profile, arm, records)
    situation, _ = standing_of(inputs, rulebook, lambda is_stalled: stall)
    considered = considered_in(situation, inputs, rulebook)
    allowed = tuple([one.treatment.id for one in considered if one.dropped is None])
    if allowed:
        return Verdict(
            row=number,
            customer_id=row.customer_id,
            action_id=row.action_id,
            channel=row.channel,
            kept=True,
            treatment_ids=allowed,
        )
    last = furthest(considered)
    if last is None:
        return _removed(number, row, "not_offered")
    return _removed(number, row, removal_of(last, rulebook.policy), last.rule_ids)


def _removed(number: int, row: ScreenRow, reason: Removal, rule_ids: tuple[str, ...] = ()) -> Verdict:
    return Verdict(
        row=number,
        customer_id=row.customer_id,
        action_id=row.action_id,
        channel=row.channel,
        kept=False,
        reason=reason,
        rule_ids=rule_ids,
    )


def verdict_counts(verdicts: Iterable[Verdict]) -> tuple[int, dict[str, int]]:
    """How many rows are kept, and how many were removed for each reason that there is, in the order of ``REMOVALS``."""
    counts = Counter(one.reason for one in verdicts)
    return counts[None], {reason: counts[reason] for reason in REMOVALS if counts[reason]}
