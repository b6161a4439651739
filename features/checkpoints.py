"""Steps of long work that survive a kill: each is a file, taken again only if it still is what was written.

A step is found by its name. What is damaged, or was cut off, is made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from features.durable_files import replace_durably, sync_file
from features.errors import StoreUnavailable

_DIGEST: Final = ".sha256"
_OWNERS_FOLDER: Final = 0o700
_OWNERS_FILE: Final = 0o600


class Checkpoints:
    """The steps in a folder, which is made for its owner alone.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=_OWNERS_FOLDER, parents=True, exist_ok=True)

    @classmethod
    def of_release(cls, folder: Path, release: str) -> Checkpoints:
        """The steps that a release made: another one may divide the work otherwise, or write other bytes.

        Args:
            folder: has the steps of all releases.
            release: of the software.
        """
        return cls(folder / f"release-{release}")

    def data(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What a step came to.

        Args:
            name: of the step.
            make: does it, where it was not done yet.

        Raises:
            StoreUnavailable: it cannot be kept.
        """
        found: list[bytes] = []

        def write(path: Path) -> None:
            found.append(make())
            path.write_bytes(found[0])

        path = self.file(name, write)
        return found[0] if found else path.read_bytes()

    def file(self, name: str, write: Callable[[Path], object]) -> Path:
        """The file that a step came to.

        Args:
            name: of the step.
            write: does it, into a file of this name, where it was not done yet.

        Raises:
            StoreUnavailable: it cannot be kept.
        """
        path = self._folder / name
        digest_file = path.with_name(f"{name}{_DIGEST}")
        try:
            if path.is_file() and digest_file.is_file() and digest_file.read_text("ascii") == _digest(path):
                return path
            digest_file.unlink(missing_ok=True)
            write(path)
            path.chmod(_OWNERS_FILE)
            sync_file(path)
            replace_durably(digest_file, _digest(path).encode("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            said = f"cannot keep {path}: {error}; expected a folder with room that can be written"
            raise StoreUnavailable(said) from error
        return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
