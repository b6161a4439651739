"""The decider: idempotent, recorded before it answers, never over a cap, and honest about what was missing."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from features.errors import Conflict, InvalidInput, StoreUnavailable, UnknownObject
from features.event_log import MemoryEventLog
from features.events import LARGEST_INTEGER, dump_timestamp
from features.kernel import new_state
from features.moments import Moments
from features.profile import fold_profile
from features.store import CustomerRow, MemoryStore, ProfileRow, StateRow
from models.actions import Action
from models.decision import DEADLINE, DecisionRecord
from models.deliberation import deliberate
from models.heads import FittedHeads, Head, effect_head
from models.memory_records import MemoryRecordStore
from models.prices import PRICES_OUTDATED, PriceList
from models.records import Committed, ContactResponse, LostRace, Reservation
from models.replay import inputs_of, replayed
from models.scoring import StallScore, scorer_of
from serving.decide import Decider
from serving.observe import REBUILT, STORE_DOWN
from serving.recording import CHALLENGER_MISSING, MODEL_MISSING, MODEL_NOT_FINITE, ServedModel
from serving.schemas import DecisionRequest
from tests.boosters import constant_waits
from tests.deciders import decider
from tests.decisions import DAY_US, action, condition, contact, rule, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, TAXONOMY, event
from tests.unit.models.test_prices import CAPACITY, price_list

LOST = ("capacity.lost_race",)
NOW = START_AT + 90 * MINUTE_US
CAPS = {"contact_policy": {"caps": [{"id": "cap.one", "contacts": 1, "period": "7d"}]}}


class _World:
    """One customer ``c1`` who visited at the start, in memory."""

    def __init__(self, *actions: Action, policy_changes: dict[str, Any] | None = None) -> None:
        self.log = MemoryEventLog()
        self.log.append([event("e1")])
        self.store = MemoryStore()
        self.moments = Moments()
        self.records: Any = _Records()
        self.took_us = 0
        self.served: ServedModel | None = None
        self.prices: PriceList | None = None
        self.challenger: ServedModel | None = None
        self._ticks = 0
        self.rulebook = rulebook(*actions, policy_changes=policy_changes)

    def rebuild(
        self, customer_id: str, journey_id: str, *, before: int = LARGEST_INTEGER, arrived_before: int = LARGEST_INTEGER
    ) -> tuple[StateRow | None, ProfileRow]:
        logged = [
            one
            for one in self.log.of_customer(customer_id)
            if one.event.occurred_at < before and one.event.arrived_at < arrived_before
        ]
        profile = fold_profile(ProfileRow(customer_id), [one.event for one in logged], TAXONOMY)
        if not logged:
            return None, profile
        state = new_state(FEATURES.plan)
        for one in logged:
            FEATURES.fold(state, one.event)
        newest = logged[-1].event
        return (
            StateRow(
                customer_id=customer_id,
                journey_id=journey_id,
                version=FEATURES.version,
                vector=state,
                last_event_at=newest.occurred_at,
                last_sequence=newest.sequence,
                last_source=newest.source,
                last_event_id=newest.event_id,
                log_position=max(one.position for one in logged),
            ),
            profile,
        )

    def backfill(self) -> None:
        state, profile = self.rebuild("c1", "application")
        assert state is not None
        self.store.write([state], [profile])

    def decider(self) -> Decider:
        return decider(
            lambda: self.rulebook,
            records=self.records,
            store=self.store,
            log=self.log,
            rebuild=self.rebuild,
            moments=self.moments,
            served_model=lambda _: self.served,
            challenger=lambda _: self.challenger,
            timer=self._timer,
            deadline_ms=1,
            prices=lambda _: self.prices,
        )

    def _timer(self) -> int:
        self._ticks += self.took_us
        return self._ticks

    def ask(self, *, now: int = NOW, **changes: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {"request_id": "r1", "customer_id": "c1"}
        answer: dict[str, Any] = msgspec.json.decode(
            self.decider().decide(DecisionRequest(**(fields | changes)), source="test", now=now)
        )
        return answer


def test_the_answer_says_what_was_decided_and_with_what() -> None:
    """Without a model the prior decides, and the answer says that the model is missing."""
    world = _World()
    world.backfill()

    answer = world.ask()

    assert answer["selected"] == [{"slot": 1, "placement": None, "action_id": "nudge", "treatment_id": "nudge_phone"}]
    assert answer["no_action"] == {"net_value": 0.0, "chosen": False}
    assert answer["journey"]["stage"] == "looking"
    assert answer["ranked_actions"][0]["net_value"] == pytest.approx(1.9)
    assert answer["ranked_actions"][0]["reasons"] == ["STALLED_IDLE", "UPLIFT_CLEAR", "UPLIFT_BELIEVED"]
    assert answer["funnel"] == dict.fromkeys(answer["funnel"], 1)
    assert answer["degraded"] == [MODEL_MISSING]
    assert answer["features"]["age_seconds"] == 90 * 60


def test_the_decision_is_recorded_as_answered() -> None:
    """The record holds the request, the vector and the full candidate set of the answer."""
    world = _World()
    answer = world.ask()

    stored = world.records.decision(answer["decision_id"])

    assert stored is not None
    assert msgspec.json.decode(stored.answer) == answer
    assert stored.record.first.action_id == "nudge"
    assert len(stored.record.vector) == len(FEATURES.names)
    assert stored.record.candidates[-1].action_id == "no_action"


def test_a_decision_can_be_made_again_from_its_record() -> None:
    """The record holds every input, so replay needs the rulebook and no store; and the numbers are the very same."""
    world = _World(
        action("phoned", rules=[rule("gold", condition("attribute:tier", equals="gold"))]),
        action("sold", rules=[rule("has.none", condition("holding:card", equals=False))]),
        action("shown", treatments=[{"id": "shown_web", "channel": "web", "contact_cost": 0}], prior_uplift=0.1),
        policy_changes={
            "contact_policy": {
                "consent": {"opt_out": ["phone"]},
                "caps": [{"id": "cap.web", "contacts": 1, "period": "7d", "channel": "web"}],
                "quiet_hours": {"start": "00:00", "end": "12:00", "channels": ["phone"]},
            },
            "experiment": {"id": "exp", "salt": "s", "no_contact_holdout": 0.2, "random_eligible": 0.3},
            "exploration": {"epsilon": 0.5, "temperature": 1.0},
        },
    )
    told: dict[str, str | float | bool] = {"tier": "gold", "holding:card": True}
    world.log.append([event("e2", kind="profile_updated", at=START_AT + MINUTE_US, facts=told)])
    world.records.set_consents("c1", {"phone": "granted"}, at=START_AT)
    world.records.confirm_contacts([contact(at=START_AT - DAY_US, channel="web")])
    world.records.lose("phoned_phone", "cap.phone")
    answer = world.ask(direction="inbound", context={"device": "mobile"})
    record = world.records.decision(answer["decision_id"]).record

    again = deliberate(inputs_of(record, world.rulebook), world.rulebook, None)

    assert repr(again.candidates) == repr(record.candidates)
    assert (again.situation.stage, again.situation.state) == (record.stage, record.state)
    assert again.choice.treatment_id == record.first.treatment_id
    assert {(one.treatment_id, one.rule_ids) for one in record.candidates if one.dropped} == {
        ("phoned_phone", ("capacity.lost_race", "cap.phone")),
        ("sold_phone", ("has.none",)),
        ("shown_web", ("cap.web",)),
    }


def test_what_a_journey_is_expected_to_do_is_answered_recorded_and_found_again() -> None:
    """Stalled since half an hour: likely to stay so, to leave, to take the mean of the day, or to go on by itself."""
    world = _World()
    scorer = scorer_of([constant_waits()], len(FEATURES.names))
    world.served = ServedModel(scorer=scorer, label="nba-application@champion/1")

    answer = world.ask()
    record = world.records.decision(answer["decision_id"]).record

    expected = StallScore(0.75, 0.25, 0.875, 0.25)
    assert StallScore(*(answer["journey"][name] for name in StallScore._fields)) == expected
    assert StallScore(*(getattr(record, name) for name in StallScore._fields)) == expected
    assert deliberate(inputs_of(record, world.rulebook), world.rulebook, scorer).stall == expected


def test_a_model_that_gives_no_number_is_told_and_not_followed() -> None:
    """The answer carries no number for it, names the rule that dropped it, and says that it is degraded."""
    world = _World(action("bad"), action("good"))
    world.backfill()
    heads = [Head(name=effect_head("paid", "bad"), mean=math.inf), Head(name=effect_head("paid", "good"), mean=0.2)]
    scorer = scorer_of([FittedHeads(heads=tuple(heads), boosters={})], len(FEATURES.names))
    world.served = ServedModel(scorer=scorer, label="nba-application@champion/1")

    answer = world.ask()

    assert answer["degraded"] == [MODEL_NOT_FINITE]
    assert [one["action_id"] for one in answer["ranked_actions"]] == ["good"]
    assert answer["dropped"] == [{"action_id": "bad", "stage": "scoring", "rule_id": "scoring.not_finite"}]


def test_of_a_customer_who_is_not_stalled_no_wait_is_answered() -> None:
    """Null, beside the stall propensity."""
    world = _World()
    scorer = scorer_of([constant_waits()], len(FEATURES.names))
    world.served = ServedModel(scorer=scorer, label="nba-application@champion/1")

    journey = world.ask(now=START_AT + 59 * MINUTE_US)["journey"]

    assert (journey["stall_propensity"], journey["benign_wait"]) == (0.75, None)


def test_published_prices_are_subtracted_and_named() -> None:
    """In the answer and the record, which is decided again with them; what is too dear is not done."""
    world = _World(policy_changes={"capacity": CAPACITY})
    free = world.ask(mode="dry_run")
    world.prices = price_list(valid_until=NOW + 1)

    answer = world.ask()
    record = world.records.decision(answer["decision_id"]).record

    charged = answer["ranked_actions"][0]
    assert charged["factors"]["channel_price"] == 1.0
    assert charged["factors"]["budget_price"] == pytest.approx(0.125 * 0.1)
    assert charged["net_value"] == pytest.approx(free["ranked_actions"][0]["net_value"] - 1.0 - 0.125 * 0.1)
    assert (free["versions"]["prices"], answer["versions"]["prices"]) == (None, world.prices.version)
    assert record.versions["prices"] == world.prices.version
    assert PRICES_OUTDATED not in answer["degraded"]
    again = replayed(record, world.rulebook, None, prices=world.prices)
    assert again.identical, again.differences
    assert not replayed(record, world.rulebook, None).identical

    world.prices = price_list(valid_until=NOW + 1, prices={"limit.phone": 100.0})
    assert world.ask(request_id="r2")["no_action"]["chosen"]


def test_prices_that_no_longer_hold_are_not_charged() -> None:
    """The answer says so, and names no list."""
    world = _World(policy_changes={"capacity": CAPACITY})
    world.prices = price_list(valid_until=NOW)

    answer = world.ask()

    assert answer["versions"]["prices"] is None
    assert PRICES_OUTDATED in answer["degraded"]
    assert answer["ranked_actions"][0]["factors"]["channel_price"] == 0.0


def test_as_of_is_not_charged_what_was_published_later() -> None:
    """Nobody knew those prices then; a list from before is charged."""
    world = _World(policy_changes={"capacity": CAPACITY})
    then = START_AT + 61 * MINUTE_US

    def named(created_at: int) -> Any:
        world.prices = price_list(created_at=created_at, valid_until=NOW + 1)
        answer = world.ask(mode="dry_run", as_of=dump_timestamp(then))
        return answer["versions"]["prices"]

    assert named(then + 1) is None
    assert named(then) == world.prices.version


SUPPRESSED = {
    "contact_policy": {
        "suppressions": [
            {"id": "hold.ignored", "after": "ignored", "ignored_after": "1d", "hold": "30d"},
            {"id": "hold.no", "after": "negative", "hold": "30d", "scope": "all"},
        ],
        "fatigue": {"period": "7d", "growth": 0.5},
    }
}


def test_what_came_back_is_recorded_and_decided_by_again() -> None:
    """The record says what the rules saw of each contact, so that they can see it again without the store."""
    world = _World(action("nudge"), action("other"), policy_changes=SUPPRESSED)
    world.records.confirm_contacts(
        [contact(at=NOW - 20 * DAY_US, decision_id="d-1"), contact(at=NOW - 2 * DAY_US, decision_id="d-2")]
    )
    world.records.note_responses([ContactResponse("d-1", "c1", "positive", NOW - DAY_US)])

    record = world.records.decision(world.ask()["decision_id"]).record

    assert record.contact_responses == ("positive", "")
    assert [one.rule_ids for one in record.candidates[:2]] == [("hold.ignored",), ()]
    assert repr(deliberate(inputs_of(record, world.rulebook), world.rulebook, None).candidates) == repr(
        record.candidates
    )
    plain = _World()
    plain.records.confirm_contacts([contact(at=NOW)])
    assert plain.records.decision(plain.ask()["decision_id"]).record.contact_responses == ()


def test_a_no_is_obeyed_by_the_next_decision() -> None:
    """As soon as it is noted; in the past it was not known yet."""
    world = _World(policy_changes=SUPPRESSED)
    first = world.ask()
    world.records.note_responses([ContactResponse(first["decision_id"], "c1", "negative", NOW + 5)])

    second = world.ask(request_id="r2", now=NOW + 9)
    before = world.ask(request_id="r3", now=NOW + 9, mode="dry_run", as_of=dump_timestamp(NOW + 4))

    assert second["dropped"] == [{"action_id": "nudge", "stage": "contact_policy", "rule_id": "hold.no"}]
    assert before["dropped"] == []


@pytest.mark.parametrize("explain", ["none", "stages", "factors"])
def test_who_asks_is_told_every_failing_rule(explain: str) -> None:
    """Of all stages, of the actions that were dropped; else only those of the first."""
    world = _World(
        action("late", valid_to="2020-01-01T00:00:00Z", stages=["applied"]),
        action("off", rules=[rule("elig.gold", condition("attribute:tier", equals="gold"))]),
        action("fine"),
        policy_changes={"contact_policy": {"consent": {"opt_in": ["phone"]}}},
    )

    dropped = [(one["action_id"], one["stage"], one["rule_id"]) for one in world.ask(explain=explain)["dropped"]]

    first = [
        ("late", "catalogue", "catalogue.validity"),
        ("off", "eligibility", "elig.gold"),
        ("fine", "contact_policy", "contact.consent.phone"),
    ]
    more = [
        ("late", "applicability", "applicability.stage"),
        ("late", "contact_policy", "contact.consent.phone"),
        ("off", "contact_policy", "contact.consent.phone"),
    ]
    assert sorted(dropped) == sorted(first if explain == "none" else first + more)


def test_the_lead_class_is_answered() -> None:
    """By the policy's criteria; null where it declares none."""
    leads = {
        "criteria": [{"id": "open", "title": "", "points": 5, "all_of": [{"field": "stage", "equals": "looking"}]}],
        "classes": [{"id": "HOT", "at_least": 5}],
    }

    assert _World(policy_changes={"lead_qualification": leads}).ask()["journey"]["lead_class"] == "HOT"
    assert _World().ask()["journey"]["lead_class"] is None


def test_a_decision_past_its_deadline_can_be_made_again() -> None:
    """What was degraded tells that no model was asked."""
    world = _World()
    scorer = scorer_of([constant_waits()], len(FEATURES.names))
    world.served = ServedModel(scorer=scorer, label="nba-application@champion/1")
    world.took_us = 2_000
    record = world.records.decision(world.ask()["decision_id"]).record

    assert DEADLINE in record.degraded
    assert math.isnan(record.stall_propensity)
    assert record.selected == ()
    assert replayed(record, world.rulebook, scorer).differences == ()


def test_the_same_request_gives_the_same_bytes() -> None:
    """Asked again later, also by another decider over the same store."""
    world = _World()

    first, again = world.ask(), world.ask(now=NOW + 5)

    assert first == again


def test_another_body_under_the_same_request_id_is_a_conflict() -> None:
    """It is refused, and the first decision stands."""
    world = _World()
    world.ask()

    with pytest.raises(Conflict, match="r1 was used for another body"):
        world.ask(max_actions=1)


def test_an_activated_decision_counts_its_contact() -> None:
    """Under a cap of one a week the second decision of the week finds no action."""
    world = _World(policy_changes=CAPS)
    world.ask()

    second = world.ask(request_id="r2", now=NOW + DAY_US)
    later = world.ask(request_id="r3", now=NOW + 8 * DAY_US)

    assert second["no_action"]["chosen"]
    assert second["dropped"] == [{"action_id": "nudge", "stage": "contact_policy", "rule_id": "cap.one"}]
    assert not later["no_action"]["chosen"]


def test_a_dry_run_leaves_nothing_behind() -> None:
    """Neither a record nor a contact."""
    world = _World(policy_changes=CAPS)

    answer = world.ask(mode="dry_run")

    assert world.records.decision(answer["decision_id"]) is None
    assert not world.ask(mode="dry_run", request_id="r2")["no_action"]["chosen"]


class _Records(MemoryRecordStore):
    """A record store in which other decisions can take the contact of the first commit."""

    def __init__(self) -> None:
        super().__init__()
        self._races: list[LostRace] = []

    def lose(self, treatment_id: str, rule_id: str) -> None:
        """The next commit loses a race for this treatment."""
        self._races.append(LostRace(treatment_id, rule_id))

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        if self._races:
            raise self._races.pop()
        return super().commit(record, answer, reservation)


def test_a_lost_race_drops_the_candidate_and_decides_again() -> None:
    """The next best action is answered, and the record says what was lost to which cap."""
    world = _World(action("strong"), action("weak", prior_uplift=0.1))
    world.records.lose("strong_phone", "cap.one")

    answer = world.ask()

    assert answer["selected"][0]["action_id"] == "weak"
    assert {"action_id": "strong", "stage": "capacity", "rule_id": "capacity.lost_race"} in answer["dropped"]
    assert answer["ranked_actions"][0]["selection_probability"] == 1.0


def test_a_state_behind_the_log_is_rebuilt() -> None:
    """An event in the log that the state has not folded is seen by the decision, which says so."""
    world = _World()
    world.backfill()
    world.log.append([event("e2", kind="applied", at=START_AT + MINUTE_US)])

    answer = world.ask()

    assert answer["journey"]["stage"] == "applied"
    assert REBUILT in answer["degraded"]


def test_a_decision_is_after_what_it_sees() -> None:
    """An event of the same microsecond is seen, and so had arrived strictly before the moment of the decision."""
    world = _World()
    with world.moments.arriving(["c1"], now=NOW) as at:
        world.log.append([event("e2", kind="applied", at=START_AT + MINUTE_US, arrived_at=at)])
    world.backfill()

    answer = world.ask()

    record = world.records.decision(answer["decision_id"]).record
    assert (answer["journey"]["stage"], record.as_of, record.decided_at) == ("applied", NOW + 1, NOW + 1)


def test_a_clock_that_steps_back_puts_no_decision_before_what_it_sees() -> None:
    """And nothing that arrives later can look as if it had been there."""
    world = _World()
    with world.moments.arriving(["c1"], now=NOW) as at:
        world.log.append([event("e2", kind="applied", at=START_AT + MINUTE_US, arrived_at=at)])
    world.backfill()

    answer = world.ask(now=NOW - DAY_US)

    with world.moments.arriving(["c1"], now=NOW - DAY_US) as arrived_at:
        pass
    assert answer["journey"]["stage"] == "applied"
    assert world.records.decision(answer["decision_id"]).record.as_of == NOW + 1
    assert arrived_at == NOW + 1


def test_what_arrives_while_a_decision_is_made_is_not_seen() -> None:
    """Between the question and the look into the log an event slips in: it arrived later, and is left out."""
    world = _World()
    world.backfill()

    def slip_in(customer_ids: Collection[str], *, before: int) -> None:
        with Moments.arriving(world.moments, customer_ids, now=NOW + 1) as at:
            world.log.append([event("e2", kind="applied", at=START_AT + MINUTE_US, arrived_at=at)])
        world.backfill()

    class Slipping(Moments):
        settle = staticmethod(slip_in)

    world.moments = Slipping()
    answer = world.ask()

    assert (answer["journey"]["stage"], answer["degraded"]) == ("looking", [MODEL_MISSING])


def test_as_of_sees_strictly_before_the_moment() -> None:
    """In a dry run an earlier moment is answered from what had happened before it, and not at it."""
    world = _World()
    world.log.append([event("e2", kind="applied", at=START_AT + MINUTE_US)])
    world.backfill()

    at = world.ask(mode="dry_run", as_of=dump_timestamp(START_AT + MINUTE_US))
    after = world.ask(mode="dry_run", as_of=dump_timestamp(START_AT + MINUTE_US + 1))

    assert (at["journey"]["stage"], after["journey"]["stage"]) == ("looking", "applied")


def test_as_of_sees_what_was_known_then() -> None:
    """An event that had happened but not arrived is not seen, though the stored state has folded it since."""
    world = _World()
    late = replace(event("e2", kind="applied", at=START_AT + MINUTE_US), arrived_at=START_AT + 10 * MINUTE_US)
    world.log.append([late])
    world.backfill()

    before = world.ask(mode="dry_run", as_of=dump_timestamp(START_AT + 5 * MINUTE_US))
    after = world.ask(mode="dry_run", as_of=dump_timestamp(START_AT + 11 * MINUTE_US))

    assert (before["journey"]["stage"], after["journey"]["stage"]) == ("looking", "applied")


class _DownStore(MemoryStore):
    def read(self, customer_id: str, journey_id: str) -> CustomerRow:
        raise StoreUnavailable("down")


def test_without_the_feature_store_the_log_answers() -> None:
    """The answer is the same, and says that it is degraded."""
    world = _World()
    world.store = _DownStore()

    answer = world.ask()

    assert answer["selected"][0]["action_id"] == "nudge"
    assert STORE_DOWN in answer["degraded"]


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"channel": "fax"}, "channel", "'fax'"),
        ({"journey_id": "mortgage"}, "journey_id", "'mortgage'"),
        ({"placements": ("tv/break",)}, "placements[0]", "'tv/break'"),
        ({"placements": ("web/top",), "channel": "phone"}, "channel", "'phone'"),
        ({"as_of": "2026-01-01T00:00:00Z"}, "as_of", "'2026-01-01T00:00:00Z'"),
        ({"as_of": "2036-01-01T00:00:00Z", "mode": "dry_run"}, "as_of", "'2036-01-01T00:00:00Z'"),
    ],
)
def test_names_that_mean_nothing_are_refused(changes: dict[str, Any], path: str, value: str) -> None:
    """The problem names the field and the value."""
    with pytest.raises(InvalidInput) as refused:
        _World().ask(**changes)

    assert [(problem.path, problem.value) for problem in refused.value.problems] == [(path, value)]


def test_an_unknown_customer_is_answered_unless_it_must_be_known() -> None:
    """Nothing is known, and the answer shows it; with ``require_known`` it is an error."""
    world = _World()

    answer = world.ask(customer_id="c9")

    assert (answer["journey"]["stage"], answer["features"]["age_seconds"]) == (None, None)
    with pytest.raises(UnknownObject, match="'c9' is not known"):
        world.ask(customer_id="c9", request_id="r2", require_known=True)


def test_the_holdout_gets_nothing_ranked() -> None:
    """Nothing can be done by mistake to a customer who is never contacted."""
    shares = {"id": "exp", "salt": "s", "no_contact_holdout": 1.0, "random_eligible": 0.0}
    world = _World(policy_changes={"experiment": shares})

    answer = world.ask()

    assert (answer["ranked_actions"], answer["selected"], answer["no_action"]["chosen"]) == ([], [], True)
    assert answer["experiment"] == {"arm": "no_contact_holdout", "experiment_id": "exp", "holdout": True}


def test_placements_take_actions_of_their_channel_and_none_twice() -> None:
    """Two places on the web are filled by two actions, in order of priority."""
    web = [{"id": "t", "channel": "web", "contact_cost": 0}]
    world = _World(
        action("a", treatments=[{**web[0], "id": "a_web"}], prior_uplift=0.1),
        action("b", treatments=[{**web[0], "id": "b_web"}, {**web[0], "id": "b_web2"}], prior_uplift=0.3),
        action("c"),
    )

    answer = world.ask(direction="inbound", placements=("web/top", "web/side"))

    assert answer["selected"] == [
        {"slot": 1, "placement": "web/top", "action_id": "b", "treatment_id": "b_web"},
        {"slot": 2, "placement": "web/side", "action_id": "a", "treatment_id": "a_web"},
    ]


def test_the_first_slot_holds_what_was_chosen() -> None:
    """Slots are numbered in order of choice, so the probabilities of slot 1 are those of what is in it."""
    world = _World(
        action("a", treatments=[{"id": "a_web", "channel": "web", "contact_cost": 0}], prior_uplift=0.1),
        action("b", prior_uplift=0.3),
    )

    answer = world.ask(direction="inbound", placements=("web/top", "phone/script"))

    assert answer["selected"] == [
        {"slot": 1, "placement": "phone/script", "action_id": "b", "treatment_id": "b_phone"},
        {"slot": 2, "placement": "web/top", "action_id": "a", "treatment_id": "a_web"},
    ]


def test_a_channel_narrows_the_placements() -> None:
    """Of several placements only those over the channel of the request are filled."""
    world = _World(
        action("a", treatments=[{"id": "a_web", "channel": "web", "contact_cost": 0}], prior_uplift=0.1),
        action("b", prior_uplift=0.3),
    )

    answer = world.ask(direction="inbound", channel="web", placements=("web/top", "phone/script"))

    assert answer["selected"] == [{"slot": 1, "placement": "web/top", "action_id": "a", "treatment_id": "a_web"}]


def test_a_slate_fills_no_more_slots_than_the_caps_allow() -> None:
    """Under a cap with room for one, one slot is filled and no candidate is dropped: its probability was real."""
    world = _World(
        action("a", treatments=[{"id": "a_web", "channel": "web", "contact_cost": 0}], prior_uplift=0.1),
        action("b", treatments=[{"id": "b_web", "channel": "web", "contact_cost": 0}], prior_uplift=0.3),
        policy_changes=CAPS,
    )

    answer = world.ask(direction="inbound", placements=("web/top", "web/side"))

    assert answer["selected"] == [{"slot": 1, "placement": "web/top", "action_id": "b", "treatment_id": "b_web"}]
    assert (answer["dropped"], len(answer["ranked_actions"])) == ([], 2)


def test_a_send_is_not_blocked_by_its_own_lease() -> None:
    """A tool that asks again for the same send gets an action again; another send finds the cap taken."""
    world = _World(policy_changes=CAPS)
    world.ask(activate=False, send_id="camp-7/c1")

    again = world.ask(request_id="r2", activate=False, send_id="camp-7/c1", now=NOW + MINUTE_US)
    other = world.ask(request_id="r3", activate=False, send_id="camp-8/c1", now=NOW + MINUTE_US)

    assert (again["no_action"]["chosen"], other["no_action"]["chosen"]) == (False, True)


def test_activating_a_send_replaces_its_lease() -> None:
    """It is one contact, not a contact and a lease."""
    world = _World(policy_changes=CAPS)
    world.ask(activate=False, send_id="camp-7/c1")

    world.ask(request_id="r2", send_id="camp-7/c1", now=NOW + MINUTE_US)

    (contact,) = world.records.customer("c1", since=0, now=NOW + MINUTE_US).contacts
    assert contact.status == "confirmed"


def test_a_send_that_gets_no_action_holds_no_lease() -> None:
    """Asked again after an objection the send gets nothing, and leaves room under the cap."""
    world = _World(policy_changes=CAPS)
    world.ask(activate=False, send_id="camp-7/c1")
    world.records.set_consents("c1", {"phone": "objected"}, at=NOW)

    again = world.ask(request_id="r2", activate=False, send_id="camp-7/c1", now=NOW + MINUTE_US)

    assert again["no_action"]["chosen"]
    assert world.records.customer("c1", since=0, now=NOW + MINUTE_US).contacts == ()


def test_a_deadline_is_kept() -> None:
    """The request's own, or else the service's; past it nothing is chosen. The request is recorded as it was asked."""
    world = _World()
    world.took_us = 2_000

    default, own = world.ask(), world.ask(request_id="r2", deadline_ms=3, now=NOW + MINUTE_US)

    assert (DEADLINE in default["degraded"], DEADLINE in own["degraded"]) == (True, False)
    assert (default["selected"], len(own["selected"])) == ([], 1)
    assert b"deadline_ms" not in world.records.decision(default["decision_id"]).record.request


def test_an_inbound_decision_holds_its_contact_for_a_short_while() -> None:
    """Whoever looks at three pages within a day is not kept from the third by leases nobody used."""
    world = _World(policy_changes={**CAPS, "inbound_decision_ttl": "30m"})

    first = world.ask(direction="inbound")
    meanwhile = world.ask(direction="inbound", request_id="r2", now=NOW + 29 * MINUTE_US)
    later = world.ask(direction="inbound", request_id="r3", now=NOW + 31 * MINUTE_US)

    assert [one["no_action"]["chosen"] for one in (first, meanwhile, later)] == [False, True, False]


CHALLENGE = {"experiment": {"id": "e", "salt": "s", "no_contact_holdout": 0, "random_eligible": 0, "challenger": 1.0}}


def test_a_challenger_decides_for_its_arm_and_is_named() -> None:
    """Both bundles stand in the versions, since both stand behind the probabilities; without one the answer says so."""
    world = _World(policy_changes=CHALLENGE)
    world.backfill()
    scorer = scorer_of([constant_waits()], len(FEATURES.names))
    world.served = ServedModel(scorer, "nba-application@champion/1")

    without = world.ask(request_id="r0")
    world.challenger = ServedModel(scorer, "nba-application@challenger/2")
    answer = world.ask(now=NOW + DAY_US)

    assert without["degraded"] == [CHALLENGER_MISSING]
    assert (without["experiment"]["arm"], without["versions"]["bundle"]) == ("challenger", "nba-application@champion/1")
    assert answer["degraded"] == []
    assert answer["versions"]["bundle"] == "nba-application@challenger/2"
    assert answer["versions"]["stall"] == scorer.bundle.version
    versions = world.records.decision(answer["decision_id"]).record.versions
    assert (versions["champion"], versions["challenger"]) == (
        "nba-application@champion/1",
        "nba-application@challenger/2",
    )


def test_a_regret_budget_is_kept_and_recorded() -> None:
    """The first decision explores nothing, the next as much as the budget allows, and each record says how much."""
    exploring = {"exploration": {"epsilon": 1.0, "temperature": 5.0, "regret_budget": 1.0}}
    world = _World(policy_changes=exploring)
    decider = world.decider()

    answers = [
        msgspec.json.decode(
            decider.decide(DecisionRequest(request_id=f"r{i}", customer_id="c1"), source="test", now=NOW + i * DAY_US)
        )
        for i in range(2)
    ]

    first, second = (world.records.decision(answer["decision_id"]).record for answer in answers)
    loss = 1.9 - 1.9 / (1 + math.exp(-1.9 / 5.0))
    assert first.epsilon == 0.0
    assert second.epsilon == pytest.approx(1.0 / (1000 * loss))
