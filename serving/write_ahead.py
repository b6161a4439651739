"""What tells that the write-ahead log of a store grows: bytes for metrics, a note for readiness, and an event."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from features.write_ahead import NOTED_ABOVE, write_ahead_bytes
from serving.telemetry import log_event


class WriteAheadLogs:
    """Looks at the files of the embedded stores.

    Args:
        stores: the files by the names of their stores; none where they are kept elsewhere.
        noted_above: bytes.
    """

    def __init__(self, stores: Mapping[str, Path], *, noted_above: int = NOTED_ABOVE) -> None:
        self._stores = dict(stores)
        self._noted_above = noted_above
        self._told: frozenset[str] = frozenset()

    def sizes(self) -> dict[str, int]:
        """Bytes by store."""
        return {name: write_ahead_bytes(path) for name, path in self._stores.items()}

    def notes(self) -> tuple[str, ...]:
        """What is said of each that is too long."""
        return tuple(
            f"the write-ahead log of {name} has {size >> 20} MB; expected less: end whatever reads {path.name} for long"
            for name, path in self._stores.items()
            if (size := write_ahead_bytes(path)) > self._noted_above
        )

    def refresh(self) -> None:
        """Log each that has become too long, once until it is short again."""
        sizes = {name: size for name, size in self.sizes().items() if size > self._noted_above}
        for name in sorted(sizes.keys() - self._told):
            log_event("write_ahead_log_grows", level=logging.WARNING, store=name, bytes=sizes[name])
        self._told = frozenset(sizes)
