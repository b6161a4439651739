"""Situations: what rules may refer to, and the numbers of a vector by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.situation import NamedNumbers
from tests.decisions import situation

PLACES = {"a": 0, "b": 1}


def test_the_numbers_of_a_vector_are_found_by_name() -> None:
    """As Python's own numbers, like a dictionary of all of them."""
    numbers = NamedNumbers(PLACES, np.array([1.5, 2.5]))

    assert numbers == {"a": 1.5, "b": 2.5}
    assert type(numbers["b"]) is float
    assert len(numbers) == 2


def test_a_vector_of_other_features_is_refused() -> None:
    """It would be read under the wrong names."""
    with pytest.raises(ValueError, match="3 numbers for 2 names"):
        NamedNumbers(PLACES, np.zeros(3))


def test_a_reference_is_looked_up_anew_in_every_situation() -> None:
    """What is kept is how to look, never what was found."""
    known, unknown = situation(stall_propensity=0.4), situation(stall_propensity=math.nan)

    assert [one.value("stall_propensity") for one in (known, unknown, known)] == [0.4, None, 0.4]


def test_a_reference_that_rules_may_not_use_is_refused() -> None:
    """Configurations that hold one are refused before."""
    with pytest.raises(KeyError):
        situation().value("shoe_size")
