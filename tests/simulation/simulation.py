"""One run: a seed's steps against a simulated installation, each answer held against the obvious model.

A call that fails is made again, as a caller would, until its fault is over: by then what it did is known.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec
import yaml

from features.database_location import DatabaseLocation
from features.errors import Conflict, InFlight, InvalidInput, StoreError
from features.events import FUTURE_SKEW_US, dump_timestamp, parse_timestamp
from features.store import ProfileRow, StateRow
from models.decision import DecisionRecord
from models.records import LostRace
from serving.decide import Answered
from serving.observe import NotAtHand
from serving.problems import LeaseOver, NotActivatable
from serving.recording import Asking
from serving.requests import parse_decision_request
from serving.schemas import DecisionRequest
from tests.doors import HOUR_US, JOURNEY
from tests.faults.full_disk import full_disk
from tests.postgres_servers import empty
from tests.recorded import NAME
from tests.simulation.checks import check_everything, check_history, check_stores
from tests.simulation.drawing import Plan, Step, plan_of
from tests.simulation.faults import Died
from tests.simulation.installation import Installation, StoreKind
from tests.simulation.model import SECOND_US, Broken, Decided, Event, Model, hold
from tests.simulation.setting import DAY, POLICIES, REFUSED_POLICY

T = TypeVar("T")

ASKER: Final = "crm"
_PATIENCE: Final = 4
"""So often a call is made again before what fails is repaired."""

_MEMORY: Final = Path("/dev/shm")  # a killed process leaves its bytes in memory as well as on a disk

_OF_FEATURES: Final = frozenset(
    {"feature_store_unavailable", "feature_store_reset", "feature_store_damaged", "features_rebuilt"}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A promise that was not kept.

    Attributes:
        promise: which, by a short name.
        detail: what was found.
        step: the place of the step that showed it; the number of steps where it showed at the end.
    """

    promise: str
    detail: str
    step: int


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a run.

    Attributes:
        trace: a line for each step, and what was answered.
    """

    trace: tuple[str, ...]
    failure: Failure | None

    @property
    def digest(self) -> str:
        """Of the trace and the failure: the same whenever the same run is made."""
        told = [*self.trace, "" if self.failure is None else f"{self.failure.promise} {self.failure.detail}"]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def simulated(
    plan: Plan, *, kind: StoreKind = "sqlite", folder: Path | None = None, database: DatabaseLocation | None = None
) -> Run:
    """The run of a plan.

    Args:
        plan: what is done.
        kind: where the installation keeps its data.
        folder: for its homes; one that is removed at the end unless it is given.
        database: for stores of the kind ``postgres``; it is emptied first.
    """
    if database is not None:
        empty(database)
    memory = _MEMORY if _MEMORY.is_dir() else None
    made = tempfile.TemporaryDirectory(prefix="headway-simulated-", dir=memory)
    with made if folder is None else nullcontext(folder) as chosen:
        simulation = Simulation(plan, kind, Path(chosen), database)
        try:
            return simulation.run()
        finally:
            simulation.close()


def warmed_up() -> None:
    """Have the jitted code compiled, which takes seconds, before any run in which the disk is full."""
    plan = plan_of(2, steps=40)
    simulated(replace(plan, steps=tuple(step for step in plan.steps if step["do"] in ("ingest", "decide"))))


class Simulation:
    """A run under way."""

    def __init__(self, plan: Plan, kind: StoreKind, folder: Path, database: DatabaseLocation | None = None) -> None:
        self._plan, self._kind = plan, kind
        self.there = Installation(folder, kind=kind, variant=plan.variant, seed=plan.seed, database=database)
        self.model = Model(policy=POLICIES[plan.variant])
        self._labels: dict[str, int] = {"champion": 1, "challenger": 2}
        self._latest = self.there.now
        self._suspect: set[str] = set()
        self._healing: set[str] = set()
        self._is_full = False
        self._n_failed = 0
        self._seen_rows: list[tuple[StateRow, ProfileRow]] = []

    def close(self) -> None:
        """Release the files."""
        self.there.close()

    def run(self) -> Run:
        """Do all steps, then look at everything; the first promise that is not kept ends it."""
        trace: list[str] = []
        place = 0
        try:
            for place, step in enumerate(self._plan.steps):
                told = self._done(step)
                trace.append(f"{place} {json.dumps(step, sort_keys=True)} -> {told}")
            place = len(self._plan.steps)
            trace.append(f"end -> {self._ended()}")
        except Broken as broken:
            return Run(tuple(trace), Failure(broken.promise, str(broken), place))
        except Exception as error:
            return Run(tuple(trace), Failure(f"no_{type(error).__name__}", f"{type(error).__name__}: {error}", place))
        return Run(tuple(trace), None)

    def _done(self, step: Step) -> str:
        steps: dict[str, Callable[[Step], str]] = {
            "ingest": self._ingest,
            "decide": lambda step: self._decide(step["request"]),
            "repeat": self._repeat,
            "together": self._together,
            "activate": self._activate,
            "returned": self._return,
            "fault": self._arm,
            "lift": self._lift,
            "clock": self._tick,
            "policy": self._set_policy,
            "promote": self._promote,
            "workforce": self._staff,
            "restart": lambda _: self._opened(self.there.restart),
            "crash": self._crash,
            "features_lost": self._lose_features,
            "disk_full": self._fill_disk,
        }
        told = steps[step["do"]](step)
        self._beside()
        return told

    def _beside(self) -> None:
        """What the service does beside its requests."""
        try:
            self.there.later.run_all()
        except Died:
            self._die()
        fired = self.there.faults.fired
        self._suspect = self._suspect | self._everybody() if fired else self._suspect - self._healing
        self._healing.clear()
        fired.clear()

    def _everybody(self) -> set[str]:
        """Every id of which anything was told."""
        ids = {one.customer_id for one in self.model.events.values()}
        return ids | {self.model.canonical(one) for one in ids}

    # ---- calls
    def _called(self, work: Callable[[], T]) -> tuple[T, int]:
        """What a call gives, made again while it fails; and how often it failed."""
        for failed in range(_PATIENCE + 1):
            if failed == _PATIENCE:
                self.there.faults.armed.clear()
            full = full_disk() if self._is_full and not failed else nullcontext()
            try:
                self._n_failed = failed
                with full:
                    return work(), failed
            except StoreError:
                hold("fails_without_fault", bool(self.there.faults.fired) or self._is_full, "no fault was active")
            except Died:
                self._die()
            self._suspect |= self._everybody()
            self.there.faults.fired.clear()
        raise Broken("heals", "a call fails when no fault is left")

    def _ingest(self, step: Step) -> str:
        source = step["source"]
        documents = [self._document(one) for one in step["events"]]
        bad = [place for place, one in enumerate(step["events"]) if "bad" in one]
        report, failed = self._called(
            lambda: self.there.runtime.ingest.ingest(documents, source=source, arrived_at=self.there.now)
        )
        told = [
            self._event(source, cast("dict[str, Any]", document), place)
            for place, document in enumerate(documents)
            if place not in bad
        ]
        self._check_report(report, bad, told, failed, n=len(documents))
        return f"{report.accepted} {report.duplicates} {len(report.rejected)} {report.degraded} after {failed}"

    def _check_report(self, report: Any, bad: Sequence[int], told: Sequence[Event], failed: int, *, n: int) -> None:
        hold("counts", report.accepted + report.duplicates + len(report.rejected) == n, report)
        hold("rejects", [index for index, _ in report.rejected] == list(bad), (report, bad))
        new = {(one.source, one.event_id) for one in told} - self.model.events.keys()
        if not failed:
            hold("duplicates", report.accepted == len(new), (report, sorted(new)))
        else:
            hold("duplicates", report.accepted <= len(new), (report, sorted(new)))
        for one in told:
            self.model.events.setdefault((one.source, one.event_id), one)
        fired = self.there.faults.fired
        hold("degraded", "features" not in fired or bool(report.degraded), report)
        hold("degraded", bool(fired) or not report.degraded or self._is_full, report)

    def _document(self, told: Step) -> object:
        document = {
            "event_id": f"e-{told['id']}",
            "customer_id": told["customer"],
            "kind": told["kind"],
            "occurred_at": dump_timestamp(self.there.now - told["age"] * SECOND_US),
            "channel": told["channel"],
            "facts": told["facts"],
        } | ({"sequence": told["sequence"]} if "sequence" in told else {})
        later = dump_timestamp(self._latest + 2 * DAY * SECOND_US)
        changes: dict[str, Any] = {
            "no_kind": {"kind": "nonsense"},
            "far_future": {"occurred_at": later},
            "naive_time": {"occurred_at": "2026-03-01T10:00:00"},
            "unknown_fact": {"facts": {"nonsense": 1}},
            "null_byte": {"customer_id": "c\0"},
            "not_finite": {"kind": "card_used", "channel": "web", "facts": {"amount": float("inf")}},
        }
        if told.get("bad") == "no_object":
            return 7
        return document | changes.get(told.get("bad", ""), {})

    def _event(self, source: str, document: Mapping[str, Any], place: int) -> Event:
        return Event(
            source=source,
            event_id=document["event_id"],
            customer_id=document["customer_id"],
            kind=document["kind"],
            at=parse_timestamp(document["occurred_at"]),
            sequence=document.get("sequence", place),
            facts=document["facts"],
        )

    # ---- decisions
    def _decide(self, drawn: Mapping[str, Any]) -> str:
        document = self._question(drawn)
        answered, failed = self._called(lambda: self._answered(document, drawn))
        return f"{self._learn(document, answered.answer, drawn)} after {failed}"

    def _question(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        document = {name: value for name, value in drawn.items() if name not in ("as_of_age", "waited")}
        if "as_of_age" in drawn:
            document["as_of"] = dump_timestamp(self.there.now - drawn["as_of_age"] * SECOND_US)
        return document

    def _answered(self, document: Mapping[str, Any], drawn: Mapping[str, Any]) -> Answered:
        self.there.faults.fired.clear()
        request, asking = self._asking(document, drawn)
        return cast(Answered, self.there.runtime.decider.answered(request, asking))

    def _asking(self, document: Mapping[str, Any], drawn: Mapping[str, Any]) -> tuple[DecisionRequest, Asking]:
        request = parse_decision_request(dict(document), idempotency_key=None, new_request_id="none")
        arrived = int(self.there.timer() * 1_000_000)
        self.there.spend(drawn.get("waited", 0))
        return request, Asking(source=ASKER, now=self.there.now, arrived=arrived)

    def _learn(
        self, document: Mapping[str, Any], answer: bytes, drawn: Mapping[str, Any], *, is_alone: bool = True
    ) -> str:
        """Take down an answer, and hold it against what is known."""
        told = msgspec.json.decode(answer)
        self.there.faults.is_off = True
        stored = self.there.stores.records.decision(told["decision_id"])
        self.there.faults.is_off = False
        if document.get("mode") == "dry_run":
            hold("dry_run", stored is None, told["decision_id"])
            return f"dry {_short(answer)}"
        hold("acknowledged", stored is not None and stored.answer == answer, told["decision_id"])
        record: DecisionRecord = stored.record
        known = self.model.by_id.get(record.decision_id)
        if known is not None:
            hold("same_bytes", known.answer == answer, record.decision_id)
            self.model.check_shown_again(document, known, at=self.there.now)
            return f"known {_short(answer)}"
        self.model.check_decision(document, record)
        self.model.check_decided_anew(document, record)
        if is_alone:
            self.model.check_suppressions(record)
            self._check_degraded(record, drawn)
        self._check_moment(record)
        self._check_bundle(record)
        self._check_assignees(record)
        self.model.commit(Decided(dict(document), ASKER, answer, record))
        self._check_ids(record.customer_id, *record.linked_ids)
        return f"{record.decision_id} {record.arm} {[one.treatment_id for one in record.selected]} {_short(answer)}"

    def _check_degraded(self, record: DecisionRecord, drawn: Mapping[str, Any]) -> None:
        said = _OF_FEATURES.intersection(record.degraded)
        if "features" in self.there.faults.fired:
            hold("degraded", "feature_store_unavailable" in said, record.degraded)
        elif record.customer_id not in self._suspect and not self._is_full:
            hold("heals", not said, (record.customer_id, record.degraded))
        elif self._n_failed == 0 and "feature_store_unavailable" not in said:
            self._healing.add(record.customer_id)
        late = drawn.get("waited", 0) > 0
        hold("deadline", ("deadline_exceeded" in record.degraded) == late, record.degraded)
        hold("deadline", not (late and record.selected), record.selected)

    def _check_moment(self, record: DecisionRecord) -> None:
        log = self.there.stores.log
        newest = log.arrived_at(log.head())
        hold("moments", record.decided_at >= self.there.now or newest <= self.there.now, record.decided_at)
        hold("moments", record.decided_at > newest, (record.decided_at, newest))

    def _check_bundle(self, record: DecisionRecord) -> None:
        alias = "challenger" if record.arm == "challenger" else "champion"
        expected = f"{NAME}@{alias}/{self._labels[alias]}"
        hold("bundle", record.versions.get("bundle") == expected, (record.versions.get("bundle"), expected))

    def _check_assignees(self, record: DecisionRecord) -> None:
        for person_id in record.assignees:
            person = self.model.people.get(person_id or "", {"available": True, "most_open": 1})
            hold("assignee", person_id is None or (person["available"] and person["most_open"] > 0), person_id)

    def _repeat(self, step: Step) -> str:
        known = self._known(step)
        if known is None:
            return "nothing to repeat"
        document = dict(known.request)
        if step["changed"]:
            document["max_actions"] = 50
            with_other_body, _ = self._called(lambda: self._refused(document, Conflict))
            hold("conflict", with_other_body, document)
            return "conflict"
        answered, failed = self._called(lambda: self._answered(document, {}))
        hold("same_bytes", answered.answer == known.answer, known.record.decision_id)
        return f"same {_short(answered.answer)} after {failed}"

    def _refused(self, document: Mapping[str, Any], error: type[Exception]) -> bool:
        try:
            self._answered(document, {})
        except error:
            return True
        return False

    def _known(self, step: Mapping[str, Any]) -> Decided | None:
        decisions = self.model.decisions
        return decisions[-1 - step["which"] % len(decisions)] if decisions else None

    def _together(self, step: Step) -> str:
        """Two decisions, each made before the other is committed; and the same one asked again meanwhile."""
        pending: list[tuple[Any, ...]] = []
        told: list[str] = []
        for drawn in step["requests"]:
            document = self._question(drawn)
            request, asking = self._asking(document, drawn)
            runtime = self.there.runtime  # which dies with all that it has pending
            steps = runtime.decider.at_hand(request, asking)
            try:
                pending.append((runtime, drawn, document, steps, next(steps)))
            except StopIteration as end:
                told.append(self._learn(document, end.value.answer, drawn, is_alone=False))
            except (NotAtHand, StoreError):
                told.append(self._decide(drawn))
            except Died:
                self._die()
                return " | ".join([*told, *(self._decide(one) for one in step["requests"][len(told) :])])
        for _, _, document, _, _ in [one for one in pending if one[0] is self.there.runtime]:
            try:
                hold("in_flight", self._refused(document, InFlight), document)
            except StoreError:
                self._suspect |= self._everybody()
            except Died:
                self._die()
                break
        if step["activated_between"] is not None:
            told.append(self._activate({"which": step["activated_between"], "slots": None}))
        for runtime, drawn, document, steps, commit in reversed(pending) if step["reversed"] else pending:
            is_alive = runtime is self.there.runtime
            told.append(self._committed(drawn, document, steps, commit) if is_alive else self._again(drawn, document))
        return " | ".join(told)

    def _committed(self, drawn: Mapping[str, Any], document: Mapping[str, Any], steps: Any, commit: Any) -> str:
        records = self.there.runtime.records
        try:
            while True:
                try:
                    commit = steps.send(records.commit(*commit))
                except LostRace as race:
                    commit = steps.throw(race)
        except StopIteration as end:
            return self._learn(document, end.value.answer, drawn, is_alone=False)
        except StoreError:
            steps.close()
        except Died:
            self._die()
        return self._again(drawn, document)

    def _again(self, drawn: Mapping[str, Any], document: Mapping[str, Any]) -> str:
        answered, failed = self._called(lambda: self._answered(document, drawn))
        return f"{self._learn(document, answered.answer, drawn, is_alone=False)} again after {failed}"

    # ---- what follows a decision
    def _activate(self, step: Step) -> str:
        known = self._known(step)
        if known is None:
            return "nothing to activate"
        record, body = known.record, {} if step["slots"] is None else {"slots": step["slots"]}
        chosen = [one.action_id for one in record.selected if step["slots"] is None or one.slot in step["slots"]]
        at = max(self.there.now, record.decided_at)
        before = {one.action_id: one.status for one in self.model.activatable(record.decision_id, at)}
        told, failed = self._called(lambda: self._activated(record, body))
        if told == "activated":
            hold("lease", set(chosen) <= before.keys(), (record.decision_id, chosen, before))
            ids = self.model.ids(record.customer_id)
            for one in self.model.contacts:
                if one.decision_id == record.decision_id and one.action_id in chosen and one.status == "lease":
                    self.model.check_caps(one, ids, at=at)
                    hold("activated_consent", self.model.is_open(one, record.customer_id), one)
                    self.model.confirm(record.decision_id, [one.action_id], at=at)
            hold("holdout", record.arm != "no_contact_holdout", record.decision_id)
        elif told == "over":
            is_over = any(one not in before for one in chosen) or self.model.is_given_back(record.decision_id, chosen)
            hold("lease_over", is_over, (record.decision_id, chosen, before))
        elif told == "refused" and record.mode == "live" and record.selected:
            hold("activation_refused", self.model.is_closed(record, chosen, at), (record.decision_id, chosen, before))
        self._check_ids(record.customer_id)
        return f"{told} {chosen} after {failed}"

    def _activated(self, record: DecisionRecord, body: Mapping[str, Any]) -> str:
        try:
            self.there.runtime.activations.activate(record, body, now=self.there.now)
        except LeaseOver:
            return "over"
        except NotActivatable:
            return "refused"
        except InvalidInput:
            return "invalid"
        return "activated"

    def _return(self, step: Step) -> str:
        told = [one for item in step["items"] if (one := self._returned_item(item, step["source"])) is not None]
        seen: set[str] = set()  # which of two exposures of one contact in a batch counts is nobody's promise
        told = [one for one in told if one[0]["type"] != "exposure" or not (one[1] in seen or seen.add(one[1]))]
        if not told:
            return "nothing to tell"
        documents = [document for document, *_ in told]
        report, failed = self._called(
            lambda: self.there.runtime.outcomes.record(documents, source=step["source"], arrived_at=self.there.now)
        )
        rejected = [index for index, _ in report.rejected]
        for place, (document, _, _, is_valid) in enumerate(told):
            if is_valid is not None:
                hold("returned", (place not in rejected) == is_valid, (document, report))
        kept = [event for place, (_, _, event, _) in enumerate(told) if place not in rejected]
        self._check_report(report, rejected, kept, failed, n=len(documents))
        for event in kept:
            self.model.note(self.model.events[event.source, event.event_id])
        self._check_ids(*(self.model.by_id[decision_id].record.customer_id for _, decision_id, _, _ in told))
        return f"{report.accepted} {report.duplicates} {rejected} late {report.late} after {failed}"

    def _returned_item(
        self, item: Mapping[str, Any], source: str
    ) -> tuple[dict[str, Any], str, Event, bool | None] | None:
        """The document, its decision, the event that it becomes, and whether it must be taken; None where it may be."""
        known = self._known(item)
        if known is None:
            return None
        record = known.record
        at = self.there.now - item["age"] * SECOND_US
        document = {"decision_id": record.decision_id, "type": item["type"], "occurred_at": dump_timestamp(at)}
        if item["id"] is not None:
            document["outcome_event_id"] = f"o-{item['id']}"
        first = record.first
        is_exposure = item["type"] == "exposure"
        kind, about = ("action_exposed", first.treatment_id) if is_exposure else ("outcome_observed", "progress_7d")
        facts: dict[str, Any] = {"decision_id": record.decision_id}
        if is_exposure:
            facts |= {"action_id": first.action_id}
        else:
            document |= {"outcome_id": "progress_7d", "value": item["value"]}
            facts |= {"value": item["value"]}
        is_early = at < record.decided_at - FUTURE_SKEW_US
        is_valid: bool | None = not is_early and (not is_exposure or (record.mode == "live" and bool(record.selected)))
        if is_valid and record.decided_at >= self.there.now:
            is_valid = None  # the clock was set back since: it may be in the future
        event = Event(
            source=source,
            event_id=document.get("outcome_event_id", f"{record.decision_id}/{kind}/{about}"),
            customer_id=record.customer_id,
            kind=kind,
            at=max(at, record.decided_at + 1),
            sequence=-1,
            facts=facts,
        )
        return document, record.decision_id, event, is_valid

    # ---- what happens to the service
    def _arm(self, step: Step) -> str:
        self.there.faults.armed[step["where"]] = (step["passing"], step["when"])
        return "armed"

    def _lift(self, _: Step) -> str:
        self.there.faults.armed.clear()
        return "lifted"

    def _tick(self, step: Step) -> str:
        by = step["to"] * SECOND_US - self.there.now if "to" in step else step["by"] * SECOND_US
        if "to" not in step or by > 0:
            self.there.now = max(self.there.now + by, self._latest - 6 * HOUR_US)
        self._latest = max(self._latest, self.there.now)
        return dump_timestamp(self.there.now)

    def _set_policy(self, step: Step) -> str:
        configurations = self.there.runtime.configurations
        version = configurations.in_force.configuration.versions["policy"]
        if step["how"] == "refused":
            try:
                configurations.put("policy", REFUSED_POLICY, if_match=f'"{version}"', source="sim")
            except InvalidInput:
                return "refused"
            raise Broken("policy", "a policy that is not valid was put in force")
        wanted = POLICIES[step["variant"]]
        if step["how"] == "put":
            configurations.put("policy", wanted, if_match=f'"{version}"', source="sim")
        else:
            file = self.there.home.config / "policy.yaml"
            file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
            self.there.touch(file)
            configurations.refresh()
            configurations.refresh()
        self.model.policy = wanted
        return configurations.in_force.configuration.versions["policy"]

    def _promote(self, step: Step) -> str:
        self.there.promote(step["version"], step["alias"])
        self._labels[step["alias"]] = step["version"]
        return "promoted"

    def _staff(self, step: Step) -> str:
        now = self.there.now
        told, failed = self._called(lambda: self.there.runtime.workforce.put({"persons": step["persons"]}, now=now))
        for person in step["persons"]:
            self.model.people[person["person_id"]] = person
        for one in told.persons:
            put = self.model.people[one.person_id]
            if "open_work" in put:
                hold("workforce", one.open_work == put["open_work"], (one, put))
        return f"{[(one.person_id, one.open_work) for one in told.persons]} after {failed}"

    def _opened(self, opening: Callable[[], None]) -> str:
        """Open the service once more; what it told is all there."""
        opening()
        check_stores(self.there, self.model)
        return "opened"

    def _die(self) -> None:
        """Be killed within a call: what was told before is all there, and what is under way may be."""
        self.there.crash(loses_features=False)
        check_stores(self.there, self.model, is_calling=True)

    def _crash(self, step: Step) -> str:
        if step["loses_features"]:
            self._suspect |= self._everybody()
        return self._opened(lambda: self.there.crash(loses_features=step["loses_features"]))

    def _lose_features(self, step: Step) -> str:
        """The online store is emptied, or set back to what it was the last time; it is a cache, and nothing is lost."""
        features = self.there.stores.features
        rows = [features.read(one, JOURNEY) for one in sorted(self._everybody())]
        found = [(row.state, row.profile) for row in rows if row.state is not None and row.profile is not None]
        if step["how"] == "cleared":
            features.forget(sorted(self._everybody()))
        else:
            features.write([state for state, _ in self._seen_rows], [profile for _, profile in self._seen_rows])
        self._seen_rows = found
        self._suspect |= self._everybody()
        return f"{len(found)} rows"

    def _fill_disk(self, step: Step) -> str:
        self._is_full = self._kind == "sqlite"
        try:
            return self._done(step["step"])
        finally:
            if self._is_full:
                self._suspect |= self._everybody()
            self._is_full = False

    # ---- looking
    def _check_ids(self, *customer_ids: str) -> None:
        records, now = self.there.stores.records, self.there.now
        check_everything(records, self.model, customer_ids, now=now)

    def _ended(self) -> str:
        self.there.faults.armed.clear()
        self._beside()
        check_stores(self.there, self.model)
        return check_history(self.there, self.model)


def _short(answer: bytes) -> str:
    return hashlib.sha256(answer).hexdigest()[:12]
