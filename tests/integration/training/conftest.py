"""A home with decisions and their outcomes, made once and copied by each test that writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from features.home import HOME_VARIABLE, Home
from tests.lived import lived_home


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which a service decided; see ``tests.lived``. Copy it to write."""
    return lived_home(tmp_path_factory.mktemp("lived"))


@pytest.fixture
def decided_home(lived: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy, which the environment names."""
    copy = Home(tmp_path / "home")
    shutil.copytree(lived.root, copy.root)
    monkeypatch.setenv(HOME_VARIABLE, str(copy.root))
    monkeypatch.delenv("HEADWAY_CONFIG", raising=False)
    return copy
