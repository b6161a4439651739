"""Alerts: signed, tried again where that may help, and never the end of a report."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from features.errors import ConfigurationError
from models.webhook_signature import ID_HEADER, check_signature, secret_key
from training.alerts import SECRET_VARIABLE, URL_VARIABLE, Delivery, Webhook, deliver, webhook_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = secret_key(SECRET)
AT = 1_790_000_000.0
DOCUMENT = {"type": "drift.verdict_changed", "data": {"verdict": "retrain"}}


@dataclass
class Receiver:
    """A receiver of webhooks on the loopback that answers as it is told, in turn; None is no answer at all."""

    answers: list[int | None]
    url: str = ""
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything, unless a test says otherwise."""
    told = Receiver([])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.taken.append((dict(self.headers.items()), body))
            answer = told.answers.pop(0) if told.answers else 204
            if answer is None:
                told.done.wait(30)
                return
            self.send_response(answer)
            if answer in (301, 307):
                self.send_header("location", f"{told.url}elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/secret-path/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told
    told.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _sent(receiver: Receiver, pauses: list[float], *, timeout: float = 10.0) -> Delivery:
    return deliver(
        Webhook(receiver.url, KEY),
        DOCUMENT,
        message_id="msg_1",
        now=lambda: AT,
        sleep=pauses.append,
        timeout=timeout,
        pauses=(1.0, 4.0),
    )


def test_a_receiver_verifies_what_it_gets(receiver: Receiver) -> None:
    """Over a real connection: the signature fits the very bytes, and the body is the document."""
    pauses: list[float] = []
    assert _sent(receiver, pauses) == Delivery("sent", 1)
    headers, body = receiver.taken[0]
    check_signature(KEY, headers, body, now=int(AT))
    assert json.loads(body) == DOCUMENT
    assert pauses == []


def test_what_may_pass_is_tried_again(receiver: Receiver) -> None:
    """After longer and longer pauses, under the same id."""
    receiver.answers = [503, 429]
    pauses: list[float] = []
    assert _sent(receiver, pauses) == Delivery("sent", 3)
    assert pauses == [1.0, 4.0]
    assert {
        headers[ID_HEADER.title()] if ID_HEADER.title() in headers else headers[ID_HEADER]
        for headers, _ in receiver.taken
    } == {"msg_1"}


def test_attempts_are_bounded(receiver: Receiver) -> None:
    """A receiver that is down for good costs three attempts."""
    receiver.answers = [500] * 9
    found = _sent(receiver, [])
    assert (found.status, found.attempts, found.detail) == ("failed", 3, "127.0.0.1 answered 500")
    assert len(receiver.taken) == 3


@pytest.mark.parametrize("answer", [400, 401, 404, 410, 301, 307])
def test_a_refusal_is_final(receiver: Receiver, answer: int) -> None:
    """What is refused once is refused again; a redirect leads where nobody said, and is not followed."""
    receiver.answers = [answer]
    found = _sent(receiver, [])
    assert (found.status, found.attempts, found.detail) == ("failed", 1, f"127.0.0.1 answered {answer}")
    assert len(receiver.taken) == 1


def test_a_receiver_that_hangs_is_left(receiver: Receiver) -> None:
    """After the timeout, as often as any other failure."""
    receiver.answers = [None, None, None]
    found = _sent(receiver, [], timeout=0.2)
    assert (found.status, found.attempts) == ("failed", 3)
    assert "TimeoutError" in found.detail


def test_nobody_there_is_told_without_the_address() -> None:
    """The path of an address may be a secret."""
    found = deliver(
        Webhook("http://127.0.0.1:9/secret-path", KEY), DOCUMENT, message_id="msg_1", sleep=lambda _: None, pauses=()
    )
    assert (found.status, found.attempts) == ("failed", 1)
    assert "secret-path" not in found.detail


def test_without_an_address_there_is_no_webhook() -> None:
    """Alerts are off unless they are asked for."""
    assert webhook_of({}) is None
    assert webhook_of({URL_VARIABLE: "", SECRET_VARIABLE: ""}) is None


@pytest.mark.parametrize(
    "url", ["https://alerts.example.com/hook", "http://localhost:8080/", "http://127.0.0.1/x", "http://[::1]:80/"]
)
def test_an_address_that_can_be_used(url: str) -> None:
    """Encrypted, or on this machine; what it is never shows."""
    found = webhook_of({URL_VARIABLE: url, SECRET_VARIABLE: SECRET})
    assert found is not None
    assert found.url == url
    assert url not in repr(found)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://alerts.example.com/hook",
        "http://10.0.0.1/",
        "ftp://127.0.0.1/",
        "https://",
        "https://user:word@alerts.example.com/",
        "https://alerts.example.com:port/",
        "https://al erts.example.com/",
        "file:///etc/passwd",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_unseen(url: str) -> None:
    """Before anything is read, naming the variable and not its value."""
    with pytest.raises(ConfigurationError, match=URL_VARIABLE) as caught:
        webhook_of({URL_VARIABLE: url, SECRET_VARIABLE: SECRET})
    assert not url or url not in str(caught.value)


def test_a_secret_is_needed() -> None:
    """An alert that nobody can verify is none."""
    with pytest.raises(ConfigurationError, match=SECRET_VARIABLE) as caught:
        webhook_of({URL_VARIABLE: "https://alerts.example.com", SECRET_VARIABLE: "whsec_tooshort"})
    assert "tooshort" not in str(caught.value)
