"""Journey reports of an installation: made from its event log, kept on disk until the log goes on.

``python -m models.journey_reports`` makes one report in a process of its own, asked on standard input: what the service
does, so that a report takes neither its memory nor its threads' time.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from features.errors import Conflict, HeadwayError
from features.home import Home, telemetry_off, use_numba_cache
from features.journey_findings import REPORT_FORMAT
from features.journey_question import Question
from models.configuration import Configuration, load_configuration

KEPT: Final = 64
"""Reports kept on disk; the ones made longest ago go first."""

POLITENESS: Final = 10
"""A report waits for whatever else the machine has to do."""


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One report that is to be made.

    Attributes:
        configuration: the version that it must be made under.
        until_position: the last position of the log that counts.
    """

    journey_id: str
    question: Question
    configuration: str
    until_position: int


class KeptReports:
    """Finished reports in a folder, by what they answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def given(self, request: ReportRequest, make: Callable[[ReportRequest], bytes]) -> bytes:
        """The kept report that answers a request; else a new one, then kept.

        A folder that cannot be read or written costs time, not the answer.
        """
        path = self._folder / f"{_key(request)}.json"
        with suppress(OSError):
            return path.read_bytes()
        report = make(request)
        with suppress(OSError):
            self._keep(path, report)
        return report

    def has(self, request: ReportRequest) -> bool:
        """Whether the report that answers a request is kept."""
        return (self._folder / f"{_key(request)}.json").is_file()

    def _keep(self, path: Path, report: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_bytes(report)
        partial.replace(path)
        by_age = sorted(self._folder.glob("*.json"), key=lambda one: one.stat().st_mtime_ns)
        for old in by_age[:-KEPT]:
            old.unlink(missing_ok=True)


def _key(request: ReportRequest) -> str:
    named = msgspec.json.encode((REPORT_FORMAT, request), order="deterministic")
    return hashlib.blake2b(named, digest_size=16).hexdigest()


def made_report(home: Home, configuration: Configuration, request: ReportRequest) -> bytes:
    """A report as JSON, out of the event log of a home, which is only read.

    Raises:
        Conflict: the configuration is another one than the request is for.
        UnknownObject: the home has no event log yet.
        StoreUnavailable: the log cannot be read.
    """
    from features.event_export import export_events
    from features.event_store import open_event_log
    from features.journey_report import journey_report

    if configuration.version != request.configuration:
        raise Conflict(
            f"the configuration is now {configuration.version}, expected {request.configuration}: ask again in a "
            f"moment, or restart the service where taxonomy or journeys changed"
        )
    with TemporaryDirectory(prefix="headway-", dir=home.state) as folder:
        events = Path(folder) / "events.parquet"
        with closing(open_event_log(home, readonly=True)) as log:
            export_events(log, events, until=request.until_position)
        report = journey_report(
            events,
            configuration.taxonomy,
            configuration.journeys.by_id[request.journey_id],
            request.question,
            configuration=configuration.version,
        )
    return msgspec.json.encode(report)


def end_tidily() -> None:
    """Let this process, when it is told to end, first remove what it has written for itself: a copy of the log."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def main() -> int:
    """Make the report that standard input asks for, onto standard output; the exit code."""
    end_tidily()
    telemetry_off(os.environ)
    os.nice(POLITENESS)
    home = Home.from_environment(os.environ)
    use_numba_cache(home)
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=ReportRequest)
        sys.stdout.buffer.write(made_report(home, load_configuration(home, os.environ), request))
    except HeadwayError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
