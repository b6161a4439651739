"""The marketer's section on render time is followed to the letter, against a service as ``headway serve`` starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from models.configuration import built_in_configuration
from models.record_store import open_record_store
from tests.integration.serving.test_process import KEY, Service

PAGES = Path(__file__).parents[3] / "docs" / "how-to"
CALLER = (PAGES / "caller.md").read_text(encoding="utf-8")
SECTION = (PAGES / "marketer.md").read_text(encoding="utf-8").partition("\n## Ask at render time\n")[2]
SECTION = SECTION.partition("\n## ")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
TEMPLATE = re.search(r"^\{\"customer_id\".*?\}$", SECTION, re.DOTALL | re.MULTILINE)
SENT = re.findall(r"^```bash\n(.*?)^```", CALLER.partition("\n## 2. Send events\n")[2], re.DOTALL | re.MULTILINE)[0]


def test_the_commands_ask_what_the_template_asks() -> None:
    """Whoever copies one or the other gets the same."""
    assert TEMPLATE is not None
    asked = re.search(r"-d \"(\{.*?\})\"", BLOCKS[0], re.DOTALL)
    assert asked is not None

    filled = TEMPLATE[0].replace("{{contact.id}}", "c-7").replace("{{campaign.id}}", "camp-7")
    sent = asked[1].replace('\\"', '"').replace("$1", "c-7").replace("$2", "camp-7")

    assert json.loads(filled) == json.loads(sent)


@pytest.mark.slow
def test_the_section_runs_to_its_end(tmp_path: Path) -> None:
    """Only nothing is drawn by chance, and the time limits are those of a machine that is busy with tests."""
    home = tmp_path / "home"
    (home / "config").mkdir(parents=True)
    for name, text in built_in_configuration().texts.items():
        calm = re.sub(r"(epsilon|no_contact_holdout|random_eligible): 0\.\d+", r"\1: 0.0", text)
        (home / "config" / f"{name}.yaml").write_text(calm, encoding="utf-8")
    script = "set -euo pipefail\n" + SENT + "".join(BLOCKS)
    for limit, longer in (("--max-time 0.6", "--max-time 30"), (r"_ms\": 500", r"_ms\": 20000")):
        assert script.count(limit) == 1
        script = script.replace(limit, longer)
    service = Service(home)
    try:
        service.wait_until_ready()
        done = subprocess.run(
            [str(shutil.which("bash")), "-c", script],
            env={**os.environ, "URL": service.url, "KEY": KEY},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        service.kill()

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    taken, *shown, told = done.stdout.replace("}email", "}\nemail").splitlines()
    assert json.loads(taken)["accepted"] == 2
    assert (len(shown), shown[0].startswith("email_"), shown[1:]) == (3, True, [shown[0], "default_content"])
    assert (json.loads(told)["accepted"], json.loads(told)["rejected"]) == (1, 0)
    with closing(open_record_store(service.home, readonly=True)) as records:
        (contact,) = records.customer("c-7", since=0, now=2**60).contacts
        assert contact.status == "confirmed"
        assert sum(map(len, records.read())) == 2
