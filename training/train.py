"""Train: freeze, build frames, fit, judge, register. What ``headway train`` does, and the pipeline's stage."""

from __future__ import annotations

from collections.abc import Mapping

from features.home import Home
from models.configuration import Configuration
from training.dataset import Frames
from training.feature_check import FeatureCheck
from training.params import Params
from training.pipeline import Trained, fit_step, frames_step, say
from training.registering import Registered, register
from training.snapshot import EVENTS_FILE, Snapshot, freeze, training_lock
from training.tracking import TrackingProcess


def train(home: Home, configuration: Configuration, params: Params, *, at: int) -> tuple[Snapshot, list[Registered]]:
    """Train on everything that the home holds now, and register what came of it.

    Args:
        home: of the installation.
        configuration: that holds for it.
        params: of the experiment.
        at: now, microseconds since the epoch.

    Raises:
        UnknownObject: the home holds no events.
        HomeLocked: another training runs in this home.
        NotEnoughData: no model can be fitted.
        StoreCorrupted: Feast reads other features than serving will read.
    """
    home.create()
    with training_lock(home):
        say("freezing the snapshot")
        snapshot = freeze(home, configuration, at=at)
        return snapshot, _trained(home, configuration, params, snapshot, at)


def _trained(home: Home, configuration: Configuration, params: Params, snapshot: Snapshot, at: int) -> list[Registered]:
    with TrackingProcess(home) as tracking, FeatureCheck(home, home.snapshot / EVENTS_FILE) as check:
        say("building the frames")
        frames = frames_step(home, configuration, params, snapshot)
        say("fitting and judging")
        trained = fit_and_say(home, configuration, params, snapshot, frames)
        check.passed()
        say("registering")
        return register(home, configuration, params, trained, tracking, at=at)


def fit_and_say(
    home: Home, configuration: Configuration, params: Params, snapshot: Snapshot, frames: Mapping[str, Frames]
) -> list[Trained]:
    """``fit_step``, telling a person what could not be done and why."""
    trained = fit_step(home, configuration, params, snapshot, frames)
    for one in trained:
        for note in one.evaluation["about"]["notes"]:
            say(f"note ({one.journey_id}): {note}")
    return trained
