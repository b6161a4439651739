"""What is measured, over HTTP: experiments, simulations, kept evaluations, and drift with its metrics."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from features.errors import InFlight, NotEnoughData, UnknownObject
from features.events import dump_timestamp
from features.yaml_files import load_yaml
from models.actions import Catalogue
from models.configuration import built_in_configuration
from models.policy import Policy
from models.registry import model_name
from models.report_files import LARGEST_BYTES
from serving.child_commands import Command, Finished
from serving.problems import TooManyRequests
from serving.runtime import Runtime
from serving.settings import Settings
from tests.doors import BOOTSTRAP, JOURNEY, NOW, Client, World, event
from tests.integration.serving.test_model_routes import Headway

OPE = "ope-0123456789abcdef"
EXPERIMENT = "/v1/experiments/default-2025/report"
ROLES = ("caller", "agent", "marketer", "analyst", "privacy")


@pytest.fixture
def headway() -> Headway:
    """The console script, which reports."""
    headway = Headway()
    headway.says = Finished(is_done=True, document={"arms": []})
    return headway


@pytest.fixture
def world(tmp_path: Path, headway: Headway) -> World:
    """An installation in memory."""
    return World(tmp_path, command=headway)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _kept(world: World, folder: str, name: str, document: object) -> Path:
    path = world.home.reports / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    os.utime(path, (NOW // 1_000_000, NOW // 1_000_000))
    return path


def test_an_experiment_is_reported_by_the_command(client: Client, headway: Headway) -> None:
    """As it prints it."""
    answer = client.get(EXPERIMENT)

    assert answer.json() == {"experiment_id": "default-2025", "report": {"arms": []}}
    assert headway.words == ["report", "experiment", "default-2025", "--json"]


def test_a_report_is_kept_until_something_is_recorded(client: Client, headway: Headway) -> None:
    """An event, a decision, or another configuration."""
    for _ in range(2):
        client.get(EXPERIMENT)
    assert len(headway.asked) == 1

    client.post("/v1/events", {"events": [event()]})
    client.get(EXPERIMENT)
    assert len(headway.asked) == 2

    client.post("/v1/decisions", {"customer_id": "c-1"})
    client.get(EXPERIMENT)
    assert len(headway.asked) == 3


@pytest.mark.parametrize("name", ["Default", "-h", "--all", "a" * 65, "x;y", "%2e%2e"])
def test_what_can_be_no_experiment_is_not_found(client: Client, headway: Headway, name: str) -> None:
    """It never becomes a word of a command."""
    assert client.get(f"/v1/experiments/{name}/report").status_code == 404
    assert headway.asked == []


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (UnknownObject("no experiment x"), 404, "not-found"),
        (NotEnoughData("no decision of it"), 409, "not-enough-data"),
        (TooManyRequests("another experiment report is running"), 429, "too-many-requests"),
        (InFlight("the experiment report is still running"), 409, "in-flight"),
    ],
)
def test_errors_of_the_report_are_told(
    client: Client, headway: Headway, error: Exception, status: int, slug: str
) -> None:
    """And not kept."""
    headway.says = error

    answer = client.get(EXPERIMENT)
    client.get(EXPERIMENT)

    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs/problems/{slug}")
    assert len(headway.asked) == 2


def test_a_simulation_is_the_command_over_the_documents(client: Client, headway: Headway, tmp_path: Path) -> None:
    """As files, which the command reads as the policy and the catalogue that were sent."""
    policy = client.get("/v1/policies").json()["document"]
    actions = client.get("/v1/actions").json()["document"]
    headway.says = Finished(is_done=True, document={"changed": 3})
    body = {
        **{"policy": policy | {"decision_ttl": "12h"}, "actions": actions, "version": 2, "last": 50},
        **{"journey_id": JOURNEY, "group_by": ["stage", "channel"]},
    }

    answer = client.post("/v1/simulations", body)

    assert answer.json() == {"result": {"changed": 3}}
    assert headway.words == [
        *("simulate-policy", "--last", "50", "--json", "--journey", JOURNEY, "--version", "2"),
        *("--group-by", "stage", "--group-by", "channel"),
    ]
    files = {option: tmp_path / f"{option}.yaml" for option, _ in headway.asked[0].files}
    for option, text in headway.asked[0].files:
        files[option].write_text(text)
    assert load_yaml(Policy, files["--policy"]).decision_ttl == 12 * 3_600_000_000
    assert load_yaml(Catalogue, files["--actions"]) == built_in_configuration().catalogue


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/policy"),
        ({"version": 1, "last": 5001}, "/last"),
        ({"version": 1, "journey_id": "other"}, "/journey_id"),
        ({"version": 1, "group_by": ["--policy"]}, "/group_by/0"),
        ({"version": 1, "group_by": "stage"}, "/group_by"),
        ({"policy": {"version": 2}}, "/policy/version"),
        ({"actions": {"version": 1}}, "/actions/actions"),
        ({"version": 1, "seed": 3}, "/seed"),
    ],
)
def test_bad_simulations_start_no_command(client: Client, headway: Headway, body: dict[str, Any], pointer: str) -> None:
    """Every problem of the documents is named, before a process is made for them."""
    answer = client.post("/v1/simulations", body)

    assert answer.status_code == 422
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]
    assert headway.asked == []


def test_kept_evaluations_are_listed_and_read(world: World, client: Client) -> None:
    """The newest first; what has another name is none."""
    older = _kept(world, "ope", f"{OPE}.json", {"id": OPE, "estimators": 5})
    os.utime(older, (NOW // 1_000_000 - 60, NOW // 1_000_000 - 60))
    newer = "ope-ffffffffffffffff"
    _kept(world, "ope", f"{newer}.json", {"id": newer})
    _kept(world, "ope", f"{OPE}.html", "<p>")
    _kept(world, "ope", "notes.json", {})

    listed = client.get("/v1/ope/reports").json()["reports"]

    assert [(one["id"], one["written_at"], one["bytes"]) for one in listed] == [
        (newer, "2026-03-01T12:00:00.000000Z", 30),
        (OPE, "2026-03-01T11:59:00.000000Z", 47),
    ]
    report = client.get(f"/v1/ope/reports/{OPE}").json()
    assert report == {"id": OPE, "written_at": "2026-03-01T11:59:00.000000Z", "report": {"id": OPE, "estimators": 5}}


def test_a_home_without_evaluations_lists_none(client: Client) -> None:
    """And has none to read."""
    assert client.get("/v1/ope/reports").json() == {"reports": []}
    assert client.get(f"/v1/ope/reports/{OPE}").status_code == 404


@pytest.mark.parametrize(
    "name", ["notes", "ope-0123", f"{OPE}.json", "ope-0123456789ABCDEF", "..%2Fope%2F" + OPE, "%2E%2E", f"{OPE}%00"]
)
def test_no_other_file_can_be_read(world: World, client: Client, name: str) -> None:
    """An id is what it is made of, nothing else."""
    _kept(world, "ope", "notes.json", {"secret": True})

    answer = client.get(f"/v1/ope/reports/{name}")

    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000, " " * (LARGEST_BYTES + 1)], ids=len)
def test_what_is_no_report_is_a_store_that_failed(world: World, client: Client, content: str) -> None:
    """Not read where it is too large to be one."""
    _kept(world, "ope", f"{OPE}.json", content)

    assert client.get(f"/v1/ope/reports/{OPE}").status_code == 503


def _drift(verdict: str = "investigate") -> dict[str, Any]:
    headline = {
        **{"at": dump_timestamp(NOW - 3_600_000_000), "verdict": verdict, "drifted_share": 0.25, "largest_psi": 0.4},
        **{"calibration_slope": None, "effect_drifted": 1, "no_action_rate": 0.6, "cap_saturation": True},
    }
    return {"format": 2, "journey_id": JOURNEY, "verdict": verdict, "headline": headline}


def test_the_latest_drift_is_given_with_its_history(world: World, client: Client) -> None:
    """Lines of other journeys, and what is no line, are left out."""
    _kept(world, "drift", f"{JOURNEY}.json", _drift())
    lines = [json.dumps({"journey_id": JOURNEY, "n": n}) for n in range(120)]
    _kept(world, "drift", "history.1.jsonl", "\n".join(lines[:50]))
    rest = ['{"journey_id": "other"}', *lines[50:], "{", "[1]", "", '{"jour']
    _kept(world, "drift", "history.jsonl", "\n".join(rest))

    (found,) = client.get("/v1/monitoring/drift").json()["journeys"]

    assert (found["journey_id"], found["written_at"]) == (JOURNEY, "2026-03-01T12:00:00.000000Z")
    assert found["report"] == _drift()
    assert [one["n"] for one in found["history"]] == list(range(20, 120))
    assert client.get(f"/v1/monitoring/drift?journey_id={JOURNEY}").json()["journeys"] == [found]


def test_only_the_end_of_a_long_history_is_read(world: World, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first whole line on."""
    monkeypatch.setattr("serving.stored_reports.HISTORY_BYTES", 120)
    _kept(world, "drift", f"{JOURNEY}.json", _drift())
    lines = [json.dumps({"journey_id": JOURNEY, "n": n}) for n in range(120)]
    _kept(world, "drift", "history.jsonl", "\n".join(lines))

    (found,) = client.get("/v1/monitoring/drift").json()["journeys"]

    assert [one["n"] for one in found["history"]] == [118, 119]


def test_where_nothing_was_compared_there_is_no_drift(client: Client) -> None:
    """Of all journeys an empty list, of one that is named not found."""
    assert client.get("/v1/monitoring/drift").json() == {"journeys": []}
    assert client.get(f"/v1/monitoring/drift?journey_id={JOURNEY}").status_code == 404


@pytest.mark.parametrize("query", ["journey_id=other", "journey_id=../x", "journey=x", "journey_id=a&journey_id=b"])
def test_bad_parameters_of_drift_are_named(client: Client, query: str) -> None:
    """Only journeys of the configuration become part of a path."""
    assert client.get(f"/v1/monitoring/drift?{query}").status_code == 422


def test_headlines_of_drift_are_metrics(world: World) -> None:
    """Verdict, age and the numbers that are known; looked at when a file changed, and never by the scrape."""
    runtimes: list[Runtime] = []
    path = _kept(world, "drift", f"{JOURNEY}.json", _drift())
    with world.client(keep=runtimes.append) as client:
        before = client.get("/metrics").text
        runtimes[-1].drift.refresh()
        shown = client.get("/metrics").text
        _kept(world, "drift", f"{JOURNEY}.json", _drift("retrain") | {"more": 1})
        runtimes[-1].drift.refresh()
        changed = client.get("/metrics").text
        path.unlink()
        runtimes[-1].drift.refresh()
        gone = client.get("/metrics").text

    label = f'journey_id="{JOURNEY}"'
    assert "headway_drift_verdict{" not in before
    assert f'headway_drift_verdict{{{label},verdict="investigate"}} 1.0' in shown
    assert f"headway_drift_age_seconds{{{label}}} 3600.0" in shown
    figures = [line for line in shown.splitlines() if line.startswith("headway_drift_figure{")]
    assert figures == [
        f'headway_drift_figure{{figure="{name}",{label}}} {value}'
        for name, value in (
            ("drifted_share", 0.25),
            ("largest_psi", 0.4),
            ("effect_drifted", 1.0),
            ("no_action_rate", 0.6),
        )
    ]
    assert f'headway_drift_verdict{{{label},verdict="retrain"}} 1.0' in changed
    assert "investigate" not in changed
    assert "headway_drift_verdict{" not in gone


@pytest.mark.parametrize("figure", ["9" * 400, "-" + "9" * 400])
def test_a_figure_that_no_gauge_holds_is_left_out(world: World, figure: str) -> None:
    """The others are told all the same, and the next report is taken up."""
    runtimes: list[Runtime] = []
    text = json.dumps({"headline": {"verdict": "steady", "largest_psi": 0.25, "drifted_share": 0}})
    _kept(world, "drift", f"{JOURNEY}.json", text.replace(": 0}", f": {figure}}}"))
    with world.client(keep=runtimes.append) as client:
        runtimes[-1].drift.refresh()
        shown = client.get("/metrics").text

    assert 'figure="largest_psi"' in shown
    assert 'figure="drifted_share"' not in shown


def test_a_damaged_drift_report_costs_its_figures_only(world: World) -> None:
    """Its age is still that of the file."""
    runtimes: list[Runtime] = []
    _kept(world, "drift", f"{JOURNEY}.json", "{")
    with world.client(keep=runtimes.append) as client:
        runtimes[-1].drift.refresh()
        shown = client.get("/metrics").text
        answer = client.get("/v1/monitoring/drift")

    assert f'headway_drift_age_seconds{{journey_id="{JOURNEY}"}} 0.0' in shown
    assert "headway_drift_verdict{" not in shown
    assert answer.status_code == 503


def test_commands_take_no_thread_from_requests(tmp_path: Path) -> None:
    """Minutes of a report, a simulation and a promotion, and a service with one thread answers everybody else."""
    go_on, begun, asked = threading.Event(), threading.Barrier(4), []

    def command(wanted: Command) -> Finished:
        asked.append(wanted.kind)
        begun.wait(60)
        go_on.wait(60)
        return Finished(is_done=True, document={})

    world = World(tmp_path, command=command, settings=Settings(bootstrap_key=BOOTSTRAP, threads=1))
    world.home.create()
    with world.client() as client, ThreadPoolExecutor(4) as callers:
        try:
            under_way = [
                callers.submit(client.get, EXPERIMENT),
                callers.submit(client.post, "/v1/simulations", {"version": 1}),
                callers.submit(client.post, f"/v1/models/{model_name(JOURNEY)}/promote", {"version": 1}),
            ]
            begun.wait(60)
            answer = callers.submit(client.get, "/v1/policies").result(60)
        finally:
            go_on.set()
        statuses = [one.result(60).status_code for one in under_way]

    assert answer.status_code == 200
    assert (len(asked), statuses) == (3, [200, 200, 200])


@pytest.mark.parametrize("role", ROLES)
def test_roles_of_what_is_measured(world: World, client: Client, role: str) -> None:
    """Marketers see experiments and simulate; evaluations and drift are the analysts'."""
    key = world.key("crm", role)
    analysts, measurers = role == "analyst", role in ("marketer", "analyst")

    assert (client.get(EXPERIMENT, key=key).status_code != 403) == measurers
    assert (client.post("/v1/simulations", {}, key=key).status_code != 403) == measurers
    for path in ("/v1/ope/reports", f"/v1/ope/reports/{OPE}", "/v1/monitoring/drift"):
        assert (client.get(path, key=key).status_code != 403) == analysts
        assert client.get(path, key=None).status_code == 401
