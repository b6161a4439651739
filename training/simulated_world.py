"""The laws of the simulated world: who is who, how people get on by themselves, and what each action changes.

All effect sizes stand here and nowhere else, and a golden file freezes them: whoever could tune them could tune the
exam. Everything is on the logit scale, so that no sum of effects leaves the probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from training.simulated_draws import Floats

WORLD_VERSION: Final = 1

Manner = Literal["message", "call", "page", "case", "incentive"]
MANNERS: Final[tuple[Manner, ...]] = ("message", "call", "page", "case", "incentive")
MANNER_OF_CHANNEL: Final[Mapping[str, Manner]] = {
    "sms": "message",
    "email": "message",
    "push": "message",
    "call": "call",
    "web": "page",
    "case": "case",
}

STAGES: Final = ("applied", "verified", "offer_accepted", "activated")
STATES: Final = ("ACTIVE", "IDLE", "LOOPING", "NEEDS_HELP", "WAITING_ON_US")
INDICATORS: Final = (
    *("young", "senior", "low_income", "price_sensitive", "mobile", "app_user", "long_tenure", "existing"),
    *("idle", "looping", "needs_help", "waiting", "active", "contacted", "detractor", "later_round", "fresh"),
)
"""What of a customer the laws look at; each is 0 or 1 and can be read from features and attributes."""

PREFERRED_CHANNEL: Final = 0.25
"""Added to the effect of a treatment over the channel that the customer prefers."""

FAST_SHARE: Final = 0.8
"""Share of those who progress within 14 days of a decision that do so within 7."""

LONG_DAYS: Final = 14
SHORT_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class CustomerType:
    """A kind of person. It is never recorded: only what people do tells.

    Attributes:
        share: logit weight among the types.
        share_by: what makes the type likelier, by indicator.
        by_themselves: shift of the logit of progress without action.
        susceptibility: what an effect is multiplied by, by manner of the treatment; negative means it backfires.
    """

    share: float
    share_by: Mapping[str, float]
    by_themselves: float
    susceptibility: Mapping[Manner, float]


TYPES: Final[Mapping[str, CustomerType]] = {
    "sure_thing": CustomerType(
        share=-0.1,
        share_by={"existing": 0.9, "long_tenure": 0.6, "price_sensitive": -1.1},
        by_themselves=1.9,
        susceptibility={"message": 0.05, "call": 0.1, "page": 0.1, "case": 0.2, "incentive": 0.15},
    ),
    "persuadable": CustomerType(
        share=0.0,
        share_by={"young": 0.9, "price_sensitive": 1.0, "mobile": 0.5, "senior": -0.3},
        by_themselves=-0.3,
        susceptibility={"message": 1.5, "call": 1.4, "page": 1.3, "case": 1.3, "incentive": 1.5},
    ),
    "lost_cause": CustomerType(
        share=-0.4,
        share_by={"low_income": 0.7, "existing": -0.9},
        by_themselves=-2.1,
        susceptibility={"message": 0.1, "call": 0.15, "page": 0.1, "case": 0.3, "incentive": 0.2},
    ),
    "sleeping_dog": CustomerType(
        share=-0.3,
        share_by={"senior": 1.5, "long_tenure": 0.8, "young": -1.0},
        by_themselves=0.3,
        susceptibility={"message": -2.0, "call": -1.6, "page": -0.8, "case": 0.2, "incentive": -0.2},
    ),
}
TYPE_NAMES: Final = tuple(TYPES)


@dataclass(frozen=True, slots=True)
class Law:
    """A logit: a base, and what is added where an indicator holds."""

    base: float
    by: Mapping[str, float] = field(default_factory=dict)

    def logit(self, indicators: Mapping[str, Floats], n: int) -> Floats:
        """The logit of each row, ``(n,)``."""
        total = np.full(n, self.base)
        for name, weight in self.by.items():
            total += weight * indicators[name]
        return total


_TRAITS: Final = {
    "looping": -0.45,
    "needs_help": -0.35,
    "waiting": -0.6,
    "detractor": -0.25,
    "later_round": -0.4,
    "active": 0.5,
    "fresh": 0.7,
}

UNPROMPTED: Final[Mapping[str, Law]] = {
    "applied": Law(0.35, {"existing": 0.5}),
    "verified": Law(0.15, {"price_sensitive": -0.4, "existing": 0.2}),
    "offer_accepted": Law(0.55, {"app_user": 0.4, "senior": -0.3}),
    "activated": Law(0.45, {"young": 0.3}),
}
"""Logit of progress in a stage before anybody would call it a stall."""

PROGRESS: Final[Mapping[str, Law]] = {
    "applied": Law(-0.35, {**_TRAITS, "existing": 0.2}),
    "verified": Law(-0.65, {**_TRAITS, "price_sensitive": -0.3}),
    "offer_accepted": Law(-0.25, {**_TRAITS, "app_user": 0.2, "senior": -0.2}),
    "activated": Law(-0.35, {**_TRAITS, "young": 0.2}),
}
"""Logit of progress within 14 days of a decision, without action."""

PROTECTION: Final = Law(-4.6, {"senior": 0.3, "existing": 0.3, "low_income": -0.3})
"""Logit of taking card protection within 14 days of a decision, without action; only in the last stage."""

FEEDBACK: Final = Law(-3.4, {"needs_help": 0.5, "looping": 0.3})
"""Logit of giving feedback within 7 days of a decision, without action."""

EFFECTS: Final[Mapping[str, Law]] = {
    "nudge_documents": Law(
        0.55, {"young": 0.45, "mobile": 0.3, "senior": -0.5, "active": 0.25, "looping": -0.4, "contacted": -0.35}
    ),
    "explain_waiting": Law(0.2, {"senior": 0.35, "detractor": 0.2}),
    "case_verification": Law(1.1, {"long_tenure": 0.2, "later_round": 0.3}),
    "remind_next_step": Law(
        0.3, {"idle": 0.4, "young": 0.15, "looping": -0.5, "needs_help": -0.6, "contacted": -0.35, "waiting": -0.7}
    ),
    "callback_help": Law(0.5, {"needs_help": 1.3, "senior": 0.5, "young": -0.5, "looping": 0.2, "waiting": -0.3}),
    "case_fix_problem": Law(0.45, {"looping": 0.9, "detractor": 0.2}),
    "invite_chat": Law(0.25, {"young": 0.35, "mobile": -0.2, "needs_help": 0.35, "looping": 0.3}),
    "explain_offer": Law(0.3, {"price_sensitive": 0.5, "senior": 0.3, "contacted": -0.2}),
    "offer_fee_waiver": Law(0.5, {"price_sensitive": 0.8, "low_income": 0.4, "long_tenure": -0.3}),
    "offer_intro_rate": Law(0.4, {"active": 0.6, "young": 0.4, "price_sensitive": 0.2}),
    "nudge_activation": Law(0.5, {"mobile": 0.4, "young": 0.2, "senior": -0.5, "looping": -0.6, "contacted": -0.3}),
    "call_activation": Law(0.45, {"senior": 0.7, "looping": 0.7, "young": -0.4}),
    "nudge_first_use": Law(0.4, {"young": 0.4, "app_user": 0.35, "senior": -0.4, "contacted": -0.3}),
    "offer_cashback": Law(0.6, {"price_sensitive": 0.7, "low_income": 0.3, "long_tenure": -0.2}),
    "offer_protection": Law(0.9, {"senior": 0.7, "long_tenure": 0.4, "young": -0.5, "price_sensitive": -0.3}),
    "survey_experience": Law(1.7, {"young": -0.3, "needs_help": 0.3, "contacted": -0.4}),
}
"""What each action adds to the logit of its outcome, before the customer type's susceptibility."""

UNTYPED_ACTIONS: Final = ("offer_protection", "survey_experience")
"""Actions that work alike on all types: their outcomes are not progress, which the types are about."""


def probability(logit: Floats) -> Floats:
    """The probability of a logit, elementwise."""
    result: Floats = 1.0 / (1.0 + np.exp(-logit))
    return result


def type_shares(indicators: Mapping[str, Floats], n: int) -> Floats:
    """Probability of each customer type, ``(n, n_types)``; rows sum to 1."""
    logits = np.stack([Law(kind.share, kind.share_by).logit(indicators, n) for kind in TYPES.values()], axis=1)
    weights = np.exp(logits)
    shares: Floats = weights / weights.sum(axis=1, keepdims=True)
    return shares


def effect_table() -> str:
    """The effect sizes as Markdown tables, for the documentation."""
    lines = ["| action | base | changed by |", "|---|---|---|"]
    lines += [f"| `{name}` | {law.base:+.2f} | {_listed(law.by)} |" for name, law in EFFECTS.items()]
    lines += ["", f"| type | by themselves | {' | '.join(MANNERS)} |", "|---|---|" + "---|" * len(MANNERS)]
    for name, kind in TYPES.items():
        factors = " | ".join(f"x {kind.susceptibility[manner]:+.2f}" for manner in MANNERS)
        lines.append(f"| {name.replace('_', ' ')} | {kind.by_themselves:+.2f} | {factors} |")
    return "\n".join(lines)


def _listed(by: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:+.2f}" for name, weight in by.items())
