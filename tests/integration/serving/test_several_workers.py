"""Two worker processes behind one port, over PostgreSQL and Redis: whichever answers, it is one service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.serving.test_process import KEY, Service
from tests.postgres_servers import postgres_database
from tests.redis_servers import redis_database

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service as ``headway serve`` starts it, with two workers."""
    home = tmp_path_factory.mktemp("home")
    with postgres_database() as database, redis_database() as shared:
        settings = {"HEADWAY_WORKERS": "2", "HEADWAY_ONLINE_STORE": shared.url}
        service = Service(home, database=database.url, settings=settings)
        try:
            service.wait_until_ready()
            yield service
        finally:
            service.kill()


def _event(event_id: str, customer_id: str, **more: Any) -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(hours=80)).isoformat()
    facts = {"product": "classic"}
    known = {"event_id": event_id, "customer_id": customer_id, "kind": "application_submitted", "occurred_at": at}
    return known | {"channel": "web", "facts": facts} | more


def test_a_refused_event_is_seen_by_whichever_worker_is_asked(service: Service) -> None:
    """Each call comes over a connection of its own, and so to either of them."""
    for number in range(12):
        sent = [_event(f"good-{number}", "c-1"), _event(f"bad-{number}", "c-1", occurred_at="now")]
        assert service.post("/v1/events", {"events": sent}).json()["rejected"] == 1

    for _ in range(8):
        found = service.get("/v1/events/recent?limit=200").json()
        by_status = {
            status: {one["event_id"] for one in found["events"] if one["status"] == status}
            for status in ("accepted", "rejected")
        }
        assert found["degraded"] == []
        assert by_status["accepted"] >= {f"good-{number}" for number in range(12)}
        assert by_status["rejected"] >= {f"bad-{number}" for number in range(12)}


def test_a_send_shows_the_same_whichever_worker_renders_it(service: Service) -> None:
    """Sixteen renders at once of each of eight sends, under request ids of their own."""

    def rendered(number: int) -> tuple[str, str]:
        customer_id = f"r-{number // 16}"
        asked = {"customer_id": customer_id, "send_id": f"camp-7/{customer_id}", "activate": False}
        answer = service.post("/v1/decisions", asked | {"request_id": f"render-{number}"})
        assert answer.status_code == 200, answer.text
        return customer_id, answer.text

    service.post("/v1/events", {"events": [_event(f"app-{number}", f"r-{number}") for number in range(8)]})
    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(rendered, range(128)))

    assert len(answers) == 8


@pytest.mark.parametrize("key", ["web/home_banner", "web%2Fhome_banner"])
def test_a_flag_is_evaluated_behind_the_gate(service: Service, key: str) -> None:
    """With its slash as it is, or encoded; by one decision, whichever worker answers."""
    told = [service.post(f"/ofrep/v1/evaluate/flags/{key}", {"context": {"targetingKey": "flag-1"}}) for _ in range(6)]

    assert {one.status_code for one in told} == {200}
    assert {one.json()["key"] for one in told} == {"web/home_banner"}
    assert len({one.json()["metadata"]["decision_id"] for one in told}) == 1
    assert service.post("/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "flag-1"}}).json() == {"flags": []}


def test_nobody_without_a_key_evaluates_flags(service: Service) -> None:
    """In the words of the protocol."""
    answer = httpx.post(f"{service.url}/ofrep/v1/evaluate/flags/web/x", json={"context": {"targetingKey": "c"}})

    assert (answer.status_code, answer.json()["errorCode"], KEY in answer.text) == (401, "GENERAL", False)
