"""What integration tests share: a home that went the whole way from simulated files to a registered bundle, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from features.home import HOME_VARIABLE, Home, telemetry_off

CUSTOMERS = 600
SEED = 11


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with simulated history and a champion of the built-in journey. Do not write to it: copy it first."""
    root = tmp_path_factory.mktemp("trained")
    home = Home(root / "home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(HOME_VARIABLE, str(home.root))
        environment.delenv("HEADWAY_CONFIG", raising=False)
        telemetry_off(os.environ)
        _fill(root / "simulation")
        from training.commands import train

        train()
    return home


def _fill(folder: Path) -> None:
    from models.commands import import_files
    from training.simulate import IMPORTED
    from training.simulate_commands import simulate

    simulate(folder, customers=CUSTOMERS, seed=SEED)
    import_files([folder / name for name in IMPORTED], mapping="simulated")
