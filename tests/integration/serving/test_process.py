"""The service as people run it: a process on a port, with an empty home. One start serves all these tests."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from features.event_store import SqlEventLog
from features.home import Home
from models.record_store import SqlRecordStore
from serving.client.headway import Headway
from serving.client.sending import Surroundings
from serving.schemas import EventDocument
from tests.faults.proxy import Proxy

KEY = "hw_process_test_0123456789"
START_SECONDS = 120
"""Far more than a start takes: the jitted code is compiled anew in every new home, and machines are busy."""


class Service:
    """``headway serve`` as a child process."""

    def __init__(
        self,
        home: Path,
        *,
        compiled: Path | None = None,
        database: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = Home(home)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "serve.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        environment |= {"HEADWAY_HOME": str(home), "HEADWAY_BOOTSTRAP_KEY": KEY, "HEADWAY_PORT": str(self.port)}
        if compiled is not None:
            environment["NUMBA_CACHE_DIR"] = str(compiled)
        if database is not None:
            environment["HEADWAY_DATABASE"] = database
        environment |= settings or {}
        self.environment = environment
        self._output = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from features.cli import main; main()", "serve"],
            env=environment,
            cwd=home,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def wait_until_ready(self) -> None:
        """Wait for the first answer of ``/readyz``."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            time.sleep(0.1)  # another process is waited for: there is nothing else to wait on
        raise AssertionError(f"not ready in {START_SECONDS} s: {self.log.read_text()}")

    def post(self, path: str, body: Any, *, key: str = KEY) -> httpx.Response:
        """The answer to a POST of JSON, or of bytes as they are."""
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=30, **sent)

    def get(self, path: str) -> httpx.Response:
        """The answer to a GET."""
        return httpx.get(self.url + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)

    def kill(self) -> None:
        """Kill -9 to all of it, children last, so that nobody is started again."""
        for pid in [self.process.pid, *_descendants(self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)
        self._output.close()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._output.close()
        return code


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service over an empty home."""
    service = Service(tmp_path_factory.mktemp("home"))
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*children, *(below for child in children for below in _descendants(child))]


def _event(**changes: Any) -> dict[str, Any]:
    fields = {
        "event_id": secrets.token_hex(8),
        "customer_id": "c-1",
        "kind": "application_submitted",
        "occurred_at": _ago(72),
        "channel": "web",
        "facts": {"product": "classic"},
    }
    return fields | changes


def _ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat()


def test_the_loop_closes_over_http(service: Service) -> None:
    """Events in, a decision out, what came back in again, and the decision read back with its record."""
    consent = {"kind": "consent_changed", "channel": None, "facts": {"consent": "email", "state": "granted"}}
    taken = service.post("/v1/events", {"events": [_event(), _event(**consent), _event(occurred_at="2026-01-01")]})
    decision = service.post("/v1/decisions", {"customer_id": "c-1", "request_id": "loop"}).json()
    outcome = {"decision_id": decision["decision_id"], "occurred_at": _ago(0), "outcome_id": "progress_7d", "value": 1}
    returned = service.post("/v1/outcomes", {"outcomes": [{"type": "outcome", **outcome}]})
    view = service.get(f"/v1/decisions/{decision['decision_id']}").json()

    assert [taken.json()[name] for name in ("accepted", "duplicate", "rejected")] == [2, 0, 1]
    assert taken.json()["rejections"][0]["errors"][0]["pointer"] == "/events/2/occurred_at"
    assert decision["journey"]["stage"] == "applied"
    assert decision["degraded"] == ["model_missing"]
    assert returned.json()["accepted"] == 1
    assert view["answer"] == decision


def test_what_was_decided_is_found_told_and_activated(service: Service) -> None:
    """Search, context, timeline and activation, over the stores that serve; nothing explains what no model decided."""
    granted = {"consent": "email", "state": "granted"}
    events = [
        _event(event_id="found-1", customer_id="c-9"),
        _event(event_id="found-2", customer_id="c-9", kind="consent_changed", channel=None, facts=granted),
    ]
    service.post("/v1/events", {"events": events})
    decision = service.post("/v1/decisions", {"customer_id": "c-9", "activate": False}).json()
    path = f"/v1/decisions/{decision['decision_id']}"

    found = service.get("/v1/decisions?customer_id=c-9").json()
    context, journey = (service.get(f"/v1/customers/c-9/{name}") for name in ("context", "journey"))
    activated, explained = service.post(f"{path}/activate", {}), service.get(f"{path}/explanation")

    assert [one["decision_id"] for one in found["decisions"]] == [decision["decision_id"]]
    assert context.json()["standings"][0]["stage"] == "applied"
    assert [one["type"] for one in journey.json()["timeline"]] == ["decision", "event", "event"]
    assert activated.status_code == (200 if decision["selected"] else 409)
    assert (explained.status_code, explained.json()["stall"], explained.json()["effects"]) == (200, None, {})


def test_the_client_is_answered_once_over_a_network_that_loses_answers(service: Service) -> None:
    """What was committed when the connection broke is what the second attempt gets, from the stores that serve."""
    sent = _event(customer_id="c-lossy")
    with closing(Proxy("127.0.0.1", service.port)) as proxy:
        surroundings = Surroundings(sleep=lambda _: setattr(proxy, "lost_answer", None))
        with Headway(f"http://127.0.0.1:{proxy.port}", KEY, surroundings=surroundings) as headway:
            proxy.lost_answer = b"POST /v1/events"
            taken = headway.send_events([msgspec.convert(sent, EventDocument)])
            proxy.lost_answer = b"POST /v1/decisions"
            decision = headway.decide("c-lossy", direction="inbound", placements=("web/home_banner",))
            stored = headway.decision(decision.decision_id)
            found = list(headway.decisions(customer_id="c-lossy"))

    assert (taken.accepted, taken.duplicate) == (0, 1)
    assert stored.answer == decision
    assert [one.decision_id for one in found] == [decision.decision_id]


def test_the_doctor_looks_at_a_running_service(service: Service) -> None:
    """It names the one process that writes, finds nothing damaged, and disturbs nobody."""
    done = subprocess.run(
        [sys.executable, "-c", "from features.cli import main; main()", "doctor", "--json"],
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    for store in ("events", "records", "online store"):
        writer = re.search(r"process (\d+) \(", found[f"{store} writer"]["found"])
        assert writer is not None
        assert int(writer[1]) in _descendants(service.process.pid)
        assert found[f"{store} pages"]["status"] == "ok"
    assert service.get("/readyz").status_code == 200


def test_the_other_door_gives_the_same_answer(service: Service) -> None:
    """``rank`` is the same decision under the same request id, byte for byte."""
    body = {"customer_id": "c-2", "request_id": "two-doors"}

    first, second = service.post("/v1/decisions", body), service.post("/rank", body)

    assert second.status_code == 200
    assert second.content == first.content


@pytest.mark.parametrize("path", ["/v1/decisions", "/rank"])
@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        ({"customer_id": "c-1"}, "hw_wrong_wrong_wrong", 401),
        (b'{"customer_id": "' + b"x" * (2 << 20) + b'"}', KEY, 413),
        ({"customer_id": "c-1", "channel": "fax"}, KEY, 422),
        ({"customer_id": "c-1", "as_of": "2026-03-01T09:30:00"}, KEY, 422),
        (b'{"customer_id": ', KEY, 400),
        (b'{"customer_id": NaN}', KEY, 400),
        (b"[" * 100_000, KEY, 400),
        (b"[]", KEY, 422),
    ],
)
def test_both_doors_refuse_alike(service: Service, path: str, body: Any, key: str, status: int) -> None:
    """Wrong key, oversized body and bad fields are problem details at either door."""
    answer = service.post(path, body, key=key)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_the_other_door_ignores_no_wish_and_is_counted(service: Service) -> None:
    """Query parameters are refused, another method is told the right one, and metrics know the route."""
    asked = service.post("/rank?wish=1", {"customer_id": "c-1"})
    read = service.get("/rank")

    assert (asked.status_code, asked.json()["errors"][0]["pointer"]) == (422, "/?wish")
    assert (read.status_code, read.headers["allow"]) == (405, "POST")
    assert 'headway_request_seconds_count{route="/rank",status="405"}' in service.get("/metrics").text


@pytest.mark.parametrize("sdk", [SegmentClient, RudderClient])
def test_a_tracking_sdk_sends_to_the_service(service: Service, sdk: Any) -> None:
    """With the host changed and nothing else: what it sent is on the customer's timeline, once, under both ids."""
    customer_id, cookie = f"{sdk.__module__}-person", f"{sdk.__module__}-cookie"
    at = datetime.now(UTC) - timedelta(hours=1)
    for _ in range(2):
        client = sdk(KEY, host=service.url, sync_mode=True, gzip=True)
        client.page(anonymous_id=cookie, name="Fees", timestamp=at, message_id=f"{cookie}-1")
        client.identify(customer_id, {"region": "north"}, anonymous_id=cookie, message_id=f"{cookie}-2", timestamp=at)
        about = {"product": "classic"}
        client.track(customer_id, "Application Submitted", about, message_id=f"{cookie}-3", timestamp=at)

    told = service.get(f"/v1/customers/{cookie}/journey").json()

    assert (told["customer_id"], told["linked_ids"]) == (customer_id, [cookie])
    assert sorted(one["kind"] for one in told["timeline"]) == [
        "application_submitted",
        "page_viewed",
        "profile_updated",
    ]
    assert told["profile"]["attributes"]["region"] == "north"


def test_malformed_json_is_400(service: Service) -> None:
    """The detail says where reading stopped."""
    assert service.post("/v1/decisions", b'{"customer_id": ').status_code == 400


def test_readiness_is_headways_own(service: Service) -> None:
    """Behind BentoML too, it says what is loaded."""
    assert httpx.get(f"{service.url}/readyz").json()["bundles"] == {"credit_card_application": None}


def test_metrics_are_shared_by_the_workers(service: Service) -> None:
    """They are Headway's, need a key, and count this service's answers."""
    service.post("/v1/decisions", {"customer_id": "c-3"})

    assert httpx.get(f"{service.url}/metrics").status_code == 401
    assert re.search(r"^headway_decisions_total\{.*\} [1-9]", service.get("/metrics").text, re.MULTILINE)


def test_the_log_is_told_in_json_without_values(service: Service) -> None:
    """Ids, counts and constants; no key and no customer."""
    service.post("/v1/events", {"events": [_event(customer_id="person-77")]})

    text = service.log.read_text()

    assert '"event": "events_taken"' in text
    assert "person-77" not in text
    assert KEY not in text


def test_only_the_home_is_written(service: Service) -> None:
    """BentoML's own files live in the home as well."""
    assert (service.home.root / "cache" / "bentoml").is_dir()
    assert service.home.numba_cache.is_dir()


def test_a_second_service_on_the_home_is_refused(service: Service) -> None:
    """It says who holds the stores, and the first goes on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    environment |= {"HEADWAY_HOME": str(service.home.root), "HEADWAY_PORT": str(free_port())}

    done = subprocess.run(
        [sys.executable, "-c", "from features.cli import main; main()", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert "being written by process" in done.stderr
    assert service.get("/readyz").status_code == 200


def test_what_was_answered_survives_kill_9(tmp_path: Path, service: Service) -> None:
    """An acknowledged event, decision and policy are there after a kill and a restart; SIGTERM exits 0."""
    first = Service(tmp_path, compiled=service.home.numba_cache)
    try:
        first.wait_until_ready()
        taken = first.post("/v1/events", {"events": [_event(event_id="kept")]}).json()
        decided = first.post("/v1/decisions", {"customer_id": "c-1", "request_id": "kept"}).content
        put = _put_policy(first, decision_ttl="36h")
    finally:
        first.kill()
    log = SqlEventLog(Home(tmp_path).events_db, readonly=True)
    kept = [logged.event.event_id for logged in log.of_customer("c-1")]
    log.close()

    second = Service(tmp_path, compiled=service.home.numba_cache)
    try:
        second.wait_until_ready()
        again = second.post("/v1/events", {"events": [_event(event_id="kept")]}).json()
        same = second.post("/v1/decisions", {"customer_id": "c-1", "request_id": "kept"}).content
        policy = second.get("/v1/policies").json()["version"]
        decision_id = second.post("/v1/decisions", {"customer_id": "c-1", "request_id": "kept"}).json()["decision_id"]
        replay = second.post(f"/v1/decisions/{decision_id}/replay", b"").json()
        code = second.stop()
    finally:
        second.kill()

    assert (taken["accepted"], kept) == (1, ["kept"])
    assert (again["accepted"], again["duplicate"]) == (0, 1)
    assert same == decided
    assert (put.status_code, policy) == (200, put.json()["version"])
    assert (replay["identical"], replay["answer_identical"]) == (True, True)
    assert code == 0


def _put_policy(service: Service, **changes: Any) -> httpx.Response:
    before = service.get("/v1/policies")
    headers = {"Authorization": f"Bearer {KEY}", "If-Match": before.headers["etag"]}
    return httpx.put(
        f"{service.url}/v1/policies", headers=headers, json=before.json()["document"] | changes, timeout=30
    )


def test_a_policy_is_swapped_under_load(service: Service) -> None:
    """By a PUT and by its file: no request fails, and answers name the versions one after the other."""
    headers = {"Authorization": f"Bearer {KEY}"}
    failed: list[httpx.Response] = []
    seen: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(headers=headers, timeout=30) as client:
            while not stop.is_set():
                answer = client.post(f"{service.url}/v1/decisions", json={"customer_id": "c-load"})
                if answer.status_code == 200:
                    seen.append(answer.json()["versions"]["policy"])
                else:
                    failed.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        before = service.get("/v1/policies").json()["version"]
        put = _put_policy(service, decision_ttl="2d")
        policy = service.home.config / "policy.yaml"
        policy.write_text(policy.read_text().replace("decision_ttl: 2d", "decision_ttl: 3d"))
        until = time.monotonic() + 30
        while len(set(seen)) < 3 and time.monotonic() < until:
            time.sleep(0.1)  # the service looks at its files once a second
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert put.status_code == 200, put.text
    assert failed == []
    order = list(dict.fromkeys(seen))
    assert order[:2] == [before, put.json()["version"]]
    assert len(order) == 3


def test_a_stop_under_load_finishes_what_runs(tmp_path: Path, service: Service) -> None:
    """SIGTERM: no answer is an error, every answer is on disk, nobody waits for long, and the exit code is 0."""
    stopped = Service(tmp_path, compiled=service.home.numba_cache)
    try:
        stopped.wait_until_ready()
        with ThreadPoolExecutor(8) as pool:
            callers = [pool.submit(_asking, stopped, place) for place in range(8)]
            time.sleep(1.0)  # they are in the middle of it
            code = stopped.stop()
            answers = [answer for caller in callers for answer in caller.result(60)]
    finally:
        stopped.kill()
    records = SqlRecordStore(Home(tmp_path).records_db, readonly=True)
    kept = {record.decision_id for page in records.read() for record in page}
    records.close()

    assert code == 0
    assert len(answers) > 8
    assert {status for status, _ in answers} == {200}
    assert {decision_id for _, decision_id in answers} <= kept


def _asking(service: Service, place: int) -> list[tuple[int, str]]:
    """Status and decision of every answer to a caller that asks until nobody listens any more."""
    answers = []
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
        for number in range(100_000):
            try:
                answer = client.post(f"{service.url}/v1/decisions", json={"customer_id": f"c-{place}-{number}"})
            except httpx.TransportError:
                break
            answers.append((answer.status_code, str(answer.json().get("decision_id"))))
    return answers
