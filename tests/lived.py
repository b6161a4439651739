"""A home that a service filled with decisions of the built-in journey: one action helps, another one harms."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from features.event_store import SqlEventLog
from features.events import dump_timestamp
from features.home import Home
from models.bundle import compiled, write_bundle
from models.configuration import Configuration, built_in_configuration, install_texts, load_configuration
from models.forest import raw_scores_block
from models.hazards import Periods
from models.heads import FittedHeads, Head, control_head, effect_head, hazard_head, incidence_head
from models.manifest import Lineage
from models.record_store import SqlRecordStore
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from models.rulebooks import feature_sets_of
from tests.boosters import booster, stump
from tests.doors import HOUR_US, JOURNEY, World, event
from tests.recorded import NAME

CUSTOMERS = 1_500
GOOD, BAD = "callback_help", "nudge_documents"
TRUTH = {"no_action": 0.2, GOOD: 0.6, BAD: 0.1}
"""Chance of progress by action; 0.2 of any other."""


def believing_bundle(
    world: World, directory: Path, best: str, learned_until: str = "", features_version: str = ""
) -> Path:
    """A bundle that believes in one action and knows the response without any."""
    configuration = world.configuration
    features = feature_sets_of(configuration)[JOURNEY]
    n = len(features.names)
    stage = list(features.names).index("stage_index")
    logit = float(np.log(0.2 / 0.8))
    effects = {effect_head("progress_7d", one): 0.4 if one == best else -0.1 for one in (GOOD, BAD, "remind_next_step")}
    fitted = FittedHeads(
        heads=(
            Head(name=hazard_head("progress", 0), mean=0.3),
            Head(name=hazard_head("abandon", 0), mean=0.2),
            Head(name=control_head("progress_7d"), members=("control",), link="logistic"),
            *(
                Head(name=one, members=(one,), mean=uplift, mean_se=0.01, weight=1.0, spread="jackknife")
                for one, uplift in effects.items()
            ),
        ),
        boosters={
            "control": booster(stump(stage, 0.5, logit - 0.01, logit + 0.01), n_features=n),
            **{one: booster(stump(stage, 0.5, uplift, uplift), n_features=n) for one, uplift in effects.items()},
        },
        periods=Periods((configuration.journeys.by_id[JOURNEY].horizon,), 0),
        incidence=(
            Head(name=incidence_head("progress", 0), members=("progress@0",)),
            Head(name=incidence_head("abandon", 0), members=("abandon@0",)),
        ),
    )
    lineage = Lineage(
        name=NAME,
        journey_id=JOURNEY,
        created_at=world.now,
        feature_names=features.names,
        features_version=features_version or features.version,
        configuration=dict(configuration.versions),
        training={"last_decision_id": learned_until},
    )
    rows = np.random.default_rng(1).normal(1.0, 2.0, size=(8, n))
    raw = raw_scores_block(compiled([fitted], lineage).forest, rows)
    write_bundle(directory, lineage=lineage, fitted=[fitted], golden_rows=rows, golden_raw=raw)
    return directory


EXPERIMENT = {"no_contact_holdout": 0.1, "random_eligible": 0.25, "challenger": 0.1}
EXPLORATION = {"epsilon": 0.5, "temperature": 3.0}


def roomy_policy(
    configuration: Configuration,
    experiment: Mapping[str, float] = EXPERIMENT,
    exploration: Mapping[str, float] = EXPLORATION,
) -> dict[str, str]:
    """The texts of the built-in files under a policy that draws often: what is chosen is up to the models."""
    texts = {f"{part}.yaml": text for part, text in configuration.texts.items()}
    policy = yaml.safe_load(texts["policy.yaml"])
    policy["experiment"] |= experiment
    policy["exploration"] = dict(exploration)
    policy["rules"] = [rule for rule in policy["rules"] if rule["id"] == "elig.journey_open"]
    return {**texts, "policy.yaml": yaml.safe_dump(policy)}


ONE_SLOT: Mapping[str, Any] = {"max_actions": 1}
"""What a decision is asked."""


def lived_home(
    folder: Path,
    texts: Mapping[str, str] | None = None,
    *,
    customers: int = CUSTOMERS,
    asked: Mapping[str, Any] = ONE_SLOT,
) -> Home:
    """A home in which version 1 decided, versions 1 and 3 believe in what harms, 2 in what helps.

    Args:
        folder: of the home.
        texts: of the configuration; ``roomy_policy`` where None.
        customers: how many, one decision each.
        asked: of each decision.
    """
    home = Home(folder).create()
    log = SqlEventLog(home.events_db, durability="NORMAL")
    with closing(log), closing(SqlRecordStore(home.records_db, durability="NORMAL")) as records:
        world = World(folder, records=records, log=log)
        install_texts(home, texts or roomy_policy(built_in_configuration()))
        world.configuration = load_configuration(home, {})
        registry = LocalRegistry(home.bundles)
        for version, best in enumerate((BAD, GOOD, BAD), start=1):
            registry.register(believing_bundle(world, folder / f"made-{version}", best), NAME, {})
        registry.set_alias(NAME, CHAMPION, 1, at=world.now)
        registry.set_alias(NAME, CHALLENGER, 2, at=world.now)
        _lived(world, customers, asked)
    return home


_PATIENT: Mapping[str, Any] = {"deadline_ms": 5_000}
"""On a busy machine too every decision is answered by its models."""


def _lived(world: World, customers: int, asked: Mapping[str, Any]) -> None:
    rng = np.random.default_rng(5)
    with world.client() as client:
        world.champions[-1].refresh()
        people = [f"c-{number}" for number in range(customers)]
        for start in range(0, customers, 250):
            applied = [
                event(f"applied-{one}", customer_id=one, occurred_at=dump_timestamp(world.now - 100 * HOUR_US))
                for one in people[start : start + 250]
            ]
            granted = [
                event(
                    f"granted-{one['customer_id']}",
                    kind="consent_changed",
                    customer_id=one["customer_id"],
                    occurred_at=one["occurred_at"],
                    channel=None,
                    facts={"consent": "email", "state": "granted"},
                )
                for one in applied
            ]
            client.done("/v1/events", {"events": applied + granted})
        outcomes = []
        for number, person in enumerate(people):
            world.now += HOUR_US // 20
            told = client.done(
                "/v1/decisions", {"request_id": f"q-{number}", "customer_id": person, **_PATIENT, **asked}
            )
            stored = world.records.decision(told["decision_id"])
            if rng.random() < TRUTH.get(stored.record.first.action_id, 0.2):
                facts = {"decision_id": told["decision_id"], "outcome_id": "progress_7d", "value": 1}
                outcomes.append((person, facts))
        world.now += 24 * HOUR_US
        at = dump_timestamp(world.now - HOUR_US)
        came = [
            event(f"came-{one}", customer_id=one, kind="outcome_observed", occurred_at=at, channel=None, facts=facts)
            for one, facts in outcomes
        ]
        for start in range(0, len(came), 250):
            client.done("/v1/events", {"events": came[start : start + 250]})
        world.now += 20 * 24 * HOUR_US
        late = event("late", customer_id="somebody", occurred_at=dump_timestamp(world.now - HOUR_US))
        client.done("/v1/events", {"events": [late]})
