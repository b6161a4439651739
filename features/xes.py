"""Rows of an XES process log (IEEE 1849), streaming: one row per event, one group per case.

The attributes of a case are columns too, under ``case:``. Nested attributes, lists and the header are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from features.mapping_values import Row
from features.tabular import DAMAGE, DamagedFile, MalformedRow, Source, close_both, open_compressed

CASE_PREFIX = "case:"


def open_xes(path: Path) -> Source:
    """An XES log.

    Raises:
        OSError: if it cannot be opened.
    """
    plain_bytes, raw = open_compressed(path)
    source = Source(path.name, None, iter(()), raw.tell, lambda: close_both(plain_bytes, raw))
    source.rows = _cases(path.name, plain_bytes, source.seen)
    return source


def _cases(name: str, plain_bytes: IO[bytes], seen: set[str]) -> Iterator[list[Row] | MalformedRow]:
    number = 0
    depth = 0
    root = None
    try:
        # forbid_dtd: a log has no document type, and entities are how XML files attack their readers.
        for event, element in iterparse(plain_bytes, events=("start", "end"), forbid_dtd=True):
            if root is None:
                root = element
                if _tag(element) != "log":
                    raise DamagedFile(f"the XML element {_tag(element)}", "an XES log")
            depth += 1 if event == "start" else -1
            if event == "start" or depth != 1:
                continue
            root.clear()  # else every case that was read stays in memory
            if _tag(element) == "trace":
                rows = _rows_of(name, element, number)
                number += len(rows)
                for row in rows:
                    seen.update(row.cells)
                if rows:
                    yield rows
                else:
                    yield MalformedRow(Row(name, number, None, {}), "a case without events", "at least one event")
            elif _tag(element) == "event":
                number += 1
                place = Row(name, number, None, {})
                yield MalformedRow(place, "an event outside of the cases", "every event inside a trace")
    except (*DAMAGE, ParseError) as error:
        raise DamagedFile(f"{error} behind event {number}", "a whole XES log") from error
    except DefusedXmlException as error:
        raise DamagedFile(str(error), "an XES log without document type and entities") from error
    except (ValueError, LookupError) as error:  # of an encoding that the parser does not know
        raise DamagedFile(f"{error} behind event {number}", "an XES log in UTF-8") from error


def _rows_of(name: str, case: Any, behind: int) -> list[Row]:
    shared = {f"{CASE_PREFIX}{key}": text for key, text in _attributes(case)}
    events = (element for element in case if _tag(element) == "event")
    rows = [
        Row(name, behind + index, None, {**shared, **dict(_attributes(event))})
        for index, event in enumerate(events, start=1)
    ]
    for index, row in enumerate(rows):
        row.group, row.index = rows, index
    return rows


def _attributes(element: Any) -> Iterator[tuple[str, str]]:
    for child in element:
        key, value = child.get("key"), child.get("value")
        if key is not None and value is not None:
            yield key, value.strip()


def _tag(element: Any) -> str:
    """The name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]
