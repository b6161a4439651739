"""What `deploy/` says of the product is true: commands, settings, ports, paths and the steps of the image.

There is no container engine here. What needs one (that images are found and start) is tried by hand.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from features.cli import COMMAND_GROUP, application_of
from features.home import NO_TELEMETRY
from features.online_location import RedisLocation
from serving.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose.yaml"
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
VARIABLE = re.compile(r"\$\{(\w+)([^}]*)\}")
SECRET = re.compile(r"PASSWORD|KEY|SECRET")
UV_FLAGS = {"--locked", "--no-dev", "--no-install-project", "--extra"}
SERVICE_KEYS = {
    *("image", "build", "environment", "volumes", "init", "read_only", "tmpfs", "cap_drop", "security_opt", "user"),
    *("command", "healthcheck", "depends_on", "ports", "restart", "stop_grace_period"),
}
"""Keys of the Compose specification that are used; another one is a slip until it was looked up."""
Stage = list[tuple[str, str]]
Stages = list[Stage]
DURATION = re.compile(r"(\d+(ms|s|m|h))+")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


@pytest.fixture(scope="module")
def stages() -> Stages:
    """The instructions of each stage of the Containerfile, in order: the word, and what follows."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", CONTAINERFILE.read_text()))
    steps = [(word, rest) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]
    starts = [place for place, (word, _) in enumerate(steps) if word == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], len(steps)], strict=True)]


def ours(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The services that run Headway."""
    return {name: one for name, one in compose["services"].items() if one["image"].startswith("headway:")}


def filled(text: str) -> str:
    """A text of the compose file with its variables at their defaults, required ones at ``abc123``."""
    return VARIABLE.sub(lambda found: found[2].removeprefix(":-") if found[2].startswith(":-") else "abc123", text)


def only(stage: Stage, word: str) -> str:
    """What follows the one instruction of its kind."""
    (rest,) = [rest for each, rest in stage if each == word]
    return rest


def environment(stage: Stage) -> dict[str, str]:
    """The variables that a stage sets."""
    pairs = (pair.split("=", 1) for word, rest in stage if word == "ENV" for pair in shlex.split(rest))
    return {name: value for name, value in pairs}


def test_the_compose_file_says_what_compose_knows(compose: dict[str, Any]) -> None:
    """Keys, durations, and names of volumes and services that are declared."""
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes"}
    for name, service in compose["services"].items():
        assert set(service) - SERVICE_KEYS == set(), name
        check = service.get("healthcheck", {})
        times = [check[key] for key in ("interval", "timeout") if key in check]
        assert all(DURATION.fullmatch(each) for each in [*times, service.get("stop_grace_period", "1s")]), name
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            assert (COMPOSE.parent / source).is_file() if source.startswith("./") else source in compose["volumes"]
        for other, wanted in service.get("depends_on", {}).items():
            awaited = compose["services"][other]
            if wanted["condition"] == "service_healthy":
                assert awaited["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
            else:
                assert (wanted["condition"], awaited["restart"]) == ("service_completed_successfully", "no")


def test_no_secret_has_a_default(compose: dict[str, Any]) -> None:
    """A variable has a default or must be set; a password must be set, or is none."""
    used = VARIABLE.findall(COMPOSE.read_text())

    assert len(used) >= 8
    for name, rest in used:
        assert rest.startswith((":-", ":?")), name
        if SECRET.search(name) and rest.startswith(":-"):
            assert rest == ":-", name
    for service in compose["services"].values():
        secrets = {name: value for name, value in service["environment"].items() if SECRET.search(name)}
        assert all(VARIABLE.fullmatch(value) for value in secrets.values())


def test_the_readme_names_the_variables() -> None:
    """All of them, and no other."""
    text = (ROOT / "deploy" / "README.md").read_text()
    told = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`([A-Z_]+)`", line)}

    assert told == {name for name, _ in VARIABLE.findall(COMPOSE.read_text())}


def test_the_settings_are_known_and_valid(compose: dict[str, Any]) -> None:
    """Names that the service refuses would stop it; URLs must be ones that it takes."""
    known = {variable.name: variable for variable in VARIABLES}

    for service in ours(compose).values():
        for name, value in service["environment"].items():
            assert name in known
            if text := filled(value):
                known[name].parse(text)
        redis = RedisLocation.of(filled(service["environment"]["HEADWAY_ONLINE_STORE"]))
        assert redis.masked == "redis://***@features:6379/0"


def test_the_commands_exist(compose: dict[str, Any]) -> None:
    """Each names one of ours, down to the sub-command."""
    commands = {command.name: command for command in entry_points(group=COMMAND_GROUP)}

    for service in ours(compose).values():
        words = service["command"]
        tree = get_command(application_of(commands, asked=words))
        for word in words:
            tree = tree.commands[word]  # type: ignore[attr-defined]  # a group, or this fails


def test_the_service_listens_where_it_is_published(compose: dict[str, Any], stages: Stages) -> None:
    """On the default port, for this machine alone; nothing else is published."""
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}

    port = Settings().port
    assert {name: [filled(each) for each in ports] for name, ports in published.items()} == {
        "app": [f"127.0.0.1:3000:{port}"]
    }
    assert only(stages[-1], "EXPOSE") == str(port)


def test_the_database_is_made_for_the_user_who_is_named(compose: dict[str, Any]) -> None:
    """No superuser; the password is the one of the URL, and reaches the script."""
    script = (COMPOSE.parent / "database.sql").read_text()
    passed = compose["services"]["database"]["environment"]
    urls = {service["environment"]["HEADWAY_DATABASE"] for service in ours(compose).values()}

    assert {filled(url) for url in urls} == {"postgresql://headway:abc123@database:5432/headway"}
    assert [VARIABLE.findall(url)[0][0] for url in urls] == re.findall(r"(?m)^\\getenv password (\w+)$", script)
    assert "DATABASE_PASSWORD" in passed
    assert "CREATE ROLE headway LOGIN PASSWORD :'password';" in script
    assert "CREATE DATABASE headway OWNER headway;" in script


def test_the_redis_evicts_nothing(compose: dict[str, Any]) -> None:
    """As the doctor wants it."""
    assert "--maxmemory-policy noeviction" in compose["services"]["features"]["command"][-1]


def test_the_home_outlives_a_container(compose: dict[str, Any], stages: Stages) -> None:
    """It lies in the volume, where another one can take its place; nothing else is written beside /tmp."""
    home = Path(environment(stages[-1])["HEADWAY_HOME"])

    volume = only(stages[-1], "VOLUME")
    assert home.parent == Path(volume)
    assert "NUMBA_CACHE_DIR" not in environment(stages[-1])
    for service in ours(compose).values():
        assert service["volumes"] == [f"home:{volume}"]
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
    assert {environment(stages[-1])[name].split("/")[1] for name in ("HOME", "MPLCONFIGDIR")} == {"tmp"}


def test_images_are_pinned(compose: dict[str, Any], stages: Stages) -> None:
    """By a tag with a version, with the Python that the project asks for."""
    python = re.search(r"(?m)^ARG PYTHON=(\S+)$", CONTAINERFILE.read_text())
    assert python is not None
    images = [python[1], *(one["image"] for one in compose["services"].values() if one not in ours(compose).values())]

    assert all(re.search(r":\d+(\.\d+)*-[a-z-]+$", image) for image in images)
    assert {only(stage, "FROM").split()[0] for stage in stages} == {"${PYTHON}"}
    assert ":3.11-slim-" in python[1]


def test_the_image_takes_what_is_there(stages: Stages) -> None:
    """Every source of a COPY exists, and the builder is sent it."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [
        source
        for stage in stages
        for word, rest in stage
        if word == "COPY" and not rest.startswith("--from=")
        for source in rest.split()[:-1]
    ]

    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / source).exists() for source in sources)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(sources)
    assert not any(fnmatch(name, pattern) for name in ("data", ".env", ".git", "deploy") for pattern in allowed)


def test_the_environment_of_the_image_is_the_locked_one(stages: Stages) -> None:
    """With the extra for Redis and PostgreSQL, without development tools, and nothing from elsewhere."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    syncs = [shlex.split(rest)[2:] for word, rest in stages[0] if word == "RUN" and rest.startswith("uv sync")]

    assert len(syncs) == 2
    for words in syncs:
        named = [word for before, word in zip(["", *words], words, strict=False) if before == "--extra"]
        assert {word for word in words if word.startswith("--")} <= UV_FLAGS
        assert {"--locked", "--no-dev"} <= set(words)
        assert named == ["server"]
        assert set(named) <= set(extras)
    assert "--no-install-project" not in syncs[-1]


def test_the_image_runs_our_command_as_nobody_special(stages: Stages) -> None:
    """The console script, ended by the signal that it listens to, with libgomp and without telemetry."""
    last = stages[-1]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert json.loads(only(last, "ENTRYPOINT")) == [next(iter(scripts))]
    assert json.loads(only(last, "CMD")) == ["serve"]
    assert only(last, "STOPSIGNAL") == "SIGTERM"
    user = only(last, "USER").split(":")
    assert user == ["10001", "10001"]
    assert [word for word, _ in last].index("USER") > max(
        place for place, (word, _) in enumerate(last) if word == "RUN"
    )
    assert any("libgomp1" in rest for word, rest in last if word == "RUN")
    assert {name: environment(last).get(name) for name in NO_TELEMETRY} == NO_TELEMETRY
    assert environment(last)["PATH"].startswith("/opt/headway/.venv/bin:")


@pytest.fixture(params=[200, 503])
def answering(request: pytest.FixtureRequest) -> Iterator[tuple[int, int, list[str]]]:
    """A server that answers everything with one status: the status, its port, and the paths that were asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            asked.append(self.path)
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield request.param, server.server_port, asked
        server.shutdown()
        thread.join()


def test_the_health_check_asks_for_readiness(stages: Stages, answering: tuple[int, int, list[str]]) -> None:
    """It runs as it stands there; its path is a route of ours that asks for no key."""
    from serving.api.app import ROUTES

    status, port, asked = answering
    words = json.loads(only(stages[-1], "HEALTHCHECK").partition(" CMD ")[2])
    assert words[0] == "python"

    done = subprocess.run(
        [sys.executable, *words[1:]],
        env={"HEADWAY_PORT": str(port), "http_proxy": "http://127.0.0.1:1"},
        stderr=subprocess.DEVNULL,
        check=False,
    )

    assert (done.returncode == 0) == (status == 200)
    assert asked == ["/readyz"]
    (route,) = [one for one in ROUTES if asked[0] in one.paths]
    assert not route.guards


@pytest.mark.slow
def test_the_steps_of_the_image_make_an_environment_that_runs(stages: Stages, tmp_path: Path) -> None:
    """As a shell in an empty folder runs them, with what is copied there; only uv is there already."""
    for word, rest in stages[0]:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy2(ROOT / source, tmp_path / target)
        elif word == "RUN" and not rest.startswith("pip install"):
            clean = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
            subprocess.run(rest, shell=True, cwd=tmp_path, env=clean, check=True)  # noqa: S602  # our own file

    said = subprocess.run(
        [tmp_path / ".venv" / "bin" / "headway", "doctor", "--json"],
        env={"PATH": os.environ["PATH"], "HEADWAY_HOME": str(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["ok"] is True
    assert list((tmp_path / "serving").glob("__pycache__/settings.*.pyc")) != []
