"""The HTTP application over an installation in memory: built-in configuration, own clock, own keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from httpx import Response
from litestar.testing import TestClient

from features.errors import StoreUnavailable
from features.event_export import event_table
from features.event_log import MemoryEventLog
from features.events import dump_timestamp
from features.home import Home
from features.journey_report import journey_report
from features.store import FeatureStore, MemoryStore
from models.configuration import Configuration, built_in_configuration
from models.explanation_requests import ExplanationReply, ExplanationRequest
from models.jobs import Jobs
from models.journey_reports import KeptReports, ReportRequest
from models.memory_jobs import MemoryJobs
from models.memory_records import MemoryRecordStore
from models.rulebooks import feature_sets_of
from serving.api.app import application
from serving.api.openapi import api_document
from serving.assembly import Stores, assemble
from serving.auth import Tokens
from serving.champions import Champions, served_bundles
from serving.child_commands import Command, Finished
from serving.keys import KeyFile
from serving.prices import Prices
from serving.runtime import Runtime
from serving.settings import Settings
from serving.surroundings import Surroundings
from serving.telemetry import Metrics
from tests.json_schema import violations

NOW = 1_772_366_400_000_000
"""2026-03-01T12:00:00Z, a Sunday at noon."""

HOUR_US = 3_600_000_000
BOOTSTRAP = "hw_bootstrap_0123456789"
JOURNEY = "credit_card_application"


@cache
def _configuration() -> Configuration:
    return built_in_configuration()


def _no_command(asked: Command) -> Finished:
    raise StoreUnavailable(f"no process runs {asked.words}, expected a test that says what it prints")


@dataclass
class World:
    """An installation in memory. Every answer of a documented call is checked against the API's description."""

    folder: Path
    configuration: Configuration = field(default_factory=_configuration)
    settings: Settings = field(default_factory=lambda: Settings(bootstrap_key=BOOTSTRAP, threads=2))
    log: Any = field(default_factory=lambda: MemoryEventLog(identifiers=_configuration().taxonomy.identifiers))
    features: FeatureStore = field(default_factory=MemoryStore)
    records: Any = field(default_factory=MemoryRecordStore)
    jobs: Jobs = field(default_factory=MemoryJobs)
    now: int = NOW
    chance: int = 0
    chance_lock: Lock = field(default_factory=Lock)
    reports_made: int = 0
    env: dict[str, str] = field(default_factory=dict)
    champions: list[Champions] = field(default_factory=list)
    challengers: list[Champions] = field(default_factory=list)
    prices: list[Prices] = field(default_factory=list)
    explain: Callable[[ExplanationRequest], ExplanationReply] = lambda _: ExplanationReply(kind="failed")
    command: Callable[[Command], Finished] = _no_command
    tokens: Tokens | None = None
    are_local: bool = True

    @property
    def keys(self) -> KeyFile:
        """The keys of the installation."""
        return KeyFile(self.folder / "keys.json")

    def key(self, source: str, *roles: str, **more: Any) -> str:
        """A new key."""
        return self.keys.create(source=source, roles=roles, secret=self.random_bytes(36), at=self.now, **more)

    def random_bytes(self, n: int) -> bytes:
        """Bytes that differ from call to call, and are the same in every run."""
        with self.chance_lock:
            self.chance += 1
            return self.chance.to_bytes(n, "big")[::-1]

    def runtime(self) -> Runtime:
        """The runtime over this installation."""
        configuration = self.configuration
        champions, challengers = served_bundles(self.home, configuration, feature_sets_of(configuration))
        self.champions.append(champions)
        self.challengers.append(challengers)
        self.prices.append(Prices(self.home.prices))
        self.prices[-1].refresh()
        return assemble(
            settings=self.settings,
            configuration=configuration,
            stores=Stores(
                log=self.log, records=self.records, features=self.features, jobs=self.jobs, are_local=self.are_local
            ),
            keys=self.keys,
            tokens=self.tokens,
            champions=champions,
            challengers=challengers,
            prices=self.prices[-1],
            metrics=Metrics(),
            surroundings=Surroundings(
                clock=lambda: self.now, randomness=self.random_bytes, timer=lambda: self.now / 1_000_000
            ),
            kept_reports=KeptReports(self.folder / "reports"),
            make_report=self.made_report,
            home=self.home,
            env=self.env,
            make_explanation=self.explain,
            run_command=lambda asked: self.command(asked),
        )

    def made_report(self, request: ReportRequest) -> bytes:
        """A journey report over the log in memory."""
        self.reports_made += 1
        configuration = self.configuration
        report = journey_report(
            event_table([one for page in self.log.read(until=request.until_position) for one in page]),
            configuration.taxonomy,
            configuration.journeys.by_id[request.journey_id],
            request.question,
            configuration=request.configuration,
        )
        return msgspec.json.encode(report)

    @property
    def home(self) -> Home:
        """Where the installation keeps what is not in memory."""
        return Home(self.folder)

    @contextmanager
    def client(self, *, keep: Callable[[Runtime], object] = lambda _: None) -> Iterator[Client]:
        """A client of the running application; ``keep`` is given its runtime."""

        @asynccontextmanager
        async def opened() -> AsyncIterator[Runtime]:
            runtime = self.runtime()
            keep(runtime)
            yield runtime
            runtime.workers.close()
            runtime.errands.close()

        with TestClient(application(opened), raise_server_exceptions=False) as inner:
            yield Client(inner)


class Client:
    """Calls the application with the bootstrap key, unless told otherwise."""

    def __init__(self, inner: TestClient[Any]) -> None:
        self._inner = inner
        self._document = api_document()

    def get(self, path: str, *, key: str | None = BOOTSTRAP) -> Response:
        """The answer to a GET."""
        return self._checked("get", self._inner.get(path, headers=_headers(key), follow_redirects=False), path)

    def post(
        self, path: str, body: object, *, key: str | None = BOOTSTRAP, headers: dict[str, str] | None = None
    ) -> Response:
        """The answer to a POST of JSON, or of bytes as they are."""
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self._checked("post", self._inner.post(path, headers=_headers(key) | (headers or {}), **sent), path)

    def put(
        self, path: str, body: object, *, key: str | None = BOOTSTRAP, headers: dict[str, str] | None = None
    ) -> Response:
        """The answer to a PUT of JSON."""
        return self._checked("put", self._inner.put(path, headers=_headers(key) | (headers or {}), json=body), path)

    def done(self, path: str, body: object) -> Any:
        """The JSON of a POST that must succeed, not checked against the description: for calls by the thousand."""
        answer = self._inner.post(path, headers=_headers(BOOTSTRAP), json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def other(
        self,
        method: str,
        path: str,
        *,
        key: str | None = BOOTSTRAP,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        json: object = None,
    ) -> Response:
        """The answer to anything else, not checked against the description."""
        sent = [*_headers(key).items(), *(headers.items() if isinstance(headers, dict) else headers or ())]
        return self._inner.request(method, path, headers=sent, json=json, follow_redirects=False)

    def _checked(self, method: str, answer: Response, path: str) -> Response:
        described = self._described(method, path.partition("?")[0])
        if described is not None:
            media_type = answer.headers["content-type"].partition(";")[0]
            content = described["responses"][str(answer.status_code)]["content"][media_type]
            if media_type.endswith("json"):
                found = list(violations(answer.json(), content["schema"], self._document))
                assert found == [], found
        return answer

    def _described(self, method: str, path: str) -> dict[str, Any] | None:
        for template, operations in self._document["paths"].items():
            parts, given = template.split("/"), path.split("/")
            if len(parts) == len(given) and all(a == b or a.startswith("{") for a, b in zip(parts, given, strict=True)):
                found: dict[str, Any] | None = operations.get(method)
                return found
        return None


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def event(event_id: str = "e-1", *, hours_ago: float = 1.0, **changes: Any) -> dict[str, Any]:
    """An application that customer c-1 sent in, on the web, unless told otherwise."""
    fields: dict[str, Any] = {
        "event_id": event_id,
        "customer_id": "c-1",
        "kind": "application_submitted",
        "occurred_at": dump_timestamp(NOW - int(hours_ago * HOUR_US)),
        "channel": "web",
        "facts": {"product": "classic"},
    }
    return fields | changes
