"""An alert that a verdict changed, sent as a signed webhook to the one address that the environment names.

Who receives it verifies it with ``models.webhook_signature.check_signature``. What cannot be delivered is told in the
result and never raised: a report must not be lost because somebody's receiver is down.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import IO, Any, Final
from urllib.parse import urlsplit

from features.errors import ConfigurationError, Problem
from models.webhook_signature import secret_key, signed_headers

URL_VARIABLE: Final = "HEADWAY_DRIFT_WEBHOOK_URL"
SECRET_VARIABLE: Final = "HEADWAY_DRIFT_WEBHOOK_SECRET"  # noqa: S105  # the name of a variable

TIMEOUT_SECONDS: Final = 10.0
PAUSES_SECONDS: Final = (1.0, 4.0, 16.0)
"""Pauses before the attempts after the first: a receiver that restarts is back by then, and a scheduled run goes on."""

_RETRIED: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts go. Neither address nor key shows in a ``repr``: many addresses are secrets themselves.

    Attributes:
        url: of the receiver.
        key: that messages are signed with.
    """

    url: str = field(repr=False)
    key: bytes = field(repr=False)

    @property
    def host(self) -> str:
        """The receiver's name, which may be shown."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an alert.

    Attributes:
        status: ``sent``, ``failed``, ``unchanged`` (nothing new to tell), or ``off`` (no address is set).
        attempts: how often it was tried.
        detail: for people, why it failed; it never holds the address or the secret.
    """

    status: str
    attempts: int = 0
    detail: str = ""


def webhook_of(env: Mapping[str, str]) -> Webhook | None:
    """The webhook that the environment names; None where it names none.

    Raises:
        ConfigurationError: only one of the two variables is set, or one cannot be used. No value is in the message.
    """
    url, secret = env.get(URL_VARIABLE, ""), env.get(SECRET_VARIABLE, "")
    if not (url or secret):
        return None
    problems = []
    key = b""
    if not _is_usable(url):
        problems.append(Problem(URL_VARIABLE, "(hidden)" if url else "", "an https address, http on a loopback only"))
    try:
        key = secret_key(secret)
    except ValueError as error:
        problems.append(Problem(SECRET_VARIABLE, "(hidden)" if secret else "", str(error)))
    if problems:
        raise ConfigurationError("the drift webhook cannot be used", problems)
    return Webhook(url, key)


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or not url.isascii() or any(character.isspace() for character in url) or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def deliver(
    webhook: Webhook,
    document: Mapping[str, Any],
    *,
    message_id: str,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    timeout: float = TIMEOUT_SECONDS,
    pauses: tuple[float, ...] = PAUSES_SECONDS,
) -> Delivery:
    """Send a document, signed, until it is taken or the attempts are used up.

    An answer of 2xx takes it. What a later attempt may change (no answer, 5xx, 408, 425, 429) is tried again after a
    pause; another answer is final, a redirect too: it would carry the alert to an address that nobody set.

    Args:
        webhook: where to.
        document: JSON values.
        message_id: the same for every attempt, so that the receiver can tell a repeat.
        now: seconds since the epoch; each attempt is signed for its own time.
        sleep: waits so many seconds.
        timeout: seconds that connecting, and each read, may take.
        pauses: seconds before each attempt after the first.
    """
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    detail = ""
    for attempt, pause in enumerate((0.0, *pauses), start=1):
        if pause:
            sleep(pause)
        headers = signed_headers(webhook.key, message_id=message_id, timestamp=int(now()), body=body)
        detail, is_final = _attempt(webhook.url, body, headers, timeout)
        if not detail:
            return Delivery("sent", attempt)
        if is_final:
            return Delivery("failed", attempt, f"{webhook.host} {detail}")
    return Delivery("failed", 1 + len(pauses), f"{webhook.host} {detail}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes of a redirect an answer like any other that is no 2xx."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Follow nothing."""


def _attempt(url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[str, bool]:
    """Why one attempt failed, empty where it did not; and whether another would fail alike."""
    request = urllib.request.Request(  # noqa: S310  # https, or http on the loopback, as was checked
        url, data=body, method="POST", headers={**headers, "content-type": "application/json", "user-agent": "headway"}
    )
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _is_loopback(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # the loopback needs no proxy
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
            return ("", True) if 200 <= answer.status < 300 else (f"answered {answer.status}", True)
    except urllib.error.HTTPError as error:
        with error:
            return f"answered {error.code}", error.code < 500 and error.code not in _RETRIED
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        # The kind alone: the text of some names the address, of which the path may be a secret.
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        return f"gave no answer ({type(cause).__name__})", False
