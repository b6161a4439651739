"""The HTTP routes over an installation in memory; every answer is checked against the API's own description."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.errors import StoreUnavailable
from features.events import dump_timestamp
from models.configuration import built_in_configuration
from models.records import Contact
from serving.api import events as events_route
from serving.requests import decode_json
from serving.settings import Settings
from tests.decision_records import record
from tests.doors import BOOTSTRAP, HOUR_US, JOURNEY, NOW, Client, World, event


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _consents(*channels: str) -> list[dict[str, Any]]:
    return [
        event(
            f"consent-{channel}",
            hours_ago=72,
            kind="consent_changed",
            channel=None,
            facts={"consent": channel, "state": "granted"},
        )
        for channel in channels
    ]


def _stalled(client: Client, customer_id: str = "c-1") -> None:
    """A customer who applied three days ago, may be contacted, and has not moved since."""
    events = [event("applied", hours_ago=72), *_consents("sms", "email")]
    answer = client.post("/v1/events", {"events": [{**one, "customer_id": customer_id} for one in events]})
    assert answer.json()["accepted"] == 3


# ---- events


def _applied(customer_id: str = "c-1") -> list[dict[str, Any]]:
    events = [event("applied", hours_ago=72), *_consents("sms", "email")]
    return [{**one, "customer_id": customer_id} for one in events]


def test_events_are_decided_on_in_the_same_call(client: Client, world: World) -> None:
    """The decision sees the events that came with it, and the same batch again gives the same one."""
    first = client.post("/v1/events?decide=true", {"events": _applied()}).json()
    again = client.post("/v1/events?decide=true", {"events": _applied()}).json()

    assert (first["accepted"], again["duplicate"]) == (3, 3)
    assert first["decision"]["journey"]["stage"] == "applied"
    assert first["decision"] == again["decision"]
    stored = world.records.decision(first["decision"]["decision_id"])
    assert stored.record.last_event_at > 0


def test_events_without_the_wish_are_not_decided_on(client: Client) -> None:
    """The answer has no field for it."""
    answer = client.post("/v1/events?decide=false", {"events": _applied()}).json()

    assert {"decision", "decision_problem"}.isdisjoint(answer)


def test_a_batch_of_several_customers_is_not_decided_on(client: Client) -> None:
    """Nothing of it is taken in, and the answer names the first other customer."""
    batch = [*_applied("c-1"), *_applied("c-2")]

    refused = client.post("/v1/events?decide=true", {"events": batch})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/events/3/customer_id"
    assert client.post("/v1/events", {"events": _applied("c-1")}).json()["accepted"] == 3


def test_a_decision_that_cannot_be_made_loses_no_event(client: Client) -> None:
    """The events are in, and the problem says what was wrong with the question."""
    answer = client.post("/v1/events?decide=true&channel=fax", {"events": _applied()}).json()

    assert answer["accepted"] == 3
    assert answer["decision_problem"]["errors"][0]["pointer"] == "/channel"
    assert "decision" not in answer


@pytest.mark.parametrize("query", ["", "?decide=true"])
def test_a_batch_is_read_beside_the_event_loop(client: Client, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    """Decisions are made in its thread, and must not wait for megabytes of events to be decoded."""
    threads = []

    def noting(body: bytes) -> object:
        threads.append(threading.current_thread().name)
        return decode_json(body)

    monkeypatch.setattr(events_route, "decode_json", noting)

    assert client.post(f"/v1/events{query}", {"events": _applied()}).status_code == 200
    assert [name.startswith("headway") for name in threads] == [True]


@pytest.mark.parametrize("query", ["decide=maybe", "decide=true&decide=true", "journey_id=x", "wish=1"])
def test_a_bad_wish_is_refused(client: Client, query: str) -> None:
    """With the parameter's name."""
    refused = client.post(f"/v1/events?{query}", {"events": _applied()})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"].startswith("/?")


def test_events_are_counted_by_what_became_of_them(client: Client, world: World) -> None:
    """Accepted + duplicate + rejected is what was sent, with every reason at its index."""
    batch = [event("e-1"), event("e-1"), event("e-2", occurred_at="2026-03-01T09:00:00"), event("e-3", kind="danced")]

    answer = client.post("/v1/events", {"events": batch})

    assert answer.status_code == 200
    body = answer.json()
    assert (body["accepted"], body["duplicate"], body["rejected"]) == (1, 1, 2)
    assert [one["index"] for one in body["rejections"]] == [2, 3]
    assert body["rejections"][0]["errors"] == [
        {
            "pointer": "/events/2/occurred_at",
            "value": "'2026-03-01T09:00:00'",
            "expected": "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z",
        }
    ]
    assert body["rejections"][1]["errors"][0]["pointer"] == "/events/3/kind"
    assert world.log.head() == 1


def test_the_source_of_events_is_the_keys(client: Client, world: World) -> None:
    """Nobody can send events in another's name, and equal ids of two sources are two events."""
    first, second = world.key("web", "caller"), world.key("crm", "caller")

    client.post("/v1/events", {"events": [event()]}, key=first)
    answer = client.post("/v1/events", {"events": [event()]}, key=second)

    assert answer.json()["accepted"] == 1
    assert {logged.event.source for logged in world.log.of_customer("c-1")} == {"web", "crm"}


def test_events_reach_the_next_decision(client: Client) -> None:
    """What was accepted is seen by the next decision."""
    _stalled(client)

    answer = client.post("/v1/decisions", {"customer_id": "c-1"}).json()

    assert answer["journey"]["stage"] == "applied"
    assert answer["features"]["age_seconds"] == pytest.approx(72 * 3600)  # the decision is a microsecond later


def test_a_batch_over_the_limit_of_items_is_refused_whole(tmp_path: Path) -> None:
    """Nothing of it is kept."""
    world = World(tmp_path, settings=Settings(bootstrap_key=BOOTSTRAP, threads=1, max_batch_items=1))
    with world.client() as client:
        answer = client.post("/v1/events", {"events": [event("e-1"), event("e-2")]})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["expected"] == "a list of 1 to 1 items"
    assert world.log.head() == 0


def test_a_feature_store_that_is_down_loses_no_event(tmp_path: Path) -> None:
    """The events are safe in the log, the answer says what is behind, and decisions are degraded, not refused."""

    class Down:
        def read(self, customer_id: str, journey_id: str) -> Any:
            raise StoreUnavailable("down")

        def read_many(self, customer_ids: object, journey_id: str) -> Any:
            raise StoreUnavailable("down")

        def write(self, states: object, profiles: object) -> None:
            raise StoreUnavailable("down")

        def close(self) -> None: ...

    world = World(tmp_path, features=Down())
    with world.client() as client:
        taken = client.post("/v1/events", {"events": [event(hours_ago=72)]}).json()
        decided = client.post("/v1/decisions", {"customer_id": "c-1"}).json()

    assert (taken["accepted"], taken["degraded"]) == (1, ["feature_store_unavailable"])
    assert "feature_store_unavailable" in decided["degraded"]
    assert decided["journey"]["stage"] == "applied"


# ---- decisions


def test_a_stalled_customer_gets_a_ranked_action(client: Client) -> None:
    """Without a model the declared beliefs decide, and the answer says so."""
    _stalled(client)

    answer = client.post("/v1/decisions", {"request_id": "b7c1", "customer_id": "c-1", "journey_id": JOURNEY})

    assert answer.status_code == 200
    body = answer.json()
    assert body["request_id"] == "b7c1"
    assert [one["action_id"] for one in body["selected"]] == [body["ranked_actions"][0]["action_id"]]
    assert body["no_action"] == {"net_value": 0.0, "chosen": False}
    assert body["degraded"] == ["model_missing"]


def test_nothing_to_do_is_an_answer(client: Client) -> None:
    """An unknown customer is no error: the funnel says where every action was dropped."""
    body = client.post("/v1/decisions", {"customer_id": "stranger"}).json()

    assert body["no_action"]["chosen"] is True
    assert body["funnel"]["catalogue"] > 12
    assert body["funnel"]["scored"] == 0


def test_an_objection_is_obeyed_by_the_next_decision(client: Client) -> None:
    """Marketing stops at once; the answer says why, and what else stands against it where it is asked for."""
    _stalled(client)
    before = client.post("/v1/decisions", {"customer_id": "c-1", "mode": "shadow"}).json()
    objection = event(
        "no", hours_ago=0, kind="consent_changed", channel=None, facts={"consent": "marketing", "state": "objected"}
    )
    client.post("/v1/events", {"events": [objection]})

    after = client.post("/v1/decisions", {"customer_id": "c-1", "mode": "shadow", "explain": "stages"}).json()

    assert before["funnel"]["contactable"] > 0
    assert after["funnel"]["contactable"] == 0
    assert after["selected"] == []
    assert {"action_id": "remind_next_step", "stage": "contact_policy", "rule_id": "contact.objection"} in after[
        "dropped"
    ]
    of_offer = {one["rule_id"] for one in after["dropped"] if one["action_id"] == "offer_cashback"}
    assert {"applicability.stage", "suit.arrears", "contact.objection"} <= of_offer


def test_a_no_is_obeyed_by_the_next_decision(client: Client) -> None:
    """An outcome of 0 is a no to the offer that aimed at it; other actions go on, and so does the lead class."""
    facts = {name: False for name in ("arrears_flag", "hardship_flag", "vulnerable_flag", "open_complaint")}
    done = [
        event("applied", hours_ago=72),
        event("verified", hours_ago=60, kind="identity_verified", channel="store", facts={}),
        event("accepted", hours_ago=50, kind="card_offer_accepted", channel="web", facts={}),
        event("activated", hours_ago=40, kind="card_activated", channel="web", facts={}),
        event("profile", hours_ago=30, kind="profile_updated", channel=None, facts=facts),
        *_consents("email"),
    ]
    assert client.post("/v1/events", {"events": done}).json()["accepted"] == len(done)
    asked = {"customer_id": "c-1", "candidates": {"include": ["offer_protection", "survey_experience"]}}
    offered = client.post("/v1/decisions", asked | {"channel": "email", "activate": True}).json()
    wanted = {row["action_id"] for row in offered["ranked_actions"]}
    told = [
        {
            "type": "outcome",
            "decision_id": offered["decision_id"],
            "outcome_id": "protection_14d",
            "value": 0,
            "occurred_at": dump_timestamp(NOW),
        }
    ]
    assert client.post("/v1/outcomes", {"outcomes": told}).json()["accepted"] == 1

    after = client.post("/v1/decisions", asked).json()

    assert "offer_protection" in wanted
    assert offered["selected"][0]["action_id"] == "offer_protection"
    held = [(one["stage"], one["rule_id"]) for one in after["dropped"] if one["action_id"] == "offer_protection"]
    assert ("contact_policy", "hold.said_no") in held
    assert after["ranked_actions"][0]["action_id"] == "survey_experience"
    assert after["journey"]["lead_class"] == "WARM"


def test_the_same_request_gives_the_same_bytes(client: Client, world: World) -> None:
    """A retry later, through the body or the header, gets the very answer that was committed."""
    first = client.post("/v1/decisions", {"customer_id": "c-1", "request_id": "r-1"})
    world.now += HOUR_US

    again = client.post("/v1/decisions", {"customer_id": "c-1"}, headers={"Idempotency-Key": "r-1"})

    assert again.content == first.content


def test_a_request_id_used_for_another_body_is_refused(client: Client) -> None:
    """422, and the type says which kind."""
    client.post("/v1/decisions", {"customer_id": "c-1", "request_id": "r-1"})

    answer = client.post("/v1/decisions", {"customer_id": "c-2", "request_id": "r-1"})

    assert (answer.status_code, answer.json()["type"]) == (422, "/docs/problems/request-id-reused")


def test_two_sources_may_use_the_same_request_id(client: Client, world: World) -> None:
    """Request ids are the caller's own."""
    key = world.key("crm", "caller")
    first = client.post("/v1/decisions", {"customer_id": "c-1", "request_id": "r-1"}).json()

    second = client.post("/v1/decisions", {"customer_id": "c-2", "request_id": "r-1"}, key=key)

    assert second.status_code == 200
    assert second.json()["decision_id"] != first["decision_id"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"channel": "fax"}, "/channel"),
        ({"journey_id": "mortgage"}, "/journey_id"),
        ({"as_of": "2026-03-01T09:30:00"}, "/as_of"),
        ({"as_of": "2026-02-01T09:30:00Z"}, "/as_of"),
        ({"as_of": "2027-02-01T09:30:00Z", "mode": "dry_run"}, "/as_of"),
        ({"candidates": {"include": ["nudge_documents", "free_car"]}}, "/candidates/include/1"),
        ({"max_actions": 10**30}, "/max_actions"),
        ({"customer_id": "a\0b"}, "/customer_id"),
        ({"context": {"device": "fridge"}}, "/context/device"),
        ({"context": {"device": 2}}, "/context/device"),
        ({"surprise": 1}, "/surprise"),
    ],
)
def test_an_invalid_field_is_named(client: Client, changes: dict[str, Any], pointer: str) -> None:
    """422 with the pointer, the value and what was expected."""
    answer = client.post("/v1/decisions", {"customer_id": "c-1"} | changes)

    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert error["expected"]


def test_every_unknown_name_is_named_at_once(client: Client) -> None:
    """A journey that does not exist hides no other bad field."""
    asked = {"customer_id": "c-1", "journey_id": "mortgage", "channel": "fax", "as_of": "2026-02-01T09:30:00Z"}

    answer = client.post("/v1/decisions", asked)

    assert [one["pointer"] for one in answer.json()["errors"]] == ["/journey_id", "/channel", "/as_of"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"customer_id": NaN}', b'"\xff"', b"[" * 100_000])
def test_malformed_json_is_told_from_bad_fields(client: Client, body: bytes) -> None:
    """400, and the detail says where reading stopped."""
    answer = client.post("/v1/decisions", body)

    assert (answer.status_code, answer.json()["type"]) == (400, "/docs/problems/malformed-body")


def test_an_oversized_body_is_refused(client: Client) -> None:
    """413 before anything is parsed."""
    answer = client.post("/v1/decisions", b'{"customer_id": "' + b"x" * (1 << 20) + b'"}')

    assert (answer.status_code, answer.json()["type"]) == (413, "/docs/problems/body-too-large")


def test_a_gzip_body_is_read_within_the_same_bound(client: Client) -> None:
    """Compression saves bytes and buys no room."""
    small, bomb = gzip.compress(b'{"customer_id": "c-1"}'), gzip.compress(b" " * (2 << 20))

    read = client.post("/v1/decisions", small, headers={"Content-Encoding": "gzip"})
    refused = client.post("/v1/decisions", bomb, headers={"Content-Encoding": "gzip"})

    assert (read.status_code, refused.status_code) == (200, 413)


def test_an_unknown_customer_is_404_only_where_asked_for(client: Client) -> None:
    """``require_known`` makes it a problem."""
    answer = client.post("/v1/decisions", {"customer_id": "stranger", "require_known": True})

    assert (answer.status_code, answer.json()["type"]) == (404, "/docs/problems/not-found")


def test_a_query_parameter_is_not_silently_ignored(client: Client) -> None:
    """A wish that is not read is refused."""
    answer = client.post("/v1/outcomes?decide=true", {"outcomes": []})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["expected"] == "no query parameter"


def test_a_record_store_that_is_down_is_503(tmp_path: Path) -> None:
    """No decision leaves that was not recorded; the caller is told when to come back, and nothing of the inside."""

    class Down:
        def newest_as_of(self) -> int:
            return 0

        def decision_of_request(self, source: str, request_id: str) -> None:
            raise StoreUnavailable("/secret/path/records.db is gone")

        def set_consents(self, *_: object, **__: object) -> None: ...

    with World(tmp_path, records=Down()).client() as client:
        answer = client.post("/v1/decisions", {"customer_id": "c-1", "request_id": "r-1"})

    assert (answer.status_code, answer.headers["retry-after"] in ("1", "2", "3")) == (503, True)
    assert "secret" not in answer.text


# ---- reading a decision back


def test_a_decision_is_read_back_with_its_record(client: Client) -> None:
    """The answer as it was given, every candidate with its stage and probability, and the features by name."""
    _stalled(client)
    answer = client.post("/v1/decisions", {"customer_id": "c-1", "request_id": "r-1"}).json()

    view = client.get(f"/v1/decisions/{answer['decision_id']}").json()

    assert view["answer"] == answer
    record = view["record"]
    assert (record["source"], record["request"]["customer_id"]) == ("bootstrap", "c-1")
    assert record["candidates"][-1]["action_id"] == "no_action"
    assert len(record["candidates"]) > 12
    assert sum(one["selection_probability"] for one in record["candidates"]) == pytest.approx(1)
    assert record["features"]["hours_since_event"] == pytest.approx(72)
    assert record["features"]["nps_last"] is None


def test_a_decision_of_another_source_looks_like_none(client: Client, world: World) -> None:
    """Callers read their own source's decisions; the difference between foreign and unknown is not told."""
    decision_id = client.post("/v1/decisions", {"customer_id": "c-1"}).json()["decision_id"]
    other = world.key("crm", "caller")

    foreign = client.get(f"/v1/decisions/{decision_id}", key=other)
    unknown = client.get("/v1/decisions/d-00000000000000000000000000", key=other)

    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.json()["detail"].replace(decision_id, "X") == unknown.json()["detail"].replace(
        "d-00000000000000000000000000", "X"
    )


def test_an_analyst_reads_every_decision_and_makes_none(client: Client, world: World) -> None:
    """Roles bound what a key may do."""
    decision_id = client.post("/v1/decisions", {"customer_id": "c-1"}).json()["decision_id"]
    analyst = world.key("bi", "analyst")

    read = client.get(f"/v1/decisions/{decision_id}", key=analyst)
    asked = client.post("/v1/decisions", {"customer_id": "c-1"}, key=analyst)

    assert (read.status_code, asked.status_code) == (200, 403)
    assert "expected one of admin, agent, caller, marketer" in asked.json()["detail"]


@pytest.mark.parametrize(
    ("context", "seen"),
    [({"device": "tablet", "shelf": 7}, 1.0), ({"device": None}, None), ({"shelf": True}, None), ({}, None)],
)
def test_models_see_the_facts_of_the_moment(client: Client, context: dict[str, Any], seen: float | None) -> None:
    """What the taxonomy declares of a request is in its vector; other facts are allowed, and only rules see them."""
    _stalled(client)
    decision_id = client.post("/v1/decisions", {"customer_id": "c-1", "context": context}).json()["decision_id"]

    record = client.get(f"/v1/decisions/{decision_id}").json()["record"]

    assert record["features"]["context_device"] == seen


def test_an_imported_decision_is_read_back_without_an_answer(client: Client, world: World) -> None:
    """It was answered elsewhere: there is a record, and nothing is made up."""
    world.records.append_imported([record(7, mode="imported", request=b"", source="history")])

    view = client.get("/v1/decisions/d-000007").json()

    assert view["answer"] is None
    assert (view["record"]["request"], view["record"]["features"]) == (None, None)
    assert view["record"]["vector"] == [1.0, None, 0.0]


# ---- outcomes


def test_outcomes_return_by_decision_id(client: Client, world: World) -> None:
    """Exposure and outcome become events of the customer; sent again they are duplicates."""
    _stalled(client)
    decision_id = client.post("/v1/decisions", {"customer_id": "c-1"}).json()["decision_id"]
    common = {"decision_id": decision_id, "occurred_at": dump_timestamp(NOW)}
    batch = {
        "outcomes": [
            {"type": "exposure", **common},
            {"type": "outcome", "outcome_id": "progress_7d", "value": 1, **common},
            {"type": "outcome", "outcome_id": "progress_7d", "value": 1, **common, "decision_id": "d-none"},
        ]
    }

    first = client.post("/v1/outcomes", batch).json()
    again = client.post("/v1/outcomes", batch).json()

    assert (first["accepted"], first["duplicate"], first["rejected"]) == (2, 0, 1)
    assert first["rejections"][0]["errors"][0]["pointer"] == "/outcomes/2/decision_id"
    assert (again["accepted"], again["duplicate"], again["rejected"]) == (0, 2, 1)
    kinds = [logged.event.kind for logged in world.log.of_customer("c-1")]
    assert kinds[-2:] == ["action_exposed", "outcome_observed"]


def test_a_refused_exposure_tells_nothing_of_another_sources_decision(client: Client, world: World) -> None:
    """Its own source is told what was selected; another one could read it off the refusal."""
    _stalled(client)
    decided = client.post("/v1/decisions", {"customer_id": "c-1"}).json()
    exposure = {
        **{"type": "exposure", "decision_id": decided["decision_id"], "treatment_id": "free_car"},
        "occurred_at": dump_timestamp(NOW),
    }

    own, foreign = (
        client.post("/v1/outcomes", {"outcomes": [exposure]}, key=key).json()["rejections"][0]["errors"][0]["expected"]
        for key in (BOOTSTRAP, world.key("mailer", "marketer"))
    )

    assert own.startswith("a treatment of the decision; selected were: ")
    assert foreign == "a treatment of the decision"


def test_an_exposure_confirms_a_lease(client: Client, world: World) -> None:
    """A decision at render time counts no contact until its exposure comes back."""
    _stalled(client)
    asked = {"customer_id": "c-1", "activate": False, "send_id": "camp-1/c-1"}
    decision_id = client.post("/v1/decisions", asked).json()["decision_id"]
    leased = world.records.customer("c-1", since=0, now=NOW).contacts

    exposure = {"type": "exposure", "decision_id": decision_id, "occurred_at": dump_timestamp(NOW)}
    client.post("/v1/outcomes", {"outcomes": [exposure]})

    confirmed: tuple[Contact, ...] = world.records.customer("c-1", since=0, now=NOW).contacts
    assert [one.status for one in leased] == ["lease"]
    assert [one.status for one in confirmed] == ["confirmed"]


def test_an_exposure_sent_as_an_event_confirms_a_lease_too(client: Client, world: World) -> None:
    """Whoever tells of it, and over whichever door, a contact counts."""
    _stalled(client)
    asked = {"customer_id": "c-1", "activate": False, "send_id": "camp-1/c-1"}
    answer = client.post("/v1/decisions", asked).json()
    (leased,) = world.records.customer("c-1", since=0, now=NOW).contacts

    facts = {"decision_id": answer["decision_id"], "action_id": answer["selected"][0]["action_id"]}
    shown = event("e-9", kind="action_exposed", channel=None, hours_ago=0, facts=facts)
    client.post("/v1/events", {"events": [shown]})

    (confirmed,) = world.records.customer("c-1", since=0, now=NOW).contacts
    assert (leased.status, confirmed.status, confirmed.channel) == ("lease", "confirmed", leased.channel)


# ---- keys, health, metrics, pages


@pytest.mark.parametrize("key", [None, "hw_wrong_wrong_wrong_wrong"])
def test_every_call_needs_a_key(client: Client, key: str | None) -> None:
    """401 everywhere, with the scheme to use."""
    answers = [
        client.post("/v1/events", {"events": [event()]}, key=key),
        client.post("/v1/decisions", {"customer_id": "c-1"}, key=key),
        client.get("/v1/decisions/d-1", key=key),
        client.post("/v1/outcomes", {"outcomes": [{}]}, key=key),
        client.get("/metrics", key=key),
    ]

    assert [answer.status_code for answer in answers] == [401] * 5
    assert answers[0].headers["www-authenticate"] == 'Bearer realm="headway"'


def test_health_and_pages_need_no_key(client: Client) -> None:
    """They tell nothing of any customer."""
    paths = ["/livez", "/readyz", "/openapi.json", "/docs", "/docs/assets/start.js", "/docs/problems/not-found"]

    assert [client.get(path, key=None).status_code for path in paths] == [200] * len(paths)


def test_readiness_tells_what_is_loaded(client: Client) -> None:
    """A journey without a bundle is served, degraded, and it shows."""
    readiness = client.get("/readyz", key=None).json()

    assert (readiness["ready"], readiness["bundles"]) == (True, {JOURNEY: None})
    assert (readiness["configuration"], readiness["configuration_refused"]) == (
        built_in_configuration().version,
        False,
    )


def test_a_service_whose_stores_are_down_is_not_ready(tmp_path: Path) -> None:
    """Traffic should go elsewhere."""

    class Down:
        set_consents = None

        def newest_as_of(self) -> int:
            return 0

        def decision(self, _: str) -> None:
            raise StoreUnavailable("down")

    with World(tmp_path, records=Down()).client() as client:
        answer = client.get("/readyz", key=None)

    assert (answer.status_code, answer.json()["ready"]) == (503, False)


def test_metrics_count_what_happened(client: Client) -> None:
    """Events by result, decisions by choice, degradation by reason, requests by route and status."""
    _stalled(client)
    client.post("/v1/events", {"events": [event("applied", hours_ago=72), {"no": "event"}]})
    client.post("/v1/decisions", {"customer_id": "c-1"})
    client.post("/v1/decisions", {"customer_id": ""})

    lines = client.get("/metrics").text.splitlines()

    assert 'headway_events_total{result="accepted"} 3.0' in lines
    assert 'headway_events_total{result="duplicate"} 1.0' in lines
    assert 'headway_events_total{result="rejected"} 1.0' in lines
    assert 'headway_decisions_total{arm="champion",chosen="action"} 1.0' in lines
    assert 'headway_degraded_decisions_total{reason="model_missing"} 1.0' in lines
    assert 'headway_request_seconds_count{route="/v1/decisions",status="200"} 1.0' in lines
    assert 'headway_request_seconds_count{route="/v1/decisions",status="422"} 1.0' in lines


def test_paths_with_ids_make_one_series(client: Client) -> None:
    """An id is never a label."""
    client.get("/v1/decisions/d-1")
    client.get("/v1/decisions/d-2")

    text = client.get("/metrics").text

    assert 'headway_request_seconds_count{route="/v1/decisions/{decision_id}",status="404"} 2.0' in text


def test_an_unknown_path_or_method_is_a_problem_too(client: Client) -> None:
    """Nothing but problem details leaves."""
    path, method = client.get("/v1/nothing"), client.other("DELETE", "/v1/events")

    assert (path.status_code, path.json()["type"]) == (404, "/docs/problems/not-found")
    assert (method.status_code, method.json()["type"]) == (405, "/docs/problems/method-not-allowed")
    assert "POST" in method.headers["allow"]
    assert {one.headers["content-type"] for one in (path, method)} == {"application/problem+json"}


def test_an_unforeseen_error_tells_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """500 without a trace; the value that broke it appears nowhere."""

    class Broken:
        def newest_as_of(self) -> int:
            return 0

        def decision(self, decision_id: str) -> None:
            raise ZeroDivisionError("secret")

        set_consents = None

    with World(tmp_path, records=Broken()).client() as client:
        answer = client.get("/v1/decisions/d-1")

    assert (answer.status_code, answer.json()["type"]) == (500, "/docs/problems/internal-error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_pages_load_nothing_from_elsewhere(client: Client) -> None:
    """Everything of the pages comes from the service, and browsers are told to load nothing else."""
    page = client.get("/docs", key=None)

    assert "//" not in page.text.replace("<!DOCTYPE html>", "")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert client.get("/docs/assets/swagger-ui-bundle.js", key=None).status_code == 200
    assert client.get("/docs/assets/..%2Fswagger-ui-bundle.js", key=None).status_code == 404


def test_answers_are_json_without_surprises(client: Client) -> None:
    """No NaN ever leaves: a strict parser reads every answer."""
    _stalled(client)
    decision_id = client.post("/v1/decisions", {"customer_id": "c-1"}).json()["decision_id"]

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    view = client.get(f"/v1/decisions/{decision_id}")

    assert json.loads(view.content, parse_constant=refuse)["decision_id"] == decision_id
