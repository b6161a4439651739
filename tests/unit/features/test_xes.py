"""Rows of XES process logs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from features.mapping_values import Row
from features.tabular import DamagedFile, MalformedRow
from features.xes import open_xes
from tests.imports import file_of

_EVENT = (
    '<event><string key="concept:name" value="{name}"/>'
    '<date key="time:timestamp" value="2025-01-01T00:00:00Z"/></event>'
)
_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><log xmlns="http://www.xes-standard.org/" xes.version="1.0">'
    '<global scope="event"><string key="concept:name" value="UNKNOWN"/></global>'
    '<float key="total" value="1"><float key="nested" value="2"/></float>'
)


def _case(name: str, *events: str) -> str:
    inside = "".join(_EVENT.format(name=event) for event in events)
    return f'<trace><string key="concept:name" value="{name}"/><int key="amount" value=" 7 "/>{inside}</trace>'


def _read(path: Path) -> list[list[dict[str, str]] | str]:
    source = open_xes(path)
    try:
        return [str(g) if isinstance(g, MalformedRow) else [row.cells for row in g] for g in source.rows]
    finally:
        source.close()


def test_events_carry_their_case(tmp_path: Path) -> None:
    """A row has the keys of its event, and those of its case with a prefix; the header gives none."""
    path = file_of(tmp_path, f"{_HEAD}{_case('c1', 'A', 'B')}{_case('c2', 'A')}</log>", "log.xes")
    shared = {"case:amount": "7", "time:timestamp": "2025-01-01T00:00:00Z"}

    assert _read(path) == [
        [
            {"case:concept:name": "c1", "concept:name": "A", **shared},
            {"case:concept:name": "c1", "concept:name": "B", **shared},
        ],
        [{"case:concept:name": "c2", "concept:name": "A", **shared}],
    ]


def test_rows_are_numbered_over_the_whole_log(tmp_path: Path) -> None:
    """Numbers go on from case to case; places start anew."""
    source = open_xes(file_of(tmp_path, f"{_HEAD}{_case('c1', 'A', 'B')}{_case('c2', 'A')}</log>", "log.xes"))
    rows = [row for group in source.rows if not isinstance(group, MalformedRow) for row in group]
    source.close()

    assert [(row.number, row.index) for row in rows] == [(1, 0), (2, 1), (3, 0)]
    assert source.seen == {"case:amount", "case:concept:name", "concept:name", "time:timestamp"}


def test_a_case_without_events_is_told(tmp_path: Path) -> None:
    """An empty case is a refusal, not a silence."""
    path = file_of(tmp_path, f"{_HEAD}{_case('c1')}</log>", "log.xes")

    assert _read(path) == ["got a case without events, expected at least one event"]


def test_an_event_outside_of_the_cases_is_told(tmp_path: Path) -> None:
    """XES allows it; it belongs to no case, and is not lost without a word."""
    stray = _EVENT.format(name="A")
    path = file_of(tmp_path, f"{_HEAD}{_case('c1', 'A')}{stray}{_case('c2', 'B')}</log>", "log.xes")

    first, told, last = _read(path)

    assert told == "got an event outside of the cases, expected every event inside a trace"
    assert [cells["case:concept:name"] for cells in (*first, *last) if isinstance(cells, dict)] == ["c1", "c2"]


def test_a_cut_log_gives_the_whole_cases_before(tmp_path: Path) -> None:
    """Cases before the cut are given, then the error says where it stopped."""
    whole = gzip.compress(
        (_HEAD + "".join(_case(f"c{n * 7919 % 10007}", "A", "B") for n in range(5_000)) + "</log>").encode()
    )
    path = tmp_path / "log.xes.gz"
    path.write_bytes(whole[: len(whole) // 2])
    source = open_xes(path)
    groups: list[list[Row] | MalformedRow] = []

    with pytest.raises(DamagedFile, match="expected a whole XES log") as raised:
        groups.extend(source.rows)
    source.close()

    events = 2 * len(groups)
    assert 2_000 < events < 8_000
    assert f"behind event {events}" in raised.value.found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<html/>", "got the XML element html, expected an XES log"),
        ("no XML", "expected a whole XES log"),
        (
            '<!DOCTYPE log [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><log>&b;</log>',
            "expected an XES log without document type and entities",
        ),
        ('<?xml version="1.0" encoding="big5"?><log/>', "got multi-byte encodings are not supported behind event 0"),
        ('<?xml version="1.0" encoding="nope"?><log/>', "got unknown encoding: nope behind event 0"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    """Other XML, no XML, and XML that attacks its reader are refused."""
    source = open_xes(file_of(tmp_path, text, "log.xes"))

    with pytest.raises(DamagedFile, match=expected):
        next(source.rows)
    source.close()
