"""What Feast keeps, under which names: the one statement of it, for Feast's objects and for readers of its bytes.

Two wide views, since every view costs a round trip in Feast: ``customer_journey_state`` holds a customer's state in one
journey, a named array per field; ``customer_profile`` holds typed attributes, consents and holdings. Nothing here
imports Feast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import numpy as np

from features.kernel import Floats
from features.schema import FeatureSet
from features.store import ProfileRow, StateRow
from features.taxonomy import Attribute, Taxonomy

PROJECT: Final = "headway"
STATE_VIEW: Final = "customer_journey_state"
PROFILE_VIEW: Final = "customer_profile"
CUSTOMER_KEY: Final = "customer_id"
JOURNEY_KEY: Final = "journey_id"
EVENT_TIME: Final = "event_timestamp"
CREATED_TIME: Final = "created_timestamp"

CONSENTS: Final = "consents"
HOLDINGS: Final = "holdings"
UPDATED_AT: Final = "updated_at"

ColumnType: TypeAlias = Literal["floats", "texts", "text", "integer", "number", "boolean"]
ColumnValue: TypeAlias = Floats | Sequence[str] | str | int | float | bool | None

STATE_COLUMNS: Final[Mapping[str, ColumnType]] = {
    "version": "text",
    "last_event_at": "integer",
    "last_sequence": "integer",
    "last_source": "text",
    "last_event_id": "text",
    "log_position": "integer",
}
"""Columns of the state view beside the fields of the state vector."""

_ATTRIBUTE_COLUMN: Final[Mapping[str, ColumnType]] = {
    "number": "number",
    "boolean": "boolean",
    "category": "text",
    "text": "text",
}


_ATTRIBUTE_SUFFIX: Final = "_attribute"
_ATTRIBUTE_TYPES: Final = (str, float, bool)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of both views.

    Attributes:
        fields: names of the state vector's fields, in order; the same for every journey, each with its own lengths.
        attributes: the declared attributes.
    """

    fields: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    @property
    def state(self) -> dict[str, ColumnType]:
        """Columns of the state view."""
        return {**dict.fromkeys(self.fields, "floats"), **STATE_COLUMNS}

    @property
    def profile(self) -> dict[str, ColumnType]:
        """Columns of the profile view."""
        attributes = {
            attribute_column(name): _ATTRIBUTE_COLUMN[attribute.dtype] for name, attribute in self.attributes.items()
        }
        return {**attributes, CONSENTS: "texts", HOLDINGS: "texts", UPDATED_AT: "integer"}


def layout(feature_sets: Iterable[FeatureSet], taxonomy: Taxonomy) -> Layout:
    """The layout that holds the states of all ``feature_sets`` and the profiles of ``taxonomy``.

    Raises:
        ValueError: there is no feature set, or two disagree on the names of their fields.
    """
    names = {tuple(state_field.name for state_field in each.fields) for each in feature_sets}
    if len(names) != 1:
        raise ValueError(f"{len(names)} lists of state fields, expected exactly one: {sorted(names)}")
    return Layout(names.pop(), taxonomy.attributes)


def attribute_column(name: str) -> str:
    """The column of an attribute.

    The suffix keeps it apart from the view's other columns, and from Feast's historical join, which drops every column
    whose name ends in ``_y``.
    """
    return name + _ATTRIBUTE_SUFFIX


@lru_cache(maxsize=1024)  # every read asks for the same few
def _attribute_of(column: str) -> str:
    """The attribute that a column holds; an empty text where it holds none."""
    return column.removesuffix(_ATTRIBUTE_SUFFIX) if column.endswith(_ATTRIBUTE_SUFFIX) else ""


def state_columns(row: StateRow, feature_set: FeatureSet) -> dict[str, ColumnValue]:
    """A state as the columns of its view, keys left out."""
    return {**feature_set.split(row.vector), **state_only(row)}


def state_only(row: StateRow) -> dict[str, ColumnValue]:
    """The columns of a state beside the fields of its vector."""
    return {name: getattr(row, name) for name in STATE_COLUMNS}


def state_row(
    customer_id: str, journey_id: str, columns: Mapping[str, ColumnValue], fields: Sequence[str]
) -> StateRow | None:
    """The state that columns hold, keys left out; None where a column is missing, as under another layout."""
    if any(columns.get(name) is None for name in fields):
        return None
    vector = np.concatenate([np.asarray(columns[name], dtype=np.float64) for name in fields])
    return state_of_vector(customer_id, journey_id, columns, vector)


def state_of_vector(
    customer_id: str, journey_id: str, columns: Mapping[str, ColumnValue], vector: Floats
) -> StateRow | None:
    """``state_row`` where the fields were joined already."""
    if any(columns.get(name) is None for name in STATE_COLUMNS):
        return None
    return StateRow(
        customer_id=customer_id,
        journey_id=journey_id,
        version=str(columns["version"]),
        vector=vector,
        last_event_at=_integer(columns["last_event_at"]),
        last_sequence=_integer(columns["last_sequence"]),
        last_source=str(columns["last_source"]),
        last_event_id=str(columns["last_event_id"]),
        log_position=_integer(columns["log_position"]),
    )


def profile_columns(row: ProfileRow, attributes: Mapping[str, Attribute]) -> dict[str, ColumnValue]:
    """A profile as the columns of its view, the key left out; None for an attribute that is not known."""
    return {
        **{attribute_column(name): row.attributes.get(name) for name in attributes},
        CONSENTS: [f"{name}:{state}" for name, state in sorted(row.consents.items())],
        HOLDINGS: sorted(row.holdings),
        UPDATED_AT: row.updated_at,
    }


def profile_row(
    customer_id: str, columns: Mapping[str, ColumnValue], attributes: Mapping[str, Attribute]
) -> ProfileRow | None:
    """The profile that columns hold, the key left out; None where there is none."""
    if columns.get(UPDATED_AT) is None:
        return None
    return ProfileRow(
        customer_id=customer_id,
        attributes={
            name: value
            for column, value in columns.items()
            if (name := _attribute_of(column)) in attributes and isinstance(value, _ATTRIBUTE_TYPES)
        },
        consents=dict([_consent(text) for text in _texts(columns.get(CONSENTS))]),
        holdings=frozenset(_texts(columns.get(HOLDINGS))),
        updated_at=_integer(columns[UPDATED_AT]),
    )


def _consent(text: str) -> tuple[str, str]:
    name, _, state = text.rpartition(":")  # a state never holds a colon, a name may
    return name, state


def _texts(value: ColumnValue) -> Sequence[str]:
    return [] if value is None or isinstance(value, str | int | float) else [str(text) for text in value]


def _integer(value: ColumnValue) -> int:
    if not isinstance(value, int | np.integer):
        raise TypeError(f"got {value!r}, expected an integer")
    return int(value)
