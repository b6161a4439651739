"""Commands ``headway export journeys``, ``headway export events`` and ``headway export records``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from features.errors import Refused, UnknownObject
from features.events import dump_event
from features.home import Home, use_numba_cache
from features.yaml_files import one_of
from models.command_options import moment_option
from models.configuration import Configuration, load_configuration

export = typer.Typer(help="Write what a home holds to files of other tools.", no_args_is_help=True)

_SINCE = typer.Option(help="Only events from this moment on: ISO 8601 with an offset.")
_UNTIL = typer.Option(help="Only events before this moment.")
_FORCE = typer.Option("--force", help="Replace the file if there is one.")
_JSON = typer.Option("--json", help="Print the result as JSON.")


_OWNER_ONLY: Final = 0o600


class Format(StrEnum):
    """How a log is written."""

    CSV = "csv"
    PARQUET = "parquet"
    XES = "xes"


@export.command()
def journeys(
    output: Annotated[Path, typer.Option(help="The file to write.", dir_okay=False)],
    journey: Annotated[str | None, typer.Option(help="Only this journey; all if not given.")] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="csv, parquet or xes; as the file's name says if not given.")
    ] = None,
    since: Annotated[str | None, _SINCE] = None,
    until: Annotated[str | None, _UNTIL] = None,
    force: Annotated[bool, _FORCE] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Write the event log as a process log: one case per journey instance, under the usual column names.

    Raw text, facts and attributes marked ``pii`` are not written. Text in CSV that a spreadsheet would take for a
    formula gets an apostrophe before it.
    """
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    chosen = _chosen(configuration, journey)
    start, end = moment_option("--since", since), moment_option("--until", until)
    _refuse_overwriting(output, force=force)
    with _events_file(home) as events:
        use_numba_cache(home)
        from features.journey_export import ExportRange, export_journeys, log_schema
        from features.log_files import format_of, log_writer
        from features.schema import feature_set

        taxonomy = configuration.taxonomy
        by_id = configuration.journeys.by_id
        with log_writer(output, format_of(output) if form is None else form.value, log_schema(taxonomy)) as writer:
            done = export_journeys(
                events,
                writer,
                taxonomy=taxonomy,
                journeys=[(by_id[name], feature_set(taxonomy, by_id[name])) for name in chosen],
                only=ExportRange(since=-math.inf if start is None else start, until=math.inf if end is None else end),
            )
    if as_json:
        typer.echo(json.dumps({**asdict(done), "output": str(output)}))
        return
    typer.echo(f"{done.events:,} events of {done.cases:,} cases of {done.customers:,} customers: {output}")


@export.command()
def events(
    output: Annotated[Path, typer.Option(help="The file to write; compressed if it is called .gz.", dir_okay=False)],
    with_text: Annotated[bool, typer.Option("--with-text", help="Also raw feedback text.")] = False,
    since: Annotated[str | None, _SINCE] = None,
    until: Annotated[str | None, _UNTIL] = None,
    force: Annotated[bool, _FORCE] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Write the events as JSON lines that ``headway import --mapping headway_events`` takes in as the same events.

    The file holds every fact, also personal ones, and is readable for its owner only.
    """
    from features.event_store import open_event_log
    from features.log_files import text_written_whole

    home = Home.from_environment(os.environ)
    start, end = moment_option("--since", since), moment_option("--until", until)
    _refuse_overwriting(output, force=force)
    count = 0
    with (
        closing(open_event_log(home, readonly=True)) as log,
        text_written_whole(output, mode=_OWNER_ONLY) as file,
    ):
        for page in log.read():
            for event in (logged.event for logged in page):
                if (start is None or event.occurred_at >= start) and (end is None or event.occurred_at < end):
                    file.write(dump_event(event if with_text else replace(event, text=None)).decode() + "\n")
                    count += 1
    typer.echo(json.dumps({"events": count, "output": str(output)}) if as_json else f"{count:,} events: {output}")


@export.command()
def records(
    output: Annotated[Path, typer.Option(help="The Parquet file to write.", dir_okay=False)],
    force: Annotated[bool, _FORCE] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Write the decision records as Parquet, one row each, oldest first; a server may run, and waits for nothing.

    Nothing is lost: every candidate with its numbers and probabilities is there. Personal attributes never are in a
    record. The file is readable for its owner only.
    """
    from models.record_export import export_records
    from models.record_store import open_record_store

    home = Home.from_environment(os.environ)
    _refuse_overwriting(output, force=force)
    with closing(open_record_store(home, readonly=True)) as store:
        count = export_records(store, output, mode=_OWNER_ONLY)
    typer.echo(json.dumps({"records": count, "output": str(output)}) if as_json else f"{count:,} records: {output}")


def _chosen(configuration: Configuration, journey: str | None) -> list[str]:
    known = list(configuration.journeys.by_id)
    if journey is None:
        return known
    if journey not in known:
        raise UnknownObject(f"--journey: got {journey}, expected {one_of(known, journey)}")
    return [journey]


def _refuse_overwriting(output: Path, *, force: bool) -> None:
    if output.exists() and not force:
        raise Refused(f"--output: {output} exists, expected a new file: choose another name, or add --force")


@contextmanager
def _events_file(home: Home) -> Iterator[Path]:
    """The event log as Parquet, for as long as the block lasts."""
    from features.event_export import export_events
    from features.event_store import open_event_log

    with (
        closing(open_event_log(home, readonly=True)) as log,
        TemporaryDirectory(prefix="headway-", dir=home.state) as folder,
    ):
        path = Path(folder) / "events.parquet"
        export_events(log, path, until=log.head())
        yield path
