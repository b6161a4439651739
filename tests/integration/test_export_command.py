"""`headway export` and `headway import --mapping process_mining`: what leaves a home, and that it comes back."""

from __future__ import annotations

import csv
import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from features.cli import COMMAND_GROUP, run
from features.event_store import SqlEventLog
from features.events import JourneyEvent
from features.home import Home
from models.configuration import load_configuration, read_configuration
from models.decision import DecisionRecord, dump_record
from models.record_export import records_from_parquet
from models.record_store import SqlRecordStore
from tests.decision_records import record
from tests.integration.test_import_command import _FENCE, REFERENCE


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What it printed, as JSON."""
        document: dict[str, Any] = json.loads(self.out)
        return document


Headway = Callable[..., Done]

_LOG = """case:concept:name,concept:name,time:timestamp,org:resource,cost,case:region
c1,Apply,2025-01-01T09:00:00Z,ann,,north
c1,Check documents,2025-01-01T10:00:00Z,ben,2.5,north
c1,Pay out,2025-01-03T10:00:00Z,ann,,north
c2,Apply,2025-01-02T09:00:00Z,ann,,south
c2,Check documents,2025-01-02T12:00:00Z,ben,3.5,south
c2,Refuse,2025-01-04T10:00:00Z,ben,,south
c3,Apply,2025-01-05T09:00:00Z,ann,,south
c3,Check documents,2025-01-05T12:00:00Z,ben,1,south
c3,Pay out,2025-01-06T10:00:00Z,=1+1,,south
"""


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Home]:
    """Makes the environment name another home."""
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", str(tmp_path / "numba")))

    def home(name: str) -> Home:
        monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / name))
        return Home(tmp_path / name)

    home("home")
    return home


@pytest.fixture
def headway(at_home: Callable[[str], Home], capsys: pytest.CaptureFixture[str]) -> Headway:
    """Runs a command line in this process."""

    def done(*words: object) -> Done:
        code = run([str(word) for word in words], dict(os.environ), commands=entry_points(group=COMMAND_GROUP))
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return done


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A process log of three cases."""
    path = tmp_path / "log.csv"
    path.write_text(_LOG)
    return path


@pytest.fixture
def gym(tmp_path: Path, headway: Headway) -> Path:
    """A home with the visits of the worked example, and the folder of its files."""
    folder = tmp_path / "gym"
    folder.mkdir()
    for name, text in _FENCE.findall(REFERENCE.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    assert headway("import", "--mapping", folder, folder / "visits.csv", folder / "campaign.csv").code == 0
    return folder


def _events(home: Home) -> list[JourneyEvent]:
    with closing(SqlEventLog(home.events_db, readonly=True)) as log:
        return [logged.event for page in log.read() for logged in page]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def test_a_case_is_a_journey_instance(gym: Path, tmp_path: Path, headway: Headway) -> None:
    """The standard columns, the stage after each event, and the attributes as they were known when the case began."""
    done = headway("export", "journeys", "--output", tmp_path / "out.csv", "--json")

    rows = list(_rows(tmp_path / "out.csv"))
    assert (done.code, done.json["events"], done.json["cases"], done.json["customers"]) == (0, 5, 2, 2)
    steps = [(row["case:concept:name"], row["concept:name"], row["stage"], row["channel"]) for row in rows]
    assert steps == [
        ("m-4711/trial/1", "trial_begun", "begun", "club"),
        ("m-4711/trial/1", "visited", "training", "club"),
        ("m-4711/trial/1", "bought", "training", "club"),
        ("m-4712/trial/1", "trial_begun", "begun", "club"),
        ("m-4712/trial/1", "joined", "member", "club"),
    ]
    assert rows[0]["time:timestamp"] == "2025-02-03T17:05:00+00:00"
    assert {row["lifecycle:transition"] for row in rows} == {"complete"}
    # Age and home were learned of a week after the trial began.
    assert {row["case:age"] for row in rows} == {""}


def test_what_is_personal_stays(gym: Path, tmp_path: Path, headway: Headway, at_home: Callable[[str], Home]) -> None:
    """No attribute that is marked, no facts, and no raw text; the event that holds them is there."""
    taxonomy = (gym / "taxonomy.yaml").read_text()
    (gym / "taxonomy.yaml").write_text(taxonomy.replace("unit: years, feature: true", "unit: years, pii: true"))
    home = at_home("private")
    headway("import", "--mapping", gym, gym / "campaign.csv")
    lines = [
        {"event_id": "1", "customer_id": "m-4711", "kind": "trial_begun", "occurred_at": "2025-02-20T00:00:00Z"},
        {"event_id": "2", "customer_id": "m-4711", "kind": "bought", "occurred_at": "2025-02-21T00:00:00Z"},
    ]
    lines[1] |= {"facts": {"amount": 77.25}, "text": "a secret"}  # type: ignore[dict-item]  # JSON of any shape
    (gym / "more.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    headway("import", "--mapping", "headway_events", gym / "more.jsonl")

    headway("export", "journeys", "--output", tmp_path / "out.csv")

    text = (tmp_path / "out.csv").read_text()
    (first, second) = _rows(tmp_path / "out.csv")
    assert (first["case:home"], second["concept:name"]) == ("city", "bought")
    assert "case:age" not in first
    assert [word for word in ("secret", "77.25", "34") if word in text] == []
    assert any(event.text == "a secret" for event in _events(home))


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.parquet", "out.xes", "out.xes.gz"])
def test_an_exported_log_comes_back_with_as_many_events(
    gym: Path, tmp_path: Path, headway: Headway, at_home: Callable[[str], Home], name: str
) -> None:
    """In every format, into a home without a configuration; twice is once."""
    headway("export", "journeys", "--output", tmp_path / name)
    at_home("other")

    first = headway("import", "--mapping", "process_mining", "--json", tmp_path / name)
    again = headway("import", "--mapping", "process_mining", "--json", tmp_path / name)

    assert (first.code, first.json["events"]) == (0, {"accepted": 5, "duplicate": 0, "rejected": 0})
    assert again.json["events"] == {"accepted": 0, "duplicate": 5, "rejected": 0}


def test_a_range_cuts_events_and_not_cases(gym: Path, tmp_path: Path, headway: Headway) -> None:
    """The stage of what is written is told from the whole history."""
    headway(
        *("export", "journeys", "--journey", "trial", "--format", "csv", "--output", tmp_path / "part"),
        *("--since", "2025-02-05T00:00:00Z", "--until", "2025-02-11T17:10:00Z"),
    )

    assert [(row["case:concept:name"], row["stage"]) for row in _rows(tmp_path / "part")] == [
        ("m-4711/trial/1", "training")
    ]


def test_events_outside_an_instance_are_left_out(gym: Path, tmp_path: Path, headway: Headway) -> None:
    """Neither before the first entry, nor after the goal, nor changes of the profile; a new entry is a new case."""
    (gym / "visits2.csv").write_text(
        "member;when;what;amount\n4712;01.02.2025 07:15;IN;\n4712;21.02.2025 12:00;IN;\n4712;22.02.2025 12:00;TRIAL;\n"
    )
    headway("import", "--mapping", gym, gym / "visits2.csv")

    headway("export", "journeys", "--output", tmp_path / "out.parquet")

    table = pq.read_table(tmp_path / "out.parquet")
    cases = [case for case in table["case:concept:name"].to_pylist() if case.startswith("m-4712")]
    assert cases == ["m-4712/trial/1", "m-4712/trial/1", "m-4712/trial/2"]


def test_a_cell_that_a_spreadsheet_would_run_is_guarded(
    tmp_path: Path, headway: Headway, log: Path, at_home: Callable[[str], Home]
) -> None:
    """In CSV text gets an apostrophe; a negative number stays a number; XES and Parquet hold the text itself."""
    log.write_text(_LOG.replace("c3,", "@c3,").replace("case:region", "case:score").replace("north", "-2.5"))
    log.write_text(log.read_text().replace("south", "4"))
    home = at_home("formulas")
    headway("import", "--mapping", "process_mining", log)
    taxonomy = home.config / "taxonomy.yaml"
    taxonomy.write_text(taxonomy.read_text().replace("        pii: true\n", ""))

    headway("export", "journeys", "--output", tmp_path / "out.csv")
    headway("export", "journeys", "--output", tmp_path / "out.xes")

    rows = list(_rows(tmp_path / "out.csv"))
    assert {row["case:customer"] for row in rows} == {"c1", "c2", "'@c3"}
    assert {row["case:score"] for row in rows} == {"-2.5", "4.0"}
    assert "'=1+1" in {row["org:resource"] for row in rows}
    assert '<string key="org:resource" value="=1+1"/>' in (tmp_path / "out.xes").read_text()


def test_a_file_is_not_overwritten_unasked(gym: Path, tmp_path: Path, headway: Headway) -> None:
    """It stays as it was; with --force it is replaced whole."""
    path = tmp_path / "out.csv"
    path.write_text("mine")

    refused = headway("export", "journeys", "--output", path)
    kept = path.read_text()
    forced = headway("export", "journeys", "--output", path, "--force")

    assert (refused.code, kept, forced.code) == (2, "mine", 0)
    assert "exists, expected a new file: choose another name, or add --force" in refused.err
    assert len(list(_rows(path))) == 5
    assert [each.name for each in tmp_path.iterdir() if each.name.endswith(".partial")] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--journey", "trail"], "--journey: got trail, expected one of trial; did you mean trial?"),
        (["--since", "yesterday"], "--since: got yesterday, expected an ISO 8601 timestamp with an offset"),
        (["--output", "out.doc"], "the name out.doc says no format; expected one that ends in .csv"),
    ],
)
def test_a_wrong_export_is_refused(
    gym: Path, tmp_path: Path, headway: Headway, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    """With what was expected, and no file."""
    monkeypatch.chdir(tmp_path)

    done = headway("export", "journeys", *([] if "--output" in words else ["--output", "out.csv"]), *words)

    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "out.csv").exists()


def test_a_home_without_events_has_nothing_to_export(tmp_path: Path, headway: Headway) -> None:
    """It says so."""
    done = headway("export", "journeys", "--output", tmp_path / "out.csv")

    assert done.code == 2
    assert "events.db" in done.err


def test_exported_events_are_the_same_events_elsewhere(
    gym: Path, tmp_path: Path, headway: Headway, at_home: Callable[[str], Home]
) -> None:
    """Into a home of the same configuration: ids, sources, times, facts; twice is once; readable for the owner only."""
    before = _events(at_home("home"))
    done = headway("export", "events", "--output", tmp_path / "events.jsonl.gz", "--json")
    home = at_home("other")
    headway("import", "--mapping", gym, "--dry-run", gym / "visits.csv")
    home.create()
    for name in ("taxonomy.yaml", "journeys.yaml", "actions.yaml", "policy.yaml"):
        (home.config / name).write_bytes((gym / name).read_bytes())

    first = headway("import", "--mapping", "headway_events", "--json", tmp_path / "events.jsonl.gz")
    again = headway("import", "--mapping", "headway_events", "--json", tmp_path / "events.jsonl.gz")

    assert (done.json["events"], first.json["events"]["accepted"]) == (10, 10)
    assert (_events(home), again.json["events"]["duplicate"]) == (before, 10)
    assert (tmp_path / "events.jsonl.gz").stat().st_mode & 0o077 == 0


def test_raw_text_leaves_only_when_asked_for(tmp_path: Path, headway: Headway) -> None:
    """Feedback is the person's own words."""
    line = {"event_id": "1", "customer_id": "c", "kind": "survey_answered", "occurred_at": "2025-01-01T00:00:00Z"}
    kinds = load_configuration(Home(tmp_path / "home"), {}).taxonomy.kinds
    line["kind"] = next(name for name, kind in kinds.items() if not any(fact.required for fact in kind.facts.values()))
    (tmp_path / "in.jsonl").write_text(json.dumps({**line, "text": "so slow"}) + "\n")
    headway("import", "--mapping", "headway_events", tmp_path / "in.jsonl")

    headway("export", "events", "--output", tmp_path / "plain.jsonl")
    headway("export", "events", "--output", tmp_path / "full.jsonl", "--with-text")

    texts = [json.loads((tmp_path / name).read_text())["text"] for name in ("plain.jsonl", "full.jsonl")]
    assert texts == [None, "so slow"]


def test_a_process_log_brings_a_draft(
    tmp_path: Path, headway: Headway, log: Path, at_home: Callable[[str], Home]
) -> None:
    """Kinds, facts and attributes from the log; a journey to the ending that got furthest; told on standard output."""
    home = at_home("home")

    done = headway("import", "--mapping", "process_mining", log)

    assert done.code == 0, done.err
    assert done.out.splitlines()[:2] == [
        "drafted from log.csv: 4 kinds of event, a journey from apply through 2 stages to pay_out",
        f"what may be edited: {home.config}",
    ]
    configuration = load_configuration(home, {})
    (journey,) = configuration.journeys.journeys
    assert (journey.entry, journey.stage_ids, journey.goal.id) == (("apply",), ("apply", "check_documents"), "pay_out")
    assert journey.exits == {"refuse": ("refuse",)}
    assert configuration.taxonomy.kinds["check_documents"].facts["cost"].dtype == "number"
    assert configuration.taxonomy.kinds["apply"].facts["resource"].pii
    assert (configuration.taxonomy.attributes["region"].dtype, len(_events(home))) == ("text", 9 + 3)


def test_the_same_log_gives_the_same_draft(headway: Headway, log: Path, at_home: Callable[[str], Home]) -> None:
    """To the byte."""
    drafts = []
    for name in ("one", "two"):
        home = at_home(name)
        headway("import", "--mapping", "process_mining", log)
        drafts.append({path.name: path.read_bytes() for path in home.config.glob("*.yaml")})

    assert drafts[0] == drafts[1]
    assert sorted(drafts[0]) == ["actions.yaml", "journeys.yaml", "mapping.yaml", "policy.yaml", "taxonomy.yaml"]


def test_an_edited_draft_stays(tmp_path: Path, headway: Headway, log: Path, at_home: Callable[[str], Home]) -> None:
    """The next file of the log comes in under it; an activity it does not know is rejected by name."""
    home = at_home("home")
    headway("import", "--mapping", "process_mining", log)
    journeys = home.config / "journeys.yaml"
    journeys.write_text(journeys.read_text().replace("horizon: 7d", "horizon: 3d").replace('"7d"', '"3d"'))
    more = tmp_path / "more.csv"
    more.write_text(_LOG.replace("c3,Apply", "c3,Appeal").replace("c1,", "c7,"))

    done = headway("import", "--mapping", "process_mining", "--json", more)

    assert (done.code, done.json["events"]) == (0, {"accepted": 8, "duplicate": 0, "rejected": 1})
    assert "got Appeal, expected a text of the mapping's lookup table" in done.err
    assert load_configuration(home, {}).journeys.journeys[0].horizon == 3 * 86_400_000_000


def test_a_trial_drafts_and_writes_nothing(headway: Headway, log: Path, at_home: Callable[[str], Home]) -> None:
    """It tells what it would do."""
    home = at_home("home")

    done = headway("import", "--mapping", "process_mining", "--dry-run", log)

    assert done.code == 0, done.err
    assert done.out.startswith("drafted from log.csv: 4 kinds of event")
    assert not home.root.exists()


def test_a_home_with_a_configuration_keeps_it(gym: Path, tmp_path: Path, headway: Headway) -> None:
    """Activities that are its kinds by name come in; the others are rejected by name."""
    path = tmp_path / "log.csv"
    path.write_text(_LOG.replace("Apply", "Trial begun"))

    done = headway("import", "--mapping", "process_mining", "--json", path)

    assert done.json["events"] == {"accepted": 3, "duplicate": 0, "rejected": 6}
    assert "1 of 4 activities of log.csv are kinds of the configuration" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "case,activity\n1,2\n",
            "column: got case:concept:name, expected a column of log.csv, which has: case, activity",
        ),
        (_LOG.split("c1", 1)[0], "There is no event to draft a configuration from"),
        (
            "case:concept:name,concept:name,time:timestamp\nc1,A,2025-01-01\nc2,A,2025-01-02\n",
            "two different activities",
        ),
        ("case:concept:name,concept:name,time:timestamp\nc1,A,soon\n", "times in ISO 8601"),
    ],
)
def test_a_log_that_makes_no_draft_is_refused(
    headway: Headway, log: Path, at_home: Callable[[str], Home], text: str, said: str
) -> None:
    """Before anything is written."""
    home = at_home("home")
    log.write_text(text)

    done = headway("import", "--mapping", "process_mining", log)

    assert done.code == 2
    assert said in done.err
    assert not home.events_db.exists()


def test_semicolons_local_times_and_transitions(
    tmp_path: Path, headway: Headway, at_home: Callable[[str], Home]
) -> None:
    """Delimiters are found; times without an offset are taken for UTC and that is said; a transition makes a kind."""
    home = at_home("home")
    path = tmp_path / "log.csv"
    path.write_text(
        "case:concept:name;concept:name;time:timestamp;lifecycle:transition\n"
        "1;Überprüfen;2025-01-01 09:00:00;start\n1;Überprüfen;2025-01-01 10:00:00;complete\n"
        "1;Zahlen;2025-01-01 11:00:00;complete\n1;Notiz;2025-01-01 11:30:00;\n"
    )

    done = headway("import", "--mapping", "process_mining", path)

    assert done.code == 0, done.err
    assert "times without an offset are taken for UTC" in done.out
    kinds = [event.kind for event in _events(home)]
    assert kinds == ["uberprufen_start", "uberprufen_complete", "zahlen", "notiz"]
    assert read_configuration(home.config, origin="home").taxonomy.kinds["zahlen"].title == "Zahlen complete"


@pytest.mark.slow
def test_bpic2012_by_its_column_names(
    real_data: Callable[[str], Path], tmp_path: Path, headway: Headway, at_home: Callable[[str], Home]
) -> None:
    """The whole log under a draft, exported, and back into another home with the same number of events."""
    at_home("home")
    whole = headway("import", "--mapping", "process_mining", "--json", real_data("bpic2012/bpic2012.xes.gz"))
    out = headway("export", "journeys", "--output", tmp_path / "out.xes.gz", "--json")
    at_home("other")
    back = headway("import", "--mapping", "process_mining", "--json", tmp_path / "out.xes.gz")

    assert whole.json["events"] == {"accepted": 262_200, "duplicate": 0, "rejected": 0}
    assert out.json["cases"] >= 13_087
    assert back.json["events"] == {"accepted": out.json["events"], "duplicate": 0, "rejected": 0}
    with gzip.open(tmp_path / "out.xes.gz", "rt") as file:
        assert sum(line.startswith("<event>") for line in file) == out.json["events"]


def test_records_are_exported_while_decisions_are_committed(
    at_home: Callable[[str], Home], headway: Headway, tmp_path: Path
) -> None:
    """Neither waits for the other: everything committed before is in the file, whole, and every commit succeeds."""
    home = at_home("home").create()
    output = tmp_path / "records.parquet"
    before = [record(number) for number in range(3_000)]
    committed: list[DecisionRecord] = []
    with closing(SqlRecordStore(home.records_db)) as store:
        store.append_imported(before)
        done = threading.Event()

        def commit() -> None:
            while not done.is_set():
                made = record(10_000 + len(committed))
                store.commit(made, b"{}", None)
                committed.append(made)

        writer = threading.Thread(target=commit)
        writer.start()
        try:
            said = headway("export", "records", "--output", output, "--json")
        finally:
            done.set()
            writer.join()
        refused = headway("export", "records", "--output", output)

        exported = [one for page in records_from_parquet(output) for one in page]
        kept = [one for page in store.read() for one in page]
    assert said.json == {"records": len(exported), "output": str(output)}
    assert [dump_record(one) for one in exported[: len(before)]] == [dump_record(one) for one in before]
    assert len(kept) == len(before) + len(committed)
    assert len(committed) > 0
    assert output.stat().st_mode & 0o077 == 0
    assert (refused.code, "--force" in refused.err) == (2, True)
