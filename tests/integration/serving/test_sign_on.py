"""People who sign on at the company's directory: their token in place of a key, over HTTP, with a real issuer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.settings import Settings
from serving.tokens import TokenReader, token_reader
from tests.doors import BOOTSTRAP, Client, World, event
from tests.issuers import AUDIENCE, ISSUER, NOW_S, Issuer, claims, token


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    """An issuer that answers."""
    with Issuer().serving() as issuer:
        yield issuer


@pytest.fixture
def world(tmp_path: Path, issuer: Issuer) -> World:
    """An installation that knows it."""
    roles = tmp_path / "roles.yaml"
    roles.write_text("groups: {cx-desk: [agent], dpo: [privacy]}\n")
    settings = Settings(
        bootstrap_key=BOOTSTRAP,
        threads=2,
        oidc_issuer=ISSUER,
        oidc_audience=AUDIENCE,
        oidc_jwks=issuer.url,
        oidc_roles=roles,
    )
    return World(tmp_path, settings=settings, tokens=token_reader(settings))


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    assert isinstance(world.tokens, TokenReader)
    world.tokens.refresh()
    with world.client() as client:
        client.post("/v1/events", {"events": [event(), _profile()]})
        yield client


def _profile() -> dict[str, Any]:
    return event("known", kind="profile_updated", channel=None, facts={"email_hash": "secret"})


@pytest.mark.parametrize(
    ("groups", "status", "sees"), [(["cx-desk"], 200, False), (["dpo"], 200, True), (["others"], 403, False)]
)
def test_groups_say_what_a_person_may(client: Client, groups: list[str], status: int, sees: bool) -> None:
    """Who is in none that has a role may nothing; what is personal is masked as for a key of the role."""
    answer = client.get("/v1/customers/c-1/journey", key=token(claims(groups=groups)))

    assert answer.status_code == status
    assert ("secret" in answer.text) is sees


def test_a_token_that_is_not_accepted_is_a_401(client: Client) -> None:
    """Which says why, and with which scheme to come back."""
    answer = client.get("/v1/customers/c-1/journey", key=token(claims(exp=NOW_S - 60)))

    assert answer.status_code == 401
    assert answer.json()["detail"] == "the token has expired; expected a newer one: sign in again"
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_key_that_is_being_read_is_a_503(client: Client, world: World, issuer: Issuer, tmp_path: Path) -> None:
    """To come back soon; API keys go on meanwhile."""
    world.tokens = token_reader(world.settings)  # which has read nothing yet
    with world.client() as fresh:
        answer = fresh.get("/v1/customers/c-1/journey", key=token())
        other = fresh.get("/v1/customers/c-1/journey")

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert other.status_code == 200


def test_people_are_noted_by_a_hash(client: Client, world: World, tmp_path: Path) -> None:
    """In the audit log, with the customer hashed; decisions that they ask for have the source of the directory."""
    made = client.post("/v1/decisions", {"customer_id": "c-1"}, key=token())
    keep: list[Any] = []
    with world.client(keep=keep.append) as second:
        second.get("/v1/customers/c-1/journey", key=token())
        second.get("/v1/decisions?customer_id=c-1", key=token())
        keep[0].audit.write()
        lines = list(keep[0].audit.lines())

    assert client.get(f"/v1/decisions/{made.json()['decision_id']}").json()["record"]["source"] == "directory"
    assert [(one.call, one.roles, one.status) for one in lines] == [
        ("GET /v1/decisions", ("agent",), 200),
        ("GET /v1/customers/{customer_id}/journey", ("agent",), 200),
    ]
    assert {one.who[:4] for one in lines} == {"sub-"}
    assert {one.object for one in lines} == {keep[0].audit.hash_of("c-1")}
    assert "ada" not in (tmp_path / "audit" / "calls.jsonl").read_text()


def test_without_an_issuer_a_token_is_an_unknown_key(tmp_path: Path) -> None:
    """And nothing that checks signatures is asked."""
    world = World(tmp_path)
    with world.client() as client:
        answer = client.get("/v1/models", key=token())

    assert answer.status_code == 401
    assert "the API key is unknown" in answer.json()["detail"]
