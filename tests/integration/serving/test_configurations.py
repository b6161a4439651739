"""The catalogue and the policy over HTTP and from files: versioned, checked, and swapped while requests run."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from httpx import Response

from features.home import lock_file
from models.configuration import BUILT_IN, load_configuration
from models.rollouts import write_share
from serving.configurations import Configurations
from serving.governing_views import ReplayRequest
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from tests.doors import JOURNEY, Client, World, event
from tests.recorded import promote, recorded_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An installation in memory, with its home on disk."""
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client of it."""
    with world.client() as client:
        yield client


def _tag(answer: Response) -> dict[str, str]:
    return {"If-Match": answer.headers["etag"]}


def _with_caps(policy: dict[str, Any], contacts: int) -> dict[str, Any]:
    caps = [{"id": "cap.tried", "contacts": contacts, "period": "7d"}]
    return policy | {"contact_policy": policy["contact_policy"] | {"caps": caps}}


def _stalled(customer_id: str) -> list[dict[str, Any]]:
    """Who applied three days ago, may be contacted by text message, and has not moved since."""
    granted = {"consent": "sms", "state": "granted"}
    events = [
        event("applied", hours_ago=72),
        event("granted", hours_ago=72, kind="consent_changed", channel=None, facts=granted),
    ]
    return [one | {"customer_id": customer_id, "event_id": f"{customer_id}/{one['event_id']}"} for one in events]


@pytest.mark.parametrize("path", ["/v1/policies", "/v1/actions"])
def test_a_document_is_read_with_its_version(client: Client, path: str) -> None:
    """As decisions name it, and as the ETag of a change."""
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.json()["origin"] == BUILT_IN
    assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    decided = client.post("/v1/decisions", {"customer_id": "c-1"}).json()
    assert path != "/v1/policies" or decided["versions"]["policy"] == answer.json()["version"]


def test_a_policy_that_is_put_decides_at_once(client: Client, world: World) -> None:
    """It is on disk, in the history, in answers, and the one before can still be read."""
    before = client.get("/v1/policies")
    wanted = _with_caps(before.json()["document"], 0)

    answer = client.put("/v1/policies", wanted, headers=_tag(before))

    assert answer.status_code == 200, answer.text
    assert answer.json()["document"] == wanted
    version = answer.json()["version"]
    assert version != before.json()["version"]
    decided = client.post("/v1/decisions", {"customer_id": "c-1"}).json()
    assert decided["versions"]["policy"] == version
    home = load_configuration(world.home, {})
    assert (home.origin, home.versions["policy"]) == (str(world.home.config), version)
    assert client.get("/v1/policies").json()["origin"] == str(world.home.config)
    earlier = client.get(f"/v1/policies?version={before.json()['version']}").json()
    assert (earlier["document"], earlier["since"]) == (before.json()["document"], None)


def test_a_catalogue_that_is_put_decides_at_once(client: Client) -> None:
    """An action that is taken out is no candidate any more."""
    before = client.get("/v1/actions")
    document = before.json()["document"]
    gone, *kept = document["actions"]

    answer = client.put("/v1/actions", document | {"actions": kept}, headers=_tag(before))

    assert answer.status_code == 200, answer.text
    decided = client.post("/v1/decisions", {"customer_id": "c-1"}).json()
    record = client.get(f"/v1/decisions/{decided['decision_id']}").json()["record"]
    assert record["versions"]["actions"] == answer.json()["version"]
    assert gone["id"] not in {one["action_id"] for one in record["candidates"]}


def test_the_same_content_again_changes_nothing(client: Client, world: World) -> None:
    """A retry whose answer was lost gets it, under the old ETag too; the home gets no file."""
    before = client.get("/v1/policies")

    again = client.put("/v1/policies", before.json()["document"], headers={"If-Match": '"000000000000"'})

    assert (again.status_code, again.json()["version"]) == (200, before.json()["version"])
    assert not (world.home.config / "policy.yaml").exists()


def test_a_change_names_what_it_was_made_to(client: Client) -> None:
    """Without it, or after somebody else's change, nothing is changed."""
    before = client.get("/v1/policies")
    document = before.json()["document"]

    missing = client.put("/v1/policies", _with_caps(document, 1))
    client.put("/v1/policies", _with_caps(document, 2), headers=_tag(before))
    late = client.put("/v1/policies", _with_caps(document, 3), headers=_tag(before))

    assert (missing.status_code, missing.json()["type"]) == (428, "/docs/problems/precondition-required")
    assert (late.status_code, late.json()["type"]) == (412, "/docs/problems/precondition-failed")
    caps = client.get("/v1/policies").json()["document"]["contact_policy"]["caps"]
    assert [cap["contacts"] for cap in caps] == [2]


def test_every_problem_of_a_document_is_told_with_a_pointer(client: Client) -> None:
    """As a start of the service would, with references between the files."""
    before = client.get("/v1/policies")
    document = before.json()["document"]
    bad = _with_caps(document, -1) | {"channel_price": {"fax": 1.0}, "surprise": 1}

    shape = client.put("/v1/policies", bad, headers=_tag(before))
    reference = client.put("/v1/policies", document | {"channel_price": {"fax": 1.0}}, headers=_tag(before))

    assert (shape.status_code, reference.status_code) == (422, 422)
    assert {one["pointer"] for one in shape.json()["errors"]} == {"/contact_policy/caps/0/contacts", "/surprise"}
    (error,) = reference.json()["errors"]
    assert (error["pointer"], error["value"]) == ("/channel_price/fax", '"fax"')
    assert error["expected"].startswith("one of ")
    assert client.get("/v1/policies").json()["version"] == before.json()["version"]


def test_what_another_file_says_of_a_document_is_told_too(client: Client) -> None:
    """The policy has rules for issues that a catalogue without them leaves dangling."""
    before = client.get("/v1/actions")
    policy = client.get("/v1/policies").json()["document"]
    (issue, *_) = next(rule["issues"] for rule in policy["rules"] if rule.get("issues"))
    document = before.json()["document"]
    kept = [one for one in document["actions"] if one["issue"] != issue]

    answer = client.put("/v1/actions", document | {"actions": kept}, headers=_tag(before))

    assert answer.status_code == 422
    assert {one["pointer"] for one in answer.json()["errors"]} == {""}
    assert all("policy.yaml" in one["expected"] for one in answer.json()["errors"])


@pytest.mark.parametrize("body", [[], "text", 7, {}])
def test_what_is_no_document_is_refused(client: Client, body: object) -> None:
    """With a pointer to the body."""
    answer = client.put("/v1/policies", body, headers=_tag(client.get("/v1/policies")))

    assert answer.status_code == 422
    assert answer.json()["errors"] != []


def test_the_configuration_of_a_deployment_is_not_written(tmp_path: Path) -> None:
    """Who sets HEADWAY_CONFIG owns the files."""
    world = World(tmp_path / "home", env={"HEADWAY_CONFIG": str(tmp_path / "config")})
    (tmp_path / "home").mkdir()
    with world.client() as client:
        before = client.get("/v1/policies")
        answer = client.put("/v1/policies", _with_caps(before.json()["document"], 1), headers=_tag(before))

    assert (answer.status_code, answer.json()["type"]) == (409, "/docs/problems/configuration-fixed")


@pytest.mark.parametrize(
    ("role", "reads", "writes", "tries"),
    [("marketer", 200, 428, 422), ("agent", 200, 403, 403), ("analyst", 200, 403, 422), ("caller", 403, 403, 403)],
)
def test_roles(client: Client, world: World, role: str, reads: int, writes: int, tries: int) -> None:
    """Marketers write; agents and analysts read."""
    key = world.key(role, role)

    assert client.get("/v1/policies", key=key).status_code == reads
    assert client.put("/v1/policies", {}, key=key).status_code == writes
    assert client.post("/v1/policies/validate", {}, key=key).status_code == tries


@pytest.mark.parametrize(
    ("query", "status"), [("version=unknown", 404), ("version=../../policy", 404), ("versions=1", 422)]
)
def test_only_kept_versions_are_read(client: Client, query: str, status: int) -> None:
    """A version is a name, and never a path."""
    assert client.get(f"/v1/policies?{query}").status_code == status


def test_a_version_that_is_not_kept_tells_no_folder(client: Client, world: World) -> None:
    """Where the home lies is the operator's business, for whoever may read policies or name one in a replay."""
    answer = client.get("/v1/policies?version=unknown")

    assert answer.json()["detail"] == "no policy of version 'unknown'; expected one that decided here"


def test_a_policy_is_tried_on_recorded_decisions(client: Client) -> None:
    """Under a cap of none every action that was chosen becomes no action; nothing is put in force."""
    client.post("/v1/events", {"events": _stalled("c-0") + _stalled("c-1")})
    for number in range(12):
        client.post("/v1/decisions", {"customer_id": f"c-{number % 3}", "request_id": f"r-{number}"})
    before = client.get("/v1/policies").json()

    same = client.post("/v1/policies/validate", {"policy": before["document"], "decisions": 10}).json()
    capped = client.post("/v1/policies/validate", {"policy": _with_caps(before["document"], 0)}).json()

    assert (same["valid"], same["errors"], same["what_if"]["decisions"]) == (True, [], 10)
    assert (same["what_if"]["changed"], same["what_if"]["net_value_difference"]) == (0, 0.0)
    assert same["versions"]["policy"] == before["version"]
    assert capped["what_if"]["decisions"] == 12
    assert {one["after"] for one in capped["what_if"]["moves"]} <= {"no_action"}
    assert capped["what_if"]["net_value_difference"] <= 0.0
    stages = {one["stage"]: one for one in capped["what_if"]["dropped"]}
    assert stages["contact_policy"]["after"] > stages["contact_policy"]["before"]
    assert capped["what_if"]["changed"] > 0
    assert client.get("/v1/policies").json()["version"] == before["version"]


def test_documents_that_may_not_be_put_are_told_so(client: Client) -> None:
    """With pointers into the body, for both documents."""
    policy = client.get("/v1/policies").json()["document"]

    answer = client.post("/v1/policies/validate", {"policy": policy | {"decision_ttl": "soon"}, "actions": {}})

    assert answer.status_code == 200
    told = answer.json()
    assert (told["valid"], told["what_if"], told["versions"]) == (False, None, None)
    assert {one["pointer"] for one in told["errors"]} == {
        "/policy/decision_ttl",
        "/actions/version",
        "/actions/actions",
    }


def test_what_cannot_be_written_is_not_in_force(client: Client, world: World) -> None:
    """The home's folder holds something else: the service says that it failed, and goes on as it was."""
    before = client.get("/v1/policies")
    world.home.config.mkdir()
    (world.home.config / "notes.txt").write_text("mine")

    answer = client.put("/v1/policies", _with_caps(before.json()["document"], 1), headers=_tag(before))

    assert answer.status_code == 503
    assert client.get("/v1/policies").json()["version"] == before.json()["version"]
    assert [path.name for path in world.home.config.iterdir()] == ["notes.txt"]


def test_a_put_mends_a_bad_file(tmp_path: Path) -> None:
    """The content in force, put again over a file that was refused: a restart would find it."""
    world = recorded_world(tmp_path)
    runtimes: list[Runtime] = []
    with world.client(keep=runtimes.append) as client:
        before = client.get("/v1/policies")
        (world.home.config / "policy.yaml").write_text("version: 7\n")
        _look(runtimes[0].configurations)
        refused = runtimes[0].configurations.refused

        answer = client.put("/v1/policies", before.json()["document"], headers=_tag(before))
        _look(runtimes[0].configurations)

    assert "version: got 7" in (refused or "")
    assert (answer.status_code, runtimes[0].configurations.refused) == (200, None)
    assert load_configuration(world.home, {}).versions["policy"] == before.json()["version"]


def test_a_share_that_was_just_written_is_not_lost(client: Client, world: World) -> None:
    """A step of a rollout writes the file, which the service takes up a moment later: a change of before is refused."""
    before = client.get("/v1/policies")
    for share in (0.1, 0.2):
        write_share(world.home, {}, share)

        answer = client.put("/v1/policies", _with_caps(before.json()["document"], 2), headers=_tag(before))

        assert (answer.status_code, answer.json()["type"]) == (412, "/docs/problems/precondition-failed")
        assert load_configuration(world.home, {}).policy.experiment.challenger == share


def test_a_file_that_was_just_spoilt_is_not_overwritten_before_it_was_seen(client: Client, world: World) -> None:
    """Somebody may be in the middle of an edit."""
    write_share(world.home, {}, 0.0)
    before = client.get("/v1/policies")
    path = world.home.config / "policy.yaml"
    for data in (b"version: 1\nexperi", b"\xff"):
        path.write_bytes(data)

        answer = client.put("/v1/policies", _with_caps(before.json()["document"], 2), headers=_tag(before))

        assert answer.status_code == 412
        assert path.read_bytes() == data


def test_two_processes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """One that has not seen the other's change yet is told to read again, and then has it; likewise at once."""
    opened: list[Runtime] = []
    home = World(tmp_path).home
    with World(tmp_path).client() as one, World(tmp_path).client(keep=opened.append) as other:
        before = other.get("/v1/policies")
        put = one.put("/v1/policies", _with_caps(before.json()["document"], 5), headers=_tag(before))
        too_soon = other.put("/v1/policies", _with_caps(before.json()["document"], 7), headers=_tag(before))
        for _ in range(2):
            opened[0].configurations.refresh()
        seen = other.get("/v1/policies")
        with lock_file(home.state / "configuration"):
            at_once = other.put("/v1/policies", _with_caps(before.json()["document"], 7), headers=_tag(seen))
        taken = other.put("/v1/policies", _with_caps(before.json()["document"], 7), headers=_tag(seen))

    assert [answer.status_code for answer in (put, too_soon, at_once, taken)] == [200, 412, 412, 200]
    assert seen.json()["version"] == put.json()["version"]


def test_changes_of_one_file_after_another_are_taken(client: Client) -> None:
    """Before anybody has looked at the files again."""
    for contacts in (1, 2, 3):
        before = client.get("/v1/policies")
        answer = client.put("/v1/policies", _with_caps(before.json()["document"], contacts), headers=_tag(before))
        assert answer.status_code == 200, answer.text


def test_exposures_know_the_channel_of_a_treatment_that_was_put(client: Client, world: World) -> None:
    """An exposure that does not say its channel counts under the caps of its treatment's."""
    before = client.get("/v1/actions")
    first, *others = before.json()["document"]["actions"]
    new = first | {"treatments": [*first["treatments"], {"id": "put_just_now", "channel": "sms", "contact_cost": 0.1}]}
    document = before.json()["document"] | {"actions": [new, *others]}
    assert client.put("/v1/actions", document, headers=_tag(before)).status_code == 200
    shown = {"action_id": first["id"], "treatment_id": "put_just_now", "decision_id": "d-elsewhere"}

    client.post("/v1/events", {"events": [event("shown", kind="action_exposed", channel=None, facts=shown)]})

    (contact,) = world.records.customer("c-1", since=0, now=world.now).contacts
    assert contact.channel == "sms"


# Files.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the built-in configuration, owned by the deployment."""
    folder = tmp_path / "config"
    folder.mkdir()
    for name in ("taxonomy.yaml", "journeys.yaml", "actions.yaml", "policy.yaml"):
        shutil.copy(str(files("features") / "defaults" / name), folder / name)
    return folder


@pytest.fixture
def configurations(tmp_path: Path, folder: Path) -> Configurations:
    """The configuration in force of an installation that reads that folder."""
    env = {"HEADWAY_CONFIG": str(folder)}
    world = World(tmp_path, env=env)
    world.configuration = load_configuration(world.home, env)
    runtime = world.runtime()
    runtime.workers.close()
    return runtime.configurations


def _edit(path: Path, **changes: Any) -> None:
    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(document | changes))


def _look(configurations: Configurations) -> None:
    configurations.refresh()
    configurations.refresh()


def test_a_changed_file_is_taken_over(configurations: Configurations, folder: Path) -> None:
    """At the second look that finds it the same: the first may have met it half written."""
    before = configurations.in_force
    _edit(folder / "policy.yaml", decision_ttl="2d")

    configurations.refresh()
    assert configurations.in_force is before
    configurations.refresh()

    after = configurations.in_force
    assert after.configuration.versions["policy"] != before.configuration.versions["policy"]
    assert after.rulebooks[JOURNEY].policy.decision_ttl == 2 * 86_400_000_000
    assert configurations.history.kept("policy") == tuple(
        sorted(one.configuration.versions["policy"] for one in (before, after))
    )


def test_a_file_that_changed_during_the_start_is_found(tmp_path: Path, folder: Path) -> None:
    """Between reading the configuration and opening the doors."""
    env = {"HEADWAY_CONFIG": str(folder)}
    world = World(tmp_path, env=env)
    world.configuration = load_configuration(world.home, env)
    _edit(folder / "policy.yaml", decision_ttl="2d")
    runtime = world.runtime()
    runtime.workers.close()

    _look(runtime.configurations)

    assert runtime.configurations.in_force.configuration.policy.decision_ttl == 2 * 86_400_000_000


def test_a_bad_file_leaves_the_last_good_one(configurations: Configurations, folder: Path) -> None:
    """It is told of, until it is mended."""
    before = configurations.in_force
    good = (folder / "policy.yaml").read_text()
    (folder / "policy.yaml").write_text("version: 1\n")

    _look(configurations)
    assert configurations.in_force is before
    assert "this key, which is required" in (configurations.refused or "")

    (folder / "policy.yaml").write_text(good)
    _look(configurations)
    assert configurations.refused is None


def test_a_changed_taxonomy_waits_for_a_restart(configurations: Configurations, folder: Path) -> None:
    """Feature sets and stores hang on it."""
    before = configurations.in_force
    _edit(folder / "taxonomy.yaml", currency="USD")

    _look(configurations)

    assert configurations.in_force is before
    assert "restart the service" in (configurations.refused or "")


def test_a_bad_file_is_visible_from_outside(tmp_path: Path, folder: Path) -> None:
    """In readiness, which stays 200, and as a metric."""
    env = {"HEADWAY_CONFIG": str(folder)}
    world = World(tmp_path, env=env)
    runtimes: list[Runtime] = []
    with world.client(keep=runtimes.append) as client:
        (folder / "actions.yaml").write_text("- no catalogue\n")
        _look(runtimes[0].configurations)

        readiness = client.get("/readyz")
        metrics = client.get("/metrics").text

    assert (readiness.status_code, readiness.json()["configuration_refused"]) == (200, True)
    assert "headway_configuration_refused 1.0" in metrics


def test_a_swap_under_load_fails_no_request(tmp_path: Path) -> None:
    """Threads decide while policy, catalogue and bundle change: every answer is whole, and can be made again."""
    world = recorded_world(tmp_path)
    promote(world, 1)
    runtime = world.runtime()
    (champions,) = world.champions
    champions.refresh()
    answers: list[bytes] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def ask(thread: int) -> None:
        number = 0
        while not stop.is_set():
            request = DecisionRequest(request_id=f"{thread}-{number}", customer_id=f"c-{number % 7}")
            try:
                answers.append(runtime.decider.decide(request, source="load", now=world.now))
            except Exception as error:
                failures.append(error)
            number += 1

    runtime.ingest.ingest([one for n in range(7) for one in _stalled(f"c-{n}")], source="load", arrived_at=world.now)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    put = {runtime.configurations.document("policy").version}
    for contacts in range(1, 4):
        document = runtime.configurations.document("policy")
        wanted = _with_caps(document.content, contacts)
        changed = runtime.configurations.put("policy", wanted, if_match=f'"{document.version}"', source="test")
        put.add(changed.version)
        catalogue = runtime.configurations.document("actions")
        actions = [one | {"prior_uplift": contacts / 100} for one in catalogue.content["actions"]]
        runtime.configurations.put(
            "actions", catalogue.content | {"actions": actions}, if_match=f'"{catalogue.version}"', source="test"
        )
        promote(world, contacts % 2 + 1)
        champions.refresh()
        asked, until = len(answers), time.monotonic() + 60
        while len(answers) <= asked + len(threads) and time.monotonic() < until and not failures:
            time.sleep(0.01)  # one that was begun afterwards is among them
    stop.set()
    for thread in threads:
        thread.join()
    runtime.workers.close()

    assert failures == []
    records = [one for page in world.records.read() for one in page]
    assert len(records) == len(answers) > 20
    seen = {part: {record.versions[part] for record in records} for part in ("policy", "actions", "bundle")}
    assert seen["policy"] <= put
    assert {part: len(versions) > 1 for part, versions in seen.items()} == dict.fromkeys(seen, True)
    tried = [runtime.replays.replay(world.records.decision(one.decision_id), ReplayRequest()) for one in records]
    assert [one.replay.differences for one in tried if not (one.replay.identical and one.answer_identical)] == []
