"""What a stored request asked, as far as the decision goes: read from its canonical bytes, to be asked again.

The door's own request says more (who asked, how long they would wait); that is none of the decision's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import msgspec

from features.errors import StoreCorrupted
from models.actions import channel_of_placement
from models.funnel import Question
from models.situation import Value


class Filter(Protocol):
    """Which actions may be candidates."""

    @property
    def include(self) -> tuple[str, ...]:
        """Action ids; where given, only these."""
        ...

    @property
    def exclude(self) -> tuple[str, ...]:
        """Action ids never to be candidates."""
        ...

    @property
    def issues(self) -> tuple[str, ...]:
        """Where given, only actions of these issues."""
        ...


class Asks(Protocol):
    """The part of a request that a decision depends on."""

    @property
    def channel(self) -> str | None:
        """Where given, only treatments of this channel are candidates."""
        ...

    @property
    def direction(self) -> str:
        """``outbound`` where we reach out."""
        ...

    @property
    def placements(self) -> tuple[str, ...]:
        """Places to fill, ``channel/name``."""
        ...

    @property
    def context(self) -> Mapping[str, str | float | bool | None]:
        """Facts of the moment."""
        ...

    @property
    def candidates(self) -> Filter:
        """Which actions may be candidates."""
        ...


class _StoredFilter(msgspec.Struct, frozen=True, kw_only=True):
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A stored request. What a canonical request leaves out had its default when it was asked.

    Attributes:
        request_id: the idempotency key.
        mode: never ``dry_run``, which is not stored.
        send_id: one send of a marketing tool.
        activate: count the contacts of the decision from its commit on.
    """

    request_id: str = ""
    mode: str = "live"
    channel: str | None = None
    direction: str = "outbound"
    placements: tuple[str, ...] = ()
    context: dict[str, str | float | bool | None] = {}
    candidates: _StoredFilter = _StoredFilter()
    send_id: str | None = None
    activate: bool = True


_DECODER = msgspec.json.Decoder(Asked)


def asked_in(canonical: bytes) -> Asked:
    """The request that canonical bytes hold.

    Raises:
        StoreCorrupted: they hold none.
    """
    try:
        return _DECODER.decode(canonical)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreCorrupted(f"a stored request cannot be read: {error}; expected canonical JSON") from error


def request_hash(canonical: bytes) -> str:
    """Hash of a canonical request: the same request id with another hash is a conflict."""
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def question_of(asked: Asks, *, at: int, lost: Mapping[str, str], out_of_time: bool = False) -> Question:
    """What the caller allows.

    Args:
        asked: the request.
        at: the moment, microseconds since the epoch.
        lost: treatments that lost a race for a contact, with the cap that was reached.
        out_of_time: the deadline had passed before anything was scored.
    """
    return Question(
        at=at,
        outbound=asked.direction == "outbound",
        channels=_channels(asked),
        include=frozenset(asked.candidates.include),
        exclude=frozenset(asked.candidates.exclude),
        issues=frozenset(asked.candidates.issues),
        placements=asked.placements,
        lost=dict(lost),
        out_of_time=out_of_time,
    )


def stated_context(asked: Asks) -> dict[str, Value]:
    """The request's own facts; null says nothing."""
    return {name: value for name, value in asked.context.items() if value is not None}


def _channels(asked: Asks) -> frozenset[str] | None:
    if asked.channel is not None:
        return frozenset([asked.channel])
    return frozenset(map(channel_of_placement, asked.placements)) or None
