"""Commands run for callers: what they print, every way they end, one of a kind at a time, and nothing left running."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from features.errors import (
    HeadwayError,
    InFlight,
    InvalidInput,
    NotEnoughData,
    Problem,
    StoreUnavailable,
    UnknownObject,
)
from serving.child_commands import CHILD, KEPT_SECONDS, ChildCommands, Command, Finished, ToldError, told_error
from serving.problems import CommandRefused, TooManyRequests

PYTHON = (sys.executable, "-S", "-c")


def _command(*words: str, kind: str = "report", seconds: float = 60.0) -> Command:
    return Command(kind=kind, words=words, seconds=seconds)


def _failing(code: int, said: str) -> ChildCommands:
    script = f"import sys; sys.stderr.write('a warning\\n' + {said!r} + '\\n'); sys.exit({code})"
    return ChildCommands({}, command=(*PYTHON, script))


def _told(name: str, message: str = "what and why", problems: tuple[dict[str, object], ...] = ()) -> str:
    return json.dumps({"error": name, "message": message, "problems": list(problems)})


def test_what_a_command_prints_is_its_result() -> None:
    """As JSON values; the words come as they are, each one word."""
    script = "import json, sys; print(json.dumps({'words': sys.argv[1:]}))"

    finished = ChildCommands({}, command=(*PYTHON, script)).run(_command("a b", "--reason=; rm -rf *"))

    assert (finished.is_done, finished.document) == (True, {"words": ["a b", "--reason=; rm -rf *"]})


def test_a_result_that_says_no_is_one_too() -> None:
    """Exit code 1 with a result: a gate that refuses."""
    finished = ChildCommands({}, command=(*PYTHON, "print('{\"why\": 1}'); raise SystemExit(1)")).run(_command())

    assert (finished.is_done, finished.document) == (False, {"why": 1})


def test_what_a_library_prints_besides_is_passed_over() -> None:
    """Before the result, and after an error: a promotion that was made must not be told as one that failed."""
    result = json.dumps({"entry": {"kind": "promote"}, "reasons": [{"code": "x"}]}, indent=1)
    script = f"print('Registered model created.\\n{{}}\\n' + {result!r})"
    late = f"import sys; sys.stderr.write({_told('UnknownObject')!r} + '\\n/lib: UserWarning: leaked\\n  warn(1)\\n')"

    finished = ChildCommands({}, command=(*PYTHON, script)).run(_command())

    assert finished.document == json.loads(result)
    with pytest.raises(UnknownObject, match="what and why"):
        ChildCommands({}, command=(*PYTHON, f"{late}; sys.exit(2)")).run(_command())


def test_more_than_a_pipe_holds_is_read() -> None:
    """On both streams at once."""
    script = "import json, sys; sys.stderr.write('w' * 3_000_000); print(json.dumps(['x' * 3_000_000]))"

    finished = ChildCommands({}, command=(*PYTHON, script)).run(_command())

    assert len(finished.document[0]) == 3_000_000


@pytest.mark.parametrize(
    ("code", "said", "error", "message"),
    [
        (2, _told("UnknownObject"), UnknownObject, "what and why"),
        (2, _told("Refused"), CommandRefused, "what and why"),
        (2, _told("Conflict"), CommandRefused, "what and why"),
        (2, _told("HomeLocked", "held by process 7"), TooManyRequests, "another process is writing"),
        (1, _told("NotEnoughData"), NotEnoughData, "what and why"),
        (1, _told("BundleError", "damaged"), StoreUnavailable, "the report failed: damaged"),
        (1, "Error: unexpected KeyError: 'x'", StoreUnavailable, "failed with exit code 1: Error: unexpected"),
        (2, "Error: No such command", StoreUnavailable, "failed with exit code 2: Error: No such command"),
        (0, "", StoreUnavailable, "failed with exit code 0"),
        (2, '{"error": 1}', StoreUnavailable, "failed with exit code 2"),
    ],
)
def test_an_error_of_a_command_is_that_error(code: int, said: str, error: type[HeadwayError], message: str) -> None:
    """What nobody foresaw is a service that is not available, and is logged."""
    with pytest.raises(error, match=message):
        _failing(code, said).run(_command())


def test_bad_fields_keep_their_places() -> None:
    """Those of configurations and mappings too."""
    problem = {"path": "a.b", "value": "1", "expected": "2", "file": "x.yaml", "line": 3}

    for name in ("InvalidInput", "ConfigurationError", "MappingError"):
        with pytest.raises(InvalidInput) as caught:
            _failing(2, _told(name, "two wrong", (problem,))).run(_command())
        assert (caught.value.headline, caught.value.problems) == ("two wrong", (Problem("a.b", "1", "2", "x.yaml", 3),))


def test_an_option_is_told_as_the_field_that_it_was() -> None:
    """Callers know no options."""
    problem = {"path": "--group-by", "value": "x", "expected": "y", "file": None, "line": None}

    with pytest.raises(InvalidInput) as caught:
        _failing(2, _told("InvalidInput", "one wrong", (problem,))).run(_command())

    assert caught.value.problems == (Problem("group_by", "x", "y"),)


def test_secrets_of_the_service_stay_with_it() -> None:
    """Neither the bootstrap key nor a webhook's secret is in a child's environment; the rest is."""
    env = {"HEADWAY_BOOTSTRAP_KEY": "hw_0123", "HEADWAY_DRIFT_WEBHOOK_SECRET": "whsec_", "HEADWAY_HOME": "/somewhere"}
    script = "import json, os; print(json.dumps(sorted(name for name in os.environ if 'HEADWAY' in name)))"

    finished = ChildCommands(env, command=(*PYTHON, script)).run(_command())

    assert finished.document == ["HEADWAY_ERRORS", "HEADWAY_HOME"]


def test_files_of_a_command_are_its_own(tmp_path: Path) -> None:
    """Nobody else may read them, and they are gone when it ends, however that is."""
    script = (
        "import json, os, sys; name = sys.argv[sys.argv.index('--policy') + 1]\n"
        "modes = [oct(os.stat(one).st_mode & 0o777) for one in (name, os.path.dirname(name))]\n"
        "print(json.dumps([open(name).read(), modes, sys.argv[1:2]])); sys.exit(len(sys.argv) > 4)"
    )
    commands = ChildCommands({}, folder=tmp_path, command=(*PYTHON, script))

    for files in ((("--policy", "a: ü\n"),), (("--policy", "a: ü\n"), ("--actions", "b"))):
        finished = commands.run(Command(kind="simulation", words=("w",), seconds=60.0, files=files))
        assert finished.document == ["a: ü\n", ["0o600", "0o700"], ["w"]]

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """No process is made."""
    commands = ChildCommands({}, folder=tmp_path / "none", command=("/nowhere",))

    with pytest.raises(StoreUnavailable, match="cannot write to"):
        commands.run(Command(kind="simulation", words=(), seconds=60.0, files=(("--policy", "a"),)))


def test_what_takes_long_is_fetched_by_asking_again(tmp_path: Path) -> None:
    """It is begun once; whoever asks for something else has to wait; once fetched, the next begins anew."""
    script = (
        "import os, sys, time; folder = sys.argv[1]\n"
        "open(f'{folder}/began', 'a').write('x')\n"
        "while not os.path.exists(f'{folder}/go'): time.sleep(0.01)\n"
        "print('[1]')"
    )
    commands = ChildCommands({}, command=(*PYTHON, script), patience_seconds=0.05)
    asked, other = _command(str(tmp_path)), _command(str(tmp_path), "other")

    for _ in range(2):
        with pytest.raises(InFlight, match="ask the same again for its result"):
            commands.run(asked)
    with pytest.raises(TooManyRequests, match="another report is running"):
        commands.run(other)
    (tmp_path / "go").touch()
    first, second = _fetched(commands, asked), _fetched(commands, asked)

    assert (first.document, second.document) == ([1], [1])
    assert (tmp_path / "began").read_text() == "xx"
    commands.close()


def _fetched(commands: ChildCommands, command: Command) -> Finished:
    until = time.monotonic() + 60
    while True:
        try:
            return commands.run(command)
        except InFlight:
            assert time.monotonic() < until


def test_a_result_that_nobody_fetched_grows_old(tmp_path: Path) -> None:
    """Later the same question is another one; and one for something else does not wait for the fetching."""
    now = [0.0]
    script = "import sys; open(sys.argv[1] + '/began', 'a').write('x'); print('1')"
    commands = ChildCommands({}, command=(*PYTHON, script), patience_seconds=0.0, timer=lambda: now[0])
    asked = _command(str(tmp_path))
    with pytest.raises(InFlight):
        commands.run(asked)
    commands._jobs["report"].over.wait(60)

    now[0] = KEPT_SECONDS + 1
    with pytest.raises(InFlight):
        commands.run(asked)
    commands._jobs["report"].over.wait(60)
    with pytest.raises(InFlight):
        commands.run(_command(str(tmp_path), "other"))

    commands.close()
    assert (tmp_path / "began").read_text().startswith("xx")


class _Waiting:
    """A command that waits to be ended, in a thread."""

    def __init__(self, folder: Path, *, script: str = "", ending_seconds: float = 30.0, seconds: float = 120.0) -> None:
        self.began = folder / "began"
        waiting = f"{script}\nimport os, pathlib, time\npathlib.Path({str(self.began)!r}).touch()\ntime.sleep(100)"
        self.commands = ChildCommands({}, command=(*PYTHON, waiting), ending_seconds=ending_seconds)
        self.error: HeadwayError | None = None
        self.thread = threading.Thread(target=self._run, args=(seconds,))
        self.thread.start()
        until = time.monotonic() + 60
        while not self.began.exists() and self.thread.is_alive() and time.monotonic() < until:
            self.thread.join(0.02)

    def _run(self, seconds: float) -> None:
        try:
            self.commands.run(_command(seconds=seconds))
        except HeadwayError as error:
            self.error = error


def test_one_of_a_kind_runs_at_a_time(tmp_path: Path) -> None:
    """A second one is refused at once, before a process is made; another kind is not."""
    waiting = _Waiting(tmp_path)

    with pytest.raises(TooManyRequests, match="another report is running"):
        waiting.commands.run(_command("other"))
    with pytest.raises(StoreUnavailable, match="took longer"):
        waiting.commands.run(_command(kind="simulation", seconds=0.01))

    waiting.commands.close()
    waiting.thread.join(60)
    assert isinstance(waiting.error, StoreUnavailable)


def test_closing_ends_what_runs_and_begins_nothing(tmp_path: Path) -> None:
    """Also a child that does not want to end, and what that has started."""
    script = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(100)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))"
    )
    waiting = _Waiting(tmp_path, script=script, ending_seconds=0.2)

    waiting.commands.close()
    waiting.thread.join(60)

    assert not waiting.thread.is_alive()
    assert isinstance(waiting.error, StoreUnavailable)
    assert _is_gone(int((tmp_path / "pid").read_text()))
    with pytest.raises(StoreUnavailable, match="closing"):
        waiting.commands.run(_command())


def test_a_command_that_hangs_is_killed_at_its_limit(tmp_path: Path) -> None:
    """And the next of its kind may run."""
    script = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    )
    commands = ChildCommands({}, command=(*PYTHON, script), ending_seconds=0.2)

    with pytest.raises(StoreUnavailable, match=r"took longer than 3 s; ask for less"):
        commands.run(_command(seconds=3.0))

    assert _is_gone(int((tmp_path / "pid").read_text()))
    with pytest.raises(StoreUnavailable, match=r"took longer than 0\.01 s"):
        commands.run(_command(seconds=0.01))


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; one that was killed may take a moment, and be a zombie of nobody's."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        threading.Event().wait(0.02)
    return False


def test_the_console_script_runs_behind_everything_else() -> None:
    """The real one, which says a refusal as what it is."""
    env = {**os.environ, "HEADWAY_HOME": "/nowhere"}

    with pytest.raises(CommandRefused, match="expected"):
        ChildCommands(env, command=CHILD).run(_command("promote", "--force", "--json"))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            rb'{"error": "StoreUnavailable", "message": "\udcff/records.db", "problems": []}',
            ToldError("StoreUnavailable", "?/records.db", ()),
        ),
        (
            rb'{"error": "X", "message": "m", "problems": [{"path": "a", "value": "\ud800", "expected": "b"}]}',
            ToldError("X", "m", (Problem("a", "?", "b"),)),
        ),
        (b'{"error": "X", "message": "m", "problems": [1]}', None),
        (b'{"error": "X", "message": "m", "problems": [{"path": 1, "value": "", "expected": ""}]}', None),
        (b'{"error": 404, "message": "m", "problems": []}', None),
        (b'{"error": "X", "message": "m", "problems": [{"where": "a"}]}', None),
    ],
)
def test_an_error_is_told_as_text_that_every_store_keeps(line: bytes, told: ToldError | None) -> None:
    """A name of a file may hold bytes that are no text, and a line of a library may look like an error of ours."""
    assert told_error(line) == told
