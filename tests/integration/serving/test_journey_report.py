"""``GET /v1/journeys/{id}/report``: who may ask, what is refused, and that reports are made once, alone, elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from features.errors import InvalidInput, StoreUnavailable
from features.event_store import SqlEventLog
from features.home import Home
from features.journey_findings import JourneyReport
from features.journey_question import Question
from models.configuration import built_in_configuration
from models.journey_reports import KEPT, KeptReports, ReportRequest
from serving.journey_reports import ChildReports, ReportDesk
from serving.problems import TooManyRequests
from tests.doors import JOURNEY, Client, World, event
from tests.histories import event as logged_event

PATH = f"/v1/journeys/{JOURNEY}/report"
CONFIGURATION = built_in_configuration()
REQUEST = ReportRequest(journey_id=JOURNEY, question=Question(), configuration=CONFIGURATION.version, until_position=2)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _applied(client: Client, n: int = 3) -> None:
    batch = [event(f"e-{i}", customer_id=f"c-{i}", hours_ago=100 + i) for i in range(n)]
    # The newest event ends the observation: an hour ago one customer edited the application.
    batch.append(event("edited", customer_id="c-0", kind="application_edited", facts={"section": "income"}))
    assert client.post("/v1/events", {"events": batch}).json()["accepted"] == n + 1


def test_the_report_tells_who_is_stuck(client: Client) -> None:
    """Three applied four days ago and are still there: three visits, all stalled, one of them looped."""
    _applied(client)

    answer = client.get(PATH)

    assert answer.status_code == 200
    report = answer.json()
    stage = report["stages"][0]
    assert (stage["stage"], stage["entered"], stage["open"], stage["stalled"], stage["looped"]) == (
        "applied",
        3,
        3,
        3,
        1,
    )
    assert report["instances"] == {"entered": 3, "reached_goal": 0, "exited": 0, "abandoned": 0, "open": 3}
    assert [(pool["stage"], pool["count"]) for pool in report["stuck"]] == [("applied", 3)]
    assert report["goal_value"] == {"outcome_id": "first_use_14d", "value": 55.0}


def test_a_report_over_an_empty_log_is_empty(client: Client) -> None:
    """Nothing happened, and no share is made of it."""
    report = client.get(PATH).json()

    assert (report["events"], report["observed_until"], report["steps"]) == (0, None, [])
    assert report["stages"][0]["stall"] == {"n": 0, "hits": 0, "share": None, "interval": None}


def test_the_same_question_is_answered_from_the_kept_report(client: Client, world: World) -> None:
    """Until the log goes on, or something else is asked."""
    _applied(client)
    first = client.get(PATH).content

    assert client.get(PATH).content == first
    assert world.reports_made == 1
    client.get(f"{PATH}?group_by=channel")
    assert world.reports_made == 2
    client.post("/v1/events", {"events": [event("later", customer_id="c-9")]})
    assert client.get(PATH).json()["instances"]["entered"] == 4
    assert world.reports_made == 3


def test_groups_are_compared_where_asked(client: Client) -> None:
    """By the channel over which the journey was entered."""
    _applied(client)

    groups = client.get(f"{PATH}?group_by=channel&top=5").json()["groups"]

    assert groups["by"] == "channel"
    assert [(group["group"], group["instances"]) for group in groups["groups"]] == [("web", 3)]
    assert groups["groups"][0]["stall"]["difference"] is None  # there are no others


def test_an_unknown_journey_is_not_found(client: Client) -> None:
    """With the names of those that there are."""
    answer = client.get("/v1/journeys/mortgage/report")

    assert answer.status_code == 404
    assert answer.json()["detail"] == f"no journey 'mortgage'; expected one of {JOURNEY}"


@pytest.mark.parametrize(
    ("query", "pointer", "value", "expected"),
    [
        ("since=yesterday", "/?since", "'yesterday'", "an ISO 8601 timestamp with an offset, from 1970 on"),
        ("until=2026-03-01T09:30:00", "/?until", "'2026-03-01T09:30:00'", "an ISO 8601 timestamp with an offset"),
        ("since=9999-12-31T23:59:59.999999Z", "/?since", "'9999-12-31T23:59:59.999999Z'", "an ISO 8601 timestamp"),
        (
            "since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z",
            "/?since",
            "'2026-03-02T00:00:00Z'",
            "a time before until, 2026-03-01T00:00:00Z",
        ),
        ("group_by=shoe_size", "/?group_by", "'shoe_size'", "one of channel, nps_band, "),
        ("top=0", "/?top", "'0'", "a number from 1 to 1000"),
        ("top=many", "/?top", "'many'", "a number from 1 to 1000"),
        ("top=1&top=2", "/?top", "['1', '2']", "one value"),
        ("from=2026", "/?from", "'2026'", "one of since, until, group_by, top"),
    ],
)
def test_bad_parameters_are_named(client: Client, query: str, pointer: str, value: str, expected: str) -> None:
    """Each with what was given and what is expected; no report is made."""
    answer = client.get(f"{PATH}?{query}")

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["value"]) == (pointer, value)
    assert error["expected"].startswith(expected)


def test_personal_attributes_and_texts_make_no_groups() -> None:
    """A group of one would tell of a person."""
    desk = ReportDesk(
        configuration=lambda: CONFIGURATION, head=lambda: 0, kept=KeptReports(Path("nowhere")), make=lambda request: b""
    )
    personal = [name for name, one in CONFIGURATION.taxonomy.attributes.items() if one.pii or one.dtype == "text"]

    assert personal != []
    for name in personal:
        with pytest.raises(InvalidInput, match="expected one of channel, nps_band"):
            desk.report(JOURNEY, {"group_by": [name]})


@pytest.mark.parametrize(("role", "status"), [("analyst", 200), ("caller", 403), ("marketer", 403), ("agent", 403)])
def test_only_analysts_may_ask(client: Client, world: World, role: str, status: int) -> None:
    """The whole log stands behind a report."""
    assert client.get(PATH, key=world.key("bi", role)).status_code == status


def test_without_a_key_there_is_no_report(client: Client) -> None:
    """As for every call about customers."""
    assert client.get(PATH, key=None).status_code == 401


def test_one_report_is_made_at_a_time(tmp_path: Path) -> None:
    """A second one is refused meanwhile, and taken afterwards; kept ones are given all the same."""
    begun, go_on = threading.Event(), threading.Event()

    def make(request: ReportRequest) -> bytes:
        begun.set()
        assert go_on.wait(10)
        return b"{}"

    desk = ReportDesk(configuration=lambda: CONFIGURATION, head=lambda: 1, kept=KeptReports(tmp_path), make=make)
    thread = threading.Thread(target=desk.report, args=(JOURNEY, {}))
    thread.start()
    assert begun.wait(10)

    with pytest.raises(TooManyRequests):
        desk.report(JOURNEY, {"top": ["3"]})

    go_on.set()
    thread.join(10)
    assert desk.report(JOURNEY, {"top": ["3"]}) == b"{}"


def test_reports_are_kept_up_to_a_bound(tmp_path: Path) -> None:
    """The oldest make room; a request that differs in anything is another one."""
    kept = KeptReports(tmp_path)

    for position in range(KEPT + 3):
        kept.given(msgspec.structs.replace(REQUEST, until_position=position), lambda request: b"{}")

    assert len(list(tmp_path.iterdir())) == KEPT
    assert kept.has(msgspec.structs.replace(REQUEST, until_position=KEPT + 2))


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    """The report is given, and made again the next time."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")

    assert KeptReports(blocked).given(REQUEST, lambda request: b"made") == b"made"


def test_a_child_makes_the_report_from_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, out of the home that the environment names, up to the position asked for."""
    home = Home(tmp_path / "home").create()
    log = SqlEventLog(home.events_db)
    log.append([logged_event(f"e{i}", customer_id=f"c{i}", kind="application_submitted") for i in range(3)])
    log.close()
    monkeypatch.setenv("HEADWAY_HOME", str(home.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    report = msgspec.json.decode(ChildReports(os.environ).made(REQUEST), type=JourneyReport)

    assert (report.instances.entered, report.configuration) == (2, CONFIGURATION.version)
    assert list(home.state.glob("headway-*")) == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('Error: no log')", r"could not be made \(exit code 1\): Error: no log"),
        ("import time; time.sleep(60)", "took longer than 0.5 s"),
    ],
)
def test_a_child_that_fails_is_said(script: str, said: str) -> None:
    """As a store that does not answer, which a caller may try again."""
    child = ChildReports({}, command=(sys.executable, "-c", script), seconds=0.5 if "sleep" in script else 60.0)

    with pytest.raises(StoreUnavailable, match=said):
        child.made(REQUEST)


def test_a_child_that_is_stopped_leaves_no_copy_of_the_log(tmp_path: Path) -> None:
    """Given up or closed upon, it ends, and what it wrote for itself is gone: nothing else would ever remove it."""
    script = (
        "import sys, tempfile, time; from models.journey_reports import end_tidily; end_tidily()\n"
        "with tempfile.TemporaryDirectory(dir=sys.argv[1]): print(open(sys.argv[1] + '/began', 'w')); time.sleep(60)"
    )
    child = ChildReports(os.environ, command=(sys.executable, "-c", script, str(tmp_path)))
    said: list[str] = []

    def made() -> None:
        try:
            child.made(REQUEST)
        except StoreUnavailable as error:
            said.append(str(error))

    asking = threading.Thread(target=made)
    asking.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "began").exists() and time.monotonic() < deadline:
        asking.join(0.05)
    child.close()
    asking.join(60)

    assert said == ["the report could not be made (exit code 143): "]
    assert [path.name for path in tmp_path.iterdir()] == ["began"]


def test_a_child_that_takes_too_long_is_asked_to_end_first(tmp_path: Path) -> None:
    """So that it can tidy up; only one that does not is killed."""
    script = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), sys.exit(0)))\n"
        "time.sleep(60)"
    )
    child = ChildReports({}, command=(sys.executable, "-S", "-c", script, str(tmp_path / "asked")), seconds=3.0)

    with pytest.raises(StoreUnavailable, match="took longer than 3 s"):
        child.made(REQUEST)

    assert (tmp_path / "asked").exists()


def test_a_closed_service_makes_no_reports() -> None:
    """Closing stops what is being made; nothing is begun after it."""
    child = ChildReports({})
    child.close()

    with pytest.raises(StoreUnavailable, match="closing"):
        child.made(REQUEST)
