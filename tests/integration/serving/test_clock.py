"""A running service whose clock is set: back, forward, and through nights in which an hour is missing or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from features.events import dump_timestamp
from models.capacity import capacity_windows
from models.configuration import Configuration, built_in_configuration
from models.policy import Capacity
from tests.doors import HOUR_US, Client, World

MINUTE_US = HOUR_US // 60
CHANNELS = ("email", "sms", "push", "call", "case", "web")


def _configuration() -> Configuration:
    """Nobody is left out, and each channel has a capacity that cannot be used up."""
    built_in = built_in_configuration()
    limits = [{"id": one, "units": 1_000, "period": "1d", "channel": one} for one in CHANNELS]
    capacity = Capacity.model_validate({"limits": limits})
    experiment = built_in.policy.experiment.model_copy(update={"no_contact_holdout": 0.0, "random_eligible": 1.0})
    policy = built_in.policy.model_copy(update={"capacity": capacity, "experiment": experiment})
    return replace(built_in, policy=policy)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory, with a clock to set."""
    return World(tmp_path, configuration=_configuration())


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client of it."""
    with world.client() as client:
        yield client


def _sent(world: World, client: Client, customer_id: str, number: int) -> None:
    """A customer who applied, may be mailed, and did something just now, by the service's own clock."""
    at = dump_timestamp(world.now)
    documents = [
        {"event_id": f"{customer_id}/a", "kind": "application_submitted", "facts": {"product": "classic"}},
        {"event_id": f"{customer_id}/c", "kind": "consent_changed", "facts": {"consent": "email", "state": "granted"}},
        {"event_id": f"{customer_id}/{number}", "kind": "page_viewed", "facts": {"page": "fees"}},
    ]
    about = {"customer_id": customer_id, "occurred_at": at}
    answer = client.done("/v1/events", {"events": [about | one for one in documents]})
    assert answer["rejected"] == 0, answer


def _decided(client: Client, customer_id: str, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.done("/v1/decisions", {"customer_id": customer_id, "request_id": request_id})
    return found


@pytest.mark.parametrize("by", [-HOUR_US, -25 * HOUR_US, HOUR_US, 400 * 24 * HOUR_US])
def test_a_clock_that_is_set_while_the_service_runs(world: World, client: Client, by: int) -> None:
    """Events are taken, decisions see them and come one after the other, and an old request has its old answer."""
    _sent(world, client, "c-1", 1)
    before = _decided(client, "c-1", "r-1")

    world.now += by
    _sent(world, client, "c-1", 2)
    after = _decided(client, "c-1", "r-2")
    again = _decided(client, "c-1", "r-1")

    records = {record.request_id: record for page in world.records.read() for record in page}
    assert again == before
    assert after["features"]["age_seconds"] >= 0
    assert records["r-2"].decided_at > records["r-1"].decided_at
    assert records["r-2"].log_position > records["r-1"].log_position
    assert before["decision_id"] < after["decision_id"]


@pytest.mark.parametrize(
    ("midnight", "hours"),
    [
        (datetime(2026, 3, 28, 23, tzinfo=UTC), 23),
        (datetime(2026, 10, 24, 22, tzinfo=UTC), 25),
        (datetime(2026, 6, 9, 22, tzinfo=UTC), 24),
    ],
)
def test_the_nights_of_summer_time(world: World, client: Client, midnight: datetime, hours: int) -> None:
    """A day of Amsterdam of 23, 25 or 24 hours: every request is answered, and each contact counts on that day once."""
    start = int(midnight.timestamp()) * 1_000_000
    world.now = start - HOUR_US
    _sent(world, client, "c-before", 0)
    answers = []
    for number in range(2 * hours):
        world.now = start + number * HOUR_US // 2
        customer_id = f"c-{number}"
        _sent(world, client, customer_id, number)
        answers.append(_decided(client, customer_id, f"r-{number}"))

    moments = [record.decided_at for page in world.records.read() for record in page]
    assert moments == sorted(moments)
    assert moments[-1] - moments[0] == (2 * hours - 1) * HOUR_US // 2
    of_day = world.records.capacity_used(_windows(world), now=world.now)
    chosen = [one for answer in answers for one in answer["selected"]]
    assert sum(of_day.values()) == len(chosen) > 0
    world.now = start + hours * HOUR_US
    assert world.records.capacity_used(_windows(world), now=world.now) == {}


def _windows(world: World) -> Any:
    configuration = world.configuration
    return capacity_windows(configuration.policy.capacity, world.now, configuration.taxonomy.time_zone)
