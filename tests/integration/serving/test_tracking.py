"""The calls for tracking SDKs over an installation in memory; every answer is checked against the API's description."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.events import dump_timestamp
from features.tracking_rules import Tracking
from features.yaml_files import parse_yaml
from serving.settings import Settings
from serving.tracking_shapes import MAX_BATCH_BYTES, MAX_CALL_BYTES, MAX_LISTED_DROPS
from tests.doors import BOOTSTRAP, HOUR_US, NOW, Client, World, event

GUIDES = Path(__file__).parents[3] / "docs"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def _basic(user: str, password: str = "") -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def _submitted(message: str = "m-1", **changes: Any) -> dict[str, Any]:
    fields = {
        "type": "track",
        "messageId": message,
        "userId": "c-1",
        "event": "Application Submitted",
        "properties": {"product": "classic"},
        "timestamp": dump_timestamp(NOW - 72 * HOUR_US),
        "channel": "browser",
    }
    return fields | changes


def _counts(answer: dict[str, Any]) -> tuple[int, ...]:
    return tuple(answer[name] for name in ("accepted", "duplicate", "rejected", "dropped"))


def test_a_batch_is_taken_under_the_keys_source(client: Client, world: World) -> None:
    """With the key as the user of Basic, and as bearer; the write key in the body says nothing."""
    key = world.key("website", "caller")
    body = {"batch": [_submitted()], "sentAt": dump_timestamp(NOW), "writeKey": "somebody-elses"}

    first = client.post("/v1/batch", body, key=None, headers=_basic(key))
    again = client.post("/v1/batch", body, key=key)

    assert first.json() == {
        "success": True,
        "accepted": 1,
        "duplicate": 0,
        "rejected": 0,
        "dropped": 0,
        "rejections": [],
        "drops_by_reason": {},
        "drops": [],
        "late": [],
        "degraded": [],
    }
    assert _counts(again.json()) == (0, 1, 0, 0)
    (logged,) = world.log.of_customer("c-1")
    assert (logged.event.source, logged.event.kind, logged.event.channel) == ("website", "application_submitted", "web")


def test_what_was_tracked_is_decided_on(client: Client) -> None:
    """An application and a consent out of an SDK; then what came back for the decision, with its name."""
    consent = _submitted("m-2", event="Consent Changed", properties={"consent": "email", "state": "granted"})
    client.post("/v1/batch", {"batch": [_submitted(), consent]})
    decision = client.post("/v1/decisions", {"customer_id": "c-1"}).json()
    shown = {"decision_id": decision["decision_id"]}
    calls = [
        _submitted("m-3", event="Action Exposed", properties=shown, timestamp=dump_timestamp(NOW + 2)),
        _submitted("m-4", event="Progress 7d", properties=shown, timestamp=dump_timestamp(NOW + 3)),
    ]

    answer = client.post("/v1/batch", {"batch": calls}).json()

    assert decision["journey"]["stage"] == "applied"
    assert len(decision["selected"]) == 1
    assert _counts(answer) == (2, 0, 0, 0)
    stored = client.get(f"/v1/decisions/{decision['decision_id']}").json()
    assert [(one["outcome_id"], one["status"]) for one in stored["outcomes"] if one["outcome_id"] == "progress_7d"] == [
        ("progress_7d", "yes")
    ]


def test_each_call_is_counted_and_each_drop_listed(client: Client) -> None:
    """With pointers into the body, up to a hundred."""
    calls = [
        _submitted("a", properties={"product": "classic", "utm/source": "x"}),
        _submitted("b", event="Danced"),
        _submitted("c", properties={}),
        _submitted("d", integrations={"All": False}),
        {"type": "page", "messageId": "e", "anonymousId": "cookie", "properties": {str(n): n for n in range(200)}},
    ]

    answer = client.post("/v1/batch", {"batch": calls}).json()

    assert _counts(answer) == (1, 0, 2, 2)
    assert answer["rejections"] == [
        {
            "index": 2,
            "errors": [
                {"pointer": "/batch/2/properties/product", "value": "", "expected": "a value: the fact is required"}
            ],
        },
        {
            "index": 4,
            "errors": [
                {"pointer": "/batch/4/properties/page", "value": "", "expected": "a value: the fact is required"}
            ],
        },
    ]
    assert answer["drops_by_reason"] == {"not_declared": 201, "unknown_event": 1, "sender_wish": 1}
    assert answer["drops"][:3] == [
        {"index": 0, "pointer": "/batch/0/properties/utm~1source", "reason": "not_declared"},
        {"index": 1, "pointer": "/batch/1/event", "reason": "unknown_event"},
        {"index": 3, "pointer": "/batch/3/integrations", "reason": "sender_wish"},
    ]
    assert len(answer["drops"]) == MAX_LISTED_DROPS


def test_what_becomes_of_calls_is_measured(client: Client) -> None:
    """By result and reason; never by a sender's names."""
    client.post("/v1/batch", {"batch": [_submitted(), _submitted("b", event="Danced")]})

    told = client.get("/metrics").text

    assert 'headway_tracking_calls_total{result="accepted"} 1.0' in told
    assert 'headway_tracking_calls_total{result="dropped"} 1.0' in told
    assert 'headway_tracking_drops_total{reason="unknown_event"} 1.0' in told
    assert "Danced" not in told


@pytest.mark.parametrize(
    ("name", "call", "kinds"),
    [
        ("track", {"event": "Card Activated"}, ["card_activated"]),
        ("identify", {"traits": {"region": "north"}, "anonymousId": "x"}, ["identity_linked", "profile_updated"]),
        ("page", {"name": "Fees"}, ["page_viewed"]),
        ("screen", {"name": "Home"}, []),
        ("group", {"groupId": "g-1"}, []),
        ("alias", {"previousId": "x"}, ["identity_linked"]),
    ],
)
def test_single_calls_need_no_type(
    client: Client, world: World, name: str, call: dict[str, Any], kinds: list[str]
) -> None:
    """The path says it; the same again changes nothing."""
    body = {"userId": "c-1", "messageId": "m-1", **call}

    first, again = (client.post(f"/v1/{name}", body, key=None, headers=_basic(BOOTSTRAP)).json() for _ in range(2))

    kept, dropped = bool(kinds), not kinds
    assert (_counts(first), _counts(again)) == ((kept, 0, 0, dropped), (0, kept, 0, dropped))
    assert [logged.event.kind for page in world.log.read() for logged in page] == kinds


def test_a_single_call_that_cannot_be_is_refused(client: Client, world: World) -> None:
    """By field, with what the SDKs look for."""
    refused = client.post("/v1/track", {"event": "Application Submitted", "messageId": "m-1"})
    incomplete = client.post("/v1/track", {"event": "Application Submitted", "userId": "c-1"})

    assert (refused.status_code, incomplete.status_code) == (422, 422)
    assert [one["pointer"] for one in refused.json()["errors"]] == ["/userId"]
    assert [one["pointer"] for one in incomplete.json()["errors"]] == ["/properties/product"]
    assert (refused.json()["code"], refused.json()["message"]) == ("invalid-input", refused.json()["detail"])
    assert world.log.head() == 0


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b"{", 400, None),
        (b"[]", 422, ""),
        (b"{}", 422, "/batch"),
        (b'{"batch": []}', 422, "/batch"),
        (b'{"batch": {}}', 422, "/batch"),
        (b'{"batch": [{}], "context": 3}', 422, "/context"),
        (b'{"batch": [{}], "integrations": []}', 422, "/integrations"),
        (b" " * (MAX_BATCH_BYTES + 1), 413, None),
    ],
)
def test_a_body_that_is_no_batch_is_a_problem(client: Client, body: bytes, status: int, pointer: str | None) -> None:
    """With the members that the SDKs look for, so that they do not take it for a broken connection."""
    answer = client.post("/v1/batch", body)

    told = answer.json()
    assert answer.status_code == status
    assert told["code"] == told["type"].rpartition("/")[2]
    assert told["message"] == told["detail"]
    assert [one["pointer"] for one in told["errors"]] == ([] if pointer is None else [pointer])


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/identify"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic ???"},
        {"Authorization": "Basic /w=="},
        _basic(""),
        _basic("hw_00000000_0"),
        _basic(BOOTSTRAP, "password"),
        {"Authorization": "Basic " + b64encode(BOOTSTRAP.encode()).decode()},
        {"Authorization": f"Digest {BOOTSTRAP}"},
    ],
)
def test_without_a_valid_key_nothing_is_read(client: Client, path: str, headers: dict[str, str]) -> None:
    """A problem as everywhere, with what the SDKs look for."""
    refused = client.post(path, b"{", key=None, headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_basic_opens_no_other_door(client: Client) -> None:
    """Elsewhere keys come as bearers only."""
    assert client.post("/v1/events", {"events": [event()]}, key=None, headers=_basic(BOOTSTRAP)).status_code == 401


def test_a_key_without_the_role_is_refused(client: Client, world: World) -> None:
    """As everywhere."""
    refused = client.post("/v1/batch", {"batch": [_submitted()]}, key=world.key("reports", "analyst"))

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_limits_hold_after_decompression(client: Client, world: World) -> None:
    """A batch that is too large is refused whole, a call by itself."""
    large = _submitted("large", properties={"product": "x" * MAX_CALL_BYTES})
    packed = {"Content-Encoding": "gzip"}

    taken = client.post(
        "/v1/batch", gzip.compress(json.dumps({"batch": [large, _submitted()]}).encode()), headers=packed
    )
    refused = client.post("/v1/batch", gzip.compress(b" " * MAX_BATCH_BYTES + b"{}"), headers=packed)
    single = client.post("/v1/track", large)

    assert _counts(taken.json()) == (1, 0, 1, 0)
    assert taken.json()["rejections"][0]["errors"][0]["pointer"] == "/batch/0"
    assert (refused.status_code, single.status_code) == (413, 413)
    assert world.log.head() == 1


def test_a_batch_of_too_many_calls_is_refused_whole(tmp_path: Path) -> None:
    """Nothing of it is kept."""
    world = World(tmp_path, settings=Settings(bootstrap_key=BOOTSTRAP, threads=1, max_batch_items=1))
    with world.client() as client:
        refused = client.post("/v1/batch", {"batch": [_submitted("a"), _submitted("b")]})

    assert (refused.status_code, refused.json()["errors"][0]["expected"]) == (422, "a list of 1 to 1 items")
    assert world.log.head() == 0


def test_a_wish_in_the_query_is_refused(client: Client) -> None:
    """It would be silently ignored."""
    assert client.post("/v1/batch?debug=1", {"batch": [_submitted()]}).status_code == 422


def test_the_log_of_the_service_holds_no_names_of_senders(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Only counts."""
    with caplog.at_level("INFO", logger="headway"):
        client.post("/v1/batch", {"batch": [_submitted("b", event="Danced", userId="person-77")]})

    (entry,) = [one for one in caplog.records if one.getMessage() == "calls_taken"]
    assert entry.fields == {"accepted": 0, "duplicate": 0, "rejected": 0, "dropped": 1}  # type: ignore[attr-defined]


def test_the_guides_example_is_answered_as_it_says(client: Client) -> None:
    """The batch in the guide for callers, and the answer below it."""
    guide = (GUIDES / "how-to" / "caller.md").read_text(encoding="utf-8")
    sent = re.search(r"/v1/batch -u .*? -d '(\{.*?\})'\n", guide, re.DOTALL)
    answered = re.search(r'```json\n(\{"success": true.*?)```', guide, re.DOTALL)
    assert sent is not None
    assert answered is not None

    answer = client.post("/v1/batch", json.loads(sent[1])).json()

    assert answer == json.loads(answered[1])


def test_the_guides_section_is_one_that_can_be_written() -> None:
    """The example of `tracking` in the reference of the configuration."""
    page = (GUIDES / "reference" / "configuration.md").read_text(encoding="utf-8")
    section = re.search(r"```yaml\n(tracking:\n.*?)```", page, re.DOTALL)
    assert section is not None

    tracking = Tracking.model_validate(parse_yaml(section[1], file="taxonomy.yaml").data["tracking"])  # type: ignore[index]

    assert set(Tracking.model_fields) - tracking.model_fields_set == {"app_channel"}
