"""JSON lines as a format of tables, and Headway's own event documents."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features import json_lines
from features.events import dump_event, dump_timestamp
from tests.histories import event
from tests.imports import EVENT, Imported, MemorySink, file_of, import_files, mapping_of

_AT = "2025-01-01T10:00:00Z"
_NESTED = {
    "customer": {"column": "customer.id"},
    "at": {"column": "when"},
    "kind": {"column": "steps.0.name"},
    "facts": {"amount": {"column": "price.value"}},
}
LATE = event("e2")
_LINE = {"customer": {"id": "c1"}, "when": _AT, "steps": [{"name": "paid"}], "price": {"value": 12.5}}


def _lines(*documents: object) -> str:
    return "".join(f"{json.dumps(document)}\n" for document in documents)


def _nested(tmp_path: Path, text: str, **table: Any) -> Imported:
    mapping = mapping_of({"format": "jsonl", "events": [_NESTED], **table})
    return import_files(mapping, file_of(tmp_path, text, "file.jsonl"), rejects=tmp_path / "rejects.jsonl")


def _documents(path: Path, tmp_path: Path, sink: MemorySink | None = None) -> Imported:
    mapping = mapping_of({"format": "headway_events"})
    return import_files(mapping, path, rejects=tmp_path / "rejects.jsonl", sink=sink)


def test_a_dotted_path_leads_into_objects_and_lists(tmp_path: Path) -> None:
    """Nested fields are columns, whatever their type in JSON."""
    imported = _nested(tmp_path, _lines(_LINE))

    (made,) = imported.events
    assert (made.customer_id, made.kind, made.facts) == ("c1", "paid", {"amount": 12.5})
    assert (made.event_id, imported.result.problems) == ("file.jsonl#1", [])


def test_a_key_with_dots_is_found_before_a_path_is(tmp_path: Path) -> None:
    """Flattened exports work as they are."""
    line = {**_LINE, "customer.id": "c2"}

    assert [made.customer_id for made in _nested(tmp_path, _lines(line)).events] == ["c2"]


@pytest.mark.parametrize("depth", [*range(960, 1_000), 5_000])
def test_a_value_nested_too_deeply_costs_its_line_only(tmp_path: Path, depth: int) -> None:
    """Whether it is too deep to be read or only to be written again, the next line comes in."""
    deep = f'{{"customer": {{"id": {"[" * depth}{"]" * depth}}}}}\n'

    imported = _nested(tmp_path, deep + _lines(_LINE))

    assert [made.customer_id for made in imported.events] == ["c1"]
    assert (imported.result.rows, imported.result.rows_rejected) == (2, 1)


def test_an_object_is_given_as_json(tmp_path: Path) -> None:
    """Facts that stand in an object are taken whole."""
    output = {**EVENT, "kind": "paid", "facts_json": {"column": "facts"}}
    mapping = mapping_of({"format": "jsonl", "events": [output]})
    path = file_of(tmp_path, _lines({"who": "c1", "when": _AT, "facts": {"amount": 3}}), "file.jsonl")

    assert import_files(mapping, path, rejects=tmp_path / "r").events[0].facts == {"amount": 3.0}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"when": ', "one JSON object a line: Input data was truncated"),
        ("[1, 2]", "one JSON object a line: Expected `object`, got `array`"),
        ('{"when": NaN}', "one JSON object a line: JSON is malformed"),
    ],
)
def test_a_line_that_is_no_object_is_named_and_the_next_one_is_kept(tmp_path: Path, line: str, expected: str) -> None:
    """File, line, row, text and expectation are on record; an empty line is no row but counts as a line."""
    imported = _nested(tmp_path, f"\n{line}\n{_lines(_LINE)}")

    (entry,) = imported.rejects
    assert (entry["file"], entry["line"], entry["row"], entry["field"], entry["value"]) == (
        "file.jsonl",
        2,
        1,
        "row",
        line.strip(),
    )
    assert entry["expected"].startswith(expected)
    assert (imported.result.rows, imported.result.rows_rejected, len(imported.events)) == (2, 1, 1)


def test_a_bad_field_is_named_with_its_line(tmp_path: Path) -> None:
    """As in a table."""
    imported = _nested(tmp_path, _lines({**_LINE, "when": "soon"}, _LINE))

    (entry,) = imported.rejects
    assert (entry["line"], entry["field"], entry["value"]) == (1, "events[0].at", "soon")


def test_a_column_of_no_line_is_reported(tmp_path: Path) -> None:
    """A misspelt path does not stay unnoticed where the format has no headings."""
    (problem,) = _nested(tmp_path, _lines({**_LINE, "price": {}})).result.problems

    assert (problem.path, problem.value) == ("column", "price.value")


def test_a_line_without_end_is_refused_and_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on behind it."""
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 200)

    imported = _nested(tmp_path, f'{{"x": "{"y" * 900}"}}\n{_lines(_LINE)}')

    assert [entry["expected"] for entry in imported.rejects] == ["a line of at most 200 bytes"]
    assert len(imported.events) == 1


def test_a_cut_gzip_file_keeps_what_came_before(tmp_path: Path) -> None:
    """What could be read is kept, and where it stopped is said."""
    whole = gzip.compress(_lines(*({**_LINE, "customer": {"id": f"c{n * 7919}"}} for n in range(5_000))).encode())
    path = tmp_path / "file.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    mapping = mapping_of({"format": "jsonl", "events": [_NESTED]})

    imported = import_files(mapping, path, rejects=tmp_path / "r")

    (problem,) = imported.result.problems
    assert f"behind line {len(imported.events)}" in problem.value
    assert len(imported.events) > 1_000


def test_logged_events_come_back_as_they_were(tmp_path: Path) -> None:
    """What ``dump_event`` wrote is the same event again: source, id, arrival, day, order, facts and text."""
    events = [
        event("e1", kind="paid", source="crm", facts={"amount": 2.0}),
        replace(LATE, source="crm", text="slow", arrived_at=LATE.occurred_at + 7, day=LATE.day + 1),
        replace(event("e3", source="app"), day=3),
    ]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(dump_event(each) + b"\n" for each in events))
    sink = MemorySink()

    first = _documents(path, tmp_path, sink)
    again = _documents(path, tmp_path, sink)

    assert first.events == events
    assert (first.counts, again.counts) == ({"events": (3, 0, 0)}, {"events": (0, 3, 0)})


def test_documents_as_callers_send_them_take_the_mappings_source(tmp_path: Path) -> None:
    """One a line, or a whole body of a call in a line; they arrived when they occurred."""
    sent = [{"event_id": f"e{n}", "customer_id": "c1", "kind": "visited", "occurred_at": _AT} for n in range(3)]
    path = file_of(tmp_path, _lines(sent[0], {"events": sent[1:]}), "events.ndjson")

    events = _documents(path, tmp_path).events

    assert [(each.source, each.event_id, each.sequence) for each in events] == [
        ("shop", "e0", 1),
        ("shop", "e1", 2),
        ("shop", "e2", 3),
    ]
    assert [each.arrived_at - each.occurred_at for each in events] == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"v": 2}, "event.v", "the version 1"),
        ({"source": ""}, "event.source", "text of 1 to 200"),
        ({"arrived_at": "2999-01-01T00:00:00Z"}, "event.arrived_at", "an ISO 8601 timestamp"),
        ({"arrived_at": None}, "event.arrived_at", "an ISO 8601 timestamp"),
        ({"day": "monday"}, "event.day", "days since 1970, a whole number"),
        ({"day": -1}, "event.day", "days since 1970, a whole number from 0 to"),
        ({"day": 2_932_897}, "event.day", "days since 1970, a whole number from 0 to"),
        ({"kind": "flown"}, "event.kind", "a kind of the taxonomy"),
        ({"occurred_at": "2999-01-01T00:00:00Z"}, "event.occurred_at", "a time not after"),
        ({"colour": "red"}, "event.colour", "one of event_id"),
    ],
)
def test_a_logged_event_that_cannot_be_is_refused_by_field(
    tmp_path: Path, change: dict[str, Any], field: str, expected: str
) -> None:
    """A damaged export does not slip in with other times or sources."""
    document = {**json.loads(dump_event(event("e1"))), **change}

    imported = _documents(file_of(tmp_path, _lines(document), "events.jsonl"), tmp_path)

    (entry,) = imported.rejects
    assert (entry["line"], entry["field"]) == (1, field)
    assert entry["expected"].startswith(expected)


def test_a_document_that_is_no_object_is_refused(tmp_path: Path) -> None:
    """Inside a body too, where the others are kept."""
    good = {"event_id": "e", "customer_id": "c1", "kind": "visited", "occurred_at": _AT}

    imported = _documents(file_of(tmp_path, _lines({"events": [good, 7]}), "events.jsonl"), tmp_path)

    assert [entry["expected"] for entry in imported.rejects] == ["a JSON object"]
    assert [dump_timestamp(made.occurred_at) for made in imported.events] == ["2025-01-01T10:00:00.000000Z"]


def test_a_table_of_documents_has_no_sections() -> None:
    """A section would be ignored, so it is refused."""
    with pytest.raises(ValueError, match="no sections and no group_by"):
        mapping_of({"format": "headway_events", "events": [_NESTED]})
