"""Frames are used again where they would come out the same, and made again everywhere else."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.event_store import SqlEventLog
from features.home import Home
from models.configuration import Configuration, built_in_configuration
from tests.histories import MINUTE_US, START_AT, event
from training.dataset import MOMENTS_FILE, Frames
from training.kept_frames import KEY_FILE, frames_key, kept_frames
from training.params import Params, load_params
from training.pipeline import frames_step
from training.snapshot import Snapshot, freeze

JOURNEY = "credit_card_application"
KINDS = ("application_submitted", "documents_uploaded", "application_edited")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a few customers who apply."""
    home = Home(tmp_path / "home").create()
    grow(home, 0)
    return home


def grow(home: Home, first: int) -> None:
    """Some events more, of some customers."""
    with closing(SqlEventLog(home.events_db)) as log:
        log.append(
            [
                event(
                    f"e{number}",
                    customer_id=f"c{number % 7}",
                    kind=KINDS[number // 7 % len(KINDS)],
                    at=START_AT + number * 90 * MINUTE_US,
                )
                for number in range(first, first + 40)
            ]
        )


def frozen(home: Home) -> tuple[Configuration, Params, Snapshot]:
    """What holds, and a snapshot of everything."""
    configuration = built_in_configuration()
    return configuration, load_params(), freeze(home, configuration, at=START_AT)


def is_kept(home: Home, configuration: Configuration, params: Params, snapshot: Snapshot) -> bool:
    """Whether the frames that are there would be taken."""
    return kept_frames(home, configuration, frames_key(configuration, params, snapshot)) is not None


def assert_equal(first: Any, second: Any) -> None:
    """Frames are the same to the last bit."""
    if is_dataclass(first):
        for one in fields(first):
            assert_equal(getattr(first, one.name), getattr(second, one.name))
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal(value, second[key])
    elif isinstance(first, np.ndarray):
        assert (first.dtype.kind, first.shape) == (second.dtype.kind, second.shape)
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second


def test_kept_frames_are_those_of_a_run_from_scratch(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """To the last bit; and nothing is built for them."""
    scratch = frames_step(home, *frozen(home))
    assert "last training" not in capsys.readouterr().err

    again = frames_step(home, *frozen(home))

    assert "the frames of the last training are those of these rows" in capsys.readouterr().err
    assert isinstance(again[JOURNEY], Frames)
    assert len(again[JOURNEY].moments) > 0
    assert_equal(scratch, again)


def test_new_rows_make_new_frames(home: Home) -> None:
    """They differ from the old ones, and are those of a home that never had any."""
    before = frames_step(home, *frozen(home))
    grow(home, 40)

    after = frames_step(home, *frozen(home))

    assert len(after[JOURNEY].moments) > len(before[JOURNEY].moments)
    (home.frames / KEY_FILE).unlink()
    assert_equal(frames_step(home, *frozen(home)), after)


def test_what_the_frames_do_not_depend_on_leaves_them(home: Home) -> None:
    """Other parameters of the fit, or another seed."""
    configuration, params, snapshot = frozen(home)
    frames_step(home, configuration, params, snapshot)
    moments = params.moments.model_copy(update={"idle_hours": (1.0,)})

    assert is_kept(home, configuration, params.model_copy(update={"seed": params.seed + 1}), snapshot)
    assert not is_kept(home, configuration, params.model_copy(update={"moments": moments}), snapshot)


def test_frames_that_cannot_be_read_are_made_again(home: Home) -> None:
    """Cut off, or gone, or without a word on what they were made from."""
    scratch = frames_step(home, *frozen(home))
    for damage in (b"PAR1", None):
        file = home.frames / JOURNEY / MOMENTS_FILE
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage)
        assert not is_kept(home, *frozen(home))
        assert_equal(frames_step(home, *frozen(home)), scratch)

    (home.frames / KEY_FILE).write_text("{")
    assert not is_kept(home, *frozen(home))
