"""Nobody in the no-contact holdout is contacted by any path, whoever asks at once and whatever is linked meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from features.errors import HeadwayError
from models.actions import NO_ACTION, Catalogue
from models.configuration import built_in_configuration
from models.experiment import arm_of
from models.policy import Policy
from models.record_store import SqlRecordStore
from models.records import RecordStore
from serving.auth import Principal
from serving.problems import NotActivatable
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from tests.decisions import action, policy
from tests.doors import JOURNEY, NOW, World, event

ASKER = Principal("k", "crm", frozenset({"caller"}))

HOLDOUT = "no_contact_holdout"
CALLERS = 32


def _campaign() -> tuple[Catalogue, Policy]:
    """What has to be said, a service message and an offer; half of everybody is held out, and most others explore."""
    common = {"journey": JOURNEY, "outcome": "progress_7d", "group": "cards"}

    def by_mail(name: str, **changes: Any) -> Any:
        treatments = [{"id": f"{name}_email", "channel": "email", "contact_cost": 0.1}]
        return action(name, treatments=treatments, **(common | changes))

    catalogue = Catalogue(
        version=1,
        actions=(
            by_mail("notice", mandatory=True, prior_uplift=0.0),
            by_mail("service", transactional=True),
            by_mail("offer", prior_uplift=0.3),
        ),
    )
    rules = policy(
        experiment={"id": "exp", "salt": "held", "no_contact_holdout": 0.5, "random_eligible": 0.3},
        exploration={"epsilon": 0.5, "temperature": 10.0},
        contact_policy={"caps": [{"id": "cap.notice", "contacts": 1, "period": "30d", "action": "notice"}]},
    )
    return catalogue, rules


def test_thirty_two_callers_reach_nobody_in_the_holdout(tmp_path: Path) -> None:
    """By decisions, sends, activations and exposures; nor whoever is linked to them, from the link on."""
    catalogue, rules = _campaign()
    configuration = replace(built_in_configuration(), catalogue=catalogue, policy=rules)
    names = [f"c-{number}" for number in range(200)]
    held = [one for one in names if arm_of(one, rules.experiment) == HOLDOUT]
    free = [one for one in names if one not in held]
    cookies = held[30:]
    before, during, never = free[:10], free[10:20], free[20:30]
    people = [*held[:10], *before, *during, *never]
    with closing(SqlRecordStore(tmp_path / "records.db", durability="NORMAL")) as records:
        world = World(tmp_path, configuration=configuration, records=records)
        runtime = world.runtime()
        told = [event(f"{one}-applied", customer_id=one, hours_ago=72) for one in people]
        assert runtime.ingest.ingest(told, source="web", arrived_at=NOW).accepted == len(people)
        _link(runtime, dict(zip(before, cookies, strict=False)))
        linked: set[str] = set()
        start = threading.Barrier(CALLERS)
        contacted_late: list[str] = []

        def calls(worker: int) -> None:
            start.wait(30)
            for step in range(12):
                if (worker, step) == (0, 2):
                    _link(runtime, dict(zip(during, cookies[10:], strict=False)))
                    linked.update(during)
                person = people[(7 * worker + step) % len(people)]
                was_linked = person in linked
                if _reached(runtime, records, person, f"r-{worker}-{step}", activate=step % 2 == 0) and was_linked:
                    contacted_late.append(person)

        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(calls, range(CALLERS)))
        contacts = {one: records.customer(one, since=0, now=NOW).contacts for one in (*people, *cookies)}
        contexts = {one: runtime.contexts.context(one, {}, ASKER, now=NOW) for one in people}
        runtime.workers.close()

    assert not contacted_late
    for one in (*held[:10], *before, *cookies):
        assert contacts[one] == ()
    for one in (*held[:10], *before, *during):
        assert contexts[one].held_out
        assert contexts[one].next_best_action is None
    assert all(contacts[one] for one in never)
    assert not any(contexts[one].held_out for one in never)


def _link(runtime: Runtime, cookies: dict[str, str]) -> None:
    for customer_id, cookie in cookies.items():
        runtime.identities.link({"alias": cookie, "customer_id": customer_id}, source="web", now=NOW)


def _reached(runtime: Runtime, records: RecordStore, person: str, request_id: str, *, activate: bool) -> bool:
    """Whether anything contacts somebody: a decision, its activation, or an exposure of any of its candidates."""
    asked = DecisionRequest(request_id=request_id, customer_id=person, activate=activate, send_id=f"send-{activate}")
    answer = msgspec.json.decode(runtime.decider.decide(asked, source="crm", now=NOW))
    stored = records.decision(answer["decision_id"])
    assert stored is not None
    was_held = stored.record.arm == HOLDOUT
    assert not (was_held and answer["selected"])
    is_activated = _is_let(lambda: runtime.activations.activate(stored.record, {}, now=NOW))
    exposures = [
        {
            "decision_id": stored.record.decision_id,
            "type": "exposure",
            "occurred_at": "2026-03-01T12:00:00Z",
            "treatment_id": one.treatment_id,
        }
        for one in stored.record.candidates
        if was_held and one.treatment_id != NO_ACTION
    ]
    accepted = runtime.outcomes.record(exposures, source="web", arrived_at=NOW).accepted if exposures else 0
    return bool(answer["selected"]) or is_activated or accepted > 0


def _is_let(work: Callable[[], object]) -> bool:
    try:
        work()
    except NotActivatable:
        return False
    except HeadwayError:  # another caller of the send took its place, or it counts already
        return False
    return True
