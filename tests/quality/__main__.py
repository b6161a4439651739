"""``python -m tests.quality [hillstrom simulated ...] [--json] [--quick] [--data DIR] [--write]``: the quality gates."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

from features.home import telemetry_off
from tests.benchmarks.report import Measure, as_json, print_table
from tests.quality.measures import told
from tests.quality.setting import DataMissing, Setting, default_data

DATA_SETS = ("simulated", "hillstrom", "loan_offers", "bpic2012", "ihdp", "open_bandit")


def main() -> None:
    """Compute the gates of the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument(
        "sets", nargs="*", metavar="SET", help=f"any of {', '.join(DATA_SETS)}; all where none is named"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, measures nothing well")
    parser.add_argument(
        "--data", type=Path, help="folder of the real data; default HEADWAY_TEST_DATA or ../shared/data"
    )
    parser.add_argument("--write", action="store_true", help="write docs/model-quality.md; needs all sets, not --quick")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.sets if name not in DATA_SETS]:
        parser.error(f"no data set {', '.join(unknown)}; expected any of {', '.join(DATA_SETS)}")
    if chosen.write and (chosen.quick or chosen.sets):
        parser.error("--write regenerates the whole page from a full run: name no data set and leave out --quick")
    setting = Setting(data=chosen.data or default_data(), quick=chosen.quick)
    prepare_environment()
    try:
        # What is fitted prints as it goes; standard output carries the result alone.
        with redirect_stdout(sys.stderr):
            found = gates(setting, chosen.sets or DATA_SETS)
    except DataMissing as missing:
        parser.error(str(missing))
    if chosen.write:
        from tests.quality.page import write_page

        write_page(found)
    if chosen.json:
        print(json.dumps(as_json(found)))
    else:
        print_table(found, spread="interval")


def prepare_environment() -> None:
    """One thread, no telemetry, and no set-up of whoever calls."""
    telemetry_off(os.environ)
    for name in [name for name in os.environ if name.startswith("HEADWAY_")]:
        del os.environ[name]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def gates(setting: Setting, names: tuple[str, ...] | list[str]) -> dict[str, list[Measure]]:
    """The measures of each data set, and what they cost.

    Raises:
        DataMissing: before anything is computed.
    """
    modules = {name: importlib.import_module(f"tests.quality.{name}") for name in names}
    for module in modules.values():
        for file in getattr(module, "FILES", ()):
            setting.file(file)
    found = {}
    for name, module in modules.items():
        started = time.process_time()
        found[name] = module.measures(setting)
        spent = time.process_time() - started
        found[name].append(told("cost of these figures", spent, unit="CPU s"))
        print(f"{name}: {spent:.0f} CPU s")
    return found


if __name__ == "__main__":
    main()
