"""``headway report journey``: what the command line promises, and its figures on a real log."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.cli import run
from features.event_store import SqlEventLog
from features.home import Home
from models.configuration import built_in_configuration
from tests.histories import MINUTE_US, START_AT, event

COMMANDS = [
    EntryPoint("report", "models.report_commands:report", "headway.commands"),
    EntryPoint("import", "models.commands:import_files", "headway.commands"),
]
JOURNEY = built_in_configuration().journeys.journeys[0].id
HOUR_US = 60 * MINUTE_US


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, which the environment names."""
    monkeypatch.setenv("HEADWAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))  # else the command sets it for the whole test run
    return Home(tmp_path / "home")


def _run(*arguments: str) -> tuple[int, str]:
    stderr = StringIO()
    return run(arguments, {}, commands=COMMANDS, stderr=stderr), stderr.getvalue()


@pytest.fixture
def filled(home: Home) -> Home:
    """Forty customers applied on the web; half of them then called, and every fourth was verified."""
    events = []
    for i in range(40):
        at = START_AT + i * MINUTE_US
        customer = f"c{i}"
        events.append(event(f"a{i}", customer_id=customer, kind="application_submitted", channel="web", at=at))
        if i % 2:
            events.append(event(f"b{i}", customer_id=customer, kind="call_received", channel="call", at=at + HOUR_US))
        if i % 4 == 0:
            events.append(event(f"v{i}", customer_id=customer, kind="identity_verified", at=at + 2 * HOUR_US))
    events.append(event("end", customer_id="z", kind="app_opened", channel="app", at=START_AT + 100 * HOUR_US))
    log = SqlEventLog(home.create().events_db)
    log.append(events)
    log.close()
    return home


def test_the_report_as_json(filled: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Stalls, leaks with their cost, and the observation's end are those of the log."""
    code, _ = _run("report", "journey", JOURNEY, "--json")

    report = json.loads(capsys.readouterr().out)
    applied = report["stages"][0]
    assert code == 0
    assert (applied["entered"], applied["progressed"], applied["open"], applied["stalled"]) == (40, 10, 30, 30)
    assert applied["stall"]["share"] == 0.75
    (leak,) = report["leaks"]["channels"]
    assert (leak["from_channel"], leak["to_channel"], leak["count"], leak["cost"]) == ("web", "call", 20, 20 * 5.0)
    assert (leak["visits"]["n"], leak["visits"]["hits"]) == (40, 20)
    assert leak["steps"] == [{"from_kind": "application_submitted", "to_kind": "call_received", "count": 20}]
    assert [(one["stage"], one["count"]) for one in report["stuck"]] == [("applied", 30), ("verified", 10)]


def test_the_report_for_people(filled: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """In columns, without a null or a bare NaN."""
    code, _ = _run("report", "journey", JOURNEY, "--group-by", "channel")

    text = capsys.readouterr().out
    assert code == 0
    assert "40 instances of 40: 0 reached the goal, 0 left, 0 were abandoned, 40 are open" in text
    assert "Leaks to offline channels, cost in EUR" in text
    assert "Groups by channel" in text
    assert "None" not in text
    assert "nan" not in text


def test_the_window_chooses_instances(filled: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Entered from ``--since`` on, observed up to ``--until``; the rest is as if it had not been."""
    since, until = "2023-11-14T22:23:20Z", "2023-11-14T23:13:20Z"  # 10 and 60 minutes after the first
    code, _ = _run("report", "journey", JOURNEY, "--json", "--since", since, "--until", until)

    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["instances"]["entered"] == 30
    assert report["observed_until"] == "2023-11-14T23:13:20.000000Z"
    assert report["stages"][0]["stall"] == {"n": 0, "hits": 0, "share": None, "interval": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mortgage"], f"no journey 'mortgage'; expected one of {JOURNEY}"),
        ([JOURNEY, "--since", "monday"], "since: got 'monday', expected an ISO 8601 timestamp with an offset"),
        ([JOURNEY, "--group-by", "email"], "group_by: got 'email', expected one of channel, nps_band"),
        ([JOURNEY, "--top", "0"], "Invalid value for '--top': Input should be greater than or equal to 1"),
    ],
)
def test_bad_input_is_refused(filled: Home, arguments: list[str], message: str) -> None:
    """With what was given and what is expected."""
    code, said = _run("report", "journey", *arguments)

    assert code == 2
    assert message in said


def test_a_home_without_a_log_is_refused(home: Home) -> None:
    """Saying what makes one, and none is made by asking."""
    code, said = _run("report", "journey", JOURNEY)

    assert code == 2
    assert "import or serve first" in said
    assert not home.root.exists()


@pytest.fixture
def bpic2012(home: Home, real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> Home:
    """A home that holds the loan applications of BPI Challenge 2012."""
    code, said = _run("import", "--mapping", "bpic2012", str(real_data("bpic2012/bpic2012.xes.gz")))
    assert code == 0, said
    capsys.readouterr()
    return home


@pytest.mark.slow
def test_figures_on_a_real_log_equal_plain_pandas(bpic2012: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """13,087 applications: stage entries, dwell, stalls and what follows what, from a data frame of the same log."""
    code, _ = _run("report", "journey", "loan_application", "--json", "--top", "1000")
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    log = SqlEventLog(bpic2012.events_db, readonly=True)
    rows = [(one.event.order, one.event) for page in log.read() for one in page]
    log.close()
    frame = pd.DataFrame(
        {
            "customer": [one.customer_id for _, one in rows],
            "order": [order for order, _ in rows],
            "kind": [one.kind for _, one in rows],
            "at": [one.occurred_at for _, one in rows],
        }
    ).sort_values(["customer", "order"])

    assert report["instances"]["entered"] == report["customers"] == frame["customer"].nunique() == 13_087
    stages = {one["stage"]: one for one in report["stages"]}
    # Applications enter each of these at most once before anything closes them, so first entries are the visits.
    first = frame.groupby(["customer", "kind"])["at"].min().unstack()
    entering = {"submitted": "a_submitted", "partly_submitted": "a_partly_submitted", "pre_accepted": "a_preaccepted"}
    entering |= {"accepted": "a_accepted", "offer_sent": "o_sent"}
    assert {stage: stages[stage]["entered"] for stage in entering} == {
        stage: int(first[kind].notna().sum()) for stage, kind in entering.items()
    }

    # Time from the pre-acceptance to the next state of the application; none of these is silent for 45 days.
    left = first[["a_accepted", "a_declined", "a_cancelled"]].min(axis=1)[first["a_preaccepted"].notna()]
    dwell = (left.fillna(frame["at"].max()) - first["a_preaccepted"].dropna()) / HOUR_US
    assert stages["pre_accepted"]["stalled"] == int((dwell >= 48).sum())
    assert stages["pre_accepted"]["open"] == int(left.isna().sum())
    edge = next(one for one in report["steps"] if (one["from_step"], one["to_step"]) == ("pre_accepted", "accepted"))
    accepted = dwell[left == first["a_accepted"].reindex(left.index)]
    assert edge["count"] == accepted.size
    assert edge["dwell_hours"]["median"] == pytest.approx(float(np.quantile(accepted, 0.5)), rel=0.02)

    # Applications begin with their first event and are followed up to their end: a declined one to its decline.
    steps = frame[frame["kind"] != "profile_updated"]
    follows = steps["kind"] + ">" + steps.groupby("customer")["kind"].shift(-1)
    count = next(
        one["count"]
        for one in report["kinds"]["shown"]
        if (one["from_kind"], one["to_kind"]) == ("a_submitted", "a_partly_submitted")
    )
    assert count == int((follows == "a_submitted>a_partly_submitted").sum()) == 13_087
    assert report["kinds"]["share_shown"] == 1.0
