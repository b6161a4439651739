"""Exposures and outcomes: events by decision id, the same again changes nothing, exposures confirm contacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from features.event_log import MemoryEventLog
from features.events import FUTURE_SKEW_US, JourneyEvent, dump_timestamp
from features.ingest import Ingestor
from features.store import MemoryStore
from models.actions import Catalogue
from models.contact_responses import contact_responses
from models.decision import Candidate, Selected
from models.exposures import exposed_contacts
from models.memory_records import MemoryRecordStore
from models.records import Contact
from serving.outcomes import OutcomeRecorder, OutcomesReport
from tests.decision_records import NO_ACTION, record
from tests.decisions import action
from tests.histories import FEATURE_SETS, TAXONOMY, journey

NOW = 1_750_000_900_000_000
SHOWN_AT = NOW - 60_000_000

CALL = Candidate(action_id="call", treatment_id="call_phone", channel="phone", uplift=0.1)
CALL_LATER = Candidate(action_id="call", treatment_id="call_later", channel="phone", uplift=0.1)
PAGE = Candidate(action_id="page", treatment_id="page_web", channel="web", uplift=0.1)


class _World:
    """One live decision ``d-000001`` for customer c1 that selected ``call_later``, in memory."""

    def __init__(self, log: MemoryEventLog | None = None, **changes: Any) -> None:
        self.log = log or MemoryEventLog()
        self.records = MemoryRecordStore()
        fields: dict[str, Any] = {
            "journey_id": "application",
            "candidates": (CALL, CALL_LATER, PAGE, NO_ACTION),
            "selected": (Selected(slot=1, placement=None, action_id="call", treatment_id="call_later"),),
            "send_id": None,
        }
        self.records.commit(record(1, **(fields | changes)), b"{}", None)
        ingestor = Ingestor(
            self.log,
            MemoryStore(),
            FEATURE_SETS,
            TAXONOMY,
            self.records.set_consents,
            self._count_exposures,
            responses=self._note_responses,
        )
        self._recorder = OutcomeRecorder(
            records=self.records, ingest=ingestor, journeys={"application": journey("application")}
        )

    def _count_exposures(self, events: Sequence[JourneyEvent]) -> None:
        known = Catalogue(version=1, actions=(action("call"), action("page")))
        self.records.confirm_contacts(exposed_contacts(events, known))

    def _note_responses(self, events: Sequence[JourneyEvent]) -> None:
        aimed = (action("call"), action("page", outcome="visited"))
        self.records.note_responses(tuple(contact_responses(events, TAXONOMY, Catalogue(version=1, actions=aimed))))

    def send(self, *items: object) -> OutcomesReport:
        return self._recorder.record(items, source="crm", arrived_at=NOW)

    def contacts(self) -> tuple[Contact, ...]:
        return self.records.customer("c1", since=0, now=NOW).contacts


def _exposure(**changes: Any) -> dict[str, Any]:
    return {"decision_id": "d-000001", "type": "exposure", "occurred_at": dump_timestamp(SHOWN_AT)} | changes


def _outcome(**changes: Any) -> dict[str, Any]:
    fields = {"type": "outcome", "outcome_id": "paid", "value": 1, "occurred_at": dump_timestamp(SHOWN_AT)}
    return {"decision_id": "d-000001"} | fields | changes


def _problems(report: OutcomesReport) -> dict[str, str]:
    return {problem.path: problem.expected for _, problems in report.rejected for problem in problems}


def test_an_exposure_becomes_an_event_of_the_customer() -> None:
    """It carries what was selected, over the treatment's channel, from the caller's source."""
    world = _World()

    report = world.send(_exposure())

    (logged,) = world.log.of_customer("c1")
    assert (report.accepted, report.duplicates, report.rejected) == (1, 0, ())
    assert (logged.event.kind, logged.event.source, logged.event.channel) == ("action_exposed", "crm", "phone")
    assert logged.event.occurred_at == SHOWN_AT
    assert logged.event.facts == {"decision_id": "d-000001", "action_id": "call", "treatment_id": "call_later"}


def test_an_exposure_confirms_its_contact() -> None:
    """From then on caps count it."""
    world = _World()

    world.send(_exposure())

    assert [(one.action_id, one.channel, one.at, one.status) for one in world.contacts()] == [
        ("call", "phone", SHOWN_AT, "confirmed")
    ]


@pytest.mark.parametrize(("value", "response"), [(1, "positive"), (0, "negative")])
def test_an_outcome_is_what_came_back_for_its_contact(value: float, response: str) -> None:
    """A value above 0 is a yes, 0 a no, on the contact of the action that aims at the outcome."""
    world = _World()

    world.send(_exposure(), _exposure(action_id="page"), _outcome(value=value))

    assert [(one.action_id, one.response) for one in world.contacts()] == [("call", response), ("page", "")]


def test_an_outcome_sent_again_is_noted_again_as_it_was() -> None:
    """A batch that was cut short is completed by its repetition, with what the log has and not what is said now."""
    world = _World()
    world.send(_outcome())
    world.send(_exposure())

    world.send(_outcome(value=0))

    assert [(one.action_id, one.response) for one in world.contacts()] == [("call", "positive")]


def test_the_same_exposure_again_changes_nothing() -> None:
    """A retry is a duplicate, and the contact counts once."""
    world = _World()
    world.send(_exposure())

    report = world.send(_exposure())

    assert (report.accepted, report.duplicates) == (0, 1)
    assert len(world.contacts()) == 1


def test_an_exposure_of_another_candidate_can_be_named() -> None:
    """What was really shown counts, not what was advised."""
    world = _World()

    world.send(_exposure(action_id="page"))

    assert world.log.of_customer("c1")[0].event.facts["treatment_id"] == "page_web"


def test_an_exposure_of_what_was_dropped_is_rejected() -> None:
    """No answer of the decision advised it, so it was none of this decision."""
    world = _World(candidates=(CALL, CALL_LATER, replace(PAGE, dropped="contact_policy"), NO_ACTION))

    assert list(_problems(world.send(_exposure(action_id="page")))) == ["outcomes[0].treatment_id"]


def test_the_holdout_is_not_exposed() -> None:
    """A customer who is never contacted was not contacted by a decision that said so."""
    world = _World(arm="no_contact_holdout", selected=())

    assert list(_problems(world.send(_exposure(action_id="call", treatment_id="call_phone")))) == [
        "outcomes[0].treatment_id"
    ]
    assert world.contacts() == ()


@pytest.mark.parametrize(
    "changes",
    [{"treatment_id": "sms_9"}, {"action_id": "no_action"}, {"action_id": "call", "treatment_id": "page_web"}],
)
def test_an_exposure_of_what_was_no_candidate_is_rejected(changes: dict[str, str]) -> None:
    """The message names what was selected."""
    report = _World().send(_exposure(**changes))

    assert _problems(report) == {"outcomes[0].treatment_id": "a treatment of the decision; selected were: call_later"}


def test_an_exposure_without_a_name_needs_a_selection() -> None:
    """Where nothing was selected nothing can have been meant."""
    report = _World(selected=()).send(_exposure())

    assert _problems(report) == {"outcomes[0].treatment_id": "a treatment of the decision; selected were: none"}


def test_an_exposure_of_a_shadow_decision_is_rejected() -> None:
    """A shadow decision is never acted on."""
    report = _World(mode="shadow").send(_exposure())

    assert _problems(report) == {"outcomes[0].decision_id": "a decision of mode live, not shadow"}


def test_an_outcome_becomes_an_event() -> None:
    """It carries decision, outcome id and value."""
    world = _World()

    world.send(_outcome(value=12.5))

    (logged,) = world.log.of_customer("c1")
    assert logged.event.kind == "outcome_observed"
    assert logged.event.facts == {"decision_id": "d-000001", "outcome_id": "paid", "value": 12.5}


def test_an_outcome_is_counted_once_unless_it_names_its_own_id() -> None:
    """By default there is one of each outcome a decision; several purchases need ids."""
    world = _World()

    report = world.send(_outcome(), _outcome(), _outcome(outcome_event_id="purchase-2"))

    assert (report.accepted, report.duplicates) == (2, 1)


def test_every_bad_item_is_reported_at_its_index() -> None:
    """Good items are kept beside bad ones, and every problem of a bad one is told."""
    world = _World()

    report = world.send(
        _outcome(decision_id="d-unknown"),
        _outcome(outcome_id="rain", value="much", colour="blue"),
        _outcome(),
        "nothing",
        {"type": "guess"},
        _exposure(occurred_at="2026-03-01T09:30:00"),
        {"type": "outcome"},
    )

    assert report.accepted == 1
    assert [index for index, _ in report.rejected] == [0, 1, 3, 4, 5, 6]
    assert list(_problems(report)) == [
        "outcomes[0].decision_id",
        "outcomes[1].colour",
        "outcomes[1].outcome_id",
        "outcomes[1].value",
        "outcomes[3]",
        "outcomes[4].type",
        "outcomes[5].occurred_at",
        "outcomes[6].decision_id",
        "outcomes[6].occurred_at",
    ]


def test_what_the_log_refuses_is_reported_in_the_callers_words() -> None:
    """A time in the future is refused at the item's own field, and confirms no contact."""
    world = _World()

    report = world.send(_outcome(), _exposure(occurred_at=dump_timestamp(NOW + 3_600_000_000)))

    assert [index for index, _ in report.rejected] == [1]
    assert list(_problems(report)) == ["outcomes[1].occurred_at"]
    assert world.contacts() == ()


def test_an_exposure_known_from_before_still_confirms() -> None:
    """If the process died between the event and its contact, the retry completes it."""
    before = _World()
    before.send(_exposure())
    after = _World(before.log)

    report = after.send(_exposure())

    assert report.duplicates == 1
    assert [one.status for one in after.contacts()] == ["confirmed"]


@pytest.mark.parametrize("item", [_outcome, _exposure])
def test_a_clock_a_little_behind_loses_nothing(item: Any) -> None:
    """Told to the second, what follows at once would seem to come before the decision, and count for nothing."""
    world = _World()
    decided_at = record(1).decided_at

    report = world.send(item(occurred_at=dump_timestamp(decided_at - 900_000)))

    (logged,) = world.log.of_customer("c1")
    assert report.rejected == ()
    assert logged.event.occurred_at == decided_at + 1


@pytest.mark.parametrize("item", [_outcome, _exposure])
def test_what_was_long_before_the_decision_is_none_of_it(item: Any) -> None:
    """It would count for nothing, and its sender would not hear of it."""
    decided_at = record(1).decided_at

    report = _World().send(item(occurred_at=dump_timestamp(decided_at - FUTURE_SKEW_US - 1)))

    assert _problems(report) == {
        "outcomes[0].occurred_at": f"a time after the decision of {dump_timestamp(decided_at)}"
    }
