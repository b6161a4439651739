"""Batches that fit the service's bounds, and what became of all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from serving.problems import FieldError
from serving.schemas import EventDocument, ExposureDocument, OutcomeDocument
from serving.views import BatchAnswer, OutcomesAnswer, Rejection

MOST_ITEMS: Final = 1_000
MOST_BYTES: Final = 1 << 20
"""Far below what the service takes by default: a batch that has to be sent again is soon sent again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that are sent together.

    Attributes:
        first: position of the first one among all.
        body: JSON.
    """

    first: int
    body: bytes


def event_batches(events: Iterable[EventDocument]) -> Iterator[Batch]:
    """Batches of events. One without a ``sequence`` gets its position, so that equal times keep their order."""
    placed = (
        event if event.sequence is not None else msgspec.structs.replace(event, sequence=position)
        for position, event in enumerate(events)
    )
    return _batches("events", placed)


def outcome_batches(outcomes: Iterable[ExposureDocument | OutcomeDocument]) -> Iterator[Batch]:
    """Batches of exposures and outcomes."""
    return _batches("outcomes", outcomes)


def one_batch(events: Iterable[EventDocument]) -> Batch:
    """All events in one batch, however many."""
    return _batch("events", 0, [body_of(event) for event in events])


def body_of(document: msgspec.Struct) -> bytes:
    """JSON of a request, without what is not said: an older service need not know it."""
    said: dict[str, object] = msgspec.to_builtins(document)
    return msgspec.json.encode({name: value for name, value in said.items() if value is not None})


def _batches(key: str, documents: Iterable[msgspec.Struct]) -> Iterator[Batch]:
    items: list[bytes] = []
    first = size = 0
    for position, document in enumerate(documents):
        item = body_of(document)
        if items and (len(items) >= MOST_ITEMS or size + len(item) > MOST_BYTES):
            yield _batch(key, first, items)
            items, first, size = [], position, 0
        items.append(item)
        size += len(item) + 1
    if items:
        yield _batch(key, first, items)


def _batch(key: str, first: int, items: Sequence[bytes]) -> Batch:
    return Batch(first, b'{"%b":[%b]}' % (key.encode(), b",".join(items)))


@dataclass(slots=True)
class Tally:
    """What became of the batches so far, with positions among all items."""

    accepted: int = 0
    duplicate: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    degraded: dict[str, None] = field(default_factory=dict)
    late: list[int] = field(default_factory=list)

    def add(self, batch: Batch, answer: BatchAnswer, *, key: str) -> None:
        """Count one more."""
        self.accepted += answer.accepted
        self.duplicate += answer.duplicate
        self.degraded.update(dict.fromkeys(answer.degraded))
        for one in answer.rejections:
            at = one.index + batch.first
            errors = tuple(_moved(error, f"/{key}/{one.index}", f"/{key}/{at}") for error in one.errors)
            self.rejections.append(Rejection(index=at, errors=errors))
        if isinstance(answer, OutcomesAnswer):
            self.late += [index + batch.first for index in answer.late]

    def events(self) -> BatchAnswer:
        """All of it, of events."""
        return BatchAnswer(
            accepted=self.accepted,
            duplicate=self.duplicate,
            rejected=len(self.rejections),
            rejections=tuple(self.rejections),
            degraded=tuple(self.degraded),
        )

    def outcomes(self) -> OutcomesAnswer:
        """All of it, of exposures and outcomes."""
        return OutcomesAnswer(
            accepted=self.accepted,
            duplicate=self.duplicate,
            rejected=len(self.rejections),
            rejections=tuple(self.rejections),
            degraded=tuple(self.degraded),
            late=tuple(self.late),
        )


def _moved(error: FieldError, old: str, new: str) -> FieldError:
    is_inside = error.pointer == old or error.pointer.startswith(old + "/")
    return msgspec.structs.replace(error, pointer=new + error.pointer[len(old) :]) if is_inside else error
