"""People who work queues: told by the caller, kept in the record store, read back with the work they have open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from features.errors import InvalidInput, Problem, path_step
from features.events import shown
from models.actions import Catalogue
from models.records import RecordStore
from models.workforce import OpenPerson, Person, Results, ToldPerson
from serving.requests import Fields, parse_batch
from serving.schemas import MAX_NAMES, Names, Text

MAX_PERSONS: Final = 1_000
MAX_OPEN: Final = 10_000
MAX_HANDLED: Final = 1_000_000_000

Count = Annotated[int, Meta(ge=0, le=MAX_HANDLED)]


class ResultsDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the work of a person ended.

    Attributes:
        handled: pieces of work that are done.
        succeeded: those of them that ended well.
    """

    handled: Count
    succeeded: Count


class PersonDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who works queues. What is left out has its default, whatever was told before.

    Attributes:
        person_id: an id, not a name.
        queues: that they work; where there are none, they get nothing.
        skills: what they can do; an action may ask for some.
        available: whether they take new work now.
        most_open: pieces of work that they may have open at once.
        open_work: how many they have open now, everything that decisions gave them included; where it is left out,
            what was told before stays, and so does what decisions have added since.
        results: by action id or by queue; those of the very action go first.
    """

    person_id: Text
    queues: Names
    skills: Names = ()
    available: bool = True
    most_open: Annotated[int, Meta(ge=0, le=MAX_OPEN)] = 1
    open_work: Annotated[int, Meta(ge=0, le=MAX_OPEN)] | None = None
    results: dict[str, ResultsDocument] = msgspec.field(default_factory=dict)


class WorkforceBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """People to remember, all of them or none; each takes the place of what was known under the same id."""

    persons: Annotated[tuple[PersonDocument, ...], Meta(min_length=1, max_length=MAX_PERSONS)]


class WorkforcePerson(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who works queues, as the next decision sees them.

    Attributes:
        open_work: as told, and what decisions have given them since and still hold.
    """

    person_id: str
    queues: tuple[str, ...]
    skills: tuple[str, ...]
    available: bool
    most_open: int
    open_work: int
    results: dict[str, Results]


class WorkforceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """People, by id."""

    persons: tuple[WorkforcePerson, ...]


class WorkforceDesk:
    """Remembers people and tells of them.

    Args:
        records: keeps them.
        catalogue: the one in force; people work its queues.
    """

    def __init__(self, *, records: RecordStore, catalogue: Callable[[], Catalogue]) -> None:
        self._records = records
        self._catalogue = catalogue

    def put(self, document: object, *, now: int) -> WorkforceAnswer:
        """Remember the people of a decoded batch; those of it as the next decision sees them.

        Raises:
            InvalidInput: with every bad field; nobody was remembered.
            StoreUnavailable: the record store does not answer.
        """
        told = _told_persons(document, self._catalogue())
        self._records.put_persons(told)
        put = {one.person.person_id for one in told}
        return _answer([one for one in self._records.workforce(now=now) if one.person.person_id in put])

    def read(self, queue: str | None, *, now: int) -> WorkforceAnswer:
        """Everybody, or those of a queue.

        Raises:
            InvalidInput: no action is assigned to the queue.
            StoreUnavailable: the record store does not answer.
        """
        queues = self._catalogue().queues
        if queue is not None and queue not in queues:
            problem = Problem("?queue", shown(queue), _expected("a queue of the configuration", queues))
            raise InvalidInput("the query is not one that this call takes", [problem])
        everybody = self._records.workforce(now=now)
        return _answer([one for one in everybody if queue is None or queue in one.person.queues])


def _answer(people: Sequence[OpenPerson]) -> WorkforceAnswer:
    return WorkforceAnswer(
        persons=tuple(WorkforcePerson(**msgspec.structs.asdict(one.person), open_work=one.open_work) for one in people)
    )


def _told_persons(document: object, catalogue: Catalogue) -> list[ToldPerson]:
    problems: list[Problem] = []
    told = []
    for index, item in enumerate(parse_batch(document, key="persons", limit=MAX_PERSONS)):
        path = f"persons[{index}]"
        if isinstance(item, dict):
            told.append(_told_person(Fields(item, f"{path}.", problems), catalogue))
        else:
            problems.append(Problem(path, shown(item), "a JSON object"))
    for person_id, times in Counter(one.person.person_id for one in told).items():
        if person_id and times > 1:
            problems.append(Problem("persons", shown(person_id), f"each person once, this one stands {times} times"))
    if problems:
        raise InvalidInput("the people are not valid", problems)
    return told


def _told_person(fields: Fields, catalogue: Catalogue) -> ToldPerson:
    fields.refuse_unknown(PersonDocument.__struct_fields__)
    if fields.value("queues") is None:
        fields.add("queues", None, "a list of queues: the field is required")
    queues = fields.texts("queues", MAX_NAMES)
    for position, queue in enumerate(queues):
        if queue not in catalogue.queues:
            expected = _expected("a queue of the configuration", catalogue.queues)
            fields.add(f"queues[{position}]", queue, expected)
    most_open = fields.integer("most_open", 0, MAX_OPEN, 1)
    person = Person(
        person_id=fields.required_text("person_id"),
        queues=queues,
        skills=fields.texts("skills", MAX_NAMES),
        available=fields.flag("available", True),
        most_open=1 if most_open is None else most_open,
        results=_results(fields, (*catalogue.queues, *catalogue.by_id)),
    )
    return ToldPerson(person, fields.integer("open_work", 0, MAX_OPEN, None))


def _results(fields: Fields, known: Sequence[str]) -> dict[str, Results]:
    given: Any = fields.value("results")
    if given is None:
        return {}
    if not isinstance(given, dict):
        fields.add("results", given, "an object by action or queue")
        return {}
    found = {}
    for name, counts in given.items():
        if name not in known:
            fields.add(f"results.{path_step(name)}", counts, _expected("results of a queue or an action", known))
        elif not isinstance(counts, dict):
            fields.add(f"results.{name}", counts, "an object with handled and succeeded")
        else:
            found[name] = _result(fields.inside(f"results.{name}.", counts))
    return found


def _result(fields: Fields) -> Results:
    fields.refuse_unknown(ResultsDocument.__struct_fields__)
    handled = _count(fields, "handled", MAX_HANDLED)
    succeeded = _count(fields, "succeeded", MAX_HANDLED)
    if succeeded > handled:
        fields.add("succeeded", succeeded, f"at most handled, which is {handled}")
    return Results(handled=handled, succeeded=succeeded)


def _count(fields: Fields, name: str, most: int) -> int:
    if fields.value(name) is None:
        fields.add(name, None, "a count: the field is required")
    return fields.integer(name, 0, most, None) or 0


def _expected(what: str, known: Sequence[str]) -> str:
    return f"{what}: {', '.join(known) or 'there are none'}"
