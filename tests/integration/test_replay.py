"""Recorded decisions made again from their records alone: bit for bit, over everything that a decision can be."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from features.errors import CannotReplay
from models.configuration import load_configuration
from models.configuration_history import ConfigurationHistory
from models.decision import CountedContact, DecisionRecord
from models.price_files import PriceLists, publish_prices
from models.prices import PriceList, capacity_version
from models.registry import CHALLENGER, LocalRegistry, model_name
from models.replay import GIVEN, Replay
from models.replayer import Replayer, Scorers, WhatIf
from serving.runtime import Runtime
from tests.doors import JOURNEY, Client, World
from tests.recorded import live, promote, recorded_world

DECISIONS = 360


@dataclass
class Recorded:
    """What was recorded, and what makes it again."""

    world: World
    records: list[DecisionRecord]

    def replayer(self, what_if: WhatIf | None = None) -> Replayer:
        """As a new process would have it: from the home alone."""
        home = self.world.home
        history = ConfigurationHistory(home)
        return Replayer(history, Scorers(LocalRegistry(home.bundles)), PriceLists(home.prices), what_if or WhatIf())

    def replays(self, what_if: WhatIf | None = None) -> Iterator[Replay]:
        """All decisions made again."""
        replayer = self.replayer(what_if)
        return (replayer.replay(record) for record in self.records)


def lived_through(world: World, client: Client, runtime: Runtime, decisions: int, customers: int) -> None:
    """A third without a model, a third with one, a third with another, under a policy that was put in between."""
    third = decisions // 3
    for version in range(3):
        if version:
            promote(world, version)
            promote(world, 3 - version, CHALLENGER)
            _publish_prices(world, runtime, version)
            runtime.configurations.refresh()
            _refresh_champions(world)
        if version == 2:
            before = runtime.configurations.document("policy")
            exploration = {"epsilon": 0.5, "temperature": 3.0}
            wanted = before.content | {"channel_price": {"sms": 0.5}, "exploration": exploration}
            runtime.configurations.put("policy", wanted, if_match=f'"{before.version}"', source="test")
        live(world, client, decisions=third, customers=customers, seed=version)


def _publish_prices(world: World, runtime: Runtime, version: int) -> None:
    """Of everything that is scarce, other ones each time."""
    configuration = runtime.configurations.in_force.configuration
    capacity = configuration.policy.capacity
    ids = [one.id for one in (*capacity.limits, *capacity.budgets)]
    published = PriceList(
        journey_id=JOURNEY,
        created_at=world.now,
        valid_until=2**53,
        policy_version=configuration.versions["policy"],
        capacity_version=capacity_version(capacity),
        bundle=None,
        prices={name: 0.01 * (version + place) for place, name in enumerate(ids)},
        value=1.0,
        gap=0.0,
    )
    publish_prices(world.home.prices, published)
    for prices in world.prices:
        prices.refresh()


def _refresh_champions(world: World) -> None:
    for champions in (*world.champions, *world.challengers):
        champions.refresh()


def recorded(folder: Path, *, decisions: int, customers: int) -> Recorded:
    """A world that was lived through."""
    world = recorded_world(folder)
    runtimes: list[Runtime] = []
    with world.client(keep=runtimes.append) as client:
        lived_through(world, client, runtimes[0], decisions, customers)
    return Recorded(world, [one for page in world.records.read() for one in page])


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A few hundred recorded decisions of every kind."""
    return recorded(tmp_path_factory.mktemp("few"), decisions=DECISIONS, customers=40)


def test_the_recorded_decisions_are_of_every_kind(few: Recorded) -> None:
    """Otherwise the next test would promise less than it says."""
    records = few.records
    arms = Counter(one.arm for one in records)
    stages = Counter(one.stage for one in records)
    how = Counter(len(one.selected) for one in records)
    rules = Counter(rule for one in records for candidate in one.candidates for rule in candidate.rule_ids)

    assert len(records) == DECISIONS
    assert set(arms) == {"no_contact_holdout", "random_eligible", "champion", "challenger"}
    assert len(stages) > 4
    assert {0, 1, 2} <= set(how)
    assert {rule.partition(".")[0] for rule in rules} >= {"capacity", "cap", "contact", "request", "elig"}
    assert rules["capacity.lost_race"] > 3
    assert len({one.versions["policy"] for one in records}) == 2
    assert len({one.versions.get("prices") for one in records}) == 3
    assert any(one.budget_price > 0 for record in records for one in record.candidates)
    assert {one.versions["bundle"] for one in records if one.arm == "challenger" and "challenger" in one.versions} == {
        one.versions["challenger"] for one in records if "challenger" in one.versions
    }
    assert len({(one.versions.get("champion"), one.versions.get("challenger")) for one in records}) == 3


def test_the_recorded_decisions_met_everything_that_limits_them(few: Recorded) -> None:
    """Limits, holds, people, deadlines, budgets of regret, and races for them."""
    records = few.records
    rules = Counter(rule for one in records for candidate in one.candidates for rule in candidate.rule_ids)
    slates = Counter(one.arm for one in records if len(one.selected) > 1)
    epsilons = {one.epsilon for one in records if not math.isnan(one.epsilon)}

    assert {*rules} >= {"hold.ignored", "hold.said_no", "hold.accepted", "suit.lead_class", "limit.sms"}
    assert {*rules} >= {"limit.onboarding", "budget.grow", "scoring.deadline", "capacity.nobody_available"}
    assert set(slates) == {"random_eligible", "champion", "challenger"}
    assert {*map(_is_mandatory_first, records)} == {True, False}
    assert len(epsilons) > 20
    assert any(math.isnan(one.epsilon) for one in records)
    assert {each for one in records for each in one.contact_responses} == {"", "positive", "negative"}
    assert len({one.fatigue_cost for record in records for one in record.candidates if one.is_scored}) > 20
    assert any(one.capacity_used.get("limit.sms") for one in records)
    assert any(one.capacity_used.get("budget.all") for one in records)
    assert sum(any(one.assignees) for one in records) > 5
    assert sum(one.decision_id in few.world.records.race.taken for one in records) > 3
    assert sum("deadline_exceeded" in one.degraded for one in records) > 3


def _is_mandatory_first(record: DecisionRecord) -> bool:
    return bool(record.selected) and record.selected[0].action_id == "tell_new_terms"


def test_the_recorded_decisions_are_of_many_customers(few: Recorded) -> None:
    """Linked ids, and people of whom nothing is known."""
    records = few.records

    assert sum(one.explored for one in records) > 20
    assert sum(bool(one.linked_ids) for one in records) > 20
    assert sum(one.holdings is None for one in records) > 10


def test_recorded_decisions_come_out_identical(few: Recorded) -> None:
    """From the home alone: no store is asked, and every byte is the same."""
    replays = list(few.replays())

    assert [one.differences for one in replays if not one.identical] == []
    assert len(replays) == DECISIONS


def test_every_field_that_was_not_given_is_made_again(few: Recorded) -> None:
    """A field is named as given, or a wrong one is found: one that is new cannot be forgotten."""
    record = next(one for one in few.records if "challenger" in one.versions and one.selected and not one.assignees)
    derived = sorted({*DecisionRecord.__struct_fields__} - GIVEN)
    replayer = few.replayer()

    found = {name: replayer.replay(_with(record, **{name: _other(getattr(record, name))})) for name in derived}

    assert {*DecisionRecord.__struct_fields__} > GIVEN
    assert {name: {re.split(r"[.[]", each.field)[0] for each in one.differences} for name, one in found.items()} == {
        name: {name} for name in derived
    }


def _other(value: object) -> object:
    match value:
        case {"bundle": _}:
            return {**value, "bundle": "another"}
        case dict():
            return {name: each + 0.25 for name, each in value.items()}
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return 1.0 if math.isnan(value) else value + 1.0
        case tuple():
            return value[1:]
        case _:
            return f"{value}x"


def test_nothing_is_different_where_nothing_is(few: Recorded) -> None:
    """Expected values agree to the bit too."""
    assert {one.value_difference for one in few.replays()} == {0.0}
    assert not any(one.changes_choice for one in few.replays())


def _with(record: DecisionRecord, **changes: object) -> DecisionRecord:
    return msgspec.structs.replace(record, **changes)


def test_a_flipped_bit_is_found(few: Recorded) -> None:
    """In what the record says it came to, and in what it was made from: the check can fail."""
    replayer = few.replayer()
    hours = replayer.rulebook(few.records[0]).feature_set.names.index("hours_since_progress")
    record = next(
        one for one in few.records if one.selected and one.first.effect_source == "model" and one.vector[hours] > 24.0
    )
    first = record.first
    bit = math.nextafter(first.net_value, math.inf)
    candidates = tuple(
        msgspec.structs.replace(one, net_value=bit) if one is first else one for one in record.candidates
    )
    vector = tuple(-one if place == hours else one for place, one in enumerate(record.vector))
    tampered = {
        "candidates": _with(record, candidates=candidates),
        "vector": _with(record, vector=vector),
        "request": _with(record, request=record.request.replace(b"{", b'{"a":1,', 1)),
        "person": _with(record, customer_id=_of_another_arm(few, record)),
        "stage": _with(record, stage="elsewhere"),
        "bundle": _with(record, versions=record.versions | {"bundle": f"{model_name(JOURNEY)}@challenger/7"}),
        "mode": _with(record, mode="shadow"),
        "as_of": _with(record, as_of=record.as_of - 1),
        "request_id": _with(record, request_id="another"),
        "expires_at": _with(record, expires_at=record.expires_at ^ 1),
        "contacts": _with(record, contacts=_many_contacts(record)),
    }

    found = {name: replayer.replay(one) for name, one in tampered.items()}

    assert {name for name, one in found.items() if not one.identical} == set(tampered)
    (difference,) = found["candidates"].differences
    assert difference.field == f"candidates[{first.treatment_id}].net_value"
    assert (difference.recorded, difference.replayed) == (bit, first.net_value)


def test_a_record_that_no_decision_makes_is_told(few: Recorded) -> None:
    """It is damaged, and never passes for identical."""
    record = few.records[0]

    with pytest.raises(CannotReplay, match="holds what no decision is made from") as told:
        few.replayer().replay(_with(record, vector=tuple(1e9 for _ in record.vector)))

    assert told.value.reason == "record_damaged"


def test_what_is_not_here_is_named(few: Recorded) -> None:
    """An import, a configuration, a bundle, a feature set: each by its reason, with what to do."""
    record = next(one for one in few.records if "challenger" in one.versions)
    versions = record.versions
    missing = {
        "imported": _with(record, mode="imported", request=b""),
        "configuration_missing": _with(record, versions=versions | {"policy": "0" * 12}),
        "bundle_missing": _with(record, versions=versions | {"challenger": f"{model_name(JOURNEY)}@challenger/9"}),
        "bundle_damaged": _with(record, versions=versions | {"uplift": "0" * 12}),
        "features_changed": _with(record, versions=versions | {"features": "nba_v0"}),
        "prices_missing": _with(record, versions=versions | {"prices": "0" * 12}),
    }
    replayer = few.replayer()
    found = {}
    for reason, one in missing.items():
        with pytest.raises(CannotReplay) as told:
            replayer.replay(one)
        found[reason] = told.value.reason

    assert found == {reason: reason for reason in missing}


def _of_another_arm(few: Recorded, record: DecisionRecord) -> str:
    return next(one.customer_id for one in few.records if one.arm not in (record.arm, "no_contact_holdout"))


def _many_contacts(record: DecisionRecord) -> tuple[CountedContact, ...]:
    channel = record.first.channel or ""
    return tuple(
        CountedContact(action_id="x", channel=channel, at=record.as_of - place, is_lease=False) for place in range(1, 9)
    )


def test_a_dearer_channel_is_chosen_less(few: Recorded) -> None:
    """What if: the champion takes a channel less where it costs more, with the same luck in the draws."""
    configuration = load_configuration(few.world.home, {})
    prices = dict.fromkeys(configuration.taxonomy.channels, 1_000.0)
    policy = configuration.policy.model_copy(update={"channel_price": prices})
    what_if = WhatIf(policy=policy, as_champion=True)

    replays = list(few.replays(what_if))

    assert {one.record.first.action_id for one in replays} == {"no_action", "tell_new_terms"}  # which must be said
    assert any(one.changes_choice for one in replays)
    assert {one.record.arm for one in replays} == {"champion"}


def test_another_bundle_says_other_numbers(few: Recorded) -> None:
    """What if: version 1 had decided everywhere."""
    replays = list(few.replays(WhatIf(bundle=1)))

    changed = {one.recorded.versions.get("bundle", "none").rpartition("/")[2] for one in replays if not one.identical}
    assert changed >= {"none", "2"}
    assert {one.record.versions["bundle"].rpartition("/")[2] for one in replays} == {"1"}
    assert not any("challenger" in one.record.versions for one in replays)  # version 1 alone was asked


def test_as_the_champion_its_bundle_decides(few: Recorded) -> None:
    """What if: nobody had been in the challenger's arm; the version says so, and so do the numbers."""
    replays = [one for one in few.replays(WhatIf(as_champion=True)) if "challenger" in one.recorded.versions]

    assert {one.recorded.versions["bundle"] == one.recorded.versions["champion"] for one in replays} == {True, False}
    assert all(one.record.versions["bundle"] == one.record.versions["champion"] for one in replays)


@pytest.mark.slow
def test_ten_thousand_recorded_decisions_come_out_identical(tmp_path: Path) -> None:
    """A thousand customers, no model and two, two policies."""
    world = recorded(tmp_path, decisions=10_002, customers=350)

    replays = [(one.identical, one.differences) for one in world.replays()]

    assert sum(bool(one.selected) for one in world.records) > 1_000
    assert [found for identical, found in replays if not identical][:3] == []
    assert len(replays) >= 10_000
