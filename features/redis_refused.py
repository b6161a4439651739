"""What was lately refused, in the Redis that processes share: a list of each source, bounded and gone in a day."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from features.errors import StoreUnavailable
from features.online_location import RedisLocation
from features.redis_client import client_of, driver_failure
from features.refused_events import KEPT_OF_SOURCE, KEPT_SECONDS, KEPT_SOURCES, RefusedEvent, newest_first

PAUSE_SECONDS: Final = 1.0
"""After a failure nobody asks for so long: who sends events should not wait for what only tells of refused ones."""

_SOURCES: Final = "headway:refused"
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(RefusedEvent)


class RedisRefusedEvents:
    """Remembers in a Redis; any thread of any process may call.

    Args:
        location: the Redis.
        timer: a monotonic clock, seconds.
    """

    def __init__(self, location: RedisLocation, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._where = location.masked
        self._client: Any = client_of(location)
        self._timer = timer
        self._asks_again_at = float("-inf")

    def keep(self, source: str, refused: Sequence[RefusedEvent]) -> None:
        """Remember what was refused of a source, in one round trip.

        Raises:
            StoreUnavailable: the Redis does not answer, or did not a moment ago.
        """
        if not refused:
            return
        bounded = [_ENCODER.encode(one.bounded()) for one in refused[-KEPT_OF_SOURCE:]]
        key = _list_of(source)
        with self._asking(), self._client.pipeline(transaction=True) as pipe:
            pipe.lpush(key, *bounded)
            pipe.ltrim(key, 0, KEPT_OF_SOURCE - 1)
            pipe.expire(key, KEPT_SECONDS)
            pipe.zadd(_SOURCES, {source: refused[-1].received_at})
            pipe.zremrangebyrank(_SOURCES, 0, -KEPT_SOURCES - 1)
            pipe.expire(_SOURCES, KEPT_SECONDS)
            pipe.execute()

    def newest(self, source: str | None, *, since: int) -> list[RefusedEvent]:
        """What was refused of a source, or of all, newest first.

        Raises:
            StoreUnavailable: as ``keep``.
        """
        with self._asking():
            chosen = [source]
            if source is None:
                chosen = [name.decode() for name in self._client.zrevrange(_SOURCES, 0, KEPT_SOURCES - 1)]
            with self._client.pipeline(transaction=False) as pipe:
                for each in chosen:
                    pipe.lrange(_list_of(str(each)), 0, KEPT_OF_SOURCE - 1)
                lists = pipe.execute()
        return newest_first((_DECODER.decode(one) for each in lists for one in each), since=since)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self._timer() < self._asks_again_at:
            raise StoreUnavailable(f"{self._where}: did not answer a moment ago; expected it to: look at it")
        try:
            yield
        except Exception as error:
            failed = driver_failure(self._where, error)
            if isinstance(failed, StoreUnavailable):
                self._asks_again_at = self._timer() + PAUSE_SECONDS
            raise failed from error


def _list_of(source: str) -> str:
    return f"{_SOURCES}:{source}"
