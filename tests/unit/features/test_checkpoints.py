"""Steps that survive a kill: done once, and anew where what they left is not whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.checkpoints import Checkpoints
from features.errors import StoreUnavailable


def test_a_step_is_done_once(tmp_path: Path) -> None:
    """And whoever comes later finds what it came to; the folder is its owner's alone."""
    folder = tmp_path / "checkpoints"
    assert Checkpoints(folder).data("first", lambda: b"1") == b"1"
    assert Checkpoints(folder).data("first", lambda: b"2") == b"1"
    assert Checkpoints(folder).file("second", lambda path: path.write_bytes(b"3")).read_bytes() == b"3"
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"0", b"12"])
def test_what_is_damaged_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    """A byte more, less, or another one: the digest tells."""
    steps = Checkpoints(tmp_path)
    steps.data("first", lambda: b"1")
    (tmp_path / "first").write_bytes(damage)

    assert steps.data("first", lambda: b"2") == b"2"
    assert steps.data("first", lambda: b"3") == b"2"


def test_a_step_of_another_release_is_made_anew(tmp_path: Path) -> None:
    """Blocks of another size, or in another form, are no part of this one's work."""
    assert Checkpoints.of_release(tmp_path, "0.1.0").data("block-000000", lambda: b"1") == b"1"
    assert Checkpoints.of_release(tmp_path, "0.2.0").data("block-000000", lambda: b"2") == b"2"
    assert Checkpoints.of_release(tmp_path, "0.1.0").data("block-000000", lambda: b"3") == b"1"


def test_a_step_that_fails_is_not_done(tmp_path: Path) -> None:
    """Nor one that was killed before its digest was written."""
    steps = Checkpoints(tmp_path)

    def killed(path: Path) -> None:
        path.write_bytes(b"half")
        raise InterruptedError

    with pytest.raises(StoreUnavailable, match="cannot keep"):
        steps.file("first", killed)
    assert steps.data("first", lambda: b"whole") == b"whole"
