"""``/v1/models``: what is registered, and promotion and rollback by a command whose words and answers are looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from features.errors import InFlight, UnknownObject
from features.home import Home
from models.promotion_log import Shares
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name
from models.rollouts import write_share
from serving.child_commands import Command, Finished
from serving.problems import CommandRefused, TooManyRequests
from tests.doors import JOURNEY, NOW, Client, World
from tests.integration.serving.test_hot_swap import _registry

NAME = model_name(JOURNEY)
PROMOTE, ROLLBACK = f"/v1/models/{NAME}/promote", f"/v1/models/{NAME}/rollback"
REASON = {"code": "few_decisions", "value": 3.0, "threshold": 100.0, "text": "3 effective decisions"}
VERDICT: dict[str, Any] = {"promotes": True, "champion": 1, "challenger": 2, "reasons": []}
REFUSED: dict[str, Any] = {"promotes": False, "champion": 1, "challenger": 2, "reasons": [REASON]}
DONE = {"step": "done", "kind": "promote", "by": "k"}


class Headway:
    """Stands for the console script: notes what it is asked, and says what a test wants."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.says: Finished | Exception = Finished(
            is_done=True, document={"promoted": True, "verdict": VERDICT, "entry": DONE, "share": None}
        )

    def __call__(self, command: Command) -> Finished:
        """What it comes to."""
        self.asked.append(command)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    @property
    def words(self) -> list[str]:
        """Of the only command that was run."""
        (command,) = self.asked
        return list(command.words)


@pytest.fixture
def headway() -> Headway:
    """The console script."""
    return Headway()


@pytest.fixture
def world(tmp_path: Path, headway: Headway) -> World:
    """An installation in memory."""
    return World(tmp_path, command=headway)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    """A client with the bootstrap key."""
    with world.client() as client:
        yield client


def test_a_look_that_fails_makes_no_failure_of_a_promotion(client: Client, world: World) -> None:
    """It is done; the next look takes it up."""

    def fail() -> None:
        raise PermissionError(13, "Permission denied")

    world.champions[-1].refresh = fail  # type: ignore[method-assign]

    answer = client.post(PROMOTE, {"version": 2})

    assert (answer.status_code, answer.json()["done"]) == (200, True)


def test_a_home_without_models_lists_every_journey(client: Client) -> None:
    """Nothing decides there, and nothing was promoted."""
    answer = client.get("/v1/models").json()

    (model,) = answer["models"]
    assert (model["name"], model["journey_id"], answer["share"]) == (NAME, JOURNEY, 0.0)
    assert (model["serving"], model["challenging"], model["aliases"]) == (None, None, {})
    assert (model["versions"], model["promotions"]) == ([], [])


def test_versions_aliases_and_promotions_are_listed(world: World, tmp_path: Path) -> None:
    """The newest first, with what decides now."""
    registry = _registry(world.home, tmp_path / "made")
    registry.set_alias(NAME, CHAMPION, 1, at=NOW)
    registry.set_alias(NAME, CHALLENGER, 3, at=NOW)
    Promoter(registry).promote(NAME, 2, at=NOW, by="k-1", reason="better", evidence={"difference": 1})
    with world.client() as client:
        world.champions[-1].refresh()
        world.challengers[-1].refresh()

        (model,) = client.get("/v1/models").json()["models"]

    assert (model["serving"], model["challenging"]) == (f"{NAME}@champion/2", f"{NAME}@challenger/3")
    placed = {alias: (one["version"], one["is_intact"]) for alias, one in model["aliases"].items()}
    assert placed == {"champion": (2, True), "challenger": (3, True)}
    aliases = {one["version"]: one["aliases"] for one in model["versions"]}
    assert list(aliases.items()) == [(3, ["challenger"]), (2, ["champion"]), (1, [])]
    assert model["versions"][0]["trained_at"] == "2023-11-14T22:13:20.000000Z"
    (promotion,) = model["promotions"]
    assert (promotion["step"], promotion["by"], promotion["evidence"]) == ("done", "k-1", {"difference": 1})


def test_headline_metrics_come_from_the_manifest(world: World, client: Client) -> None:
    """As they were when the version was trained."""
    folder = world.home.bundle(NAME, 1)
    folder.mkdir(parents=True)
    manifest = {
        **{"format": 2, "name": NAME, "journey_id": JOURNEY, "created_at": "2026-03-01T12:00:00Z"},
        **{"feature_names": [], "features_version": "f1", "configuration": {"policy": "p1"}, "heads": [], "parts": {}},
        "training": {"fingerprint": "abc", "n_decisions": 7},
        "metrics": {"stall": {"auc": 0.8, "brier": None}, "policy": None},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))

    (version,) = client.get("/v1/models").json()["models"][0]["versions"]

    assert (version["fingerprint"], version["training"]["n_decisions"]) == ("abc", 7)
    assert version["metrics"] == {"stall": {"auc": 0.8}}
    assert (version["features_version"], version["configuration"]) == ("f1", {"policy": "p1"})


def test_damaged_files_cost_what_they_say_and_nothing_else(world: World, client: Client) -> None:
    """An alias file and a manifest that cannot be read; where they lie is nobody's business."""
    folder = world.home.bundle(NAME, 1)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("[1]")
    world.home.champion_file.write_text("{")

    answer = client.get("/v1/models")

    (model,) = answer.json()["models"]
    (version,) = model["versions"]
    assert (model["aliases"], version["is_damaged"], version["trained_at"]) == ({}, True, None)
    assert str(world.folder) not in answer.text


def test_models_of_journeys_that_are_gone_are_listed_too(world: World, client: Client) -> None:
    """Nothing decides by them."""
    shown = world.home.bundle("nba-former", 1)
    shown.mkdir(parents=True)

    models = client.get("/v1/models").json()["models"]

    assert [(one["name"], one["serving"]) for one in models] == [(NAME, None), ("nba-former", None)]


def test_a_promotion_is_the_command_with_the_callers_key(world: World, client: Client, headway: Headway) -> None:
    """By name of the key; every word of the body is one word of the command, whatever it looks like."""
    key = world.key("ops", "admin")
    body = {"version": 2, "reason": "--force it\nearns more"}

    answer = client.post(PROMOTE, body, key=key)

    assert answer.status_code == 200
    assert answer.json() == {"done": True, "verdict": VERDICT, "entry": DONE, "share": None}
    key_id = key.split("_")[1]
    assert headway.words == [
        *("promote", "--journey", JOURNEY, "--by", key_id),
        *("--reason=--force it\nearns more", "--json", "--version", "2"),
    ]
    assert key not in " ".join(headway.words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, []),
        ({"share": 0.1}, ["--share=0.1"]),
        ({"share": 0}, ["--share=0.0"]),
        ({"share": 1e-05, "version": 3}, ["--version", "3", "--share=1e-05"]),
        ({"dry_run": True}, ["--dry-run"]),
        ({"force": True, "reason": "r"}, ["--force"]),
    ],
)
def test_what_is_asked_for_becomes_options(
    client: Client, headway: Headway, body: dict[str, Any], words: list[str]
) -> None:
    """None that was not asked for."""
    assert client.post(PROMOTE, body).status_code == 200

    assert headway.words[7:] == words
    assert headway.words[3:5] == ["--by", "bootstrap"]


def test_a_refusal_of_the_gate_has_its_reasons(client: Client, headway: Headway) -> None:
    """A 409 with codes that a program can act on, and the evidence."""
    headway.says = Finished(
        is_done=False, document={"promoted": False, "verdict": REFUSED, "entry": {"step": "refused"}}
    )

    answer = client.post(PROMOTE, {})

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (409, "/docs/problems/promotion-refused")
    assert problem["detail"] == "the promotion gate refused this version: few_decisions"
    assert (problem["reasons"], problem["evidence"]) == ([REASON], REFUSED)


def test_a_dry_run_is_answered_whatever_the_gate_says(client: Client, headway: Headway) -> None:
    """It was asked, and nothing was refused."""
    headway.says = Finished(is_done=False, document={"promoted": False, "verdict": REFUSED, "entry": None})

    answer = client.post(PROMOTE, {"dry_run": True})

    assert answer.status_code == 200
    assert answer.json() == {"done": False, "verdict": REFUSED, "entry": None, "share": None}


def test_what_cannot_be_promoted_is_a_refusal_without_reasons(client: Client, headway: Headway) -> None:
    """The gate was not asked."""
    headway.says = CommandRefused("version 2 is the champion already, expected another one")

    problem = client.post(PROMOTE, {"version": 2}).json()

    assert (problem["status"], problem["reasons"]) == (409, [])
    assert problem["detail"].startswith("version 2 is the champion already")
    assert "evidence" not in problem


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownObject("no version 9"), 404),
        (InFlight("the promotion is still running"), 409),
        (TooManyRequests("another promotion is running"), 429),
    ],
)
@pytest.mark.parametrize("path", [PROMOTE, ROLLBACK])
def test_other_errors_of_the_command_are_told(
    client: Client, headway: Headway, path: str, error: Exception, status: int
) -> None:
    """As on every call; whoever has to wait is told for how long."""
    headway.says = error

    answer = client.post(path, {})

    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status != 404)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"version": 0}, "/version"),
        ({"share": 1.5}, "/share"),
        ({"share": "half"}, "/share"),
        ({"dry_run": 1}, "/dry_run"),
        ({"force": True, "reason": " "}, "/reason"),
        ({"force": True, "dry_run": True, "reason": "r"}, "/force"),
        ({"reason": "x" * 501}, "/reason"),
        ({"reason": "a\x00b"}, "/reason"),
        ({"alias": "champion"}, "/alias"),
    ],
)
def test_bad_fields_start_no_command(client: Client, headway: Headway, body: dict[str, Any], pointer: str) -> None:
    """Each is named."""
    answer = client.post(PROMOTE, body)

    assert (answer.status_code, [one["pointer"] for one in answer.json()["errors"]]) == (422, [pointer])
    assert headway.asked == []


@pytest.mark.parametrize("name", ["nba-other", JOURNEY, "nba-..%2F..%2Fetc", "--help"])
def test_a_model_that_is_none_is_not_found(client: Client, headway: Headway, name: str) -> None:
    """No command is run with a name that callers make up."""
    assert client.post(f"/v1/models/{name}/promote", {}).status_code == 404
    assert client.post(f"/v1/models/{name}/rollback", {}).status_code == 404
    assert headway.asked == []


def test_what_puts_things_back_waits_for_no_gate(client: Client, headway: Headway) -> None:
    """It is of another kind than what asks one, so that both may run."""
    for path, body in ((PROMOTE, {}), (PROMOTE, {"share": 0.5}), (PROMOTE, {"share": 0}), (ROLLBACK, {})):
        client.post(path, body)

    kinds = [one.kind for one in headway.asked]
    assert kinds == ["promotion", "promotion", "end of the rollout", "rollback"]


def test_a_rollback_is_the_command(client: Client, headway: Headway) -> None:
    """With why."""
    entry = {"step": "done", "kind": "rollback"}
    headway.says = Finished(is_done=True, document={"rolled_back": True, "entry": entry})

    answer = client.post(ROLLBACK, {"reason": "it is slow"})

    assert answer.json() == {"done": True, "verdict": None, "entry": entry, "share": None}
    words = ["rollback", "--journey", JOURNEY, "--by", "bootstrap", "--reason=it is slow", "--json"]
    assert headway.words == words


def test_a_rollback_says_which_champion_it_leaves(client: Client, headway: Headway) -> None:
    """So that asking again does not go back two; anything but a version is told."""
    headway.says = Finished(is_done=True, document={"rolled_back": True, "entry": {}})

    client.post(ROLLBACK, {"version": 4})
    refused = client.post(ROLLBACK, {"version": 0})

    assert headway.words[-2:] == ["--version", "4"]
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/version")


def test_nothing_to_go_back_to_is_a_refusal(client: Client, headway: Headway) -> None:
    """As the command says it."""
    headway.says = CommandRefused("the promotion log names no champion before this one")

    assert client.post(ROLLBACK, {}).json()["type"] == "/docs/problems/promotion-refused"


@pytest.mark.parametrize("role", ["caller", "agent", "marketer", "analyst", "privacy"])
def test_only_admins_promote(world: World, client: Client, headway: Headway, role: str) -> None:
    """Analysts look."""
    key = world.key("crm", role)

    assert client.post(PROMOTE, {}, key=key).status_code == 403
    assert client.post(ROLLBACK, {}, key=key).status_code == 403
    assert client.get("/v1/models", key=key).status_code == (200 if role == "analyst" else 403)
    assert headway.asked == []


def test_what_was_promoted_decides_before_the_answer_leaves(tmp_path: Path) -> None:
    """Alias, challenger and policy are taken up; a caller that asks next is told so."""
    home = Home(tmp_path)
    registry = _registry(home, tmp_path / "made")
    registry.set_alias(NAME, CHAMPION, 1, at=NOW)

    def rolled_out(command: Command) -> Finished:
        shares = Shares(before=0.0, after=0.1)
        Promoter(LocalRegistry(home.bundles)).give_share(
            NAME, 2, shares, put=lambda share: write_share(home, {}, share), at=NOW, by="k"
        )
        share = {"before": 0.0, "after": 0.1, "policy_version": "abc"}
        return Finished(is_done=True, document={"verdict": VERDICT, "entry": {"kind": "share"}, "share": share})

    with World(tmp_path, command=rolled_out).client() as client:
        answer = client.post(PROMOTE, {"version": 2, "share": 0.1}).json()
        after = client.get("/v1/models").json()
        policy = client.get("/v1/policies").json()["document"]

    assert answer["share"] == {"before": 0.0, "after": 0.1, "policy_version": "abc"}
    assert (after["share"], after["models"][0]["challenging"]) == (0.1, f"{NAME}@challenger/2")
    assert policy["experiment"]["challenger"] == 0.1


def test_a_policy_of_the_deployment_gets_no_share_over_http(tmp_path: Path, headway: Headway) -> None:
    """The folder is somebody else's; promoting writes none of it, and a dry run nothing at all."""
    world = World(tmp_path, command=headway, env={"HEADWAY_CONFIG": str(tmp_path / "theirs")})

    with world.client() as client:
        refused = client.post(PROMOTE, {"share": 0.1})
        statuses = [client.post(PROMOTE, body).status_code for body in ({}, {"share": 0.1, "dry_run": True})]

    assert (refused.status_code, refused.json()["type"]) == (409, "/docs/problems/configuration-fixed")
    assert (statuses, len(headway.asked)) == ([200, 200], 2)
