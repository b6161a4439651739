"""The obvious model: what callers were told, in plain dictionaries and lists, and what must hold after it.

It shares no code with the product. It knows no kernel and no scores: those are judged by doing them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from models.decision import DecisionRecord
from tests.simulation.setting import ACTIONS, OPT_IN, OPT_OUT

SECOND_US: Final = 1_000_000
ZONE: Final = "Europe/Amsterdam"
_ACTIONS: Final = {one["id"]: one for one in ACTIONS}
_UNITS: Final = {"h": 3_600, "d": 86_400}
_SEVERITY: Final = ("granted", "withdrawn", "objected")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Broken(Exception):
    """A promise was not kept.

    Attributes:
        promise: which, by a short name.
    """

    def __init__(self, promise: str, detail: object) -> None:
        self.promise = promise
        super().__init__(f"{promise}: {detail}")


def hold(promise: str, is_kept: bool, detail: object = "") -> None:
    """Raise ``Broken`` unless a promise is kept."""
    if not is_kept:
        raise Broken(promise, detail)


def duration_us(text: str) -> int:
    """Microseconds of a duration such as ``7d``."""
    return int(text[:-1]) * _UNITS[text[-1]] * SECOND_US


@dataclass(slots=True)
class Event:
    """An event that was accepted."""

    source: str
    event_id: str
    customer_id: str
    kind: str
    at: int
    sequence: int
    facts: Mapping[str, Any]

    @property
    def order(self) -> tuple[int, int, str, str]:
        """Among those of a customer."""
        return (self.at, self.sequence, self.source, self.event_id)


@dataclass(slots=True)
class Contact:
    """A contact or a lease, as a caller can know it."""

    decision_id: str
    customer_id: str
    action_id: str
    channel: str
    at: int
    status: str
    expires_at: int
    send_id: str | None
    answer: tuple[int, bool] | None = None
    """When something came back, and whether it was no; the newest holds, and no over yes."""


@dataclass(slots=True)
class Hold:
    """What a lease holds of a capacity."""

    decision_id: str
    customer_id: str
    action_id: str
    window: tuple[str, int]
    need: float
    expires_at: int
    send_id: str | None
    is_released: bool = False


@dataclass(slots=True)
class Decided:
    """A decision that was answered."""

    request: dict[str, Any]
    source: str
    answer: bytes
    record: DecisionRecord


@dataclass(slots=True)
class Model:
    """What was acknowledged.

    Attributes:
        events: by source and id.
        decisions: in the order in which they were committed.
        policy: the one in force.
        arms: of ids that were found in the holdout.
    """

    policy: Mapping[str, Any]
    events: dict[tuple[str, str], Event] = field(default_factory=dict)
    decisions: list[Decided] = field(default_factory=list)
    by_id: dict[str, Decided] = field(default_factory=dict)
    contacts: list[Contact] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    used: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    arms: dict[tuple[str, ...], str] = field(default_factory=dict)

    # ---- who is who
    def is_linked(self, alias: str) -> bool:
        """Whether an alias belongs to its customer now: what was said last, in the order of events."""
        said = [
            one
            for one in self.events.values()
            if one.kind in ("identity_linked", "identity_unlinked") and one.facts["alias"] == alias
        ]
        return bool(said) and max(said, key=lambda one: one.order).kind == "identity_linked"

    def canonical(self, customer_id: str) -> str:
        """The id that a person is known by: the simulation links ``a-1`` to ``c-1`` only."""
        is_alias = customer_id.startswith("a-") and self.is_linked(customer_id)
        return f"c{customer_id[1:]}" if is_alias else customer_id

    def ids(self, customer_id: str) -> tuple[str, ...]:
        """Every id of a person, sorted."""
        own = self.canonical(customer_id)
        alias = f"a{own[1:]}"
        return tuple(sorted({own, alias})) if own.startswith("c-") and self.is_linked(alias) else (own,)

    def of(self, ids: Iterable[str]) -> list[Event]:
        """The events of some ids, in order."""
        chosen = set(ids)
        return sorted((one for one in self.events.values() if one.customer_id in chosen), key=lambda one: one.order)

    # ---- what is asked of a customer
    def consents(self, customer_id: str) -> dict[str, str]:
        """The newest state by consent; of two ids at one time the more restrictive."""
        newest: dict[str, tuple[int, int]] = {}
        for one_id in self.ids(customer_id):
            told = {
                str(one.facts["consent"]): (one.at, _SEVERITY.index(str(one.facts["state"])))
                for one in self.of([one_id])
                if one.kind == "consent_changed"
            }
            for consent, found in told.items():
                newest[consent] = max(newest.get(consent, found), found)
        return {consent: _SEVERITY[severity] for consent, (_, severity) in newest.items()}

    def time_zone(self, customer_id: str, at: int) -> str:
        """Where a customer lives, as told before a moment."""
        told = [
            str(one.facts["time_zone"])
            for one in self.of(self.ids(customer_id))
            if one.kind == "profile_updated" and "time_zone" in one.facts and one.at < at
        ]
        return told[-1] if told else ZONE

    # ---- a decision
    def check_decision(self, request: Mapping[str, Any], record: DecisionRecord) -> None:
        """Hold a decision that was made just now against the hard rules."""
        hold("customer", record.customer_id == self.canonical(request["customer_id"]), record.customer_id)
        self._check_numbers(record)
        self._check_arm(record)
        consents = self.consents(record.customer_id)
        outbound = request.get("direction", "outbound") == "outbound"
        for one in record.selected:
            channel = str(next(each.channel for each in record.candidates if each.treatment_id == one.treatment_id))
            if not _ACTIONS[one.action_id].get("transactional"):
                is_open = consents.get("marketing") in (None, "granted") and consents.get("all") in (None, "granted")
                hold("objection", is_open and consents.get(channel) != "objected", (one.action_id, channel, consents))
                is_given = channel not in OPT_IN or consents.get(channel) == "granted"
                is_withdrawn = channel in OPT_OUT and consents.get(channel) == "withdrawn"
                hold("consent", is_given and not is_withdrawn, (one.action_id, channel, consents))
            zone = self.time_zone(record.customer_id, record.as_of)
            hold("quiet_hours", not (outbound and self._is_quiet(channel, record.as_of, zone)), (channel, zone))
        taken = [one.action_id for one in record.selected]
        hold("slots", len(taken) == len(set(taken)), taken)

    def check_shown_again(self, request: Mapping[str, Any], known: Decided, *, at: int) -> None:
        """Another request was answered by a decision that was made before: only of its own send, while that holds."""
        record = known.record
        if request["request_id"] == known.request["request_id"]:
            return
        hold("send", request.get("send_id") is not None and request["send_id"] == record.send_id, record.send_id)
        hold("send_question", _question(request) == _question(known.request), (request, known.request))
        hold("send_expired", record.expires_at > at, (record.decision_id, record.expires_at, at))
        for one in self.contacts:
            if one.decision_id == record.decision_id:
                hold("send_lease", one.status != "released", one)
                hold("send_consent", self.is_open(one, record.customer_id), one)

    def check_decided_anew(self, request: Mapping[str, Any], record: DecisionRecord) -> None:
        """A send was decided: nothing that had been decided of it, for the same question, held."""
        if record.send_id is None or record.mode != "live" or record.arm == "no_contact_holdout":
            return
        ids = self.ids(record.customer_id)
        of_send = [
            one
            for one in self.decisions
            if one.record.send_id == record.send_id and one.record.mode == "live" and one.record.customer_id in ids
        ]
        if not of_send:
            return
        before = of_send[-1].record
        holds = (
            _question(request) == _question(of_send[-1].request)
            and before.expires_at > record.decided_at
            and before.consents == record.consents
            and before.versions["actions"] == record.versions["actions"]
            and "deadline_exceeded" not in before.degraded
        )
        hold("send_once", not holds, (before.decision_id, record.decision_id))

    def _check_numbers(self, record: DecisionRecord) -> None:
        marginal = [one.selection_probability for one in record.candidates]
        of_arm = [one.arm_selection_probability for one in record.candidates]
        for name, chances in (("marginal", marginal), ("arm", of_arm)):
            hold("probabilities", all(0.0 <= one <= 1.0 for one in chances), (name, chances))
            hold("probabilities", abs(sum(chances) - 1.0) < 1e-9, (name, chances))
        first = record.first
        hold("taken_probability", first.selection_probability > 0.0 and first.arm_selection_probability > 0.0, first)
        shares = record.arm_probabilities.values()
        hold("arm_probabilities", abs(sum(shares) - 1.0) < 1e-9 and min(shares) >= 0.0, record.arm_probabilities)

    def _check_arm(self, record: DecisionRecord) -> None:
        ids = tuple(sorted({record.customer_id, *record.linked_ids}))
        hold("linked_ids", ids == self.ids(record.customer_id), (ids, self.ids(record.customer_id)))
        is_held = any(self.arms.get((one,)) == "no_contact_holdout" for one in ids)
        hold("holdout", not is_held or record.arm == "no_contact_holdout", (ids, record.arm))
        hold("holdout", record.arm != "no_contact_holdout" or not record.selected, record.selected)
        if record.arm == "no_contact_holdout":
            self.arms[ids] = record.arm

    @staticmethod
    def _is_quiet(channel: str, at: int, zone: str) -> bool:
        local = (_EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone))
        if channel == "call" and local.weekday() == 6:
            return True
        return channel in ("sms", "push", "call") and not 8 <= local.hour < 21

    def commit(self, decided: Decided) -> None:
        """Remember a new decision, with the contacts and capacities that it takes; each must have had room."""
        record, request = decided.record, decided.request
        self.decisions.append(decided)
        self.by_id[record.decision_id] = decided
        if record.mode != "live":
            return
        ids = self.ids(record.customer_id)
        if record.send_id is not None:
            self._release_send(ids, record.send_id)
        is_counted = request.get("activate", True) and request.get("direction", "outbound") == "outbound"
        for one in record.selected:
            channel = str(next(each.channel for each in record.candidates if each.treatment_id == one.treatment_id))
            made = Contact(
                decision_id=record.decision_id,
                customer_id=record.customer_id,
                action_id=one.action_id,
                channel=channel,
                at=record.decided_at,
                status="confirmed" if is_counted else "lease",
                expires_at=record.expires_at,
                send_id=record.send_id,
            )
            self.check_caps(made, ids, at=record.decided_at)
            self.contacts.append(made)
        if record.selected:
            self._take(record)

    def _release_send(self, ids: Sequence[str], send_id: str) -> None:
        for one in self.contacts:
            if one.customer_id in ids and one.send_id == send_id and one.status == "lease":
                one.status = "released"
        for held in self.holds:
            if held.customer_id in ids and held.send_id == send_id and not held.is_released:
                held.is_released = True
                self.used[held.window] -= held.need

    def check_caps(self, made: Contact, ids: Sequence[str], *, at: int, beside: int = 0) -> None:
        """One more contact fits under every cap that it falls under, with room for so many others beside it."""
        for cap in self.policy["contact_policy"]["caps"]:
            if not _covers(cap, made):
                continue
            since = at - duration_us(cap["period"])
            before = [
                one
                for one in self.contacts
                if one is not made
                and one.customer_id in ids
                and _covers(cap, one)
                and one.at >= since
                and (one.status == "confirmed" or (one.status == "lease" and one.expires_at > at))
            ]
            hold("cap", len(before) + beside < cap["contacts"], (cap["id"], made, before))

    def _take(self, record: DecisionRecord) -> None:
        """What the contacts of a new decision take of limits and budgets, which had so much left."""
        own = [one for one in self.contacts if one.decision_id == record.decision_id]
        needs = [(one, *need) for one in own for need in self._needs(one)]
        for window in {window for _, window, _, _ in needs}:
            for held in self.holds:
                if held.window == window and not held.is_released and held.expires_at <= record.decided_at:
                    held.is_released = True
                    self.used[window] -= held.need
        for one, window, need, limit in needs:
            self.used[window] += need
            hold("capacity", self.used[window] <= limit + 1e-9, (window, self.used[window], limit))
            if one.status == "lease":
                self.holds.append(
                    Hold(one.decision_id, one.customer_id, one.action_id, window, need, one.expires_at, one.send_id)
                )

    def _needs(self, one: Contact) -> Iterable[tuple[tuple[str, int], float, float]]:
        action = _ACTIONS[one.action_id]
        for limit in self.policy["capacity"]["limits"]:
            if limit.get("channel", one.channel) == one.channel and limit.get("queue") in (
                None,
                action.get("assigned_to"),
            ):
                yield (limit["id"], window_start(limit["period"], one.at)), 1.0, limit["units"]
        cost = next(each["contact_cost"] for each in action["treatments"] if each["channel"] == one.channel)
        for budget in self.policy["capacity"]["budgets"]:
            yield (budget["id"], window_start(budget["period"], one.at)), cost, budget["amount"]

    def capacity_used(self, at: int) -> dict[str, float]:
        """What is taken of each limit and budget in the period of a moment, where it is anything."""
        found = {}
        for one in (*self.policy["capacity"]["limits"], *self.policy["capacity"]["budgets"]):
            window = (one["id"], window_start(one["period"], at))
            ended = sum(
                held.need
                for held in self.holds
                if held.window == window and not held.is_released and held.expires_at <= at
            )
            taken = self.used.get(window, 0.0) - ended
            if abs(taken) > 1e-9:
                found[one["id"]] = taken
        return found

    # ---- what comes back
    def confirm(self, decision_id: str, action_ids: Iterable[str], *, at: int) -> None:
        """Contacts of a decision count from now on; those that do already stay as they are."""
        for one in self.contacts:
            if one.decision_id == decision_id and one.action_id in set(action_ids) and one.status != "confirmed":
                one.status, one.at = "confirmed", at
        for held in [one for one in self.holds if one.decision_id == decision_id and one.action_id in set(action_ids)]:
            if held.is_released:
                self.used[held.window] += held.need
            self.holds.remove(held)

    def note(self, event: Event) -> None:
        """Something came back for a decision: it was shown, or had an outcome."""
        decision_id = str(event.facts["decision_id"])
        if event.kind == "action_exposed":
            self.confirm(decision_id, [str(event.facts["action_id"])], at=event.at)
            return
        for one in self.contacts:
            if one.decision_id == decision_id:
                told = (event.at, event.facts["value"] == 0)
                one.answer = told if one.answer is None else max(one.answer, told)

    def check_suppressions(self, record: DecisionRecord) -> None:
        """Nobody who said no to an action gets it again while that holds."""
        for rule in self.policy["contact_policy"]["suppressions"]:
            for one in self.contacts:
                is_no = one.answer is not None and one.answer[1] and one.status == "confirmed"
                if (
                    is_no
                    and record.as_of < one.at + duration_us(rule["hold"])
                    and one.customer_id in self.ids(record.customer_id)
                ):
                    again = [each.action_id for each in record.selected if each.action_id == one.action_id]
                    hold("suppression", not again or bool(_ACTIONS[one.action_id].get("transactional")), (one, again))

    # ---- activations
    def is_open(self, one: Contact, customer_id: str) -> bool:
        """Whether consents leave a contact open now."""
        given = self.consents(customer_id)
        if _ACTIONS[one.action_id].get("transactional"):
            return True
        if any(given.get(name) not in (None, "granted") for name in ("marketing", "all")):
            return False
        if one.channel in OPT_IN:
            return given.get(one.channel) == "granted"
        return given.get(one.channel) in (None, "granted", *(("withdrawn",) if one.channel not in OPT_OUT else ()))

    def is_given_back(self, decision_id: str, action_ids: Sequence[str]) -> bool:
        """Whether what a lease held of a capacity went to others meanwhile."""
        return any(
            one.is_released and one.decision_id == decision_id and one.action_id in action_ids for one in self.holds
        )

    def is_closed(self, record: DecisionRecord, action_ids: Sequence[str], at: int) -> bool:
        """Whether anything stands by now against contacts that do not count yet: consents, caps, the holdout.

        Of a lease that is over too either may be told: that it is over, or that the consent is gone.
        """
        ids = self.ids(record.customer_id)
        if any(self.arms.get((one,)) == "no_contact_holdout" for one in ids) or len(ids) > 1:
            return True  # of two ids that were linked since, one may be in the holdout unseen
        for one in self.contacts:
            if one.decision_id == record.decision_id and one.action_id in action_ids and one.status != "confirmed":
                if not self.is_open(one, record.customer_id):
                    return True
                if one.status != "lease":
                    continue
                try:
                    self.check_caps(one, ids, at=at, beside=len(action_ids) - 1)
                except Broken:
                    return True
        return False

    def activatable(self, decision_id: str, at: int) -> list[Contact]:
        """The contacts of a decision that are still leases, or count."""
        return [
            one
            for one in self.contacts
            if one.decision_id == decision_id
            and (one.status == "confirmed" or (one.status == "lease" and one.expires_at > at))
        ]

    def counting(self, customer_id: str, at: int) -> list[tuple[str, str, str, int, str]]:
        """Contacts and live leases of one id, as the record store must tell them."""
        return sorted(
            (one.decision_id, one.action_id, one.channel, one.at, one.status)
            for one in self.contacts
            if one.customer_id == customer_id
            and (one.status == "confirmed" or (one.status == "lease" and one.expires_at > at))
        )


def _covers(cap: Mapping[str, Any], one: Contact) -> bool:
    issue = _ACTIONS[one.action_id]["issue"]
    return (
        cap.get("channel", one.channel) == one.channel
        and cap.get("issue", issue) == issue
        and cap.get("action", one.action_id) == one.action_id
    )


def window_start(period: str, at: int) -> int:
    """When the period began that a moment is in: days at midnight, weeks on Monday, hours counted from midnight."""
    zone = ZoneInfo(ZONE)
    day = (
        (_EPOCH + timedelta(microseconds=at))
        .astimezone(zone)
        .replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    )
    if period == "7d":
        day = (day.replace(tzinfo=None) - timedelta(days=day.weekday())).replace(tzinfo=zone)
    midnight = (day.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    return at - (at - midnight) % duration_us(period) if period.endswith("h") else midnight


def _question(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a request asks, with what it asks where it says nothing."""
    defaults = {"activate": True, "direction": "outbound", "mode": "live", "max_actions": 3, "explain": "none"}
    return {**defaults, **{name: value for name, value in request.items() if name != "request_id"}}
