"""The stages as DVC calls them."""

from pathlib import Path

import pytest

from features.home import HOME_VARIABLE
from training.stages import main


def test_an_unknown_stage_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with the stages there are; nothing is made."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    assert main(["frame"]) == 2
    assert "snapshot, frames, train, drift" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_frames_without_a_snapshot_name_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and what to run."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    assert main(["frames"]) == 2
    assert "headway snapshot" in capsys.readouterr().err
