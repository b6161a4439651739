"""``python -m tests.benchmarks [ROW ...] [--json] [--quick] [--postgres]``: the named rows, or all but ``scale``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from features.home import telemetry_off
from tests.benchmarks.report import Measure, as_json, print_table
from tests.benchmarks.world import Worlds

ROWS = {
    "B1": "decision",
    "B2": "over_http",
    "B3": "freshness",
    "B4": "frames",
    "B5": "backfill",
    "B6": "uplift",
    "B7": "start",
    "B8": "ranking",
    "B9": "overload",
}
ON_REQUEST = {"drift": "drift", "scale": "scale"}
"""Rows that take many minutes and run only where they are named."""

KNOWN = ROWS | ON_REQUEST


def main() -> None:
    """Run the rows that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(KNOWN)}; B1 to B9 if none is named")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, measures nothing well")
    parser.add_argument("--postgres", action="store_true", help="B2 also over a PostgreSQL database, made for it")
    chosen = parser.parse_args()
    if unknown := [row for row in chosen.rows if row not in KNOWN]:
        parser.error(f"no row {', '.join(unknown)}; expected any of {', '.join(KNOWN)}")
    telemetry_off(os.environ)
    for name in [name for name in os.environ if name.startswith("HEADWAY_")]:
        del os.environ[name]  # the benchmarks bring their own installation
    found: dict[str, list[Measure]] = {}
    # What is measured prints as it goes; standard output carries the result alone.
    with tempfile.TemporaryDirectory(prefix="headway-benchmarks-") as folder, redirect_stdout(sys.stderr):
        worlds = Worlds(Path(folder), quick=chosen.quick, postgres=chosen.postgres)
        for row in chosen.rows or ROWS:
            module = importlib.import_module(f"tests.benchmarks.{KNOWN[row]}")
            found[row] = module.measures(worlds)
    if chosen.json:
        print(json.dumps(as_json(found)))
    else:
        print_table(found)


if __name__ == "__main__":
    main()
