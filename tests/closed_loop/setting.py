"""What a run of the loop is made of: how many customers and rounds, the policy of each round, and the world."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from features.events import parse_timestamp
from features.home import Home
from models.configuration import FILES, Configuration, built_in_configuration, read_configuration
from models.gate_steps import TOO_LITTLE_SEEN
from training.params import Params, load_params
from training.simulated_course import DAY_US
from training.simulated_world import EFFECTS, Law

ROOT: Final = Path(__file__).parents[2]
JOURNEY_ID: Final = "credit_card_application"
START: Final = parse_timestamp("2024-01-01T00:00:00Z")
"""The beginning of the first round: fixed, so that nothing depends on the clock."""

ROUND_DAYS: Final = 56
"""Four times the longest outcome window: three quarters of a round's decisions are over when it ends."""

SHARES: Final[Mapping[str, float]] = {"no_contact_holdout": 0.1, "random_eligible": 0.2, "challenger": 0.3}
"""Of the customers, from the second round on; the champion has the rest. More is left to chance than by the built-in
shares: a few thousand customers a round are little to learn from."""

MORE_EVIDENCE: Final = TOO_LITTLE_SEEN | {"not_better"}
"""Reasons of the gate that more decisions may do away with."""

DRIFT_ROUND: Final = 6
"""The round in which the effects change, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run of the loop.

    Attributes:
        rounds: of ``ROUND_DAYS`` each.
        customers: who apply in a round.
        drifts: whether the effects change in round ``DRIFT_ROUND``.
        told: whether somebody says so: training at the end of that round, on what came since its start from then on.
    """

    rounds: int = 10
    customers: int = 1_200
    drifts: bool = False
    told: bool = False

    @property
    def judged_times(self) -> int:
        """How often a challenger is judged before another takes its place, where all that it lacks is evidence.

        Evidence adds up over the rounds of one challenger. Where the world may change it also grows old.
        """
        return 1 if self.drifts else 4

    @property
    def end(self) -> int:
        """The end of simulated time, microseconds since the epoch."""
        return self.round_end(self.rounds - 1)

    def round_end(self, number: int) -> int:
        """The end of a round, counted from 0."""
        return START + (number + 1) * ROUND_DAYS * DAY_US

    def effects(self, number: int) -> Mapping[str, Law]:
        """What each action changes in a round, counted from 0."""
        return CHANGED_EFFECTS if self.drifts and number + 1 >= DRIFT_ROUND else EFFECTS


def _changed() -> dict[str, Law]:
    """Messages wear out, and calls and cases are welcome: who learned the old effects chooses the wrong ones."""
    worn = ("nudge_documents", "remind_next_step", "explain_offer", "nudge_activation", "nudge_first_use")
    welcome = ("callback_help", "call_activation", "case_fix_problem", "invite_chat")
    changed = dict(EFFECTS)
    for name in worn:
        changed[name] = replace(EFFECTS[name], base=EFFECTS[name].base - 0.9)
    for name in welcome:
        changed[name] = replace(EFFECTS[name], base=EFFECTS[name].base + 0.9)
    return changed


CHANGED_EFFECTS: Final[Mapping[str, Law]] = _changed()
"""The effects after the drift; the frozen ones stay what they are."""


def random_policy(home: Home) -> Configuration:
    """The built-in configuration with everybody in the random arm: what decides before anything was learned."""
    return _configured(home, {"no_contact_holdout": 0.0, "random_eligible": 1.0})


def learned_policy(home: Home) -> Configuration:
    """The built-in configuration with ``SHARES``: holdout, random slice, challenger, and the champion for the rest.

    A challenger who decides nothing is judged by the random slice alone: of 4,000 decisions some dozen tell of it.
    """
    return _configured(home, SHARES)


def _configured(home: Home, shares: Mapping[str, float]) -> Configuration:
    built_in = built_in_configuration()
    text = built_in.texts["policy"]
    if "challenger" in shares:
        text, found = re.subn(r"(?m)^(  random_eligible: .*)$", r"\g<1>\n  challenger: 0.0", text)
        assert found == 1, f"{found} lines of random_eligible in policy.yaml, expected one"
    for name, share in shares.items():
        text, found = re.subn(rf"(?m)^(  {name}:) .*$", rf"\g<1> {share}", text)
        assert found == 1, f"{found} lines of {name} in policy.yaml, expected one"
    home.config.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        told = text if name == "policy.yaml" else built_in.texts[name.removesuffix(".yaml")]
        (home.config / name).write_text(told, encoding="utf-8")
    return read_configuration(home.config, origin=str(home.config))


def loop_params() -> Params:
    """The shipped parameters, smaller for speed: moments, trees of the stall models, learners of effects."""
    params = load_params()
    stall = params.stall.model_copy(update={"boosting": params.stall.boosting.model_copy(update={"rounds": 60})})
    return params.model_copy(
        update={
            "moments": params.moments.model_copy(update={"max_rows": 10_000}),
            "stall": stall,
            "uplift": params.uplift.model_copy(update={"effect_leaves": (4,), "learners": ("x", "dr")}),
            "evaluation": params.evaluation.model_copy(update={"resamples": 20}),
        }
    )
