"""The experiment's parameters are read strictly."""

from pathlib import Path

import pytest

from features.errors import ConfigurationError
from training.params import PARAMS_FILE, load_params
from training.pipeline import params_version


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped parameters with one passage replaced."""
    text = PARAMS_FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_the_shipped_parameters_load() -> None:
    """What is shipped is valid."""
    assert load_params().moments.idle_hours == (1, 6, 24, 48, 96, 168, 336)


def test_an_unknown_key_is_refused_with_its_line(tmp_path: Path) -> None:
    """A misspelt parameter must not be silently ignored."""
    with pytest.raises(ConfigurationError, match=r"params\.yaml:\d+: uplift\.shrinkrows"):
        load_params(changed(tmp_path, "shrink_rows", "shrinkrows"))


def test_shares_that_leave_no_test_are_refused(tmp_path: Path) -> None:
    """There must be something to judge on."""
    with pytest.raises(ConfigurationError, match="leave a share for the test"):
        load_params(changed(tmp_path, "calibration_share: 0.2", "calibration_share: 0.4"))


def test_checkpoints_must_rise(tmp_path: Path) -> None:
    """The walk over the checkpoints stops at the first that lies beyond a newer event."""
    with pytest.raises(ConfigurationError, match="idle_hours"):
        load_params(changed(tmp_path, "[1, 6, 24", "[6, 1, 24"))


def test_calibration_bounds_hold_the_ideal(tmp_path: Path) -> None:
    """A gate that refuses a slope of 1 would let nothing pass."""
    with pytest.raises(ConfigurationError, match="calibration bounds around 1"):
        load_params(changed(tmp_path, "calibration: [0.5, 2.0]", "calibration: [1.1, 2.0]"))


def test_what_the_gate_asks_is_no_part_of_a_bundle(tmp_path: Path) -> None:
    """Another margin trains nothing again; another seed does."""
    shipped = params_version(load_params())
    assert params_version(load_params(changed(tmp_path, "margin: 0\n", "margin: 0.5\n"))) == shipped
    assert params_version(load_params(changed(tmp_path, "seed: 20\n\n", "seed: 21\n\n"))) != shipped
