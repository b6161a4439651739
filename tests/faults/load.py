"""A service under load in a process of its own, which tells whoever started it what it asked and what was answered.

Without HTTP, so that a start takes little: events, decisions and what came back for them go through the runtime that
the doors use, over the stores that ``headway serve`` opens.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from features.home import Home
from serving.auth import Principal
from serving.runtime import Runtime
from tests.faults.kill_points import KillPoint, arm

CALLER: Final = Principal("k", "web", frozenset({"caller"}))
CHANNELS: Final = ("email", "sms", "push")
UNITS: Final = 30
"""What all customers together may take of a channel: soon used up under this load."""
CONTACTS_A_WEEK: Final = 2
_SENDERS: Final = 8
_ROUNDS: Final = 60
_DECISIONS_EACH: Final = 2
"""For each customer of each sender, of whom two share their customers: more than the cap has room for."""


@dataclass(slots=True)
class Told:
    """What a service told before it died.

    Attributes:
        asked: what was asked, by number: ``events``, ``decision`` or ``outcomes``, with what was sent.
        answered: what was answered, by the same number: a count of the events, or the digest of a decision.
    """

    asked: dict[int, tuple[str, Any]] = field(default_factory=dict)
    answered: dict[int, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def sent(self, kind: str, *, answered: bool | None = None) -> Iterator[tuple[int, Any]]:
        """Number and content of everything of a kind, or only of what was answered, or not."""
        for number, (each, content) in self.asked.items():
            if each == kind and answered in (None, number in self.answered):
                yield number, content


def prepare(home: Home) -> None:
    """A home whose policy knows no quiet hours and no holdout, and whose capacities are soon used up."""
    home.create()
    for name in ("taxonomy", "journeys", "actions", "policy"):
        shutil.copy(str(files("features") / "defaults" / f"{name}.yaml"), home.config / f"{name}.yaml")
    policy = yaml.safe_load((home.config / "policy.yaml").read_text())
    policy["contact_policy"].pop("quiet_hours")
    policy["contact_policy"].pop("suppressions")
    policy["contact_policy"]["caps"] = [{"id": "cap.week", "contacts": CONTACTS_A_WEEK, "period": "7d"}]
    policy["experiment"] |= {"no_contact_holdout": 0.0, "random_eligible": 1.0}
    policy["capacity"] = {"limits": [{"id": one, "units": UNITS, "period": "1d", "channel": one} for one in CHANNELS]}
    (home.config / "policy.yaml").write_text(yaml.safe_dump(policy))


def environment(home: Home) -> dict[str, str]:
    """The environment of a service over a home."""
    return {"HEADWAY_HOME": str(home.root), "HEADWAY_LOG_LEVEL": "error", "HEADWAY_DEADLINE_MS": "30000"}


def killed(home: Home, point: KillPoint | None, *, seconds: float | None = None) -> Told:
    """What a service under load told until it was killed: at a point, or from outside after some seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["serving.bootstrap"])  # the imports of a start, once for all
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(str(home.root), point, sending), daemon=True)
    process.start()
    sending.close()
    told = Told()
    deadline = None
    while True:
        if deadline is None and seconds is not None and told.answered:
            deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        if deadline is not None and datetime.now(UTC) > deadline:
            process.kill()
            deadline = seconds = None
        try:
            what, number, content = receiving.recv()
        except EOFError:
            break
        (told.asked if what == "asked" else told.answered)[number] = content
    process.join(30)
    told.exit_code = process.exitcode
    return told


def _serve(root: str, point: KillPoint | None, tell: Connection) -> None:
    os.environ["NUMBA_CACHE_DIR"] = os.environ.get("NUMBA_CACHE_DIR", f"{root}/cache/numba")
    if point is not None:
        arm(point)
    asyncio.run(_under_load(Home(Path(root)), tell))


async def _under_load(home: Home, tell: Connection) -> None:
    from serving.bootstrap import open_runtime

    async with open_runtime(environment(home)) as runtime:
        senders = [_Sender(runtime, place, tell).send() for place in range(_SENDERS)]
        await asyncio.gather(*senders)


class _Sender:
    def __init__(self, runtime: Runtime, place: int, tell: Connection) -> None:
        self._runtime = runtime
        self._place = place
        self._tell = tell
        self._numbers = iter(range(place, 1_000_000, _SENDERS))

    async def send(self) -> None:
        for round_ in range(_ROUNDS):
            customer_id = f"c-{self._place // 2}-{round_ // _DECISIONS_EACH}"
            documents = journey(customer_id, own=f"{self._place}-{round_}")
            await self._asked("events", documents, events(self._runtime, documents))
            body = question(customer_id, f"r-{self._place}-{round_}", activate=bool(round_ % 2))
            answer = await self._asked("decision", body, decision(self._runtime, body))
            items = came_back(answer, own=f"{self._place}-{round_}")
            await self._asked("outcomes", items, outcomes(self._runtime, items))

    async def _asked(self, kind: str, content: Any, doing: Any) -> Any:
        number = next(self._numbers)
        self._tell.send(("asked", number, (kind, content)))
        done = await doing
        self._tell.send(("answered", number, digest(done) if isinstance(done, bytes) else done))
        return done


def digest(answer: bytes) -> str:
    """What tells one answer from another."""
    return hashlib.sha256(answer).hexdigest()


async def events(runtime: Runtime, documents: Sequence[Mapping[str, Any]]) -> int:
    """How many events of a batch are in the log afterwards."""
    report = await runtime.workers.run(
        runtime.ingest.ingest, documents, source=CALLER.source, arrived_at=runtime.clock()
    )
    assert not report.rejected, report.rejected
    return report.accepted + report.duplicates


async def decision(runtime: Runtime, body: Mapping[str, Any]) -> bytes:
    """The answer to a request for a decision."""
    return await runtime.desk.answer(lambda: body, CALLER, idempotency_key=None, arrived=runtime.timer())


async def outcomes(runtime: Runtime, items: Sequence[Mapping[str, Any]]) -> int:
    """How many of some exposures and outcomes are in the log afterwards."""
    report = await runtime.workers.run(runtime.outcomes.record, items, source=CALLER.source, arrived_at=runtime.clock())
    assert not report.rejected, report.rejected
    return report.accepted + report.duplicates


def journey(customer_id: str, *, own: str) -> list[dict[str, Any]]:
    """What is known of a customer who applied and may be contacted, with an event that only this batch has."""
    consents = [
        _event(customer_id, f"{customer_id}/{one}", "consent_changed", facts={"consent": one, "state": "granted"})
        for one in CHANNELS
    ]
    return [
        _event(
            customer_id, f"{customer_id}/applied", "application_submitted", channel="web", facts={"product": "classic"}
        ),
        *consents,
        _event(customer_id, f"own-{own}", "page_viewed", channel="web", facts={"page": "fees"}, hours_ago=1),
    ]


def _event(
    customer_id: str,
    event_id: str,
    kind: str,
    *,
    hours_ago: float = 72,
    channel: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    document = {"event_id": event_id, "customer_id": customer_id, "kind": kind, "occurred_at": at.isoformat()}
    return document | ({"channel": channel} if channel else {}) | ({"facts": dict(facts)} if facts else {})


def question(customer_id: str, request_id: str, *, activate: bool) -> dict[str, Any]:
    """A request for a decision."""
    return {"customer_id": customer_id, "request_id": request_id, "activate": activate}


def came_back(answer: bytes, *, own: str) -> list[dict[str, Any]]:
    """What came back for a decision: what was selected was shown, and the customer went on."""
    told = msgspec.json.decode(answer)
    about = {"decision_id": told["decision_id"], "occurred_at": datetime.now(UTC).isoformat()}
    shown = [
        {**about, "type": "exposure", "action_id": one["action_id"], "outcome_event_id": f"shown-{own}"}
        for one in told["selected"]
    ]
    came = {**about, "type": "outcome", "outcome_id": "progress_7d", "value": 1, "outcome_event_id": f"came-{own}"}
    return [*shown, came]
