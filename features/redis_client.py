"""Connections to a Redis, its errors, and the place where an epoch stands; the one module that imports ``redis``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from features.errors import Refused, StoreUnavailable
from features.online_location import VARIABLE, RedisLocation
from features.redis_epoch import Epoch

if TYPE_CHECKING:
    from redis import Redis

EPOCH_KEY: Final = b"headway:epoch"
TIMEOUT_SECONDS: Final = 0.25
"""For a connection, and for every answer: a decision has better things to do than to wait for a cache."""

_REPLACE: Final = """
local found = redis.call('GET', KEYS[1])
if (ARGV[1] == '' and found) or (ARGV[1] ~= '' and found ~= ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


def client_of(location: RedisLocation) -> Redis:
    """A client that gives up soon: once more on a connection that turns out to be dead, and never after a timeout.

    Raises:
        Refused: the package ``redis`` is not installed.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ModuleNotFoundError as error:
        raise Refused(
            f"{VARIABLE} is {location.masked}, expected the package redis for it: "
            f"install headway with the extra `server`"
        ) from error
    return redis.Redis.from_url(
        location.url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        health_check_interval=0,
    )


class RedisEpochCell:
    """Where the epoch stands."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._replace: Callable[..., Any] = client.register_script(_REPLACE)

    def value(self) -> str | None:
        """What stands there."""
        found: Any = self._client.get(EPOCH_KEY)
        return None if found is None else bytes(found).decode("utf-8", "replace")

    def replace(self, expected: str | None, new: str) -> bool:
        """Put ``new`` where ``expected`` stands, at once."""
        return bool(self._replace(keys=(EPOCH_KEY,), args=(expected or "", new)))


def check_keeper(location: RedisLocation, epoch_file: Path) -> None:
    """Nothing, unless another home keeps the Redis. One that does not answer says nothing about that.

    Raises:
        Refused: another home keeps it, or the package ``redis`` is not installed.
    """
    client = client_of(location)
    try:
        Epoch(epoch_file, RedisEpochCell(client), lambda: None, location.masked).check()
    except Exception as error:
        if not isinstance(driver_failure(location.masked, error), StoreUnavailable):
            raise
    finally:
        client.close()


def driver_failure(where: str, error: Exception) -> Exception:
    """What an error means for the store at ``where``; the error itself where it is none of the driver's."""
    from redis.exceptions import RedisError

    if not isinstance(error, RedisError | OSError):
        return error
    return StoreUnavailable(f"{where}: {error}; expected a Redis that answers within {TIMEOUT_SECONDS:g} s: look at it")
