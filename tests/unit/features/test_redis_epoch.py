"""The epoch of a home that was set back to a backup."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.redis_epoch import Epoch, set_back

NOW = 1_772_366_400_000_000


class _Cell:
    """A Redis in which something stands."""

    def __init__(self, text: str) -> None:
        self.text: str | None = text
        self.cleared = 0

    def value(self) -> str | None:
        """What stands there."""
        return self.text

    def replace(self, expected: str | None, new: str) -> bool:
        """Put something else there."""
        if self.text != expected:
            return False
        self.text = new
        return True

    def clear(self) -> None:
        """Forget the rows."""
        self.cleared += 1


@pytest.mark.parametrize("number", [3, 4, 9])
def test_the_rows_of_a_home_that_was_set_back_are_made_anew(tmp_path: Path, number: int) -> None:
    """Whether the Redis was cleared since the backup or not: it is this home's, and no row of it is trusted."""
    file = tmp_path / "online-epoch"
    file.write_text("0123456789abcdef.4")
    cell = _Cell(f"0123456789abcdef.{number}")

    set_back(file, at=NOW)
    epoch = Epoch(file, cell, cell.clear, "redis")

    assert not epoch.holds()
    epoch.claim()
    assert (epoch.holds(), cell.cleared) == (True, 1)


def test_a_home_without_an_epoch_gets_none(tmp_path: Path) -> None:
    """It never had a Redis."""
    set_back(tmp_path / "online-epoch", at=NOW)

    assert list(tmp_path.iterdir()) == []
