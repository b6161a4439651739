"""An OpenFeature client with the provider as it is published, over a real socket; and the protocol, word for word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from features.errors import StoreUnavailable
from features.events import dump_timestamp
from models.configuration import Configuration, built_in_configuration, configuration_in
from serving.settings import Settings
from tests.doors import BOOTSTRAP, HOUR_US, NOW, Client, World, event
from tests.integration.serving.test_tracking_sdks import Door, served

CALLER: Final = (Path(__file__).parents[3] / "docs" / "how-to" / "caller.md").read_text(encoding="utf-8")
HOME: Final = "web/home_banner"
SIDE: Final = "web/side"
ONE: Final = "/ofrep/v1/evaluate/flags/web%2Fhome_banner"
ALL: Final = "/ofrep/v1/evaluate/flags"


@cache
def _configured(no_contact_holdout: str = "0.0") -> Configuration:
    """The built-in configuration with two places on the web, in which nothing is drawn."""
    texts = {f"{name}.yaml": text for name, text in built_in_configuration().texts.items()}
    texts["actions.yaml"] = texts["actions.yaml"].replace(
        " channel: web,", f" channel: web, placements: [{HOME}, {SIDE}],"
    )
    for old, new in (
        ("no_contact_holdout: 0.05", f"no_contact_holdout: {no_contact_holdout}"),
        ("random_eligible: 0.10", "random_eligible: 0.0"),
        ("epsilon: 0.05", "epsilon: 0.0"),
    ):
        assert texts["policy.yaml"].count(old) == 1
        texts["policy.yaml"] = texts["policy.yaml"].replace(old, new)
    return configuration_in(texts, origin="test")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path, configuration=_configured())


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """Calls it; a customer stalled days ago."""
    with world.client() as client:
        client.post("/v1/events", {"events": [event(hours_ago=80)]})
        yield client


def _context(customer_id: str = "c-1", **more: Any) -> dict[str, Any]:
    return {"context": {"targetingKey": customer_id, **more}}


def _contacts(world: World) -> list[str]:
    return [one.status for one in world.records.customer("c-1", since=0, now=world.now).contacts]


def _n_decisions(world: World) -> int:
    return sum(map(len, world.records.read()))


# ---- the published client


@pytest.fixture
def feature(world: World) -> Iterator[OpenFeatureClient]:
    """A client of the service behind a port."""
    key = world.key("shop", "caller")
    with served(Door(world)) as url:
        provider = OFREPProvider(url, headers_factory=lambda: {"Authorization": f"Bearer {key}"})
        api.set_provider(provider, domain="shop")
        with world.client() as client:
            client.post("/v1/events", {"events": [event(hours_ago=80)]})
        yield api.get_client("shop")
        api.shutdown()


def test_a_client_gets_a_placement(feature: OpenFeatureClient) -> None:
    """As an object, by default, with what is needed to show it and to tell of it."""
    found = feature.get_object_details(HOME, {}, EvaluationContext("c-1", {"device": "mobile"}))

    assert found.error_code is None, found.error_message
    assert isinstance(found.value, dict)
    assert set(found.value) == {
        *("action_id", "treatment_id", "placement", "decision_id", "expires_at", "disclosures"),
    }
    assert (found.reason, found.variant) == (Reason.TARGETING_MATCH, found.value["treatment_id"])
    assert found.flag_metadata == {name: found.value[name] for name in ("decision_id", "expires_at")}


def test_a_client_gets_it_as_the_type_that_it_asks_for(feature: OpenFeatureClient, world: World) -> None:
    """The context says which; it is one decision."""
    treatment = feature.get_string_details(HOME, "none", EvaluationContext("c-1", {"headway_value": "string"}))
    is_shown = feature.get_boolean_details(HOME, False, EvaluationContext("c-1", {"headway_value": "boolean"}))
    mistaken = feature.get_string_details(HOME, "none", EvaluationContext("c-1"))

    assert (treatment.value, treatment.error_code) == (treatment.variant, None)
    assert (is_shown.value, is_shown.variant) == (True, treatment.variant)
    assert (mistaken.value, mistaken.error_code) == ("none", ErrorCode.TYPE_MISMATCH)
    assert _n_decisions(world) == 1


def test_a_client_falls_back_to_the_default_of_its_code(feature: OpenFeatureClient) -> None:
    """Where nothing is to be shown that is no error; where there is no such flag, or no customer, it is one."""
    default = {"banner": "summer"}
    nothing = feature.get_object_details(HOME, default, EvaluationContext("somebody-new"))
    unknown = feature.get_object_details("fax/home", default, EvaluationContext("c-1"))
    nobody = feature.get_object_details(HOME, default)

    assert [one.value for one in (nothing, unknown, nobody)] == [default] * 3
    assert (nothing.variant, nothing.error_code) == ("no_action", None)
    assert [unknown.error_code, nobody.error_code] == [ErrorCode.FLAG_NOT_FOUND, ErrorCode.TARGETING_KEY_MISSING]


def test_the_callers_page_is_followed_to_the_letter(feature: OpenFeatureClient, world: World) -> None:
    """Only the address and the key are others."""
    (block,) = re.findall(r"^```python\n(from openfeature .*?)^```", CALLER, re.DOTALL | re.MULTILINE)
    provider = feature.provider
    assert isinstance(provider, OFREPProvider)
    script = block.replace("http://127.0.0.1:3000", provider.base_url)
    script = script.replace("hw_choose_your_own_0123456789", BOOTSTRAP).replace('"c-7"', '"c-1"')

    found: dict[str, Any] = {}
    exec(script, found)  # noqa: S102  # our own page

    assert found["banner"].error_code is None
    assert set(found["banner"].value) >= {"treatment_id", "decision_id"}
    assert _n_decisions(world) == 1


# ---- the protocol


@pytest.mark.parametrize("path", [ONE, "/ofrep/v1/evaluate/flags/web/home_banner"])
def test_a_flag_is_evaluated(client: Client, path: str) -> None:
    """With its slash as it is, or encoded."""
    told = client.post(path, _context()).json()

    assert (told["key"], told["reason"], told["variant"]) == (HOME, "TARGETING_MATCH", told["value"]["treatment_id"])
    stored = client.get(f"/v1/decisions/{told['value']['decision_id']}").json()
    assert stored["record"]["selected"][0]["treatment_id"] == told["variant"]
    assert (stored["record"]["activated"], stored["record"]["request"]["direction"]) == (False, "inbound")


def test_all_flags_are_one_decision(client: Client, world: World) -> None:
    """No action is shown twice; what is not filled has no value."""
    told = client.post(ALL, _context()).json()["flags"]

    assert [one["key"] for one in told] == [HOME, SIDE]
    shown = [one["value"]["action_id"] for one in told if "value" in one]
    assert shown
    assert len(set(shown)) == len(shown)
    assert len({one["metadata"]["decision_id"] for one in told}) == 1
    assert _n_decisions(world) == 1


def test_a_tag_saves_the_body(client: Client, world: World) -> None:
    """While the decision holds; then there is another one, under another tag."""
    first = client.post(ALL, _context())
    tag = first.headers["etag"]

    same = client.other("POST", ALL, headers={"If-None-Match": tag}, json=_context())
    asked_otherwise = client.other("POST", ALL, headers={"If-None-Match": tag}, json=_context("c-2"))
    world.now += HOUR_US
    later = client.other("POST", ALL, headers={"If-None-Match": tag}, json=_context())

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert (asked_otherwise.status_code, later.status_code) == (200, 200)


def test_a_tag_of_nothing_stays(client: Client, world: World) -> None:
    """Another decision to show nothing changes nothing that anybody sees."""
    tag = client.post(ALL, _context("c-2")).headers["etag"]
    world.now += HOUR_US

    assert client.other("POST", ALL, headers={"If-None-Match": tag}, json=_context("c-2")).status_code == 304
    assert _n_decisions(world) == 2


def test_flags_of_one_channel(client: Client) -> None:
    """And the words that a client sends which was told of a change."""
    assert client.post(ALL, _context(headway_channel="email")).json() == {"flags": []}
    assert (
        client.other("POST", f"{ALL}?flagConfigEtag=abc&flagConfigLastModified=1", json=_context()).status_code == 200
    )
    assert client.other("POST", f"{ALL}?etag=abc", json=_context()).status_code == 400


@pytest.mark.parametrize("is_bulk", [False, True])
@pytest.mark.parametrize(
    ("body", "code", "details"),
    [
        (b"{", "PARSE_ERROR", "cannot be read as JSON"),
        ([], "PARSE_ERROR", "an object with a context"),
        ({}, "TARGETING_KEY_MISSING", "context.targetingKey is missing"),
        ({"context": {"targetingKey": ""}}, "TARGETING_KEY_MISSING", "context.targetingKey is missing"),
        ({"context": 7}, "INVALID_CONTEXT", "context is 7, expected an object"),
        ({"context": {"targetingKey": 7}}, "INVALID_CONTEXT", "context.targetingKey is 7, expected text"),
        (_context(device="fridge"), "INVALID_CONTEXT", "context.device is 'fridge', expected one of mobile"),
        (_context(device={"a": 1}), "INVALID_CONTEXT", "context.device is {'a': 1}, expected text"),
        (_context(headway_value="int"), "INVALID_CONTEXT", "context.headway_value is 'int', expected one of object"),
        (_context(headway_journey_id="x"), "INVALID_CONTEXT", "context.headway_journey_id is 'x', expected a declared"),
    ],
)
def test_bad_requests(client: Client, world: World, is_bulk: bool, body: Any, code: str, details: str) -> None:
    """A 400 in the words of the protocol, and no decision."""
    answer = client.post(ALL if is_bulk else ONE, body)
    told = answer.json()

    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert (told["errorCode"], told.get("key")) == (code, None if is_bulk else HOME)
    assert details in told["errorDetails"]
    assert _n_decisions(world) == 0


def test_who_may_not(client: Client, world: World) -> None:
    """Nobody without a key, or whose key is for something else."""
    page = {"Origin": "https://shop.example.com"}
    publishable = world.key("shop", origins=list(page.values()))

    assert client.post(ONE, _context(), key=None).status_code == 401
    assert client.post(ONE, _context(), key=world.key("desk", "analyst")).status_code == 403
    assert client.post(ALL, _context(), key=publishable, headers=page).status_code == 403
    assert client.post(ONE, _context(), key=None).headers["www-authenticate"].startswith("Bearer")


def test_an_unknown_flag(client: Client) -> None:
    """Named, with what there could be."""
    answer = client.post("/ofrep/v1/evaluate/flags/fax%2Fhome", _context())

    assert (answer.status_code, answer.json()["errorCode"], answer.json()["key"]) == (404, "FLAG_NOT_FOUND", "fax/home")


def test_a_crowd_is_told_when_to_come_back(tmp_path: Path) -> None:
    """By the admission of decisions."""
    kept: list[Any] = []
    world = World(tmp_path, configuration=_configured(), settings=Settings(bootstrap_key=BOOTSTRAP, threads=1))
    with world.client(keep=kept.append) as client:
        pace = kept[0].desk.pace
        while pace.begin_beside(at_most=10_000):
            pass
        answer = client.post(ONE, _context())

    assert (answer.status_code, answer.json()["errorCode"]) == (429, "GENERAL")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_store_that_is_down(tmp_path: Path) -> None:
    """Says that it is not the client's fault, and nothing of its inside."""
    world = World(tmp_path, configuration=_configured())
    with world.client() as client:
        world.records.customer = _down
        answer = client.post(ONE, _context())

    assert (answer.status_code, answer.json()["errorCode"]) == (503, "GENERAL")
    assert "secret" not in answer.text


def _down(*_: object, **__: object) -> Any:
    raise StoreUnavailable("secret")


# ---- what must not happen


def test_nobody_can_tell_a_holdout(tmp_path: Path) -> None:
    """What comes out is what comes out where nothing is worth it."""
    told = []
    for share in ("0.0", "1.0"):
        world = World(tmp_path / share, configuration=_configured(share))
        with world.client() as client:
            if share == "1.0":
                client.post("/v1/events", {"events": [event(hours_ago=80)]})
            one, every = client.post(ONE, _context()), client.post(ALL, _context())
        told.append([_without_ids(one.json()), [_without_ids(each) for each in every.json()["flags"]]])

    assert told[0] == told[1]
    assert told[0][0] == {"key": HOME, "reason": "TARGETING_MATCH", "variant": "no_action", "metadata": 2}


def _without_ids(flag: dict[str, Any]) -> dict[str, Any]:
    return flag | {"metadata": len(flag["metadata"])}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.tuples(st.sampled_from([ONE, ALL]), st.sampled_from(["object", "string", "boolean"])), max_size=8)
)
def test_evaluating_again_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, str]]
) -> None:
    """One decision for each kind of question, the same answer each time, no contact; an exposure then counts once."""
    world = World(tmp_path_factory.mktemp("again"), configuration=_configured())
    with world.client() as client:
        client.post("/v1/events", {"events": [event(hours_ago=80)]})
        first = {path: client.post(path, _context()).content for path in (ONE, ALL)}
        for path, value_type in asked:
            world.now += 1_000_000
            again = client.post(path, _context(headway_value=value_type))
            assert value_type != "object" or again.content == first[path]
        assert _n_decisions(world) == 2
        assert set(_contacts(world)) == {"lease"}

        flag = client.post(ONE, _context()).json()["value"]
        exposure = {
            "type": "exposure",
            "decision_id": flag["decision_id"],
            "treatment_id": flag["treatment_id"],
            "occurred_at": dump_timestamp(NOW),
        }
        for _ in range(2):
            assert client.post("/v1/outcomes", {"outcomes": [exposure]}).json()["rejected"] == 0
            assert _contacts(world).count("confirmed") == 1
        assert client.post(ONE, _context()).content == first[ONE]


@pytest.mark.parametrize("path", [ONE, ALL])
def test_each_source_keeps_its_own_decision(client: Client, world: World, path: str) -> None:
    """A site and an app that ask in turns would else end each other's decision every time."""
    keys = [world.key(source, "caller") for source in ("site", "app")]
    first = [client.post(path, _context(), key=key).content for key in keys]
    for _ in range(3):
        world.now += 1_000_000
        assert [client.post(path, _context(), key=key).content for key in keys] == first

    assert _n_decisions(world) == 2
    assert set(_contacts(world)) == {"lease"}


def test_a_customer_who_objects_is_shown_nothing(client: Client) -> None:
    """At once, though the decision had not expired."""
    assert "value" in client.post(ONE, _context()).json()
    said = {"consent": "all", "state": "objected"}
    client.post("/v1/events", {"events": [event("e-2", kind="consent_changed", channel=None, facts=said, hours_ago=0)]})

    assert client.post(ONE, _context()).json()["variant"] == "no_action"
