"""Whether Feast reads what our online store holds: the check that the hot path may go round Feast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from features.errors import StoreCorrupted
from features.store import CustomerRow, FeatureStore, StateRow

_STATE_FIELDS: Final = tuple(name for name in StateRow.__slots__ if name != "vector")


def check_parity(ours: FeatureStore, feasts: FeatureStore, keys: Iterable[tuple[str, str]]) -> int:
    """Read customers in journeys through both stores; the number of rows that were compared and equal, bit for bit.

    Raises:
        StoreCorrupted: two rows differ.
        StoreUnavailable: a store does not answer.
    """
    compared = 0
    for customer_id, journey_id in keys:
        own, feast = ours.read(customer_id, journey_id), feasts.read(customer_id, journey_id)
        if differing := differences(own, feast):
            raise StoreCorrupted(
                f"customer {customer_id!r} in {journey_id}: our reader and Feast's disagree on {', '.join(differing)}; "
                f"expected equal values: is this a version of Feast that was not tested? Until it is, serve with "
                f"HEADWAY_FEATURE_READER=feast"
            )
        compared += 1
    return compared


def differences(one: CustomerRow, other: CustomerRow) -> list[str]:
    """What two reads of a customer disagree on, by name; bits count, so that NaN equals NaN and 0 is not -0."""
    if (one.state is None) != (other.state is None):
        return ["whether there is a state"]
    found = [] if one.profile == other.profile else ["the profile"]
    if one.state is not None and other.state is not None:
        found += [name for name in _STATE_FIELDS if getattr(one.state, name) != getattr(other.state, name)]
        if one.state.vector.tobytes() != other.state.vector.tobytes():
            found.append("the state vector")
    return found
