"""What is taken for a whole request is one to the parser of the server too: nothing is smuggled past it."""

from __future__ import annotations

from typing import Any

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from serving.refusals import _LONGEST_KEPT, whole_request

LINES = st.sampled_from(
    [
        "Host: headway",
        "Authorization: Bearer hw_1",
        "Content-Length: 2",
        "content-length:2",
        "CONTENT-LENGTH: \t2 ",
        "Content-Length: 02",
        "Content-Length: +2",
        "Content-Length: 2, 2",
        "Content-Length : 2",
        "Content-Length: 0",
        "Content-Length: 3",
        "X-Content-Length: 2",
        "Transfer-Encoding: chunked",
        " Transfer-Encoding: chunked",
        "X: a\nTransfer-Encoding: chunked",
        "X: a\rContent-Length: 9",
        "Connection: keep-alive",
        "Connection: close",
        "Connection: keep-alive, upgrade",
        "Upgrade: websocket",
        "Expect: 100-continue",
        "Origin: https://www.example.com",
        "Transfer-Encoding\v: chunked",
        "\0Transfer-Encoding: chunked",
        "X: a\0b",
        "X: a\x7fb",
        "X Y: a",
        "no colon",
        ": no name",
        "",
    ]
)
FIRST = st.sampled_from(
    [
        "POST /v1/decisions HTTP/1.1",
        "GET /v1/decisions?limit=3 HTTP/1.1",
        "POST /v1/decisions HTTP/1.0",
        "POST  /v1/decisions HTTP/1.1",
        "post /v1/decisions HTTP/1.1",
        "POST http://headway/v1/decisions HTTP/1.1",
        "",
    ]
)
BODIES = st.sampled_from(["", "{}", "{}\r\n", "0\r\n\r\n", "{}GET / HTTP/1.1\r\n\r\n"])


class Heard:
    """What the server's parser makes of bytes."""

    def __init__(self, data: bytes) -> None:
        self.whole: list[tuple[str, str]] = []
        self.begun = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        parser: Any = httptools.HttpRequestParser(self)
        self._parser = parser
        parser.feed_data(data)
        self.keeps_alive = parser.should_keep_alive()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        path = httptools.parse_url(self._url).path.decode()
        self.whole.append((self._parser.get_method().decode(), path))


def _bytes(first: str, lines: list[str], body: str) -> bytes:
    return "\r\n".join([first, *lines, "", body]).encode()


@given(first=FIRST, lines=st.lists(LINES, max_size=5), body=BODIES)
@example(first="POST /v1/decisions HTTP/1.1", lines=["Content-Length: 2"], body="{}")
@example(first="GET /v1/decisions HTTP/1.1", lines=[], body="")
@example(first="GET /v1/decisions HTTP/1.1", lines=["\0Transfer-Encoding: chunked"], body="")
@example(first="GET /v1/decisions HTTP/1.1", lines=["X: a\x7fb"], body="")
@example(first="GET /v1/decisions HTTP/1.1", lines=["no colon"], body="")
def test_the_parser_agrees(first: str, lines: list[str], body: str) -> None:
    """It finds that one request, whole, nothing behind it, on a connection that stays open and asks for no more."""
    data = _bytes(first, lines, body)
    called = whole_request(data)
    assert whole_request(data) == called  # by what is remembered of the head
    if called is None:
        return

    heard = Heard(data)

    assert (heard.whole, heard.begun) == ([called], 1)
    assert heard.keeps_alive
    assert {b"origin", b"expect", b"upgrade", b"transfer-encoding"}.isdisjoint(name for name, _ in heard.headers)


@given(
    lines=st.lists(
        st.sampled_from(["Host: headway", "Accept: */*", "Connection: keep-alive"]), max_size=3, unique=True
    ),
    body=st.sampled_from(["", "{}", '{"customer_id": "c-1"}']),
    cut=st.integers(1, 200),
)
def test_what_clients_send_is_whole_and_no_part_of_it_is(lines: list[str], body: str, cut: int) -> None:
    """So that a refusal is cheap, and given once."""
    data = _bytes("POST /v1/decisions HTTP/1.1", [*lines, f"Content-Length: {len(body)}"], body)

    assert whole_request(data) == ("POST", "/v1/decisions")
    assert whole_request(data[: -min(cut, len(data))]) is None
    assert whole_request(data + data) is None


@given(first=FIRST, lines=st.lists(LINES, max_size=5), body=BODIES, other=BODIES)
def test_what_is_remembered_of_a_head_says_nothing_of_a_body(
    first: str, lines: list[str], body: str, other: str
) -> None:
    """The same head with another body is another request; so is one without the line that ends it."""
    data, changed = _bytes(first, lines, body), _bytes(first, lines, other)
    called = whole_request(data)

    if called is not None and len(other) != len(body):
        assert whole_request(changed) is None
    assert whole_request(data.partition(b"\r\n\r\n")[0]) is None


@given(first=FIRST, lines=st.lists(LINES, max_size=5), body=BODIES)
def test_a_long_head_is_read_like_a_short_one(first: str, lines: list[str], body: str) -> None:
    """Though it is not remembered."""
    padding = f"X-Padding: {'x' * _LONGEST_KEPT}"

    assert whole_request(_bytes(first, [*lines, padding], body)) == whole_request(_bytes(first, [*lines, "X: x"], body))
