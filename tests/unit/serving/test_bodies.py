"""Bodies: bounded while they stream in, and after decompression."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator

import pytest

from serving.api.bodies import bounded_body, chunks_of
from serving.problems import BodyTooLarge, BodyTooSlow, MalformedBody, UnsupportedEncoding

LIMIT = 1_000


class _Sender:
    """Sends a body in chunks and notes how many were taken."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks
        self.taken = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.taken += 1
            yield chunk


def _read(*chunks: bytes, encoding: str | None = None, announced: int | None = None) -> bytes:
    return asyncio.run(bounded_body(_Sender(*chunks).chunks(), encoding=encoding, announced=announced, limit=LIMIT))


def test_a_body_of_exactly_the_limit_is_read() -> None:
    """The limit itself is allowed."""
    assert _read(b"a" * 600, b"b" * 400) == b"a" * 600 + b"b" * 400


def test_one_byte_more_is_too_large() -> None:
    """The bound holds without any announced length."""
    with pytest.raises(BodyTooLarge, match="more than 1000 bytes"):
        _read(b"a" * 600, b"b" * 401)


def test_an_announced_length_over_the_limit_is_too_large() -> None:
    """Nothing has to be kept to know it."""
    with pytest.raises(BodyTooLarge):
        _read(b"a", announced=1_001)


def test_gzip_is_decompressed() -> None:
    """Callers may save bytes."""
    packed = gzip.compress(b"a" * 1_000, mtime=0)

    assert _read(packed[:7], packed[7:], encoding="gzip") == b"a" * 1_000


def test_a_gzip_bomb_stops_at_the_limit() -> None:
    """What counts is the size after decompression."""
    with pytest.raises(BodyTooLarge):
        _read(gzip.compress(b"a" * 10_000_000, mtime=0), encoding="gzip")


@pytest.mark.parametrize(
    "packed",
    [b"", b"not gzip at all", gzip.compress(b"a" * 500, mtime=0)[:-4], gzip.compress(b"a", mtime=0) + b"more"],
)
def test_a_damaged_gzip_is_refused(packed: bytes) -> None:
    """A truncated body is never taken for a whole one."""
    with pytest.raises(MalformedBody):
        _read(packed, encoding="gzip")


def test_another_encoding_is_refused() -> None:
    """What cannot be bounded is not read."""
    with pytest.raises(UnsupportedEncoding, match="'br'"):
        _read(b"x", encoding="br")


def test_a_sender_that_goes_away_is_noticed() -> None:
    """Half a body is not a body."""
    messages: Iterator[dict[str, object]] = iter(
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    async def read() -> bytes:
        return await bounded_body(chunks_of(receive), encoding=None, announced=None, limit=LIMIT)

    with pytest.raises(MalformedBody, match="closed before the end"):
        asyncio.run(read())


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """Its sender holds a connection, and nothing else."""

    async def drip() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    with pytest.raises(BodyTooSlow, match=r"after 0\.01 s"):
        asyncio.run(bounded_body(drip(), encoding=None, announced=None, limit=LIMIT, seconds=0.01))
