"""Command ``headway config schemas``; it stands here since the parameters of training have a schema too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from features.editor_schemas import editor_schema
from features.errors import StoreUnavailable
from models.configuration_schemas import configuration_schemas, schema_name, schema_text
from training.params import PARAMS_FILE, Params

config = typer.Typer(help="What configuration files may say.", no_args_is_help=True)


@config.callback()
def _group() -> None:
    """What configuration files may say."""


@config.command()
def schemas(
    output: Annotated[Path, typer.Option(help="The folder to write them to.", file_okay=False)],
) -> None:
    """Write the JSON Schema of every YAML file, for editors: keys, types, bounds and what each key means.

    An editor finds a schema by a first line such as ``# yaml-language-server: $schema=schemas/taxonomy.json``.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, schema in all_schemas().items():
            (output / name).write_text(schema_text(schema), encoding="utf-8")
            typer.echo(output / name)
    except OSError as error:
        raise StoreUnavailable(f"cannot write to {output}: {error}; expected a folder that can be written") from error


def all_schemas() -> dict[str, dict[str, Any]]:
    """The schema of every YAML file, by the name it is published under."""
    params = PARAMS_FILE.name
    return {**configuration_schemas(), schema_name(params): editor_schema(Params, params)}
