"""The built-in configuration: a credit-card application that a bank would recognise."""

from __future__ import annotations

import pytest

from features.schema import feature_set
from features.taxonomy import BUILT_IN_KINDS
from models.actions import Action
from models.configuration import built_in_configuration

BUILT_IN = built_in_configuration()
JOURNEY = BUILT_IN.journeys.by_id["credit_card_application"]
ACTIONS = BUILT_IN.catalogue.actions
OFFERS = [action for action in ACTIONS if action.issue == "grow"]


def test_the_journey_leads_from_applied_to_used() -> None:
    """The stages and the goal are those of the case study, in order."""
    assert (*JOURNEY.stage_ids, JOURNEY.goal.id) == ("applied", "verified", "offer_accepted", "activated", "used")


def test_every_stage_has_a_stall_state_of_its_own() -> None:
    """Being stuck has a name in each of the four stages."""
    assert [stage.stall_state for stage in JOURNEY.stages] == [
        "DOCUMENTS_MISSING",
        "OFFER_UNDECIDED",
        "CARD_NOT_ACTIVATED",
        "CARD_NOT_USED",
    ]


def test_states_are_found_in_the_order_of_their_urgency() -> None:
    """Who waits on us is not called idle."""
    assert [rule.state for rule in JOURNEY.states] == ["WAITING_ON_US", "NEEDS_HELP", "LOOPING", "IDLE"]


def test_states_read_features_that_exist() -> None:
    """The schema has every feature that a state looks at."""
    names = feature_set(BUILT_IN.taxonomy, JOURNEY).names

    assert {rule.feature for rule in JOURNEY.states} <= set(names)


def test_at_least_twelve_actions_over_six_channels() -> None:
    """Enough to choose from on every channel that reaches out."""
    channels = {treatment.channel for action in ACTIONS for treatment in action.treatments}

    assert len(ACTIONS) >= 12
    assert channels == {"sms", "email", "push", "web", "call", "case"}


def test_the_catalogue_holds_every_kind_of_action() -> None:
    """Nudges, offers, calls, cases and messages."""
    assert {action.kind for action in ACTIONS} == {"nudge", "offer", "call", "case", "message"}


@pytest.mark.parametrize("action", [action for action in ACTIONS if action.regulated], ids=lambda action: action.id)
def test_a_regulated_action_carries_its_disclosures(action: Action) -> None:
    """Without them the policy would refuse it for everybody."""
    assert len(action.disclosures) >= 2


@pytest.mark.parametrize("action", OFFERS, ids=lambda action: action.id)
def test_an_offer_is_regulated(action: Action) -> None:
    """What sells credit or insurance needs words that the law prescribes."""
    assert action.kind == "offer"
    assert action.regulated


@pytest.mark.parametrize("flag", ["arrears_flag", "hardship_flag", "vulnerable_flag", "open_complaint"])
def test_care_comes_before_selling(flag: str) -> None:
    """A policy rule on each flag holds for offers, and an unknown flag counts against them."""
    guards = [
        (rule.issues, condition.equals, condition.missing)
        for rule in BUILT_IN.policy.rules
        for condition in rule.all_of
        if condition.field == f"attribute:{flag}"
    ]

    assert guards == [(("grow",), False, "fail")]


@pytest.mark.parametrize(
    "action", [action for action in ACTIONS if action.kind == "case"], ids=lambda action: action.id
)
def test_a_case_has_a_queue_and_a_deadline(action: Action) -> None:
    """Somebody works it, and in time."""
    assert action.assigned_to
    assert action.sla is not None
    assert action.sla > 0


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_an_action_has_a_belief_to_start_from(action: Action) -> None:
    """Before there is data, the prior is what an action is scored by."""
    assert action.prior_uplift is not None
    assert 0 < action.prior_uplift < 0.25


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_an_incentive_is_worth_less_than_the_outcome(action: Action) -> None:
    """Otherwise no effect could ever pay for it."""
    assert action.incentive_cost < JOURNEY.outcome_by_id[action.outcome].value


def test_personal_data_is_no_feature() -> None:
    """Hashes of addresses and the flags that protect people stay out of the models."""
    protected = {"email_hash", "phone_hash", "arrears_flag", "hardship_flag", "vulnerable_flag", "time_zone"}

    assert protected & set(BUILT_IN.taxonomy.feature_attributes) == set()


def test_identifying_attributes_are_marked() -> None:
    """They are masked wherever people look."""
    assert {name for name, attribute in BUILT_IN.taxonomy.attributes.items() if attribute.pii} == {
        "email_hash",
        "phone_hash",
    }


def test_every_channel_has_an_event_or_an_action() -> None:
    """No channel is declared for show."""
    used = {channel for kind in BUILT_IN.taxonomy.kinds.values() for channel in kind.channels}
    used |= {treatment.channel for action in ACTIONS for treatment in action.treatments}

    assert set(BUILT_IN.taxonomy.channels) == used


def test_no_kind_takes_a_reserved_name() -> None:
    """The kinds that exist everywhere mean the same everywhere."""
    assert set(BUILT_IN.taxonomy.kinds) & set(BUILT_IN_KINDS) == set()


def test_the_experiment_keeps_its_parts() -> None:
    """Five percent are never contacted, ten percent get a random candidate."""
    experiment = BUILT_IN.policy.experiment

    assert (experiment.no_contact_holdout, experiment.random_eligible) == (0.05, 0.10)
    assert BUILT_IN.policy.exploration.epsilon == 0.05
