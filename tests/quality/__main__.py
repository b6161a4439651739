"""The quality gates: ``python -m tests.quality [hillstrom ...] [--json] [--quick] [--data DIR] [--write]``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from features.home import telemetry_off
from tests.benchmarks.report import Measure, as_json, print_table
from tests.quality.measures import told
from tests.quality.setting import FILES, DataMissing, Setting, default_data


def main() -> None:
    """Compute the gates of the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"any of {', '.join(FILES)}; all where none is named")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, measures nothing well")
    parser.add_argument(
        "--data", type=Path, help="folder of the real data; default HEADWAY_TEST_DATA or ../shared/data"
    )
    parser.add_argument("--write", action="store_true", help="write docs/model-quality.md; needs all sets, not --quick")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.sets if name not in FILES]:
        parser.error(f"no data set {', '.join(unknown)}; expected any of {', '.join(FILES)}")
    if chosen.write and (chosen.quick or chosen.sets):
        parser.error("--write regenerates the whole page from a full run: name no data set and leave out --quick")
    setting = Setting(data=chosen.data or default_data(), quick=chosen.quick)
    prepare_environment()
    try:
        # What is fitted prints as it goes; standard output carries the result alone.
        with redirect_stdout(sys.stderr):
            found = gates(setting, chosen.sets or list(FILES))
    except DataMissing as missing:
        parser.error(str(missing))
    except ModuleNotFoundError as missing:
        parser.error(f"{missing}: the baselines are in a group of their own, `uv sync --group crosscheck`")
    if chosen.write:
        from tests.quality.page import write_page

        write_page(found)
    if chosen.json:
        print(json.dumps(as_json(found), allow_nan=False))
    else:
        print_table(found, spread="interval")


def prepare_environment() -> None:
    """One thread, no telemetry, and no set-up of whoever calls."""
    telemetry_off(os.environ)
    for name in [name for name in os.environ if name.startswith("HEADWAY_")]:
        del os.environ[name]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def gates(setting: Setting, names: list[str]) -> dict[str, list[Measure]]:
    """The measures of each data set, and what they cost.

    Raises:
        DataMissing: before anything is computed.
    """
    for name in names:
        for file in FILES[name]:
            setting.file(file)
    found = {}
    for name in names:
        module = importlib.import_module(f"tests.quality.{name}")
        started = _cpu_seconds()
        found[name] = module.measures(setting)
        spent = _cpu_seconds() - started
        found[name].append(told("cost of these figures", spent, unit="CPU s"))
        print(f"{name}: {spent:.0f} CPU s")
    return found


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
