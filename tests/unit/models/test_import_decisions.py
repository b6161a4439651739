"""Past decisions of other systems as decision records."""

from __future__ import annotations

import math

import pytest

from features.event_log import MemoryEventLog
from features.past_decisions import PastCandidate, PastDecision
from features.taxonomy import Taxonomy
from models.actions import Catalogue
from models.decision import DecisionRecord, dump_record, load_record
from models.import_decisions import StoreSink, past_decision_id, record_of
from models.memory_records import MemoryRecordStore
from tests.histories import START_AT, TAXONOMY, event


def _action(action_id: str, **channels: str) -> dict[str, object]:
    return {
        "id": action_id,
        "title": "x",
        "kind": "nudge",
        "issue": "onboard",
        "group": "x",
        "journey": "application",
        "outcome": "paid",
        "treatments": [{"id": name, "channel": channel, "contact_cost": 1} for name, channel in channels.items()],
    }


CATALOGUE = Catalogue.model_validate(
    {
        "version": 1,
        "actions": [_action("nudge", sms_nudge="sms", email_nudge="email"), _action("visit", call_visit="call")],
    }
)


def _decision(chances: dict[str, float], *, chosen: str = "email_nudge", request_id: str = "r1") -> PastDecision:
    return PastDecision(
        source="shop",
        decision_id=past_decision_id("shop", request_id, "c1", START_AT),
        request_id=request_id,
        customer_id="c1",
        journey_id="application",
        decided_at=START_AT,
        chosen=chosen,
        candidates=tuple(
            PastCandidate(treatment_id=name, selection_probability=chance) for name, chance in chances.items()
        ),
    )


def _record(chances: dict[str, float], *, chosen: str = "email_nudge") -> DecisionRecord:
    return record_of(_decision(chances, chosen=chosen), CATALOGUE, {"policy": "p1"})


def test_the_id_of_a_past_decision_never_changes() -> None:
    """The same past decision has the same id each time; another source, id, customer or time has another."""
    arguments = [
        ("shop", "r1", "c1", START_AT),
        ("shop2", "r1", "c1", START_AT),
        ("shop", "r2", "c1", START_AT),
        ("shop", "r1", "c2", START_AT),
        ("shop", "r1", "c1", START_AT + 1000),
    ]

    assert past_decision_id("shop", "r1", "c1", START_AT) == "d-01HF7YAT00DR98D95SKYVA4VDQ"
    assert len({past_decision_id(*each) for each in arguments}) == 5


def test_candidates_stand_in_catalogue_order_with_no_action_last() -> None:
    """The record's candidates are those of the past decision, whatever order they were given in."""
    record = _record({"no_action": 0.2, "email_nudge": 0.3, "sms_nudge": 0.5})

    assert [(c.action_id, c.treatment_id, c.channel, c.selection_probability) for c in record.candidates] == [
        ("nudge", "sms_nudge", "sms", 0.5),
        ("nudge", "email_nudge", "email", 0.3),
        ("no_action", "no_action", None, 0.2),
    ]
    assert [c.arm_selection_probability for c in record.candidates] == [0.5, 0.3, 0.2]


def test_the_choice_fills_the_slot() -> None:
    """What was chosen is in slot 1 and counts as done."""
    record = _record({"email_nudge": 0.5, "no_action": 0.5})

    assert (record.mode, record.arm, record.arm_probabilities) == ("imported", "imported", {"imported": 1.0})
    assert record.first.treatment_id == "email_nudge"
    assert record.activated


def test_no_action_fills_no_slot() -> None:
    """Doing nothing was a decision too, and nothing was done."""
    record = _record({"email_nudge": 0.5, "no_action": 0.5}, chosen="no_action")

    assert (record.selected, record.activated, record.first.treatment_id) == ((), False, "no_action")


@pytest.mark.parametrize(
    ("chances", "no_action"),
    [
        ({"email_nudge": 0.5, "sms_nudge": 0.5}, 0.0),
        ({"email_nudge": 0.5}, math.nan),
        ({"email_nudge": math.nan}, math.nan),
    ],
)
def test_no_action_is_always_a_candidate(chances: dict[str, float], no_action: float) -> None:
    """Not listed, it could not have been chosen if all the others are known, and is unknown otherwise."""
    assert _record(chances).candidates[-1].selection_probability == pytest.approx(no_action, nan_ok=True)


def test_what_is_unknown_is_nan_and_survives_the_codec() -> None:
    """Nothing that the past system did not log becomes a number, before and after encoding."""
    record = load_record(dump_record(_record({"email_nudge": math.nan, "no_action": math.nan})))
    unknown = (record.stall_propensity, record.candidates[0].uplift, record.candidates[0].selection_probability)

    assert all(math.isnan(number) for number in unknown)


def test_the_sink_tells_new_from_known() -> None:
    """Events and decisions are kept once, and the second time are no news."""
    log, records = MemoryEventLog(), MemoryRecordStore()
    sink = StoreSink(log, records, TAXONOMY, CATALOGUE, {})
    decisions = [_decision({"email_nudge": 1.0}), _decision({"email_nudge": 1.0}, request_id="r2")]

    assert sink.append_events([event("1"), event("2"), event("1")]) == [True, True, False]
    assert (sink.append_decisions(decisions[:1]), sink.append_decisions(decisions)) == (1, 1)
    assert log.head() == 2


def test_imported_consents_hold_for_the_next_decision() -> None:
    """A consent in the history is known to the record store too."""
    records = MemoryRecordStore()
    sink = StoreSink(MemoryEventLog(), records, TAXONOMY, CATALOGUE, {})

    sink.append_events([event("1", kind="consent_changed", facts={"consent": "sms", "state": "withdrawn"})])

    assert records.customer("c1", since=0, now=START_AT).consents == {"sms": "withdrawn"}


def test_imported_consents_of_a_declared_kind_hold_too() -> None:
    """What a kind means follows from its role, not from its name."""
    declared = {"preferences_saved": TAXONOMY.all_kinds["consent_changed"], **TAXONOMY.kinds}
    taxonomy = Taxonomy.model_validate({**TAXONOMY.model_dump(), "kinds": declared})
    records = MemoryRecordStore()
    sink = StoreSink(MemoryEventLog(), records, taxonomy, CATALOGUE, {})

    sink.append_events([event("1", kind="preferences_saved", facts={"consent": "sms", "state": "withdrawn"})])

    assert records.customer("c1", since=0, now=START_AT).consents == {"sms": "withdrawn"}


def test_imported_exposures_count_under_the_caps() -> None:
    """A contact of last week counts, whichever system made it; importing it again counts it once."""
    records = MemoryRecordStore()
    sink = StoreSink(MemoryEventLog(), records, TAXONOMY, CATALOGUE, {})
    exposed = event("1", kind="action_exposed", facts={"action_id": "nudge", "treatment_id": "email_nudge"})

    for _ in range(2):
        sink.append_events([exposed])

    (contact,) = records.customer("c1", since=0, now=START_AT).contacts
    assert (contact.channel, contact.at, contact.status) == ("email", START_AT, "confirmed")


def test_imported_outcomes_answer_the_contacts_of_their_decision() -> None:
    """What came back before is noted as if it had come through the API; a repetition changes nothing."""
    records = MemoryRecordStore()
    sink = StoreSink(MemoryEventLog(), records, TAXONOMY, CATALOGUE, {})
    aim = CATALOGUE.by_id["nudge"].outcome
    exposed = event("1", kind="action_exposed", facts={"decision_id": "d-1", "action_id": "nudge"})
    came_back = event("2", kind="outcome_observed", facts={"decision_id": "d-1", "outcome_id": aim, "value": 0.0})

    for _ in range(2):
        sink.append_events([exposed, came_back])

    found = records.customer("c1", since=0, now=START_AT).contacts
    assert [(one.action_id, one.response) for one in found] == [("nudge", "negative")]
