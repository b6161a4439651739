"""Every call has an example, and every example, run as curl against the service, is answered as it is described."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from features.events import dump_timestamp
from serving.api.curl import curl_of, curl_page
from serving.api.examples import EXAMPLES
from serving.api.openapi import OPERATIONS, api_document
from serving.child_commands import Command, Finished
from tests.audience_answers import ESTIMATE, SCREENED
from tests.doors import BOOTSTRAP, NOW
from tests.json_schema import violations
from tests.served import reported_world, served

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "curl.md"
BY_ID = {one.operation_id: one for one in OPERATIONS}
MARK = "== "

SHELL = f"""set -u
curl() {{ command curl --max-time 60 -w '%{{stderr}}%{{http_code}} %{{content_type}}' "$@"; }}
run() {{ printf '{MARK}%s\\n' "$1"; cat >"$1.sh"; . "./$1.sh" >"$1.out" 2>"$1.err"; }}
"""
"""Runs each example in one shell, so that what one keeps is there for the next; status and answer go into files. An
answer without an end is cut off after a minute."""


@dataclass(frozen=True)
class Ran:
    """What became of one example."""

    told: str
    status: str
    media_type: str
    answer: str


def test_every_call_has_an_example() -> None:
    """One that can be run; without it nobody sees how a call is made, and nothing tries it."""
    assert [one for one in BY_ID if one not in EXAMPLES] == [], (
        "add an Example for it to serving/api/examples.py, after those whose ids it needs"
    )
    assert [one for one in EXAMPLES if one not in BY_ID] == [], "the call is gone: remove its Example"


def test_the_page_is_current() -> None:
    """docs/reference/curl.md is what the examples say."""
    assert PAGE.read_text(encoding="utf-8") == curl_page(), "run: python -m serving.api.curl > docs/reference/curl.md"


def _headway(command: Command) -> Finished:
    """What the console script prints where all is well."""
    if command.words[0] == "audience":
        return Finished(is_done=True, document=ESTIMATE if command.words[1] == "estimate" else SCREENED)
    entry = {"kind": command.words[0]}
    return Finished(is_done=True, document={"verdict": None, "entry": entry, "share": None})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """All examples, one after the other, each as the page shows it."""
    shell = shutil.which("bash")
    if shell is None or shutil.which("curl") is None:
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail("bash or curl is not installed")
        pytest.skip("bash or curl is not installed")
    folder = tmp_path_factory.mktemp("curl")
    world = reported_world(tmp_path_factory.mktemp("home"))
    world.command = _headway
    examples = [(name, curl_of(BY_ID[name], one)) for name, one in EXAMPLES.items() if name in BY_ID]
    script = SHELL + "\n".join(f"run {name} <<'END_OF_EXAMPLE'\n{text}\nEND_OF_EXAMPLE" for name, text in examples)
    with served(world) as url:
        subprocess.run(
            [shell, "-c", script],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "URL": url, "KEY": BOOTSTRAP, "NOW": dump_timestamp(NOW)},
            capture_output=True,
            timeout=900,
            check=False,
        )
    return {name: _ran(folder, name) for name, _ in examples}


def _ran(folder: Path, name: str) -> Ran:
    told = (folder / f"{name}.err").read_text()
    status, _, media_type = told.rpartition("\n")[2].partition(" ")
    return Ran(told, status, media_type.partition(";")[0], (folder / f"{name}.out").read_text())


@pytest.mark.parametrize("operation_id", [name for name in BY_ID if name in EXAMPLES])
def test_an_example_succeeds(ran: dict[str, Ran], operation_id: str) -> None:
    """With the status and the shape that the description says of a success."""
    operation, one, document = BY_ID[operation_id], ran[operation_id], api_document()
    described: dict[str, Any] = document["paths"][operation.path][operation.method]["responses"]
    successes = [status for status in described if status.startswith("2")]

    assert one.status in successes, f"{one.told}\n{one.answer}"
    content = described[one.status].get("content", {})
    assert one.media_type in content or content == {}
    if one.media_type == "application/json":
        answer = json.loads(one.answer)
        assert list(violations(answer, content[one.media_type]["schema"], document)) == []
        assert answer.get("rejected", 0) == 0, one.answer
