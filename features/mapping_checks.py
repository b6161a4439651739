"""What a mapping says of taxonomy, journeys and catalogue: every name must lead somewhere, before any row is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from features.errors import Problem
from features.events import HOLDING_PREFIX, allowed_facts
from features.journeys import Journeys
from features.mapping import EventOutput, Mapping, Table, Value
from features.mapping_values import plain
from features.past_decisions import NO_ACTION
from features.taxonomy import Taxonomy
from features.yaml_files import YamlDocument, one_of

Place = tuple[str | int, ...]

_GROUPED_BY_THEMSELVES: Final = ("xes", "ocel")


def mapping_problems(
    mapping: Mapping,
    document: YamlDocument,
    *,
    taxonomy: Taxonomy,
    journeys: Journeys,
    treatments: AbstractSet[str],
) -> list[Problem]:
    """Every name in a mapping that the configuration does not declare, and every group where there are none.

    Args:
        mapping: the mapping.
        document: the file it was read from, for lines.
        taxonomy: declares kinds, channels, facts and attributes.
        journeys: declares journeys and outcomes.
        treatments: the catalogue's treatment ids.
    """
    checks = _Checks(document, taxonomy, journeys, sorted(treatments | {NO_ACTION}))
    return [
        problem for index, table in enumerate(mapping.tables) for problem in checks.of_table(("tables", index), table)
    ]


def possible_texts(value: Value) -> list[tuple[Place, str]] | None:
    """Every text that a value can give, with where it stands; None where a file's own text may pass through."""
    texts: list[tuple[Place, str]] = []
    if value.lookup is not None:
        texts += [(("lookup", key), plain(meaning)) for key, meaning in value.lookup.items()]
    elif value.constant is not None:
        texts.append(((), plain(value.constant)))
    elif value.followed_by is not None:
        spec = value.followed_by
        texts += [(("followed_by", name), plain(getattr(spec, name))) for name in ("then", "otherwise")]
    else:
        return None
    if value.otherwise is not None:
        texts.append((("otherwise",), plain(value.otherwise)))
    return [(place, text) for place, text in texts if text]


class _Checks:
    def __init__(self, document: YamlDocument, taxonomy: Taxonomy, journeys: Journeys, treatments: list[str]) -> None:
        self._document = document
        self._taxonomy = taxonomy
        self._journeys = journeys
        self._treatments = treatments
        self._outcomes = [outcome.id for journey in journeys.journeys for outcome in journey.outcomes]

    def of_table(self, here: Place, table: Table) -> Iterator[Problem]:
        for index, event in enumerate(table.events):
            yield from self._event((*here, "events", index), event)
        for index, attributes in enumerate(table.attributes):
            for name in attributes.values:
                if name not in self._taxonomy.attributes and not name.startswith(HOLDING_PREFIX):
                    place = (*here, "attributes", index, "values", name)
                    declared = one_of(list(self._taxonomy.attributes), name)
                    yield self._document.problem(place, name, f"{declared}, or {HOLDING_PREFIX}<name>")
        for index, decision in enumerate(table.decisions):
            place = (*here, "decisions", index)
            yield from self._known(place, "journey", decision.journey, list(self._journeys.by_id))
            yield from self._texts((*place, "chosen"), decision.chosen, self._treatments)
            for position, candidate in enumerate(decision.candidates):
                yield from self._known(
                    (*place, "candidates", position), "treatment", candidate.treatment, self._treatments
                )
        for index, outcome in enumerate(table.outcomes):
            yield from self._texts((*here, "outcomes", index, "outcome"), outcome.outcome, self._outcomes)
        if table.format not in _GROUPED_BY_THEMSELVES and table.group_by is None:
            yield from self._groups(here, table)

    def _event(self, here: Place, event: EventOutput) -> Iterator[Problem]:
        kinds = self._taxonomy.known_kinds
        yield from self._texts((*here, "kind"), event.kind, list(kinds))
        if event.channel is not None:
            yield from self._texts((*here, "channel"), event.channel, list(self._taxonomy.channels))
        possible = possible_texts(event.kind)
        names = list(kinds) if possible is None else [text for _, text in possible if text in kinds]
        allowed = {fact for name in names for fact in allowed_facts(name, self._taxonomy)}
        for fact in event.facts:
            if fact not in allowed and not fact.startswith(HOLDING_PREFIX) and names:
                expected = f"a fact of {', '.join(names[:5])}: {one_of(sorted(allowed), fact)}"
                yield self._document.problem((*here, "facts", fact), fact, expected)

    def _groups(self, here: Place, table: Table) -> Iterator[Problem]:
        outputs = {
            "events": table.events,
            "attributes": table.attributes,
            "decisions": table.decisions,
            "outcomes": table.outcomes,
        }
        for name, listed in outputs.items():
            for index, output in enumerate(listed):
                if output.per == "group":
                    yield self._document.problem((*here, name, index, "per"), "group", "row, or a table with group_by")
        for index, decision in enumerate(table.decisions):
            if decision.chosen.followed_by is not None:
                place = (*here, "decisions", index, "chosen", "followed_by")
                yield self._document.problem(place, "followed_by", "a table with group_by: it looks at later rows")

    def _known(self, here: Place, key: str, name: str, known: Sequence[str]) -> Iterator[Problem]:
        if name not in known:
            yield self._document.problem((*here, key), name, one_of(known, name))

    def _texts(self, here: Place, value: Value, known: Sequence[str]) -> Iterator[Problem]:
        for place, text in possible_texts(value) or ():
            if text not in known:
                yield self._document.problem((*here, *place), text, one_of(known, text))
