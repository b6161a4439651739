"""Values of command line options that several commands take."""

from __future__ import annotations

from features.errors import Refused
from features.events import parse_timestamp


def moment_option(option: str, text: str | None) -> int | None:
    """The moment that an option gives, microseconds since the epoch; None where it was not given.

    Raises:
        Refused: it is no timestamp, or has no offset.
    """
    try:
        return None if text is None else parse_timestamp(text)
    except (ValueError, OverflowError) as error:
        expected = "an ISO 8601 timestamp with an offset, such as 2026-03-01T00:00:00Z"
        raise Refused(f"{option}: got {text}, expected {expected}") from error
