"""Reading bodies within a bound, while they stream in and after decompression."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from serving.problems import BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedEncoding

DISCARDED_AT_MOST: Final = 64 << 20
"""So much of a body that is too large is read and thrown away, so that its sender gets to see the answer."""

LONGEST_SECONDS: Final = 30.0
"""So long a body may take to come: its sender holds a connection, and no place among those that are answered."""

_LONGEST_LENGTH: Final = 18
"""Digits of a ``Content-Length`` that is read; what has more is more than any door takes."""

_GZIP: Final = 31  # zlib's window bits for the gzip format


async def chunks_of(receive: Callable[[], Awaitable[Any]]) -> AsyncIterator[bytes]:
    """The body of an ASGI request as it comes in.

    Raises:
        MalformedBody: the sender went away before its end.
    """
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedBody("the connection was closed before the end of the body; expected all of it")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def announced_length(header: str | None) -> int | None:
    """How many bytes a ``Content-Length`` announces; None where it is missing, or no number.

    >>> announced_length("12"), announced_length("-1"), announced_length(None)
    (12, None, None)
    """
    if header is None or not header.isascii() or not header.isdecimal():
        return None
    digits = header.lstrip("0")
    return int(digits or "0") if len(digits) <= _LONGEST_LENGTH else 10**_LONGEST_LENGTH


async def bounded_body(
    chunks: AsyncIterator[bytes],
    *,
    encoding: str | None,
    announced: int | None,
    limit: int,
    seconds: float = LONGEST_SECONDS,
) -> bytes:
    """The whole body, decompressed.

    Args:
        chunks: the body as it comes in.
        encoding: the ``Content-Encoding`` header.
        announced: how many bytes the ``Content-Length`` header announces.
        limit: most bytes, before and after decompression.
        seconds: how long all of it may take to come.

    Raises:
        BodyTooLarge: there are more.
        BodyTooSlow: it took longer.
        MalformedBody: it is not the gzip that its header says.
        UnsupportedEncoding: the encoding is neither gzip nor identity.
    """
    name = (encoding or "identity").strip().lower()
    if name not in ("identity", "gzip"):
        raise UnsupportedEncoding(f"the content encoding is {name!r:.80}, expected gzip or none")
    body = _Gzip(limit) if name == "gzip" else _Plain(limit)
    try:
        async with asyncio.timeout(seconds):
            if announced is not None and announced > limit:
                await _discard(chunks)
                raise _too_large(limit)
            async for chunk in chunks:
                if not body.take(chunk):
                    await _discard(chunks)
                    raise _too_large(limit)
    except TimeoutError as error:
        raise BodyTooSlow(f"the body had not come in full after {seconds:g} s; expected all of it by then") from error
    return body.whole()


async def _discard(chunks: AsyncIterator[bytes]) -> None:
    seen = 0
    async for chunk in chunks:
        seen += len(chunk)
        if seen > DISCARDED_AT_MOST:
            return


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {limit} bytes, expected at most {limit}: send less at once")


class _Plain:
    def __init__(self, limit: int) -> None:
        self._room = limit
        self._parts: list[bytes] = []

    def take(self, chunk: bytes) -> bool:
        self._room -= len(chunk)
        self._parts.append(chunk)
        return self._room >= 0

    def whole(self) -> bytes:
        return b"".join(self._parts)


class _Gzip(_Plain):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._decompressor = zlib.decompressobj(_GZIP)

    def take(self, chunk: bytes) -> bool:
        try:
            # One byte more than there is room for tells too much from just enough.
            inside = self._decompressor.decompress(chunk, self._room + 1)
        except zlib.error as error:
            raise MalformedBody(f"the body is no gzip: {error}; expected what Content-Encoding says") from error
        if self._decompressor.unused_data:
            raise MalformedBody("the body goes on after the end of its gzip stream; expected one stream")
        return super().take(inside)

    def whole(self) -> bytes:
        if not self._decompressor.eof:
            raise MalformedBody("the gzip body ends early; expected all of it")
        return super().whole()
