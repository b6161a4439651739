"""The console script: commands found without importing them, and every way to end."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from io import StringIO
from pathlib import Path

import pytest

from features.cli import first_line_of_help, run

_COMMANDS = '''
"""Commands for tests."""
import typer
from features.errors import InvalidInput, Problem, Refused, StoreUnavailable

group = typer.Typer(help="A group of commands.\\n\\nMore about it.", no_args_is_help=True)


@group.command()
def inner(count: int) -> None:
    """Print a number."""
    print("count", count)


@group.callback()
def _group() -> None:
    """Hold the group together."""


def refuse() -> None:
    """Refuse what was asked.

    For a reason.
    """
    raise Refused("got a bad thing, expected a good one")


def check() -> None:
    """Find what is wrong."""
    raise InvalidInput("two wrong", [Problem("a.b", "1", "2")])


def fail() -> None:
    """Fail for lack of a store."""
    raise StoreUnavailable("the store does not answer")


def crash() -> None:
    """Crash by a defect."""
    raise ZeroDivisionError("no way\\nsecond line")


def interrupt() -> None:
    """Be interrupted."""
    raise KeyboardInterrupt


def leave() -> None:
    """Leave with a code."""
    raise typer.Exit(1)


number = 3
'''
_NAMES = ("group", "refuse", "check", "fail", "crash", "interrupt", "leave", "number")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points to a module that only these tests can import, and one to a module that raises when imported."""
    (tmp_path / "cli_test_commands.py").write_text(_COMMANDS)
    (tmp_path / "cli_test_broken.py").write_text(
        '"""Broken."""\nraise RuntimeError\n\ndef never() -> None:\n    """Never runs."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint(name, f"cli_test_commands:{name}", "headway.commands") for name in _NAMES]
    return [*points, EntryPoint("never", "cli_test_broken:never", "headway.commands")]


def _run(arguments: list[str], commands: list[EntryPoint], env: dict[str, str] | None = None) -> tuple[int, str]:
    said = StringIO()
    code = run(arguments, {} if env is None else env, commands=commands, stderr=said)
    return code, said.getvalue()


def test_help_lists_commands_without_importing_them(
    commands: list[EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command is listed with its first line of help, and no command's module is imported."""
    code, said = _run(["--help"], commands)

    listed = capsys.readouterr().out
    assert (code, said) == (0, "")
    assert "group      A group of commands." in listed
    assert "refuse     Refuse what was asked." in listed
    assert "never      Never runs." in listed
    assert "cli_test_commands" not in sys.modules


def test_a_command_of_a_group_runs(commands: list[EntryPoint], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments reach a command below a group."""
    assert _run(["group", "inner", "3"], commands) == (0, "")
    assert capsys.readouterr().out == "count 3\n"


def test_a_command_of_another_package_joins_a_group(
    commands: list[EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    """A name of two words is a command of a group, listed beside its own and loaded only where it is asked for."""
    module = commands[0].value.partition(":")[0]
    added = EntryPoint("group outer", f"{module}:leave", "headway.commands")
    broken = EntryPoint("group broken", "no_such_module:command", "headway.commands")
    together = [*commands, added, broken]
    assert run(["group", "outer"], {}, commands=together) == 1
    assert run(["group", "inner", "3"], {}, commands=together) == 0
    run(["group", "--help"], {}, commands=together)
    said = capsys.readouterr().out
    assert "count 3" in said
    assert "Leave with a code." in said
    assert run(["group", "outer"], {}, commands=commands) == 2


def test_a_refusal_ends_with_2(commands: list[EntryPoint]) -> None:
    """A refusal is its message on stderr and exit code 2."""
    assert _run(["refuse"], commands) == (2, "Error: got a bad thing, expected a good one\n")


def test_programs_are_told_errors_as_json(commands: list[EntryPoint]) -> None:
    """One line: the type, the message, and every problem where there are several."""
    env = {"HEADWAY_ERRORS": "json"}

    code, said = _run(["refuse"], commands, env)
    bad_code, bad = _run(["check"], commands, env)

    expected = {"error": "Refused", "message": "got a bad thing, expected a good one", "problems": []}
    assert (code, json.loads(said)) == (2, expected)
    problem = {"path": "a.b", "value": "1", "expected": "2", "file": None, "line": None}
    assert (bad_code, json.loads(bad)) == (2, {"error": "InvalidInput", "message": "two wrong", "problems": [problem]})


def test_a_failure_ends_with_1(commands: list[EntryPoint]) -> None:
    """A store that fails is exit code 1."""
    assert _run(["fail"], commands) == (1, "Error: the store does not answer\n")


def test_a_defect_is_short_and_says_how_to_see_more(commands: list[EntryPoint]) -> None:
    """An unexpected error is one line, and the variable that shows the trace."""
    code, said = _run(["crash"], commands)

    assert code == 1
    assert said.splitlines()[0] == "Error: unexpected ZeroDivisionError: no way"
    assert "HEADWAY_DEBUG=1" in said


def test_debug_shows_the_trace(commands: list[EntryPoint]) -> None:
    """With HEADWAY_DEBUG the whole trace is shown."""
    code, said = _run(["crash"], commands, {"HEADWAY_DEBUG": "1"})

    assert code == 1
    assert "Traceback (most recent call last)" in said


def test_an_interrupt_ends_with_130(commands: list[EntryPoint]) -> None:
    """Ctrl-C is exit code 130, without a trace."""
    assert _run(["interrupt"], commands) == (130, "")


def test_a_command_may_choose_its_code(commands: list[EntryPoint]) -> None:
    """The code of typer.Exit is the process's."""
    assert _run(["leave"], commands) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["--nothing"], "No such option"),
        (["group", "inner", "three"], "should be a valid integer"),
        (["group", "inner"], "Missing argument"),
    ],
)
def test_bad_usage_ends_with_2(commands: list[EntryPoint], arguments: list[str], said: str) -> None:
    """A wrong command line is refused with what is wrong and where help is."""
    code, message = _run(arguments, commands)

    assert code == 2
    assert said in message
    assert "--help`" in message


@pytest.mark.parametrize("arguments", [[], ["group"]])
def test_no_command_shows_the_help(commands: list[EntryPoint], arguments: list[str]) -> None:
    """Without a command the help is shown, as usage, not as an error."""
    code, message = _run(arguments, commands)

    assert code == 2
    assert message.startswith("Usage: headway")


def test_telemetry_is_off_before_a_command_loads(commands: list[EntryPoint]) -> None:
    """The switches are in the environment that commands see."""
    env: dict[str, str] = {}

    _run(["leave"], commands, env)

    assert env["DO_NOT_TRACK"] == "true"


def test_an_object_that_is_no_command_is_named(commands: list[EntryPoint]) -> None:
    """An entry point to something else says so."""
    code, said = _run(["number"], commands)

    assert code == 1
    assert "the command number is a int" in said


def test_help_of_a_missing_module_is_empty() -> None:
    """A command whose module is gone is still listed, without help."""
    assert first_line_of_help(EntryPoint("gone", "no_such_module_here.at_all:x", "headway.commands")) == ""


def test_the_script_imports_nothing_heavy() -> None:
    """Starting the console script loads none of the stack's heavy libraries."""
    heavy = {"numpy", "pandas", "pyarrow", "pydantic", "sqlalchemy", "lightgbm", "mlflow", "feast", "bentoml", "numba"}
    code = f"import sys, features.cli; print(sorted({heavy!r} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_version_is_printed() -> None:
    """`headway --version` names the product and its version."""
    done = subprocess.run(
        [sys.executable, "-c", "from features.cli import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "headway 0.1.0\n")
