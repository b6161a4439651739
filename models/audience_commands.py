"""Commands ``headway audience``: what the service runs for callers who ask for audiences, estimates and screenings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
import typer

from features.errors import Refused
from features.home import Home, use_numba_cache
from models.job_work import job_work

if TYPE_CHECKING:
    from models.audiences import Pins

AUDIENCE_FILE: Final = "audience"
SCREENED_FILE: Final = "screened"

audience = typer.Typer(
    help="Make, estimate and screen audiences, as the service asks for them.",
    no_args_is_help=True,
    add_completion=False,
)

SpecFile = Annotated[Path, typer.Option("--spec", help="What was asked for, as JSON.", exists=True, dir_okay=False)]
SpecT = TypeVar("SpecT")


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for as of now.

    Attributes:
        request: an audience or a list, as JSON.
        versions: of the configuration's files, by name.
        bundle: label of the bundle; None where there is no champion.
    """

    request: msgspec.Raw
    versions: dict[str, str]
    bundle: str | None


@audience.command("make")
def make() -> None:
    """Make an audience: the work of a job, which says on standard input what was asked for."""
    home = _home()
    with job_work() as work:
        from features.checkpoints import Checkpoints
        from models.audience_work import audience_summary, made_audience, write_audience
        from models.audiences import AudienceSpec

        spec = _converted(work.spec, AudienceSpec)
        steps = Checkpoints.of_release(work.checkpoints, version("headway"))
        made = made_audience(home, spec, steps, tell=_telling(work.tell))
        name = f"{AUDIENCE_FILE}.{spec.request.format}"
        work.tell("writing")
        write_audience(made, work.results / name)
        work.finish(audience_summary(made), file=name)


@audience.command("screen-list")
def screen_list() -> None:
    """Screen a list: the work of a job, which says on standard input what was asked for."""
    home = _home()
    with job_work() as work:
        from features.checkpoints import Checkpoints
        from models.screen_lists import ScreenSpec
        from models.screening_work import screened_list, screening_summary, write_screened

        spec = _converted(work.spec, ScreenSpec)
        steps = Checkpoints.of_release(work.checkpoints, version("headway"))
        verdicts = screened_list(home, spec, steps, tell=_telling(work.tell))
        name = f"{SCREENED_FILE}.{spec.request.format}"
        work.tell("writing")
        write_screened(verdicts, work.results / name, spec.request.format)
        work.finish(screening_summary(verdicts, spec.request, spec.pins), file=name)


@audience.command("estimate")
def estimate(spec: SpecFile) -> None:
    """Tell what an audience would come to as of now."""
    home = _home()
    from models.audience_estimates import estimated_audience
    from models.audiences import AudienceRequest
    from models.journey_reports import end_tidily

    end_tidily()
    asked = _decoded(spec.read_bytes(), Asked)
    request = _decoded(bytes(asked.request), AudienceRequest)
    _print(estimated_audience(home, request, _pinned_now(home, asked), tell=_silent))


@audience.command("screen")
def screen(spec: SpecFile) -> None:
    """Screen a short list as of now."""
    home = _home()
    from models.screen_lists import ScreenRequest
    from models.screening_work import screened_at_once, screening_summary

    asked = _decoded(spec.read_bytes(), Asked)
    request = _decoded(bytes(asked.request), ScreenRequest)
    pins = _pinned_now(home, asked)
    verdicts = screened_at_once(home, request, pins, tell=_silent)
    _print({**screening_summary(verdicts, request, pins), "results": verdicts})


def _home() -> Home:
    home = Home.from_environment(os.environ)
    use_numba_cache(home)
    return home


def _pinned_now(home: Home, asked: Asked) -> Pins:
    """Now, after everything that has arrived, also where the clock was set back."""
    from contextlib import closing

    from features.event_store import open_event_log
    from models.audiences import Pins

    with closing(open_event_log(home, readonly=True)) as log:
        head = log.head()
        at = max(time.time_ns() // 1000, log.arrived_at(head) + 1)
    return Pins(at=at, log_position=head, versions=asked.versions, bundle=asked.bundle)


def _decoded(data: bytes, model: type[SpecT]) -> SpecT:
    try:
        return msgspec.json.decode(data, type=model)
    except msgspec.DecodeError as error:
        raise _not_ours(error) from error


def _converted(document: Any, model: type[SpecT]) -> SpecT:
    try:
        return msgspec.convert(document, model)
    except msgspec.ValidationError as error:
        raise _not_ours(error) from error


def _not_ours(error: Exception) -> Refused:
    return Refused(f"the spec cannot be read: {error}; expected one that the service wrote: ask by its HTTP API")


def _telling(tell: Callable[..., None]) -> Callable[[str, int, int], None]:
    return lambda step, done, total: tell(step, done=done, total=total or None)


def _silent(step: str, done: int, total: int) -> None:
    """Nobody waits to hear how far it is."""


def _print(document: Any) -> None:
    typer.echo(msgspec.json.encode(document).decode())
