"""Rows of OCEL 2.0 logs: who the customer is, what reaches them, and what changes about them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from features import ocel
from features.events import dump_timestamp
from tests.imports import Imported, file_of, import_files, mapping_of

_EVENTS = {
    "id": {"template": "{ocel:id}/{customer:id}"},
    "customer": {"column": "customer:id"},
    "at": {"column": "ocel:time"},
    "kind": {"column": "ocel:type", "lookup": {"pay order": "paid", "look": "visited"}},
    "facts": {"amount": {"column": "total"}},
}
_ATTRIBUTES = {
    "customer": {"column": "customer:id"},
    "at": {"column": "ocel:time"},
    "values": {"age": {"column": "age"}, "tier": {"column": "tier"}},
}


def _event(event_id: str, kind: str, time: str, *related: str, qualifier: str = "of", **attributes: Any) -> Any:
    return {
        "id": event_id,
        "type": kind,
        "time": time,
        "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
        "relationships": [{"objectId": name, "qualifier": qualifier} for name in related],
    }


def _object(object_id: str, kind: str, *changes: tuple[str, Any, str], related: dict[str, str] | None = None) -> Any:
    return {
        "id": object_id,
        "type": kind,
        "attributes": [{"name": name, "value": value, "time": time} for name, value, time in changes],
        "relationships": [{"objectId": name, "qualifier": how} for name, how in (related or {}).items()],
    }


_START = "1970-01-01T00:00:00Z"
_GOLD = ("tier", "gold", "2025-01-03T00:00:00Z")
_ANN = _object("ann", "person", ("age", 40, _START), ("tier", "basic", _START), _GOLD)
_BEN = _object("ben", "person")


def _import(tmp_path: Path, events: list[Any], objects: list[Any], **spec: Any) -> Imported:
    log = {"objectTypes": [], "eventTypes": [], "events": events, "objects": objects}
    return _import_text(tmp_path, json.dumps(log), **spec)


def _import_text(tmp_path: Path, text: str, **spec: Any) -> Imported:
    mapping = mapping_of(
        {
            "format": "ocel",
            "ocel": {"customer": "person", **spec},
            "events": [{**_EVENTS, "facts": {}}],
            "attributes": [_ATTRIBUTES],
        }
    )
    return import_files(mapping, file_of(tmp_path, text, "log.json"), rejects=tmp_path / "rejects.jsonl")


def _reached(imported: Imported) -> list[tuple[str, str]]:
    return [(each.event_id, each.customer_id) for each in imported.events if each.kind != "profile_updated"]


def test_events_of_a_customer_come_in_the_order_of_time(tmp_path: Path) -> None:
    """However the file orders them; ties keep the file's order."""
    events = [
        _event("e2", "pay order", "2025-01-02T00:00:00Z", "ann"),
        _event("e1", "look", "2025-01-01T00:00:00Z", "ann"),
        _event("e3", "look", "2025-01-02T00:00:00Z", "ann"),
    ]

    imported = _import(tmp_path, events, [_BEN, _ANN])

    assert [name for name, _ in _reached(imported)] == ["e1/ann", "e2/ann", "e3/ann"]


def test_attributes_become_customer_attributes_at_their_times(tmp_path: Path) -> None:
    """What held "from the start" is dated at the first event, a change at its own time."""
    imported = _import(tmp_path, [_event("e1", "look", "2025-01-01T00:00:00Z", "ann")], [_ANN])

    changes = [
        (dump_timestamp(each.occurred_at)[:10], dict(each.facts))
        for each in imported.events
        if each.kind == "profile_updated"
    ]
    assert changes == [("2025-01-01", {"age": 40.0, "tier": "basic"}), ("2025-01-03", {"tier": "gold"})]
    assert imported.counts == {"events": (1, 0, 0), "attributes": (2, 0, 0)}


def test_a_change_before_the_first_event_is_not_undone_by_the_start(tmp_path: Path) -> None:
    """The start comes first, whenever the customer is first heard of."""
    events = [_event("e1", "look", "2025-02-01T00:00:00Z", "ann")]

    imported = _import(tmp_path, events, [_ANN])

    changes = [dict(each.facts) for each in imported.events if each.kind == "profile_updated"]
    assert changes == [{"age": 40.0, "tier": "gold"}]


def test_the_customer_as_known_stands_beside_each_event(tmp_path: Path) -> None:
    """A column of the customer holds what was true at the time of the event."""
    mapping = mapping_of(
        {
            "format": "ocel",
            "ocel": {"customer": "person"},
            "events": [{**_EVENTS, "facts": {}, "id": {"template": "{ocel:id}-{customer:tier}"}}],
        }
    )
    events = [_event(f"e{day}", "look", f"2025-01-0{day}T00:00:00Z", "ann") for day in (1, 5)]
    path = file_of(tmp_path, json.dumps({"events": events, "objects": [_ANN]}), "log.json")

    made = import_files(mapping, path, rejects=tmp_path / "r").events

    assert [each.event_id for each in made] == ["e1-basic", "e5-gold"]


@pytest.mark.parametrize(
    "objects",
    [
        [_ANN, _object("o1", "order", related={"ann": "placed by"})],
        [{**_ANN, "relationships": [{"objectId": "o1", "qualifier": "placed by"}]}, _object("o1", "order")],
    ],
    ids=["order names person", "person names order"],
)
def test_an_event_of_another_object_reaches_the_customer_in_one_step(tmp_path: Path, objects: list[Any]) -> None:
    """Through objects of a declared type, at whichever end their relationship stands."""
    events = [_event("e1", "pay order", "2025-01-01T00:00:00Z", "o1")]
    through = [{"type": "order", "qualifiers": ["placed by"]}]

    assert _reached(_import(tmp_path, events, objects, through=through)) == [("e1/ann", "ann")]
    assert _reached(_import(tmp_path, events, objects, through=[{"type": "order", "qualifiers": ["seen"]}])) == []


def test_a_customer_that_the_event_names_comes_before_the_way_through_objects(tmp_path: Path) -> None:
    """The order of another person does not draw in that person."""
    objects = [_ANN, _BEN, _object("o1", "order", related={"ben": "placed by"})]
    events = [_event("e1", "pay order", "2025-01-01T00:00:00Z", "o1", "ann")]

    assert _reached(_import(tmp_path, events, objects, through=[{"type": "order"}])) == [("e1/ann", "ann")]


def test_qualifiers_say_which_relationships_count(tmp_path: Path) -> None:
    """A seller who is a person too is not taken for the customer."""
    event = _event("e1", "look", "2025-01-01T00:00:00Z", "ann", qualifier="buyer")
    event["relationships"].append({"objectId": "ben", "qualifier": "seller"})

    assert _reached(_import(tmp_path, [event], [_ANN, _BEN], qualifiers=["buyer"])) == [("e1/ann", "ann")]


def test_an_event_of_several_customers_is_refused_unless_each_gets_it(tmp_path: Path) -> None:
    """Nobody's event is guessed, and nothing is lost silently."""
    events = [_event("e1", "look", "2025-01-01T00:00:00Z", "ann", "ben", "ann")]

    refused = _import(tmp_path, events, [_ANN, _BEN])
    (tmp_path / "rejects.jsonl").unlink()
    each = _import(tmp_path, events, [_ANN, _BEN], several_customers="each")

    (entry,) = refused.rejects
    assert (entry["row"], entry["field"], entry["value"]) == (1, "events[0].relationships", "2 customers: ann, ben")
    assert (_reached(refused), _reached(each)) == ([], [("e1/ann", "ann"), ("e1/ben", "ben")])


def test_an_event_that_reaches_nobody_is_counted(tmp_path: Path) -> None:
    """It is a row without anything to import."""
    events = [_event("e1", "look", "2025-01-01T00:00:00Z", "i1"), _event("e2", "look", "2025-01-01T00:00:00Z", "ben")]

    result = _import(tmp_path, events, [_BEN, _object("i1", "item")]).result

    assert (result.rows, result.rows_skipped, result.rows_rejected) == (2, 1, 0)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"time": "soon"}, "events[1].time", "soon"),
        ({"time": "2025-01-01T00:00:00"}, "events[1].time", "2025-01-01T00:00:00"),
        ({"relationships": [{"objectId": "zoe"}]}, "events[1].relationships[0].objectId", "zoe"),
        ({"type": 7}, "events[1]", '{"id": "e1", "type": 7'),
    ],
)
def test_a_broken_event_is_named_by_its_index(tmp_path: Path, change: dict[str, Any], field: str, value: str) -> None:
    """Index, field, value and expectation are on record, and the others are kept."""
    good = _event("e0", "look", "2025-01-01T00:00:00Z", "ann")
    broken = {**_event("e1", "look", "2025-01-01T00:00:00Z", "ann"), **change}

    imported = _import(tmp_path, [good, broken], [_ANN])

    (entry,) = imported.rejects
    assert (entry["row"], entry["field"]) == (2, field)
    assert entry["value"].startswith(value)
    assert _reached(imported) == [("e0/ann", "ann")]


def test_a_broken_object_is_named_by_its_index(tmp_path: Path) -> None:
    """So are objects that repeat an id, or changes without a time."""
    objects = [_ANN, _ANN, _object("ben", "person", ("age", 3, "then"))]

    imported = _import(tmp_path, [_event("e0", "look", "2025-01-01T00:00:00Z", "ann")], objects)

    assert [(entry["field"], entry["value"]) for entry in imported.rejects] == [
        ("objects[1].id", "ann"),
        ("objects[2].attributes[0].time", "then"),
    ]


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("{", "JSON that is no OCEL 2.0 log", "events and objects, each a list"),
        ('{"ocel:events": {}}', "JSON that is no OCEL 2.0 log: Object missing required field", "events and objects"),
        ('{"events": [], "objects": []}', "no object of the type person", "as ocel.customer one of (nothing is"),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, text: str, value: str, expected: str) -> None:
    """What was found, and what was expected, with the file."""
    (problem,) = _import_text(tmp_path, text).result.problems

    assert problem.path == str(tmp_path / "log.json")
    assert problem.value.startswith(value)
    assert problem.expected.startswith(expected)


def test_a_log_above_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is small on disk; nothing is decoded."""
    monkeypatch.setattr(ocel, "MAX_BYTES", 1_000)
    path = tmp_path / "log.json"
    path.write_bytes(gzip.compress(b'{"events": [], "objects": []' + b" " * 2_000 + b"}"))
    mapping = mapping_of({"format": "ocel", "ocel": {"customer": "person"}, "events": [_EVENTS]})

    (problem,) = import_files(mapping, path, rejects=tmp_path / "r").result.problems

    assert (problem.value, problem.expected) == ("more than 1000 bytes", "a smaller OCEL log: split it by customers")


def test_a_larger_log_keeps_every_event_once(tmp_path: Path) -> None:
    """Two thousand orders of three hundred people, all reached through their orders."""
    objects = [_object(f"p{n}", "person") for n in range(300)]
    objects += [_object(f"o{n}", "order", related={f"p{n * 7 % 300}": "placed by"}) for n in range(2_000)]
    events = [
        _event(f"e{n}", "pay order", f"2025-01-{n % 28 + 1:02}T{n % 24:02}:00:00Z", f"o{n % 2_000}")
        for n in range(10_000)
    ]

    imported = _import(tmp_path, events, objects, through=[{"type": "order"}])

    assert imported.counts == {"events": (10_000, 0, 0)}
    assert dict(_reached(imported))["e1999/p193"] == "p193"
    assert imported.result.customers == 300


@pytest.mark.parametrize("table", [{"format": "ocel"}, {"format": "csv", "ocel": {"customer": "person"}}])
def test_only_an_ocel_table_says_who_the_customers_are(table: dict[str, Any]) -> None:
    """And it must."""
    with pytest.raises(ValueError, match="for the format ocel"):
        mapping_of({**table, "events": [_EVENTS]})
