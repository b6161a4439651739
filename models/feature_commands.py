"""Commands ``headway features backfill``, ``parity``, ``frame`` and ``list``.

They stand here and not in ``features`` because they need the whole, checked configuration.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import Refused, UnknownObject
from features.home import Home, use_numba_cache
from features.online_location import RedisLocation, online_location
from features.yaml_files import one_of
from models.command_options import moment_option
from models.configuration import load_configuration

if TYPE_CHECKING:
    from features.backfill import Backfilled
    from features.moment_frames import Framed
    from features.schema import FeatureSet
    from models.configuration import Configuration
    from models.parity import ParityReport
    from models.served_features import Chosen

features = typer.Typer(help="List features, rebuild what is kept of them, prove them.", no_args_is_help=True)

_BATCH_FILE = "events.parquet"
_EXAMPLES = 10
_SAMPLE = 20
"""So many events, the first of the log, name the customers that Feast reads too."""


@features.command()
def backfill(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    takes_over: Annotated[
        bool, typer.Option("--take-over", help="Empty the Redis first, though another home keeps it.")
    ] = False,
) -> None:
    """Rebuild the feature store from the event log: history for training, states and profiles for serving.

    The log is only read. Refused while a server runs, which then is the one that writes the states. At the end Feast
    reads some customers, and must find what was written.
    """
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    location = online_location(os.environ)
    started = time.perf_counter()
    with _compiled_code(home), _progress_bar() as progress:
        if takes_over:
            _take_over(home, configuration, location)
        done = fill_feature_store(home, configuration, location=location, progress=progress)
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(json.dumps({**asdict(done), "configuration": configuration.version, "seconds": round(seconds, 3)}))
        return
    typer.echo(f"{done.events:,} events of {done.customers:,} customers folded in {seconds:.1f} s")
    typer.echo(f"online      {done.states:,} states, {done.profiles:,} profiles")
    typer.echo(f"history     {done.history_states:,} states, {done.history_profiles:,} profiles")


@features.command()
def parity(
    since: Annotated[str | None, typer.Option(help="Only decisions from here on, ISO 8601 with an offset.")] = None,
    until: Annotated[str | None, typer.Option(help="Only decisions before, likewise.")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="At most so many decisions, the same ones each time; all by default.")
    ] = None,
    journey: Annotated[str | None, typer.Option(help="Only decisions in this journey.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare the features that decisions were served with to those that training reads for the same moments.

    Takes the vectors from the decision records, reads each anew from the event log, strictly before its moment, and
    compares them bit for bit. Exit code 0 where nothing differs, 1 on any difference, 2 where there was nothing to
    compare. Nothing is written; a server may run.
    """
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    with _compiled_code(home), _progress_bar() as progress:
        from models.parity import parity_document, parity_text
        from models.served_features import Chosen

        start, end = moment_option("--since", since), moment_option("--until", until)
        chosen = Chosen(journey_id=_declared(configuration, journey), sample=sample)
        chosen = replace(
            chosen, since=chosen.since if start is None else start, until=chosen.until if end is None else end
        )
        report = compared_features(home, configuration, chosen=chosen, progress=progress)
    if as_json:
        typer.echo(json.dumps(parity_document(report, examples=_EXAMPLES)))
    else:
        typer.echo(parity_text(report, examples=_EXAMPLES), nl=False)
    if not report.decisions:
        raise Refused("no decision could be compared, expected one at least: ask for a decision, or for another period")
    if not report.is_proven:
        raise typer.Exit(1)


@features.command()
def frame(
    moments: Annotated[Path, typer.Argument(help="Parquet with the columns customer_id and at, and any others.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    journey: Annotated[str | None, typer.Option(help="The journey; needed where several are declared.")] = None,
    feature: Annotated[list[str] | None, typer.Option(help="Only this feature; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the features of customers as of moments of the past: a training frame, point in time.

    Each row has what had occurred and had arrived strictly before its moment. Rows out are rows in, sorted by customer
    and time, with their other columns as they were. Memory does not grow with the log; a server may run.
    """
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    if not moments.is_file():
        raise UnknownObject(f"no file {moments}; expected a Parquet file with the columns customer_id and at")
    with _compiled_code(home), _progress_bar() as progress:
        framed = written_frame(
            home, configuration, moments, output, journey_id=journey, names=feature, progress=progress
        )
    if as_json:
        typer.echo(json.dumps({**asdict(framed), "output": str(output), "configuration": configuration.version}))
        return
    typer.echo(f"{framed.rows:,} moments with {framed.features} features in {output}")
    typer.echo(f"from {framed.events:,} events of {framed.customers:,} customers")


@features.command("list")
def list_features(
    as_json: Annotated[bool, typer.Option("--json", help="Print the features as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page.")] = False,
) -> None:
    """List every feature of every journey: name, unit, meaning, what NaN means, and where it comes from."""
    if as_json and as_markdown:
        raise Refused("--json and --markdown were both given; expected at most one of them")
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    with _compiled_code(home):
        from features.feature_reference import feature_page, feature_tables

        feature_sets = _feature_sets(configuration)
        if as_json:
            listed = {
                journey_id: {
                    "version": each.version,
                    "features": [{**asdict(spec), "dtype": spec.dtype} for spec in each.specs],
                }
                for journey_id, each in feature_sets.items()
            }
            typer.echo(json.dumps(listed))
        elif as_markdown:
            typer.echo(feature_page(feature_sets.values()), nl=False)
        else:
            typer.echo(feature_tables(feature_sets.values()), nl=False)


def fill_feature_store(
    home: Home,
    configuration: Configuration,
    *,
    location: RedisLocation | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Backfilled:
    """Rebuild history, states and profiles of a home from its event log, and register the views with Feast.

    Args:
        home: the home; its event log is only read.
        configuration: the configuration that its events keep to.
        location: the Redis that keeps its states; None for the home's own file.
        progress: called with the number of events folded so far, and of all.

    Raises:
        UnknownObject: the home has no event log yet.
        HomeLocked: a server, or another command, writes the online store.
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know; or the Redis is another
            home's.
        StoreUnavailable: the Redis does not answer.
        StoreCorrupted: Feast reads something else than was written.
    """
    from features.backfill import backfill as run
    from features.event_export import export_events
    from features.event_store import open_event_log
    from features.feast_parity import check_parity
    from features.feast_store import AlreadyHeld, FeastStore
    from features.online_stores import open_online_store

    feature_sets = _feature_sets(configuration)
    with (
        closing(open_event_log(home, readonly=True)) as log,
        closing(open_online_store(home, location, feature_sets, configuration.taxonomy)) as store,
    ):
        with TemporaryDirectory(prefix="headway-", dir=home.state) as folder:
            events = Path(folder) / _BATCH_FILE
            total = export_events(log, events, until=log.head())
            done = run(
                events,
                home=home,
                store=store,
                feature_sets=feature_sets,
                taxonomy=configuration.taxonomy,
                progress=_adding_up(progress, total),
            )
        # While the lock is held: Feast makes the same tables where they are missing.
        online_store = None if location is None else location.feast_config
        feast = FeastStore(home, feature_sets, configuration.taxonomy, online_store=online_store, keeper=AlreadyHeld())
        with closing(feast):
            customers = {logged.event.customer_id for page in islice(log.read(page=_SAMPLE), 1) for logged in page}
            check_parity(store, feast, product(sorted(customers), feature_sets))
    return done


def _adding_up(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Tells how many of all there are were done, given how many more were."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    return advance


def written_frame(
    home: Home,
    configuration: Configuration,
    moments: Path,
    output: Path,
    *,
    journey_id: str | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Framed:
    """Write the features of a home's customers as of moments; ``features.moment_frames`` says what is written.

    Raises:
        UnknownObject: the home has no event log yet, or there is no such journey.
        InvalidInput: the moments or the names of features cannot be used.
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    from features.event_export import export_events
    from features.event_store import open_event_log
    from features.moment_frames import write_moment_frame

    feature_sets = _feature_sets(configuration)
    chosen = _declared(configuration, journey_id)
    if chosen is None and len(feature_sets) > 1:
        raise Refused(f"no --journey was given, expected one of {', '.join(feature_sets)}")
    with closing(open_event_log(home, readonly=True)) as log, TemporaryDirectory(prefix="headway-") as folder:
        events = Path(folder) / _BATCH_FILE
        total = export_events(log, events, until=log.head())
        return write_moment_frame(
            events,
            moments,
            output,
            feature_set=feature_sets[chosen or next(iter(feature_sets))],
            taxonomy=configuration.taxonomy,
            names=names,
            progress=_adding_up(progress, total),
        )


def compared_features(
    home: Home,
    configuration: Configuration,
    *,
    chosen: Chosen,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ParityReport:
    """What the decisions of a home were served with, compared with what its event log says.

    Args:
        home: the home; it is only read.
        configuration: the configuration that its events keep to.
        chosen: which decisions.
        progress: called with the number of events read so far, and of all.

    Raises:
        UnknownObject: the home has no decisions, or no events.
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
        StoreError: a store does not answer, or holds what cannot be.
    """
    from features.event_store import open_event_log
    from models.record_store import open_record_store
    from models.served_features import served_against_log

    with (
        closing(open_record_store(home, readonly=True)) as records,
        closing(open_event_log(home, readonly=True)) as log,
        TemporaryDirectory(prefix="headway-", dir=home.state) as folder,
    ):
        return served_against_log(
            records,
            log,
            feature_sets=_feature_sets(configuration),
            taxonomy=configuration.taxonomy,
            chosen=chosen,
            folder=Path(folder),
            progress=progress,
        )


def _declared(configuration: Configuration, journey_id: str | None) -> str | None:
    known = configuration.journeys.by_id
    if journey_id is not None and journey_id not in known:
        raise UnknownObject(f"--journey: got {journey_id}, expected {one_of(list(known), journey_id)}")
    return journey_id


def _take_over(home: Home, configuration: Configuration, location: RedisLocation | None) -> None:
    from features.online_stores import take_over

    if location is None:
        raise Refused("--take-over was given without a Redis; expected HEADWAY_ONLINE_STORE to name one")
    if home.has_events:  # else there is nothing to fill it with, which is said next
        take_over(home, location, _feature_sets(configuration), configuration.taxonomy)


def _feature_sets(configuration: Configuration) -> dict[str, FeatureSet]:
    from features.schema import feature_set

    return {journey.id: feature_set(configuration.taxonomy, journey) for journey in configuration.journeys.journeys}


@contextmanager
def _compiled_code(home: Home) -> Iterator[None]:
    """Compiled code is kept in the home; where there is none yet, a question about it must not make one."""
    if home.root.exists():
        use_numba_cache(home)
        yield
        return
    with TemporaryDirectory(prefix="headway-") as folder:
        use_numba_cache(Home(Path(folder)))
        yield


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr over the events; none where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("events", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
