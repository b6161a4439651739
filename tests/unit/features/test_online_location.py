"""The URL of a Redis: what is accepted, what is shown, and how Feast is told."""

from __future__ import annotations

import pytest

from features.errors import ConfigurationError
from features.online_location import RedisLocation, online_location


@pytest.mark.parametrize(
    "url",
    [
        "redis",
        "redis://",
        "http://host",
        "redis://host/one",
        "redis://host:0",
        "redis://host:port",
        "redis://[::1]:6379",
        "redis://host?socket_timeout=60",
        "redis://host/0?ssl_cert_reqs=none",
        "rediss://host/0?ssl_cert_reqs",
        "redis://host/0#1",
        "unix:///run/redis.sock",
        "SQLite",
    ],
)
def test_what_is_no_usable_url_is_refused_without_being_shown(url: str) -> None:
    """It may carry a password, so the message says what is expected and hides what was found."""
    with pytest.raises(ConfigurationError, match=r"HEADWAY_ONLINE_STORE: got \(hidden\), expected sqlite, or redis://"):
        online_location({"HEADWAY_ONLINE_STORE": url})


def test_a_password_is_not_shown() -> None:
    """Neither the repr nor what messages use holds user, password or options."""
    location = RedisLocation.of("rediss://app:s3cret@cache.example/2?ssl_ca_certs=/etc/ca.pem")

    assert location.masked == "rediss://***@cache.example:6379/2"
    assert "s3cret" not in repr(location)


@pytest.mark.parametrize("password", ["plain", "0123", "1e5", "a,b=c", 'qu"ote', "päss", "true"])
def test_feast_takes_the_same_database_and_password(password: str) -> None:
    """Feast's own parser gives back what the URL said, also where the password looks like something else."""
    from urllib.parse import quote

    from feast.infra.online_stores.redis import RedisOnlineStore as FeastRedis

    location = RedisLocation.of(
        f"rediss://app:{quote(password, safe='')}@cache.example:6390/2?ssl_check_hostname=false"
    )

    nodes, options = FeastRedis._parse_connection_string(location.feast_config["connection_string"])

    assert nodes == [{"host": "cache.example", "port": "6390"}]
    assert options == {
        "db": 2,
        "socket_timeout": 1.0,
        "socket_connect_timeout": 1.0,
        "username": "app",
        "password": password,
        "ssl": True,
        "ssl_check_hostname": False,
    }


def test_feast_is_told_not_to_drop_older_writes() -> None:
    """A state rebuilt after a late event is written whatever its time."""
    assert RedisLocation.of("redis://host").feast_config["skip_dedup"] is True
