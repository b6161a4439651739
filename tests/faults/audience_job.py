"""Makes an audience in small blocks and says each step aloud, for killing it between any two.

``python -m tests.faults.audience_job HOME SPEC CHECKPOINTS OUTPUT``; it goes on after each step once it is told to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from features.checkpoints import Checkpoints
from features.home import Home
from models.audience_work import made_audience, write_audience
from models.audiences import AudienceSpec

SIZE = 17
"""Customers of a block."""


def told(step: str, done: int, total: int) -> None:
    """Say a step, and wait for a word."""
    print(f"{step} {done} {total}", flush=True)
    if not sys.stdin.readline():
        raise SystemExit(1)


def main(home: str, spec: str, checkpoints: str, output: str) -> None:
    """Make it."""
    asked = msgspec.json.decode(Path(spec).read_bytes(), type=AudienceSpec)
    made = made_audience(Home(Path(home)), asked, Checkpoints(Path(checkpoints)), tell=told, size=SIZE)
    write_audience(made, Path(output))


if __name__ == "__main__":
    main(*sys.argv[1:])
