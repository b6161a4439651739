"""A rollout over HTTP, end to end: a running service, the real commands, and decisions that follow the answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from features.home import Home
from models.configuration import load_configuration
from models.experiment import arm_of
from models.promotion_log import promotions_file, read_promotions
from tests.integration.serving.test_process import KEY, Service
from tests.lived import lived_home
from tests.recorded import NAME

pytestmark = pytest.mark.slow

ATTEMPTS = 30
"""The gate makes every decision of the log again twice; a request waits 45 s for it, and is then asked again."""

PEOPLE = [f"c-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over a home in which another one decided."""
    folder = tmp_path_factory.mktemp("home")
    home = lived_home(folder)
    policy = home.config / "policy.yaml"
    policy.write_text("# ours\n" + policy.read_text().replace("challenger: 0.1", "challenger: 0 # nobody yet"))
    service = Service(folder)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.kill()


def _asked(service: Service, path: str, body: dict[str, Any]) -> httpx.Response:
    """The answer, fetched by asking the same again for as long as it is being made."""
    headers = {"Authorization": f"Bearer {KEY}"}
    for _ in range(ATTEMPTS):
        answer = httpx.post(f"{service.url}/v1/models/{NAME}/{path}", headers=headers, json=body, timeout=120)
        if answer.json().get("type") != "/docs/problems/in-flight":
            break
    return answer


def _arms(service: Service) -> dict[str, str]:
    answers = {one: service.post("/v1/decisions", {"customer_id": one, "mode": "dry_run"}).json() for one in PEOPLE}
    return {one: answer["experiment"]["arm"] for one, answer in answers.items()}


def _expected_arms(home: Home) -> dict[str, str]:
    experiment = load_configuration(home, {}).policy.experiment
    return {one: arm_of(one, experiment) for one in PEOPLE}


def test_a_version_goes_from_nobody_to_everybody_and_back(service: Service) -> None:
    """Shadow, one in ten, half, champion, rolled back; whoever asks next is answered by what was just promoted."""
    home = service.home
    nobody = _arms(service)
    shadow = _asked(service, "promote", {"dry_run": True, "share": 0.1})
    assert (shadow.status_code, shadow.json()["done"]) == (200, False), shadow.text
    assert shadow.json()["verdict"]["promotes"] is True

    grown = []
    for share in (0.1, 0.5):
        answer = _asked(service, "promote", {"share": share})
        assert (answer.status_code, answer.json()["done"]) == (200, True), answer.text
        assert answer.json()["entry"]["by"] == "bootstrap"
        assert service.get("/v1/policies").json()["version"] == answer.json()["share"]["policy_version"]
        arms = _arms(service)
        assert arms == _expected_arms(home)
        grown.append({one for one, arm in arms.items() if arm == "challenger"})
    assert "challenger" not in nobody.values()
    assert grown[0] < grown[1]
    for arm in ("no_contact_holdout", "random_eligible"):
        assert {one for one in PEOPLE if nobody[one] == arm} == {one for one in PEOPLE if arms[one] == arm}
    assert "# nobody yet" in (home.config / "policy.yaml").read_text()

    promoted = _asked(service, "promote", {"reason": "it earns more"})
    assert (promoted.status_code, promoted.json()["share"]["after"]) == (200, 0.0), promoted.text
    assert service.get("/v1/models").json()["models"][0]["serving"] == f"{NAME}@champion/2"
    assert _arms(service) == nobody
    refused = _asked(service, "promote", {"version": 1, "share": 0.01})
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs/problems/promotion-refused")
    assert "worse" in [one["code"] for one in refused.json()["reasons"]]

    back = _asked(service, "rollback", {"reason": "complaints"})
    assert (back.status_code, back.json()["entry"]["after"]["version"]) == (200, 1), back.text
    models = service.get("/v1/models").json()["models"][0]
    assert (models["serving"], models["promotions"][0]["reason"]) == (f"{NAME}@champion/1", "complaints")
    assert read_promotions(promotions_file(home.bundles))[-1].kind == "rollback"
    assert not list(Path(home.state).glob("headway-*"))
