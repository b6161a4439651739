"""Commands ``headway backup`` and ``headway restore``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from features.home import HOME_VARIABLE, Home
from features.online_location import VARIABLE as ONLINE_STORE
from features.online_location import online_location
from models.configuration import CONFIG_VARIABLE

if TYPE_CHECKING:
    from models.restore import Restored

_JSON = typer.Option("--json", help="Print the result as JSON.")
_SUFFIX: Final = ".zip"


def backup(
    target: Annotated[Path, typer.Argument(help="The file to write, or a folder that gets one named by the time.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    with_tracking: Annotated[
        bool, typer.Option("--with-tracking", help="Also MLflow's database and artefacts.")
    ] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Write everything an installation cannot do without to one verified file; the service may run meanwhile.

    Events, decisions, configuration, bundles with their aliases and promotions, prices, reports and API keys (hashed)
    are in it. It holds personal data and is readable for its owner only.
    """
    from models.backup import make_backup

    home = Home.from_environment(os.environ)
    at = time.time_ns() // 1_000
    with _progress_bar("rows") as progress:
        made = make_backup(
            home,
            os.environ,
            _file_of(target, at),
            at=at,
            replace=force,
            with_tracking=with_tracking,
            progress=progress,
        )
    manifest = made.manifest
    document: dict[str, Any] = {
        "file": str(made.path),
        "bytes": made.size,
        "made_at": manifest.made_at,
        "files": len(manifest.files),
        "stores": {
            name: {"layout": store.layout, "head": store.head, "rows": {one.name: one.rows for one in store.tables}}
            for name, store in manifest.stores.items()
        },
    }
    if as_json:
        typer.echo(json.dumps(document))
        return
    counts = {name: rows for store in document["stores"].values() for name, rows in store["rows"].items()}
    typer.echo(
        f"{counts.get('events', 0):,} events and {counts.get('decisions', 0):,} decisions as of {manifest.made_at}, "
        f"verified: {made.path} ({made.size:,} bytes)"
    )


def restore(
    source: Annotated[Path, typer.Argument(help="A file that `headway backup` wrote.")],
    home: Annotated[
        Path | None, typer.Option(help=f"Where the home goes; the one that {HOME_VARIABLE} names if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Rename a home that is there, and say how.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Make a home of a backup, once every byte of it is verified; all of it or nothing.

    The home must be empty. Nothing may be running on it.
    """
    from models.restore import restore_backup

    chosen = Home.from_environment(os.environ)
    if home is not None:
        chosen = Home(home.absolute(), chosen.database)
    location = online_location(os.environ)
    with _progress_bar("bytes") as progress:
        made = restore_backup(source, chosen, at=time.time_ns() // 1_000, move_aside=force, progress=progress)
    next_steps = list(_next_steps(made, on_redis=location is not None))
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "home": str(made.home.root),
                    "made_at": made.manifest.made_at,
                    "made_by": made.manifest.headway,
                    "stores": {name: store.head for name, store in made.manifest.stores.items()},
                    "upgraded": list(made.upgraded),
                    "told_again": made.told_again,
                    "moved_aside": None if made.moved_aside is None else str(made.moved_aside),
                    "warnings": list(made.warnings),
                    "next": next_steps,
                }
            )
        )
        return
    typer.echo(f"{made.home.root} is as of {made.manifest.made_at}, every byte verified.")
    if made.moved_aside is not None:
        typer.echo(f"What was there before is {made.moved_aside}; remove it once it is not needed.")
    for warning in made.warnings:
        typer.echo(f"Warning: {warning}.", err=True)
    for step in next_steps:
        typer.echo(f"Next: {step}")


def _file_of(target: Path, at: int) -> Path:
    """The file that is meant: of a folder one that is named by the time."""
    if not target.is_dir():
        return target.absolute()
    moment = datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    return target.absolute() / f"headway-{moment}{_SUFFIX}"


def _next_steps(made: Restored, *, on_redis: bool) -> Iterator[str]:
    if made.configuration_from is not None:
        yield (
            f"the configuration was read from {made.configuration_from} and is now the home's own, in "
            f"{made.home.config}; set {CONFIG_VARIABLE} if another is to hold"
        )
    if on_redis:
        yield f"the states in {ONLINE_STORE} are not used any more and come back as customers do"
    yield "`headway features backfill` fills the feature store at once; else each customer's first answer is slower"
    yield "`headway replay --last 1000` makes decisions again and compares them; `headway serve` starts the service"


@contextmanager
def _progress_bar(unit: str) -> Iterator[Callable[[int], None]]:
    """A counter on stderr; none where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(f"{{task.completed:,.0f}} {unit}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda more: bar.advance(task, more)
