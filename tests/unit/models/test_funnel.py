"""The funnel: each stage drops what it must, in order, and says why."""

from __future__ import annotations

from typing import Any

import pytest

from features.events import dump_timestamp
from models.actions import Action
from models.funnel import Considered, Question, considered_candidates, every_failing_rule
from models.records import CustomerRecords
from models.situation import Situation
from tests.decisions import DAY_US, action, condition, contact, policy, question, rule, rulebook, situation
from tests.histories import START_AT

_ON_THE_PHONE = {"id": "t", "channel": "phone", "contact_cost": 0}


def _considered(
    *actions: Action,
    customer: Situation | None = None,
    asked: Question | None = None,
    records: CustomerRecords | None = None,
    policy_changes: dict[str, Any] | None = None,
) -> list[Considered]:
    book = rulebook(*actions, policy_changes=policy_changes)
    return considered_candidates(
        plan=book.plan,
        catalogue=book.catalogue,
        policy=book.policy,
        taxonomy=book.taxonomy,
        situation=customer or situation(),
        records=records or CustomerRecords(),
        question=asked or question(),
        time_zone="Europe/Amsterdam",
    )


def test_every_treatment_is_a_candidate() -> None:
    """Catalogue order, treatments in theirs; what passes everything may be scored."""
    two = [{"id": "t1", "channel": "phone", "contact_cost": 0}, {"id": "t2", "channel": "web", "contact_cost": 0}]

    found = _considered(action("a", treatments=two), action("b"), asked=question(outbound=False))

    assert [(one.treatment.id, one.dropped) for one in found] == [("t1", None), ("t2", None), ("b_phone", None)]


def test_actions_of_other_journeys_are_no_candidates() -> None:
    """They are not even counted."""
    assert _considered(action("a", journey="other")) == []


@pytest.mark.parametrize(
    ("changes", "asked", "drop"),
    [
        ({"valid_from": "2030-01-01T00:00:00Z"}, {}, ("catalogue", ("catalogue.validity",))),
        ({"valid_to": "2020-01-01T00:00:00Z"}, {}, ("catalogue", ("catalogue.validity",))),
        ({}, {"exclude": frozenset({"a"})}, ("catalogue", ("request.candidates",))),
        ({}, {"include": frozenset({"b"})}, ("catalogue", ("request.candidates",))),
        ({}, {"issues": frozenset({"grow"})}, ("catalogue", ("request.issues",))),
        ({}, {"channels": frozenset({"web"})}, ("catalogue", ("request.channel",))),
        ({}, {"placements": ("web/top",), "channels": frozenset({"web"})}, ("catalogue", ("request.channel",))),
        ({"treatments": [_ON_THE_PHONE | {"directions": ["inbound"]}]}, {}, ("catalogue", ("request.direction",))),
        (
            {"treatments": [_ON_THE_PHONE | {"placements": ["phone/script"]}]},
            {"placements": ("phone/greeting",), "channels": frozenset({"phone"})},
            ("catalogue", ("request.placements",)),
        ),
        (
            {"valid_to": "2020-01-01T00:00:00Z", "stages": ["applied"]},
            {"channels": frozenset({"web"}), "issues": frozenset({"grow"})},
            ("catalogue", ("catalogue.validity", "request.issues", "request.channel")),
        ),
        ({"stages": ["applied"]}, {"channels": frozenset({"web"})}, ("catalogue", ("request.channel",))),
        ({"stages": ["applied"]}, {}, ("applicability", ("applicability.stage",))),
        ({"regulated": True}, {}, ("suitability", ("suitability.disclosures",))),
        ({}, {"lost": {"a_phone": "cap.all"}}, ("capacity", ("capacity.lost_race", "cap.all"))),
    ],
)
def test_each_stage_drops_with_its_reason(
    changes: dict[str, Any], asked: dict[str, Any], drop: tuple[str, tuple[str, ...]]
) -> None:
    """The stage and every rule of it that failed."""
    (only,) = _considered(action("a", **changes), asked=question(**asked))

    assert (only.dropped, only.rule_ids) == drop


def test_a_later_moment_of_contact_is_the_one_that_an_action_is_valid_at() -> None:
    """What ends before it is out, and what begins until then is in."""
    later = START_AT + 2 * DAY_US
    ending = {"valid_to": dump_timestamp(START_AT + DAY_US)}
    beginning = {"valid_from": dump_timestamp(START_AT + DAY_US)}

    def dropped(**asked: Any) -> list[str | None]:
        found = _considered(action("a", **ending), action("b", **beginning), asked=question(**asked))
        return [one.dropped for one in found]

    assert dropped() == [None, "catalogue"]
    assert dropped(contact_at=later) == ["catalogue", None]


def test_the_first_failing_stage_names_the_drop() -> None:
    """An ineligible action that is also over its cap is dropped as ineligible."""
    no = rule("elig.no", condition("stage", equals="applied"))
    caps = {"contact_policy": {"caps": [{"id": "cap.all", "contacts": 1, "period": "7d"}]}}
    records = CustomerRecords(contacts=(contact(at=START_AT - 1),))

    bad, over = _considered(action("a", rules=[no]), action("b"), records=records, policy_changes=caps)

    assert (bad.dropped, bad.rule_ids) == ("eligibility", ("elig.no",))
    assert (over.dropped, over.rule_ids) == ("contact_policy", ("cap.all",))


def test_a_treatment_fits_the_places_it_names() -> None:
    """Where the request names places, one of them must be among those of the treatment, or on its channel."""
    script = _ON_THE_PHONE | {"id": "t1", "placements": ["phone/script", "phone/greeting"]}
    anywhere = _ON_THE_PHONE | {"id": "t2"}
    asked = {"channels": frozenset({"phone"}), "placements": ("phone/farewell", "phone/script")}

    def left(**changes: Any) -> list[str]:
        found = _considered(action("a", treatments=[script, anywhere]), asked=question(**(asked | changes)))
        return [one.treatment.id for one in found if one.dropped is None]

    assert left() == ["t1", "t2"]
    assert left(placements=("phone/farewell",)) == ["t2"]
    assert left(placements=(), channels=None) == ["t1", "t2"]


def test_a_group_is_one_of_its_issue() -> None:
    """A rule for a group of an issue leaves the group of the same name in another issue alone."""
    flag = rule("suit.flag", condition("attribute:member", equals=True), issues=("grow",), groups=("cards",))
    found = _considered(
        action("sell", issue="grow"),
        action("help", issue="service"),
        action("save", issue="grow", group="savings"),
        policy_changes={"rules": [flag.model_dump()]},
    )

    assert [one.action.id for one in found if one.dropped] == ["sell"]


def test_a_cap_of_an_issue_leaves_the_others() -> None:
    """One sale a month is no reason not to help."""
    cap = {"id": "cap.sales", "contacts": 1, "period": "30d", "issue": "grow"}
    sell, insure, assist = _considered(
        action("sell", issue="grow"),
        action("insure", issue="grow"),
        action("help"),
        records=CustomerRecords(contacts=(contact(at=START_AT - 1, action_id="sell"),)),
        policy_changes={"contact_policy": {"caps": [cap]}},
    )

    assert (sell.rule_ids, insure.rule_ids) == (("cap.sales",), ("cap.sales",))
    assert assist.dropped is None


def test_every_failing_rule_of_every_stage_is_found() -> None:
    """Not only of the first stage; what passes everything has none."""
    no = rule("elig.no", condition("stage", equals="applied"))
    book = rulebook(
        action("bad", rules=[no], stages=["applied"], regulated=True, valid_to="2020-01-01T00:00:00Z"),
        action("good"),
        policy_changes={
            "contact_policy": {"caps": [{"id": "cap.bad", "contacts": 1, "period": "7d", "action": "bad"}]},
            "rules": [rule("suit.no", condition("stage", equals="applied"), stage="suitability").model_dump()],
        },
    )

    found = every_failing_rule(
        plan=book.plan,
        catalogue=book.catalogue,
        policy=book.policy,
        taxonomy=book.taxonomy,
        situation=situation(),
        records=CustomerRecords(contacts=(contact(at=START_AT - 1, action_id="bad"),)),
        question=question(exclude=frozenset({"bad"}), lost={"bad_phone": "cap.bad"}),
        time_zone="Europe/Amsterdam",
    )

    assert found == {
        "bad_phone": (
            ("catalogue", "catalogue.validity"),
            ("catalogue", "request.candidates"),
            ("eligibility", "elig.no"),
            ("applicability", "applicability.stage"),
            ("suitability", "suitability.disclosures"),
            ("suitability", "suit.no"),
            ("contact_policy", "cap.bad"),
            ("capacity", "capacity.lost_race"),
            ("capacity", "cap.bad"),
        ),
        "good_phone": (("suitability", "suit.no"),),
    }


def test_global_rules_hold_for_the_issues_and_groups_they_name() -> None:
    """A rule for issue ``grow`` leaves service actions alone."""
    flag = rule("suit.flag", condition("attribute:member", equals=True), stage="suitability", issues=("grow",))
    sales, service = _considered(
        action("sell", issue="grow"), action("help", issue="service"), policy_changes={"rules": [flag.model_dump()]}
    )

    assert (sales.dropped, sales.rule_ids) == ("suitability", ("suit.flag",))
    assert service.dropped is None
    assert policy(rules=[flag.model_dump()]).rules == (flag,)
