"""Hard rules hold whatever is configured and whoever asks at once: a slow oracle that shares no code judges."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from features.kernel import Floats, new_state
from models.actions import NO_ACTION, Action, Catalogue
from models.configuration import built_in_configuration
from models.contact_policy import is_quiet
from models.deliberation import Deliberation, Inputs, deliberate, failing_rules_of
from models.policy import Policy, QuietHours
from models.record_store import SqlRecordStore
from models.records import Contact, CustomerRecords
from serving.schemas import DecisionRequest
from tests.decisions import action, policy, question, rulebook
from tests.doors import HOUR_US, JOURNEY, NOW, World, event
from tests.histories import FEATURES, MINUTE_US, START_AT
from tests.histories import event as history_event

DAY_US = 24 * HOUR_US
ZONES = ("Europe/Amsterdam", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia")
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CHANNELS = ("web", "phone")
NAMES = ("a", "b", "c")
ISSUES = ("grow", "service")
GROUPS = ("cards", "loans")
STATES = st.sampled_from(["granted", "withdrawn", "objected"])


# ---- any configuration: plain data, as it is written


def _condition(field: str, operator: dict[str, Any], missing: str) -> dict[str, Any]:
    return {"field": field} | operator | ({} if "known" in operator else {"missing": missing})


_NUMBER = st.integers(0, 3).map(lambda n: {"at_least": n}) | st.integers(0, 3).map(lambda n: {"at_most": n})
_FLAG = st.booleans().map(lambda flag: {"equals": flag})
_KNOWN = st.booleans().map(lambda flag: {"known": flag})


def _one_of(*values: str) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)
    return st.builds(lambda operator, listed: {operator: listed}, st.sampled_from(["one_of", "none_of"]), some)


CONDITIONS = st.one_of(
    *(
        st.builds(_condition, st.just(field), operators | _KNOWN, st.sampled_from(["fail", "pass"]))
        for field, operators in (
            ("attribute:age", _NUMBER),
            ("attribute:member", _FLAG),
            ("attribute:tier", _one_of("basic", "gold")),
            ("holding:card", _FLAG),
            ("context:place", _one_of("home", "work")),
            ("consent:phone", _one_of("granted", "withdrawn", "objected")),
            ("direction", _one_of("inbound", "outbound")),
            ("stage", _one_of("looking", "applied")),
            ("stall_propensity", _NUMBER),
        )
    )
)


@st.composite
def rules(draw: st.DrawFn, name: str, *, filters: bool) -> list[dict[str, Any]]:
    """Up to three rules of any stage; those of a policy may be for some issues and groups."""
    found = []
    for i in range(draw(st.integers(0, 3))):
        rule: dict[str, Any] = {
            "id": f"{name}.{i}",
            "stage": draw(st.sampled_from(["eligibility", "applicability", "suitability"])),
            "all_of": draw(st.lists(CONDITIONS, min_size=1, max_size=2)),
        }
        if filters:
            rule["issues"] = draw(st.lists(st.sampled_from(ISSUES), max_size=1))
            rule["groups"] = draw(st.lists(st.sampled_from(GROUPS), max_size=1))
        found.append(rule)
    return found


@st.composite
def catalogues(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Three actions; some regulated, some without their disclosures, some over, some that have to be said."""
    found = []
    for name in NAMES:
        treatments = [
            {
                "id": f"{name}_{channel}",
                "channel": channel,
                "contact_cost": 0.1,
                "directions": draw(st.sampled_from([["inbound"], ["outbound"], ["outbound", "inbound"]])),
                "placements": draw(st.sampled_from([[], [], [f"{channel}/top"]])),
            }
            for channel in draw(st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=2, unique=True))
        ]
        found.append(
            {
                "id": name,
                "title": name,
                "kind": "nudge",
                "issue": draw(st.sampled_from(ISSUES)),
                "group": draw(st.sampled_from(GROUPS)),
                "journey": "application",
                "outcome": "paid",
                "prior_uplift": 0.2,
                "treatments": treatments,
                "regulated": draw(st.booleans()),
                "disclosures": draw(st.sampled_from([[], ["terms"]])),
                "transactional": draw(st.booleans()),
                "mandatory": draw(st.booleans()),
                "stages": draw(st.sampled_from([[], ["looking"], ["applied"]])),
                "valid_to": draw(st.sampled_from([None, "2023-11-15T00:00:00Z"])),
                "rules": draw(rules(name, filters=False)),
            }
        )
    return found


_NAMED = {
    "channel": st.none() | st.sampled_from(CHANNELS),
    "issue": st.none() | st.sampled_from(ISSUES),
    "group": st.none() | st.sampled_from(GROUPS),
    "action": st.none() | st.sampled_from(NAMES),
}


@st.composite
def suppressions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Up to two of any kind and scope."""
    found = []
    for i in range(draw(st.integers(0, 2))):
        after = draw(st.sampled_from(["ignored", "negative", "positive"]))
        one: dict[str, Any] = {
            "id": f"hold.{i}",
            "after": after,
            "times": draw(st.integers(1, 2)),
            "within": f"{draw(st.integers(1, 9))}d",
            "hold": f"{draw(st.integers(1, 9))}d",
            "scope": draw(st.sampled_from(["channel", "issue", "group", "action", "all"])),
            "channels": draw(st.lists(st.sampled_from(CHANNELS), max_size=1)),
            "issues": draw(st.lists(st.sampled_from(ISSUES), max_size=1)),
        }
        found.append(one | ({"ignored_after": f"{draw(st.integers(0, 3))}d"} if after == "ignored" else {}))
    return found


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """Rules, consents, caps, suppressions and quiet hours."""
    hours = st.integers(0, 23).map(lambda hour: f"{hour:02d}:00")
    opted = draw(st.sampled_from([([], []), (["phone"], []), ([], ["phone"]), (["web"], ["phone"])]))
    quiet = st.fixed_dictionaries(
        {
            "start": hours,
            "end": hours,
            "channels": st.just(["phone"]),
            "days": st.sampled_from([{}, {"phone": ["tuesday", "wednesday"]}]),
        }
    )
    caps = [
        {"id": f"cap.{i}", "contacts": draw(st.integers(0, 2)), "period": f"{draw(st.integers(1, 9))}d"}
        | {key: draw(named) for key, named in _NAMED.items()}
        for i in range(draw(st.integers(0, 2)))
    ]
    return {
        "rules": draw(rules("all", filters=True)),
        "contact_policy": {
            "consent": {"opt_in": opted[0], "opt_out": opted[1]},
            "caps": caps,
            "suppressions": draw(suppressions()),
            "quiet_hours": draw(st.none() | quiet),
        },
        "exploration": {"epsilon": 0.5, "temperature": 5.0},
    }


@st.composite
def contacts(draw: st.DrawFn) -> Contact:
    """One contact of the last days, with an action that may have left the catalogue."""
    days = st.integers(0, 12).map(lambda day: day * 24)  # where bounds lie
    at = START_AT - draw(days | st.integers(0, 12 * 24)) * HOUR_US
    return Contact(
        decision_id="d-0",
        customer_id="c1",
        action_id=draw(st.sampled_from([*NAMES, "gone"])),
        channel=draw(st.sampled_from(CHANNELS)),
        at=at,
        status=draw(st.sampled_from(["confirmed", "confirmed", "confirmed", "lease"])),
        expires_at=START_AT + DAY_US,
        response=draw(st.sampled_from(["", "", "positive", "negative", "neutral"])),
    )


@st.composite
def customers(draw: st.DrawFn) -> dict[str, Any]:
    """What is known of somebody, and what they are asked about; anything may be unknown."""
    placements: list[str] = draw(st.sampled_from([[], [], ["web/top"], ["web/side"], ["phone/top", "web/side"]]))
    return {
        "attributes": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "age": st.integers(0, 3).map(float),
                    "member": st.booleans(),
                    "tier": st.sampled_from(["basic", "gold"]),
                },
            )
        ),
        "holdings": draw(st.none() | st.sampled_from([frozenset(), frozenset({"card"})])),
        "context": draw(st.sampled_from([{}, {"place": "home"}, {"place": "work"}])),
        "consents": draw(
            st.fixed_dictionaries({}, optional={"phone": STATES, "web": STATES, "marketing": STATES, "all": STATES})
        ),
        "contacts": draw(st.lists(contacts(), max_size=4)),
        "zone": draw(st.sampled_from(ZONES)),
        "outbound": draw(st.booleans()),
        "placements": placements,
        "channels": {one.partition("/")[0] for one in placements} or draw(st.sampled_from([None, {"web"}, {"phone"}])),
        "has_entered": draw(st.booleans()),
        "arm": draw(st.sampled_from(["champion", "random_eligible"])),
    }


def _vector(*, has_entered: bool) -> Floats:
    state = new_state(FEATURES.plan)
    if has_entered:
        FEATURES.fold(state, history_event("e1", at=START_AT - 61 * MINUTE_US))
    return FEATURES.vector(state, {}, START_AT)


def _decided(catalogue: Sequence[Mapping[str, Any]], rules: Mapping[str, Any], customer: Mapping[str, Any]) -> Any:
    book = rulebook(*(Action.model_validate(one) for one in catalogue), policy_changes=rules)
    inputs = Inputs(
        decision_id="d-1",
        vector=_vector(has_entered=customer["has_entered"]),
        attributes=customer["attributes"],
        holdings=customer["holdings"],
        context=customer["context"],
        channel=None,
        records=CustomerRecords(tuple(sorted(customer["contacts"], key=lambda one: one.at)), customer["consents"]),
        question=question(
            at=START_AT,
            outbound=customer["outbound"],
            placements=tuple(customer["placements"]),
            channels=None if customer["channels"] is None else frozenset(customer["channels"]),
        ),
        time_zone=customer["zone"],
        arm=customer["arm"],
    )
    deliberation = deliberate(inputs, book, None)
    return deliberation, failing_rules_of(inputs, deliberation.situation, book)


# ---- the oracle: reads the same plain data, and shares nothing with what it judges


def _fact(field: str, customer: Mapping[str, Any]) -> Any:
    scope, _, name = field.partition(":")
    if scope == "holding":
        return None if customer["holdings"] is None else name in customer["holdings"]
    if scope in ("attribute", "context", "consent"):
        return customer[f"{scope}s" if scope != "context" else scope].get(name)
    facts = {
        "direction": "outbound" if customer["outbound"] else "inbound",
        "stage": "looking" if customer["has_entered"] else None,
        "stall_propensity": None,
    }
    return facts[field]


def _is_met(condition: Mapping[str, Any], customer: Mapping[str, Any]) -> bool:
    fact = _fact(condition["field"], customer)
    if "known" in condition:
        return bool((fact is None) != condition["known"])
    if fact is None:
        return bool(condition["missing"] == "pass")
    answers = {
        "equals": lambda wanted: fact == wanted,
        "one_of": lambda wanted: fact in wanted,
        "none_of": lambda wanted: fact not in wanted,
        "at_least": lambda wanted: fact >= wanted,
        "at_most": lambda wanted: fact <= wanted,
    }
    return all(answers[key](wanted) for key, wanted in condition.items() if key in answers)


def _days(written: str) -> timedelta:
    return timedelta(days=int(written.removesuffix("d")))


def _moment(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def _broken(
    one: Mapping[str, Any],
    treatment: Mapping[str, Any],
    catalogue: Sequence[Mapping[str, Any]],
    rules: Mapping[str, Any],
    customer: Mapping[str, Any],
) -> set[str]:
    """Every rule that stands against a candidate, read off the configuration as a person would."""
    channel, now, broken = treatment["channel"], _moment(START_AT), set()
    by_id = {each["id"]: each for each in catalogue}
    if one["valid_to"] is not None and now >= datetime.fromisoformat(one["valid_to"]):
        broken.add("catalogue.validity")
    if customer["channels"] is not None and channel not in customer["channels"]:
        broken.add("request.channel")
    elif customer["placements"] and not [
        place
        for place in customer["placements"]
        if place in treatment["placements"] or (not treatment["placements"] and place.split("/")[0] == channel)
    ]:
        broken.add("request.placements")
    if ("outbound" if customer["outbound"] else "inbound") not in treatment["directions"]:
        broken.add("request.direction")
    for rule in [*rules["rules"], *one["rules"]]:
        is_for = one["issue"] in (rule.get("issues") or ISSUES) and one["group"] in (rule.get("groups") or GROUPS)
        if is_for and not all(_is_met(condition, customer) for condition in rule["all_of"]):
            broken.add(rule["id"])
    if one["stages"] and _fact("stage", customer) not in one["stages"]:
        broken.add("applicability.stage")
    if one["regulated"] and not one["disclosures"]:
        broken.add("suitability.disclosures")
    limits = rules["contact_policy"]
    broken |= _unwanted(one, channel, limits, customer)
    for cap in limits["caps"]:
        about = {"channel": channel, "issue": one["issue"], "group": one["group"], "action": one["id"]}
        if any(cap[key] not in (None, value) for key, value in about.items()):
            continue
        counted = 0
        for contact in customer["contacts"]:
            known = by_id.get(contact.action_id)
            of = {
                "channel": contact.channel,
                "issue": known and known["issue"],
                "group": known and known["group"],
                "action": contact.action_id,
            }
            is_recent = _moment(contact.at) >= now - _days(cap["period"])
            counted += is_recent and all(cap[key] in (None, value) for key, value in of.items())
        if counted >= cap["contacts"]:
            broken.add(cap["id"])
    if not one["transactional"] and not one["mandatory"]:
        broken |= {hold["id"] for hold in limits["suppressions"] if _is_held(hold, one, channel, by_id, customer)}
    return broken


def _unwanted(one: Mapping[str, Any], channel: str, limits: Mapping[str, Any], customer: Mapping[str, Any]) -> set[str]:
    broken, consents, quiet = set(), customer["consents"], limits["quiet_hours"]
    if customer["outbound"] and channel == "web":
        broken.add("contact.channel_not_outbound")
    if not one["transactional"]:
        closed = [consents.get(name) in ("objected", "withdrawn") for name in ("all", "marketing")]
        if any(closed) or consents.get(channel) == "objected":
            broken.add("contact.objection")
        if channel in limits["consent"]["opt_in"] and consents.get(channel) != "granted":
            broken.add(f"contact.consent.{channel}")
        if channel in limits["consent"]["opt_out"] and consents.get(channel) == "withdrawn":
            broken.add(f"contact.consent.{channel}")
    if customer["outbound"] and quiet is not None and _sleeps(quiet, channel, START_AT, customer["zone"]):
        broken.add("contact.quiet_hours")
    return broken


def _sleeps(quiet: Mapping[str, Any], channel: str, at: int, zone: str) -> bool:
    """By the letters of the clock on the customer's wall."""
    wall = datetime.fromtimestamp(at // 1_000_000, ZoneInfo(zone))
    if wall.strftime("%A").lower() in quiet["days"].get(channel, ()):
        return True
    if channel not in quiet["channels"]:
        return False
    shown, start, end = wall.strftime("%H:%M"), quiet["start"], quiet["end"]
    return start <= shown < end if start <= end else not end <= shown < start


def _is_held(
    hold: Mapping[str, Any],
    one: Mapping[str, Any],
    channel: str,
    by_id: Mapping[str, Mapping[str, Any]],
    customer: Mapping[str, Any],
) -> bool:
    counted: list[datetime] = []
    for contact in customer["contacts"]:
        known = by_id.get(contact.action_id)
        shares = {
            "all": True,
            "channel": contact.channel == channel,
            "action": contact.action_id == one["id"],
            "issue": known is not None and known["issue"] == one["issue"],
            "group": known is not None and (known["issue"], known["group"]) == (one["issue"], one["group"]),
        }
        wanted = "" if hold["after"] == "ignored" else hold["after"]
        is_counted = (
            contact.status == "confirmed"
            and contact.response == wanted
            and (not hold["channels"] or contact.channel in hold["channels"])
            and (not hold["issues"] or (known is not None and known["issue"] in hold["issues"]))
        )
        if shares[hold["scope"]] and is_counted:
            counted.append(_moment(contact.at) + _days(hold.get("ignored_after", "0d")))
    now = _moment(START_AT)
    for last in counted:
        before = [moment for moment in counted if last - _days(hold["within"]) <= moment <= last]
        if last <= now < last + _days(hold["hold"]) and len(before) >= hold["times"]:
            return True
    return False


@given(catalogues(), policies(), customers())
@settings(deadline=None, max_examples=400)
def test_what_breaks_a_rule_is_never_selected(
    catalogue: list[dict[str, Any]], rules: dict[str, Any], customer: dict[str, Any]
) -> None:
    """What a rule forbids has no chance, what none forbids is not kept back, and all failing rules are named."""
    deliberation: Deliberation
    deliberation, failing = _decided(catalogue, rules, customer)

    broken = {
        treatment["id"]: _broken(one, treatment, catalogue, rules, customer)
        for one in catalogue
        for treatment in one["treatments"]
    }
    for candidate in deliberation.candidates[:-1]:
        against = broken[candidate.treatment_id]
        assert (candidate.dropped is None) == (not against), (candidate, against)
        assert set(candidate.rule_ids) <= against
        assert {rule_id for _, rule_id in failing[candidate.treatment_id]} == against
        assert candidate.dropped is None or candidate.selection_probability == 0.0
    assert all(not broken[one.treatment_id] for one in deliberation.selected)
    assert deliberation.choice.treatment_id == NO_ACTION or not broken[deliberation.choice.treatment_id]
    assert math.isclose(sum(one.selection_probability for one in deliberation.candidates), 1.0)


@given(
    st.integers(1_600_000_000, 1_900_000_000),
    st.sampled_from(ZONES),
    st.times().map(lambda time: time.strftime("%H:%M")),
    st.times().map(lambda time: time.strftime("%H:%M")),
    st.sets(st.sampled_from(WEEKDAYS)),
)
@settings(deadline=None, max_examples=400)
def test_it_is_quiet_by_the_clock_on_the_customers_wall(
    second: int, zone: str, start: str, end: str, days: set[str]
) -> None:
    """Also while clocks go forward or back, or a day is left out: what the wall shows decides."""
    written = {"start": start, "end": end, "channels": ["phone"], "days": {"web": sorted(days)}}
    quiet = QuietHours.model_validate(written)
    for moment in (second, *(second + step for step in _changes_near(second, zone))):
        for channel in CHANNELS:
            at = moment * 1_000_000
            assert is_quiet(quiet, channel, at, zone) == _sleeps(written, channel, at, zone)


def _changes_near(second: int, zone: str) -> list[int]:
    """Moments around the first change of the clock in the half year from a moment on."""
    offsets = [
        datetime.fromtimestamp(second + hour * 3_600, ZoneInfo(zone)).utcoffset() for hour in range(0, 24 * 184, 6)
    ]
    changed = [place for place in range(1, len(offsets)) if offsets[place] != offsets[place - 1]]
    return [changed[0] * 6 * 3_600 - minutes * 60 for minutes in range(0, 361, 20)] if changed else []


# ---- many callers at once, over the real record store


def _campaign() -> tuple[Catalogue, Policy]:
    """Offers that everybody wants, some that nobody may have, and caps by issue, action and channel."""
    common = {"journey": JOURNEY, "outcome": "progress_7d", "prior_uplift": 0.2, "group": "cards"}

    def over(name: str, *channels: str) -> list[dict[str, Any]]:
        return [{"id": f"{name}_{channel}", "channel": channel, "contact_cost": 0.1} for channel in channels]

    held = [{"id": "elig.holder", "stage": "eligibility", "all_of": [{"field": "holding:gold", "equals": True}]}]
    catalogue = Catalogue(
        version=1,
        actions=(
            action("sell", issue="grow", treatments=over("sell", "sms", "email"), **common),
            action("insure", issue="grow", treatments=over("insure", "email"), **common | {"prior_uplift": 0.19}),
            action("help", issue="service", treatments=over("help", "push"), **common | {"prior_uplift": 0.1}),
            action("ineligible", treatments=over("ineligible", "sms"), rules=held, **common | {"prior_uplift": 0.9}),
            action(
                "undisclosed", treatments=over("undisclosed", "sms"), regulated=True, **common | {"prior_uplift": 0.9}
            ),
        ),
    )
    rules = policy(
        contact_policy={
            "consent": {"opt_in": ["sms", "email", "push"]},
            "caps": [
                {"id": "cap.grow", "contacts": 3, "period": "30d", "issue": "grow"},
                {"id": "cap.sell", "contacts": 2, "period": "30d", "action": "sell"},
                {"id": "cap.push", "contacts": 2, "period": "7d", "channel": "push"},
                {"id": "cap.all", "contacts": 4, "period": "30d"},
            ],
        }
    )
    return catalogue, rules


def test_thirty_two_callers_cannot_break_a_rule(tmp_path: Path) -> None:
    """Caps are filled and no further, an objection is obeyed at once, and what is barred stays barred."""
    catalogue, rules = _campaign()
    configuration = replace(built_in_configuration(), catalogue=catalogue, policy=rules)
    records = SqlRecordStore(tmp_path / "records.db", durability="NORMAL")
    world = World(tmp_path, configuration=configuration, records=records)
    runtime = world.runtime()
    people = ("c-1", "c-2", "c-3")
    told = [
        event(
            f"{person}-{channel}",
            customer_id=person,
            kind="consent_changed",
            channel=None,
            facts={"consent": channel, "state": "granted"},
        )
        for person in people
        for channel in ("sms", "email", "push")
    ]
    applied = [event(f"{person}-applied", customer_id=person, hours_ago=72) for person in people]
    assert runtime.ingest.ingest([*applied, *told], source="web", arrived_at=NOW).accepted == 12
    start, has_objected = threading.Barrier(32), threading.Event()
    after_objection: list[list[str]] = []
    chosen: list[tuple[str, str]] = []

    def objects() -> None:
        facts = {"consent": "marketing", "state": "objected"}
        said = event("no", customer_id="c-3", kind="consent_changed", channel=None, facts=facts, hours_ago=0)
        runtime.ingest.ingest([said], source="web", arrived_at=NOW)
        has_objected.set()

    def asks(worker: int) -> None:
        start.wait(30)
        for i in range(6):
            if (worker, i) == (0, 1):
                objects()
            person, was_closed = people[(worker + i) % 3], has_objected.is_set()
            request = DecisionRequest(request_id=f"r-{worker}-{i}", customer_id=person)
            answer = msgspec.json.decode(runtime.decider.decide(request, source="crm", now=NOW))
            selected = [one["action_id"] for one in answer["selected"]]
            chosen.extend((person, action_id) for action_id in selected)
            if person == "c-3" and was_closed:
                after_objection.append(selected)

    threads = [threading.Thread(target=asks, args=(worker,)) for worker in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = {
        person: Counter(one.action_id for one in records.customer(person, since=0, now=NOW).contacts)
        for person in people
    }
    runtime.workers.close()
    records.close()

    assert len(after_objection) > 0
    assert all(selected == [] for selected in after_objection)
    assert {action_id for _, action_id in chosen} <= {"sell", "insure", "help"}
    for person in ("c-1", "c-2"):
        assert counted[person] == Counter(sell=2, insure=1, help=1)
        assert counted[person] == Counter(action_id for one, action_id in chosen if one == person)
    assert all(counted["c-3"][name] <= most for name, most in (("sell", 2), ("insure", 1), ("help", 1)))
