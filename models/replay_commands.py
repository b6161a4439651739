"""Command ``headway replay``: recorded decisions made again, as they were or under one change. It only reads."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from features.errors import CannotReplay, Refused, UnknownObject
from features.home import Home, use_numba_cache
from models.command_options import moment_option, what_if_options
from models.configuration import load_configuration

if TYPE_CHECKING:  # jitted code, which is imported once its folder is chosen
    from models.decision import DecisionRecord
    from models.record_store import SqlRecordStore
    from models.replay import Replay
    from models.replayer import Tally

SHOWN: Final = 20
"""Differences that are printed; all of them are counted."""


def replay(
    decision_ids: Annotated[
        list[str] | None, typer.Argument(help="The decisions, as their answers name them.", show_default=False)
    ] = None,
    since: Annotated[str | None, typer.Option(help="Decisions from this moment on: ISO 8601 with an offset.")] = None,
    until: Annotated[str | None, typer.Option(help="Decisions before this moment.")] = None,
    last: Annotated[int | None, typer.Option(help="So many of the newest decisions.", min=1)] = None,
    every: Annotated[bool, typer.Option("--all", help="All decisions.")] = False,
    policy: Annotated[Path | None, typer.Option(help="What if: this policy.yaml.", exists=True, dir_okay=False)] = None,
    actions: Annotated[
        Path | None, typer.Option(help="What if: this actions.yaml.", exists=True, dir_okay=False)
    ] = None,
    bundle: Annotated[
        int | None, typer.Option(help="What if: this version of each journey's registered model.", min=1)
    ] = None,
    as_champion: Annotated[
        bool, typer.Option("--as-champion", help="What if: everybody were in the arm champion.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make recorded decisions again from their records, with the configuration and the bundle that made them.

    They must come out with the same bytes: exit code 1 where any does not, or is damaged. Under a policy, a catalogue,
    a bundle or an arm of your choice it tells instead what would have changed. Nothing is written; a server may run.
    """
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    use_numba_cache(home)
    from models.configuration_history import ConfigurationHistory
    from models.price_files import PriceLists
    from models.record_store import open_record_store
    from models.registry import LocalRegistry
    from models.replayer import Replayer, Scorers, Tally

    chosen = _Chosen.of(decision_ids or [], since=since, until=until, last=last, every=every)
    what_if = what_if_options(configuration, policy, actions, bundle, as_champion=as_champion)
    history = ConfigurationHistory(home, configuration)
    replayer = Replayer(history, Scorers(LocalRegistry(home.bundles)), PriceLists(home.prices), what_if)
    tally = Tally()
    different: list[Replay] = []
    with closing(open_record_store(home, readonly=True)) as records, _progress_bar() as progress:
        for done, record in enumerate(chosen.records(records), start=1):
            try:
                made = replayer.replay(record)
            except CannotReplay as error:
                tally.skip(error)
                if len(chosen.decision_ids) == 1:
                    raise
            else:
                tally.add(made)
                if not made.identical and len(different) < SHOWN:
                    different.append(made)
            progress(done)
    _report(tally, different, what_if=what_if.changes_something, as_json=as_json)
    if not tally.is_clean and not what_if.changes_something:
        raise typer.Exit(1)


class _Chosen:
    """Which decisions are made again.

    Raises:
        Refused: none were named, or in two ways at once.
    """

    def __init__(self, decision_ids: Sequence[str], since: int | None, until: int | None, last: int | None) -> None:
        self.decision_ids = decision_ids
        self._since, self._until, self._last = since, until, last

    @classmethod
    def of(
        cls, decision_ids: Sequence[str], *, since: str | None, until: str | None, last: int | None, every: bool
    ) -> _Chosen:
        ways = [bool(decision_ids), since is not None or until is not None, last is not None, every]
        if sum(ways) != 1:
            raise Refused(
                f"got {sum(ways)} ways to choose decisions, expected one: ids of decisions, --since and --until, "
                f"--last, or --all"
            )
        return cls(decision_ids, moment_option("--since", since), moment_option("--until", until), last)

    def records(self, store: SqlRecordStore) -> Iterator[DecisionRecord]:
        """The records, in order of their ids; the last ones newest first.

        Raises:
            UnknownObject: there is no decision by an id.
        """
        if self.decision_ids:
            for decision_id in self.decision_ids:
                stored = store.decision(decision_id)
                if stored is None:
                    raise UnknownObject(f"no decision {decision_id!r:.80} in this home; expected the id of an answer")
                yield stored.record
        elif self._last is not None:
            yield from islice((one for page in store.read_back() for one in page), self._last)
        else:
            for page in store.read():
                yield from (one for one in page if self._holds(one.decided_at))

    def _holds(self, at: int) -> bool:
        return (self._since is None or at >= self._since) and (self._until is None or at < self._until)


def summary(tally: Tally, different: Sequence[Replay]) -> dict[str, Any]:
    """What came of it, as ``--json`` prints it."""
    return {
        "decisions": tally.decisions + sum(tally.skipped.values()),
        "identical": tally.identical,
        "different": tally.decisions - tally.identical,
        "skipped": dict(tally.skipped),
        "changed": tally.changed,
        "moves": [
            {"before": before, "after": after, "decisions": count}
            for (before, after), count in tally.moves.most_common()
        ],
        "dropped": {
            "before": {str(stage): count for stage, count in tally.dropped_before.items()},
            "after": {str(stage): count for stage, count in tally.dropped_after.items()},
        },
        "net_value_difference": tally.value_difference / tally.decisions if tally.decisions else None,
        "differences": [
            {
                "decision_id": made.recorded.decision_id,
                "n": len(made.differences),
                "first": [
                    {"field": one.field, "recorded": one.recorded, "replayed": one.replayed}
                    for one in made.differences[:SHOWN]
                ],
            }
            for made in different
        ],
    }


def _report(tally: Tally, different: Sequence[Replay], *, what_if: bool, as_json: bool) -> None:
    found = summary(tally, different)
    typer.echo(json.dumps(found, allow_nan=False) if as_json else "\n".join(_lines(found, what_if=what_if)))


def _lines(found: dict[str, Any], *, what_if: bool) -> Iterator[str]:
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in found["skipped"].items())
    counted = f"{found['decisions']:,} decisions: {found['identical']:,} identical, {found['different']:,} different"
    yield counted + (f", skipped: {skipped}" if skipped else "")
    if what_if:
        yield f"{found['changed']:,} would have chosen something else:"
        yield from (f"  {one['before']} -> {one['after']}: {one['decisions']:,}" for one in found["moves"])
        before, after = found["dropped"]["before"], found["dropped"]["after"]
        for stage in dict.fromkeys([*before, *after]):
            yield f"dropped by {stage}: {before.get(stage, 0):,} -> {after.get(stage, 0):,}"
        if found["net_value_difference"] is not None:
            yield f"expected net value of the first action: {found['net_value_difference']:+.4f} a decision"
        return
    for made in found["differences"]:
        yield f"{made['decision_id']}: {made['n']} differences"
        yield from (f"  {one['field']}: {one['recorded']} -> {one['replayed']}" for one in made["first"])


@contextmanager
def _progress_bar() -> Iterator[Callable[[int], None]]:
    """A counter on stderr; none where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} decisions made again"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("replay", total=None)
        yield lambda done: bar.update(task, completed=done)
