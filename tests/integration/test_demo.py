"""The main job, as a stranger runs it: one command, from nothing to an answered decision with its outcome."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.home import Home
from training.demo import _decide_and_report
from training.demo_service import DemoService

AUDIT = Path(__file__).parent / "audit"
LOOPBACK = re.compile(r"""['"](127\.0\.0\.1|localhost|::1|0\.0\.0\.0)['"]|^socket\.\S+ ['"]?(/|\\x00|b'|None)""")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str], Path]:
    """What the demo printed as JSON, every address that it and its children asked for, and its home."""
    home = tmp_path_factory.mktemp("home")
    log = home / "addresses"
    log.touch()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")},
        "HEADWAY_HOME": str(home),
        "PYTHONPATH": str(AUDIT),
        "AUDIT_LOG": str(log),
    }
    run = subprocess.run(
        [sys.executable, "-c", "from features.cli import main; main()", "demo", "--customers", "2000", "--json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout), log.read_text().splitlines(), home / "demo"


class Service:
    """Answers decisions: ``c-1`` and ``c-2`` are stalled, and the live draw for ``c-1`` is to do nothing."""

    def __init__(self) -> None:
        self.reported: list[dict[str, Any]] = []

    def call(self, method: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """As ``DemoService.call``."""
        if path == "/v1/outcomes":
            self.reported = document["outcomes"]
            return {"accepted": len(self.reported), "rejected": 0}
        idle = document["customer_id"] == "c-1" and document.get("mode") != "dry_run"
        return {
            "decision_id": f"d-{document['customer_id']}",
            "ranked_actions": [{"reasons": ["STALLED_DOCUMENTS_MISSING"]}],
            "selected": [] if idle else [{"slot": 1, "action_id": "nudge_documents"}],
            "experiment": {"arm": "champion"},
            "no_action": {"chosen": idle},
        }


def test_a_draw_to_do_nothing_does_not_end_the_demo(tmp_path: Path) -> None:
    """The next stalled customer is asked about: exploration chooses no action in a few of a hundred decisions."""
    home, now = Home(tmp_path), 1_800_000_000_000_000
    (tmp_path / "simulation").mkdir()
    silent = [datetime.fromtimestamp(now / 1e6, tz=UTC) - timedelta(days=5)] * 2
    pq.write_table(
        pa.table({"customer_id": ["c-1", "c-2"], "occurred_at": silent}), tmp_path / "simulation" / "events.parquet"
    )
    service = Service()

    answer, outcome = _decide_and_report(cast(DemoService, service), home, now)

    assert (answer["decision_id"], outcome["accepted"]) == ("d-c-2", 2)
    assert [one["type"] for one in service.reported] == ["exposure", "outcome"]


@pytest.mark.slow
def test_a_stalled_customer_gets_a_ranked_action(demo: tuple[dict[str, Any], list[str], Path]) -> None:
    """The decision is the champion's, whole, and in money."""
    decision = demo[0]["decision"]

    assert decision["degraded"] == []
    assert decision["versions"]["bundle"] == "nba-credit_card_application@champion/1"
    assert decision["ranked_actions"][0]["action_id"] == decision["selected"][0]["action_id"]
    assert decision["ranked_actions"][0]["net_value"] > 0
    assert any(reason.startswith("STALLED_") for reason in decision["ranked_actions"][0]["reasons"])
    assert 0 < decision["journey"]["stall_propensity"] < 1


@pytest.mark.slow
def test_the_outcome_is_taken_back(demo: tuple[dict[str, Any], list[str], Path]) -> None:
    """The exposure and the outcome are both accepted."""
    assert (demo[0]["outcomes"]["accepted"], demo[0]["outcomes"]["rejections"]) == (2, [])


@pytest.mark.slow
def test_nothing_asks_for_an_address_outside(demo: tuple[dict[str, Any], list[str], Path]) -> None:
    """Neither our code nor any library of the stack, in any of the processes; and something was written down at all."""
    addresses = demo[1]

    assert any("127.0.0.1" in line for line in addresses)
    assert [line for line in addresses if not LOOPBACK.search(line)] == []


@pytest.mark.slow
def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    """It is refused, and nothing in it is touched."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "mine.txt").write_text("mine")

    run = subprocess.run(
        [sys.executable, "-c", "from features.cli import main; main()", "demo"],
        env={**os.environ, "HEADWAY_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 2
    assert "was not made by a demo" in run.stderr
    assert (tmp_path / "demo" / "mine.txt").read_text() == "mine"


_SERVING = """
import os, pathlib, signal
from training.demo_service import DemoService
with DemoService(os.environ, pathlib.Path(os.environ["HEADWAY_HOME"]) / "service.log") as service:
    service.start()
    print(service._process.pid, flush=True)
    signal.pause()
"""


def test_a_demo_that_is_terminated_takes_its_service_with_it(tmp_path: Path) -> None:
    """Who ends the demo by SIGTERM is left without a service that holds the home."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    serving = subprocess.Popen(
        [sys.executable, "-c", _SERVING], env={**env, "HEADWAY_HOME": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    )
    with serving:
        assert serving.stdout is not None
        service = int(serving.stdout.readline())
        serving.terminate()

    assert serving.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(service, 0)
