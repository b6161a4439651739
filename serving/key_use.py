"""When each API key was last used: noted in memory at every call, written down once in a while."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Final

import msgspec

from features.errors import HomeLocked, StoreUnavailable
from features.events import dump_timestamp, parse_timestamp
from features.home import Home, lock_file
from features.whole_files import whole_file
from serving.telemetry import log_event

SAVED_EVERY_SECONDS: Final = 60.0
"""So much of what is known is lost where the process is killed."""


class KeyUse:
    """The last use of keys.

    Args:
        path: the file that it is written to; a damaged one counts as empty, since nothing depends on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._noted: dict[str, int] = {}
        self._saving = threading.Lock()

    @classmethod
    def of(cls, home: Home) -> KeyUse:
        """That of the keys of a home."""
        return cls(home.state / "key-use.json")

    def note(self, key_id: str, at: int) -> None:
        """Note that a key was used; nothing is written."""
        self._noted[key_id] = at

    def saved(self) -> dict[str, str]:
        """When each key was last used, as far as it was written down."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return {}

    def save(self) -> None:
        """Write down what was noted since the last time, if anything.

        Raises:
            HomeLocked: another process of the home is writing; the next time it will be.
            OSError, StoreUnavailable: it cannot be written; likewise.
        """
        with self._saving, lock_file(self._path):
            if noted := dict(self._noted):
                self._write(noted)

    def _write(self, noted: dict[str, int]) -> None:
        known = {key_id: parse_timestamp(at) for key_id, at in self.saved().items()}
        newest = {key_id: max(at, known.get(key_id, 0)) for key_id, at in noted.items()}
        content = {key_id: dump_timestamp(at) for key_id, at in {**known, **newest}.items()}
        with whole_file(self._path, mode=0o600) as file:
            file.write_bytes(msgspec.json.encode(content))
        for key_id, at in noted.items():
            if self._noted.get(key_id) == at:
                del self._noted[key_id]


async def save_use(use: KeyUse) -> None:
    """Write the use of keys down as long as the service runs, and once more at its end."""
    try:
        while True:
            await asyncio.sleep(SAVED_EVERY_SECONDS)
            await asyncio.to_thread(_saved, use)
    finally:
        _saved(use)


def _saved(use: KeyUse) -> None:
    try:
        use.save()
    except (OSError, ValueError, HomeLocked, StoreUnavailable) as error:
        log_event("key_use_not_saved", level=logging.WARNING, error=error)
