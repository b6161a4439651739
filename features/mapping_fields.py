"""The fields of one item of an import: read from a row, checked, with every problem noted."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from features.errors import InvalidInput, Problem
from features.events import FUTURE_SKEW_US, JourneyEvent, dump_timestamp, parse_event
from features.journeys import Outcome
from features.mapping import Mapping, Output, Value
from features.mapping_values import Moment, Row, Text, Unusable, moment_of_value, text_of, typed
from features.taxonomy import Taxonomy

DecisionIds: TypeAlias = Callable[[str, str, str, int], str]
"""The decision id for a source, the company's own id, a customer and a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What items are checked against.

    Attributes:
        outcomes: the declared outcomes by id.
        journeys: the declared journeys' ids.
        treatments: the catalogue's treatment ids.
        decision_ids: how past decisions are named.
        latest: the newest moment that can have happened, in microseconds since the epoch.
    """

    taxonomy: Taxonomy
    outcomes: dict[str, Outcome]
    journeys: AbstractSet[str]
    treatments: AbstractSet[str]
    decision_ids: DecisionIds
    latest: int


class Fields:
    """Reads the fields of one item, noting every problem instead of stopping at the first."""

    def __init__(self, label: str, row: Row) -> None:
        self._label = label
        self._row = row
        self.problems: list[Problem] = []

    def text(self, name: str, read: Text | None) -> str:
        """The text of a field; empty where there is none, or none that can be used."""
        if read is None:
            return ""
        try:
            return read(self._row)
        except Unusable as error:
            self.add(name, error.value, error.expected)
            return ""

    def required(self, name: str, read: Text) -> str:
        """The text of a field that must not be empty."""
        before = len(self.problems)
        text = self.text(name, read)
        if not text and len(self.problems) == before:
            self.add(name, "", "a value: it is empty in this row")
        return text

    def moment(self, name: str, read: Moment, *, latest: int) -> int:
        """The moment of a field, which must not be empty nor later than ``latest``; 0 where it is unusable."""
        try:
            at = read(self._row)
        except Unusable as error:
            self.add(name, error.value, error.expected)
            return 0
        if at is None:
            self.add(name, "", "a time: it is empty in this row")
            return 0
        if not 0 <= at <= latest + FUTURE_SKEW_US:
            self.add(name, _shown_moment(at), f"a time from 1970 until now ({_shown_moment(latest)})")
            return 0
        return at

    def typed(self, name: str, text: str, dtype: str, decimal: str = ".") -> float | str | bool | None:
        """Text as a value of a type; None where it cannot be one."""
        try:
            return typed(text, dtype, decimal)
        except Unusable as error:
            self.add(name, error.value, error.expected)
            return None

    def add(self, name: str, value: str, expected: str) -> None:
        """Note a problem of a field."""
        self.problems.append(Problem(f"{self._label}.{name}", value, expected))

    def check(self) -> None:
        """Raises InvalidInput if there was any problem."""
        if self.problems:
            raise InvalidInput(f"{self._label} cannot be made of this row", self.problems)


class Common:
    """The fields that every output has."""

    def __init__(
        self,
        output: Output,
        suffix: str,
        mapping: Mapping,
        vocabulary: Vocabulary,
    ) -> None:
        self.zone = mapping.time_zone
        self.customer = text_of(output.customer, self.zone)
        self.at = moment_of_value(output.at, self.zone)
        self.id = text_of(output.id, self.zone) if output.id is not None else _row_id(suffix)
        self.vocabulary = vocabulary
        self.source = mapping.source

    def event(
        self, fields: Fields, row: Row, label: str, kind: str, facts: dict[str, object], **others: object
    ) -> JourneyEvent:
        """The validated event of a row, from what is common and what is given.

        Raises:
            InvalidInput: with every problem that was noted and every one that the event format has.
        """
        event_id = fields.required("id", self.id)
        customer_id = fields.required("customer", self.customer)
        occurred_at = fields.moment("at", self.at, latest=self.vocabulary.latest)
        arrived_at = others.pop("arrived_at", None)
        fields.check()
        return parse_event(
            {
                "event_id": event_id,
                "customer_id": customer_id,
                "kind": kind,
                "occurred_at": dump_timestamp(occurred_at),
                "facts": facts,
                **others,
            },
            taxonomy=self.vocabulary.taxonomy,
            source=self.source,
            arrived_at=arrived_at if isinstance(arrived_at, int) else occurred_at,
            position=row.number,
            path=label,
        )


def optional_text(value: Value | None, zone: str | None) -> Text | None:
    """The function that gives an optional value's text."""
    return None if value is None else text_of(value, zone)


def _row_id(suffix: str) -> Text:
    return lambda row: f"{row.file}#{row.number}{suffix}"


def _shown_moment(at: int) -> str:
    try:
        return dump_timestamp(at)
    except OverflowError:
        return f"{at} microseconds since 1970"
