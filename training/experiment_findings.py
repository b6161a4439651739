"""What an experiment report says: a document of a format that does not change its meaning.

Every number that is not known is null. Money is in ``currency``; shares and their differences are between 0 and 1.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

REPORT_FORMAT: Final = 1


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number with the interval for one look, and the one that holds however often one looks."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    always_low: float | None = None
    always_high: float | None = None

    @property
    def is_certain(self) -> bool:
        """Whether the interval for many looks leaves 0 out."""
        low, high = self.always_low, self.always_high
        return low is not None and high is not None and (low > 0 or high < 0)


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared.

    Attributes:
        id: ``outcome:<id>`` within the follow-up, ``declared:<id>`` within the outcome's own window; ``offered``,
            ``contacts``, ``exposed``, ``answered``; ``value``, ``gain``, ``spend``; ``nps``, ``nps_answered``.
        title: for people.
        unit: ``share``, ``money``, ``number`` or ``score``.
    """

    id: str
    title: str
    unit: Literal["share", "money", "number", "score"]


class ArmCount(msgspec.Struct, frozen=True, kw_only=True):
    """People of an arm beside those expected."""

    arm: str
    people: int
    expected: float


class UnevenGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group in which the shares are not met, whatever the cause."""

    dimension: str
    group: str
    arms: tuple[ArmCount, ...]
    p_value: float


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the people are spread over the arms as the shares say.

    Attributes:
        status: ``matches``; ``mismatch``, which looking often does not explain; ``suspected`` where only this look says
            so; ``unknown`` where nobody, or only one arm, is there.
        p_value: of this look.
        always_valid_p: holds however often one looked.
        first_alarm_at: when it was first below ``alpha``.
        decisions_p_value: whether decisions, too, are spread like that: low where records are lost, or where an arm
            changes how often a decision is asked for.
        where: groups that are uneven; looked for only where something is wrong.
    """

    status: Literal["matches", "suspected", "mismatch", "unknown"]
    alpha: float
    p_value: float | None
    always_valid_p: float | None
    first_alarm_at: str | None
    decisions_p_value: float | None
    arms: tuple[ArmCount, ...]
    where: tuple[UnevenGroup, ...] = ()


class Caveat(msgspec.Struct, frozen=True, kw_only=True):
    """Something that weakens what follows; the code never changes its meaning."""

    code: str
    text: str


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part.

    Attributes:
        people: whose first decision was made in the time that is asked for.
        settled: whose follow-up is over; only they count.
        not_yet: the others.
        decisions: live decisions on all of them.
        excluded: decisions of the journey that do not count, by reason.
        in_two_arms: people who were met in more than one arm, by cause; each counts by the first.
        first_at: first decision of the first person.
        last_at: and of the last.
        people_per_day: who came in lately.
    """

    people: int
    settled: int
    not_yet: int
    decisions: int
    excluded: dict[str, int]
    in_two_arms: dict[str, int]
    first_at: str | None
    last_at: str | None
    people_per_day: float | None


class ArmFindings(msgspec.Struct, frozen=True, kw_only=True):
    """One arm, as if everybody were in it.

    Attributes:
        decisions_per_person: in the follow-up.
        measures: by id.
    """

    arm: str
    people: int
    settled: int
    decisions_per_person: float | None
    measures: dict[str, Estimate]


class SampleSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many people it takes to find an effect on the primary outcome.

    Attributes:
        effect: difference that is to be found.
        power: probability of finding it.
        people: everybody in the experiment, where one looks once, at the end.
        people_if_looking: where one may look at any time.
        days: until so many are settled, at the rate at which people came in lately; 0 where they are.
        days_if_looking: likewise.
        smallest_now: difference that those so far would find with that power.
    """

    effect: float
    power: float
    people: int
    people_if_looking: int
    days: float | None
    days_if_looking: float | None
    smallest_now: float


class GroupDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One arm against another in one group of people."""

    dimension: str
    group: str
    people: int
    people_against: int
    measures: dict[str, Estimate]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The difference in the primary outcome as it stood once.

    Attributes:
        at: when the last of them had come in.
        people: everybody who had, of those whose follow-up is over now.
    """

    at: str
    people: int
    difference: Estimate


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One arm against another: what it changes for a customer.

    Attributes:
        people: of the arm whose follow-up is over.
        people_against: of the other.
        left_out: people who could not have been in both.
        measures: by id, differences.
        value_per_decision: money, more value for each decision in the arm.
        roi: more value for each unit of money more spent; unknown where no more was spent.
        sample_size: of the primary outcome; None where nothing is known of it.
        groups: by stage, and by the attribute that was asked for.
        looks: how the difference in the primary outcome came about as customers came in; the last is the one now.
    """

    arm: str
    against: str
    people: int
    people_against: int
    left_out: int
    measures: dict[str, Estimate]
    value_per_decision: Estimate
    roi: Estimate
    sample_size: SampleSizes | None
    groups: tuple[GroupDifference, ...] = ()
    looks: tuple[Look, ...] = ()


class PolicyComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison that is known from the field.

    Attributes:
        id: ``policy_random``, ``policy_response_ranking``, ``policy_without_levers``, ``policy_rules_only``,
            ``model_random``.
        title: for people.
        how: ``arms`` where both were drawn, ``off_policy`` where one of them was valued on the log of others.
        per: whose value it is, ``customer`` or ``decision``.
        value: money; unknown where it was refused.
        decisions: of the log that were used; None where people of arms were.
        refused: why nothing is said; empty where something is.
    """

    id: str
    title: str
    how: Literal["arms", "off_policy"]
    per: Literal["customer", "decision"]
    value: Estimate
    decisions: int | None = None
    refused: tuple[str, ...] = ()


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report.

    Attributes:
        observed_until: the newest moment that the log knows of.
        follow_up_days: how long everybody is followed from the first decision on.
        counted: outcomes whose values add up.
        level: of the intervals.
        planned_people: at whom those for many looks are narrowest.
        headlines: what was found, in sentences.
        unknown: what is not known yet, likewise.
    """

    format: int
    experiment_id: str
    journey_id: str
    currency: str
    configuration: str
    since: str | None
    until: str | None
    group_by: str | None
    observed_until: str | None
    primary_outcome: str
    follow_up_days: float
    counted: tuple[str, ...]
    level: float
    planned_people: int
    sample_ratio: SampleRatio
    warnings: tuple[Caveat, ...]
    headlines: tuple[str, ...]
    unknown: tuple[str, ...]
    sample: Sample
    measures: tuple[Measure, ...]
    arms: tuple[ArmFindings, ...]
    comparisons: tuple[Comparison, ...]
    policies: tuple[PolicyComparison, ...]


def document_of(report: ExperimentReport) -> dict[str, Any]:
    """The report as JSON values."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(report))
    return document
