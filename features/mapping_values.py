"""The values and conditions of a mapping, made into functions of a row.

Every cell is text here, whatever the file's own types were, stripped of blanks; empty text is "no value".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from features.events import FactValue, microseconds
from features.mapping import Condition, FollowedBy, Scalar, Value
from features.yaml_files import one_of

TRUE = frozenset({"true", "t", "yes", "y", "1"})
FALSE = frozenset({"false", "f", "no", "n", "0"})
_FIELD = re.compile(r"\{([^{}]+)\}")
_ROW, _FILE = "row", "file"
_EPOCH_UNITS = {"unix_seconds": 1_000_000, "unix_milliseconds": 1_000}


@dataclass(slots=True)
class Row:
    """One row of a file.

    Attributes:
        file: the name of its file, without folders.
        number: its number in the file, from 1, headings not counted.
        line: the line that it ends on, where the format has lines.
        cells: text by column.
        group: the rows of its group, itself among them, in their order.
        index: its place in the group.
        sections: the sections of the mapping that it is for; None for all of them.
        document: the whole JSON document of the row, where the format hands it on.
    """

    file: str
    number: int
    line: int | None
    cells: dict[str, str]
    group: Sequence[Row] = ()
    index: int = 0
    sections: AbstractSet[str] | None = None
    document: object = None


class Unusable(Exception):
    """A value that a row has and a mapping cannot use."""

    def __init__(self, value: str, expected: str) -> None:
        self.value = value
        self.expected = expected
        super().__init__(f"got {value}, expected {expected}")


Text = Callable[[Row], str]
"""Text of a row; empty for no value. Raises Unusable."""

Moment = Callable[[Row], int | None]
"""Microseconds since the epoch; None for no value. Raises Unusable."""

Test = Callable[[Row], bool]
"""Whether a row meets conditions."""


def plain(value: Scalar) -> str:
    """A word or number of the mapping as the text that a cell would hold.

    >>> plain(1.0), plain(True), plain("a")
    ('1', 'true', 'a')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def text_of(value: Value, time_zone: str | None = None) -> Text:
    """The function that gives a value's text; ``time_zone`` is the mapping's own, for times that are compared."""
    read = _source(value, time_zone)
    if value.lookup is not None:
        read = _looked_up(read, {key: plain(meaning) for key, meaning in value.lookup.items()}, value.otherwise)
    elif value.otherwise is not None:
        read = _or_else(read, plain(value.otherwise))
    return read


def moment_of_value(value: Value, time_zone: str | None) -> Moment:
    """The function that gives a value's moment; ``time_zone`` is the mapping's own."""
    read = text_of(value, time_zone)
    named = value.time_zone or time_zone
    zone = ZoneInfo(named) if named else None
    written = value.format
    plus = value.plus or 0

    def moment(row: Row) -> int | None:
        text = read(row)
        return parse_moment(text, written=written, zone=zone) + plus if text else None

    return moment


def parse_moment(text: str, *, written: str | None, zone: ZoneInfo | None) -> int:
    """Microseconds since the epoch of a written time.

    Raises:
        Unusable: if it is not written so, has no offset where no zone is named, or is a local time that never was.
    """
    try:
        if written in _EPOCH_UNITS:
            return round(float(text) * _EPOCH_UNITS[written])
        moment = datetime.fromisoformat(text) if written is None else datetime.strptime(text, written)
    except (ValueError, OverflowError) as error:
        how = "ISO 8601" if written is None else written
        raise Unusable(text, f"a time written as {how}") from error
    if moment.tzinfo is not None:
        return microseconds(moment)
    if zone is None:
        raise Unusable(text, "a time with an offset: name the time_zone of this column, or of the whole mapping")
    local = moment.replace(tzinfo=zone)
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment:
        raise Unusable(text, f"a local time that exists in {zone.key}: the clocks were put forward over this one")
    return microseconds(local)


def parse_number(text: str, decimal: str = ".") -> float:
    """A finite number as it is written.

    >>> parse_number("1.234,5", ",")
    1234.5

    Raises:
        Unusable: if it is none.
    """
    plain_text = text.replace(".", "").replace(",", ".") if decimal == "," else text.replace(",", "")
    try:
        number = float(plain_text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        raise Unusable(text, f"a finite number with the decimal sign {decimal}")
    return number


def typed(text: str, dtype: str, decimal: str = ".") -> FactValue:
    """Text as a fact or attribute of a type: ``number``, ``boolean``, ``text`` or ``category``.

    Raises:
        Unusable: if it cannot be one.
    """
    if dtype == "number":
        return parse_number(text, decimal)
    if dtype == "boolean":
        word = text.lower()
        if word not in TRUE and word not in FALSE:
            raise Unusable(text, f"one of {', '.join(sorted(TRUE | FALSE))}")
        return word in TRUE
    return text


def check_of(conditions: Sequence[Condition]) -> Test:
    """The function that tells whether a row meets all conditions."""
    tests = [test for condition in conditions for test in _tests(condition)]
    return lambda row: all(test(row) for test in tests)


def columns_of(value: Value) -> Iterable[str]:
    """The columns that a value reads."""
    if value.column is not None:
        yield value.column
    if value.template is not None:
        yield from (name for name in _FIELD.findall(value.template) if name not in (_ROW, _FILE))
    if value.followed_by is not None:
        yield from (condition.column for condition in value.followed_by.when)
        yield from columns_of(value.followed_by.at)


def _source(value: Value, time_zone: str | None) -> Text:
    if value.column is not None:
        column = value.column
        return lambda row: row.cells.get(column, "")
    if value.template is not None:
        return _template(value.template)
    if value.followed_by is not None:
        return _followed_by(value.followed_by, value.time_zone or time_zone)
    constant = plain(value.constant) if value.constant is not None else ""
    return lambda row: constant


def _template(template: str) -> Text:
    parts = _FIELD.split(template)  # literal, name, literal, name, ..., literal

    def filled(row: Row) -> str:
        text = ""
        for index, part in enumerate(parts):
            if index % 2 == 0:
                text += part
                continue
            cell = str(row.number) if part == _ROW else row.file if part == _FILE else row.cells.get(part, "")
            if not cell:
                return ""
            text += cell
        return text

    return filled


def _followed_by(spec: FollowedBy, time_zone: str | None) -> Text:
    meets = check_of(spec.when)
    at = moment_of_value(spec.at, time_zone)
    then, otherwise = plain(spec.then), plain(spec.otherwise)

    def followed(row: Row) -> str:
        start = at(row)
        if start is None:
            return ""
        for later in row.group[row.index + 1 :]:
            if meets(later) and (moment := at(later)) is not None and start <= moment <= start + spec.within:
                return then
        return otherwise

    return followed


def _looked_up(read: Text, table: dict[str, str], otherwise: Scalar | None) -> Text:
    fallback = None if otherwise is None else plain(otherwise)

    def looked_up(row: Row) -> str:
        text = read(row)
        meaning = table.get(text, fallback)
        if meaning is None:
            if not text:
                return ""
            raise Unusable(text, f"a text of the mapping's lookup table: {one_of(list(table), text)}")
        return meaning

    return looked_up


def _or_else(read: Text, fallback: str) -> Text:
    return lambda row: read(row) or fallback


def _tests(condition: Condition) -> Iterable[Test]:
    column = condition.column
    if condition.equals is not None:
        wanted = plain(condition.equals)
        yield lambda row: row.cells.get(column, "") == wanted
    if condition.one_of:
        allowed = frozenset(map(plain, condition.one_of))
        yield lambda row: row.cells.get(column, "") in allowed
    if condition.none_of:
        forbidden = frozenset(map(plain, condition.none_of))
        yield lambda row: row.cells.get(column, "") not in forbidden
    if condition.not_empty is not None:
        filled = condition.not_empty
        yield lambda row: bool(row.cells.get(column, "")) == filled
    if condition.not_zero is not None:
        nonzero = condition.not_zero
        yield lambda row: _is_number_other_than_zero(row.cells.get(column, ""), nonzero)


def _is_number_other_than_zero(text: str, nonzero: bool) -> bool:
    try:
        number = float(text)
    except ValueError:
        return False
    return (number != 0) == nonzero
