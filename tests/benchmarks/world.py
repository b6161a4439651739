"""The installation that the benchmarks measure: built-in journey, a catalogue without filters, a bundle trained on it.

The built-in catalogue drops most actions long before they are scored, since each belongs to one stage. Here the stages
and rules of the actions are left out and contacts are not capped, so that all 32 treatments of a decision are scored
and ranked; policy rules, consents, caps and quiet hours are still evaluated, and pass.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from features.events import dump_timestamp
from features.home import HOME_VARIABLE, Home, use_numba_cache

HOUR_US = 3_600_000_000
KEY = "hw_benchmark_0123456789"
SEED = 7
FILTERS = ("stages", "stall_states", "min_stall_propensity", "rules")

_STEPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("application_submitted", "web", {"product": "classic"}),
    ("page_viewed", "web", {"page": "fees"}),
    ("app_opened", "app", {}),
    ("page_viewed", "web", {"page": "status"}),
    ("application_edited", "web", {"section": "income"}),
    ("page_viewed", "web", {"page": "faq"}),
    ("app_opened", "app", {}),
    ("call_received", "call", {}),
    ("page_viewed", "web", {"page": "status"}),
    ("page_viewed", "web", {"page": "documents"}),
)
_PROFILE = {
    "age_band": "35_44",
    "income_band": "35k_55k",
    "region": "north",
    "tenure_years": 3.0,
    "device": "mobile",
    "app_user": True,
    "open_complaint": False,
    "arrears_flag": False,
    "hardship_flag": False,
    "vulnerable_flag": False,
    "time_zone": "Europe/Amsterdam",
}


class Worlds:
    """Homes for the rows; what is costly is made once, when it is first asked for.

    Args:
        folder: everything is made in it.
        quick: small sizes.
        postgres: also measure over a database of the PostgreSQL server that the tests use.
    """

    def __init__(self, folder: Path, *, quick: bool, postgres: bool = False) -> None:
        self.folder = folder
        self.quick = quick
        self.postgres = postgres
        self.simulated_customers = 600 if quick else 3_000
        self.customers = 20 if quick else 400

    @cached_property
    def trained(self) -> Home:
        """A home with simulated history and a champion trained on it; copy it before writing."""
        from models.commands import import_files
        from training.commands import train
        from training.simulate import IMPORTED
        from training.simulate_commands import simulate

        home = Home(self.folder / "trained").create()
        _write_configuration(home)
        simulation = self.folder / "simulation"
        with environment({HOME_VARIABLE: str(home.root)}):
            simulate(simulation, customers=self.simulated_customers, seed=SEED)
            import_files([simulation / name for name in IMPORTED], mapping="simulated")
            train()
        return home

    def copy(self, name: str) -> Home:
        """A copy of the trained home that a row may write to; compiled code is shared by all."""
        home = Home(self.folder / name)
        shutil.copytree(self.trained.root, home.root)
        use_numba_cache(self.trained)
        return home

    def customer_ids(self) -> list[str]:
        """The customers that decisions are asked for."""
        return [f"bench-{number:04d}" for number in range(self.customers)]

    def documents(self, now: int) -> list[dict[str, Any]]:
        """What happened to those customers until ``now``: an application under way, and a known profile."""
        return [document for customer_id in self.customer_ids() for document in _documents(customer_id, now)]


@contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """The process's environment with changes, put back afterwards."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def present() -> int:
    """Now, microseconds since the epoch."""
    return time.time_ns() // 1000


def _write_configuration(home: Home) -> None:
    defaults = files("features") / "defaults"
    actions = yaml.safe_load((defaults / "actions.yaml").read_text())
    actions["actions"] = [
        {key: value for key, value in action.items() if key not in FILTERS} for action in actions["actions"]
    ]
    policy = yaml.safe_load((defaults / "policy.yaml").read_text())
    contact = policy["contact_policy"]
    contact["consent"] = {"opt_out": ["email", "sms", "push", "call"]}
    contact["caps"] = [{**cap, "contacts": 1_000_000} for cap in contact["caps"]]
    contact["quiet_hours"] |= {"start": "00:00", "end": "00:00"}
    for name, document in (("actions", actions), ("policy", policy)):
        (home.config / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    for name in ("taxonomy", "journeys"):
        (home.config / f"{name}.yaml").write_text((defaults / f"{name}.yaml").read_text())


def _documents(customer_id: str, now: int) -> Iterator[dict[str, Any]]:
    moments = [now - (40 - 4 * step) * HOUR_US for step in range(len(_STEPS))]
    yield {
        "event_id": f"{customer_id}-profile",
        "customer_id": customer_id,
        "kind": "profile_updated",
        "occurred_at": dump_timestamp(moments[0]),
        "facts": _PROFILE,
    }
    for place, ((kind, channel, facts), at) in enumerate(zip(_STEPS, moments, strict=True)):
        yield {
            "event_id": f"{customer_id}-{place}",
            "customer_id": customer_id,
            "kind": kind,
            "occurred_at": dump_timestamp(at),
            "channel": channel,
            "facts": facts,
        }
