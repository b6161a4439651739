"""``headway accept-loss``: go on with a store that lacks what was answered, where there is no backup of it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from features.errors import Refused
from features.home import Home, lock_file
from features.store_head import accept_file


def accept_loss(
    store: Annotated[str, typer.Argument(help="`events` or `records`: the store that was refused.")],
    code: Annotated[str, typer.Argument(help="The code that the refusal named.")],
) -> None:
    """Take a store as it is, though answered facts are missing from it; they are given up for good.

    Restoring a backup of the whole home comes first. The head that the store did not fit is kept beside it. States for
    serving are mended as they are read; `headway features backfill` makes all of them anew.
    """
    home = Home.from_environment(os.environ)
    files = {path.stem: path for path in (home.events_db, home.records_db)}
    if (path := files.get(store)) is None:
        raise Refused(f"there is no store {store}; expected one of {', '.join(files)}")
    if not home.state.is_dir():
        raise Refused(f"there is no folder {home.state}; expected a home that was written before")
    with lock_file(path):
        aside = accept_file(path, code=code)
    typer.echo(f"{path} is taken as it is; what its head vouched for is kept in {aside.name}.")
