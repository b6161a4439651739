"""Rows of the feature store as the messages that Feast keeps, whatever database keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from features.errors import Refused
from features.feast_layout import (
    CUSTOMER_KEY,
    JOURNEY_KEY,
    STATE_COLUMNS,
    ColumnType,
    ColumnValue,
    layout,
    profile_columns,
    profile_row,
    state_of_vector,
    state_only,
    state_row,
)
from features.feast_values import FloatRuns, decode_value, encode_value, entity_key
from features.schema import FeatureSet
from features.store import ProfileRow, StateRow
from features.taxonomy import Taxonomy

Message: TypeAlias = tuple[str, bytes, str | None]
"""A column's name, its value as Feast writes it, and the text that some of Feast's stores keep beside it."""


class FeastRows:
    """Translates states and profiles to messages and back.

    Args:
        feature_sets: the feature sets whose states are kept, by journey.
        taxonomy: the taxonomy whose profiles are kept.
    """

    def __init__(self, feature_sets: Mapping[str, FeatureSet], taxonomy: Taxonomy) -> None:
        self._layout = layout(feature_sets.values(), taxonomy)
        self._runs = {
            journey_id: FloatRuns({each.name: len(each.slots) for each in feature_set.fields})
            for journey_id, feature_set in feature_sets.items()
        }
        self._profile_types: Final = self._layout.profile

    @property
    def state_names(self) -> tuple[str, ...]:
        """The columns of a state, in order."""
        return tuple(self._layout.state)

    @property
    def profile_names(self) -> tuple[str, ...]:
        """The columns of a profile, in order."""
        return tuple(self._profile_types)

    def state(self, customer_id: str, journey_id: str, messages: Mapping[str, bytes]) -> StateRow | None:
        """The state in a row's messages; None where there are none, or where another layout wrote them.

        Raises:
            StoreCorrupted: a message is no value.
        """
        if not messages:
            return None
        runs = self._runs.get(journey_id)
        vector = None if runs is None else runs.decoded(messages)
        if vector is None:  # another layout wrote it
            return state_row(customer_id, journey_id, _columns(messages), self._layout.fields)
        others = {name: decode_value(messages[name]) for name in STATE_COLUMNS if name in messages}
        return state_of_vector(customer_id, journey_id, others, vector)

    def profile(self, customer_id: str, messages: Mapping[str, bytes]) -> ProfileRow | None:
        """The profile in a row's messages, likewise."""
        return profile_row(customer_id, _columns(messages), self._layout.attributes) if messages else None

    def state_messages(self, row: StateRow) -> Iterator[Message]:
        """A state's messages.

        Raises:
            Refused: a state of a journey that this was not made for.
        """
        runs = self._runs.get(row.journey_id)
        if runs is None:
            raise Refused(
                f"a state of the journey {row.journey_id!r}, expected one of {', '.join(self._runs)}: "
                f"open the store with the configuration that declares it"
            )
        for name, data in runs.encoded(row.vector):
            yield name, data, None
        yield from _messages(state_only(row), STATE_COLUMNS)

    def profile_messages(self, row: ProfileRow) -> Iterator[Message]:
        """A profile's messages."""
        return _messages(profile_columns(row, self._layout.attributes), self._profile_types)


def state_key(customer_id: str, journey_id: str) -> bytes:
    """Feast's key of a customer's state in a journey."""
    return entity_key({CUSTOMER_KEY: customer_id, JOURNEY_KEY: journey_id})


def profile_key(customer_id: str) -> bytes:
    """Feast's key of a customer's profile."""
    return entity_key({CUSTOMER_KEY: customer_id})


def _columns(messages: Mapping[str, bytes]) -> dict[str, ColumnValue]:
    return {name: decode_value(data) for name, data in messages.items() if data}  # no bytes are no value


def _messages(columns: Mapping[str, ColumnValue], types: Mapping[str, ColumnType]) -> Iterator[Message]:
    for name, value in columns.items():
        data, text = encode_value(value, types[name])
        yield name, data, text
