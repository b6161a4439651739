"""The prices that decisions are charged: read from the home, replaced while requests run, never by damaged ones."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec import structs

from features.errors import HeadwayError
from models.decision import DecisionRecord
from models.deliberation import Rulebook
from models.price_files import CURRENT, current_versions, read_prices
from models.prices import PRICES_OUTDATED, PriceList
from serving.telemetry import log_event


@dataclass(frozen=True, slots=True)
class Charged:
    """What one decision is charged.

    Attributes:
        prices: None where none were published, or they no longer hold.
        is_outdated: published prices are no longer valid, or were found under other capacities than there are now.
    """

    prices: PriceList | None
    is_outdated: bool

    def said_in(self, record: DecisionRecord) -> DecisionRecord:
        """A record that names the price list, and says where it is outdated."""
        if self.prices is not None:
            record = structs.replace(record, versions={**record.versions, "prices": self.prices.version})
        if self.is_outdated:
            record = structs.replace(record, degraded=(*record.degraded, PRICES_OUTDATED))
        return record


NOT_CHARGED: Final = Charged(None, is_outdated=False)


def charged_prices(published: PriceList | None, rulebook: Rulebook, *, at: int) -> Charged:
    """What of the published prices a decision at a moment is charged.

    Prices that are no longer valid are not: what they shared out is gone. Those of other capacities are, as far as the
    policy still declares what they are of: an old price of what is scarce is nearer to the truth than none.
    """
    if published is None:
        return NOT_CHARGED
    if not published.is_valid(rulebook.journey.id, at):
        return Charged(None, is_outdated=True)
    return Charged(published, is_outdated=not published.is_of(rulebook.policy, rulebook.policy_version))


class Prices:
    """The current price list of every journey.

    Args:
        folder: ``prices`` of the home; need not hold anything yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current: dict[str, PriceList] = {}
        self._versions: dict[str, str] = {}
        self._refused: frozenset[str] = frozenset()
        self._stamp: tuple[int, int, int] | None = None

    def current(self, journey_id: str) -> PriceList | None:
        """The price list that was published last for a journey; None where there is none."""
        return self._current.get(journey_id)

    def refresh(self) -> None:
        """Read what was published since the last time. What cannot be read leaves the one before in place."""
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        refused = self._read()
        for reason in refused - self._refused:
            log_event("prices_refused", level=logging.ERROR, reason=reason)
        self._refused = refused
        if not refused:  # else the next look tries again: a folder may have been away for a moment
            self._stamp = stamp

    def _read(self) -> frozenset[str]:
        """Load the lists that are current and not loaded yet; why some were not."""
        try:
            versions = current_versions(self._folder)
        except HeadwayError as error:
            return frozenset([str(error)])
        refused = []
        for journey_id, version in versions.items():
            if version == self._versions.get(journey_id):
                continue
            try:
                self._current[journey_id] = read_prices(self._folder, version)
            except HeadwayError as error:
                refused.append(f"{journey_id}: {error}")
                continue
            self._versions[journey_id] = version
            log_event("prices_loaded", journey_id=journey_id, version=version)
        return frozenset(refused)

    def _file_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._folder / CURRENT)
        except FileNotFoundError:
            return None
        return (status.st_mtime_ns, status.st_ino, status.st_size)
