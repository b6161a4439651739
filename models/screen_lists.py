"""Lists of people to be screened, and what becomes of each row: values alone."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from models.audiences import Pins
from models.removals import Removal

FileFormat = Literal["csv", "parquet"]

MOST_ROWS: Final = 100_000


class ScreenRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a list.

    Attributes:
        action_id: what they are to get; None for anything.
        channel: over which; None for any.
    """

    customer_id: str
    action_id: str | None = None
    channel: str | None = None


class ScreenRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list as it was sent, once it was found to be valid.

    Attributes:
        contact_at: when they are to be contacted, microseconds since the epoch; None for at once.
    """

    journey_id: str
    rows: tuple[ScreenRow, ...]
    contact_at: int | None = None
    format: FileFormat = "csv"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row.

    Attributes:
        row: its place in the list, from 0.
        reason: why it was removed; None of one that is kept.
        rule_ids: the rules that stood in the way of what came furthest.
        treatment_ids: of a row that is kept, what the person may get.
    """

    row: int
    customer_id: str
    action_id: str | None
    channel: str | None
    kept: bool
    reason: Removal | None = None
    rule_ids: tuple[str, ...] = ()
    treatment_ids: tuple[str, ...] = ()


class ScreenSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of what the job of a screening is told."""

    request: ScreenRequest
    pins: Pins
