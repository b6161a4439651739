"""Query parameters: every bad one is named, and no cursor that somebody made up leads anywhere."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import InvalidInput
from serving.queries import END_OF_TIME, SAME_QUERY, Cursor, Query, cursor_of, dump_cursor, query_digest

DIGEST = query_digest("c-1", None)


def _read(cursor: str, digest: str = DIGEST) -> Cursor | None:
    query = Query.of_words({"cursor": [cursor]}, ("cursor",))
    found = cursor_of(query, digest)
    query.refuse("the query is not valid")
    return found


@given(
    times=st.lists(st.integers(0, END_OF_TIME), min_size=2, max_size=2).map(sorted),
    at=st.integers(0, END_OF_TIME),
    name=st.text(max_size=40).filter(lambda text: text.isprintable()),
)
def test_a_cursor_comes_back_as_it_went(times: list[int], at: int, name: str) -> None:
    """Through text that a URL can carry."""
    cursor = Cursor(DIGEST, times[0], times[1], at, name)

    text = dump_cursor(cursor)

    assert _read(text) == cursor
    assert text.replace("-", "").replace("_", "").isalnum()


_numbers = st.integers(-(2**63), 2**64 - 1)


@given(numbers=st.tuples(_numbers, _numbers, _numbers))
def test_a_cursor_that_fits_no_store_is_refused(numbers: tuple[int, int, int]) -> None:
    """Whatever numbers it holds, it is one of ours or it is named."""
    text = dump_cursor(Cursor(DIGEST, *numbers, "d-1"))
    since, until, at = numbers
    if 0 <= since <= until <= END_OF_TIME and 0 <= at <= END_OF_TIME:
        assert _read(text) == Cursor(DIGEST, *numbers, "d-1")
        return
    with pytest.raises(InvalidInput, match=SAME_QUERY):
        _read(text)


@given(text=st.text(min_size=1, max_size=60))
def test_no_text_is_a_cursor_by_chance(text: str) -> None:
    """Nor does one make the reader fail."""
    with pytest.raises(InvalidInput, match=SAME_QUERY):
        _read(text)


@pytest.mark.parametrize("content", [b"\xc1", b"\x91" * 200, msgspec.msgpack.encode(["x", 1, 2]), b"\xa2\xff\xff"])
def test_what_is_no_cursor_inside_is_refused(content: bytes) -> None:
    """Damaged, deep, short, or no text."""
    with pytest.raises(InvalidInput, match=SAME_QUERY):
        _read(urlsafe_b64encode(content).decode())


def test_a_cursor_of_another_query_is_refused() -> None:
    """With other filters it would leave out or repeat."""
    with pytest.raises(InvalidInput, match=SAME_QUERY):
        _read(dump_cursor(Cursor(DIGEST, 0, 1, 1, "d-1")), query_digest("c-2", None))
