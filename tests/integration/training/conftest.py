"""What tests of training share: a home with decisions and what came of them, filled once."""

from __future__ import annotations

import pytest

from features.home import Home
from tests.lived_home import lived_home


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which version 1 decided, versions 1 and 3 believe in what harms, 2 in what helps. Copy it to write."""
    return lived_home(tmp_path_factory.mktemp("lived"))
