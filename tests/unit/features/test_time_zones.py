"""Offsets of time zones over the years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events import microseconds
from features.time_zones import offsets_of_zone

ZONES = ("Europe/Amsterdam", "America/New_York", "Africa/Casablanca", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")


@pytest.mark.parametrize("name", ZONES)
@given(moment=st.datetimes(datetime(1970, 1, 1), datetime(2255, 12, 31), timezones=st.just(UTC)))
def test_the_offset_of_any_moment_is_the_zones_own(name: str, moment: datetime) -> None:
    """Half-hour changes and changes for a religious month included."""
    starts, offsets = offsets_of_zone(name)
    found = offsets[int(np.searchsorted(np.array(starts), microseconds(moment), side="right")) - 1]
    assert timedelta(microseconds=found) == moment.astimezone(ZoneInfo(name)).utcoffset()


def test_a_zone_that_does_not_exist_is_refused() -> None:
    """By zoneinfo's own error, which the check of the configuration comes before."""
    with pytest.raises(ValueError, match="Nowhere"):
        offsets_of_zone("../Nowhere")
