"""The console script. Commands are entry points, found without importing them: only the one that was asked for loads.

An entry point named by two words is a sub-command of the group that the first names, which another package may own.

Exit codes: 0 done, 1 failed, 2 refused (bad input, usage, configuration or lock), 130 interrupted. For programs that
run commands: where ``HEADWAY_ERRORS`` is ``json``, an error is one line of JSON on standard error.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from features.errors import HeadwayError, ProblemsError
from features.home import telemetry_off

COMMAND_GROUP = "headway.commands"
DEBUG_VARIABLE = "HEADWAY_DEBUG"
ERRORS_VARIABLE = "HEADWAY_ERRORS"
INTERRUPTED = 130


def main() -> None:
    """Run the command that this process was started with, and exit with its code."""
    try:
        code = run(sys.argv[1:], os.environ, commands=entry_points(group=COMMAND_GROUP))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has closed it, as `| head` does. Python would complain once more while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    raise SystemExit(code)


def run(
    arguments: Sequence[str],
    env: MutableMapping[str, str],
    *,
    commands: Iterable[EntryPoint],
    stderr: TextIO | None = None,
) -> int:
    """The exit code of one command line; what went wrong is said on ``stderr``.

    Args:
        arguments: the words after ``headway``.
        env: the environment; the telemetry switches are set in it before any command loads.
        commands: the entry points to choose from, named like the sub-commands.
        stderr: where errors are said; the process's own if None.
    """
    stderr = sys.stderr if stderr is None else stderr
    telemetry_off(env)
    try:
        application = application_of({command.name: command for command in commands}, asked=_asked(arguments))
        code = application(list(arguments), prog_name="headway", standalone_mode=False)
    except HeadwayError as error:
        is_for_machines = env.get(ERRORS_VARIABLE) == "json"
        print(json.dumps(error_document(error)) if is_for_machines else f"Error: {error}", file=stderr)
        return error.exit_code
    except typer.TyperException as error:
        message = error.format_message()
        # A group called without a command "fails" with its whole help.
        is_help = message.startswith("Usage:")
        print(message if is_help else f"Error: {message}\nTry `{_command_path(error)} --help`.", file=stderr)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except typer.Exit as error:
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:
        _say_unexpected(error, env, stderr)
        return 1
    return code if isinstance(code, int) else 0


def error_document(error: HeadwayError) -> dict[str, Any]:
    """An error as JSON values: its type, its message, and the problems that it lists."""
    problems = error.problems if isinstance(error, ProblemsError) else ()
    return {
        "error": type(error).__name__,
        "message": error.headline if isinstance(error, ProblemsError) else str(error),
        "problems": [asdict(problem) for problem in problems],
    }


def _asked(arguments: Sequence[str]) -> tuple[str, ...]:
    """The command and sub-command of a command line: its first two words that are no options."""
    return tuple([word for word in arguments if not word.startswith("-")][:2])


def application_of(commands: Mapping[str, EntryPoint], *, asked: Sequence[str]) -> typer.Typer:
    """The command tree: the asked command in full, every other one by its name and first line of help."""
    application = typer.Typer(
        name="headway",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    application.callback()(_headway)
    for name, command in sorted(commands.items()):
        if " " in name:
            continue
        if name != next(iter(asked), None):
            application.command(name, help=first_line_of_help(command))(_never_called)
            continue
        _add(application, name, _with_sub_commands(command.load(), name, commands, asked=asked[1:]))
    return application


def _with_sub_commands(loaded: Any, name: str, commands: Mapping[str, EntryPoint], *, asked: Sequence[str]) -> Any:
    """A group with the commands that others add to it; it is left as it was."""
    added = {words.removeprefix(f"{name} "): one for words, one in commands.items() if words.startswith(f"{name} ")}
    if not added:
        return loaded
    group = copy.copy(loaded)
    group.registered_commands = list(loaded.registered_commands)
    for sub_name, command in added.items():
        if sub_name in asked:
            group.command(sub_name)(command.load())
        else:
            group.command(sub_name, help=first_line_of_help(command))(_never_called)
    return group


def _add(application: typer.Typer, name: str, command: object) -> None:
    if isinstance(command, typer.Typer):
        application.add_typer(command, name=name)
    elif callable(command):
        application.command(name)(command)
    else:
        raise TypeError(f"the command {name} is a {type(command).__name__}, expected a typer.Typer or a function")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"headway {version('headway')}")
        raise typer.Exit


def _headway(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Next best action: journey events in, a ranked, explained and recorded next best action out."""


def _never_called() -> None:
    """Stands for a command that was not asked for."""


def first_line_of_help(command: EntryPoint) -> str:
    """The first line of a command's help, read from its source so that listing commands imports none of them.

    It is the ``help`` of a ``typer.Typer(...)`` or the docstring of a function; empty where neither is found.
    """
    try:
        spec = importlib.util.find_spec(command.module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return ""
    for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == command.attr:
            return (ast.get_docstring(statement) or "").partition("\n")[0]
        if isinstance(statement, ast.Assign | ast.AnnAssign) and _assigns(statement, command.attr):
            return _help_keyword(statement.value)
    return ""


def _assigns(statement: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _help_keyword(value: ast.expr | None) -> str:
    keywords = value.keywords if isinstance(value, ast.Call) else []
    texts = [keyword.value for keyword in keywords if keyword.arg == "help"]
    return str(texts[0].value).partition("\n")[0] if texts and isinstance(texts[0], ast.Constant) else ""


def _command_path(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "headway"


def _say_unexpected(error: Exception, env: Mapping[str, str], stderr: TextIO) -> None:
    if env.get(DEBUG_VARIABLE):
        traceback.print_exception(error, file=stderr)
        return
    said = str(error).strip().partition("\n")[0]
    print(
        f"Error: unexpected {type(error).__name__}{f': {said}' if said else ''}\n"
        f"Set {DEBUG_VARIABLE}=1 and run again to see where; please report it with that trace.",
        file=stderr,
    )
