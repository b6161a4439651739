"""The operator's section on backups is followed to the letter, over a home that a service has written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from features.event_store import open_event_log
from features.home import Home
from models.record_store import open_record_store
from tests.backups import lived_in
from tests.integration.serving.test_process import Service
from tests.postgres_servers import postgres_database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "operator.md").read_text()
SECTION = PAGE.partition("\n## Back up and restore\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
DATABASE = "postgresql://headway@127.0.0.1:5432/headway"


def test_every_step_can_be_copied() -> None:
    """Back up, try, go back, move."""
    assert len(BLOCKS) == 4


@pytest.mark.slow
def test_the_section_runs_to_its_end(tmp_path: Path) -> None:
    """Only the folders and the database are others; what was there at the beginning is in the database at the end."""
    home = lived_in(tmp_path / "headway", decisions=20)
    home.online_db.unlink()  # what the test has in its place
    (tmp_path / "backups").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with postgres_database(tables=False) as location:
        script = "set -euo pipefail\n" + "".join(BLOCKS)
        script = script.replace("/srv/", f"{tmp_path}/").replace(DATABASE, location.url)

        done = subprocess.run(
            [str(shutil.which("bash")), "-c", script],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "20 decisions: 20 identical, 0 different" in done.stdout
        moved = Home(home.root, location)
        with closing(open_event_log(moved, readonly=True)) as log, closing(open_record_store(moved)) as records:
            assert log.head() > 20
            assert sum(map(len, records.ids())) == 20
    assert len(list(tmp_path.glob("headway.before-*"))) == 2


@pytest.mark.slow
def test_a_restored_home_serves(tmp_path: Path) -> None:
    """A service over it answers the same request with the same bytes, and new ones."""
    question = {"customer_id": "c-1", "request_id": "r-1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    command = [sys.executable, "-c", "from features.cli import main; main()"]
    (tmp_path / "first").mkdir()
    first = Service(tmp_path / "first")
    try:
        first.wait_until_ready()
        answer = first.post("/v1/decisions", question).content
        in_first = environment | {"HEADWAY_HOME": str(tmp_path / "first")}
        subprocess.run([*command, "backup", str(tmp_path / "b.zip")], env=in_first, cwd=tmp_path, check=True)
    finally:
        first.kill()
    restoring = [*command, "restore", str(tmp_path / "b.zip"), "--home", str(tmp_path / "second")]
    subprocess.run(restoring, env=environment, cwd=tmp_path, check=True)

    second = Service(tmp_path / "second", compiled=tmp_path / "first" / "cache" / "numba")
    try:
        second.wait_until_ready()
        assert second.post("/v1/decisions", question).content == answer
        assert second.post("/v1/decisions", question | {"request_id": "r-2"}).status_code == 200
    finally:
        second.kill()
