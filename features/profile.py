"""What is known of a customer apart from the journey: attributes, consents and holdings, folded from events.

The last writer by event order wins, so the events must come in the order of ``JourneyEvent.order``; an event older than
the newest one folded means folding all of them anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from zoneinfo import ZoneInfo

from features.events import HOLDING_PREFIX, JourneyEvent, fact_problem
from features.store import ProfileRow
from features.taxonomy import Taxonomy
from features.telling import consent_of


def fold_profile(profile: ProfileRow, events: Iterable[JourneyEvent], taxonomy: Taxonomy) -> ProfileRow:
    """The profile after further events of the same customer, each not older than what was folded.

    Events that do not concern the profile change nothing. Values that the taxonomy no longer allows (an attribute that
    was dropped, or is of another type now) are left out: unknown under today's vocabulary.
    """
    attributes, consents, holdings = dict(profile.attributes), dict(profile.consents), set(profile.holdings)
    updated_at = profile.updated_at
    for event in events:
        role = taxonomy.all_kinds[event.kind].role
        if role == "consent":
            if (changed := consent_of(event, taxonomy)) is not None:
                consents[changed[0]] = changed[1]
        elif role == "profile":
            for name, value in event.facts.items():
                if name.startswith(HOLDING_PREFIX):
                    (holdings.add if value else holdings.discard)(name.removeprefix(HOLDING_PREFIX))
                elif (attribute := taxonomy.attributes.get(name)) and fact_problem(name, value, attribute) is None:
                    attributes[name] = float(value) if attribute.dtype == "number" else value
        else:
            continue
        updated_at = max(updated_at, event.occurred_at)
    return replace(
        profile, attributes=attributes, consents=consents, holdings=frozenset(holdings), updated_at=updated_at
    )


def time_zone_of(profile: ProfileRow, default: str) -> str:
    """The customer's time zone, from the attribute ``time_zone``; the installation's where it is unknown or no zone."""
    zone = profile.attributes.get("time_zone")
    return zone if isinstance(zone, str) and _is_zone(zone) else default


@lru_cache(maxsize=1024)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):
        return False
    return True
