"""Reports that the commands of training keep in the home, read for callers: off-policy evaluations, and drift.

None of this is on the way of a decision.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from features.errors import StoreCorrupted, StoreUnavailable, UnknownObject
from features.events import dump_timestamp, parse_timestamp
from models.ope_reports import kept_ope_reports, ope_report
from models.report_files import read_report_file
from serving.queries import Query, Words
from serving.schemas import Timestamp
from serving.telemetry import log_event

Json = dict[str, Any]

HISTORY_BYTES: Final = 1 << 20
"""So much of the end of a history is read."""

HISTORY: Final = ("history.1.jsonl", "history.jsonl")
"""The headlines so far, oldest first: what was put aside, and what is being written."""

SHOWN_HISTORY: Final = 100
SHOWN_REPORTS: Final = 200
FIGURES: Final = (
    *("drifted_share", "largest_psi", "calibration_slope", "effect_drifted", "no_action_rate", "cap_saturation"),
)
"""Numbers of a drift report's headline that are told as metrics."""


class StoredReport(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation that is kept.

    Attributes:
        bytes: of its JSON.
    """

    id: str
    written_at: Timestamp
    bytes: int


class StoredReports(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluations that are kept, the newest first; at most 200 of them."""

    reports: tuple[StoredReport, ...]


class OpeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One off-policy evaluation.

    Attributes:
        report: as `headway evaluate --log --json` prints it.
    """

    id: str
    written_at: Timestamp
    report: Json


class JourneyDrift(msgspec.Struct, frozen=True, kw_only=True):
    """The drift of one journey.

    Attributes:
        written_at: when the report was written.
        report: the latest, as `headway drift --json` prints it.
        history: what earlier runs and the latest said in short, oldest first; at most 100.
    """

    journey_id: str
    written_at: Timestamp
    report: Json
    history: tuple[Json, ...]


class DriftAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The latest drift reports; a journey that none was made of is not among them."""

    journeys: tuple[JourneyDrift, ...]


class EvaluationShelf:
    """Off-policy evaluations, kept by ``headway evaluate --log`` as ``<id>.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def reports(self) -> StoredReports:
        """What is kept, the newest first; nothing where nothing was ever evaluated.

        Raises:
            StoreUnavailable: the folder is there and cannot be read.
        """
        newest = kept_ope_reports(self._folder)[:SHOWN_REPORTS]
        return StoredReports(
            reports=tuple(
                StoredReport(id=one.report_id, written_at=_moment(one.written_ns), bytes=one.size) for one in newest
            )
        )

    def report(self, report_id: str) -> OpeReport:
        """One of them.

        Raises:
            UnknownObject: there is no such report.
            StoreCorrupted: what is kept is no report.
            StoreUnavailable: it cannot be read.
        """
        found = ope_report(self._folder, report_id)
        return OpeReport(id=report_id, written_at=_moment(found.written_ns), report=found.document)


@dataclass(frozen=True, slots=True)
class _Headline:
    stamp: tuple[int, int]
    verdict: str
    at: int | None
    figures: Mapping[str, float]


class DriftDesk(Collector):
    """The latest drift reports, for callers, and their headlines as metrics.

    Args:
        folder: where ``headway drift`` keeps them.
        journeys: ids of the journeys.
        clock: now, microseconds since the epoch.
    """

    def __init__(self, folder: Path, *, journeys: Sequence[str], clock: Callable[[], int]) -> None:
        self._folder, self._journeys, self._clock = folder, tuple(journeys), clock
        self._headlines: dict[str, _Headline] = {}

    def drift(self, words: Words) -> DriftAnswer:
        """The latest report of each journey, or of one.

        Args:
            words: the query parameters, each with every value given.

        Raises:
            InvalidInput: with every bad parameter.
            UnknownObject: nothing was compared yet of the journey that is named.
            StoreError: what is kept cannot be read.
        """
        query = Query.of_words(words, ("journey_id",))
        named = query.choice("journey_id", self._journeys, "")
        query.refuse("there is no drift report like this")
        history = [entry for name in HISTORY for entry in _tail(self._folder / name)]
        found = []
        for journey_id in (named,) if named else self._journeys:
            read = read_report_file(self._folder / f"{journey_id}.json")
            if read is None and named:
                raise UnknownObject(f"no drift report of {journey_id}; expected one made by `headway drift`")
            if read is not None:
                own = [one for one in history if one.get("journey_id") == journey_id][-SHOWN_HISTORY:]
                found.append(
                    JourneyDrift(
                        journey_id=journey_id,
                        written_at=_moment(read.written_ns),
                        report=read.document,
                        history=tuple(own),
                    )
                )
        return DriftAnswer(journeys=tuple(found))

    def refresh(self) -> None:
        """Take up the headlines of reports that changed since the last look; what cannot be read tells nothing."""
        headlines = {}
        for journey_id in self._journeys:
            path = self._folder / f"{journey_id}.json"
            known, stamp = self._headlines.get(journey_id), _stamp(path)
            if stamp is None:
                continue
            if known is not None and known.stamp == stamp:
                headlines[journey_id] = known
                continue
            try:
                read = read_report_file(path)
            except (StoreCorrupted, StoreUnavailable) as error:
                log_event("drift_unreadable", journey_id=journey_id, reason=str(error))
                read = None
            headlines[journey_id] = _headline({} if read is None else read.document, stamp)
        self._headlines = headlines

    def collect(self) -> Iterator[Metric]:
        """The headlines as gauges; no series of a journey without a report. Nothing is read here."""
        verdicts = GaugeMetricFamily(
            "headway_drift_verdict", "1 for the verdict of the latest drift report.", labels=("journey_id", "verdict")
        )
        ages = GaugeMetricFamily("headway_drift_age_seconds", "Age of the latest drift report.", labels=("journey_id",))
        figures = GaugeMetricFamily(
            "headway_drift_figure", "Headline numbers of the latest drift report.", labels=("journey_id", "figure")
        )
        for journey_id, one in self._headlines.items():
            if one.verdict:
                verdicts.add_metric((journey_id, one.verdict), 1)
            at = one.stamp[0] // 1000 if one.at is None else one.at
            ages.add_metric((journey_id,), max(0.0, (self._clock() - at) / 1_000_000))
            for name, value in one.figures.items():
                figures.add_metric((journey_id, name), value)
        yield from (verdicts, ages, figures)


def _headline(document: Mapping[str, Any], stamp: tuple[int, int]) -> _Headline:
    told = document.get("headline")
    head: Mapping[str, Any] = told if isinstance(told, dict) else {}
    verdict = head.get("verdict", document.get("verdict"))
    try:
        at = parse_timestamp(head["at"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        at = None
    figures = {name: value for name in FIGURES if (value := _figure(head.get(name))) is not None}
    return _Headline(stamp, verdict[:40] if isinstance(verdict, str) else "", at, figures)


def _figure(told: object) -> float | None:
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    with suppress(OverflowError):  # an integer of hundreds of digits
        return float(told)
    return None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size)


def _tail(path: Path) -> list[Json]:
    """The whole lines at the end of a file of JSON lines, oldest first; none where it is not there."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - HISTORY_BYTES))
            lines = file.read(HISTORY_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreUnavailable(f"cannot read {path}: {error.strerror}; expected a readable file") from error
    if size > HISTORY_BYTES:
        lines = lines[1:]  # begun before
    found = []
    for line in lines:
        try:
            document = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            found.append(document)
    return found


def _moment(nanoseconds: int) -> str:
    return dump_timestamp(nanoseconds // 1000)
