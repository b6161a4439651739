"""Audiences over HTTP: what is taken, what a job or a command is told of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.errors import InFlight, StoreUnavailable
from features.events import moment_of, parse_timestamp
from models.audience_columns import DEFAULT_COLUMNS
from models.audiences import AudienceSpec
from models.screen_lists import MOST_ROWS, ScreenSpec
from serving.api.examples import EXAMPLES
from serving.audience_views import MOST_AT_ONCE
from serving.child_commands import Finished
from serving.job_kinds import KINDS
from serving.problems import TooManyRequests
from serving.runtime import Runtime
from tests.audience_answers import ESTIMATE, SCREENED
from tests.doors import JOURNEY, NOW, Client, World, event
from tests.integration.serving.test_model_routes import Headway

AUDIENCE_EXAMPLE = EXAMPLES["make_audience"].body or {}
LIST_EXAMPLE = EXAMPLES["screen_list"].body or {}


@pytest.fixture
def headway() -> Headway:
    """The console script."""
    return Headway()


@pytest.fixture
def world(tmp_path: Path, headway: Headway) -> World:
    """An installation in memory."""
    return World(tmp_path, command=headway)


@pytest.fixture
def runtimes() -> list[Runtime]:
    """What the application works with."""
    return []


@pytest.fixture
def client(world: World, runtimes: list[Runtime]) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client(keep=runtimes.append) as client:
        yield client


def spec_of(world: World, document: dict[str, Any]) -> bytes:
    """What the job of an answer is told."""
    found = world.jobs.spec(document["job_id"])
    assert found is not None
    return found


def test_an_audience_is_a_job_that_is_pinned(client: Client, world: World) -> None:
    """To the moment, the log, the configuration and the model of now; the answer says where it is."""
    client.post("/v1/events", {"events": [event(), event("e-2", customer_id="c-2")]})

    answer = client.post("/v1/audiences", AUDIENCE_EXAMPLE)

    assert answer.status_code == 202
    document = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{document['job_id']}" == document["links"]["self"]
    assert (document["kind"], document["state"], document["request_id"]) == ("audience", "queued", "activation-week-10")
    spec = msgspec.json.decode(spec_of(world, document), type=AudienceSpec)
    assert spec.pins.at > NOW - 1
    assert spec.pins.log_position == 2
    assert spec.pins.versions == dict(world.configuration.versions)
    assert spec.pins.bundle is None
    request = spec.request
    assert request.conditions == tuple(AUDIENCE_EXAMPLE["filter"]["all_of"])
    assert (request.channels, request.exclude, request.max_customers) == (("email",), ("survey_experience",), 500)
    assert (request.rank_by, request.min_net_value, request.columns) == ("net_value", 0.5, DEFAULT_COLUMNS)
    assert client.get(answer.headers["location"]).json() == document


def test_everything_may_be_left_out(client: Client, world: World) -> None:
    """Everybody whose journey is open, under capacities, as CSV."""
    spec = msgspec.json.decode(spec_of(world, client.post("/v1/audiences", {}).json()), type=AudienceSpec)

    assert spec.request.customer_ids is None
    assert spec.request.within_capacity
    assert (spec.request.journey_id, spec.request.format, spec.request.rank_by) == (JOURNEY, "csv", "priority")


def test_a_later_moment_of_contact_is_asked_for(client: Client, world: World) -> None:
    """In whatever offset it comes; a retry after that moment is still the same job."""
    at = moment_of(world.now + 3_600_000_000).astimezone(timezone(timedelta(hours=5)))
    body = {"request_id": "morning", "contact_at": at.isoformat()}

    first = client.post("/v1/audiences", body).json()
    world.now += 7_200_000_000

    assert msgspec.json.decode(spec_of(world, first), type=AudienceSpec).request.contact_at == parse_timestamp(
        at.isoformat()
    )
    assert client.post("/v1/audiences", body).json()["job_id"] == first["job_id"]


def test_the_same_request_is_the_same_job(client: Client, world: World) -> None:
    """By body or header, also after time has passed and events have come; another body is another matter."""
    first = client.post("/v1/audiences", AUDIENCE_EXAMPLE).json()
    world.now += 60_000_000
    client.post("/v1/events", {"events": [event()]})
    unnamed = {name: value for name, value in AUDIENCE_EXAMPLE.items() if name != "request_id"}

    again = client.post("/v1/audiences", AUDIENCE_EXAMPLE)
    by_header = client.post("/v1/audiences", unnamed, headers={"Idempotency-Key": "activation-week-10"})
    other = client.post("/v1/audiences", AUDIENCE_EXAMPLE | {"max_customers": 1})

    assert again.json()["job_id"] == by_header.json()["job_id"] == first["job_id"]
    assert other.status_code == 422
    assert other.json()["type"] == "/docs/problems/request-id-reused"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"journey_id": "loan"}, "/journey_id"),
        ({"customer_ids": []}, "/customer_ids"),
        ({"customer_ids": ["c-1", ""]}, "/customer_ids/1"),
        ({"filter": {"all_of": [{"field": "attribute:email_hash", "equals": "x"}]}}, "/filter/all_of/0/field"),
        ({"filter": {"all_of": [{"field": "stage", "equals": "used_up"}]}}, "/filter/all_of/0/equals"),
        ({"filter": []}, "/filter"),
        ({"filter": {"all_of": 5}}, "/filter/all_of"),
        ({"filter": {"all_of": True}}, "/filter/all_of"),
        ({"filter": {"all_of": [{"field": "attribute:region", "one_of": ["x" * 200] * 200}]}}, "/filter"),
        ({"channels": ["pigeon"]}, "/channels/0"),
        ({"candidates": {"include": ["fly"]}}, "/candidates/include/0"),
        ({"candidates": {"issues": ["growth"]}}, "/candidates/issues/0"),
        ({"candidates": {"only": []}}, "/candidates/only"),
        ({"max_customers": 0}, "/max_customers"),
        ({"rank_by": "uplift"}, "/rank_by"),
        ({"min_net_value": -1}, "/min_net_value"),
        ({"within_capacity": "yes"}, "/within_capacity"),
        ({"contact_at": "tomorrow"}, "/contact_at"),
        ({"contact_at": "2026-03-01T09:30:00"}, "/contact_at"),
        ({"contact_at": "9999-12-31T23:59:59Z"}, "/contact_at"),
        ({"contact_at": "0001-01-01T00:00:00Z"}, "/contact_at"),
        ({"format": "xlsx"}, "/format"),
        ({"columns": ["customer_id", "email"]}, "/columns/1"),
        ({"columns": ["rank", "rank"]}, "/columns"),
        ({"everyone": True}, "/everyone"),
    ],
)
def test_what_is_no_audience_is_refused(client: Client, change: dict[str, Any], pointer: str) -> None:
    """With the place of what is wrong, for the job and for the estimate alike."""
    for path in ("/v1/audiences", "/v1/audiences/estimate"):
        answer = client.post(path, change)

        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]


def test_all_bad_fields_are_told_at_once(client: Client) -> None:
    """Also those inside."""
    body = {"channels": ["pigeon"], "format": "xlsx", "filter": {"all_of": [{"field": "direction", "equals": "in"}]}}

    told = client.post("/v1/audiences", body).json()["errors"]

    assert {one["pointer"] for one in told} == {"/channels/0", "/format", "/filter/all_of/0/field"}


def test_an_estimate_is_the_command_over_what_was_sent(client: Client, headway: Headway, world: World) -> None:
    """Which pins the moment itself, so that the same question is the same command."""
    headway.says = Finished(is_done=True, document=ESTIMATE)

    answers = [client.post("/v1/audiences/estimate", AUDIENCE_EXAMPLE).json() for _ in range(2)]

    assert answers == [ESTIMATE, ESTIMATE]
    assert headway.asked[0] == headway.asked[1]
    assert headway.asked[0].words == ("audience", "estimate")
    ((option, text),) = headway.asked[0].files
    asked = json.loads(text)
    assert option == "--spec"
    assert asked["versions"] == dict(world.configuration.versions)
    assert asked["request"]["max_customers"] == 500


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (InFlight("the audience estimate is still running"), 409, "in-flight"),
        (TooManyRequests("another audience estimate is running"), 429, "too-many-requests"),
        (StoreUnavailable("the audience estimate failed"), 503, "unavailable"),
    ],
)
def test_errors_of_the_commands_are_told(
    client: Client, headway: Headway, error: Exception, status: int, slug: str
) -> None:
    """Of the estimate and of the screening."""
    headway.says = error

    for path, body in (("estimate", {}), ("screen", {"rows": [{"customer_id": "c-1"}]})):
        answer = client.post(f"/v1/audiences/{path}", body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/docs/problems/{slug}")


def test_a_short_list_is_answered_at_once(client: Client, headway: Headway) -> None:
    """Rows say for themselves, or what holds for the list."""
    headway.says = Finished(is_done=True, document=SCREENED)

    answer = client.post("/v1/audiences/screen", LIST_EXAMPLE)

    assert (answer.status_code, answer.json()) == (200, SCREENED)
    assert headway.words == ["audience", "screen"]
    rows = json.loads(headway.asked[0].files[0][1])["request"]["rows"]
    assert rows == [
        {"customer_id": "c-7", "action_id": "offer_protection", "channel": None},
        {"customer_id": "c-8", "action_id": "offer_protection", "channel": "call"},
    ]


CSV = {"Content-Type": "text/csv; charset=utf-8"}


def test_a_list_may_be_a_table(client: Client, headway: Headway) -> None:
    """With a byte order mark, empty cells, and what holds for the list in the query."""
    headway.says = Finished(is_done=True, document=SCREENED)
    table = "\ufeffchannel, customer_id\r\nemail,c-1\r\n,c-2\r\n"

    query = "channel=sms&action_id=remind_next_step&contact_at=2026-03-02T09:00:00Z"
    answer = client.post(f"/v1/audiences/screen?{query}", table.encode(), headers=CSV)

    assert answer.status_code == 200
    request = json.loads(headway.asked[0].files[0][1])["request"]
    assert request["contact_at"] == parse_timestamp("2026-03-02T09:00:00Z")
    rows = request["rows"]
    assert [(one["customer_id"], one["channel"], one["action_id"]) for one in rows] == [
        ("c-1", "email", "remind_next_step"),
        ("c-2", "sms", "remind_next_step"),
    ]


def test_a_long_list_is_a_job(client: Client, headway: Headway, world: World) -> None:
    """One more row than is answered at once, from JSON or CSV; the same again is the same job."""
    ids = [f"c-{number}" for number in range(MOST_AT_ONCE + 1)]
    body = {"request_id": "list-1", "rows": [{"customer_id": one} for one in ids], "format": "parquet"}
    table = "\n".join(["customer_id", *ids]).encode()

    answer = client.post("/v1/audiences/screen", body)
    again = client.post("/v1/audiences/screen?request_id=list-1&format=parquet", table, headers=CSV)

    assert answer.status_code == again.status_code == 202
    assert answer.headers["location"] == again.headers["location"] == answer.json()["links"]["self"]
    spec = msgspec.json.decode(spec_of(world, answer.json()), type=ScreenSpec)
    assert [one.customer_id for one in spec.request.rows] == ids
    assert spec.request.format == "parquet"
    assert headway.asked == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/rows"]),
        ({"rows": []}, ["/rows"]),
        ({"rows": "c-1"}, ["/rows"]),
        ({"rows": ["c-1"]}, ["/rows/0"]),
        ({"rows": [{"customer_id": "c-1", "name": "x"}]}, ["/rows/0/name"]),
        ({"rows": [{"customer_id": "c-1"}, {"customer_id": ""}, {}]}, ["/rows/1/customer_id", "/rows/2/customer_id"]),
        ({"rows": [{"customer_id": "c-1", "action_id": "fly"}]}, ["/rows/0/action_id"]),
        ({"rows": [{"customer_id": "c-1", "channel": "pigeon"}]}, ["/rows/0/channel"]),
        ({"rows": [{"customer_id": "c-1"}], "action_id": "offer_protection", "channel": "sms"}, ["/channel"]),
        (
            {"rows": [{"customer_id": "c-1", "channel": "sms"}], "action_id": "offer_protection"},
            ["/rows/0/channel"],
        ),
        ({"rows": [{"customer_id": "c-1"}], "journey_id": "loan"}, ["/journey_id"]),
    ],
)
def test_what_is_no_list_is_refused(client: Client, headway: Headway, body: object, pointers: list[str]) -> None:
    """Row by row, all at once; nothing is run."""
    answer = client.post("/v1/audiences/screen", body)

    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == pointers
    assert headway.asked == []


@pytest.mark.parametrize(
    ("table", "query", "status", "pointer"),
    [
        (b"", "", 422, "/rows"),
        (b"customer_id\n", "", 422, "/rows"),
        (b"id\nc-1\n", "", 422, "/rows"),
        (b"customer_id,name\nc-1,x\n", "", 422, "/rows"),
        (b"customer_id,customer_id\nc-1,c-2\n", "", 422, "/rows"),
        (b"customer_id\nc-1,x\n", "", 422, "/rows/0"),
        (b"customer_id,channel\nc-1,pigeon\n", "", 422, "/rows/0/channel"),
        (b"customer_id,channel\n,email\n", "", 422, "/rows/0/customer_id"),
        (b"customer_id\nc-1\n", "?format=xlsx", 422, "/?format"),
        (b"customer_id\nc-1\n", "?name=x", 422, "/?name"),
        (b"customer_id\n\xff\n", "", 400, None),
        (b'customer_id\n"c-1\nc-2\nc-3\n', "", 400, None),
        (b"customer_id\n" + b"x\n" * (MOST_ROWS + 1), "", 422, "/rows"),
    ],
)
def test_what_is_no_table_is_refused(client: Client, table: bytes, query: str, status: int, pointer: str) -> None:
    """Other columns too: nobody needs them here, and they may be personal."""
    answer = client.post(f"/v1/audiences/screen{query}", table, headers=CSV)

    assert answer.status_code == status
    assert [one["pointer"] for one in answer.json()["errors"]] == ([] if pointer is None else [pointer])


def test_json_takes_no_query(client: Client) -> None:
    """What holds for the list stands in the body."""
    assert client.post("/v1/audiences/screen?channel=sms", LIST_EXAMPLE).status_code == 422
    assert client.post("/v1/audiences?format=csv", {}).status_code == 422


def test_jobs_have_commands(client: Client) -> None:
    """Which the console script knows."""
    from typer.main import get_command

    from models.audience_commands import audience

    known = get_command(audience).commands  # type: ignore[attr-defined]  # it is a group
    assert {one.name: one.words for one in KINDS if one.words[0] == "audience"} == {
        "audience": ("audience", "make"),
        "screening": ("audience", "screen-list"),
    }
    assert set(known) == {"make", "screen-list", "estimate", "screen"}
