"""The command ``headway simulate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from features.errors import InvalidInput, Problem
from features.events import parse_timestamp

DEFAULT_CUSTOMERS = 10_000
DEFAULT_SEED = 7
DEFAULT_SPAN_DAYS = 180.0


def simulate(
    out: Annotated[Path, typer.Option(help="The folder to write; an earlier simulation in it is replaced.")],
    customers: Annotated[int, typer.Option(help="How many customers.", min=1)] = DEFAULT_CUSTOMERS,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = DEFAULT_SEED,
    until: Annotated[
        str | None, typer.Option(help="End of simulated time, ISO 8601 with an offset; a fixed day if not given.")
    ] = None,
    span_days: Annotated[
        float, typer.Option(help="Applications are spread evenly over so many days before the end.")
    ] = DEFAULT_SPAN_DAYS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Simulate customers of the built-in journey: events, past decisions, and what every action truly changes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from training.simulate import DEFAULT_UNTIL, IMPORTED, Simulation, summary
    from training.simulate import simulate as run

    end = _moment(until or DEFAULT_UNTIL)
    simulation = Simulation(customers=customers, seed=seed, until=end, span_days=span_days)
    columns = (TextColumn("customers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("customers", total=customers)
        result = run(simulation, out, progress=lambda done: bar.advance(task, done))
    if as_json:
        json.dump(summary(simulation, result), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    counts = f"{result.customers} customers, {result.events} events, {result.decisions} decisions"
    typer.echo(f"{counts} until {until or DEFAULT_UNTIL} in {out}")
    typer.echo(f"Next: headway import --mapping simulated {' '.join(str(out / name) for name in IMPORTED)}")


def _moment(text: str) -> int:
    try:
        return parse_timestamp(text)
    except ValueError as error:
        expected = "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z"
        raise InvalidInput("--until is not a moment", [Problem("--until", repr(text), expected)]) from error
