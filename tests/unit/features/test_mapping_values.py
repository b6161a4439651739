"""Values and conditions of a mapping as functions of a row."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter, ValidationError

from features.events import dump_timestamp
from features.mapping import Condition, Value
from features.mapping_values import (
    Row,
    Unusable,
    check_of,
    columns_of,
    moment_of_value,
    parse_moment,
    parse_number,
    text_of,
    typed,
)

_VALUE: TypeAdapter[Value] = TypeAdapter(Value)


def _row(**cells: str) -> Row:
    row = Row("file.csv", 7, 8, cells)
    row.group = [row]
    return row


def _text(value: Any, row: Row) -> str:
    return text_of(_VALUE.validate_python(value))(row)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("word", "word"),
        (3, "3"),
        (True, "true"),
        ({"constant": 1.5}, "1.5"),
        ({"column": "a"}, "A"),
        ({"column": "empty"}, ""),
        ({"column": "absent"}, ""),
        ({"column": "empty", "otherwise": "x"}, "x"),
        ({"template": "{a}-{row}/{file}"}, "A-7/file.csv"),
        ({"template": "{concept:name}!"}, "C!"),
        ({"template": "{a}-{empty}"}, ""),
        ({"column": "a", "lookup": {"A": "found"}}, "found"),
        ({"column": "a", "lookup": {"B": "found"}, "otherwise": "other"}, "other"),
        ({"column": "a", "lookup": {"B": "found"}, "otherwise": ""}, ""),
        ({"column": "empty", "lookup": {"A": "found"}}, ""),
    ],
)
def test_every_source_gives_its_text(value: Any, text: str) -> None:
    """Constants, columns, templates and lookups give the text that the reference promises."""
    assert _text(value, _row(a="A", empty="", **{"concept:name": "C"})) == text


def test_a_text_outside_the_lookup_is_unusable() -> None:
    """A text that the table lacks is named, with a guess at what was meant."""
    with pytest.raises(Unusable, match="got Mens, expected a text of the mapping's lookup table: one of Men, No; did"):
        _text({"column": "a", "lookup": {"Men": "m", "No": "n"}}, _row(a="Mens"))


@pytest.mark.parametrize("value", [{}, {"column": "a", "constant": "b"}, {"lookup": {"a": "b"}}])
def test_a_value_has_exactly_one_source(value: Any) -> None:
    """A value without a source, or with two, is refused at load."""
    with pytest.raises(ValidationError, match="exactly one of column, template, constant, followed_by"):
        _VALUE.validate_python(value)


@pytest.mark.parametrize(
    ("text", "written", "zone", "moment"),
    [
        ("2025-02-03T18:05:00+01:00", None, None, "2025-02-03T17:05:00.000000Z"),
        ("2025-02-03T18:05:00.123456Z", None, None, "2025-02-03T18:05:00.123456Z"),
        ("2025-02-03 18:05", None, "Europe/Berlin", "2025-02-03T17:05:00.000000Z"),
        ("2025-02-03T18:05:00+00:00", None, "Europe/Berlin", "2025-02-03T18:05:00.000000Z"),
        ("03.02.2025", "%d.%m.%Y", "UTC", "2025-02-03T00:00:00.000000Z"),
        ("1738605900", "unix_seconds", None, "2025-02-03T18:05:00.000000Z"),
        ("1738605900123", "unix_milliseconds", None, "2025-02-03T18:05:00.123000Z"),
        # Passed twice when the clocks go back: the first of the two is meant.
        ("2025-10-26T02:30:00", None, "Europe/Berlin", "2025-10-26T00:30:00.000000Z"),
    ],
)
def test_every_way_to_write_a_time(text: str, written: str | None, zone: str | None, moment: str) -> None:
    """Each format gives the exact moment."""
    at = parse_moment(text, written=written, zone=ZoneInfo(zone) if zone else None)

    assert dump_timestamp(at) == moment


@pytest.mark.parametrize(
    ("text", "written", "zone", "expected"),
    [
        ("2025-02-03T18:05:00", None, None, "a time with an offset: name the time_zone"),
        ("soon", None, "UTC", "a time written as ISO 8601"),
        ("31.02.2025", "%d.%m.%Y", "UTC", "a time written as %d"),
        ("inf", "unix_seconds", None, "a time written as unix_seconds"),
        ("2025-03-30T02:30:00", None, "Europe/Berlin", "a local time that exists in Europe/Berlin"),
    ],
)
def test_unusable_times_say_why(text: str, written: str | None, zone: str | None, expected: str) -> None:
    """Naive times without a zone, nonsense, and local times that never were are refused, naming the value."""
    with pytest.raises(Unusable, match=f"got {text}, expected {expected}"):
        parse_moment(text, written=written, zone=ZoneInfo(zone) if zone else None)


def test_a_duration_is_added_to_a_time() -> None:
    """`plus` moves a time, `None` stays `None`."""
    read = moment_of_value(_VALUE.validate_python({"column": "a", "plus": "14d"}), None)

    assert dump_timestamp(read(_row(a="2025-02-03T00:00:00Z")) or 0) == "2025-02-17T00:00:00.000000Z"
    assert read(_row(a="")) is None


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [("1234.5", ".", 1234.5), ("1,234.5", ".", 1234.5), ("1.234,5", ",", 1234.5), ("-3", ",", -3.0), ("1e3", ".", 1e3)],
)
def test_numbers_in_both_notations(text: str, decimal: str, number: float) -> None:
    """The other sign separates thousands."""
    assert parse_number(text, decimal) == number


@pytest.mark.parametrize("text", ["", "NaN", "inf", "12 EUR", "1_000", "--1"])
def test_what_is_no_finite_number_is_unusable(text: str) -> None:
    """Neither words nor NaN become a number."""
    with pytest.raises(Unusable, match="a finite number"):
        parse_number(text)


@pytest.mark.parametrize(("text", "truth"), [("Yes", True), ("1", True), ("t", True), ("No", False), ("0", False)])
def test_booleans_have_many_words(text: str, truth: bool) -> None:
    """The listed words are booleans in any case."""
    assert typed(text, "boolean") is truth


def test_other_words_are_no_boolean() -> None:
    """A word that is not listed is refused with the list."""
    with pytest.raises(Unusable, match="one of 0, 1, f, false, n, no, t, true, y, yes"):
        typed("maybe", "boolean")


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"equals": "A"}, True),
        ({"equals": "B"}, False),
        ({"one_of": ["A", "B"]}, True),
        ({"none_of": ["A"]}, False),
        ({"not_empty": True}, True),
        ({"not_empty": False}, False),
        ({"not_empty": True, "equals": "B"}, False),
        ({"not_zero": True}, False),
    ],
)
def test_every_condition(condition: dict[str, Any], met: bool) -> None:
    """Each operator tests the text of its column, and all must hold."""
    test = check_of([Condition.model_validate({"column": "a", **condition})])

    assert test(_row(a="A")) is met


@pytest.mark.parametrize(("text", "nonzero"), [("0", False), ("0.00", False), ("-2", True), ("", False), ("x", False)])
def test_not_zero_means_a_number_other_than_zero(text: str, nonzero: bool) -> None:
    """No value and no number are not "not zero"."""
    assert check_of([Condition(column="a", not_zero=True)])(_row(a=text)) is nonzero


def test_a_condition_needs_an_operator() -> None:
    """A condition that tests nothing is refused at load."""
    with pytest.raises(ValidationError, match="an operator beside column"):
        Condition(column="a")


def _group(*cells: tuple[str, str]) -> list[Row]:
    rows = [Row("f", n, n, {"what": what, "at": at}) for n, (what, at) in enumerate(cells, start=1)]
    for index, row in enumerate(rows):
        row.group, row.index = rows, index
    return rows


@pytest.mark.parametrize(
    ("later_at", "text"),
    [("2025-01-02T00:00:00", "yes"), ("2025-01-08T00:00:00", "yes"), ("2025-01-08T00:00:01", "no")],
)
def test_followed_by_looks_at_later_rows_within_its_time(later_at: str, text: str) -> None:
    """A later row of the group counts up to the end of the time, that moment included."""
    spec = {
        "when": [{"column": "what", "equals": "call"}],
        "at": {"column": "at"},
        "within": "7d",
        "then": "yes",
        "otherwise": "no",
    }
    rows = _group(("call", "2024-12-31T00:00:00"), ("offer", "2025-01-01T00:00:00"), ("call", later_at))

    assert text_of(_VALUE.validate_python({"followed_by": spec}), "UTC")(rows[1]) == text


def test_all_columns_that_a_value_reads_are_known() -> None:
    """Columns of templates and of later rows are found, the built-in names are not taken for columns."""
    spec = {
        "when": [{"column": "b", "not_empty": True}],
        "at": {"column": "c"},
        "within": "1d",
        "then": 1,
        "otherwise": 0,
    }

    assert set(columns_of(_VALUE.validate_python({"template": "{a}{row}{file}"}))) == {"a"}
    assert set(columns_of(_VALUE.validate_python({"followed_by": spec}))) == {"b", "c"}
