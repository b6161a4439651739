"""From a request to the question that the core decides, its names checked against the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from features.errors import InvalidInput, Problem, path_step
from features.events import dump_timestamp, fact_problem, shown
from models.actions import channel_of_placement
from models.asked import stated_context
from models.deliberation import Rulebook
from serving.schemas import CandidateFilter, DecisionRequest

_ALL: Final = CandidateFilter()


def rulebook_for(request: DecisionRequest, rulebooks: Mapping[str, Rulebook], *, now: int) -> Rulebook:
    """The rulebook of the request's journey, after every name in the request was found in it.

    Raises:
        InvalidInput: with every name that the configuration does not know, every declared fact of the moment that is
            something else than declared, and an ``as_of`` that is not allowed.
    """
    journey_id = request.journey_id
    if journey_id is None and len(rulebooks) == 1:
        journey_id = next(iter(rulebooks))
    rulebook = rulebooks.get(journey_id or "")
    problems = []
    if rulebook is None:
        problems.append(_problem("journey_id", request.journey_id, f"a declared journey: {', '.join(rulebooks)}"))
    # The rulebooks are of one configuration: any of them knows all other names.
    known = rulebook or next(iter(rulebooks.values()))
    problems += [*_unknown_names(request, known), *_bad_context(request, known), *_bad_moment(request, now)]
    if rulebook is None or problems:
        raise InvalidInput("the request cannot be decided", problems)
    return rulebook


def _unknown_names(request: DecisionRequest, rulebook: Rulebook) -> list[Problem]:
    if request.channel is None and not request.placements and request.candidates == _ALL:
        return []  # most requests name nothing, and the names of a catalogue are many
    named = "of the configuration"
    channels = tuple(rulebook.taxonomy.channels)
    actions = tuple(rulebook.catalogue.by_id)
    issues = tuple(dict.fromkeys(action.issue for action in rulebook.catalogue.actions))
    problems = []
    if request.channel is not None:
        problems.extend(_unknown_channel(request.channel, channels, f"a channel {named}"))
    problems.extend(_unknown_placements(request.placements, channels))
    if not problems and request.channel is not None and request.placements:
        over = tuple(dict.fromkeys(map(channel_of_placement, request.placements)))
        problems.extend(_unknown_channel(request.channel, over, "a channel of the placements"))
    problems.extend(_unknown("candidates.include", request.candidates.include, actions, f"an action {named}"))
    problems.extend(_unknown("candidates.exclude", request.candidates.exclude, actions, f"an action {named}"))
    problems.extend(_unknown("candidates.issues", request.candidates.issues, issues, f"an issue {named}"))
    return problems


def _unknown(path: str, names: Iterable[str], known: tuple[str, ...], what: str) -> list[Problem]:
    expected = f"{what}: {', '.join(known)}"
    return [_problem(f"{path}[{i}]", name, expected) for i, name in enumerate(names) if name not in known]


def _unknown_channel(channel: str, known: tuple[str, ...], what: str) -> list[Problem]:
    return [] if channel in known else [_problem("channel", channel, f"{what}: {', '.join(known)}")]


def _unknown_placements(placements: Iterable[str], channels: tuple[str, ...]) -> list[Problem]:
    return [
        _problem(f"placements[{i}]", placement, f"channel/name with a channel of the taxonomy: {', '.join(channels)}")
        for i, placement in enumerate(placements)
        if channel_of_placement(placement) not in channels
    ]


def _bad_context(request: DecisionRequest, rulebook: Rulebook) -> list[Problem]:
    """Declared facts that are something else; to the models they would look unknown, and nobody would hear of it."""
    declared = rulebook.taxonomy.context
    return [
        _problem(f"context.{path_step(name)}", value, expected)
        for name, value in stated_context(request).items()
        if name in declared and (expected := fact_problem(name, value, declared[name])) is not None
    ]


def _bad_moment(request: DecisionRequest, now: int) -> list[Problem]:
    if request.as_of_at is None:
        return []
    if request.mode != "dry_run":
        return [_problem("as_of", request.as_of, "no as_of, or mode dry_run")]
    if request.as_of_at > now:
        return [_problem("as_of", request.as_of, f"a moment not after {dump_timestamp(now)}")]
    return []


def _problem(path: str, value: object, expected: str) -> Problem:
    return Problem(path, "" if value is None else shown(value), expected)
