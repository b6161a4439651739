"""What comes back for decisions, over HTTP: late, out of order, by default; into counters, features and answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.errors import StoreUnavailable
from features.event_log import MemoryEventLog
from features.events import dump_timestamp
from tests.doors import HOUR_US, JOURNEY, Client, World, event

OUTCOME = "progress_7d"
WINDOW_HOURS = 7 * 24


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _decided(client: Client, **changes: Any) -> dict[str, Any]:
    """A decision for a stalled customer who may be contacted."""
    granted = {"consent": "email", "state": "granted"}
    consent = event("consent", hours_ago=72, kind="consent_changed", channel=None, facts=granted)
    client.post("/v1/events", {"events": [event("applied", hours_ago=72), consent]})
    answer: dict[str, Any] = client.post("/v1/decisions", {"customer_id": "c-1"} | changes).json()
    return answer


def _told(world: World, decision: dict[str, Any], *, at: int | None = None, **changes: Any) -> dict[str, Any]:
    fields = {"type": "outcome", "decision_id": decision["decision_id"], "outcome_id": OUTCOME, "value": 1}
    return fields | {"occurred_at": dump_timestamp(world.now if at is None else at)} | changes


def _status(client: Client, decision: dict[str, Any], outcome_id: str = OUTCOME) -> dict[str, Any]:
    stored = client.get(f"/v1/decisions/{decision['decision_id']}").json()
    found: dict[str, Any] = next(one for one in stored["outcomes"] if one["outcome_id"] == outcome_id)
    return found


def test_an_outcome_is_pending_then_no_by_default(client: Client, world: World) -> None:
    """Nobody needs to say that nothing happened."""
    decision = _decided(client)

    before = _status(client, decision)
    world.now += WINDOW_HOURS * HOUR_US + 1
    after = _status(client, decision)

    assert (before["status"], before["settled_at"]) == ("pending", None)
    assert (after["status"], after["by_default"], after["settled_at"]) == ("no", True, after["window_ends_at"])


def test_a_yes_that_is_told_late_replaces_the_default(client: Client, world: World) -> None:
    """When it happened counts, not when it was told; it is no late outcome."""
    decision = _decided(client)
    happened = world.now + HOUR_US
    world.now += (WINDOW_HOURS + 48) * HOUR_US
    assert _status(client, decision)["status"] == "no"

    answer = client.post("/v1/outcomes", {"outcomes": [_told(world, decision, at=happened)]}).json()

    assert (answer["accepted"], answer["late"]) == (1, [])
    found = _status(client, decision)
    assert (found["status"], found["settled_at"], found["late"]) == ("yes", dump_timestamp(happened), 0)


def test_what_happened_after_the_window_is_kept_and_does_not_count(client: Client, world: World) -> None:
    """The answer says which items were late, also when they are sent again."""
    decision = _decided(client)
    world.now += (WINDOW_HOURS + 1) * HOUR_US
    batch = {"outcomes": [_told(world, decision, outcome_id="nonsense"), _told(world, decision)]}

    first, again = (client.post("/v1/outcomes", batch).json() for _ in range(2))

    assert (first["accepted"], first["rejected"], first["late"]) == (1, 1, [1])
    assert (again["accepted"], again["duplicate"], again["late"]) == (0, 1, [1])
    found = _status(client, decision)
    assert (found["status"], found["by_default"], found["late"]) == ("no", True, 1)
    assert world.log.of_customer("c-1")[-1].event.kind == "outcome_observed"


def test_the_journeys_own_events_are_outcomes_too(client: Client, world: World) -> None:
    """Nobody sent the outcome: the event that declares it happened."""
    decision = _decided(client)
    world.now += 2 * HOUR_US
    client.post("/v1/events", {"events": [event("ok", kind="identity_verified", hours_ago=-1, channel=None, facts={})]})

    assert _status(client, decision)["status"] == "yes"


def test_an_outcome_may_come_before_its_exposure(client: Client, world: World) -> None:
    """Each counts for what it is, in whatever order they come."""
    decision = _decided(client, activate=False)
    world.now += 3 * HOUR_US
    exposure = {
        "type": "exposure",
        "decision_id": decision["decision_id"],
        "occurred_at": dump_timestamp(world.now - 2 * HOUR_US),
    }

    for item in (_told(world, decision), exposure):
        assert client.post("/v1/outcomes", {"outcomes": [item]}).json()["accepted"] == 1

    assert _status(client, decision)["status"] == "yes"
    (contact,) = world.records.customer("c-1", since=0, now=world.now).contacts
    assert (contact.status, contact.at) == ("confirmed", world.now - 2 * HOUR_US)
    kinds = [logged.event.kind for logged in world.log.of_customer("c-1")]
    assert kinds[-2:] == ["action_exposed", "outcome_observed"]


def test_what_comes_back_reaches_the_features_of_the_next_decision(client: Client, world: World) -> None:
    """Exposures and outcomes fold like every event."""
    decision = _decided(client, activate=False)
    world.now += HOUR_US
    exposure = {
        "type": "exposure",
        "decision_id": decision["decision_id"],
        "occurred_at": dump_timestamp(world.now - HOUR_US // 2),
    }
    client.post("/v1/outcomes", {"outcomes": [exposure, _told(world, decision, at=world.now - HOUR_US // 4)]})

    later = client.post("/v1/decisions", {"customer_id": "c-1", "mode": "shadow"}).json()

    features = client.get(f"/v1/decisions/{later['decision_id']}").json()["record"]["features"]
    assert (features["count_action_exposed"], features["count_outcome_observed"]) == (1.0, 1.0)
    assert features["contacts_7d"] == 1.0
    assert later["journey"]["journey_id"] == JOURNEY


def test_a_shadow_decision_has_no_outcomes(client: Client) -> None:
    """Nothing was done, so nothing can have come of it."""
    decision = _decided(client, mode="shadow")

    assert client.get(f"/v1/decisions/{decision['decision_id']}").json()["outcomes"] == []


def test_a_decision_is_read_while_the_event_log_is_down(tmp_path: Path) -> None:
    """Without what came of it, and it says so."""

    class Down(MemoryEventLog):
        is_down = False

        def of_person(self, *args: Any, **kwargs: Any) -> Any:
            if self.is_down:
                raise StoreUnavailable("down")
            return super().of_person(*args, **kwargs)

    log = Down()
    world = World(tmp_path, log=log)
    with world.client() as client:
        decision = _decided(client)
        log.is_down = True
        answer = client.get(f"/v1/decisions/{decision['decision_id']}")

    assert (answer.status_code, answer.json()["outcomes"]) == (200, None)
