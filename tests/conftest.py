"""What tests of every kind share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from features.online_location import RedisLocation
from tests.redis_servers import redis_database

# How long an example takes says more of the machine than of the code.
settings.register_profile("headway", deadline=None)
settings.load_profile("headway")

DEFAULT_DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The path of a file of real data.

    The test is skipped where the file is absent, and fails instead under HEADWAY_TEST_REQUIRE=1.
    """

    def path_of(name: str) -> Path:
        path = Path(os.environ.get("HEADWAY_TEST_DATA") or DEFAULT_DATA) / name
        if path.is_file():
            return path
        reason = f"{path} is absent: set HEADWAY_TEST_DATA to the folder of the real data"
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    return path_of


@pytest.fixture
def redis_location() -> Iterator[RedisLocation]:
    """An empty database of a real Redis."""
    with redis_database() as location:
        yield location
