"""Published price lists: ``prices/<version>.json`` for ever, and ``prices/current.json``, which says which ones hold.

Decisions name the version that they were made with, so a list is never changed or removed. Workers watch the one file,
which is replaced in one step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from features.durable_files import sync_folder, write_durably
from features.errors import StoreCorrupted, StoreUnavailable, UnknownObject
from features.home import lock_file
from models.prices import PriceList, dump_prices

CURRENT: Final = "current.json"
CURRENT_FORMAT: Final = 1
_VERSION: Final = re.compile(r"[0-9a-f]{12}")


def publish_prices(folder: Path, prices: PriceList) -> str:
    """Keep a price list and make it the current one of its journey; its version.

    Raises:
        HomeLocked: another process is publishing.
        StoreUnavailable: the folder cannot be written.
        StoreCorrupted: the file that says which lists are current is damaged.
    """
    version = prices.version
    current = folder / CURRENT
    try:
        with lock_file(current):
            kept = folder / f"{version}.json"
            if not kept.is_file():
                _replace(kept, dump_prices(prices))
            versions = {**current_versions(folder), prices.journey_id: version}
            document = {"format": CURRENT_FORMAT, "current": dict(sorted(versions.items()))}
            _replace(current, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise StoreUnavailable(f"cannot write {folder}: {error.strerror}; expected a folder to write to") from error
    return version


def current_versions(folder: Path) -> Mapping[str, str]:
    """Version of the current price list of each journey; empty where none was published.

    Raises:
        StoreCorrupted: the file is damaged.
        StoreUnavailable: it cannot be read.
    """
    file = folder / CURRENT
    try:
        document = json.loads(file.read_bytes())
        if document["format"] != CURRENT_FORMAT:
            raise ValueError(f"format {document['format']!r}, expected {CURRENT_FORMAT}")
        return {str(journey_id): _checked(version) for journey_id, version in document["current"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreUnavailable(f"cannot read {file}: {error.strerror}; expected a readable file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreCorrupted(f"{file} is damaged: {error!r:.200}; publish prices again") from error


def read_prices(folder: Path, version: str) -> PriceList:
    """A price list by its version.

    Raises:
        UnknownObject: there is none.
        StoreCorrupted: its bytes are not those that the version names.
        StoreUnavailable: it cannot be read.
    """
    if not _VERSION.fullmatch(version):
        raise UnknownObject(f"the price list {version!r:.80}, expected twelve hexadecimal digits")
    file = folder / f"{version}.json"
    try:
        data = file.read_bytes()
        prices = msgspec.json.decode(data, type=PriceList)
    except FileNotFoundError as error:
        raise UnknownObject(f"no price list {version} in {folder}; expected one that was published") from error
    except OSError as error:
        raise StoreUnavailable(f"cannot read {file}: {error.strerror}; expected a readable file") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreCorrupted(f"{file} is damaged: {error}; restore a backup, or publish prices again") from error
    if prices.version != version:
        raise StoreCorrupted(f"{file} holds the prices {prices.version}, expected {version}: restore a backup")
    return prices


def _checked(version: object) -> str:
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(f"version {version!r}, expected twelve hexadecimal digits")
    return version


def _replace(file: Path, data: bytes) -> None:
    staging = file.with_name(f".{file.name}.new")  # the lock allows one writer, so one name will do
    write_durably(staging, data)
    staging.replace(file)
    sync_folder(file.parent)


class PriceLists:
    """Price lists by version, each read once.

    Args:
        folder: ``prices`` of the home.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, PriceList] = {}

    def of(self, version: str) -> PriceList:
        """The list of a version; raises as ``read_prices``."""
        if version not in self._read:
            self._read[version] = read_prices(self._folder, version)
        return self._read[version]
