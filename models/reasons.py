"""Reason codes of a ranked action: short, stable, and each one true by its own definition."""

from __future__ import annotations

from typing import Final

from features.journeys import ACTIVE
from models.arbitration import Choice, Factors, interval
from models.situation import Situation

MANDATORY: Final = "MANDATORY"
"""It goes before everything else, whatever it is worth."""

STALL_HIGH: Final = 0.5
"""From this stall propensity on, a stall is likelier than progress."""


def reason_codes(
    situation: Situation, factors: Factors, *, effect_source: str, channel: str | None, choice: Choice | None
) -> tuple[str, ...]:
    """Why an action stands where it stands.

    Args:
        situation: where the customer stands.
        factors: what the action's net value is made of.
        effect_source: where its uplift came from.
        channel: the treatment's channel.
        choice: how slot 1 was chosen, where this is the action in it; None for the others.
    """
    codes = []
    if choice is not None and choice.how in ("explored", "random"):
        codes.append("EXPLORED")
    if choice is not None and choice.how == "mandatory":
        codes.append(MANDATORY)
    if situation.stall_propensity >= STALL_HIGH:
        codes.append("STALL_HIGH")
    if situation.stall_state is not None:
        codes.append(f"STALLED_{situation.stall_state}")
    if situation.state not in (None, ACTIVE):
        codes.append(f"STATE_{situation.state}")
    low, high = interval(factors.uplift, factors.sigma)
    if low > 0:
        codes.append("UPLIFT_CLEAR")
    elif high < 0:
        codes.append("UPLIFT_NEGATIVE")
    codes.append({"model": "UPLIFT_OWN", "mean": "UPLIFT_AVERAGE", "prior": "UPLIFT_BELIEVED"}[effect_source])
    if channel is not None and situation.attributes.get("preferred_channel") == channel:
        codes.append(f"PREFERS_{channel.upper()}")
    return tuple(codes)
