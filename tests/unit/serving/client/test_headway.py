"""What the client sends, what it makes of answers, and when it asks again: against a network that the test answers."""

from __future__ import annotations

import gzip
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, get_type_hints
from urllib.parse import unquote

import httpx
import pytest

from features.errors import InvalidInput
from serving.client.batches import MOST_BYTES, MOST_ITEMS
from serving.client.failures import CallFailed, NoAnswer, Problem, UnreadableAnswer
from serving.client.headway import Headway
from serving.client.options import DecisionFilters, DecisionOptions
from serving.client.patience import Patience
from serving.client.sending import Surroundings
from serving.problems import IN_FLIGHT, KEY_LIMIT, PROBLEM_TYPES, UNAVAILABLE, ProblemType
from serving.schemas import DecisionRequest, EventDocument, ExposureDocument, LinkRequest
from tests.doors import NOW, World

KEY = "hw_secret_0123456789"
CUSTOMER = "c-secret"
URL = "http://headway.test/behind"
EVENT = EventDocument(event_id="e-1", customer_id="c-1", kind="k", occurred_at="2026-03-01T09:30:00Z")
NOTHING = {"accepted": 0, "duplicate": 0, "rejected": 0, "rejections": [], "degraded": []}

Answer = httpx.Response | Exception


@dataclass
class Network:
    """Answers one after the other, and a clock that only waiting and slow answers move."""

    answers: list[Answer]
    asked: list[httpx.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    now: float = 1_000.0
    attempt_takes: float = 0.0

    def client(self, **patience: float) -> Headway:
        """A client of this network."""
        surroundings = Surroundings(
            clock=lambda: self.now,
            sleep=self._wait,
            chance=lambda: 0.5,
            new_id=lambda: f"new-{len(self.asked)}",
            transport=httpx.MockTransport(self._answer),
        )
        return Headway(URL, KEY, patience=Patience(**patience), surroundings=surroundings)

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.bodies.append(request.content)
        self.now += self.attempt_takes
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _problem(kind: ProblemType, **headers: str) -> httpx.Response:
    body = {"type": kind.path, "title": kind.title, "status": kind.status, "detail": "so it is"}
    return httpx.Response(kind.status, json=body, headers={"content-type": "application/problem+json", **headers})


def _taken(**changes: Any) -> httpx.Response:
    return httpx.Response(200, json=NOTHING | changes)


AGAIN = ("in-flight", "too-many-requests", "key-limit-reached", "internal-error", "unavailable")


@pytest.mark.parametrize("kind", PROBLEM_TYPES, ids=lambda kind: kind.slug)
def test_only_what_asks_for_patience_is_asked_again(kind: ProblemType) -> None:
    """The very same bytes; every other refusal is raised at once."""
    network = Network([_problem(kind), _taken(accepted=1)])

    if kind.slug in AGAIN:
        assert network.client().send_events([EVENT]).accepted == 1
        assert network.bodies[0] == network.bodies[1]
    else:
        with pytest.raises(Problem) as caught:
            network.client().send_events([EVENT])
        assert (caught.value.type, caught.value.status, caught.value.attempts) == (kind.path, kind.status, 1)
    assert len(network.asked) == (2 if kind.slug in AGAIN else 1)


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ConnectError, httpx.RemoteProtocolError, httpx.WriteError])
def test_no_answer_is_asked_again_with_the_same_bytes(error: type[httpx.TransportError]) -> None:
    """Time-outs and connections that break; a request id that was made is the same in both."""
    network = Network([error("cut"), error("cut"), _problem(UNAVAILABLE), httpx.Response(200, content=b"{}")])

    with pytest.raises(UnreadableAnswer):
        network.client().decide("c-1")

    assert len(set(network.bodies)) == 1
    assert json.loads(network.bodies[0]) == {"request_id": "new-0", "customer_id": "c-1"}
    assert len(network.asked) == 4


def test_retry_after_is_obeyed() -> None:
    """Never sooner than the service asked for; without it chance takes a part of the wait."""
    network = Network([_problem(KEY_LIMIT, **{"Retry-After": "7"}), _problem(IN_FLIGHT), _taken()])

    network.client(first_wait_seconds=0.4).send_events([EVENT])

    assert network.waits == [7.0, 0.4]


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    """What the service said last is raised at once, with how often it was asked."""
    network = Network([_problem(UNAVAILABLE), _problem(UNAVAILABLE, **{"Retry-After": "60"})])

    with pytest.raises(Problem) as caught:
        network.client(deadline_seconds=30).send_events([EVENT])

    assert (caught.value.status, caught.value.retry_after_seconds, caught.value.attempts) == (503, 60.0, 2)
    assert network.now < 1_030.0


@pytest.mark.parametrize(
    "failing", [httpx.ConnectTimeout("late"), _problem(UNAVAILABLE)], ids=["silent", "unavailable"]
)
def test_all_attempts_end_by_the_deadline(failing: Answer) -> None:
    """However many there were."""
    network = Network([failing], attempt_takes=0.9)

    with pytest.raises(CallFailed) as caught:
        network.client(deadline_seconds=10, attempt_seconds=1).send_events([EVENT])

    assert caught.value.attempts == len(network.asked) > 3
    assert network.now <= 1_010.0 + 1.0


def test_no_phase_of_an_attempt_gets_more_than_what_is_left() -> None:
    """Of the attempt's time, and of the call's."""
    network = Network([httpx.ReadTimeout("late")], attempt_takes=4.0)

    with pytest.raises(NoAnswer):
        network.client(deadline_seconds=10, attempt_seconds=5, first_wait_seconds=1).send_events([EVENT])

    timeouts = [set(one.extensions["timeout"].values()) for one in network.asked]
    assert all(len(one) == 1 for one in timeouts)
    assert network.asked[0].extensions["timeout"]["read"] <= 5.0


class _Trickle(httpx.SyncByteStream):
    def __init__(self, network: Network) -> None:
        self._network = network

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._network.now += 1.0
            yield b" "


def test_an_answer_that_never_ends_is_given_up() -> None:
    """A server that sends a byte now and then does not hold its caller past the deadline."""
    network = Network([])
    network.answers = [httpx.Response(200, stream=_Trickle(network))]

    with pytest.raises(NoAnswer, match="had not come in full"):
        network.client(deadline_seconds=20, attempt_seconds=50).send_events([EVENT])

    assert network.now <= 1_021.0


def test_what_no_headway_answered_is_a_problem_without_a_type() -> None:
    """A proxy's page, a redirect: `about:blank`, as RFC 9457 has it."""
    for status, title in ((404, "Not Found"), (302, "Found"), (599, "Not a success")):
        network = Network([httpx.Response(status, text="<html>")])

        with pytest.raises(Problem) as caught:
            network.client().decision("d-1")

        assert (caught.value.type, caught.value.status, caught.value.title) == ("about:blank", status, title)


def test_bad_fields_are_told() -> None:
    """By pointer, in the message too."""
    errors = [{"pointer": "/events/0/kind", "value": "'k'", "expected": "a kind of the taxonomy"}]
    body = {"type": "/docs/problems/invalid-input", "title": "T", "status": 422, "detail": "D", "errors": errors}

    with pytest.raises(Problem) as caught:
        Network([httpx.Response(422, json=body)]).client().send_events([EVENT])

    assert [one.pointer for one in caught.value.errors] == ["/events/0/kind"]
    assert "/events/0/kind: expected a kind of the taxonomy" in str(caught.value)


def test_the_key_and_the_customer_are_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    """Not in the repr, in an exception with its causes, or in any log of any level but the address."""
    network = Network([httpx.ConnectError("cut")])
    client = network.client(deadline_seconds=0.01)

    with caplog.at_level(logging.DEBUG), pytest.raises(NoAnswer) as caught:
        client.context(CUSTOMER)

    told = "".join(traceback.format_exception(caught.value)) + repr(client) + repr(vars(caught.value)) + caplog.text
    assert (KEY in told, CUSTOMER in told) == (False, False)
    assert repr(client) == f"Headway({URL!r})"
    assert network.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("url", "key", "path"),
    [
        ("headway.test", KEY, "url"),
        ("ftp://headway.test", KEY, "url"),
        ("http://user:pass1@headway.test", KEY, "url"),
        ("http://headway.test?key=1", KEY, "url"),
        ("http://h:x", KEY, "url"),
        ("http://headway.test", "", "key"),
        ("http://headway.test", "hw_a b", "key"),
        ("http://headway.test", "hw_a\r\nX: y", "key"),
    ],
)
def test_what_cannot_be_called_is_refused(url: str, key: str, path: str) -> None:
    """At once, and without telling the secret that may be in it."""
    with pytest.raises(InvalidInput) as caught:
        Headway(url, key)

    assert [one.path for one in caught.value.problems] == [path]
    assert "pass1" not in str(caught.value)
    assert key == "" or key not in str(caught.value)


def test_paths_and_parameters_are_quoted() -> None:
    """Whatever an id looks like, under the path that a proxy puts before the service."""
    network = Network([httpx.Response(404, text="")])

    with pytest.raises(Problem):
        network.client().context("a/b?c d", channel="e&f")

    assert network.asked[0].url.raw_path == b"/behind/v1/customers/a%2Fb%3Fc%20d/context?channel=e%26f"


@pytest.mark.parametrize("customer_id", [".", "..", "../../metrics", "a.b"])
def test_no_id_leads_to_another_call(customer_id: str) -> None:
    """It stays one step of the path, and arrives as it was given."""
    network = Network([httpx.Response(404, text="")])

    with pytest.raises(Problem):
        network.client().context(customer_id)

    path = network.asked[0].url.raw_path.decode()
    assert path.count("/") == 5
    assert unquote(path.removeprefix("/behind/v1/customers/").removesuffix("/context")) == customer_id


def test_only_what_is_said_is_sent() -> None:
    """An older service need not know the fields that a caller does not use; a newer one keeps its defaults."""
    network = Network([httpx.Response(400)])
    asks: list[Callable[[Headway], object]] = [
        lambda client: client.decide("c-1", request_id="r", max_actions=1, activate=False),
        lambda client: client.link(LinkRequest(alias="a", customer_id="c-1")),
        lambda client: client.send_outcomes([ExposureDocument(decision_id="d", occurred_at="t")]),
        lambda client: client.activate("d"),
    ]

    for ask in asks:
        with pytest.raises(Problem):
            ask(network.client())

    assert [json.loads(one) for one in network.bodies] == [
        {"activate": False, "customer_id": "c-1", "max_actions": 1, "request_id": "r"},
        {"alias": "a", "customer_id": "c-1"},
        {"outcomes": [{"type": "exposure", "decision_id": "d", "occurred_at": "t"}]},
        {},
    ]


def test_batches_are_bounded_and_told_as_one() -> None:
    """Every event is sent once, in order; what became of each is told by its place among all."""
    rejection = {"index": 1, "errors": [{"pointer": "/events/1/kind", "value": "'k'", "expected": "a kind"}]}
    network = Network(
        [
            _taken(accepted=MOST_ITEMS),
            _taken(accepted=1, rejected=1, rejections=[rejection], degraded=["feature_store_down"]),
            _taken(duplicate=1, degraded=["feature_store_down"]),
        ]
    )
    events = (
        EventDocument(event_id=f"e-{n}", customer_id="c", kind="k", occurred_at="t") for n in range(2 * MOST_ITEMS + 1)
    )

    answer = network.client().send_events(events)

    sent = [json.loads(gzip.decompress(body) if body[:1] != b"{" else body)["events"] for body in network.bodies]
    assert [len(one) for one in sent] == [MOST_ITEMS, MOST_ITEMS, 1]
    assert [(one["event_id"], one["sequence"]) for batch in sent for one in batch] == [
        (f"e-{n}", n) for n in range(2 * MOST_ITEMS + 1)
    ]
    assert (answer.accepted, answer.duplicate, answer.rejected) == (MOST_ITEMS + 1, 1, 1)
    assert [(one.index, one.errors[0].pointer) for one in answer.rejections] == [
        (MOST_ITEMS + 1, f"/events/{MOST_ITEMS + 1}/kind")
    ]
    assert answer.degraded == ("feature_store_down",)


def test_a_batch_is_bounded_in_bytes_too() -> None:
    """A few large events make more than one; one that is larger goes alone."""
    network = Network([_taken()])
    text = "x" * (MOST_BYTES // 2)
    events = [
        EventDocument(event_id=f"e-{n}", customer_id="c", kind="k", occurred_at="t", text=text * (1 + 2 * (n == 2)))
        for n in range(4)
    ]

    network.client().send_events(events)

    sent = [json.loads(gzip.decompress(body))["events"] for body in network.bodies]
    assert [[one["event_id"] for one in batch] for batch in sent] == [["e-0"], ["e-1"], ["e-2"], ["e-3"]]


def test_large_bodies_are_compressed() -> None:
    """The same bytes each time they are sent."""
    network = Network([httpx.ReadError("cut"), _taken()])
    many = [EventDocument(event_id=f"e-{n}", customer_id="c", kind="k", occurred_at="t") for n in range(100)]

    network.client().send_events(many)

    assert network.asked[0].headers["content-encoding"] == "gzip"
    assert network.bodies[0] == network.bodies[1]
    assert len(json.loads(gzip.decompress(network.bodies[0]))["events"]) == 100


def test_no_more_batches_are_sent_than_there_are() -> None:
    """None for nothing."""
    network = Network([_taken()])

    assert network.client().send_events([]).accepted == 0
    assert network.asked == []


def test_the_options_of_a_decision_are_the_fields_of_its_request() -> None:
    """One that is added there is added here, with the same type."""
    fields = get_type_hints(DecisionRequest)
    options = get_type_hints(DecisionOptions)

    assert set(options) == set(fields) - {"request_id", "customer_id"}
    assert options == {name: kind for name, kind in fields.items() if name in options}


def test_the_filters_are_the_parameters_of_the_search(tmp_path: Any) -> None:
    """All but the cursor, which the client turns itself."""
    with World(tmp_path, now=NOW).client() as client:
        document = client.get("/openapi.json", key=None).json()
    parameters = {one["name"] for one in document["paths"]["/v1/decisions"]["get"]["parameters"]}

    assert set(DecisionFilters.__annotations__) == parameters - {"cursor"}
