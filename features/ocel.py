"""Rows of an OCEL 2.0 log in JSON (object-centric events): one per event of a customer, one per change of a customer.

The rows of a customer form a group, in the order of time. The file is decoded whole, since events and objects refer to
each other in any order; ``MAX_BYTES`` bounds that.

References:
    Berti, A. et al. (2024). OCEL (Object-Centric Event Log) 2.0 Specification. arXiv:2403.01975.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from features.events import dump_timestamp
from features.mapping import ObjectCentric
from features.mapping_values import Row, Unusable, parse_moment
from features.tabular import DAMAGE, DamagedFile, MalformedRow, Source, cell_text, close_both, open_compressed
from features.yaml_files import one_of

MAX_BYTES: Final = 500_000_000
"""Of a log, uncompressed. Reading takes about six times as much memory: 250 MB for a file of 42 MB."""

EVENT_SECTIONS: Final = frozenset({"events", "decisions", "outcomes"})
CUSTOMER_SECTIONS: Final = frozenset({"attributes"})
NO_SECTIONS: Final[frozenset[str]] = frozenset()

Scalar = str | bool | int | float | None


class _EventAttribute(msgspec.Struct):
    name: str
    value: Scalar


class _ObjectAttribute(msgspec.Struct):
    name: str
    value: Scalar
    time: str


class _Relationship(msgspec.Struct, rename={"object_id": "objectId"}):
    object_id: str
    qualifier: str = ""


class _Event(msgspec.Struct):
    id: str
    type: str
    time: str
    attributes: list[_EventAttribute] = []
    relationships: list[_Relationship] = []


class _Object(msgspec.Struct):
    id: str
    type: str
    attributes: list[_ObjectAttribute] = []
    relationships: list[_Relationship] = []


class _Log(msgspec.Struct, rename="camel"):
    events: list[msgspec.Raw]
    objects: list[msgspec.Raw]


_LOG: Final = msgspec.json.Decoder(_Log)
_EVENT: Final = msgspec.json.Decoder(_Event)
_OBJECT: Final = msgspec.json.Decoder(_Object)


def open_ocel(path: Path, spec: ObjectCentric, *, time_zone: str | None) -> Source:
    """An OCEL 2.0 log in JSON.

    Columns: ``ocel:id``, ``ocel:type`` and ``ocel:time``, those of the event's attributes, ``object:<type>`` for the
    ids of its objects of a type, and of its customer ``customer:id`` and ``customer:<attribute>`` as known at the time.
    A change of the customer has ``ocel:time``, the customer's columns, and the attributes that changed by their names.

    Raises:
        DamagedFile: if it is none, is too large, or has no object of the customer's type.
        OSError: if it cannot be opened.
    """
    plain_bytes, raw = open_compressed(path)
    try:
        content = plain_bytes.read(MAX_BYTES + 1)
    except DAMAGE as error:
        raise DamagedFile(str(error), "a whole gzip file") from error
    finally:
        size = raw.tell()
        close_both(plain_bytes, raw)
    if len(content) > MAX_BYTES:
        raise DamagedFile(f"more than {MAX_BYTES} bytes", "a smaller OCEL log: split it by customers")
    try:
        log = _LOG.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DamagedFile(f"JSON that is no OCEL 2.0 log: {error}", "events and objects, each a list") from error
    reader = _Reader(path.name, spec, None if time_zone is None else ZoneInfo(time_zone))
    source = Source(path.name, None, iter(()), lambda: size, lambda: None)
    source.rows = reader.rows(log, source.seen)
    if not reader.customers:
        types = sorted({each.type for each in reader.objects.values()})
        raise DamagedFile(f"no object of the type {spec.customer}", f"as ocel.customer {one_of(types, spec.customer)}")
    return source


@dataclass(slots=True)
class _Customer:
    """A customer's changes and events, each with its time and place in the file."""

    id: str
    changes: list[tuple[int, int, dict[str, str]]] = field(default_factory=list)
    events: list[tuple[int, int, dict[str, str]]] = field(default_factory=list)


class _Reader:
    def __init__(self, name: str, spec: ObjectCentric, zone: ZoneInfo | None) -> None:
        self._name = name
        self._spec = spec
        self._zone = zone
        self._malformed: list[MalformedRow] = []
        self._outside: list[Row] = []
        self._leads: dict[str, list[str]] = {}
        self.objects: dict[str, _Object] = {}
        self.customers: dict[str, _Customer] = {}

    def rows(self, log: _Log, seen: set[str]) -> Iterator[list[Row] | MalformedRow]:
        """What was malformed, the rows of each customer, and those that reach none. Decodes at once, gives later."""
        self._read_objects(log.objects)
        self._read_relations()
        self._read_events(log.events)
        return self._given(seen)

    def _given(self, seen: set[str]) -> Iterator[list[Row] | MalformedRow]:
        yield from self._malformed
        number = 0
        for customer in self.customers.values():
            rows = self._rows_of(customer, number)
            number += len(rows)
            for row in rows:
                seen.update(row.cells)
            if rows:
                yield rows
        for index, row in enumerate(self._outside):
            row.number = number + index + 1
            yield [row]

    def _read_objects(self, raws: Sequence[msgspec.Raw]) -> None:
        for index, raw in enumerate(raws):
            each = self._decoded(_OBJECT, raw, "objects", index)
            if each is None:
                continue
            if each.id in self.objects:
                self._refuse(f"objects[{index}].id", index, each.id, "an id that no other object has")
                continue
            self.objects[each.id] = each
            if each.type == self._spec.customer:
                self.customers[each.id] = self._customer(each, index)

    def _customer(self, each: _Object, index: int) -> _Customer:
        changes: dict[int, dict[str, str]] = {}
        for position, attribute in enumerate(each.attributes):
            at = self._moment(attribute.time, f"objects[{index}].attributes[{position}].time", index)
            if at is not None:
                changes.setdefault(at, {})[attribute.name] = cell_text(attribute.value)
        return _Customer(each.id, [(at, 0, changes[at]) for at in sorted(changes)])

    def _read_relations(self) -> None:
        """For every object that leads to customers, which: the relationship may stand at either end."""
        wanted = {through.type: frozenset(through.qualifiers) for through in self._spec.through}
        for each in self.objects.values():
            for relation in each.relationships:
                other = self.objects.get(relation.object_id)
                if other is None:
                    continue
                for lead, customer in ((each, other), (other, each)):
                    qualifiers = wanted.get(lead.type)
                    if qualifiers is None or customer.id not in self.customers:
                        continue
                    if not qualifiers or relation.qualifier in qualifiers:
                        self._leads.setdefault(lead.id, []).append(customer.id)

    def _read_events(self, raws: Sequence[msgspec.Raw]) -> None:
        for index, raw in enumerate(raws):
            each = self._decoded(_EVENT, raw, "events", index)
            if each is None or not self._relates_to_known(each, index):
                continue
            at = self._moment(each.time, f"events[{index}].time", index)
            if at is None:
                continue
            reached = self._customers_of(each)
            cells = self._cells(each)
            if len(reached) > 1 and self._spec.several_customers == "reject":
                listed = ", ".join(reached[:3]) + (", ..." if len(reached) > 3 else "")
                expected = "one customer: name the qualifiers that tell, or set several_customers to each"
                self._refuse(f"events[{index}].relationships", index, f"{len(reached)} customers: {listed}", expected)
            elif not reached:
                self._outside.append(Row(self._name, 0, None, cells, sections=NO_SECTIONS))
            else:
                for customer_id in reached:
                    self.customers[customer_id].events.append((at, index, cells))

    def _relates_to_known(self, each: _Event, index: int) -> bool:
        for position, relation in enumerate(each.relationships):
            if relation.object_id not in self.objects:
                place = f"events[{index}].relationships[{position}].objectId"
                self._refuse(place, index, relation.object_id, "the id of an object of this file")
                return False
        return True

    def _customers_of(self, each: _Event) -> list[str]:
        """The customers that an event names, else those that its other objects lead to; each once, in their order."""
        qualifiers = self._spec.qualifiers
        own = [
            relation.object_id
            for relation in each.relationships
            if relation.object_id in self.customers and (not qualifiers or relation.qualifier in qualifiers)
        ]
        if not own:
            own = [lead for relation in each.relationships for lead in self._leads.get(relation.object_id, ())]
        return list(dict.fromkeys(own))

    def _cells(self, each: _Event) -> dict[str, str]:
        cells = {attribute.name: cell_text(attribute.value) for attribute in each.attributes}
        cells |= {"ocel:id": each.id, "ocel:type": each.type, "ocel:time": each.time}
        for relation in each.relationships:
            column = f"object:{self.objects[relation.object_id].type}"
            known = cells.get(column)
            if known is None:
                cells[column] = relation.object_id
            elif relation.object_id not in known.split(","):
                cells[column] = f"{known},{relation.object_id}"
        return cells

    def _rows_of(self, customer: _Customer, behind: int) -> list[Row]:
        """Changes and events in the order of time; a change comes before an event of the same moment."""
        customer.events.sort(key=lambda each: each[:2])
        changes = _dated(customer)
        known = {"customer:id": customer.id}
        rows: list[Row] = []
        for at, changed, cells in _merged(changes, customer.events):
            if changed:
                known = known | {f"customer:{name}": text for name, text in cells.items()}
                cells = cells | {"ocel:time": dump_timestamp(at)}
            sections = CUSTOMER_SECTIONS if changed else EVENT_SECTIONS
            row = Row(self._name, behind + len(rows) + 1, None, cells | known, sections=sections)
            row.group, row.index = rows, len(rows)
            rows.append(row)
        return rows

    def _decoded(self, decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, what: str, index: int) -> Any:
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            self._refuse(f"{what}[{index}]", index, bytes(raw)[:80].decode("utf-8", "replace"), str(error))
            return None

    def _moment(self, text: str, place: str, index: int) -> int | None:
        try:
            return parse_moment(text, written=None, zone=self._zone)
        except Unusable as error:
            self._refuse(place, index, error.value, error.expected)
            return None

    def _refuse(self, place: str, index: int, value: str, expected: str) -> None:
        row = Row(self._name, index + 1, None, {})
        self._malformed.append(MalformedRow(row, value, expected, field=place))


def _dated(customer: _Customer) -> list[tuple[int, int, dict[str, str]]]:
    """The changes; those of 1970-01-01, by which OCEL means "from the start", when the customer is first heard of."""
    heard_of = [at for at, _, _ in (*customer.events[:1], *customer.changes) if at]
    changes: dict[int, dict[str, str]] = {}
    for at, _, cells in customer.changes:
        changes.setdefault(at or min(heard_of, default=0), {}).update(cells)
    return [(at, 0, cells) for at, cells in sorted(changes.items())]


def _merged(
    changes: Iterable[tuple[int, int, dict[str, str]]], events: Iterable[tuple[int, int, dict[str, str]]]
) -> list[tuple[int, bool, dict[str, str]]]:
    both = [(at, 0, place, cells) for at, place, cells in changes]
    both += [(at, 1, place, cells) for at, place, cells in events]
    both.sort(key=lambda each: each[:3])
    return [(at, which == 0, cells) for at, which, _, cells in both]
