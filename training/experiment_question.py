"""What an experiment report is asked for, out of words."""

from __future__ import annotations

from dataclasses import dataclass

from features.durations import EXPECTED, parse_duration
from features.errors import InvalidInput, Problem
from features.events import shown
from features.journey_question import question_of
from features.journeys import Journey, Outcome
from features.taxonomy import Taxonomy
from models.configuration import Configuration
from training.promote import named_journey


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedReport:
    """What is asked for.

    Attributes:
        experiment_id: the experiment.
        journey: as declared.
        primary: the outcome that matters most.
        follow_up: how long everybody is followed, microseconds.
        since: only people who came in from here on, microseconds since the epoch.
        until: and before; None for no bound.
        group_by: an attribute of the profile; None for none.
        planned: people at whom intervals for looking often are narrowest; that of the parameters if None.
        with_policies: whether other ways to decide are valued on the log, which makes each decision again.
    """

    experiment_id: str
    journey: Journey
    primary: Outcome
    follow_up: int
    since: int | None = None
    until: int | None = None
    group_by: str | None = None
    planned: int | None = None
    with_policies: bool = True


def asked_report(
    configuration: Configuration,
    experiment_id: str | None,
    *,
    journey_id: str | None = None,
    since: str | None = None,
    until: str | None = None,
    outcome_id: str | None = None,
    follow_up: str | None = None,
    group_by: str | None = None,
    planned: int | None = None,
    with_policies: bool = True,
) -> AskedReport:
    """The report that words ask for.

    Args:
        configuration: that holds for the home.
        experiment_id: the policy's if None.
        journey_id: may be left out where there is one.
        since: ISO 8601 with an offset.
        until: likewise.
        outcome_id: the first declared one if None.
        follow_up: a duration; the window of the outcome if None.
        group_by: an attribute.
        planned: people at whom intervals for looking often are narrowest.
        with_policies: whether other ways to decide are valued on the log.

    Raises:
        UnknownObject: there is no such journey.
        Refused: there are several journeys and none was named.
        InvalidInput: with every other bad word.
    """
    journey = named_journey(configuration, journey_id)
    period = question_of(configuration.taxonomy, since=since, until=until)
    problems: list[Problem] = []
    primary = _primary(journey, outcome_id, problems)
    allowed = group_attributes(configuration.taxonomy)
    if group_by is not None and group_by not in allowed:
        problems.append(Problem("group_by", shown(group_by), f"one of {', '.join(allowed)}"))
    lasts = primary.window if follow_up is None else _duration(follow_up, problems)
    if problems:
        raise InvalidInput("the report cannot be made as asked", problems)
    return AskedReport(
        experiment_id=configuration.policy.experiment.id if experiment_id is None else experiment_id,
        journey=journey,
        primary=primary,
        follow_up=lasts,
        since=period.since,
        until=period.until,
        group_by=group_by,
        planned=planned,
        with_policies=with_policies,
    )


def group_attributes(taxonomy: Taxonomy) -> tuple[str, ...]:
    """Attributes that can make groups: categories and booleans that are not personal."""
    return tuple(
        name for name, one in taxonomy.attributes.items() if one.dtype in ("category", "boolean") and not one.pii
    )


def _primary(journey: Journey, outcome_id: str | None, problems: list[Problem]) -> Outcome:
    known = journey.outcome_by_id
    if outcome_id is not None and outcome_id not in known:
        problems.append(Problem("outcome", shown(outcome_id), f"one of {', '.join(known)}"))
    return known.get(outcome_id or "", journey.outcomes[0])


def _duration(text: str, problems: list[Problem]) -> int:
    try:
        lasts = parse_duration(text)
    except ValueError:
        lasts = 0
    if lasts <= 0:
        problems.append(Problem("follow_up", shown(text), f"{EXPECTED}, above 0"))
    return lasts
