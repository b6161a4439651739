"""One call over HTTP: made again with the very same bytes until it is answered, or its time is over."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final
from urllib.parse import quote
from uuid import uuid4

import httpx

from features.errors import InvalidInput, Problem
from serving.client.failures import CallFailed, NoAnswer, problem_of
from serving.client.patience import Patience

Query = Mapping[str, object]

COMPRESSED_FROM_BYTES: Final = 1_024
"""Smaller bodies fit a packet or two as they are."""

_LEAST_SECONDS: Final = 0.001
"""Zero would mean to try without waiting at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is not the client's own: time, chance and the network.

    Attributes:
        clock: seconds, steadily forward.
        sleep: waits some seconds.
        chance: numbers from 0 to 1.
        new_id: ids that nobody else makes.
        transport: in place of the network.
    """

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    new_id: Callable[[], str] = lambda: uuid4().hex
    transport: httpx.BaseTransport | None = None


class Sender:
    """Makes calls; threads may share it.

    Args:
        url: of the service, with the path that a proxy puts before it.
        key: an API key, or a token of the company's sign-on. It is in no text of this object or of its errors.
        patience: how long to wait, and when to ask again.
        connections: open at most.
        surroundings: time, chance and the network.

    Raises:
        InvalidInput: the URL or the key cannot be one.
    """

    def __init__(self, url: str, key: str, *, patience: Patience, connections: int, surroundings: Surroundings) -> None:
        _check(url, key)
        self.url: Final = url.rstrip("/")
        self._patience = patience
        self._surroundings = surroundings
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}", "User-Agent": f"headway-client/{version('headway')}"},
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            transport=surroundings.transport,
        )

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def answer(
        self,
        method: str,
        template: str,
        *,
        body: bytes | None = None,
        names: Mapping[str, str] | None = None,
        query: Query | None = None,
    ) -> bytes:
        """The body of the success that a call comes to.

        Args:
            method: of HTTP.
            template: of the path.
            body: JSON.
            names: what stands in the path.
            query: parameters; None for one that is not given.

        Raises:
            Problem: the service said what was wrong, and that asking again is of no use, or no time is left for it.
            NoAnswer: there was none in time.
        """
        request = self._request(method, template, body, names or {}, query or {})
        until = self._surroundings.clock() + self._patience.deadline_seconds
        failures = 0
        while True:
            try:
                return self._attempt(request, f"{method} {template}", until)
            except CallFailed as failure:
                failures += 1
                failure.attempts = failures
                wait = self._patience.wait_seconds(
                    failures, chance=self._surroundings.chance(), retry_after=failure.retry_after_seconds
                )
                if not failure.may_be_asked_again or self._surroundings.clock() + wait >= until:
                    raise
            self._surroundings.sleep(wait)

    def _request(
        self, method: str, template: str, body: bytes | None, names: Mapping[str, str], query: Query
    ) -> httpx.Request:
        path = template.format_map({name: _as_step(value) for name, value in names.items()})
        headers = {} if body is None else {"Content-Type": "application/json"}
        if body is not None and len(body) >= COMPRESSED_FROM_BYTES:
            body = gzip.compress(body, mtime=0)
            headers["Content-Encoding"] = "gzip"
        params = {name: _as_sent(value) for name, value in query.items() if value is not None}
        return self._http.build_request(method, self.url + path, content=body, headers=headers, params=params)

    def _attempt(self, request: httpx.Request, call: str, until: float) -> bytes:
        until = min(until, self._surroundings.clock() + self._patience.attempt_seconds)
        # Each phase of the attempt (connect, send, read) gets what is left when it begins, not all of it anew.
        timeouts = request.extensions["timeout"] = self._left(until)
        request.extensions["trace"] = lambda *_: timeouts.update(self._left(until))
        data = bytearray()
        try:
            answer = self._http.send(request, stream=True)
            try:
                for piece in answer.iter_bytes():
                    data += piece
                    if self._surroundings.clock() >= until:
                        raise NoAnswer(call, f"{call}: the answer had not come in full by the end of its time")
            finally:
                answer.close()
        except httpx.RequestError as error:
            raise NoAnswer(
                call, f"{call}: no answer ({type(error).__name__}); expected one of the service at this URL"
            ) from error
        if answer.is_success:
            return bytes(data)
        raise problem_of(
            call, status=answer.status_code, body=bytes(data), retry_after=answer.headers.get("retry-after")
        )

    def _left(self, until: float) -> dict[str, float]:
        seconds = max(_LEAST_SECONDS, until - self._surroundings.clock())
        return dict.fromkeys(("connect", "read", "write", "pool"), seconds)


def _as_step(name: str) -> str:
    """One step of a path, whatever the id is: `..` would lead to another call."""
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")


def _as_sent(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(url: str, key: str) -> None:
    problems = []
    if not _is_of_service(url):
        problems.append(Problem("url", "", "http:// or https:// and a host, without a user, a password or a query"))
    if not key or not all("!" <= character <= "~" for character in key):
        problems.append(Problem("key", "", "an API key or a token: visible ASCII characters, without spaces"))
    if problems:
        raise InvalidInput("no service can be called like this", problems)


def _is_of_service(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return (
        parts.scheme in ("http", "https") and bool(parts.host) and not (parts.userinfo or parts.query or parts.fragment)
    )
