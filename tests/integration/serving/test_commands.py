"""The commands of the service: keys, and everything that ``serve`` refuses before it starts."""

from __future__ import annotations

import io
import json
import os
import socket
from contextlib import redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import redis

from features.cli import COMMAND_GROUP, run
from features.home import Home, lock_file
from features.online_location import RedisLocation
from serving.audit import AuditTrail
from serving.auth import Principal


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command works on a home of its own."""
    for name in [name for name in os.environ if name.startswith("HEADWAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path))


def _run(*arguments: str) -> tuple[int, str, str]:
    said, told = io.StringIO(), io.StringIO()
    with redirect_stdout(said):
        code = run(arguments, {}, commands=entry_points(group=COMMAND_GROUP), stderr=told)
    return code, said.getvalue(), told.getvalue()


def test_a_key_is_made_listed_and_revoked() -> None:
    """The key shows once; the list shows everything but it."""
    _, said, _ = _run("keys", "create", "--source", "crm", "--role", "caller", "--role", "analyst", "--json")
    made = json.loads(said)

    _run("keys", "revoke", made["key_id"])

    _, listed, _ = _run("keys", "list", "--json")
    (key,) = json.loads(listed)
    assert (key["key_id"], key["source"], key["roles"]) == (made["key_id"], "crm", ["caller", "analyst"])
    assert key["revoked_at"] is not None
    assert made["key"] not in listed


def test_a_key_is_rotated_and_the_list_says_what_it_is() -> None:
    """The new secret shows once; the one before has an end."""
    options = ("--source", "shop", "--origin", "https://a.example", "--may", "profile", "--expires", "30d", "--json")
    _, said, _ = _run("keys", "create", *options)
    made = json.loads(said)

    code, rotated, _ = _run("keys", "rotate", made["key_id"], "--overlap", "2d", "--json")

    assert code == 0
    assert json.loads(rotated)["key"] not in (made["key"], None)
    _, listed, _ = _run("keys", "list", "--json")
    (key,) = json.loads(listed)
    assert (key["origins"], key["rights"], key["roles"]) == (["https://a.example"], ["profile"], [])
    assert key["previous_until"] == json.loads(rotated)["previous_until"] > key["rotated_at"]
    assert (key["expires_at"] > key["previous_until"], key["last_used_at"]) == (True, None)
    _, shown, _ = _run("keys", "list")
    assert "publishable for https://a.example  may profile" in shown
    assert "never used" in shown


def test_an_overlap_that_is_no_time_is_refused() -> None:
    """Exit code 2, with how to write one."""
    code, _, told = _run("keys", "rotate", "00000000", "--overlap", "long")

    assert code == 2
    assert "--overlap: got 'long', expected a duration" in told


def test_the_audit_log_is_asked_about_a_customer(tmp_path: Path) -> None:
    """And about a key, and a time; without a log there is nothing to show."""
    assert _run("audit") == (0, "", "")
    trail = AuditTrail(tmp_path / "audit", clock=lambda: 1_772_366_400_000_000, randomness=os.urandom)
    for key_id, customer_id in (("k-1", "c-1"), ("k-1", "c-2"), ("k-2", "c-2")):
        caller, call = Principal(key_id, "desk", frozenset({"agent"})), "GET /v1/customers/{customer_id}/journey"
        trail.note(caller, call, status=200, object_id=customer_id, is_customer=True)
    trail.write()

    told = {
        options: [json.loads(line)["who"] for line in _run("audit", *options, "--json")[1].splitlines()]
        for options in ((), ("--customer", "c-2"), ("--who", "k-1"), ("--limit", "1"), ("--since", "1d"))
    }

    assert told == {
        (): ["k-2", "k-1", "k-1"],
        ("--customer", "c-2"): ["k-2", "k-1"],
        ("--who", "k-1"): ["k-1", "k-1"],
        ("--limit", "1"): ["k-2"],
        ("--since", "1d"): [],
    }


def test_a_key_is_limited_and_freed_again() -> None:
    """Listed with its key; a limit that cannot be is refused, and changes nothing."""
    _, said, _ = _run("keys", "create", "--source", "crm", "--role", "caller", "--rate", "2.5", "--json")
    key_id = json.loads(said)["key_id"]
    _, listed, _ = _run("keys", "list", "--json")
    code, _, told = _run("keys", "limit", key_id, "--rate", "0")
    _, plain, _ = _run("keys", "list")
    _, freed, _ = _run("keys", "limit", key_id)

    assert [one["limit"] for one in json.loads(listed)] == [{"per_second": 2.5, "burst": 3}]
    assert code == 2
    assert "a number from 0.001 to 100000" in told
    assert "2.5 requests a second, 3 at once" in plain
    assert freed == f"Key {key_id} of source crm: no limit.\n"


def test_a_role_that_does_not_exist_is_refused() -> None:
    """Exit code 2, with the roles there are."""
    code, _, told = _run("keys", "create", "--source", "crm", "--role", "boss")

    assert code == 2
    assert "role: got 'boss', expected one of caller, agent" in told


def test_a_misspelt_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 and the near name."""
    monkeypatch.setenv("HEADWAY_PROT", "3001")

    code, _, told = _run("serve")

    assert code == 2
    assert "did you mean HEADWAY_PORT?" in told


def test_a_home_that_is_being_written_stops_the_start(tmp_path: Path) -> None:
    """Exit code 2, naming the process."""
    with lock_file(Home(tmp_path).records_db, command="headway serve"):
        code, _, told = _run("serve")

    assert code == 2
    assert f"being written by process {os.getpid()} (headway serve)" in told


def test_a_redis_of_another_home_stops_the_start(
    redis_location: RedisLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and what to do about it."""
    monkeypatch.setenv("HEADWAY_ONLINE_STORE", redis_location.url)
    with redis.Redis.from_url(redis_location.url) as server:
        server.set("headway:epoch", "0123456789abcdef.4")

    code, _, told = _run("serve")

    assert code == 2
    assert "holds the states of another home ('0123456789abcdef.4')" in told
    assert "headway features backfill --take-over" in told


def test_a_configuration_with_problems_stops_the_start(tmp_path: Path) -> None:
    """Exit code 2, naming the file."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "policy.yaml").write_text("version: 1\nsurprise: 2\n")

    code, _, told = _run("serve")

    assert code == 2
    assert "policy.yaml" in told


def test_a_taken_port_stops_the_start() -> None:
    """Exit code 2, naming the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, told = _run("serve", "--port", str(port))

    assert code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in told
