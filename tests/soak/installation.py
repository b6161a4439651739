"""An installation of its own for a soak: a home, a Redis, a PostgreSQL database and a service of some workers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from features.home import Home
from features.yaml_files import dump_yaml
from tests.benchmarks.process import KEY, Server, free_port
from tests.postgres_servers import postgres_database
from tests.redis_servers import redis_server

DEFAULTS = Path(__file__).parents[2] / "features" / "defaults"
CAP, CALLS, CAPACITY = 3, 1, 40
"""Contacts of a customer in a week, calls of a customer in a fortnight, calls of all customers in a week."""

_TREATMENTS = [
    {"id": "email_v1", "channel": "email", "contact_cost": 0.01, "fatigue_cost": 0.1},
    {"id": "call_v1", "channel": "call", "contact_cost": 0.5, "fatigue_cost": 0.1},
]


@dataclass(frozen=True, slots=True)
class Installation:
    """What runs.

    Attributes:
        env: the environment of its commands.
    """

    home: Home
    server: Server
    env: Mapping[str, str]


@contextmanager
def installation(folder: Path, *, workers: int) -> Iterator[Installation]:
    """A service that is ready; everything is taken away at the end, the home's folder excepted."""
    home = Home(folder / "home").create()
    _configure(home)
    with redis_server(folder) as redis, postgres_database() as database:
        port = free_port()
        env = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")} | {
            "HEADWAY_HOME": str(home.root),
            "HEADWAY_BOOTSTRAP_KEY": KEY,
            "HEADWAY_PORT": str(port),
            "HEADWAY_DATABASE": database.url,
            "HEADWAY_ONLINE_STORE": redis.location.url,
            "HEADWAY_WORKERS": str(workers),
            "HEADWAY_DEADLINE_MS": "30000",
            "HEADWAY_LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-c", "from features.cli import main; main()", "serve"]
        server = Server(command, port=port, env=env, log=folder / "serve.log")
        try:
            server.wait_for("/readyz")
            yield Installation(Home.from_environment(env), server, env)
        finally:
            server.stop()


def _configure(home: Home) -> None:
    """The built-in journey, with actions that anybody may be offered at any hour, and limits that are soon reached."""
    for name in ("taxonomy.yaml", "journeys.yaml"):
        shutil.copy(DEFAULTS / name, home.config / name)
    action = {
        "title": "Remind",
        "kind": "nudge",
        "issue": "service",
        "group": "documents",
        "journey": "credit_card_application",
        "outcome": "progress_7d",
        "prior_uplift": 0.3,
        "prior_sigma": 0.05,
    }
    actions = [
        {"id": f"remind_by_{treatment['channel']}", **action, "treatments": [treatment]} for treatment in _TREATMENTS
    ]
    (home.config / "actions.yaml").write_text(dump_yaml({"version": 1, "actions": actions}))
    policy = {
        "version": 1,
        "contact_policy": {
            "consent": {"opt_in": [], "opt_out": ["email", "call"]},
            "caps": [
                {"id": "cap.all_week", "contacts": CAP, "period": "7d"},
                {"id": "cap.call_fortnight", "contacts": CALLS, "period": "14d", "channel": "call"},
            ],
        },
        "capacity": {"limits": [{"id": "cap.calls_week", "units": CAPACITY, "period": "7d", "channel": "call"}]},
        "experiment": {"id": "soak", "salt": "soak", "no_contact_holdout": 0.05, "random_eligible": 0.9},
        "exploration": {"epsilon": 0.05, "temperature": 2.0},
        "decision_ttl": "30d",
    }
    (home.config / "policy.yaml").write_text(dump_yaml(policy))
