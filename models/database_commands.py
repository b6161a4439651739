"""`headway database`: the PostgreSQL database that keeps events and records, brought to the layout of a release."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import Refused

if TYPE_CHECKING:
    from features.database_location import DatabaseLocation

database = typer.Typer(
    help="The PostgreSQL database that HEADWAY_DATABASE names: its layout.", no_args_is_help=True, add_completion=False
)


@database.command("upgrade")
def upgrade_database(
    revision: Annotated[str, typer.Option(help="Where to stop; the newest unless told.")] = "head",
) -> None:
    """Make the tables, or bring those of an earlier release to the layout of this one; what they hold stays."""
    from models.database_migrations import current, upgrade

    location = _location()
    before = upgrade(location, revision)
    _say(location, before, current(location))


@database.command("downgrade")
def downgrade_database(
    revision: Annotated[str, typer.Argument(help="To this one; `base` removes the tables and all they hold.")],
    yes: Annotated[bool, typer.Option("--yes", help="Go down, and lose what the older layout cannot hold.")] = False,
) -> None:
    """Bring the tables to the layout of an earlier release."""
    from models.database_migrations import current, downgrade

    location = _location()
    if not yes:
        raise Refused(f"{location}: going down to {revision!r:.80} may lose data; expected a backup, then --yes")
    before = downgrade(location, revision)
    _say(location, before, current(location))


@database.command("status")
def database_status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which layout the database has, and which one this release needs; exit code 1 where they differ."""
    from features.postgres_store import REVISION
    from models.database_migrations import current

    location = _location()
    found = current(location)
    if as_json:
        typer.echo(json.dumps({"database": location.masked, "revision": found, "expected": REVISION}))
    else:
        typer.echo(f"{location}: {found or 'no tables'}; this release needs {REVISION}")
    if found != REVISION:
        raise typer.Exit(1)


def _location() -> DatabaseLocation:
    from features.database_location import VARIABLE, database_location

    location = database_location(os.environ)
    if location is None:
        raise Refused(f"{VARIABLE} names no PostgreSQL database; expected postgresql://user@host/database")
    return location


def _say(location: DatabaseLocation, before: str | None, now: str | None) -> None:
    was, is_now = before or "no tables", now or "no tables"
    typer.echo(f"{location}: {is_now}, as it was" if was == is_now else f"{location}: {was} -> {is_now}")
