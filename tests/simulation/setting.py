"""What simulated installations start from: a small catalogue in which everything binds, policies, and three bundles."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from features.home import Home
from models.configuration import (
    FILES,
    Configuration,
    built_in_configuration,
    configuration_in,
    load_configuration,
)
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from tests.doors import NOW, World
from tests.lived import BAD, GOOD, believing_bundle
from tests.recorded import NAME

HOUR: Final = 3_600
DAY: Final = 24 * HOUR
OUTBOUND: Final = ("email", "sms", "push", "call")
OPT_IN: Final = ("email", "sms", "push")
OPT_OUT: Final = ("call",)
QUIET: Final = {"start": "21:00", "end": "08:00", "channels": ["sms", "push", "call"], "days": {"call": ["sunday"]}}
QUEUES: Final = ("onboarding_desk", "digital_support")
PERSONS: Final = ("p-1", "p-2", "p-3")
VERSIONS: Final = 3
"""Registered bundles."""

Document = dict[str, Any]


def _action(action_id: str, channels: str, issue: str, uplift: float, **more: Any) -> Document:
    return {
        "id": action_id,
        "title": action_id,
        "kind": "nudge",
        "issue": issue,
        "group": "cards",
        "journey": "credit_card_application",
        "outcome": "progress_7d",
        "prior_uplift": uplift,
        "prior_sigma": 0.05,
        "treatments": [
            {"id": f"{one}_{action_id}", "channel": one, "contact_cost": 3.25 if one == "call" else 0.25}
            for one in channels.split()
        ],
        **more,
    }


ACTIONS: Final = (
    _action("nudge_documents", "sms email push", "onboard", 0.3),
    _action("callback_help", "call", "service", 0.4, assigned_to="onboarding_desk"),
    _action("remind_next_step", "email sms web", "onboard", 0.2),
    _action("tell_status", "email web", "service", 0.1, transactional=True),
    _action("offer_protection", "push email", "grow", 0.15),
    _action("case_fix", "case", "service", 0.35, assigned_to="digital_support"),
)
"""All that may be done; no rule stands against any, so that consent, caps, capacity and quiet hours do."""


def policy(variant: int) -> Document:
    """One of the policies that a simulated installation may have; they differ in whatever may change while it runs."""
    tight = variant % 2 == 0
    limits = [
        {"id": "limit.sms", "units": 2 if tight else 5, "period": "1d", "channel": "sms"},
        {"id": "limit.desk", "units": 3 if tight else 8, "period": "7d", "queue": "onboarding_desk"},
        {"id": "limit.mail", "units": 4, "period": "6h", "channel": "email"},
    ]
    suppression = {"id": "hold.said_no", "after": "negative", "scope": "action", "hold": "20d"}
    return {
        "version": 1,
        "contact_policy": {
            "consent": {"opt_in": list(OPT_IN), "opt_out": list(OPT_OUT)},
            "caps": [
                {"id": "cap.week", "contacts": 3 if tight else 6, "period": "7d"},
                {"id": "cap.sms_week", "contacts": 1 if tight else 2, "period": "7d", "channel": "sms"},
                {"id": "cap.call", "contacts": 1, "period": "14d", "channel": "call"},
                {"id": "cap.onboard", "contacts": 2, "period": "1d", "issue": "onboard"},
                {"id": "cap.case", "contacts": 1, "period": "30d", "action": "case_fix"},
            ],
            "quiet_hours": QUIET,
            "suppressions": [suppression] if variant != 3 else [],
        },
        "capacity": {
            "limits": limits if variant != 2 else limits[:2],
            "budgets": [{"id": "budget.all", "amount": 9.0 if tight else 40.0, "period": "7d"}],
        },
        "experiment": {
            "id": "sim",
            "salt": "simulated",
            "no_contact_holdout": 0.1,
            "random_eligible": 0.25,
            "challenger": (0.0, 0.2, 0.4, 0.1)[variant],
        },
        "exploration": {"epsilon": 0.5, "temperature": 3.0},
        "channel_price": {"call": 0.5},
        "decision_ttl": "24h",
        "inbound_decision_ttl": "30m",
    }


POLICIES: Final = tuple(policy(variant) for variant in range(4))
REFUSED_POLICY: Final = POLICIES[0] | {"exploration": {"epsilon": 2.0, "temperature": 3.0}}


@cache
def configuration(variant: int) -> Configuration:
    """The configuration of a policy."""
    texts = {f"{part}.yaml": text for part, text in built_in_configuration().texts.items()}
    texts["actions.yaml"] = yaml.safe_dump({"version": 1, "actions": list(ACTIONS)})
    texts["policy.yaml"] = yaml.safe_dump(POLICIES[variant])
    return configuration_in(texts, origin="simulated")


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="headway-simulated-")


@cache
def _registry() -> LocalRegistry:
    """Bundles of which each believes in another action; they are never written again, so all homes share them."""
    root = Path(_kept().name)
    made = World(root, configuration=configuration(0))
    registry = LocalRegistry(root / "bundles")
    for version, best in zip(range(1, VERSIONS + 1), (BAD, GOOD, BAD), strict=True):
        registry.register(believing_bundle(made, root / f"made-{version}", best), NAME, {})
    return registry


def new_home(root: Path, variant: int) -> Home:
    """A home that holds the configuration of a policy, the bundles, a champion and a challenger."""
    home = Home(root)
    for folder in (home.config, home.state, home.bundles):
        folder.mkdir(parents=True, exist_ok=True)
    for part, text in configuration(variant).texts.items():
        (home.config / f"{part}.yaml").write_text(text, encoding="utf-8")
    (home.bundles / NAME).symlink_to(_registry().root / NAME, target_is_directory=True)
    for alias, version in ((CHAMPION, 1), (CHALLENGER, 2)):
        LocalRegistry(home.bundles).set_alias(NAME, alias, version, at=NOW)
    return home


def copied_home(left: Home, root: Path) -> Home:
    """What a process that was killed has left of its home: every byte that it gave to the system, and no lock."""
    shutil.copytree(left.root, root, symlinks=True, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    return replace(left, root=root)


def loaded_configuration(home: Home) -> Configuration:
    """What a service would load from a home; the same files are read once."""
    return _loaded(home.root, tuple((home.config / name).read_text(encoding="utf-8") for name in FILES))


_LOADED: Final[dict[tuple[str, ...], Configuration]] = {}


def _loaded(root: Path, texts: tuple[str, ...]) -> Configuration:
    if texts not in _LOADED:
        _LOADED[texts] = load_configuration(Home(root), {})
    return _LOADED[texts]
