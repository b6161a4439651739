"""What is written as YAML is read as the same values, in the dialect that configuration files have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from features.yaml_files import dump_yaml, parse_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "yes",
        "no",
        "on",
        "null",
        "~",
        "true",
        "1e5",
        "1_000",
        "0x1f",
        "22:00",
        "2024-01-01",
        "=",
        "<<",
        "- a",
        "# b",
        ".5",
    ]
)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=5))
def test_what_is_written_is_read(document: dict[str, object]) -> None:
    """Text stays text whatever it looks like, numbers keep their bits and their kind, keys their order."""
    read = parse_yaml(dump_yaml(document), file="x.yaml").data

    assert repr(read) == repr(document)
