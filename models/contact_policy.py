"""May we contact this customer with this action over this channel now: consent, caps, suppressions and quiet hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from functools import lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from features.events import moment_of
from models.actions import Action, Catalogue
from models.policy import WEEKDAYS, Consent, ContactCap, ContactPolicy, Fatigue, QuietHours, Suppression
from models.records import NO_RESPONSE, CapLimit, Contact, CustomerRecords

MARKETING: Final = "marketing"
ALL: Final = "all"
_OPEN: Final = (None, "granted")

Held: TypeAlias = tuple[str, ...]
"""What a suppression holds: a channel, an issue, an issue with a group, an action, or nothing in particular."""


@dataclass(frozen=True, slots=True)
class Cap:
    """A contact cap with the actions that it is about.

    Attributes:
        action_ids: of the catalogue, by the cap's issue, group and action; None where it names none of them.
    """

    id: str
    contacts: int
    period: int
    channel: str | None
    action_ids: frozenset[str] | None

    def at(self, moment: int) -> CapLimit:
        """The cap as it applies at a moment."""
        return CapLimit(self.id, self.contacts, moment - self.period, self.channel, self.action_ids)


def caps_of(policy: ContactPolicy, catalogue: Catalogue) -> tuple[Cap, ...]:
    """The caps of a policy over a catalogue.

    A contact with an action that has left the catalogue counts under the caps that name no issue and no group.
    """
    return tuple(Cap(cap.id, cap.contacts, cap.period, cap.channel, _capped(cap, catalogue)) for cap in policy.caps)


def _capped(cap: ContactCap, catalogue: Catalogue) -> frozenset[str] | None:
    if cap.issue is None and cap.group is None:
        return None if cap.action is None else frozenset([cap.action])
    return frozenset(
        action.id
        for action in catalogue.actions
        if cap.issue in (None, action.issue) and cap.group in (None, action.group) and cap.action in (None, action.id)
    )


@dataclass(frozen=True, slots=True)
class ContactStanding:
    """What a customer's contacts leave of the contact policy at a moment; the same for all candidates.

    Attributes:
        full_caps: ids of the caps that have no room for one more contact.
        held: what each suppression holds, by its id; of those that hold anything.
    """

    full_caps: frozenset[str]
    held: Mapping[str, frozenset[Held]]

    @property
    def is_free(self) -> bool:
        """Nothing that was done before stands against anything."""
        return not (self.full_caps or self.held)


def contact_standing(
    policy: ContactPolicy, caps: Sequence[Cap], catalogue: Catalogue, contacts: Sequence[Contact], *, at: int
) -> ContactStanding:
    """What a customer's contacts leave of the contact policy.

    Args:
        policy: suppressions.
        caps: ``caps_of`` the policy.
        catalogue: whose actions the contacts were with.
        contacts: the customer's, live leases included.
        at: the moment, microseconds since the epoch.
    """
    if not contacts:
        return ContactStanding(frozenset([cap.id for cap in caps if cap.contacts == 0]), {})
    held = {one.id: held_by(one, contacts, catalogue, at=at) for one in policy.suppressions}
    return ContactStanding(
        frozenset(cap.id for cap in caps if contacts_under(cap.at(at), contacts) >= cap.contacts),
        {suppression_id: found for suppression_id, found in held.items() if found},
    )


def failing_moment(
    channel: str,
    *,
    transactional: bool,
    outbound: bool,
    channel_is_outbound: bool,
    policy: ContactPolicy,
    records: CustomerRecords,
    at: int,
    time_zone: str,
) -> tuple[str, ...]:
    """Ids of what stands against reaching a customer over a channel at a moment, whatever was done before.

    Args:
        channel: the channel of the treatment.
        transactional: a service message: consent and objection do not apply to it.
        outbound: we reach out; inbound, the customer is here already and quiet hours do not matter.
        channel_is_outbound: the channel can reach out at all.
        policy: consent and quiet hours.
        records: the customer's consents.
        at: the moment, microseconds since the epoch.
        time_zone: the customer's IANA time zone.
    """
    failing = []
    if outbound and not channel_is_outbound:
        failing.append("contact.channel_not_outbound")
    if not transactional:
        failing.extend(failing_consent(channel, policy.consent, records.consents))
    if outbound and policy.quiet_hours is not None and is_quiet(policy.quiet_hours, channel, at, time_zone):
        failing.append("contact.quiet_hours")
    return tuple(failing)


def failing_history(
    action: Action, channel: str, suppressions: Iterable[Suppression], caps: Iterable[Cap], standing: ContactStanding
) -> tuple[str, ...]:
    """Ids of the caps and suppressions that stand against a candidate after what was done before.

    Args:
        action: suppressions do not apply to a transactional or mandatory one.
        channel: the channel of the treatment.
        suppressions: of the policy.
        caps: those that contacts with the action over the channel fall under.
        standing: what the customer's contacts leave.
    """
    failing = [cap.id for cap in caps if cap.id in standing.full_caps] if standing.full_caps else []
    if standing.held and not (action.transactional or action.mandatory):
        held = [one for one in suppressions if one.id in standing.held]
        failing += [one.id for one in held if _shared(one, channel, action.id, action) in standing.held[one.id]]
    return tuple(failing)


def failing_consent(channel: str, consent: Consent, consents: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of what consent or objection stands against a channel. Only ``granted`` opens an opt-in channel.

    Who withdraws the consent to ``marketing``, or to ``all``, objects to it: no channel is left open by that. A state
    that this release does not know is an objection.
    """
    failing = []
    given = consents.get(channel)
    open_to_all = consents.get(ALL) in _OPEN and consents.get(MARKETING) in _OPEN
    if not open_to_all or not (given in _OPEN or given == "withdrawn"):
        failing.append("contact.objection")
    not_opted_in = channel in consent.opt_in and given != "granted"
    opted_out = channel in consent.opt_out and given == "withdrawn"
    if not_opted_in or opted_out:
        failing.append(f"contact.consent.{channel}")
    return tuple(failing)


def is_quiet(quiet: QuietHours, channel: str, at: int, time_zone: str) -> bool:
    """Whether it is quiet on a channel at the customer's local time; the start is quiet, the end is not.

    >>> quiet = QuietHours(start="21:00", end="08:00", channels=("sms",))
    >>> is_quiet(quiet, "sms", 0, "Europe/Amsterdam"), is_quiet(quiet, "sms", 0, "Asia/Tokyo")
    (True, False)
    """
    days = quiet.days.get(channel, ())
    if channel not in quiet.channels and not days:
        return False
    local = _local(at, time_zone)
    if days and WEEKDAYS[local.weekday()] in days:
        return True
    if channel not in quiet.channels:
        return False
    start, end = _time_of_day(quiet.start), _time_of_day(quiet.end)
    if start <= end:
        return start <= local.time() < end
    return local.time() >= start or local.time() < end


@lru_cache(maxsize=64)  # all channels of a decision ask for the same
def _local(at: int, time_zone: str) -> datetime:
    return moment_of(at).astimezone(ZoneInfo(time_zone))


@lru_cache(maxsize=64)
def _time_of_day(text: str) -> time:
    return time.fromisoformat(text)


def cap_limits(caps: Iterable[Cap], channel: str | None, action_id: str, at: int) -> tuple[CapLimit, ...]:
    """The caps that a contact with an action over a channel at a moment falls under."""
    limits = (cap.at(at) for cap in caps)
    return tuple(limit for limit in limits if limit.covers(channel, action_id))


def contacts_under(cap: CapLimit, contacts: Iterable[Contact]) -> int:
    """How many of these contacts and live leases count under a cap."""
    since, covers = cap.since, cap.covers
    counted = [one for one in contacts if one.at >= since and one.status != "released"]
    if cap.channel is None and cap.action_ids is None:
        return len(counted)
    return sum([covers(one.channel, one.action_id) for one in counted])


def held_by(suppression: Suppression, contacts: Iterable[Contact], catalogue: Catalogue, *, at: int) -> frozenset[Held]:
    """What a suppression holds at a moment.

    It holds what ``times`` contacts within ``within`` share, from the last of them on for ``hold``. Leases are no
    contacts yet. A contact with an action that has left the catalogue is about no issue and of no group.
    """
    moments: dict[Held, list[int]] = {}
    for contact in contacts:
        moment = _moment(suppression, contact, at)
        if moment is None or not _counts(suppression, contact, catalogue):
            continue
        action = catalogue.by_id.get(contact.action_id)
        shared = _shared(suppression, contact.channel, contact.action_id, action)
        if shared is not None:
            moments.setdefault(shared, []).append(moment)
    return frozenset(shared for shared, found in moments.items() if _holds(suppression, sorted(found), at))


def _moment(suppression: Suppression, contact: Contact, at: int) -> int | None:
    """When a contact began to count for a suppression; None where it does not count at a moment.

    What was answered counts, also where the clock was set back behind the contact since.
    """
    if contact.status != "confirmed":
        return None
    if suppression.ignored_after is None:
        return contact.at if contact.response == suppression.after else None
    ignored_at = contact.at + suppression.ignored_after
    return ignored_at if contact.response == NO_RESPONSE and ignored_at <= at else None


def _counts(suppression: Suppression, contact: Contact, catalogue: Catalogue) -> bool:
    if suppression.channels and contact.channel not in suppression.channels:
        return False
    action = catalogue.by_id.get(contact.action_id)
    return not suppression.issues or (action is not None and action.issue in suppression.issues)


def _shared(suppression: Suppression, channel: str, action_id: str, action: Action | None) -> Held | None:
    """What contacts and candidates are compared by; None for an action that nobody knows the issue of."""
    if suppression.scope == "all":
        return ()
    if suppression.scope == "channel":
        return (channel,)
    if suppression.scope == "action":
        return (action_id,)
    if action is None:
        return None
    return (action.issue,) if suppression.scope == "issue" else (action.issue, action.group)


def _holds(suppression: Suppression, moments: Sequence[int], at: int) -> bool:
    """Whether so many of these moments lie within reach of each other that the last of them still holds."""
    within = suppression.within or 0
    return any(
        at < last + suppression.hold
        and (suppression.times == 1 or moments[place - suppression.times + 1] >= last - within)
        for place, last in enumerate(moments)
        if place >= suppression.times - 1
    )


def fatigue_factor(fatigue: Fatigue | None, contacts: Iterable[Contact], *, at: int) -> float:
    """``1 + growth n``, with the n contacts and live leases of the period; what a fatigue cost is multiplied by.

    >>> fatigue_factor(None, [], at=0)
    1.0
    """
    if fatigue is None:
        return 1.0
    n = sum(contact.at >= at - fatigue.period and contact.status != "released" for contact in contacts)
    return 1.0 + fatigue.growth * n


def longest_period(policy: ContactPolicy) -> int:
    """How far back caps, suppressions and fatigue look, in microseconds."""
    periods = [cap.period for cap in policy.caps] + [one.looks_back for one in policy.suppressions]
    return max([*periods, 0 if policy.fatigue is None else policy.fatigue.period])
