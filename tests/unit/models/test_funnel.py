"""The funnel: each stage drops what it must, in order, and says why."""

from __future__ import annotations

from typing import Any

import pytest

from models.actions import Action
from models.funnel import Considered, Question, considered_candidates
from models.records import CustomerRecords
from models.situation import Situation
from tests.decisions import action, condition, contact, policy, question, rule, rulebook, situation
from tests.histories import START_AT


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


def test_the_first_failing_stage_names_the_drop() -> None:
    """An ineligible action that is also over its cap is dropped as ineligible."""
    no = rule("elig.no", condition("stage", equals="applied"))
    caps = {"contact_policy": {"caps": [{"id": "cap.all", "contacts": 1, "period": "7d"}]}}
    records = CustomerRecords(contacts=(contact(at=START_AT - 1),))

    bad, over = _considered(action("a", rules=[no]), action("b"), records=records, policy_changes=caps)

    assert (bad.dropped, bad.rule_ids) == ("eligibility", ("elig.no",))
    assert (over.dropped, over.rule_ids) == ("contact_policy", ("cap.all",))


def test_global_rules_hold_for_the_issues_and_groups_they_name() -> None:
    """A rule for issue ``grow`` leaves service actions alone."""
    flag = rule("suit.flag", condition("attribute:member", equals=True), stage="suitability", issues=("grow",))
    sales, service = _considered(
        action("sell", issue="grow"), action("help", issue="service"), policy_changes={"rules": [flag.model_dump()]}
    )

    assert (sales.dropped, sales.rule_ids) == ("suitability", ("suit.flag",))
    assert service.dropped is None
    assert policy(rules=[flag.model_dump()]).rules == (flag,)
