"""A list of people screened: each row is kept, or removed for one reason. Pure; no store, no clock.

The reason is where the last candidate of a row fell in the funnel of a decision, in a marketer's words. One person gets
one row: whoever stands in a list twice, be it under two ids, would be contacted twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, get_args

import msgspec

from features.identity import Person
from models.actions import Rule
from models.batch_population import CountedContacts, Observed, Scene, batch_inputs, furthest
from models.deliberation import UNKNOWN_STALL, Rulebook, considered_in, standing_of
from models.experiment import arm_of
from models.funnel import Considered
from models.scoring import StallScore

FileFormat = Literal["csv", "parquet"]

Reason = Literal[
    "duplicate_row",
    "unknown_customer",
    "holdout",
    "not_offered",
    "not_in_journey",
    "existing_customer",
    "product_mismatch",
    "not_now",
    "no_consent",
    "suppressed",
    "over_contacted",
    "not_reachable",
    "quiet_hours",
    "no_capacity",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
"""In the order in which they are looked for: a row is removed for the first that there is."""

MEANINGS: Final[Mapping[Reason, str]] = {
    "duplicate_row": "the person stands in an earlier row, under the same id or another one of theirs",
    "unknown_customer": "nothing was ever told of this id, so nothing says that the person may be contacted",
    "holdout": "the person is in the control group that is never contacted",
    "not_offered": "the catalogue has nothing now for what the row asks for",
    "not_in_journey": "the journey is not open for the person, and a rule of eligibility asks for that",
    "existing_customer": "a rule on products held does not hold: the person has the product, or lacks what it needs",
    "product_mismatch": "another rule of eligibility or of suitability does not hold",
    "not_now": "it does not fit where the person stands: another stage, not stalled, or a rule of applicability",
    "no_consent": "the person has not consented to the channel, has withdrawn it, or objects to marketing",
    "suppressed": "what came back for earlier contacts holds this one back",
    "over_contacted": "a contact cap has no room for one more contact",
    "not_reachable": "nobody is reached out to over the channel",
    "quiet_hours": "it is quiet on the channel now, on the person's own clock",
    "no_capacity": "a capacity or a budget is used up",
}

_JOURNEY_FIELDS: Final = ("journey_status", "feature:journey_status")
_CONSENT: Final = ("contact.objection", "contact.consent.")
_NOT_OUTBOUND: Final = "contact.channel_not_outbound"
_QUIET: Final = "contact.quiet_hours"


class ScreenRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a list.

    Attributes:
        action_id: what they are to get; None for anything.
        channel: over which; None for any.
    """

    customer_id: str
    action_id: str | None = None
    channel: str | None = None


class ScreenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list as it was sent, once it was found to be valid."""

    journey_id: str
    rows: tuple[ScreenRow, ...]
    format: FileFormat = "csv"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row.

    Attributes:
        row: its place in the list, from 0.
        reason: why it was removed; None of one that is kept.
        rule_ids: the rules that stood in the way of what came furthest.
        treatment_ids: of a row that is kept, what the person may get.
    """

    row: int
    customer_id: str
    action_id: str | None
    channel: str | None
    kept: bool
    reason: Reason | None = None
    rule_ids: tuple[str, ...] = ()
    treatment_ids: tuple[str, ...] = ()


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
    return _removed(number, row, reason_of(last, rulebook), last.rule_ids)


def _removed(number: int, row: ScreenRow, reason: Reason, rule_ids: tuple[str, ...] = ()) -> Verdict:
    return Verdict(
        row=number,
        customer_id=row.customer_id,
        action_id=row.action_id,
        channel=row.channel,
        kept=False,
        reason=reason,
        rule_ids=rule_ids,
    )


def reason_of(dropped: Considered, rulebook: Rulebook) -> Reason:
    """A marketer's word for what dropped a candidate: of several failing rules the first in the order of ``REASONS``.

    Raises:
        ValueError: nothing dropped it before it was scored.
    """
    if dropped.dropped is None or dropped.dropped == "scoring":
        raise ValueError(f"{dropped.treatment.id} was not dropped by the funnel")
    if dropped.dropped == "catalogue":
        return "not_offered"
    if dropped.dropped == "capacity":
        return "no_capacity"
    if dropped.dropped == "contact_policy":
        found = {_contact_reason(rule_id, rulebook) for rule_id in dropped.rule_ids}
    else:
        rules = {rule.id: rule for rule in (*rulebook.policy.rules, *dropped.action.rules)}
        found = {_rule_reason(dropped.dropped, rules.get(rule_id)) for rule_id in dropped.rule_ids}
    return min(found, key=REASONS.index)


def _rule_reason(stage: str, rule: Rule | None) -> Reason:
    """Of a rule by what it is about; None stands for what an action itself asks for."""
    fields = [] if rule is None else [condition.field for condition in rule.all_of]
    if stage == "eligibility" and any(one in _JOURNEY_FIELDS for one in fields):
        return "not_in_journey"
    if any(one.startswith("holding:") for one in fields):
        return "existing_customer"
    return "not_now" if stage == "applicability" else "product_mismatch"


def _contact_reason(rule_id: str, rulebook: Rulebook) -> Reason:
    if rule_id.startswith(_CONSENT):
        return "no_consent"
    if rule_id == _QUIET:
        return "quiet_hours"
    if rule_id == _NOT_OUTBOUND:
        return "not_reachable"
    suppressions = rulebook.policy.contact_policy.suppressions
    return "suppressed" if any(one.id == rule_id for one in suppressions) else "over_contacted"


def verdict_counts(verdicts: Iterable[Verdict]) -> tuple[int, dict[str, int]]:
    """How many rows are kept, and how many were removed for each reason that there is, in the order of ``REASONS``."""
    counts = Counter(one.reason for one in verdicts)
    return counts[None], {reason: counts[reason] for reason in REASONS if counts[reason]}
