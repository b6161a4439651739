"""Who should handle a call or a case: somebody of the action's queue who can, by predicted result and room.

People are told by the caller and kept in the record store; nothing here knows a customer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from features.stable_hash import stable_unit
from models.actions import Action

SHRINKAGE: Final = 20.0
"""How many cases the mean of the queue counts for, beside a person's own: about as many as tell one person from it."""

NO_RESULTS: Final = 0.5
"""Success rate in a queue where nobody has handled anything: any number will do, since everybody gets the same."""


class Results(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the work of a person ended.

    Attributes:
        handled: pieces of work that are done.
        succeeded: those of them that ended well.
    """

    handled: int
    succeeded: int


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who works queues.

    Attributes:
        person_id: an id, not a name.
        queues: that they work; nobody works an action of another.
        skills: what they can do.
        available: they take new work now.
        most_open: pieces of work that they may have open at once.
        results: by action id or by queue; those of the very action go first.
    """

    person_id: str
    queues: tuple[str, ...]
    skills: tuple[str, ...] = ()
    available: bool = True
    most_open: int = 1
    results: dict[str, Results] = {}


@dataclass(frozen=True, slots=True)
class ToldPerson:
    """A person as told, and how much work they have open; None where that was not told."""

    person: Person
    open_work: int | None = None


@dataclass(frozen=True, slots=True)
class OpenPerson:
    """A person and how much work they have open, that of decisions not yet told of included."""

    person: Person
    open_work: int


def assignees(
    actions: Iterable[Action],
    workforce: Sequence[OpenPerson],
    *,
    decision_id: str,
    taken: Collection[tuple[str, str]] = (),
) -> dict[str, str | None]:
    """Who would handle each action; None where nobody can.

    An action without a queue, or whose queue nobody was told of, is left out: it stays unassigned.

    Args:
        actions: of the catalogue.
        workforce: everybody.
        decision_id: settles ties, so that equals get equal shares.
        taken: action and person whose room was taken meanwhile.
    """
    chosen: dict[str, str | None] = {}
    for action in actions:
        queue = [one for one in workforce if action.assigned_to in one.person.queues]
        if queue:
            able = [one for one in queue if is_able(one, action) and (action.id, one.person.person_id) not in taken]
            chosen[action.id] = _best(able, queue, action, decision_id)
    return chosen


def is_able(one: OpenPerson, action: Action) -> bool:
    """Whether somebody is available, has every skill that an action needs, and has room for one more."""
    person = one.person
    return (
        person.available and one.open_work < person.most_open and all(skill in person.skills for skill in action.skills)
    )


def _best(able: Sequence[OpenPerson], queue: Sequence[OpenPerson], action: Action, decision_id: str) -> str | None:
    if not able:
        return None
    mean = queue_mean(queue, action)
    suitabilities = [suitability(one, action, mean) for one in able]
    top = max(suitabilities)
    best = [one.person.person_id for one, each in zip(able, suitabilities, strict=True) if each == top]
    return best[0] if len(best) == 1 else max(best, key=lambda each: stable_unit("assignee", decision_id, each))


def queue_mean(queue: Iterable[OpenPerson], action: Action) -> float:
    """Success rate of a queue over all its people, available or not."""
    results = [_results(one.person, action) for one in queue]
    handled = sum(one.handled for one in results)
    return sum(one.succeeded for one in results) / handled if handled else NO_RESULTS


def suitability(one: OpenPerson, action: Action, mean: float) -> float:
    """Predicted result times the free share of a person's room: ``(s + k m) / (n + k) * (1 - open / most_open)``.

    ``s`` of ``n`` pieces of work ended well, ``m`` is the mean of the queue and ``k`` is ``SHRINKAGE``. The best get
    work first, until they are so much fuller than the others that it evens out.
    """
    results = _results(one.person, action)
    rate = (results.succeeded + SHRINKAGE * mean) / (results.handled + SHRINKAGE)
    return rate * (1 - one.open_work / one.person.most_open)


_NOTHING: Final = Results(handled=0, succeeded=0)


def _results(person: Person, action: Action) -> Results:
    return person.results.get(action.id) or person.results.get(action.assigned_to or "") or _NOTHING
