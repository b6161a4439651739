"""The closed loop: ``python -m tests.closed_loop [--seeds N] [--rounds N] [--customers N] [--drift] [--write] ...``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.closed_loop.setting import DRIFT_ROUND, Setting
from tests.quality.__main__ import prepare_environment


def main() -> None:
    """Run the loop for some seeds, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.closed_loop", description=__doc__)
    parser.add_argument("--seeds", type=int, default=4, help="worlds, each from an empty home; default 4")
    parser.add_argument("--first-seed", type=int, default=1, help="of them; default 1")
    parser.add_argument("--rounds", type=int, default=10, help="of eight weeks each; default 10")
    parser.add_argument("--customers", type=int, default=1_200, help="who apply in a round; default 1200")
    parser.add_argument("--drift", action="store_true", help=f"the effects change in round {DRIFT_ROUND}")
    parser.add_argument(
        "--told", action="store_true", help="with --drift: somebody says so, and old decisions are left out"
    )
    parser.add_argument("--processes", type=int, default=1, help="seeds that run at once; default 1")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--read", type=Path, nargs="+", default=[], help="earlier --json output in place of a run")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write docs/closed-loop.md and its picture, from a run without and with --drift",
    )
    chosen = parser.parse_args()
    if min(chosen.seeds, chosen.rounds, chosen.customers, chosen.processes) < 1:
        parser.error("--seeds, --rounds, --customers and --processes: expected 1 or more")
    prepare_environment()
    # What is fitted prints as it goes; standard output carries the result alone.
    with redirect_stdout(sys.stderr):
        runs = _read(chosen.read) or _made(chosen)
    if chosen.write:
        from tests.closed_loop.page import write_page

        write_page(runs)
    if chosen.json:
        print(json.dumps(runs, allow_nan=False))
    else:
        from tests.closed_loop.page import summary

        print(summary(runs))


def _made(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    drifts = [False, True] if chosen.write else [chosen.drift]
    asked = [
        (Setting(rounds=chosen.rounds, customers=chosen.customers, drifts=each, told=each and chosen.told), seed)
        for each in drifts
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    ]
    if chosen.processes == 1:
        return [_one(each) for each in asked]
    # A forked child would take over the threads of this one's libraries in whatever state they are.
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_one, asked))


def _one(asked: tuple[Setting, int]) -> dict[str, Any]:
    """One world from an empty home, as JSON values."""
    setting, seed = asked
    from features.home import Home
    from tests.closed_loop.loop import run

    with tempfile.TemporaryDirectory(prefix="headway-loop-") as folder:
        rounds = run(setting, seed, Home(Path(folder)))
    return {"setting": asdict(setting), "seed": seed, "rounds": [_plain(asdict(one)) for one in rounds]}


def _plain(value: Any) -> Any:
    """The same without NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and value != value else value


def _read(files: list[Path]) -> list[dict[str, Any]]:
    return [one for file in files for one in json.loads(file.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    main()
