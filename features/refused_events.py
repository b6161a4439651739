"""What was lately refused of what senders sent: a bounded memory by source, for whoever connects a sender.

It says which field of which event was refused and why, and holds nothing of what the field said: that may be personal,
and no erasure would find it here.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, Literal, Protocol

import msgspec

Refusal = Literal["rejected", "dropped"]
Door = Literal["events", "tracking"]

KEPT_OF_SOURCE: Final = 200
KEPT_SOURCES: Final = 100
"""Those that were refused something last."""

KEPT_SECONDS: Final = 86_400
LONGEST_TEXT: Final = 200
"""Characters of each text: with all of this the memory holds less than 30 MB, whatever is sent."""

_QUOTED: Final = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|['"].*\.\.\.""", re.DOTALL)
"""What `shown` has made of text: in quotes, or cut before its end."""


class RefusedEvent(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One field of an event, or a whole event, that was refused.

    Attributes:
        received_at: when it came, microseconds since the epoch.
        door: which way it came: as an event, or as a call of a tracking SDK.
        event_id: as its sender named it; None where it has none that is text.
        kind: likewise; of a call its ``event``, or its type.
        pointer: JSON pointer (RFC 6901) into the body that it was in.
        reason: for machines.
        expected: what would have been accepted; empty for what was dropped.
    """

    source: str
    received_at: int
    status: Refusal
    door: Door
    event_id: str | None
    kind: str | None
    pointer: str
    reason: str
    expected: str = ""

    def bounded(self) -> RefusedEvent:
        """The same with each text cut, and nothing of what was sent in what was expected."""
        return msgspec.structs.replace(
            self,
            event_id=_cut(self.event_id),
            kind=_cut(self.kind),
            pointer=_cut(self.pointer) or "",
            expected=_cut(_QUOTED.sub("(masked)", self.expected)) or "",
        )


class RefusedEvents(Protocol):
    """Remembers what was refused: the newest of each source, for a day."""

    def keep(self, source: str, refused: Sequence[RefusedEvent]) -> None:
        """Remember what was refused of a source, in the order that it came.

        Raises:
            StoreUnavailable: it does not answer.
        """

    def newest(self, source: str | None, *, since: int) -> list[RefusedEvent]:
        """What was refused of a source, or of all, from a moment on, newest first.

        Raises:
            StoreUnavailable: it does not answer.
        """


class MemoryRefusedEvents:
    """Remembers in this process; any thread may call."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._by_source: OrderedDict[str, deque[RefusedEvent]] = OrderedDict()

    def keep(self, source: str, refused: Sequence[RefusedEvent]) -> None:
        """Remember what was refused of a source."""
        if not refused:
            return
        bounded = [one.bounded() for one in refused[-KEPT_OF_SOURCE:]]
        with self._guard:
            self._by_source.setdefault(source, deque(maxlen=KEPT_OF_SOURCE)).extend(bounded)
            self._by_source.move_to_end(source)
            while len(self._by_source) > KEPT_SOURCES:
                self._by_source.popitem(last=False)

    def newest(self, source: str | None, *, since: int) -> list[RefusedEvent]:
        """What was refused of a source, or of all, newest first."""
        with self._guard:
            chosen = self._by_source if source is None else (source,)
            found = [one for each in chosen for one in reversed(self._by_source.get(each, ()))]
        return newest_first(found, since=since)


def newest_first(refused: Iterable[RefusedEvent], *, since: int) -> list[RefusedEvent]:
    """Those from a moment on, the newest first; of one moment as they are given."""
    return sorted((one for one in refused if one.received_at >= since), key=lambda one: -one.received_at)


def last_of(refused: Iterable[RefusedEvent]) -> list[RefusedEvent]:
    """As many as are kept of a source, of those that are given newest first, in the order that they came."""
    return list(islice(refused, KEPT_OF_SOURCE))[::-1]


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 3]}..."
