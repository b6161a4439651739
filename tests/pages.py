"""Pages of the documentation, followed to the letter: their commands in one shell, what is shown against what came.

For tests only. A page's steps are its blocks of shell, in order, each with the blocks of JSON that it shows below it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest

from features.home import Home
from models.configuration import built_in_configuration

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"

_FENCED: Final = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_SHELLS: Final = ("sh", "bash")
_CHANGING: Final = re.compile(
    r"[a-z]+-[0-9A-HJKMNP-TV-Z]{26}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?|\b[0-9a-f]{12}\b"
)
"""Ids, times and versions: they are others in every run."""

_CENT: Final = 0.005
"""Pages round to cents."""

_SHELL: Final = """set -euo pipefail
trap 'if [ -n "${SERVER:-}" ]; then kill $SERVER; wait $SERVER || true; fi' EXIT
curl() { command curl --max-time 120 -w '%{stderr}\\n%{http_code}\\n' "$@"; }
run() { cat >"$1.step"; . "./$1.step" >"$1.out" 2>"$1.err"; }
"""
"""Each step in the same shell, so that what one keeps is there for the next; what it prints goes into files."""


@dataclass(frozen=True, slots=True)
class Step:
    """One block of shell, and the JSON values that the page shows as what it prints."""

    commands: str
    shown: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Followed:
    """What came of a step.

    Attributes:
        statuses: of its calls over HTTP, in order.
    """

    step: Step
    printed: str
    statuses: tuple[int, ...]

    @property
    def values(self) -> list[Any]:
        """The JSON values that it printed, one after the other."""
        return list(_json_values(self.printed))


def steps_of(text: str) -> list[Step]:
    """The steps of a page or of a part of one."""
    steps: list[Step] = []
    for _, language, block in _FENCED.findall(text):
        if language in _SHELLS:
            steps.append(Step(dedent(block)))
        elif language == "json" and steps:
            steps[-1] = Step(steps[-1].commands, (*steps[-1].shown, json.loads(block)))
    return steps


def section(text: str, title: str) -> str:
    """The part of a page below a title of the second level, without its title."""
    _, found, below = text.partition(f"\n## {title}\n")
    assert found, f"no section is called {title!r}"
    return below.partition("\n## ")[0]


def follow(
    steps: Sequence[Step],
    folder: Path,
    *,
    environment: Mapping[str, str],
    changes: Iterable[tuple[str, str]] = (),
    seconds: float = 300,
) -> list[Followed]:
    """What comes of following the steps in one shell; the test fails where a command does.

    Args:
        steps: one or more pages.
        folder: where the shell stands.
        environment: beside the variables of this process, of which none is Headway's.
        changes: texts of the commands, and what stands there instead. Each is there.
        seconds: how long all of it may take.
    """
    commands = [step.commands for step in steps]
    for text, other in changes:
        assert any(text in one for one in commands), f"no step says {text!r}"
        commands = [one.replace(text, other) for one in commands]
    script = _SHELL + "".join(f"run {place} <<'END_OF_STEP'\n{one}END_OF_STEP\n" for place, one in enumerate(commands))
    done = subprocess.run(
        [_needed("bash"), "-c", script],
        cwd=folder,
        env=_environment(folder) | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    ran = [place for place in range(len(steps)) if (folder / f"{place}.out").exists()]
    assert done.returncode == 0, _told(folder, ran[-1]) if ran else done.stderr
    return [_followed(folder, place, step) for place, step in enumerate(steps)]


def assert_as_shown(followed: Followed) -> None:
    """Every value that the page shows below a step was printed, in that order, and nothing else was.

    An object may have more fields than are shown. Ids, times and versions may be others, numbers are rounded.
    """
    shown, printed = followed.step.shown, followed.values

    assert len(printed) == len(shown), f"{followed.step.commands}\n{followed.printed}"
    differences = [*chain.from_iterable(_differences(*pair, "") for pair in zip(shown, printed, strict=True))]
    assert differences == [], f"{followed.step.commands}\n{followed.printed}"


def calm_home(root: Path) -> Home:
    """A new home with the built-in configuration, but for chance: nothing is drawn, and nobody is in the holdout."""
    home = Home(root)
    home.config.mkdir(parents=True)
    for name, text in built_in_configuration().texts.items():
        calm = re.sub(r"(epsilon|no_contact_holdout|random_eligible): 0\.\d+", r"\1: 0.0", text)
        (home.config / f"{name}.yaml").write_text(calm, encoding="utf-8")
    return home


def _needed(command: str) -> str:
    """The path of a command without which nothing can be followed."""
    for name in (command, "curl", "jq"):
        if shutil.which(name) is None:
            if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
                pytest.fail(f"{name} is not installed")
            pytest.skip(f"{name} is not installed")
    return str(shutil.which(command))


def _environment(folder: Path) -> dict[str, str]:
    """This process's, where ``headway`` is the console script of this tree."""
    script = folder / "bin" / "headway"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from features.cli import main; main()" "$@"\n')
    script.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    return kept | {"PATH": f"{script.parent}{os.pathsep}{kept['PATH']}", "PYTHONPATH": str(ROOT)}


def _followed(folder: Path, place: int, step: Step) -> Followed:
    statuses = re.findall(r"^(\d{3})$", (folder / f"{place}.err").read_text(), re.MULTILINE)
    return Followed(step, (folder / f"{place}.out").read_text(), tuple(map(int, statuses)))


def _told(folder: Path, place: int) -> str:
    return "\n".join((folder / f"{place}.{part}").read_text()[-3000:] for part in ("step", "out", "err"))


def _json_values(text: str) -> Iterator[Any]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        else:
            value, at = decoder.raw_decode(text, at)
            yield value


def _differences(shown: Any, printed: Any, pointer: str) -> Iterator[str]:
    """Where what was printed is not what is shown."""
    if isinstance(shown, dict) and isinstance(printed, dict):
        for name, value in shown.items():
            if name in printed:
                yield from _differences(value, printed[name], f"{pointer}/{name}")
            else:
                yield f"{pointer}/{name} is shown, and was not printed"
    elif isinstance(shown, list) and isinstance(printed, list) and len(shown) == len(printed):
        for place, (one, other) in enumerate(zip(shown, printed, strict=True)):
            yield from _differences(one, other, f"{pointer}/{place}")
    elif not _is_same(shown, printed):
        yield f"{pointer} is shown as {shown!r}, and was {printed!r}"


def _is_same(shown: Any, printed: Any) -> bool:
    if isinstance(shown, bool) or isinstance(printed, bool):
        return shown is printed
    if isinstance(shown, int | float) and isinstance(printed, int | float):
        return math.isclose(shown, printed, abs_tol=_CENT)
    if isinstance(shown, str) and isinstance(printed, str):
        return _CHANGING.sub("?", shown) == _CHANGING.sub("?", printed)
    return bool(shown == printed)
