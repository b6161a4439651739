"""Figures of several worker processes told together: each leaves its own in a folder, whoever is asked adds them up.

Prometheus's client shares what is counted as it happens; what is measured at the look is only known to its process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

ADDED: Final = frozenset({"headway_under_way", "headway_decisions_waiting", "headway_commits_waiting"})
"""Gauges of which all processes together have the sum; of others the largest counts, of counters always the sum."""

_SUFFIX: Final = ".figures"


class _Figure(msgspec.Struct, frozen=True, array_like=True):
    name: str
    documentation: str
    type: str
    sample: str
    labels: dict[str, str]
    value: float


_DECODER: Final = msgspec.json.Decoder(list[_Figure])


class SharedFigures(Collector):
    """The figures of every process that serves.

    Args:
        folder: what the processes share; what is in it from a process that has ended is passed over.
        own: the figures of this process.
    """

    def __init__(self, folder: Path, own: Sequence[Collector]) -> None:
        self._folder = folder
        self._own = own
        self._leaving = threading.Lock()  # of the thread that leaves them each second, and of whoever is asked

    def leave(self) -> None:
        """Leave this process's figures for the others."""
        told = [
            _Figure(family.name, family.documentation, family.type, sample.name, dict(sample.labels), sample.value)
            for collector in self._own
            for family in collector.collect()
            for sample in family.samples
        ]
        path = self._folder / f"{os.getpid()}{_SUFFIX}"
        part = path.with_suffix(".part")
        with self._leaving:
            part.write_bytes(msgspec.json.encode(told))
            part.replace(path)

    def collect(self) -> Iterator[Metric]:
        """All of them, this process's as they are now."""
        self.leave()
        families: dict[str, Metric] = {}
        values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        for figure in self._left():
            families.setdefault(figure.name, Metric(figure.name, figure.documentation, figure.type))
            key = (figure.name, figure.sample, tuple(figure.labels.items()))
            is_added = figure.type == "counter" or figure.name in ADDED
            before = values.get(key)
            value = figure.value if before is None else before + figure.value if is_added else max(before, figure.value)
            values[key] = value
        for (name, sample, labels), value in values.items():
            families[name].add_sample(sample, dict(labels), value)
        yield from families.values()

    def _left(self) -> Iterable[_Figure]:
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with suppress(OSError, msgspec.DecodeError):
                if _is_running(int(path.stem)):
                    yield from _DECODER.decode(path.read_bytes())
                else:
                    path.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
