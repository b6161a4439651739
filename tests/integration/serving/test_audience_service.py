"""Audiences of the service as people run it: asked for over a socket, killed in the middle, fetched as a file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from features.checkpoints import Checkpoints
from features.home import Home
from models.audience_work import made_audience, write_audience
from models.audiences import AudienceSpec
from models.record_store import SqlRecordStore
from serving.audience_views import MOST_AT_ONCE
from tests.audience_homes import CUSTOMERS, alias, audience_home, consents, customer_id, is_tired, region
from tests.integration.serving.test_process import KEY, Service

pytestmark = pytest.mark.slow

LONGEST_WAIT = 180.0
MARKETER = Path(__file__).parents[3] / "docs" / "how-to" / "marketer.md"
MAIL = {"candidates": {"include": ["remind_next_step"]}, "channels": ["email"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home in which it is now."""
    return audience_home(tmp_path_factory.mktemp("service") / "home", now=time.time_ns() // 1000)


@pytest.fixture(scope="module")
def service(home: Home) -> Iterator[Service]:
    """The service over it."""
    service = Service(home.root)
    service.wait_until_ready()
    yield service
    service.kill()


def until(found: Callable[[], Any]) -> Any:
    """What is there at last."""
    end = time.monotonic() + LONGEST_WAIT
    while not (there := found()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)  # another process is waited for
    return there


def answered(service: Service, path: str, body: Any, **headers: str) -> httpx.Response:
    """The answer to a call that may take longer than a request may: a new home compiles its code first."""

    def asked() -> httpx.Response | None:
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        told = {"Authorization": f"Bearer {KEY}", **headers}
        answer = httpx.post(service.url + path, headers=told, timeout=60, **sent)
        return None if answer.status_code == 409 else answer

    answer: httpx.Response = until(asked)
    return answer


def over(service: Service, path: str) -> dict[str, Any]:
    """A job once it has ended."""

    def ended() -> dict[str, Any] | None:
        document: dict[str, Any] = service.get(path).json()
        return document if document["finished_at"] else None

    document: dict[str, Any] = until(ended)
    return document


def test_an_audience_goes_on_where_the_service_is_killed(tmp_path: Path) -> None:
    """In an attempt of its own, to the bytes that nobody interrupts; the estimate had said how many."""
    home = audience_home(tmp_path / "home", now=time.time_ns() // 1000)
    service = Service(home.root)
    service.wait_until_ready()
    body = {
        **MAIL,
        "request_id": "spring",
        "filter": {"all_of": [{"field": "attribute:region", "one_of": ["north", "south", "west"]}]},
    }
    estimate = answered(service, "/v1/audiences/estimate", body).json()
    answer = service.post("/v1/audiences", body)
    path = answer.headers["location"]
    until(lambda: service.get(path).json()["state"] == "running")
    service.kill()
    again = Service(home.root)
    again.wait_until_ready()
    try:
        job = over(again, path)
        result = again.get(job["links"]["result"])
        with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
            spec = records.jobs.spec(job["job_id"])
    finally:
        again.kill()

    assert (job["state"], job["attempts"]) == ("succeeded", 2)
    assert answer.status_code == 202
    rows = list(csv.DictReader(io.StringIO(result.text, newline="")))
    expected = [one for one in range(CUSTOMERS) if region(one) in ("north", "south", "west")]
    assert sorted(row["customer_id"] for row in rows) == [customer_id(one) for one in expected]
    assert all(row["reason"] for row in rows if is_tired(int(row["customer_id"][2:])))
    assert job["result"]["selected"] == estimate["selected"]["estimate"] == sum(row["rank"] != "" for row in rows)
    assert spec is not None
    whole = made_audience(
        home,
        msgspec.json.decode(spec, type=AudienceSpec),
        Checkpoints(tmp_path / "steps"),
        tell=lambda step, done, total: None,
    )
    write_audience(whole, tmp_path / "whole.csv")
    assert result.content == (tmp_path / "whole.csv").read_bytes()


def test_the_marketers_page_works_as_it_stands(service: Service, tmp_path: Path) -> None:
    """Every command of its section, one after the other."""
    section = MARKETER.read_text(encoding="utf-8").split("## Make an audience\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3

    ran = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "URL": service.url, "KEY": KEY},
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
        check=True,
    )

    documents, at = [], 0
    text = ran.stdout.strip()
    while at < len(text):
        document, end = json.JSONDecoder().raw_decode(text, at)
        documents.append(document)
        at = end + len(text[end:]) - len(text[end:].lstrip())
    estimate, made, screened = documents
    assert made["selected"] == estimate["selected"]["estimate"]
    assert screened["reasons"] == {"duplicate_row": 1, "unknown_customer": 2}
    with (tmp_path / "audience.csv").open(newline="") as file:
        assert sum(row["rank"] != "" for row in csv.DictReader(file)) == made["selected"] > 0


def test_a_list_is_screened_alike_at_once_and_as_a_job(service: Service) -> None:
    """The first rows of a long list are what the same rows are alone."""
    ids = [customer_id(one) for one in range(CUSTOMERS)] + [alias(10)]
    asked = {"action_id": "remind_next_step", "channel": "email"}
    listed = {**asked, "rows": [{"customer_id": one} for one in ids]}
    short = answered(service, "/v1/audiences/screen", listed).json()
    table = "\n".join(["customer_id", *ids, *(f"stranger-{one}" for one in range(MOST_AT_ONCE))])

    path = "/v1/audiences/screen?action_id=remind_next_step&channel=email"
    taken = answered(service, path, table.encode(), **{"Content-Type": "text/csv"})
    job = over(service, taken.headers["location"])
    rows = list(csv.DictReader(io.StringIO(service.get(job["links"]["result"]).text, newline="")))

    assert short["rows"] == len(ids) == short["kept"] + short["removed"]
    assert [(row["customer_id"], row["reason"]) for row in rows[: len(ids)]] == [
        (one["customer_id"], one["reason"] or "") for one in short["results"]
    ]
    assert job["result"]["reasons"]["unknown_customer"] == MOST_AT_ONCE
    assert short["results"][-1]["reason"] == "duplicate_row"
    closed = [one["reason"] for number, one in enumerate(short["results"][:-1]) if not consents(number)]
    assert set(closed) == {"no_consent", "holdout"}
