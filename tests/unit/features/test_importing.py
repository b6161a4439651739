"""Applying a mapping to files: what is accepted, what is refused, and that the counts add up."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest

from features.errors import MappingError
from features.events import dump_timestamp
from features.importing import DryRun
from features.past_decisions import PastCandidate
from features.taxonomy import ALIAS, LINKED
from tests.histories import event
from tests.imports import EVENT, Imported, MemorySink, file_of, import_files, mapping_of

_AT = "2025-01-01T10:00:00Z"
_DECISION = {
    "id": {"column": "id"},
    "customer": {"column": "who"},
    "at": {"column": "when"},
    "journey": "application",
    "chosen": {"column": "arm"},
}


@pytest.fixture
def rejects(tmp_path: Path) -> Path:
    """Where refusals are written."""
    return tmp_path / "rejects" / "shop.jsonl"


def _events(tmp_path: Path, text: str, rejects: Path, *, time_zone: str | None = None, **output: Any) -> Imported:
    mapping = mapping_of({"events": [{**EVENT, **output}]}, time_zone=time_zone)
    return import_files(mapping, file_of(tmp_path, text), rejects=rejects)


def test_a_row_becomes_an_event(tmp_path: Path, rejects: Path) -> None:
    """All fields of an event come from where the mapping says, typed as the taxonomy declares."""
    imported = _events(
        tmp_path,
        "who,when,learned,what,amount,order\nc1,2025-01-01T11:00:00+01:00,2025-01-02T00:00:00Z,paid,12.50,4\n",
        rejects,
        id={"template": "e{row}"},
        channel="web",
        arrived_at={"column": "learned"},
        sequence={"column": "order"},
        facts={"amount": {"column": "amount"}},
    )

    (made,) = imported.events
    assert (made.source, made.event_id, made.customer_id, made.kind, made.channel) == (
        "shop",
        "e1",
        "c1",
        "paid",
        "web",
    )
    assert dump_timestamp(made.occurred_at) == "2025-01-01T10:00:00.000000Z"
    assert dump_timestamp(made.arrived_at) == "2025-01-02T00:00:00.000000Z"
    assert (made.sequence, made.facts) == (4, {"amount": 12.5})
    assert imported.counts == {"events": (1, 0, 0)}


def test_an_event_arrived_when_it_occurred_and_keeps_its_place(tmp_path: Path, rejects: Path) -> None:
    """Without columns for them, arrival is occurrence, order is the row's number, and the id names file and row."""
    imported = _events(tmp_path, f"who,when,what\nc1,{_AT},visited\nc1,{_AT},applied\n", rejects)

    assert [(e.event_id, e.sequence, e.arrived_at - e.occurred_at) for e in imported.events] == [
        ("file.csv#1", 1, 0),
        ("file.csv#2", 2, 0),
    ]


@pytest.mark.parametrize(
    ("row", "rejected"),
    [
        (f"c1,{_AT},flown", ("events[0].kind", "'flown'", "a kind of the taxonomy: visited, applied")),
        ("c1,2025-01-01T10:00:00,visited", ("events[0].at", "2025-01-01T10:00:00", "a time with an offset")),
        ("c1,2999-01-01T00:00:00Z,visited", ("events[0].at", "2999-01-01T00:00:00.000000Z", "a time from 1970 until")),
        ("c1,,visited", ("events[0].at", "", "a time: it is empty in this row")),
        (f",{_AT},visited", ("events[0].customer", "", "a value: it is empty in this row")),
        (f"c1,{_AT}", ("row", "2 fields", "3 fields, one per heading")),
        (f"{'x' * 300},{_AT},visited", ("events[0].customer_id", f"'{'x' * 76}...", "text of 1 to 200 characters")),
    ],
)
def test_an_unusable_row_is_named_and_the_next_one_is_kept(
    tmp_path: Path, rejects: Path, row: str, rejected: tuple[str, str, str]
) -> None:
    """Field, value and expectation of a refusal are on record with file and line, and the import goes on."""
    imported = _events(tmp_path, f"who,when,what\n{row}\nc2,{_AT},applied\n", rejects)

    (entry,) = imported.rejects
    assert (entry["file"], entry["line"], entry["row"]) == ("file.csv", 2, 1)
    assert (entry["field"], entry["value"]) == rejected[:2]
    assert entry["expected"].startswith(rejected[2])
    assert [made.customer_id for made in imported.events] == ["c2"]
    assert (imported.result.rows, imported.result.rows_rejected) == (2, 1)


def test_a_row_may_say_whose_events_are_whose(tmp_path: Path, rejects: Path) -> None:
    """The kinds that link ids come in through a mapping like any other."""
    text = f"who,when,what,other\nc1,{_AT},{LINKED},cookie-7\n"

    imported = _events(tmp_path, text, rejects, facts={ALIAS: {"column": "other"}})

    assert [(made.kind, made.facts) for made in imported.events] == [(LINKED, {ALIAS: "cookie-7"})]


def test_all_problems_of_a_row_are_on_record(tmp_path: Path, rejects: Path) -> None:
    """One bad field does not hide another."""
    imported = _events(
        tmp_path,
        "who,when,what,amount\nc1,soon,paid,much\n",
        rejects,
        facts={"amount": {"column": "amount"}},
    )

    assert [entry["field"] for entry in imported.rejects] == ["events[0].facts.amount", "events[0].at"]
    assert imported.counts == {"events": (0, 0, 1)}


def test_a_named_zone_makes_naive_times_usable(tmp_path: Path, rejects: Path) -> None:
    """With a zone in the mapping a local time is one moment."""
    imported = _events(tmp_path, "who,when,what\nc1,2025-01-01 11:00,visited\n", rejects, time_zone="Europe/Amsterdam")

    assert dump_timestamp(imported.events[0].occurred_at) == "2025-01-01T10:00:00.000000Z"


def test_duplicates_are_counted_and_change_nothing(tmp_path: Path, rejects: Path) -> None:
    """The same identity twice in a file, and the same file twice, are accepted once."""
    mapping = mapping_of({"events": [{**EVENT, "id": {"column": "id"}}]})
    path = file_of(tmp_path, f"id,who,when,what\n1,c1,{_AT},visited\n1,c1,{_AT},visited\n2,c1,{_AT},applied\n")
    sink = MemorySink()

    first = import_files(mapping, path, rejects=rejects, sink=sink)
    second = import_files(mapping, path, rejects=rejects, sink=sink)

    assert first.counts == {"events": (2, 1, 0)}
    assert second.counts == {"events": (0, 3, 0)}
    assert len(sink.events) == 2


def test_a_trial_tells_duplicates_within_the_files() -> None:
    """A dry run knows what it has met, and keeps nothing else."""
    sink = DryRun()

    assert sink.append_events([event("1"), event("2"), event("1")]) == [True, True, False]


def test_rows_that_give_nothing_are_counted(tmp_path: Path, rejects: Path) -> None:
    """A row that the conditions leave out is skipped, in the open."""
    imported = _events(
        tmp_path,
        f"who,when,what\nc1,{_AT},visited\nc1,{_AT},noise\n",
        rejects,
        when=[{"column": "what", "none_of": ["noise"]}],
    )

    assert (imported.result.rows, imported.result.rows_skipped, imported.counts) == (2, 1, {"events": (1, 0, 0)})


def test_facts_go_to_the_kinds_that_declare_them(tmp_path: Path, rejects: Path) -> None:
    """One list of facts serves all kinds of a table; empty ones are left out."""
    imported = _events(
        tmp_path,
        f"who,when,what,amount\nc1,{_AT},visited,3\nc1,{_AT},paid,\nc1,{_AT},paid,5\n",
        rejects,
        facts={"amount": {"column": "amount"}},
    )

    assert [made.facts for made in imported.events] == [{}, {}, {"amount": 5.0}]


def test_attributes_become_a_profile_event(tmp_path: Path, rejects: Path) -> None:
    """Attributes and holdings are typed; a row without any gives nothing."""
    values = {"age": {"column": "age"}, "tier": {"column": "tier"}, "holding:loan": {"column": "loan"}}
    output = {"customer": {"column": "who"}, "at": _AT, "values": values}
    text = "who,age,tier,loan\nc1,34,gold,yes\nc2,,,\nc3,,silver,no\n"

    imported = import_files(mapping_of({"attributes": [output]}), file_of(tmp_path, text), rejects=rejects)

    (made,) = imported.events
    assert (made.kind, made.event_id) == ("profile_updated", "file.csv#1.profile")
    assert made.facts == {"age": 34.0, "tier": "gold", "holding:loan": True}
    assert (imported.counts, imported.result.rows_skipped) == ({"attributes": (1, 0, 1)}, 1)
    assert (imported.rejects[0]["field"], imported.rejects[0]["value"]) == ("attributes[0].facts.tier", "'silver'")


def test_once_per_group(tmp_path: Path, rejects: Path) -> None:
    """`per: group` gives one item, from the group's first row that meets the conditions."""
    output = {
        "customer": {"column": "who"},
        "at": _AT,
        "per": "group",
        "when": [{"column": "age", "not_empty": True}],
        "values": {"age": {"column": "age"}},
    }
    mapping = mapping_of({"group_by": "who", "attributes": [output]})

    imported = import_files(mapping, file_of(tmp_path, "who,age\nc1,\nc1,30\nc1,31\nc2,40\n"), rejects=rejects)

    assert [(made.customer_id, made.facts["age"]) for made in imported.events] == [("c1", 30.0), ("c2", 40.0)]
    assert imported.result.rows_skipped == 2


def test_a_past_decision_with_all_probabilities(tmp_path: Path, rejects: Path) -> None:
    """Candidates carry their logged probabilities, fractions too."""
    candidates = [
        {"treatment": "sms_nudge", "probability": "1/3"},
        {"treatment": "email_nudge", "probability": {"column": "p"}},
        {"treatment": "no_action", "probability": "1/3"},
    ]
    mapping = mapping_of({"decisions": [{**_DECISION, "candidates": candidates}]})
    path = file_of(tmp_path, f"id,who,when,arm,p\nd1,c1,{_AT},email_nudge,0.33333333\n")

    imported = import_files(mapping, path, rejects=rejects)

    (made,) = imported.decisions
    assert made.decision_id == "shop/d1/c1/1735725600000000"
    assert (made.request_id, made.customer_id, made.journey_id, made.chosen) == (
        "d1",
        "c1",
        "application",
        "email_nudge",
    )
    assert made.candidates == (
        PastCandidate(treatment_id="sms_nudge", selection_probability=1 / 3),
        PastCandidate(treatment_id="email_nudge", selection_probability=0.33333333),
        PastCandidate(treatment_id="no_action", selection_probability=1 / 3),
    )


def test_a_past_decision_with_the_probability_of_the_choice_only(tmp_path: Path, rejects: Path) -> None:
    """What was not logged is unknown, never a number."""
    output = {
        **_DECISION,
        "probability": {"column": "p"},
        "candidates": [{"treatment": "sms_nudge"}, {"treatment": "no_action"}],
    }
    path = file_of(tmp_path, f"id,who,when,arm,p\nd1,c1,{_AT},sms_nudge,0.2\nd2,c1,{_AT},no_action,\n")

    imported = import_files(mapping_of({"decisions": [output]}), path, rejects=rejects)

    chances = [[candidate.selection_probability for candidate in made.candidates] for made in imported.decisions]
    assert chances[0][0] == 0.2
    assert [math.isnan(chance) for chance in (chances[0][1], *chances[1])] == [True, True, True]


def test_candidates_may_come_as_json(tmp_path: Path, rejects: Path) -> None:
    """A cell with a JSON list of candidates gives the same as listing them in the mapping."""
    table = '[{""treatment_id"": ""sms_nudge"", ""selection_probability"": 0.25}, {""treatment_id"": ""no_action""}]'
    path = file_of(tmp_path, f'id,who,when,arm,all\nd1,c1,{_AT},sms_nudge,"{table}"\nd2,c1,{_AT},sms_nudge,[1]\n')
    mapping = mapping_of({"decisions": [{**_DECISION, "candidates_json": {"column": "all"}}]})

    imported = import_files(mapping, path, rejects=rejects)

    (made,) = imported.decisions
    assert made.candidates[0] == PastCandidate(treatment_id="sms_nudge", selection_probability=0.25)
    assert math.isnan(made.candidates[1].selection_probability)
    assert [entry["field"] for entry in imported.rejects] == ["decisions[0].candidates_json"]


def test_facts_may_come_as_json(tmp_path: Path, rejects: Path) -> None:
    """A cell with a JSON object of facts is checked against the kind; nulls are left out."""
    path = file_of(tmp_path, f'who,when,what,all\nc1,{_AT},paid,"{{""amount"": 5}}"\nc1,{_AT},paid,"{{""x"": 5}}"\n')

    imported = import_files(mapping_of({"events": [{**EVENT, "facts_json": {"column": "all"}}]}), path, rejects=rejects)

    assert [made.facts for made in imported.events] == [{"amount": 5.0}]
    assert [entry["field"] for entry in imported.rejects] == ["events[0].facts.x"]


@pytest.mark.parametrize(
    ("cells", "field", "expected"),
    [
        (f"d1,c1,{_AT},fax,0.5,0.5", "decisions[0].chosen", "a treatment of the catalogue"),
        (f"d1,c1,{_AT},email_nudge,0.5,0.5", "decisions[0].chosen", "one of no_action, sms_nudge"),
        (f"d1,c1,{_AT},sms_nudge,0.5,0.6", "decisions[0].candidates", "probabilities that sum to 1"),
        (f"d1,c1,{_AT},sms_nudge,1.5,0.5", "decisions[0].candidates.sms_nudge", "a probability from 0 to 1"),
        (f"d1,c1,{_AT},sms_nudge,0,1", "decisions[0].probability", "more than 0 for sms_nudge, which was chosen"),
        (f",c1,{_AT},sms_nudge,0.5,0.5", "decisions[0].id", "a value"),
    ],
)
def test_an_impossible_decision_is_refused(
    tmp_path: Path, rejects: Path, cells: str, field: str, expected: str
) -> None:
    """Unknown treatments, choices that were not candidates, and probabilities that cannot be are on record."""
    candidates = [
        {"treatment": "sms_nudge", "probability": {"column": "p"}},
        {"treatment": "no_action", "probability": {"column": "q"}},
    ]
    mapping = mapping_of({"decisions": [{**_DECISION, "candidates": candidates}]})

    imported = import_files(mapping, file_of(tmp_path, f"id,who,when,arm,p,q\n{cells}\n"), rejects=rejects)

    found = {entry["field"]: entry["expected"] for entry in imported.rejects}
    assert found[field].startswith(expected)
    assert imported.counts == {"decisions": (0, 0, 1)}


def test_outcomes_refer_to_their_decision(tmp_path: Path, rejects: Path) -> None:
    """An outcome is an event with the outcome, its value and the id of the decision."""
    output = {
        "customer": {"column": "who"},
        "at": {"column": "when", "plus": "14d"},
        "outcome": "paid",
        "value": {"column": "paid"},
        "decision": {"id": {"column": "id"}, "at": {"column": "when"}},
    }
    path = file_of(tmp_path, f"id,who,when,paid\nd1,c1,{_AT},no\nd2,c2,{_AT},1.0\nd3,c3,{_AT},\n")

    imported = import_files(mapping_of({"outcomes": [output]}), path, rejects=rejects)

    assert [made.facts for made in imported.events] == [
        {"outcome_id": "paid", "value": 0.0, "decision_id": "shop/d1/c1/1735725600000000"},
        {"outcome_id": "paid", "value": 1.0, "decision_id": "shop/d2/c2/1735725600000000"},
    ]
    assert dump_timestamp(imported.events[0].occurred_at) == "2025-01-15T10:00:00.000000Z"
    assert imported.result.rows_skipped == 1


@pytest.mark.parametrize(
    ("outcome", "value", "field", "expected"),
    [
        ("paid", "3", "outcomes[0].value", "one of 0, 1, f"),
        ("revenue", "much", "outcomes[0].value", "a finite number"),
        ("payed", "1", "outcomes[0].outcome", "a declared outcome: one of paid, revenue; did you mean paid?"),
    ],
)
def test_an_impossible_outcome_is_refused(
    tmp_path: Path, rejects: Path, outcome: str, value: str, field: str, expected: str
) -> None:
    """A binary outcome is yes or no, a continuous one a number, and both are declared."""
    output = {"customer": {"column": "who"}, "at": _AT, "outcome": {"column": "name"}, "value": {"column": "value"}}
    path = file_of(tmp_path, f"who,name,value\nc1,{outcome},{value}\n")

    imported = import_files(mapping_of({"outcomes": [output]}), path, rejects=rejects)

    (entry,) = imported.rejects
    assert entry["field"] == field
    assert entry["expected"].startswith(expected)


def test_a_missing_column_is_refused_before_anything_is_read(tmp_path: Path, rejects: Path) -> None:
    """The column, the file and its columns are named."""
    with pytest.raises(MappingError, match=r"got what, expected a column of file\.csv, which has: who, when"):
        _events(tmp_path, f"who,when\nc1,{_AT}\n", rejects)


def test_a_file_that_no_table_reads_is_refused(tmp_path: Path, rejects: Path) -> None:
    """The patterns of the mapping are named."""
    mapping = mapping_of({"files": ["*.txt", "log*"], "events": [EVENT]})

    with pytest.raises(MappingError, match=r"fits one of the mapping's patterns: \*\.txt, log\*"):
        import_files(mapping, file_of(tmp_path, "who\n"), rejects=rejects)


def test_what_was_accepted_before_a_cut_stays(tmp_path: Path, rejects: Path) -> None:
    """A cut gzip file is a problem that says where; every row before it is kept and counted."""
    rows = "".join(f"c{n * 7919 % 10007},{_AT},visited\n" for n in range(20_000))
    whole = gzip.compress(f"who,when,what\n{rows}".encode())
    path = tmp_path / "file.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])

    imported = import_files(mapping_of({"events": [EVENT]}), path, rejects=rejects)

    (problem,) = imported.result.problems
    kept = len(imported.events)
    assert kept > 1_000
    assert imported.counts == {"events": (kept, 0, 0)}
    assert problem.path == str(path)
    assert f"behind row {kept}" in problem.value


def test_an_unreadable_file_does_not_stop_the_others(tmp_path: Path, rejects: Path) -> None:
    """A file that is none is a problem, and the next one is imported."""
    good = file_of(tmp_path, f"who,when,what\nc1,{_AT},visited\n", "good.csv")

    imported = import_files(mapping_of({"events": [EVENT]}), file_of(tmp_path, "", "bad.csv"), good, rejects=rejects)

    assert [problem.path for problem in imported.result.problems] == [str(tmp_path / "bad.csv")]
    assert len(imported.events) == 1


def test_columns_that_a_log_never_had_are_told(tmp_path: Path, rejects: Path) -> None:
    """A process log has no headings: a column that no event had is a problem at the end."""
    keys = "".join(f'<string key="{k}" value="{v}"/>' for k, v in (("who", "c1"), ("when", _AT), ("what", "visited")))
    path = file_of(tmp_path, f"<log><trace><event>{keys}</event></trace></log>", "log.xes")
    output = {**EVENT, "channel": {"column": "chanel"}}

    imported = import_files(mapping_of({"format": "xes", "events": [output]}), path, rejects=rejects)

    (problem,) = imported.result.problems
    assert (problem.value, problem.expected) == ("chanel", "a column of log.xes, which has: what, when, who")
    assert len(imported.events) == 1
