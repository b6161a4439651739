"""What the service tells about itself: structured log entries and Prometheus metrics. Ids only, never attributes.

Every series has few values of each label: no customer, decision, key or path parameter is ever a label.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from features.events import dump_timestamp
from features.tracked_calls import DropReason
from serving.shared_figures import SharedFigures

LOGGER: Final = "headway"
METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4"
Stage = Literal["wait", "decide", "commit"]

_STAGES: Final[dict[Stage, str]] = {
    "wait": "Time of a decision from its arrival to its turn.",
    "decide": "Time of a decision from its turn to its commit; in a thread, to its answer.",
    "commit": "Time of a decision from its commit until that was on disk.",
}
_AGES: Final = (1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0)
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


_LOGGER: Final = logging.getLogger(LOGGER)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``at``, ``level``, ``event``, then the fields of the entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one entry; an exception is told by its type and place, without its values."""
        entry = {
            "at": dump_timestamp(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = record.exc_info[0].__name__
            entry["raised_at"] = _places(record.exc_info[2])
        return json.dumps(entry, ensure_ascii=True)


def _places(trace: object) -> list[str]:
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code  # type: ignore[attr-defined]  # a traceback; logging types it loosely
        places.append(f"{code.co_filename}:{trace.tb_lineno}")  # type: ignore[attr-defined]  # as above
        trace = trace.tb_next  # type: ignore[attr-defined]  # as above
    return places[-8:]


def configure_logging(level: str, stream: IO[str]) -> None:
    """Write Headway's entries to ``stream``, from ``level`` on. Calling it again replaces the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def log_event(
    event: str, /, *, level: int = logging.INFO, error: BaseException | None = None, **fields: object
) -> None:
    """Write one entry: a constant past-tense event and its fields."""
    if not _LOGGER.isEnabledFor(level):
        return
    trace = None if error is None else (type(error), error, error.__traceback__)
    # Made here: logging would look for the calling line, which no entry tells and every decision would pay for.
    entry = _LOGGER.makeRecord(LOGGER, level, "", 0, event, (), trace)
    entry.fields = fields
    _LOGGER.handle(entry)


class Metrics:
    """The service's metrics, each prefixed ``headway_``.

    Args:
        multiprocess_dir: the folder that worker processes share their values in; None for one process.
        processes: how many serve.
    """

    def __init__(self, multiprocess_dir: str | None = None, *, processes: int = 1) -> None:
        self._multiprocess_dir = multiprocess_dir
        self._registry = registry = CollectorRegistry()
        self._decisions = Counter(
            "headway_decisions", "Decisions answered, by what they chose.", ("chosen", "arm"), registry=registry
        )
        self._degraded = Counter(
            "headway_degraded_decisions", "Decisions that said what was missing.", ("reason",), registry=registry
        )
        self._events = Counter("headway_events", "Events received, by result.", ("result",), registry=registry)
        self._outcomes = Counter(
            "headway_outcomes", "Exposures and outcomes received, by result.", ("result",), registry=registry
        )
        self._calls = Counter(
            "headway_tracking_calls", "Calls of tracking SDKs received, by result.", ("result",), registry=registry
        )
        self._drops = Counter(
            "headway_tracking_drops",
            "What was not kept of calls of tracking SDKs: calls, properties and traits, by reason.",
            ("reason",),
            registry=registry,
        )
        self._configuration_refused = Gauge(
            "headway_configuration_refused",
            "1 while configuration files hold something else than what is in force.",
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._capacity = Gauge(
            "headway_capacity_used_ratio",
            "Share of a capacity or budget that is taken in its present period, leases included.",
            ("limit",),
            multiprocess_mode="mostrecent",
            registry=registry,
        )
        self._requests = Histogram(
            "headway_request_seconds",
            "Time to answer, by route and status.",
            ("route", "status"),
            buckets=_BUCKETS,
            registry=registry,
        )

        self._stages = {
            stage: Histogram(f"headway_decision_{stage}_seconds", text, buckets=_BUCKETS, registry=registry)
            for stage, text in _STAGES.items()
        }
        self._ages = Histogram(
            "headway_features_age_seconds",
            "Age of the newest event that a decision saw.",
            buckets=_AGES,
            registry=registry,
        )
        self._audit_drops = Counter(
            "headway_audit_drops",
            "Lines of the audit log that were lost, because it could not be written.",
            registry=registry,
        )
        self._refusals_lost = Counter(
            "headway_refused_events_lost",
            "Refused events that could not be remembered for /v1/events/recent; their senders were told.",
            registry=registry,
        )
        self._figures: list[Collector] = []
        is_shared = multiprocess_dir is not None and processes > 1
        self._shared = SharedFigures(Path(multiprocess_dir or ""), self._figures) if is_shared else None

    def watch(self, figures: Collector) -> None:
        """Tell these figures too, as they are when somebody looks."""
        self._figures.append(figures)
        if self._multiprocess_dir is None:
            self._registry.register(figures)

    def time_stage(self, stage: Stage, seconds: float) -> None:
        """Count the time that one decision took for a stage."""
        self._stages[stage].observe(seconds)

    def observe_age(self, seconds: float) -> None:
        """Count the age of the features of one decision."""
        self._ages.observe(seconds)

    def note_capacity(self, shares: Mapping[str, float]) -> None:
        """Note how much of each capacity and budget is taken."""
        for limit_id, share in shares.items():
            self._capacity.labels(limit_id).set(share)

    def count_decision(self, *, chosen: str, arm: str, degraded: tuple[str, ...]) -> None:
        """Count one answered decision."""
        self._decisions.labels(chosen, arm).inc()
        for reason in degraded:
            self._degraded.labels(reason).inc()

    def count_events(self, *, accepted: int, duplicate: int, rejected: int) -> None:
        """Count one answered batch of events."""
        _count(self._events, accepted, duplicate, rejected)

    def count_outcomes(self, *, accepted: int, duplicate: int, rejected: int) -> None:
        """Count one answered batch of exposures and outcomes."""
        _count(self._outcomes, accepted, duplicate, rejected)

    def count_calls(
        self, *, accepted: int, duplicate: int, rejected: int, dropped: int, drops: Mapping[DropReason, int]
    ) -> None:
        """Count one answered batch of calls of a tracking SDK, and what was not kept of it by reason."""
        _count(self._calls, accepted, duplicate, rejected)
        self._calls.labels("dropped").inc(dropped)
        for reason, count in drops.items():
            self._drops.labels(reason).inc(count)

    def count_refusals_lost(self, count: int) -> None:
        """Count refused events that could not be remembered."""
        self._refusals_lost.inc(count)

    def count_audit_drops(self, lines: int) -> None:
        """Count lines of the audit log that were lost."""
        self._audit_drops.inc(lines)

    def observe_request(self, *, route: str, status: int, seconds: float) -> None:
        """Count one answered request and its time."""
        self._requests.labels(route, str(status)).observe(seconds)

    def set_configuration_refused(self, refused: bool) -> None:
        """Say whether what lies in the configuration files is refused."""
        self._configuration_refused.set(refused)

    def exposition(self) -> bytes:
        """All series as Prometheus reads them, over all worker processes."""
        if self._multiprocess_dir is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=self._multiprocess_dir)  # type: ignore[no-untyped-call]  # untyped there
        for figures in self._figures if self._shared is None else [self._shared]:
            together.register(figures)
        return generate_latest(together)

    def leave_figures(self) -> None:
        """Leave what this process measures for the others to tell; nothing where it is alone."""
        if self._shared is not None:
            self._shared.leave()


def _count(counter: Counter, accepted: int, duplicate: int, rejected: int) -> None:
    counter.labels("accepted").inc(accepted)
    counter.labels("duplicate").inc(duplicate)
    counter.labels("rejected").inc(rejected)
