"""Calls of tracking SDKs and what became of them, as told inside and on the wire, in the names that the SDKs send."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from features.errors import Problem
from features.tracked_calls import CallType, Drop, DropReason
from serving.problems import ProblemDetails
from serving.schemas import Timestamp
from serving.views import Rejection

MAX_BATCH_BYTES: Final = 500 << 10
"""What the SDKs send at most: 475,000 bytes, one event more, and what stands around them."""

MAX_CALL_BYTES: Final = 32 << 10
MAX_LISTED_DROPS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingReport:
    """What became of some calls; accepted + duplicates + rejected + dropped is how many there were.

    Attributes:
        rejected: index of each refused call and everything wrong with it.
        dropped: calls of which nothing is kept.
        drops: what is not kept, by the index of its call, where it stands in the body, and why.
        late: indices of outcomes that happened after their reward window.
        degraded: what could not be brought up to date.
    """

    accepted: int
    duplicates: int
    rejected: tuple[tuple[int, tuple[Problem, ...]], ...]
    dropped: int
    drops: tuple[tuple[int, Drop], ...]
    late: tuple[int, ...]
    degraded: tuple[str, ...]

    @property
    def drops_by_reason(self) -> dict[DropReason, int]:
        """How many there are of each reason."""
        return dict(Counter(drop.reason for _, drop in self.drops))


class TrackingCall(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One call of a tracking SDK; other fields may be there, and say nothing here.

    Attributes:
        type: what it is; in a batch it must be there, else the path says it.
        messageId: with the key's source, the identity: sent twice it counts once. By default made from the content.
        userId: the customer; a whole number will do.
        anonymousId: who it is about while nobody knows the customer; with `identify` both are linked.
        previousId: of `alias`, the id that turned out to be the user's.
        groupId: of `group`, which one.
        event: of `track`, what happened: the name of a kind, the id of an outcome, or a name that the taxonomy's
            `tracking` maps.
        name: of `page` and `screen`, which one.
        category: of `page` and `screen`, which sort.
        properties: what becomes facts, by name.
        traits: what becomes attributes, by name.
        context: what it was made in: `page` says a browser, `device` or `app` a mobile app.
        integrations: with `"Headway": false` nothing is kept; with `"All": false` neither, unless `Headway` is true.
        channel: `web`, `browser`, `mobile` or `server`.
        timestamp: when it happened, by the sender's clock; by default now.
        originalTimestamp: the same, before somebody on the way changed it; it comes first.
        sentAt: when it was sent, by the sender's clock, which is set right by it; by default the batch's.
    """

    type: CallType | None = None
    message_id: str | int | None = None
    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    previous_id: str | int | None = None
    group_id: str | int | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    channel: str | None = None
    timestamp: Timestamp | None = None
    original_timestamp: Timestamp | None = None
    sent_at: Timestamp | None = None


class TrackingBatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Calls of a tracking SDK; each is accepted, known already, rejected or dropped by itself.

    Attributes:
        sentAt: when it was sent, by the sender's clock.
        context: what all calls were made in; a call may say otherwise.
        integrations: likewise.
        writeKey: not read: the key comes in the header.
    """

    batch: Annotated[tuple[TrackingCall, ...], Meta(min_length=1)]
    sent_at: Timestamp | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    write_key: str | None = None


class DropView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not kept of a call.

    Attributes:
        index: of the call in its batch.
        pointer: JSON pointer (RFC 6901) into the body.
        reason: `sender_wish`: the sender switched us off; `unknown_event`: no kind is called so; `nothing_declared`:
            the taxonomy has a place for nothing of the call; `not_declared`: for this property or trait;
            `does_not_fit`: its value is not of the declared type; `not_allowed`: this key may not say it.
    """

    index: int
    pointer: str
    reason: DropReason


class TrackingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch: ``accepted + duplicate + rejected + dropped`` is how many calls were sent.

    Attributes:
        success: always true: the batch was taken, and everything accepted is on disk.
        duplicate: calls of which everything was known already; nothing changed.
        rejected: calls with something that cannot be; what else they said is kept.
        dropped: calls of which nothing is kept, because of what the taxonomy declares, the sender wishes or
            the key may say.
        rejections: every rejected call by its index in the batch.
        drops_by_reason: how many calls, properties and traits are not kept, by reason.
        drops: which; the first 100 of them.
        late: indices of outcomes that happened after their reward window.
        degraded: what could not be brought up to date yet; nothing accepted is lost.
    """

    success: Literal[True] = True
    accepted: int
    duplicate: int
    rejected: int
    dropped: int
    rejections: tuple[Rejection, ...]
    drops_by_reason: dict[DropReason, int]
    drops: Annotated[tuple[DropView, ...], Meta(max_length=MAX_LISTED_DROPS)]
    late: tuple[int, ...]
    degraded: tuple[str, ...]


class TrackingProblem(ProblemDetails, frozen=True, kw_only=True):
    """The body of every answer that is not a success, with what the SDKs look for besides.

    Attributes:
        type: path of the page that explains this type of problem.
        detail: what was wrong this time, and what to do.
        errors: every bad field, where fields are at fault.
        code: the last part of `type`.
        message: the same as `detail`.
    """

    code: str
    message: str
