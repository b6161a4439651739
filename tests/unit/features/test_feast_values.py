"""Feast's bytes by hand: fixed examples of both encodings, round trips, and damage that is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import StoreCorrupted
from features.feast_layout import ColumnType, ColumnValue
from features.feast_values import FloatRuns, decode_value, encode_value, entity_key

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_entity_keys_are_serialisation_3() -> None:
    """Count of keys, then each name and each value with type and length, in the order of the names."""
    assert entity_key({"customer_id": "é"}) == (
        b"\x01\0\0\0" + b"\x02\0\0\0\x0b\0\0\0customer_id" + b"\x02\0\0\0\x02\0\0\0\xc3\xa9"
    )
    assert entity_key({"b": "2", "a": "1"}) == (
        b"\x02\0\0\0" + b"\x02\0\0\0\x01\0\0\0a" + b"\x02\0\0\0\x01\0\0\0b"
        b"\x02\0\0\0\x01\0\0\x001" + b"\x02\0\0\0\x01\0\0\x002"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "column", "data", "text"),
    [
        (None, "text", b"", None),
        ("", "text", b"\x12\x00", ""),
        ("é", "text", b"\x12\x02\xc3\xa9", "é"),
        (0, "integer", b"\x20\x00", "0"),
        (300, "integer", b"\x20\xac\x02", "300"),
        (-5, "integer", b"\x20\xfb" + b"\xff" * 8 + b"\x01", "-5"),
        (0.0, "number", b"\x29" + b"\0" * 8, "0.0"),
        (False, "boolean", b"\x38\x00", "False"),
        ([], "texts", b"\x62\x00", None),
        (["a", ""], "texts", b"\x62\x05\x0a\x01a\x0a\x00", None),
    ],
)
def test_values_have_the_bytes_of_the_protobuf_message(
    value: ColumnValue, column: ColumnType, data: bytes, text: str | None
) -> None:
    """Each kind of value is the message that protobuf writes, and reads back as it was."""
    assert encode_value(value, column) == (data, text)
    assert decode_value(data) == value


def test_arrays_keep_every_bit() -> None:
    """NaN, infinities, signed zero and the largest exact times come back as they were; so does no number at all."""
    numbers = np.array([np.nan, np.inf, -0.0, 2.0**53, 1e-320])

    decoded = decode_value(encode_value(numbers, "floats")[0])

    assert isinstance(decoded, np.ndarray)
    assert decoded.tobytes() == numbers.tobytes()
    assert decode_value(encode_value(np.empty(0), "floats")[0]) == pytest.approx(np.empty(0))


@given(_TEXT | st.none())
def test_text_comes_back(text: str | None) -> None:
    """Any text is read as it was written."""
    assert decode_value(encode_value(text, "text")[0]) == text


@given(st.lists(_TEXT))
def test_lists_of_text_come_back(texts: list[str]) -> None:
    """Any list of texts is read as it was written."""
    assert decode_value(encode_value(texts, "texts")[0]) == texts


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_come_back(number: int) -> None:
    """Any 64-bit integer is read as it was written."""
    assert decode_value(encode_value(number, "integer")[0]) == number


def test_a_value_of_another_type_is_refused() -> None:
    """A text in a column of numbers is refused with the value."""
    with pytest.raises(TypeError, match="got 'twelve', expected a value for a column of number"):
        encode_value("twelve", "number")


@pytest.mark.parametrize(
    "data",
    [b"\x7a\x12\x0a", b"\x12\x05ab", b"\x62\x03\x0a\x05a", b"\x29\x00", b"\x99\x01\x00", b"\x12\x01\xff", b"\x20\xff"],
)
def test_damaged_bytes_are_noticed(data: bytes) -> None:
    """Bytes that are no value raise, and say how to rebuild the store."""
    with pytest.raises(StoreCorrupted, match="headway features backfill"):
        decode_value(data)


RUNS = FloatRuns({"one": 1, "none": 0, "many": 40})


def test_a_vector_is_written_as_its_parts_one_by_one() -> None:
    """Each message is the one that ``encode_value`` gives, short, empty and long."""
    vector = np.arange(41.0)

    parts = dict(RUNS.encoded(vector))

    assert parts == {
        "one": encode_value(vector[:1], "floats")[0],
        "none": encode_value(np.empty(0), "floats")[0],
        "many": encode_value(vector[1:], "floats")[0],
    }


def test_a_vector_comes_back_bit_for_bit_and_writable() -> None:
    """NaN and infinities too; the kernel folds into what was read."""
    vector = np.append(np.linspace(-1.0, 1.0, 39), [np.nan, -np.inf])

    found = RUNS.decoded(dict(RUNS.encoded(vector)))

    assert found is not None
    assert found.tobytes() == vector.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("part", [b"", encode_value(np.zeros(39), "floats")[0], encode_value("a" * 320, "text")[0]])
def test_parts_of_another_layout_are_no_vector(part: bytes) -> None:
    """A part that is missing, of another length or of another type gives None, never a shifted vector."""
    assert RUNS.decoded({**dict(RUNS.encoded(np.zeros(41))), "many": part}) is None


def test_a_vector_of_another_length_is_refused() -> None:
    """It would be cut or shifted."""
    with pytest.raises(ValueError, match="a vector of 40 numbers, expected 41"):
        RUNS.encoded(np.zeros(40))
