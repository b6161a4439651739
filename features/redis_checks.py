"""Checks of the Redis behind an online store: that it answers, keeps what it is given, and is this home's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

from features.check_findings import Finding, failed, not_applicable, passed, warned
from features.errors import Refused, StoreUnavailable
from features.machine_checks import clock_skew
from features.online_location import RedisLocation
from features.redis_client import RedisEpochCell, client_of, driver_failure
from features.redis_epoch import kept_epoch

T = TypeVar("T")

OLDEST_VERSION: Final = (4, 0)
"""The first one with ``UNLINK`` and an ``HSET`` of many fields."""
FULL_RATIO: Final = 0.9
"""So much of ``maxmemory`` may be used."""

_MEBIBYTE: Final = 1 << 20
_BACKFILL: Final = "run `headway features backfill` with the service stopped"


def redis_findings(location: RedisLocation, epoch_file: Path, clock: Callable[[], int]) -> list[Finding]:
    """What there is to say of a Redis; one finding alone where it does not answer.

    Args:
        location: the Redis.
        epoch_file: keeps the home's epoch; it is not made.
        clock: now, microseconds since the epoch.
    """
    try:
        client = client_of(location)
    except Refused as error:
        remedy = "uv sync --locked --no-dev --extra server"
        return [failed("redis", str(error), expected="the package redis", remedy=remedy)]
    with closing(client):
        found = _asked(location, RedisEpochCell(client).value)
        if isinstance(found, StoreUnavailable):
            return [_unreachable(found)]
        asked_at = clock()
        moment: Any = _asked(location, client.time)
        now = (asked_at + clock()) // 2
        told: Any = _asked(location, client.info)
    findings = [passed("redis", f"{location.masked} answers"), epoch(found, kept_epoch(epoch_file))]
    if isinstance(moment, StoreUnavailable):
        findings.append(_not_told("redis clock", "TIME", moment))
    else:
        seconds, microseconds = moment
        findings.append(clock_skew("redis", int(seconds) * 1_000_000 + int(microseconds), now))
    if isinstance(told, StoreUnavailable):
        return [*findings, _not_told("redis set-up", "INFO", told)]
    return [*findings, version(told), role(told), eviction(told), memory(told), persistence(told)]


def _asked(location: RedisLocation, question: Callable[[], T]) -> T | StoreUnavailable:
    try:
        return question()
    except Exception as error:
        failure = driver_failure(location.masked, error)
        if not isinstance(failure, StoreUnavailable):
            raise
        return failure


def _unreachable(error: StoreUnavailable) -> Finding:
    return failed(
        "redis",
        str(error),
        expected="an answer; without one each decision rebuilds its customer's state from the event log",
        remedy="start the Redis, or correct HEADWAY_ONLINE_STORE (address, user, password, database)",
    )


def _not_told(name: str, command: str, error: StoreUnavailable) -> Finding:
    return warned(
        name,
        f"it does not tell: {error}",
        expected=f"an answer to {command}",
        remedy=f"let its user run it (`ACL SETUSER <user> +{command.lower()}`), or look for yourself",
    )


def epoch(found: str | None, own: str | None) -> Finding:
    """Whether the rows in the Redis are this home's.

    Args:
        found: the epoch that stands in it.
        own: the home's.
    """
    name = "redis epoch"
    if found is None and own is None:
        return not_applicable(name, "neither the Redis nor the home has one yet: the service makes it")
    if found is None:
        return warned(
            name,
            "the Redis is empty, or was emptied",
            expected=f"the epoch {own}",
            remedy=f"{_BACKFILL}; without it states come back as customers do",
        )
    if own is None or found.partition(".")[0] != own.partition(".")[0]:
        return failed(
            name,
            f"the Redis holds the states of another home ({found[:40]})",
            expected=f"the epoch {own}" if own else "none, since this home has never used a Redis",
            remedy="name another database in HEADWAY_ONLINE_STORE, or take this one with "
            "`headway features backfill --take-over`, which empties it",
        )
    if found != own:
        return warned(
            name,
            f"the Redis holds an older copy or is being cleared ({found[:40]})",
            expected=f"the epoch {own}",
            remedy=_BACKFILL,
        )
    return passed(name, f"{own}, in the home and in the Redis")


def version(told: Mapping[str, Any]) -> Finding:
    """Whether the Redis knows the commands that are sent to it."""
    text = str(told.get("redis_version", "0"))
    number = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if number < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        return failed("redis version", f"Redis {text}", expected=f"{oldest} or newer", remedy="upgrade it")
    return passed("redis version", f"Redis {text}")


def role(told: Mapping[str, Any]) -> Finding:
    """Whether it is a single primary."""
    name = "redis role"
    if told.get("role") == "slave":
        return failed(
            name,
            "a replica, which takes no writes",
            expected="a primary",
            remedy="name the primary in HEADWAY_ONLINE_STORE",
        )
    if int(told.get("cluster_enabled", 0)):
        return failed(
            name,
            "a node of a Redis Cluster",
            expected="one primary that holds all keys",
            remedy="name a Redis that is no cluster in HEADWAY_ONLINE_STORE",
        )
    return passed(name, "a primary")


def eviction(told: Mapping[str, Any]) -> Finding:
    """Whether it drops states when its memory is full."""
    name, policy = "redis maxmemory-policy", str(told.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return passed(name, policy)
    if policy.startswith("volatile-"):
        return passed(name, f"{policy}, which spares keys that never expire, as ours")
    return warned(
        name,
        policy,
        expected="noeviction",
        remedy="set `maxmemory-policy noeviction`: an evicted state costs a rebuild from the event log, "
        "whose answer says `features_rebuilt`",
    )


def memory(told: Mapping[str, Any]) -> Finding:
    """Whether it has room for further states."""
    name = "redis memory"
    used, most = int(told.get("used_memory", 0)), int(told.get("maxmemory", 0))
    text = f"{used / _MEBIBYTE:,.0f} MiB used" + (f" of {most / _MEBIBYTE:,.0f}" if most else ", without a limit")
    if most and used > FULL_RATIO * most:
        return warned(
            name,
            text,
            expected=f"at most {FULL_RATIO:.0%} of maxmemory",
            remedy="raise `maxmemory`: a full Redis takes no states, and answers come from the event log",
        )
    return passed(name, text)


def persistence(told: Mapping[str, Any]) -> Finding:
    """Whether it fails to save itself, which makes it refuse writes; that it saves nothing is no fault."""
    name = "redis persistence"
    saved = {key: str(told.get(key, "ok")) for key in ("rdb_last_bgsave_status", "aof_last_write_status")}
    if broken := [key for key, state in saved.items() if state != "ok"]:
        return warned(
            name,
            f"{', '.join(f'{key} is {saved[key]}' for key in broken)}",
            expected="ok",
            remedy="look at the Redis's disk, or switch its persistence off: it is a cache of the event log",
        )
    is_appending = int(told.get("aof_enabled", 0))
    return passed(name, f"append-only file {'on' if is_appending else 'off'}; none is needed: it is a cache of the log")
