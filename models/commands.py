"""Commands of this package: import."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from features.errors import MappingError
from features.events import dump_timestamp_or_none
from features.home import Home, use_numba_cache
from features.importing import KINDS, DryRun, Importer, ImportResult, Progress, Rejects, Sink
from features.mapping import MAPPING_FILE, mapping_folder, read_mapping
from features.mapping import Mapping as ImportMapping
from features.mapping_checks import mapping_problems
from features.mapping_fields import Vocabulary
from features.process_logs import read_process_logs
from models.configuration import (
    CONFIG_VARIABLE,
    Configuration,
    has_configuration,
    install_configuration,
    load_configuration,
    read_configuration,
)
from models.import_decisions import StoreSink, past_decision_id
from models.process_drafts import PROCESS_MINING, draft_configuration, draft_mapping, write_draft


def import_files(
    paths: Annotated[list[Path], typer.Argument(help="The files to import.", exists=True, dir_okay=False)],
    mapping: Annotated[
        str,
        typer.Option(help="A shipped mapping by name, process_mining for any process log, or the path of a file."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="Folder of the reject file; the home's own if not given.", file_okay=False)
    ] = None,
) -> None:
    """Import events, attributes, past decisions and outcomes from files, through a mapping.

    CSV and Parquet tables, JSON lines, and XES and OCEL process logs, gzip or not. Importing a file twice changes
    nothing. What a mapping cannot use is written to a reject file with its line, field, value and what was expected.
    """
    home = Home.from_environment(os.environ)
    now = time.time_ns() // 1000
    with ExitStack() as stack:
        # A trial must leave no home behind where there was none.
        leaves_traces = not dry_run or home.root.exists()
        use_numba_cache(home if leaves_traces else Home(Path(stack.enter_context(TemporaryDirectory()))))
        name = mapping
        if mapping == PROCESS_MINING:
            name, told = _drafted(paths, home, os.environ, Path(stack.enter_context(TemporaryDirectory())))
            for line in told:
                typer.echo(line, err=as_json)
        loaded, configuration = _prepared(name, home, os.environ, dry_run=dry_run)
        if name != mapping and configuration.origin == str(home.config):
            typer.echo(f"what may be edited: {home.config}", err=as_json)
        sink: Sink = DryRun() if dry_run else stack.enter_context(_opened_sink(home, configuration))
        folder = rejects if rejects is not None or dry_run else home.rejects
        stamp = datetime.fromtimestamp(now / 1e6, tz=UTC).strftime("%Y%m%dT%H%M%S%f")
        rejected = stack.enter_context(Rejects(None if folder is None else folder / f"{loaded.source}-{stamp}.jsonl"))
        importer = Importer(loaded, _vocabulary(configuration, now), sink, rejected)
        progress = stack.enter_context(_progress_bar(paths))
        for path in paths:
            importer.read(path, progress)
    _report(importer.result, rejected, configuration, dry_run=dry_run, as_json=as_json)


def _drafted(paths: Sequence[Path], home: Home, env: Mapping[str, str], folder: Path) -> tuple[str, tuple[str, ...]]:
    """The mapping of a process log, and what to tell of it: the home's own, else one drafted into a folder.

    Raises:
        MappingError: nothing can be drafted from the files.
    """
    own = home.config / MAPPING_FILE
    if own.is_file() and not env.get(CONFIG_VARIABLE):
        return str(own), ()
    log = read_process_logs(paths)
    if env.get(CONFIG_VARIABLE) or has_configuration(home.config):
        draft = draft_mapping(log, load_configuration(home, env).taxonomy)
    else:
        draft = draft_configuration(log)
    write_draft(draft, folder)
    return str(folder), draft.told


def _prepared(name: str, home: Home, env: Mapping[str, str], *, dry_run: bool) -> tuple[ImportMapping, Configuration]:
    """The mapping and the configuration it is for, both checked; the home gets the mapping's own unless it is a trial.

    Raises:
        MappingError: with every problem of the mapping.
        ConfigurationError: with every problem of the configuration.
        Conflict: if the home has another configuration.
    """
    folder, file = mapping_folder(name)
    loaded = read_mapping(folder, file)
    if loaded.value is None:
        raise MappingError(f"The mapping {loaded.document.file} is not valid:", loaded.problems)
    brings_own = has_configuration(folder)
    configuration = read_configuration(folder, origin=str(folder)) if brings_own else load_configuration(home, env)
    problems = mapping_problems(
        loaded.value,
        loaded.document,
        taxonomy=configuration.taxonomy,
        journeys=configuration.journeys,
        treatments=configuration.treatment_ids,
    )
    if problems:
        headline = f"The mapping {loaded.document.file} does not fit the configuration {configuration.origin}:"
        raise MappingError(headline, problems)
    if brings_own and not dry_run:
        home.create()
        also = [file] if loaded.value.source == PROCESS_MINING and file == MAPPING_FILE else []
        configuration = install_configuration(home, folder, env, also=also)
    return loaded.value, configuration


@contextmanager
def _opened_sink(home: Home, configuration: Configuration) -> Iterator[Sink]:
    from features.event_store import open_event_log
    from models.configuration_history import keep_configuration
    from models.record_store import open_record_store

    keep_configuration(home.create(), configuration)
    with closing(open_event_log(home)) as log, closing(open_record_store(home)) as records:
        yield StoreSink(log, records, configuration.taxonomy, configuration.catalogue, configuration.versions)


def _vocabulary(configuration: Configuration, now: int) -> Vocabulary:
    return Vocabulary(
        taxonomy=configuration.taxonomy,
        outcomes={outcome.id: outcome for journey in configuration.journeys.journeys for outcome in journey.outcomes},
        journeys=frozenset(configuration.journeys.by_id),
        treatments=configuration.treatment_ids,
        decision_ids=past_decision_id,
        latest=now,
    )


@contextmanager
def _progress_bar(paths: list[Path]) -> Iterator[Progress]:
    """A bar on stderr over the compressed bytes of all files; none where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda path, position: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        tasks = {path: bar.add_task(path.name, total=path.stat().st_size) for path in paths}
        yield lambda path, position: bar.update(tasks[path], completed=position)


def summary(result: ImportResult, rejects: Rejects, configuration: Configuration, *, dry_run: bool) -> dict[str, Any]:
    """What an import did, as ``--json`` prints it."""
    return {
        "dry_run": dry_run,
        "rows": {"read": result.rows, "rejected": result.rows_rejected, "skipped": result.rows_skipped},
        **{kind: asdict(result.tallies[kind]) for kind in KINDS},
        "customers": result.customers,
        "from": dump_timestamp_or_none(result.first_at),
        "to": dump_timestamp_or_none(result.last_at),
        "configuration": configuration.version,
        "rejects": str(rejects.path) if rejects.first and rejects.path else None,
        "problems": [asdict(problem) for problem in result.problems],
    }


def _report(
    result: ImportResult, rejects: Rejects, configuration: Configuration, *, dry_run: bool, as_json: bool
) -> None:
    """Print what an import did.

    Raises:
        MappingError: if a file could not be read to its end, or nothing of all that was read could be used.
    """
    facts = summary(result, rejects, configuration, dry_run=dry_run)
    typer.echo(json.dumps(facts) if as_json else "\n".join(_lines(facts)))
    for row, problem in rejects.first:
        where = f"{row.file}:{row.line}" if row.line else f"{row.file}, row {row.number}"
        typer.echo(f"rejected {where}: {problem}", err=True)
    used = sum(tally.accepted + tally.duplicate for tally in result.tallies.values())
    if result.problems:
        raise MappingError("Not everything could be read; what was accepted before is kept:", result.problems)
    if not used and result.rows_rejected:
        raise MappingError("Nothing could be used:", [problem for _, problem in rejects.first])


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    rows = facts["rows"]
    yield (
        f"{rows['read']:,} rows read: {rows['rejected']:,} rejected, {rows['skipped']:,} without anything to import; "
        f"{facts['customers']:,} customers"
    )
    for kind in KINDS:
        tally = facts[kind]
        if any(tally.values()):
            counted = ", ".join(f"{count:,} {what}" for what, count in tally.items())
            yield f"{kind:<11}{counted}"
    if facts["from"]:
        yield f"from {facts['from']} to {facts['to']}, configuration {facts['configuration']}"
    if facts["rejects"]:
        yield f"what was rejected, and why: {facts['rejects']}"
    if facts["dry_run"]:
        yield "This was a dry run: nothing was written."
    elif not facts["problems"] and any(facts[kind]["accepted"] + facts[kind]["duplicate"] for kind in KINDS):
        yield "Next: headway train"
