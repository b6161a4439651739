"""Looks at other processes, for which there is nothing else to wait on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LONGEST_WAIT: Final = 60.0
"""Far more seconds than anything that is waited for takes, on a machine that is busy."""


def until(is_so: Callable[[], bool]) -> None:
    """Nothing, once something that another process does is so."""
    end = time.monotonic() + LONGEST_WAIT
    while not is_so():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is over and that nobody has asked after does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False
