"""Feast's own bytes, written and read without Feast: entity keys (serialisation 3) and values (protobuf).

Only the kinds of value that ``features.feast_layout`` uses. Both directions are checked against Feast's classes in the
integration tests.

References:
    Feast 0.67: ``feast.infra.key_encoding_utils``, ``protos/feast/types/Value.proto``; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from features.errors import StoreCorrupted
from features.feast_layout import ColumnType, ColumnValue
from features.kernel import Floats

# Tags: field number of ``Value`` shifted by three, plus the wire type.
_TEXT: Final = 2 << 3 | 2
_INTEGER: Final = 4 << 3 | 0
_NUMBER: Final = 5 << 3 | 1
_BOOLEAN: Final = 7 << 3 | 0
_TEXTS: Final = 12 << 3 | 2
_FLOATS: Final = 15 << 3 | 2
_ITEM: Final = 1 << 3 | 2  # the one field of the list messages

_SECONDS: Final = 1 << 3 | 0
_NANOS: Final = 2 << 3 | 0

_U32: Final = struct.Struct("<I")
_STRING: Final = _U32.pack(2)  # ValueType.STRING
_F64: Final = struct.Struct("<d")


def entity_key(keys: Mapping[str, str]) -> bytes:
    """The key under which Feast keeps the values of an entity, given its join keys and their values."""
    names = tuple(sorted(keys))
    return _key_head(names) + b"".join([_STRING + _sized(keys[name]) for name in names])


@lru_cache(maxsize=16)
def _key_head(names: tuple[str, ...]) -> bytes:
    return _U32.pack(len(names)) + b"".join([_STRING + _sized(name) for name in names])


def _sized(text: str) -> bytes:
    data = text.encode()
    return _U32.pack(len(data)) + data


def entity_key_prefix(names: Iterable[str]) -> bytes:
    """What the keys of all entities with these join keys begin with."""
    return _key_head(tuple(sorted(names)))


def entity_key_length(data: bytes) -> int | None:
    """How many bytes the entity key takes that ``data`` begins with; None where it begins with none."""
    try:
        (count,) = _U32.unpack_from(data)
        at = _U32.size
        for _ in range(2 * count):
            at += 4
            at += 4 + _U32.unpack_from(data, at)[0]
    except struct.error:
        return None
    return at if at <= len(data) else None


@lru_cache(maxsize=1024)
def murmur3(text: str) -> bytes:
    """The four bytes under which Feast keeps a column in a Redis hash.

    References:
        Appleby (2011), MurmurHash3_x86_32, public domain; seed 0, little endian.
    """
    data = text.encode()
    mask = 0xFFFFFFFF
    mixed = 0
    for start in range(0, len(data), 4):
        block = data[start : start + 4]
        k = int.from_bytes(block, "little") * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) * 0x1B873593 & mask
        mixed ^= k
        if len(block) == 4:
            mixed = (mixed << 13 | mixed >> 19) & mask
            mixed = (mixed * 5 + 0xE6546B64) & mask
    mixed ^= len(data)
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & mask
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & mask
    return _U32.pack(mixed ^ mixed >> 16)


def encode_timestamp(at: int) -> bytes:
    """A moment, microseconds since the epoch, as protobuf's ``Timestamp``."""
    seconds, microseconds = divmod(at, 1_000_000)
    parts = ((_SECONDS, seconds & (2**64 - 1)), (_NANOS, microseconds * 1000))
    return b"".join(bytes((tag,)) + _varint(value) for tag, value in parts if value)


def encode_value(value: ColumnValue, column: ColumnType) -> tuple[bytes, str | None]:
    """A value as the message that Feast keeps, and as the text that it keeps beside single values.

    Raises:
        TypeError: the value is not of the column's type.
    """
    if value is None:
        return b"", None
    if column == "floats" and isinstance(value, np.ndarray):
        packed = np.ascontiguousarray(value, dtype="<f8").tobytes()
        return _message(_FLOATS, _message(_ITEM, packed) if packed else b""), None
    if column == "texts" and isinstance(value, Sequence) and not isinstance(value, str):
        return _message(_TEXTS, b"".join(_message(_ITEM, str(text).encode()) for text in value)), None
    if column == "text" and isinstance(value, str):
        return _message(_TEXT, value.encode()), value
    if column == "boolean" and isinstance(value, bool):
        return bytes((_BOOLEAN, value)), str(value)
    if column == "integer" and isinstance(value, int) and not isinstance(value, bool):
        return bytes((_INTEGER,)) + _varint(value & (2**64 - 1)), str(value)
    if column == "number" and isinstance(value, int | float) and not isinstance(value, bool):
        return bytes((_NUMBER,)) + _F64.pack(value), str(float(value))
    raise TypeError(f"got {value!r}, expected a value for a column of {column}")


def decode_value(data: bytes) -> ColumnValue:
    """The value in a message; None where it holds none.

    Raises:
        StoreCorrupted: it is no value of a kind that is used here.
    """
    if not data:
        return None
    try:
        return _decoded(data)
    except (IndexError, ValueError, struct.error) as error:  # a UnicodeDecodeError is a ValueError
        raise StoreCorrupted(
            f"the online store holds {data[:24]!r}..., expected a value that Feast or Headway wrote: "
            f"rebuild it with `headway features backfill`"
        ) from error


class FloatRuns:
    """A vector and the messages of its parts, all at once: a state is read and written at every decision and event.

    Args:
        lengths: of the parts of the vector, by name, in order.
    """

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self._parts: list[tuple[str, bytes, slice]] = []
        start = 0
        for name, length in lengths.items():
            whole, _ = encode_value(np.zeros(length), "floats")
            end = start + 8 * length
            self._parts.append((name, whole[: len(whole) - 8 * length], slice(start, end)))
            start = end
        self._size = start

    def encoded(self, vector: Floats) -> Iterator[tuple[str, bytes]]:
        """Each part's name and message, as ``encode_value`` gives it.

        Raises:
            ValueError: the vector has another length.
        """
        data = np.ascontiguousarray(vector, dtype="<f8").tobytes()
        if len(data) != self._size:
            raise ValueError(f"a vector of {len(data) // 8} numbers, expected {self._size // 8}")
        return ((name, header + data[place]) for name, header, place in self._parts)

    def decoded(self, messages: Mapping[str, bytes]) -> Floats | None:
        """The vector of its parts' messages; None where a part is missing or has another length."""
        runs = []
        for name, header, place in self._parts:
            message = messages.get(name, b"")
            if len(message) != len(header) + place.stop - place.start or not message.startswith(header):
                return None
            runs.append(message[len(header) :])
        return np.frombuffer(b"".join(runs), dtype="<f8").copy()


def _decoded(data: bytes) -> ColumnValue:
    tag = data[0]
    if tag == _NUMBER:
        return float(_F64.unpack(data[1:])[0])
    size, start = data[1], 2
    if size >= 0x80:
        size, start = _read_varint(data, 1)
    if tag == _INTEGER:
        return size - 2**64 if size >= 2**63 else size
    if tag == _BOOLEAN:
        return bool(size)
    if start + size != len(data):
        raise ValueError(f"{len(data) - start} bytes, expected {size}")
    if tag == _FLOATS:
        return _floats(data, start)
    if tag == _TEXT:
        return data[start:].decode()
    if tag == _TEXTS:
        return _texts(data, start)
    raise ValueError(f"tag {tag}")


def _floats(data: bytes, start: int) -> Floats:
    if start == len(data):
        return np.empty(0)
    size, first = _read_varint(data, start + 1)
    if data[start] != _ITEM or first + size != len(data):
        raise ValueError("expected one packed run of doubles")
    return np.frombuffer(data, dtype="<f8", offset=first)


def _texts(data: bytes, at: int) -> list[str]:
    texts = []
    while at < len(data):
        if data[at] != _ITEM:
            raise ValueError(f"tag {data[at]}")
        size, first = _read_varint(data, at + 1)
        at = first + size
        if at > len(data):
            raise ValueError("cut short")
        texts.append(data[first:at].decode())
    return texts


def _message(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer and where what follows it starts."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")
