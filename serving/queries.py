"""Query parameters as they come in, with every bad one named; and places to go on from, opaque to callers."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from features.events import parse_timestamp
from serving.requests import Fields

Words = Mapping[str, Sequence[str]]
"""Query parameters, each with every value given."""

END_OF_TIME: Final = 253_402_300_800_000_000
"""The year 10000, which no timestamp reaches."""

SAME_QUERY: Final = "the next_cursor of an answer to the same query"


class Query(Fields):
    """Reads query parameters, noting every problem instead of stopping at the first."""

    @classmethod
    def of_words(cls, words: Words, allowed: Collection[str]) -> Query:
        """The parameters of a call; unknown ones, and those given more than once, are noted."""
        query = cls({name: values[0] for name, values in words.items()}, "?")
        query.refuse_unknown(allowed)
        for name, values in words.items():
            if name in allowed and len(values) > 1:
                query.add(name, list(values), "one value")
        return query

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number within bounds."""
        text: str | None = self.value(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= most):
            self.add(name, text, f"an integer from {least} to {most}")
            return default
        return int(text)

    def yes_or_no(self, name: str) -> bool | None:
        """``true`` or ``false``; None where it is missing."""
        text = self.choice(name, ("true", "false"), "")
        return None if not text else text == "true"

    def moment(self, name: str) -> int | None:
        """A timestamp with an offset, from 1970 on, in microseconds since the epoch."""
        text = self.timestamp(name)
        if text is None:
            return None
        at = parse_timestamp(text)
        if at < 0:
            self.add(name, text, "an ISO 8601 timestamp with an offset, from 1970 on")
            return None
        return at


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where to go on, and within which time, whatever has come in since.

    Attributes:
        query: digest of the query that it belongs to.
        since: microseconds since the epoch.
        until: likewise.
        at: moment of the last one that was looked at.
        id: its id.
    """

    query: str
    since: int
    until: int
    at: int
    id: str


def dump_cursor(cursor: Cursor) -> str:
    """A cursor as callers carry it."""
    return urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def cursor_of(query: Query, digest: str) -> Cursor | None:
    """The cursor of a query, if it has one; one that is none, or another query's, is noted."""
    text: str | None = query.value("cursor")
    if text is None:
        return None
    try:
        cursor = msgspec.msgpack.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Cursor)
    except (msgspec.DecodeError, NotBase64, ValueError):
        cursor = None
    if cursor is None or cursor.query != digest or not _is_possible(cursor):
        query.add("cursor", text, SAME_QUERY)
        return None
    return cursor


def _is_possible(cursor: Cursor) -> bool:
    """Whether it can be one of ours: times beyond would not fit into a store or a timestamp."""
    return 0 <= cursor.since <= cursor.until <= END_OF_TIME and 0 <= cursor.at <= END_OF_TIME


def query_digest(*parts: Any) -> str:
    """What tells one query from another."""
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=8).hexdigest()
