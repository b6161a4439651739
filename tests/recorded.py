"""Recorded decisions of every kind over the built-in journey: stages, arms, requests, races, models and policies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from features.events import dump_timestamp
from models.bundle import compiled, write_bundle
from models.configuration import Configuration, built_in_configuration, install_texts, load_configuration
from models.decision import DecisionRecord
from models.forest import raw_scores_block
from models.hazards import Periods
from models.heads import FittedHeads, Head, control_head, effect_head, hazard_head, incidence_head
from models.manifest import Lineage
from models.memory_records import MemoryRecordStore
from models.records import AssigneeTaken, Committed, CustomerRecords, LostRace, Reservation
from models.registry import CHAMPION, LocalRegistry
from models.rulebooks import feature_sets_of
from tests.boosters import booster, stump
from tests.doors import HOUR_US, JOURNEY, NOW, Client, World, event

NAME = f"nba-{JOURNEY}"
KINDS = (
    *("documents_uploaded", "documents_rejected", "identity_verified", "card_offer_presented", "card_offer_reopened"),
    *("card_offer_accepted", "card_activated", "activation_failed", "card_used", "page_viewed", "call_received"),
    *("complaint_opened", "application_withdrawn"),
)
LEAVING = ("card_used", "application_withdrawn")
REQUIRED_FACTS: dict[str, dict[str, Any]] = {"card_used": {"amount": 12.5}, "page_viewed": {"page": "help"}}
CHANNELS = {"call_received": "call", "documents_rejected": "back_office", "identity_verified": "back_office"}
CONSENTS = ("sms", "email", "push", "call", "marketing")
STATES = (*("granted",) * 12, "withdrawn", "objected")


ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "region": ("north", "south"),
    "tenure_years": (0.0, 3.0, 19.0),
    "time_zone": ("America/New_York", "Europe/Amsterdam"),
    "income_band": ("below_20k", "35k_55k"),
    **dict.fromkeys(("arrears_flag", "hardship_flag", "vulnerable_flag"), (False, False, False, False, True)),
}
PEOPLE = {
    "onboarding_desk": ("p-1", "p-2", "p-3"),
    "digital_support": ("p-3", "p-4"),
    "verification_desk": ("p-5", "p-6"),
}
DEADLINE_MS = 50


class RacingRecords(MemoryRecordStore):
    """A store in which some live decisions lose a race, for their first contact or for who handles it.

    Attributes:
        while_reading: called whenever a customer is read for a decision.
    """

    race: Callable[[DecisionRecord, Reservation | None], None]
    while_reading: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.race = Races()
        self.while_reading = lambda: None

    def customer(self, customer_id: str, **asked: Any) -> CustomerRecords:
        """What is known of a customer, after a while."""
        self.while_reading()
        return super().customer(customer_id, **asked)

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision, unless it loses."""
        self.race(record, reservation)
        return super().commit(record, answer, reservation)


class Races:
    """Every tenth decision that reserves a contact loses it, every third somebody to handle it; then they decide again.

    Attributes:
        taken: decisions whose person was taken.
    """

    def __init__(self) -> None:
        self._reserved = 0
        self._staffed = 0
        self.taken: set[str] = set()

    def __call__(self, record: DecisionRecord, reservation: Reservation | None) -> None:
        """Lose, or not."""
        if reservation is None or not reservation.treatment_ids:
            return
        self._reserved += 1
        if self._reserved % 10 == 0:
            raise LostRace(reservation.treatment_ids[0], "cap.all_week")
        for treatment_id, person_id in zip(reservation.treatment_ids, reservation.assignees, strict=False):
            self._staffed += person_id is not None
            if person_id is not None and self._staffed % 3 == 0:
                self.taken.add(record.decision_id)
                raise AssigneeTaken(treatment_id, person_id)


def lively(configuration: Configuration, **changes: Any) -> dict[str, str]:
    """The texts of the built-in files under a policy in which every arm and every draw is met often."""
    texts = {f"{part}.yaml": text for part, text in configuration.texts.items()}
    policy = yaml.safe_load(texts["policy.yaml"])
    policy["experiment"] |= {"no_contact_holdout": 0.1, "random_eligible": 0.25, "challenger": 0.1}
    policy["exploration"] = {"epsilon": 0.5, "temperature": 3.0, "regret_budget": 400.0}
    policy["rules"] = [
        *(rule for rule in policy["rules"] if rule["id"] == "elig.journey_open"),
        _rule("suit.lead_class", {"field": "lead_class", "one_of": ["WARM", "HOT"]}, stage="suitability"),
    ]
    policy["contact_policy"]["fatigue"] = {"period": "14d", "growth": 0.5}
    policy["contact_policy"]["suppressions"] = [
        {"id": "hold.ignored", "after": "ignored", "ignored_after": "3d", "scope": "action", "hold": "20d"},
        {"id": "hold.said_no", "after": "negative", "scope": "group", "hold": "20d"},
        {"id": "hold.accepted", "after": "positive", "scope": "channel", "hold": "10d"},
    ]
    policy["capacity"] = {
        "limits": [
            {"id": "limit.sms", "units": 1, "period": "1d", "channel": "sms"},
            {"id": "limit.onboarding", "units": 2, "period": "7d", "queue": "onboarding_desk"},
        ],
        "budgets": [
            {"id": "budget.all", "amount": 5_000.0, "period": "7d"},
            {"id": "budget.grow", "amount": 10.0, "period": "7d", "issues": ["grow"]},
        ],
    }
    texts["policy.yaml"] = yaml.safe_dump(policy | changes)
    actions = yaml.safe_load(texts["actions.yaml"])
    for one in actions["actions"]:
        if "assigned_to" in one:
            one["prior_uplift"] = 0.4
    survey = next(one for one in actions["actions"] if one["id"] == "survey_experience")
    desktop = _rule("appl.desktop", {"field": "context:device", "equals": "desktop"}, stage="applicability")
    new_terms = {"id": "tell_new_terms", "mandatory": True, "prior_uplift": 0.0, "rules": [desktop]}
    treatments = [one | {"id": f"{one['channel']}_terms_v1"} for one in survey["treatments"]]
    actions["actions"].append(survey | new_terms | {"treatments": treatments})
    texts["actions.yaml"] = yaml.safe_dump(actions)
    return texts


def _rule(rule_id: str, condition: dict[str, Any], *, stage: str) -> dict[str, Any]:
    issues = {"issues": ["grow"]} if stage == "suitability" else {}
    return {"id": rule_id, "stage": stage, "all_of": [condition], **issues}


def recorded_world(folder: Path, **parts: Any) -> World:
    """An installation whose home holds the lively configuration, and no model yet."""
    parts.setdefault("records", RacingRecords())
    world = World(folder, **parts)
    install_texts(world.home.create(), lively(built_in_configuration()))
    world.configuration = load_configuration(world.home, {})
    return world


def promote(world: World, version: int, alias: str = CHAMPION) -> None:
    """Register bundles up to a version, and give it an alias; each version believes something else."""
    registry = LocalRegistry(world.home.bundles)
    while len(registry.versions(NAME)) < version:
        made = world.folder / f"made-{len(registry.versions(NAME)) + 1}"
        _write_bundle(made, world.configuration, len(registry.versions(NAME)) + 1)
        registry.register(made, NAME, {})
    registry.set_alias(NAME, alias, version, at=world.now)
    # A pointer that is set twice within the clock's grain must look changed.
    os.utime(world.home.champion_file if alias == CHAMPION else world.home.challenger_file, ns=(version, version))


def _write_bundle(directory: Path, configuration: Configuration, version: int) -> None:
    features = feature_sets_of(configuration)[JOURNEY]
    n = len(features.names)
    at = {name: place for place, name in enumerate(features.names)}
    hours, stage = at["hours_since_progress"], at["stage_index"]
    periods = Periods((configuration.journeys.by_id[JOURNEY].horizon,), 0)
    effects = [effect_head("progress_7d", one) for one in ("nudge_documents", "callback_help", "remind_next_step")]
    fitted = FittedHeads(
        heads=(
            Head(name=hazard_head("progress", 0), mean=0.3),
            Head(name=hazard_head("abandon", 0), mean=0.2),
            Head(name=control_head("progress_7d"), members=("control",), link="logistic"),
            *(
                Head(
                    name=one, members=(one,), mean=0.02, mean_se=0.01, weight=0.5, spread="jackknife", sigma_floor=0.01
                )
                for one in effects
            ),
        ),
        boosters={
            "control": booster(stump(stage, 0.5, -1.0, 0.1 * version), stump(hours, 24.0, 0.2, -0.2), n_features=n),
            **{
                one: booster(stump(stage, 1.5, 0.05 * (place + version), 0.3 / (place + 1)), n_features=n)
                for place, one in enumerate(effects)
            },
        },
        periods=periods,
        incidence=(
            Head(name=incidence_head("progress", 0), members=("progress@0",)),
            Head(name=incidence_head("abandon", 0), members=("abandon@0",)),
        ),
    )
    lineage = Lineage(
        name=NAME,
        journey_id=JOURNEY,
        created_at=NOW + version,
        feature_names=features.names,
        features_version=features.version,
        configuration=dict(configuration.versions),
    )
    rows = np.random.default_rng(version).normal(1.0, 2.0, size=(8, n))
    raw = raw_scores_block(compiled([fitted], lineage).forest, rows)
    write_bundle(directory, lineage=lineage, fitted=[fitted], golden_rows=rows, golden_raw=raw)


def live(world: World, client: Client, *, decisions: int, customers: int, seed: int) -> None:
    """Events, links, people at work, decisions of every kind and what came back, while twenty days go by."""
    rng = np.random.default_rng(seed)
    if isinstance(world.records, RacingRecords):
        world.records.while_reading = lambda: _wait(world, rng)
    people = [f"c-{seed}-{number}" for number in range(customers)]
    for start in range(0, customers, 200):
        batch = [one for person in people[start : start + 200] for one in _history(world, person, rng)]
        answer = client.done("/v1/events", {"events": batch})
        assert answer["rejected"] == 0, answer["rejections"][:3]
    for number in range(0, customers, 7):
        client.done("/v1/identities/link", {"alias": f"device-{seed}-{number}", "customer_id": people[number]})
    aliases = [f"device-{seed}-{number}" for number in range(0, customers, 7)]
    for number in range(decisions):
        world.now += int(rng.integers(1, 2 * 20 * 24 * HOUR_US // decisions))
        if number % 20 == 0:
            assert client.put("/v1/workforce", {"persons": _people(rng)}).status_code == 200
        who = [people, aliases, [f"nobody-{seed}-{number}"]][int(rng.choice(3, p=[0.8, 0.1, 0.1]))]
        question = _question(f"q-{seed}-{number}", str(rng.choice(who)), rng)
        answer = client.done("/v1/decisions", question)
        if answer["selected"] and "mode" not in question and rng.random() < 0.6:
            client.done("/v1/outcomes", {"outcomes": _returned(world, answer, rng)})


def _wait(world: World, rng: np.random.Generator) -> None:
    if rng.random() < 0.1:
        world.now += 2_000 * DEADLINE_MS


def _people(rng: np.random.Generator) -> list[dict[str, Any]]:
    return [
        {
            "person_id": person,
            "queues": [queue for queue, working in PEOPLE.items() if person in working],
            "available": bool(rng.random() < 0.7),
            "most_open": 4,
            "open_work": int(rng.integers(0, 4)),
        }
        for person in sorted({one for working in PEOPLE.values() for one in working})
    ]


def _returned(world: World, answer: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    told = {"decision_id": answer["decision_id"], "occurred_at": dump_timestamp(world.now)}
    exposure = told | {"type": "exposure"}
    if rng.random() < 0.5:
        return [exposure]
    outcome = {"type": "outcome", "outcome_id": "progress_7d", "value": int(rng.integers(0, 2))}
    return [exposure, told | outcome]


def _history(world: World, person: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    def at(hours_ago: float) -> str:
        return dump_timestamp(world.now - int(hours_ago * HOUR_US))

    odds = np.array([0.2 if kind in LEAVING else 1.0 for kind in KINDS])
    hours = np.sort(rng.uniform(1.0, 400.0, size=int(rng.integers(1, 8))))[::-1]
    events = [event("applied", occurred_at=at(hours[0] + 1.0))]
    for place, ago in enumerate(hours):
        kind = str(rng.choice(KINDS, p=odds / odds.sum()))
        facts = REQUIRED_FACTS.get(kind, {})
        events.append(event(f"e-{place}", kind=kind, occurred_at=at(ago), facts=facts, channel=CHANNELS.get(kind)))
    for consent in CONSENTS:
        if rng.random() < 0.85:
            told = {"consent": consent, "state": STATES[int(rng.integers(len(STATES)))]}
            events.append(
                event(f"consent-{consent}", kind="consent_changed", occurred_at=at(1.0), channel=None, facts=told)
            )
    attributes = {name: values[int(rng.integers(len(values)))] for name, values in ATTRIBUTES.items()}
    if rng.random() < 0.5:
        events.append(event("told", kind="profile_updated", occurred_at=at(2.0), channel=None, facts=attributes))
    return [one | {"customer_id": person, "event_id": f"{person}/{one['event_id']}"} for one in events]


def _question(request_id: str, customer_id: str, rng: np.random.Generator) -> dict[str, Any]:
    question: dict[str, Any] = {"request_id": request_id, "customer_id": customer_id}
    if rng.random() < 0.2:
        question["channel"] = str(rng.choice(["sms", "email", "call", "web"]))
    elif rng.random() < 0.3:
        question |= {"placements": ["web/home", "email/letter", "web/account"], "direction": "inbound"}
    if rng.random() < 0.3:
        question["context"] = {"device": str(rng.choice(["mobile", "desktop"])), "basket": float(rng.integers(90))}
    if rng.random() < 0.2:
        question["candidates"] = {"exclude": ["nudge_documents"], "include": [], "issues": []}
    if rng.random() < 0.2:
        question |= {"send_id": f"send-{rng.integers(50)}", "activate": bool(rng.random() < 0.5)}
    if rng.random() < 0.1:
        question["mode"] = "shadow"
    if rng.random() < 0.5:
        question["deadline_ms"] = DEADLINE_MS
    if rng.random() < 0.2:
        question["max_actions"] = int(rng.integers(1, 20))
    return question
