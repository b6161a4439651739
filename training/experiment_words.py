"""An experiment report in sentences for people who run a business, not statistics: what was found, and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from training.experiment_findings import (
    ArmCount,
    Caveat,
    Comparison,
    Estimate,
    ExperimentReport,
    Measure,
    SampleSizes,
)

HOLDOUT: Final = "no_contact_holdout"
WHO: Final = {
    "champion": "customers whom Headway may contact",
    "challenger": "customers whom the challenger may contact",
    "random_eligible": "customers who get a random action",
    HOLDOUT: "customers whom nobody contacts",
}
SHORT: Final = {
    "champion": "Headway",
    "challenger": "the challenger",
    "random_eligible": "a random action",
    HOLDOUT: "no contact",
}
MANY_IN_TWO_ARMS: Final = 0.01


def caveats(report: ExperimentReport, *, challenger_missing: int = 0) -> tuple[Caveat, ...]:
    """What weakens the figures, the worst first."""
    found = [*_ratio_caveats(report)]
    sample = report.sample
    arms = {one.arm: one for one in report.arms}
    holdout = arms.get(HOLDOUT)
    exposed = None if holdout is None else holdout.measures["exposed"].estimate
    if exposed:
        found.append(
            Caveat(
                code="holdout_contacted",
                text=f"{share(exposed)} of the customers whom nobody should contact were shown or sent something: what "
                f"contacts change is understated. Find who does not ask Headway.",
            )
        )
    if sample.excluded.get("broken_probabilities"):
        found.append(
            Caveat(
                code="broken_probabilities",
                text=f"{sample.excluded['broken_probabilities']:,} decisions do not say how likely their arm was, or "
                f"call it impossible; they are left out.",
            )
        )
    moved = sum(sample.in_two_arms.values())
    if moved > MANY_IN_TWO_ARMS * sample.people:
        found.append(
            Caveat(
                code="in_two_arms",
                text=f"{moved:,} customers were met in more than one arm. Each counts by the first, so differences are "
                f"understated.",
            )
        )
    found += [
        Caveat(
            code="nps_answers_differ",
            text=f"{sentence(WHO[one.arm])} give a score more or less often than {WHO[one.against]}: those who "
            f"do are no longer alike, so their scores do not tell what contacts change.",
        )
        for one in report.comparisons
        if one.measures["nps_answered"].is_certain
    ]
    if challenger_missing:
        found.append(
            Caveat(
                code="challenger_missing",
                text=f"{challenger_missing:,} decisions of the challenger's arm were made by the champion: there was "
                f"no challenger.",
            )
        )
    return tuple(found)


def _ratio_caveats(report: ExperimentReport) -> Sequence[Caveat]:
    ratio = report.sample_ratio
    if ratio.status == "mismatch":
        return [
            Caveat(
                code="sample_ratio_mismatch",
                text=f"SAMPLE RATIO MISMATCH: the customers are not spread over the arms as the shares say "
                f"({arm_counts(ratio.arms)}). Records of some arm are missing, or some arm is asked for less often. "
                f"Do not trust the figures below before the cause is found.",
            )
        ]
    if ratio.status == "suspected":
        return [
            Caveat(
                code="sample_ratio_suspected",
                text=f"SAMPLE RATIO SUSPECTED: seen at this one look, the customers are not spread over the arms as "
                f"the shares say ({arm_counts(ratio.arms)}); by looking often that comes about by chance. Look "
                f"for lost records, and again when there are more.",
            )
        ]
    if ratio.decisions_p_value is not None and ratio.decisions_p_value < ratio.alpha:
        return [
            Caveat(
                code="decisions_uneven",
                text="Customers are spread as the shares say, their decisions are not: records of decisions are "
                "missing, or an arm changes how often a decision is asked for. Figures per customer hold in the "
                "second case only.",
            )
        ]
    return []


def headlines(report: ExperimentReport) -> tuple[str, ...]:
    """What was found, the check of the sample first."""
    ratio, sample = report.sample_ratio, report.sample
    said = [one.text for one in report.warnings if one.code.startswith("sample_ratio")]
    if ratio.status == "matches":
        said.append(
            f"The sample is sound: {sample.people:,} customers are spread over the arms as the shares say "
            f"({arm_counts(ratio.arms)})."
        )
    against = [one for one in report.comparisons if one.against == HOLDOUT and one.arm != "random_eligible"]
    for one in against:
        said += _against_nobody(report, one)
    versus_random = [one for one in report.comparisons if one.against == "random_eligible" and one.arm == "champion"]
    for one in versus_random:
        value = one.measures["value"]
        if value.estimate is not None:
            said.append(
                f"Choosing by Headway rather than at random brings {money(report, value)} for each customer"
                f"{_certainty(value)}"
            )
    return tuple(said)


def _against_nobody(report: ExperimentReport, one: Comparison) -> list[str]:
    primary = report.measures[0]
    found = one.measures[primary.id]
    if found.estimate is None:
        return []
    arms = {arm.arm: arm.measures[primary.id] for arm in report.arms}
    days = f"{report.follow_up_days:g} days"
    levels = " against ".join(shown(primary, arms[name].estimate, report.currency) for name in (one.arm, one.against))
    said = [
        f"{primary.title}: {difference_in_words(primary, found, report.currency)} among {WHO[one.arm]} than among "
        f"{WHO[one.against]} ({levels}){_certainty(found)}"
    ]
    value = one.measures["value"]
    if value.estimate is not None:
        said.append(
            f"That is {money(report, value)} for each customer in the {days} after the first decision, all costs taken "
            f"off{_certainty(value)}"
        )
    if one.roi.estimate is not None and one.roi.low is not None:
        said.append(
            f"Each {report.currency} spent brought {report.currency} {one.roi.estimate:.2f} more than it cost "
            f"{bounds(one.roi.always_low, one.roi.always_high, '.2f')}{_certainty(one.roi)}"
        )
    return said


def not_known(report: ExperimentReport, smallest_arm: int) -> tuple[str, ...]:
    """What cannot be said yet, and when it can."""
    sample, said = report.sample, []
    if not sample.people:
        return (
            f"No live decision of {report.experiment_id} on {report.journey_id} has been recorded: nothing to say.",
        )
    if sample.not_yet:
        said.append(
            f"{sample.not_yet:,} of {sample.people:,} customers came in less than {report.follow_up_days:g} days ago. "
            f"They do not count yet."
        )
    few = [f"{one.arm} ({one.settled:,})" for one in report.arms if one.settled < smallest_arm]
    if few:
        said.append(f"Nothing is said of arms with fewer than {smallest_arm} customers: {', '.join(few)}.")
    if not any(one.arm == HOLDOUT for one in report.arms):
        said.append("Nobody is kept without contact, so what Headway changes over doing nothing is not known.")
    primary = report.measures[0]
    for one in report.comparisons:
        found = one.measures[primary.id]
        if found.estimate is not None and not found.is_certain and one.sample_size is not None:
            said.append(
                f"{sentence(WHO[one.arm])} against {WHO[one.against]}: whether there is any difference in "
                f'"{primary.title}" is open. {size_in_words(one.sample_size, primary, report.currency)}'
            )
    for refused in report.policies:
        said += [f"{refused.title}: {reason}." for reason in refused.refused[:1]]
    return tuple(said)


def came_to_pass(report: ExperimentReport, one: Comparison) -> tuple[list[Measure], list[Measure]]:
    """Measures of which something is known, and those among them of which nothing came in either arm."""
    arms = {arm.arm: arm.measures for arm in report.arms}
    known = [measure for measure in report.measures if one.measures[measure.id].estimate is not None]
    empty = [
        measure for measure in known if all(arms[name][measure.id].estimate == 0 for name in (one.arm, one.against))
    ]
    return [measure for measure in known if measure not in empty], empty


def size_in_words(size: SampleSizes, measure: Measure, currency: str) -> str:
    """When an effect would be found."""
    effect = shown(measure, size.effect, currency, signed=False, is_difference=True)
    when = "" if size.days_if_looking is None else " (now)" if size.days_if_looking == 0 else f" ({_days(size)})"
    return (
        f"To find a difference of {effect} with {size.power:.0%} it takes {size.people:,} customers, or "
        f"{size.people_if_looking:,} where one looks at any time{when}."
    )


def _days(size: SampleSizes) -> str:
    once, looking = size.days or 0.0, size.days_if_looking or 0.0
    return f"about {once:,.0f} and {looking:,.0f} days at the present rate"


def arm_counts(arms: Sequence[ArmCount]) -> str:
    """How many are in each arm, and should be."""
    return ", ".join(f"{SHORT[one.arm]} {one.people:,} where {one.expected:,.0f} are expected" for one in arms)


def difference_in_words(measure: Measure, found: Estimate, currency: str) -> str:
    """So much more or less, with the interval for many looks."""
    estimate = found.estimate or 0.0
    more = "more" if estimate >= 0 else "less"
    if measure.unit == "share":
        return (
            f"{abs(100 * estimate):.1f} points {more} often "
            f"{bounds(_times(found.always_low, 100), _times(found.always_high, 100), '+.1f')}"
        )
    return f"{shown(measure, estimate, currency)} {bounds(found.always_low, found.always_high, '+.2f')}"


def _times(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


def money(report: ExperimentReport, found: Estimate) -> str:
    """Money with the interval for many looks."""
    return f"{report.currency} {found.estimate:+.2f} {bounds(found.always_low, found.always_high, '+.2f')}"


def bounds(low: float | None, high: float | None, form: str) -> str:
    """An interval; nothing of one that is unknown."""
    return "[unknown]" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def shown(
    measure: Measure, value: float | None, currency: str, *, signed: bool = False, is_difference: bool = False
) -> str:
    """A value in its unit."""
    if value is None:
        return "unknown"
    sign = "+" if signed else ""
    if measure.unit == "share":
        return f"{100 * value:{sign}.1f} points" if is_difference else f"{100 * value:{sign}.1f} %"
    if measure.unit == "money":
        return f"{currency} {value:{sign}.2f}"
    return f"{value:{sign}.1f}" if measure.unit == "score" else f"{value:{sign}.2f}"


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f} %"


def _certainty(found: Estimate) -> str:
    if found.always_low is None:
        return "."
    return ": sure, however often one looks." if found.is_certain else ": not sure yet."


def sentence(text: str) -> str:
    """With a capital letter, as a sentence begins."""
    return text[:1].upper() + text[1:]
