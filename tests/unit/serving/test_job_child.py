"""The child of a job, whatever it says: what counts is heard, the rest is passed over, and nothing stays behind."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from models.jobs import JobProgress
from serving.job_child import JobChild
from tests.faults.processes import is_alive, until


def _over(script: str, *, told: bytes = b"{}", meanwhile: Callable[[JobChild], object] = lambda _: None) -> JobChild:
    """A child that has run a script."""
    over = threading.Event()
    child = JobChild([sys.executable, "-S", "-c", script], dict(os.environ), told, changed=over.set)
    meanwhile(child)
    assert over.wait(60)
    return child


def test_what_it_says_is_heard() -> None:
    """The newest progress, the result, the exit code, and the end of what it complains of."""
    child = _over(
        "import sys\n"
        """print('{"progress": {"step": "a", "done": 1, "total": null}}')\n"""
        """print('{"progress": {"step": "b", "done": 2, "total": 9}}')\n"""
        """print('{"result": {"rows": 2}, "file": "out.csv"}')\n"""
        "sys.stderr.write('x' * 1_000_000 + 'the end'); sys.exit(3)"
    )

    assert (child.progress, child.result, child.code) == (JobProgress("b", 2, 9), ({"rows": 2}, "out.csv"), 3)
    assert child.said.endswith(b"xthe end")
    assert len(child.said) < 200_000


@pytest.mark.parametrize(
    "line",
    [
        *("", "no JSON", "7", "[1]", "{", "{}", '{"progress": 1}', '{"progress": {"step": "a"}}', "[" * 5_000),
        '{"progress": {"step": "a", "done": -1, "total": 2}}',
        '{"progress": {"step": "a", "done": 1, "total": 1e99}}',
        '{"progress": {"step": "a", "done": 99999999999999999999, "total": null}}',
        '{"progress": {"step": 1, "done": 1, "total": null}}',
        r'{"progress": {"step": "\ud800", "done": 1, "total": null}}',
        *('{"result": []}', '{"result": {}}', '{"result": {}, "file": 7}', '{"result": null, "file": "a"}'),
    ],
)
def test_whatever_else_it_says_is_passed_over(line: str) -> None:
    """And what follows is heard."""
    known = '{"progress": {"step": "a", "done": 1, "total": 2}}'

    child = _over(f"print({line!r}); print({known!r})")

    assert (child.progress, child.result, child.code) == (JobProgress("a", 1, 2), None, 0)


def test_a_step_is_a_text_that_every_store_keeps() -> None:
    """And no longer than people read."""
    child = _over(r"""print('{"progress": {"step": "a\\u0000b%s", "done": 1, "total": null}}' % ('c' * 999))""")

    assert child.progress == JobProgress(f"ab{'c' * 198}", 1, None)


def test_a_line_without_end_takes_no_memory() -> None:
    """It is read in pieces, none of which means anything."""
    child = _over("import sys; sys.stdout.write('x' * 20_000_000)")

    assert (child.result, child.code) == (None, 0)


def test_it_is_told_what_to_do_and_then_that_it_may_go_on() -> None:
    """However long that is, and whether it listens or not."""
    script = "import sys; first = sys.stdin.readline(); second = sys.stdin.readline(); sys.exit(len(first) % 251)"
    told = b"x" * 300_000

    assert _over(script, told=told, meanwhile=JobChild.word).code == 300_001 % 251
    assert _over("pass", told=told, meanwhile=JobChild.word).code == 0


def test_it_is_ended_with_what_it_has_started() -> None:
    """Though neither listens; nothing holds its pipes afterwards."""
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'\n"
        "started = subprocess.Popen([sys.executable, '-S', '-c', inner])\n"
        """print('{"progress": {"step": "a", "done": %d, "total": null}}' % started.pid, flush=True)\n"""
        "time.sleep(600)"
    )

    def end(child: JobChild) -> None:
        until(lambda: child.progress is not None)
        child.end(0.1)

    child = _over(script, meanwhile=end)

    assert child.code == -9
    assert child.progress is not None
    started = child.progress.done
    until(lambda: not is_alive(started))
