"""B9: decisions that are still answered in time where several times as many are asked for as can be made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from tests.benchmarks.load import Plan, kinds, request
from tests.benchmarks.process import ROOT, Client, service
from tests.benchmarks.report import Measure, absolute
from tests.benchmarks.world import KEY, Worlds, present

DECISIONS = "/v1/decisions"
DEADLINE_SECONDS = 1.0
CALLERS = 32
CONNECTIONS = 1_000
LEVELS = (1, 2, 4)
ROUNDS = 9
"""Of a peak and what comes behind it, for each level: a machine's own pace moves by a third within minutes."""
SHARES = {"decisions": 85, "events": 12, "explanations": 3}
"""Of a hundred requests."""


def measures(worlds: Worlds) -> list[Measure]:
    """Decisions a second in time at once, twice and four times the peak, and who was refused."""
    home = worlds.copy("overload")
    with service(home, compiled=worlds.trained) as server:
        client = Client(server.port)
        client.post("/v1/events", {"events": worlds.documents(present())})
        answer = json.loads(client.post(DECISIONS, {"customer_id": worlds.customer_ids()[0]}))
        requests = _requests(worlds, answer["decision_id"])
        plan = Plan(
            port=server.port,
            requests=requests,
            order=["decisions"],
            rate=0.0,
            seconds=1.0 if worlds.quick else 4.0,
            connections=CALLERS,
            deadline=DEADLINE_SECONDS,
            probe=request("GET", "/livez", KEY),
        )
        client.get(f"{DECISIONS}/{answer['decision_id']}/explanation")  # starts the process that explains
        _sent(plan)  # the first requests find nothing warm
        rounds = [_rounds(plan, level, 1 if worlds.quick else ROUNDS) for level in LEVELS]
    return [told for level, of_level in zip(LEVELS, rounds, strict=True) for told in _told(level, of_level)]


@dataclass(frozen=True, slots=True)
class _Round:
    """What became of requests at several times the peak, between two peaks.

    Attributes:
        peak: good decisions a second of callers who each wait for an answer before they ask again: the mean of just
            before and just after, since decisions take longer the more contacts customers have.
        good: good decisions a second.
        found: what became of them.
    """

    peak: float
    good: float
    found: dict[str, Any]


def _rounds(plan: Plan, level: int, count: int) -> list[_Round]:
    rounds = []
    before = _good_rate(_sent(plan), plan)
    for _ in range(count):
        found = _sent(_at(plan, level * before))
        after = _good_rate(_sent(plan), plan)
        rounds.append(_Round((before + after) / 2, _good_rate(found, plan), found))
        before = after
    return rounds


def _at(plan: Plan, decisions: float) -> Plan:
    """The plan at so many decisions a second, with what is asked beside them."""
    rate = decisions * sum(SHARES.values()) / SHARES["decisions"]
    return Plan(**{**asdict(plan), "order": list(kinds(SHARES)), "rate": rate, "connections": CONNECTIONS})


def _requests(worlds: Worlds, decision_id: str) -> dict[str, list[str]]:
    ids = worlds.customer_ids()
    events = [
        {
            "event_id": f"overload-{number}",
            "customer_id": ids[number % len(ids)],
            "kind": "page_viewed",
            "occurred_at": "2026-01-02T09:00:00Z",
            "channel": "web",
            "facts": {"page": "fees"},
        }
        for number in range(20_000)
    ]
    return {
        "decisions": [request("POST", DECISIONS, KEY, {"customer_id": one}) for one in ids],
        "events": [request("POST", "/v1/events", KEY, {"events": [one]}) for one in events],
        "explanations": [request("GET", f"{DECISIONS}/{decision_id}/explanation", KEY)],
    }


def _sent(plan: Plan) -> dict[str, Any]:
    """What became of a plan, sent by a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.load"]
    done = subprocess.run(
        command, input=json.dumps(asdict(plan)), capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"nothing was sent: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"at {plan.rate:.0f}/s: {found['results']}, {len(found['probe_seconds'])} probes", file=sys.stderr)
    return found


def _good_rate(found: dict[str, Any], plan: Plan) -> float:
    return float(found["results"]["decisions"].get("good", 0)) / plan.seconds


def _refused(found: list[dict[str, Any]], kind: str) -> float:
    results: Counter[str] = sum((Counter(one["results"].get(kind, {})) for one in found), Counter())
    return (results["429"] + results["503"]) / max(1, results.total())


def _told(level: int, rounds: list[_Round]) -> list[Measure]:
    ratios = sorted(one.good / one.peak for one in rounds)
    found = [one.found for one in rounds]
    seconds = [time for one in found for time in one["good_seconds"].get("decisions", ())] or [DEADLINE_SECONDS]
    probes = [time for one in found for time in one["probe_seconds"]]
    only_told = partial(absolute, target=None, at_most=True)
    return [
        Measure(
            name=f"good_at_{level}x_against_the_peak_of_{CALLERS}_callers",
            unit="decisions/s",
            ours=median(one.good for one in rounds),
            baseline=median(one.peak for one in rounds),
            ratio=median(ratios),
            target=0.8,
            at_most=False,
            spread=(ratios[0], median(ratios), ratios[-1]),
        ),
        only_told(f"median_at_{level}x", 1000 * median(seconds), unit="ms"),
        only_told(f"slowest_health_at_{level}x", 1000 * max(probes), unit="ms"),
        *[only_told(f"{kind}_refused_at_{level}x", _refused(found, kind), unit="share") for kind in SHARES],
    ]
