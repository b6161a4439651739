"""The data scientist's page is followed to the letter: its shell blocks, one after the other, in one shell."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "data-scientist.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
HOME, PORT = "/tmp/headway-bank", "8300"


def test_the_page_is_one_page() -> None:
    """What is reference stands elsewhere, and every step can be copied."""
    assert len(PAGE.splitlines()) < 220
    assert len(BLOCKS) == PAGE.count("\n## ") + 1  # outcomes come back in a block of their own


@pytest.mark.slow
def test_the_page_runs_to_its_end(tmp_path: Path) -> None:
    """On a clean copy of the project; only the home and the port are others."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("features", "models", "training", "serving", "pyproject.toml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = "set -euo pipefail\ntrap 'kill ${SERVER:-} 2>/dev/null || true' EXIT\n" + "".join(BLOCKS)
    script = script.replace(HOME, str(tmp_path / "home")).replace(f"HEADWAY_PORT={PORT}", f"HEADWAY_PORT={port}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    done = subprocess.run(
        [str(shutil.which("bash")), "-c", script.replace("uv run ", "")],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    home = tmp_path / "home"
    assert "uplift on first_use_30d of remind_next_step" in done.stdout
    assert "mismatch  0" in done.stdout
    assert len(list((home / "reports" / "simulations").glob("*.html"))) == 2
    assert "the gate refuses" in done.stdout
    assert "few_decisions" in done.stdout
