"""A home in which a service ran an experiment: customers of two stages, three arms, and what came back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from features.event_store import SqlEventLog
from features.events import dump_timestamp
from features.home import Home
from models.configuration import Configuration, built_in_configuration, install_texts, load_configuration
from models.record_store import SqlRecordStore
from tests.doors import HOUR_US, Client, World, event

EXPERIMENT = "exp-autumn"
SHARES = {"no_contact_holdout": 0.25, "random_eligible": 0.25}
RATE, RATE_IF_CONTACTED = 0.2, 0.5
"""Chance of progress of a customer whom nobody contacts, and of one who is contacted."""

DAY_US = 24 * HOUR_US


def experimented_home(folder: Path, *, customers: int, seed: int = 3) -> Home:
    """The home; the last tenth of the customers came in less than a week before its newest event."""
    home = Home(folder).create()
    log = SqlEventLog(home.events_db, durability="NORMAL")
    with closing(log), closing(SqlRecordStore(home.records_db, durability="NORMAL")) as records:
        world = World(folder, records=records, log=log)
        install_texts(home, _texts(built_in_configuration()))
        world.configuration = load_configuration(home, {})
        with world.client() as client:
            _live(world, client, customers, np.random.default_rng(seed))
    return home


def _texts(configuration: Configuration) -> dict[str, str]:
    texts = {f"{part}.yaml": text for part, text in configuration.texts.items()}
    policy = yaml.safe_load(texts["policy.yaml"])
    policy["experiment"] |= {"id": EXPERIMENT, "salt": EXPERIMENT, **SHARES}
    policy["exploration"] = {"epsilon": 0.2, "temperature": 3.0}
    policy["rules"] = [rule for rule in policy["rules"] if rule["id"] == "elig.journey_open"]
    return {**texts, "policy.yaml": yaml.safe_dump(policy)}


def _live(world: World, client: Client, customers: int, rng: np.random.Generator) -> None:
    people = [f"c-{number}" for number in range(customers)]
    start = world.now
    for first in range(0, customers, 200):
        begun = [one for person in people[first : first + 200] for one in _begun(world, person)]
        client.done("/v1/events", {"events": begun})
    contacted = dict.fromkeys(people, False)
    met = dict.fromkeys(people, start)
    late = int(0.9 * customers)
    rounds = [(0, people[:late]), (2, people[:late:3]), (12, people[late:])]
    for days, asked in rounds:
        for number, person in enumerate(asked):
            world.now = start + days * DAY_US + number * HOUR_US // 50
            met[person] = world.now
            contacted[person] |= _decided(world, client, person, f"q-{days}-{person}")
    later = [one for person in people for one in _came(met[person], person, contacted[person], rng)]
    world.now = start + 15 * DAY_US
    client.done("/v1/decisions", {"request_id": "dry", "customer_id": "c-1", "mode": "shadow"})
    for first in range(0, len(later), 200):
        answer = client.done("/v1/events", {"events": later[first : first + 200]})
        assert answer["rejected"] == 0, answer["rejections"][:3]


def _begun(world: World, person: str) -> list[dict[str, Any]]:
    number = int(person.removeprefix("c-"))
    at = dump_timestamp(world.now - 100 * HOUR_US)
    told = [
        event(f"applied-{person}", customer_id=person, occurred_at=at),
        event(
            f"profile-{person}",
            kind="profile_updated",
            customer_id=person,
            occurred_at=at,
            channel=None,
            facts={"region": "north" if number % 2 else "south"},
        ),
    ]
    told += [
        event(
            f"granted-{consent}-{person}",
            kind="consent_changed",
            customer_id=person,
            occurred_at=at,
            channel=None,
            facts={"consent": consent, "state": "granted"},
        )
        for consent in ("email", "sms", "marketing")
    ]
    if number % 4 >= 2:
        later = dump_timestamp(world.now - 90 * HOUR_US)
        told.append(
            event(
                f"verified-{person}",
                kind="identity_verified",
                customer_id=person,
                occurred_at=later,
                channel="back_office",
                facts={},
            )
        )
    return told


def _decided(world: World, client: Client, person: str, request_id: str) -> bool:
    """Whether anything was chosen."""
    answer = client.done("/v1/decisions", {"request_id": request_id, "customer_id": person, "max_actions": 1})
    if not answer["selected"]:
        return False
    world.now += HOUR_US // 100
    exposure = {"type": "exposure", "decision_id": answer["decision_id"], "occurred_at": dump_timestamp(world.now)}
    client.done("/v1/outcomes", {"outcomes": [exposure]})
    return True


def _came(met: int, person: str, contacted: bool, rng: np.random.Generator) -> list[dict[str, Any]]:
    at, number = dump_timestamp(met + DAY_US), int(person.removeprefix("c-"))
    moved, answered = rng.random(2)
    told = []
    if moved < (RATE_IF_CONTACTED if contacted else RATE):
        kind = "card_offer_accepted" if number % 4 >= 2 else "identity_verified"
        channel = None if number % 4 >= 2 else "back_office"
        told.append(event(f"moved-{person}", kind=kind, customer_id=person, occurred_at=at, channel=channel, facts={}))
    if answered < 0.5:
        facts = {"nps": int(rng.integers(0, 11))}
        told.append(
            event(
                f"nps-{person}", kind="feedback_given", customer_id=person, occurred_at=at, channel="web", facts=facts
            )
        )
    return told
