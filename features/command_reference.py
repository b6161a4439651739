"""The command line as people read it: every command with its options, out of the commands themselves.

``python -m features.command_reference > docs/reference/commands.md`` writes the page anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, get_args

from typer.main import get_command

from features.cli import COMMAND_GROUP, application_of

_INTRODUCTION: Final = """# Commands

One console script, `headway`, with sub-commands. State is below `HEADWAY_HOME` (by default `./data`), configuration as
[described](configuration.md).

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed: a store, a model or the machine did not do its part |
| 2 | refused: bad input, usage or configuration, or a file that another process writes |
| 130 | interrupted |

Errors and progress go to standard error, answers to standard output; with `--json` that is one JSON document.
`headway --version` prints the version, `headway COMMAND --help` explains a command.

This page is generated from the command line by `python -m features.command_reference`.
"""


def reference(commands: Iterable[EntryPoint]) -> str:
    """The reference of all commands in Markdown; ``docs/reference/commands.md`` is this text. Loads all of them."""
    by_name = {command.name: command for command in commands}
    names = sorted(name for name in by_name if " " not in name)
    trees: list[tuple[str, Any]] = [
        (name, get_command(application_of(by_name, asked=[name, *_added_to(name, by_name)]))) for name in names
    ]
    return "\n".join([_INTRODUCTION, *(line for name, tree in trees for line in _lines(tree.commands[name], name))])


def _added_to(group: str, names: Iterable[str]) -> list[str]:
    return [name.removeprefix(f"{group} ") for name in names if name.startswith(f"{group} ")]


def _lines(command: Any, path: str) -> Iterator[str]:
    """A command; of a group all of its commands."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield from _command(command, f"headway {path}")
    for name in sorted(inner):
        yield from _lines(inner[name], f"{path} {name}")


def _command(command: Any, path: str) -> Iterator[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    words = [f"{one.name.upper()}{'...' if one.nargs == -1 else ''}" for one in arguments]
    yield f"## {path}"
    yield ""
    yield f"`{' '.join([path, '[OPTIONS]', *words])}`"
    yield ""
    yield from (paragraph.replace("\n", " ") + "\n" for paragraph in command.help.replace("``", "`").split("\n\n"))
    yield "| option | value | default | meaning |"
    yield "|---|---|---|---|"
    for parameter in command.params:
        yield f"| {' | '.join(_cells(parameter))} |"
    yield ""


def _cells(parameter: Any) -> tuple[str, str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    name = parameter.name.upper() if is_argument else ", ".join(parameter.opts)
    if parameter.required:
        default = "required"
    else:
        default = "" if parameter.default in (None, False) else f"`{parameter.default}`"
    return f"`{name}`", _value(parameter), default, parameter.help.replace("|", "\\|")


def _value(parameter: Any) -> str:
    """What an option takes: the name of its type, with bounds; empty for a flag."""
    if getattr(parameter, "is_flag", False):
        return ""
    annotation = parameter.type_descriptor.annotation
    kind = (get_args(annotation) or (annotation,))[0]
    words = {int: "integer", float: "number", str: "text"}.get(kind, "path")
    bounds = [
        f"{word} {bound}"
        for word, bound in (("at least", parameter.min), ("at most", parameter.max))
        if bound is not None
    ]
    return ", ".join([words, *bounds])


if __name__ == "__main__":
    sys.stdout.write(reference(entry_points(group=COMMAND_GROUP)))
