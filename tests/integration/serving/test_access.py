"""Who may call what: every route by every role, and every object that a route gives, exactly as it is written here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.access import RULES, access_table
from serving.api.app import ROUTES
from serving.auth import ROLES
from tests.doors import BOOTSTRAP, Client, World, event

OPERATOR = Path(__file__).parents[3] / "docs" / "how-to" / "operator.md"
PAGE = "https://shop.example.com"

# caller, agent, marketer, analyst, privacy, and publishable keys: x may, - may not. Admin may everything.
MATRIX = """
POST /v1/events                               x x x - - x
POST /v1/batch                                x x x - - x
POST /v1/track                                x x x - - x
POST /v1/identify                             x x x - - x
POST /v1/page                                 x x x - - x
POST /v1/screen                               x x x - - x
POST /v1/group                                x x x - - x
POST /v1/alias                                x x x - - x
POST /v1/decisions                            x x x - - -
POST /rank                                    x x x - - -
POST /ofrep/v1/evaluate/flags                 x x x - - -
POST /ofrep/v1/evaluate/flags/{key}           x x x - - -
POST /v1/outcomes                             x x x - - -
GET  /v1/events/recent                        x x x x x -
GET  /v1/decisions                            x x x x x -
GET  /v1/decisions/{decision_id}              x x x x x -
GET  /v1/decisions/{decision_id}/explanation  x x x x x -
POST /v1/decisions/{decision_id}/replay       x x x x x -
POST /v1/decisions/{decision_id}/activate     x x x - - -
GET  /v1/customers/{customer_id}/journey      - x x x x -
GET  /v1/customers/{customer_id}/context      x x x - - -
POST /v1/identities/link                      x x - - - -
POST /v1/identities/unlink                    x x - - - -
GET  /v1/lookup                               x x - - - -
GET  /v1/journeys/{journey_id}/report         - - - x - -
GET  /v1/actions                              - x x x - -
PUT  /v1/actions                              - - x - - -
GET  /v1/policies                             - x x x - -
PUT  /v1/policies                             - - x - - -
POST /v1/policies/validate                    - - x x - -
PUT  /v1/workforce                            x - - - - -
GET  /v1/workforce                            x x x x - -
GET  /v1/models                               - - - x - -
POST /v1/models/{name}/promote                - - - - - -
POST /v1/models/{name}/rollback               - - - - - -
GET  /v1/experiments/{experiment_id}/report   - - x x - -
GET  /v1/ope/reports                          - - - x - -
GET  /v1/ope/reports/{report_id}              - - - x - -
POST /v1/simulations                          - - x x - -
GET  /v1/monitoring/drift                     - - - x - -
POST /v1/audiences                            - - x - - -
POST /v1/audiences/estimate                   - - x x - -
POST /v1/audiences/screen                     - - x - - -
GET  /v1/jobs                                 x - x x - -
GET  /v1/jobs/{job_id}                        x - x x - -
POST /v1/jobs/{job_id}/cancel                 x - x x - -
GET  /v1/jobs/{job_id}/result                 x - x x - -
GET  /metrics                                 x x x x x -
"""
OPEN = {"/livez", "/readyz", "/openapi.json", "/", "/docs", "/docs/assets/{name}", "/docs/problems/{slug}"}
HOLDERS = ("caller", "agent", "marketer", "analyst", "privacy", "publishable")
ROWS = [(line.split()[0], line.split()[1], line.split()[2:]) for line in MATRIX.strip().splitlines()]
SERVED = [row for row in ROWS if row[1] != "/rank"]  # a door of its own, which tests of the whole process ask


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, dict[str, str]]]:
    """A client and a key of each holder, for calls that change nothing."""
    world = World(tmp_path_factory.mktemp("asked"))
    keys = {role: world.key("crm", role) for role in ROLES} | {"publishable": world.key("shop", origins=[PAGE])}
    with world.client() as client:
        yield client, keys


def test_the_table_has_every_route_and_no_other() -> None:
    """A route without a row fails here, and can be called by nobody."""
    served = {
        (method, path.replace(":str}", "}").replace(":path}", "}"))
        for one in ROUTES
        for path in one.paths
        for method in one.http_methods
    }

    assert {(rule.method, rule.path) for rule in RULES} == served | {("POST", "/rank")}
    assert {(method, path) for method, path, _ in ROWS} | {("GET", path) for path in OPEN} == served | {
        ("POST", "/rank")
    }


def test_the_table_says_what_is_written_here() -> None:
    """Also of the route that no test here can call."""
    found = {
        (rule.method, rule.path): [
            *("x" if role in rule.roles else "-" for role in HOLDERS[:-1]),
            "x" if rule.is_public else "-",
        ]
        for rule in RULES
        if not rule.is_open
    }

    assert found == {(method, path): marks for method, path, marks in ROWS}


@pytest.mark.parametrize(("method", "path", "marks"), SERVED, ids=[f"{row[0]} {row[1]}" for row in SERVED])
def test_a_route_is_for_whom_the_table_says(
    asked: tuple[Client, dict[str, str]], method: str, path: str, marks: list[str]
) -> None:
    """Each role alone; nobody without a key, with a wrong one, or with two."""
    client, keys = asked
    place = re.sub(r"\{.*?\}", "x", path)

    def status(key: str | None, **more: Any) -> int:
        return client.other(method, place, key=key, json={} if method != "GET" else None, **more).status_code

    origin = {"Origin": PAGE}
    found = ["-" if status(keys[one], headers=origin) == 403 else "x" for one in HOLDERS]
    assert found == marks
    assert status(keys["admin"]) not in (401, 403)
    assert status(None) == 401
    assert status("hw_00000000_wrong") == 401
    assert status(BOOTSTRAP, headers=[("Authorization", f"Bearer {keys['analyst']}")]) == 401


@pytest.mark.parametrize("path", sorted(OPEN))
def test_health_and_pages_are_open(asked: tuple[Client, dict[str, str]], path: str) -> None:
    """To anybody."""
    place = path.replace("{name}", "start.js").replace("{slug}", "forbidden")

    assert asked[0].other("GET", place, key=None).status_code in (200, 302)


# ---- objects

OWN = {"caller": "own", "agent": "own", "marketer": "own", "analyst": "all", "privacy": "all", "admin": "all"}
"""Whose decisions each role reads."""


@pytest.mark.parametrize("role", ROLES)
def test_whose_decisions_a_role_reads(world: World, client: Client, role: str) -> None:
    """Those of its own source or all, by every route; of a foreign one not even that it exists."""
    own, other = world.key("desk", role), world.key("crm", "caller")
    client.post("/v1/events", {"events": [event()]})
    ids = {
        "own": client.post("/v1/decisions", {"customer_id": "c-1"}, key=world.key("desk", "caller")).json()[
            "decision_id"
        ],
        "foreign": client.post("/v1/decisions", {"customer_id": "c-1"}, key=other).json()["decision_id"],
        "missing": "d-00000000000000000000000000000000",
    }
    told: dict[str, dict[str, Any]] = {name: {} for name in ids}
    for name, decision_id in ids.items():
        at = f"/v1/decisions/{decision_id}"
        told[name] = {
            "read": client.get(at, key=own),
            "explanation": client.get(f"{at}/explanation", key=own),
            "replay": client.post(f"{at}/replay", {}, key=own),
            "activate": client.post(f"{at}/activate", {}, key=own),
        }

    may_activate = role in ("caller", "agent", "marketer", "admin")
    for call in ("read", "explanation", "replay", "activate"):
        if call == "activate" and not may_activate:
            assert {name: told[name][call].status_code for name in ids} == dict.fromkeys(ids, 403)
            continue
        assert told["own"][call].status_code not in (401, 403, 404), call
        assert told["missing"][call].status_code == 404, call
        if OWN[role] == "all":
            assert told["foreign"][call].status_code not in (401, 403, 404), call
        else:
            foreign = told["foreign"][call].json() | {"detail": ""}
            assert foreign == told["missing"][call].json() | {"detail": ""}, call
    found = {one["decision_id"] for one in client.get("/v1/decisions", key=own).json()["decisions"]}
    assert found == ({ids["own"], ids["foreign"]} if OWN[role] == "all" else {ids["own"]})
    status = client.get("/v1/decisions?source=crm", key=own).status_code
    assert status == (200 if OWN[role] == "all" else 403)


def test_customers_are_the_installations(world: World, client: Client) -> None:
    """Whoever may read people reads what every source told of them: that is what one view of a customer is."""
    client.post("/v1/events", {"events": [event()]}, key=world.key("crm", "caller"))

    told = client.get("/v1/customers/c-1/journey", key=world.key("desk", "agent"))

    assert told.status_code == 200
    assert [one["source"] for one in told.json()["timeline"]] == ["crm"]


# ---- what is said of it


def test_a_key_without_the_role_is_told_which_it_needs(world: World, client: Client) -> None:
    """And who has no role at all."""
    answer = client.put("/v1/workforce", {}, key=world.key("desk", "analyst"))

    assert answer.status_code == 403
    assert "has the roles analyst; expected one of admin, caller" in answer.json()["detail"]


def test_the_operators_page_shows_the_table() -> None:
    """As it guards the routes."""
    assert access_table() in OPERATOR.read_text(encoding="utf-8")
