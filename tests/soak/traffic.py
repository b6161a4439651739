"""Callers that send events, ask, ask again, activate and report, all at once, and remember what they were answered."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.benchmarks.process import Client

KINDS: dict[str, dict[str, str]] = {
    "application_submitted": {"product": "classic"},
    "page_viewed": {"page": "/card"},
    "application_edited": {},
}


@dataclass(slots=True)
class Answers:
    """What callers were answered.

    Attributes:
        events: ids of events that were acknowledged.
        answers: each answered decision, by its request id.
        reported: decisions whose exposure was acknowledged.
        counts: calls by kind.
        degraded: reasons that answers named, by how often.
        errors: what went wrong, in words.
        seconds: of calls by kind.
    """

    events: set[str] = field(default_factory=set)
    answers: dict[str, bytes] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    degraded: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)


class Caller:
    """One caller.

    Args:
        port: of the service.
        number: its own.
        customers: how many there are.
        answers: of all callers.
        guard: of ``answers``.
    """

    def __init__(self, port: int, number: int, customers: int, answers: Answers, guard: threading.Lock) -> None:
        self._client = Client(port)
        self._number = number
        self._customers = customers
        self._answers = answers
        self._guard = guard
        self._rng = random.Random(number)  # noqa: S311  # traffic, not a secret
        self._made = 0

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def call(self) -> None:
        """One round: some events, a decision, perhaps again, and what follows from it."""
        self._made += 1
        customer_id = f"c-{self._rng.randrange(self._customers)}"
        self._events(customer_id)
        request_id = f"r-{self._number}-{self._made}"
        body: dict[str, Any] = {"request_id": request_id, "customer_id": customer_id}
        if self._rng.random() < 0.5:
            body |= {"activate": False}
            if self._rng.random() < 0.5:
                body |= {"send_id": f"s-{customer_id}-{self._made % 7}"}
        answer = self._timed("decision", "/v1/decisions", body)
        told = json.loads(answer)
        with self._guard:
            self._answers.answers[told["request_id"]] = answer  # a send has one answer, whoever asks for it
        with self._guard:
            self._answers.degraded.update(told["degraded"])
        is_own = told["request_id"] == request_id
        if is_own and self._rng.random() < 0.2 and self._timed("repeat", "/v1/decisions", body) != answer:
            raise RuntimeError(f"{request_id} was answered otherwise when it was asked again")
        if told["selected"]:
            self._follow(told, is_lease="activate" in body)

    def _events(self, customer_id: str) -> None:
        now = datetime.now(UTC)
        events = [
            {
                "event_id": f"e-{self._number}-{self._made}-{place}",
                "customer_id": customer_id,
                "kind": kind,
                "facts": KINDS[kind],
                "channel": "web",
                "occurred_at": (now - timedelta(minutes=self._rng.randrange(600))).isoformat(),
            }
            for place, kind in enumerate(self._rng.choices(list(KINDS), k=self._rng.randrange(1, 4)))
        ]
        if self._rng.random() < 0.1:
            link = {
                "kind": "identity_linked",
                "channel": None,
                "facts": {"alias": f"visitor-{self._number}-{self._made}"},
            }
            events.append(events[-1] | link | {"event_id": f"l-{self._number}-{self._made}"})
        told = json.loads(self._timed("events", "/v1/events", {"events": events}))
        if told["accepted"] + told["duplicate"] != len(events):
            raise RuntimeError(f"of {len(events)} events {told} was taken")
        with self._guard:
            self._answers.events |= {one["event_id"] for one in events}
            self._answers.degraded.update(told["degraded"])

    def _follow(self, told: dict[str, Any], *, is_lease: bool) -> None:
        decision_id, chosen = told["decision_id"], told["selected"][0]
        if is_lease and self._rng.random() < 0.5:
            self._timed("activation", f"/v1/decisions/{decision_id}/activate", {})
            is_lease = False
        if not is_lease:
            shown = {
                "decision_id": decision_id,
                "type": "exposure",
                "occurred_at": datetime.now(UTC).isoformat(),
                "action_id": chosen["action_id"],
            }
            self._timed("exposure", "/v1/outcomes", {"outcomes": [shown]})
            with self._guard:
                self._answers.reported.add(decision_id)

    def _timed(self, kind: str, path: str, body: Any) -> bytes:
        began = time.perf_counter()
        answer = self._client.post(path, body)
        with self._guard:
            self._answers.counts[kind] += 1
            self._answers.seconds.setdefault(kind, []).append(time.perf_counter() - began)
        return answer


def traffic(port: int, *, seconds: float, callers: int, customers: int) -> Answers:
    """What callers were answered within some seconds; each goes on until its time is over or something went wrong."""
    answers, guard = Answers(), threading.Lock()
    until = time.monotonic() + seconds

    def work(number: int) -> None:
        try:
            with closing(Caller(port, number, customers, answers, guard)) as caller:
                while time.monotonic() < until:
                    caller.call()
        except Exception as error:
            with guard:
                answers.errors.append(f"caller {number}: {type(error).__name__}: {error}")

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(work, range(callers)))
    return answers
