"""Checks of a Redis: whose it is, whether it keeps what it is given, and what it does not tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from features import redis_checks
from features.check_findings import Finding
from features.online_location import RedisLocation
from features.redis_checks import redis_findings
from features.redis_client import EPOCH_KEY
from tests.redis_servers import private_redis

OWN, OTHER = "0123456789abcdef", "fedcba9876543210"


def now() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    """The findings by their names, each once."""
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


@pytest.fixture(scope="module")
def evicting() -> Iterator[RedisLocation]:
    """A Redis that evicts any key, kept by another home; its user ``shy`` may read only."""
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with private_redis(*options, "--user", *["shy", "on", "nopass", "~*", "+get"]) as location:
        with redis.Redis.from_url(location.url) as client:
            client.set(EPOCH_KEY, f"{OTHER}.1")
        yield location


def test_a_redis_that_evicts_and_is_another_homes_is_told(evicting: RedisLocation, tmp_path: Path) -> None:
    """Everything else about it is well; the home gets no epoch by being looked at."""
    file = tmp_path / "online-epoch"
    file.write_text(f"{OWN}.3")

    found = by_name(redis_findings(evicting, file, now))

    assert found.pop("redis epoch").status == "failed"
    eviction = found.pop("redis maxmemory-policy")
    assert (eviction.status, eviction.found, eviction.expected) == ("warning", "allkeys-lru", "noeviction")
    assert "costs a rebuild" in eviction.remedy
    assert {finding.status for finding in found.values()} == {"ok"}
    assert [path.name for path in tmp_path.iterdir()] == ["online-epoch"]


def test_a_clock_that_differs_from_the_redis_is_told(evicting: RedisLocation, tmp_path: Path) -> None:
    """Ours is an hour ahead."""
    found = by_name(redis_findings(evicting, tmp_path / "epoch", lambda: now() + 3_600_000_000))

    assert found["redis clock"].status == "warning"
    assert found["redis clock"].found.endswith(" s behind ours")


def test_what_a_user_may_not_ask_is_a_warning(evicting: RedisLocation, tmp_path: Path) -> None:
    """The epoch is told all the same."""
    shy = RedisLocation.of(evicting.url.replace("redis://", "redis://shy:any@"))

    found = by_name(redis_findings(shy, tmp_path / "epoch", now))

    assert {name: one.status for name, one in found.items()} == {
        "redis": "ok",
        "redis epoch": "failed",
        "redis clock": "warning",
        "redis set-up": "warning",
    }
    assert "any" not in found["redis set-up"].found.split()
    assert "+info" in found["redis set-up"].remedy


def test_a_redis_that_does_not_answer_fails(tmp_path: Path) -> None:
    """Nothing else is said of it, and its password is not."""
    location = RedisLocation.of("redis://app:s3cret@127.0.0.1:1/0")

    (finding,) = redis_findings(location, tmp_path / "epoch", now)

    assert (finding.name, finding.status) == ("redis", "failed")
    assert "s3cret" not in str(finding)


@pytest.mark.parametrize(
    ("found", "own", "status"),
    [
        (None, None, "not_applicable"),
        (None, f"{OWN}.3", "warning"),
        (f"{OWN}.3", f"{OWN}.3", "ok"),
        (f"{OWN}.2", f"{OWN}.3", "warning"),
        (f"{OWN}.4:clearing", f"{OWN}.3", "warning"),
        (f"{OTHER}.3", f"{OWN}.3", "failed"),
        (f"{OTHER}.3", None, "failed"),
    ],
)
def test_the_epoch_tells_whose_rows_they_are(found: str | None, own: str | None, status: str) -> None:
    """Emptied, ours, set back, being cleared, or another home's."""
    assert redis_checks.epoch(found, own).status == status


@pytest.mark.parametrize(
    ("check", "told", "status"),
    [
        (redis_checks.version, {"redis_version": "3.2.12"}, "failed"),
        (redis_checks.version, {"redis_version": "4.0.0"}, "ok"),
        (redis_checks.role, {"role": "slave"}, "failed"),
        (redis_checks.role, {"role": "master", "cluster_enabled": 1}, "failed"),
        (redis_checks.role, {"role": "master", "cluster_enabled": 0}, "ok"),
        (redis_checks.eviction, {"maxmemory_policy": "volatile-ttl"}, "ok"),
        (redis_checks.eviction, {}, "warning"),
        (redis_checks.memory, {"used_memory": 91, "maxmemory": 100}, "warning"),
        (redis_checks.memory, {"used_memory": 90, "maxmemory": 100}, "ok"),
        (redis_checks.memory, {"used_memory": 1 << 40, "maxmemory": 0}, "ok"),
        (redis_checks.persistence, {"rdb_last_bgsave_status": "err"}, "warning"),
        (redis_checks.persistence, {"aof_last_write_status": "err"}, "warning"),
        (redis_checks.persistence, {"rdb_last_bgsave_status": "ok", "aof_enabled": 1}, "ok"),
    ],
)
def test_what_a_redis_tells_of_itself_is_judged(check: Any, told: dict[str, Any], status: str) -> None:
    """By what Headway needs of it."""
    assert check(told).status == status
