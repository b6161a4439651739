"""Durations: what may be written, what it means, and how a refusal reads."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from features.durations import Duration, dump_duration, parse_duration


class _Wait(BaseModel):
    after: Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("90m", 5_400), ("6h", 21_600), ("2d", 172_800), ("1w", 604_800), (" 1 d ", 86_400)],
)
def test_every_unit_is_read(text: str, seconds: int) -> None:
    """Each unit gives its exact length in microseconds."""
    assert parse_duration(text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "d", "2", "2.5h", "-1d", "2 fortnights", "1d12h", "1D"])
def test_anything_else_is_refused(text: str) -> None:
    """A text without one known unit is refused by a message that lists the units."""
    with pytest.raises(ValueError, match="one of the units w, d, h, m, s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "30s", "90m", "6h", "14d"])
def test_writing_gives_what_was_read(text: str) -> None:
    """Reading and writing are inverse for durations in their largest unit."""
    assert dump_duration(parse_duration(text)) == text


@pytest.mark.parametrize("microseconds", [-1_000_000, 1])
def test_what_cannot_be_written_is_refused(microseconds: int) -> None:
    """Negative lengths and fractions of a second have no written form."""
    with pytest.raises(ValueError, match="whole, non-negative number of seconds"):
        dump_duration(microseconds)


def test_a_bare_number_is_no_duration() -> None:
    """A number without a unit is refused by a model, not taken for seconds."""
    with pytest.raises(ValidationError, match="one of the units"):
        _Wait.model_validate({"after": 30})


def test_a_model_survives_its_own_dump() -> None:
    """A duration in a model is dumped as text and read back as the same number."""
    wait = _Wait.model_validate({"after": "2d"})

    assert wait.model_dump() == {"after": "2d"}
    assert _Wait.model_validate(wait.model_dump()) == wait
