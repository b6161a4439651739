"""The pipeline's stages, as DVC runs them: ``python -m training.stages snapshot|frames|train|drift``.

They call the same functions as the commands, in the home that ``HEADWAY_HOME`` names.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import HeadwayError, Refused, UnknownObject
from features.home import Home, telemetry_off, use_numba_cache
from models.configuration import Configuration, load_configuration
from training.params import Params, load_params

if TYPE_CHECKING:
    from training.snapshot import Snapshot


def snapshot(home: Home, configuration: Configuration, params: Params) -> None:
    """Export the snapshot that ``snapshot.json`` names; in a home without one freeze it, simulating if it is empty."""
    from training.pipeline import snapshot_step
    from training.snapshot import log_head

    if log_head(home) == 0:
        _fill(home, params)
        configuration = load_configuration(home, os.environ)
    snapshot_step(home, configuration, at=time.time_ns() // 1000)


def frames(home: Home, configuration: Configuration, params: Params) -> None:
    """Build the training frames from the snapshot."""
    from training.pipeline import frames_step

    frames_step(home, configuration, params, _frozen(home))


def train(home: Home, configuration: Configuration, params: Params) -> None:
    """Fit, judge and write the bundle and the reports; register the bundle, which is an effect and no output."""
    from training.feature_check import FeatureCheck
    from training.pipeline import read_all_frames
    from training.registering import register
    from training.snapshot import EVENTS_FILE
    from training.tracking import TrackingProcess
    from training.train import fit_and_say

    frozen = _frozen(home)
    with TrackingProcess(home) as tracking, FeatureCheck(home, home.snapshot / EVENTS_FILE) as check:
        trained = fit_and_say(home, configuration, params, frozen, read_all_frames(home, configuration))
        check.passed()
        register(home, configuration, params, trained, tracking, at=time.time_ns() // 1000)


def drift(home: Home, configuration: Configuration, params: Params) -> None:
    """Compare, in the snapshot alone, the latest decisions or moments with earlier ones: the same answer twice."""
    from training.drift import drift_step
    from training.drift_sources import FrozenSource

    frozen = _frozen(home)
    documents = drift_step(home, configuration, params, FrozenSource(home, frozen), at=frozen.watermark.frozen_at)
    for journey_id, found in documents.items():
        print(f"{journey_id}: {found['comparison']}: {found['verdict']}", file=sys.stderr)


STAGES: dict[str, Callable[[Home, Configuration, Params], None]] = {
    "snapshot": snapshot,
    "frames": frames,
    "train": train,
    "drift": drift,
}


def main(arguments: list[str]) -> int:
    """Run one stage; its exit code."""
    telemetry_off(os.environ)
    home = Home.from_environment(os.environ)
    try:
        if len(arguments) != 1 or arguments[0] not in STAGES:
            raise Refused(f"the stage {' '.join(arguments)!r:.100}, expected one of {', '.join(STAGES)}")
        home.create()
        use_numba_cache(home)
        from training.snapshot import training_lock

        with training_lock(home):
            STAGES[arguments[0]](home, load_configuration(home, os.environ), load_params())
    except HeadwayError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _frozen(home: Home) -> Snapshot:
    from training.snapshot import read_snapshot

    found = read_snapshot(home)
    if found is None:
        raise UnknownObject(f"{home.snapshot_file} is not there: run the stage snapshot, or `headway snapshot`")
    return found


def _fill(home: Home, params: Params) -> None:
    """Simulate customers into a home that holds no events, with the commands that anyone would use."""
    if params.snapshot.when_empty == "fail":
        raise UnknownObject(f"{home.root} holds no events, expected some: run `headway import` first")
    from models.commands import import_files
    from training.simulate import IMPORTED
    from training.simulate_commands import simulate

    wanted = params.snapshot.simulate
    print(f"{home.root} holds no events: simulating {wanted.customers:,} customers into it", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "simulation"
        simulate(out, customers=wanted.customers, seed=wanted.seed)
        import_files([out / name for name in IMPORTED], mapping="simulated")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
