"""B9: decisions that are still answered in time where several times as many are asked for as can be made."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
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
            seconds=1.0 if worlds.quick else 8.0,
            connections=CALLERS,
            deadline=DEADLINE_SECONDS,
            probe=request("GET", "/livez", KEY),
        )
        _sent(plan)  # the first requests find nothing warm
        peaks, found = {}, {}
        for (
            level
        ) in LEVELS:  # each behind a peak of its own: the more contacts customers have, the longer decisions take
            peaks[level] = _good_rate(_sent(plan), plan)
            found[level] = _sent(_at(plan, level * peaks[level]))
    return list(_told(found, plan, peaks))


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


def _refused(found: dict[str, Any], kind: str) -> float:
    results = found["results"].get(kind, {})
    return float(results.get("429", 0) + results.get("503", 0)) / max(1, sum(results.values()))


def _told(found: dict[int, dict[str, Any]], plan: Plan, peaks: dict[int, float]) -> list[Measure]:
    good = {level: _good_rate(one, plan) for level, one in found.items()}
    worst = found[max(LEVELS)]
    seconds = worst["good_seconds"].get("decisions") or [DEADLINE_SECONDS]
    unit = "decisions/s"
    return [
        *[
            Measure(
                name=f"good_at_{level}x_against_the_peak_of_32_callers",
                unit=unit,
                ours=good[level],
                baseline=peaks[level],
                ratio=good[level] / peaks[level],
                target=0.8,
                at_most=False,
            )
            for level in LEVELS
        ],
        absolute("median_at_4x", 1000 * median(seconds), unit="ms", target=None, at_most=True),
        absolute("slowest_health_at_4x", 1000 * max(worst["probe_seconds"]), unit="ms", target=None, at_most=True),
        *[
            absolute(f"{kind}_refused_at_4x", _refused(worst, kind), unit="share", target=None, at_most=True)
            for kind in SHARES
        ],
    ]
