"""`headway import` from files to stores: the worked example of the reference, refusals, and the shipped mappings."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from features.cli import COMMAND_GROUP, run
from features.event_store import SqlEventLog
from features.events import JourneyEvent, dump_timestamp
from features.home import Home, lock_file
from models.configuration import built_in_configuration, load_configuration
from models.decision import DecisionRecord
from models.record_store import SqlRecordStore

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "mapping.md"
_FENCE = re.compile(r"^```(?:yaml|csv) (\S+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home that the environment names."""
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.environ.get("NUMBA_CACHE_DIR", str(tmp_path / "numba")))
    return Home(tmp_path / "home")


@pytest.fixture
def headway(home: Home, capsys: pytest.CaptureFixture[str]) -> Headway:
    """Runs a command line in this process."""

    def done(*words: object) -> Done:
        code = run([str(word) for word in words], dict(os.environ), commands=entry_points(group=COMMAND_GROUP))
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return done


@pytest.fixture
def gym(tmp_path: Path) -> Path:
    """The files of the worked example, as a reader of the reference would write them down."""
    folder = tmp_path / "gym"
    folder.mkdir()
    for name, text in _FENCE.findall(REFERENCE.read_text(encoding="utf-8")):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _events(home: Home) -> list[JourneyEvent]:
    with closing(SqlEventLog(home.events_db, readonly=True)) as log:
        return [logged.event for page in log.read() for logged in page]


def _records(home: Home) -> list[DecisionRecord]:
    def pages() -> Iterator[DecisionRecord]:
        with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
            for page in records.read():
                yield from page

    return list(pages())


def test_the_worked_example_of_the_reference_works(gym: Path, home: Home, headway: Headway) -> None:
    """Followed to the letter, the reference imports a third company's files and prints what it says."""
    done = headway("import", "--mapping", gym / "mapping.yaml", gym / "visits.csv", gym / "campaign.csv")

    assert done.code == 0, done.err
    printed = done.out.splitlines()
    assert printed[:5] == re.findall(r"^(?:8 rows|events  |attributes|decisions|outcomes).*$", _console(), re.MULTILINE)
    by_kind: dict[str, list[JourneyEvent]] = {}
    for made in _events(home):
        by_kind.setdefault(made.kind, []).append(made)
    (bought,) = by_kind["bought"]
    assert (bought.customer_id, bought.channel, bought.facts) == ("m-4711", "club", {"amount": 12.5})
    assert dump_timestamp(bought.occurred_at) == "2025-02-11T17:10:00.000000Z"
    assert [made.facts for made in by_kind["profile_updated"]] == [{"age": 34.0, "home": "city"}, {"age": 51.0}]
    record = next(record for record in _records(home) if record.customer_id == "m-4711")
    assert (record.first.treatment_id, record.first.selection_probability) == ("coffee_voucher", 0.5)
    outcomes = {(made.facts["outcome_id"], made.facts["value"]): made for made in by_kind["outcome_observed"]}
    assert outcomes["joined_14d", 0.0].facts["decision_id"] == record.decision_id


def test_the_reject_file_is_the_one_of_the_reference(gym: Path, home: Home, headway: Headway) -> None:
    """File, line, field, value and expectation of the refused row are as documented."""
    done = headway("import", "--mapping", gym / "mapping.yaml", "--json", gym / "visits.csv", gym / "campaign.csv")

    (line,) = Path(done.json["rejects"]).read_text().splitlines()
    assert line in REFERENCE.read_text(encoding="utf-8")
    assert Path(done.json["rejects"]).parent == home.rejects
    assert "rejected visits.csv:7: events[0].at: got 31.02.2025 09:00" in done.err


def test_a_trial_writes_nothing(gym: Path, home: Home, headway: Headway) -> None:
    """A dry run counts the same and leaves no home behind."""
    done = headway("import", "--mapping", gym, "--dry-run", "--json", gym / "visits.csv", gym / "campaign.csv")

    assert (done.code, done.json["events"]) == (0, {"accepted": 5, "duplicate": 0, "rejected": 1})
    assert not home.root.exists()


def test_a_trial_writes_rejects_where_it_is_told(gym: Path, tmp_path: Path, headway: Headway) -> None:
    """With a folder for them, the refusals of a dry run are kept."""
    headway("import", "--mapping", gym, "--dry-run", "--rejects", tmp_path / "why", gym / "visits.csv")

    (path,) = (tmp_path / "why").iterdir()
    assert json.loads(path.read_text())["line"] == 7


def test_twice_is_once(gym: Path, home: Home, headway: Headway) -> None:
    """A second import of the same files changes nothing and says so."""
    headway("import", "--mapping", gym, gym / "visits.csv", gym / "campaign.csv")
    before = (_events(home), _records(home))

    done = headway("import", "--mapping", gym, "--json", gym / "visits.csv", gym / "campaign.csv")

    assert [done.json[kind]["accepted"] for kind in ("events", "attributes", "decisions", "outcomes")] == [0, 0, 0, 0]
    assert [done.json[kind]["duplicate"] for kind in ("events", "attributes", "decisions", "outcomes")] == [5, 2, 2, 3]
    # The records hold NaN, which equals nothing: their text is compared.
    assert repr((_events(home), _records(home))) == repr(before)


def test_the_mappings_configuration_becomes_the_homes(gym: Path, home: Home, headway: Headway) -> None:
    """What the mapping brings holds for the home from then on."""
    headway("import", "--mapping", gym, gym / "visits.csv")

    assert list(load_configuration(home, {}).journeys.by_id) == ["trial"]


def test_another_configuration_is_refused(gym: Path, home: Home, headway: Headway) -> None:
    """A home with one configuration does not take another, and nothing is imported."""
    headway("import", "--mapping", gym, gym / "visits.csv")
    policy = gym / "policy.yaml"
    policy.write_text(policy.read_text().replace("epsilon: 0.05", "epsilon: 0.5"))

    done = headway("import", "--mapping", gym, gym / "campaign.csv")

    assert done.code == 2
    assert "set HEADWAY_HOME to another folder" in done.err
    assert len(_events(home)) == 5


def test_a_mapping_without_files_of_its_own_uses_what_holds(gym: Path, home: Home, headway: Headway) -> None:
    """Beside no configuration, a mapping is for the home's or the built-in one."""
    for name in ("taxonomy", "journeys", "actions", "policy"):
        (gym / f"{name}.yaml").unlink()
    mapping = gym / "mapping.yaml"
    text = mapping.read_text().replace(
        "TRIAL: trial_begun, IN: visited, SHOP: bought, JOIN: joined", "TRIAL: store_visited"
    )
    mapping.write_text(text[: text.index("        channel: club")])

    done = headway("import", "--mapping", gym, "--json", gym / "visits.csv")

    assert (done.code, done.json["configuration"]) == (0, built_in_configuration().version)
    assert done.json["events"] == {"accepted": 2, "duplicate": 0, "rejected": 4}
    assert not home.config.joinpath("policy.yaml").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("mapping.yaml", "tables:", "tables: [", "mapping.yaml:"),
        ("mapping.yaml", "decimal:", "decimel:", "tables[0].events[0].facts.amount.decimel: got decimel"),
        ("mapping.yaml", "TRIAL: trial_begun", "TRIAL: trial_began", "one of action_exposed"),
        (
            "mapping.yaml",
            "column: what",
            "column: wat",
            "column: got wat, expected a column of visits.csv, which has: member",
        ),
        ("journeys.yaml", "stall_after: 4d", "stall_after: 4 days", "one of the units w, d, h, m, s"),
        ("journeys.yaml", "enter: [visited]", "enter: [visits]", "did you mean visited?"),
        ("policy.yaml", "opt_in: [email]", "opt_in: [fax]", "one of club, email"),
    ],
)
def test_a_mistake_in_the_files_is_refused_and_nothing_is_imported(
    gym: Path, home: Home, headway: Headway, file: str, old: str, new: str, said: str
) -> None:
    """Malformed YAML, unknown keys, kinds, columns and units are refused by name before any row is kept."""
    path = gym / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))

    done = headway("import", "--mapping", gym, gym / "visits.csv")

    assert done.code == 2
    assert said in done.err
    assert not home.events_db.exists() or _events(home) == []


def test_a_cut_file_keeps_what_came_before(gym: Path, home: Home, headway: Headway) -> None:
    """A truncated gzip file ends with exit code 2 and where it stopped; what was accepted is in the log."""
    lines = "".join(f"{n * 7919 % 10007};03.02.2025 18:05;IN;\n" for n in range(20_000))
    whole = gzip.compress(f"member;when;what;amount\n{lines}".encode())
    path = gym / "visits.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])

    done = headway("import", "--mapping", gym, "--json", path)

    kept = done.json["events"]["accepted"]
    assert done.code == 2
    assert "what was accepted before is kept" in done.err
    assert f"behind row {kept}, expected a whole gzip file" in done.err
    assert kept > 1_000
    assert len(_events(home)) == kept


def test_a_file_that_gives_nothing_at_all_is_refused(gym: Path, headway: Headway) -> None:
    """If every row is refused, so is the import."""
    path = gym / "visits-bad.csv"
    path.write_text("member;when;what;amount\n1;never;IN;\n2;never;IN;\n")

    done = headway("import", "--mapping", gym, path)

    assert done.code == 2
    assert "Nothing could be used:" in done.err
    assert "Next:" not in done.out


def test_a_home_that_another_process_writes_is_refused(gym: Path, home: Home, headway: Headway) -> None:
    """While the event log has a writer, an import ends with 2 and names it."""
    with lock_file(home.events_db, command="headway serve"):
        done = headway("import", "--mapping", gym, gym / "visits.csv")

    assert done.code == 2
    assert f"is being written by process {os.getpid()} (headway serve)" in done.err


@pytest.mark.parametrize("words", [["--mapping", "hilstrom"], []])
def test_a_wrong_command_line_is_refused(gym: Path, headway: Headway, words: list[str]) -> None:
    """An unknown mapping, and none, are usage errors."""
    done = headway("import", *words, gym / "visits.csv")

    assert done.code == 2
    assert "mapping" in done.err


def test_hillstrom_is_one_decision_per_row(
    real_data: Callable[[str], Path], home: Home, headway: Headway, tmp_path: Path
) -> None:
    """A row of the campaign is a profile, one decision with probability 1/3 each, and three outcomes."""
    with gzip.open(real_data("hillstrom/hillstrom.csv.gz"), "rt") as file:
        lines = [next(file) for _ in range(501)]
    path = tmp_path / "hillstrom.csv"
    path.write_text("".join(lines))

    done = headway("import", "--mapping", "hillstrom", "--json", path)

    assert done.json["decisions"] == {"accepted": 500, "duplicate": 0, "rejected": 0}
    assert done.json["outcomes"]["accepted"] == 1_500
    arms = [row["segment"] for row in csv.DictReader(lines)]
    records = {record.customer_id: record for record in _records(home)}
    expected = {"Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email", "No E-Mail": "no_action"}
    assert [records[f"h-{n}"].first.action_id for n in range(1, 501)] == [expected[arm] for arm in arms]
    assert {c.selection_probability for record in records.values() for c in record.candidates} == {1 / 3}


@pytest.mark.slow
def test_bpic2012_imports_whole(real_data: Callable[[str], Path], home: Home, headway: Headway) -> None:
    """The log of BPI Challenge 2012 gives its 262,200 events of 13,087 applications, none refused."""
    done = headway("import", "--mapping", "bpic2012", "--json", real_data("bpic2012/bpic2012.xes.gz"))

    assert done.code == 0, done.err
    assert (done.json["rows"], done.json["customers"]) == ({"read": 262_200, "rejected": 0, "skipped": 0}, 13_087)
    assert done.json["events"] == {"accepted": 262_200, "duplicate": 0, "rejected": 0}
    assert done.json["attributes"]["accepted"] == 13_087
    assert done.json["decisions"]["accepted"] == 7_030
    called = sum(record.first.action_id == "call_after_offer" for record in _records(home))
    assert called == 5_198


@pytest.mark.slow
def test_hillstrom_imports_whole(real_data: Callable[[str], Path], home: Home, headway: Headway) -> None:
    """The campaign gives its 64,000 decisions, with the visits that are known of it."""
    done = headway("import", "--mapping", "hillstrom", "--json", real_data("hillstrom/hillstrom.csv.gz"))

    assert done.json["decisions"]["accepted"] == 64_000
    outcomes = [made.facts for made in _events(home) if made.kind == "outcome_observed"]
    visits = sum(1 for facts in outcomes if facts["outcome_id"] == "visit" and facts["value"] == 1.0)
    assert (len(outcomes), visits) == (192_000, 9_394)


def _console() -> str:
    text = REFERENCE.read_text(encoding="utf-8")
    return text[text.index("```console") : text.index("## What an import promises")]
