"""Refusals of whole requests from their bytes: what there is no room for is refused before a request is made of it.

Whatever is out of the ordinary about a request goes the ordinary way, and is refused there, in the same words. Nobody's
key is looked at here, so a crowd without keys costs no more than one with keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from serving.access import RULES, Rule, rule_at
from serving.admission import Admission, Kind, kind_of
from serving.api.failures import failure_of, tracking_failure_of

KEPT_SECONDS: Final = 0.01
"""So long the words of a refusal are said again, to few enough that not all come back at the same moment."""

_LINE_END: Final = b"\r\n"
_REQUEST_LINE: Final = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_ORDINARY: Final = re.compile(
    rb"(?:\r\n(?!transfer-encoding|expect|upgrade|origin|connection(?!:[ \t]*keep-alive[ \t]*(?:\r|\Z)))"
    rb"[!#-'*+\-.^-z|~0-9A-Z]+:[\t -~\x80-\xff]*)*",
    re.IGNORECASE,
)
"""Lines of a head: each a header (RFC 9112, section 5), none that changes how a request is read or answered. At others,
such as folded ones, the parser ends the connection, since nobody knows where the request ends."""

_LONGEST_KEPT: Final = 1_024
"""Bytes of a head that is remembered; bounds what a crowd of strangers can fill memory with."""

_DECIDING: Final = tuple(
    f"{rule.method} {rule.path.partition('{')[0]}{end}".encode()
    for rule in RULES
    if kind_of(rule.method, rule.path) == "decisions"
    for end in ([""] if "{" in rule.path else " ?")
)
"""How requests for decisions begin."""


def whole_request(data: bytes) -> tuple[str, str] | None:
    r"""Method and path of a request, where the bytes are exactly one, without anything out of the ordinary.

    >>> whole_request(b"POST /v1/events?decide=true HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    ('POST', '/v1/events')
    >>> whole_request(b"POST /v1/events HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}") is None
    True
    """
    head, blank, body = data.partition(_LINE_END + _LINE_END)
    if not blank:
        return None
    called = _ordinary_head(head) if len(head) > _LONGEST_KEPT else _kept_head(head)
    return None if called is None or len(body) != called[2] else called[:2]


def _ordinary_head(head: bytes) -> tuple[str, str, int] | None:
    """Method and path of a request, and the length of its body; None where its head is out of the ordinary."""
    line = _REQUEST_LINE.match(head + _LINE_END)
    if line is None or not _ORDINARY.fullmatch(head, line.end() - len(_LINE_END)):
        return None
    lengths = _LENGTH.findall(head)
    if head.lower().count(b"content-length") != len(lengths) or len(lengths) > 1:
        return None
    return line[1].decode(), line[2].decode().partition("?")[0], int(lengths[0]) if lengths else 0


_kept_head: Final = lru_cache(maxsize=256)(_ordinary_head)
"""A caller sends the same head again and again: reading it anew took more than half of a refusal. Heads hold keys and
ids; they stay in memory until others come, and go nowhere else."""


class Refusals:
    """What is answered to requests for which there is no room.

    What is let through is under way only once it is worked on; a crowd that comes at once would find room for all of
    it until then. So those let through count from there on, until ``begun`` says that they are under way; for a
    decision only decisions do, since health checks and what browsers send are let through however many they are.

    Args:
        admission: says for which there is room, and counts the others.
        note: is told of each that is refused.
        timer: a monotonic clock, seconds.
    """

    def __init__(self, *, admission: Admission, note: Callable[[Rule], None], timer: Callable[[], float]) -> None:
        self._admission = admission
        self._note = note
        self._timer = timer
        self._let_through = self._deciding = 0
        self._kept: dict[tuple[str, str], tuple[float, bytes]] = {}

    def begun(self) -> None:
        """Those let through are under way, or have been refused the ordinary way."""
        self._let_through = self._deciding = 0

    def let_through(self, data: bytes) -> bool:
        """Note that something goes the ordinary way; whether it is the first since ``begun``.

        Args:
            data: as it came, perhaps only its beginning.
        """
        self._let_through += 1
        self._deciding += data.startswith(_DECIDING)
        return self._let_through == 1

    def answer_to(self, data: bytes, *, beside: Iterable[tuple[bytes, bytes]] = ()) -> bytes | None:
        """The whole answer to a request that is refused; None where it goes the ordinary way.

        Args:
            data: as it came, between two requests of a connection.
            beside: headers that every answer of the server has.
        """
        if self._admission.has_room("explanations", behind=self._let_through):
            return None  # they are refused first
        called = whole_request(data)
        rule = None if called is None else rule_at(*called)
        if rule is None or rule.is_open:
            return None
        kind = kind_of(rule.method, rule.path)
        behind = self._deciding if kind == "decisions" else self._let_through
        if kind is None or self._admission.has_room(kind, behind=behind):
            return None
        self._admission.count_refused(kind)
        self._note(rule)
        now = self._timer()
        made_at, answer = self._kept.get((rule.method, rule.path), (0.0, b""))
        if not answer or now - made_at > KEPT_SECONDS:
            answer = self._made(kind, rule, beside)
            self._kept[rule.method, rule.path] = now, answer
        return answer

    def _made(self, kind: Kind, rule: Rule, beside: Iterable[tuple[bytes, bytes]]) -> bytes:
        failed = tracking_failure_of if rule.takes_basic else failure_of
        failure = failed(self._admission.refusal(kind), route=rule.path)
        told = {**failure.headers, **({"Vary": "Origin"} if rule.is_public else {})}
        told["Content-Length"] = str(len(failure.body))
        headers = [*beside, *((name.lower().encode(), value.encode()) for name, value in told.items())]
        line = f"HTTP/1.1 {failure.status} {HTTPStatus(failure.status).phrase}".encode()
        return b"\r\n".join([line, *(name + b": " + value for name, value in headers), b"", failure.body])
