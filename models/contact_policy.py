"""May we contact this customer over this channel now: consent, caps and quiet hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import time
from typing import Final
from zoneinfo import ZoneInfo

from features.events import moment_of
from models.policy import Consent, ContactPolicy, QuietHours
from models.records import CapLimit, Contact, CustomerRecords

MARKETING: Final = "marketing"
ALL: Final = "all"


def failing_contact_rules(
    *,
    channel: str,
    transactional: bool,
    outbound: bool,
    channel_is_outbound: bool,
    policy: ContactPolicy,
    records: CustomerRecords,
    at: int,
    time_zone: str,
) -> tuple[str, ...]:
    """Ids of every contact rule that stands against contacting a customer over a channel at a moment.

    Args:
        channel: the channel of the treatment.
        transactional: a service message: consent and objection do not apply to it, caps and quiet hours do.
        outbound: we reach out; inbound, the customer is here already and quiet hours do not matter.
        channel_is_outbound: the channel can reach out at all.
        policy: caps, consent and quiet hours.
        records: the customer's contacts and consents.
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
    failing.extend(
        cap.id
        for cap in policy.caps
        if cap.channel in (None, channel)
        and _n_contacts(records.contacts, since=at - cap.period, channel=cap.channel) >= cap.contacts
    )
    return tuple(failing)


def failing_consent(channel: str, consent: Consent, consents: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of what consent or objection stands against a channel. Only ``granted`` opens an opt-in channel.

    Who withdraws the consent to ``marketing``, or to ``all``, objects to it: no channel is left open by that.
    """
    failing = []
    closed_to_all = {consents.get(ALL), consents.get(MARKETING)} & {"objected", "withdrawn"}
    if closed_to_all or consents.get(channel) == "objected":
        failing.append("contact.objection")
    given = consents.get(channel)
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
    if channel not in quiet.channels:
        return False
    local = moment_of(at).astimezone(ZoneInfo(time_zone)).time()
    start, end = time.fromisoformat(quiet.start), time.fromisoformat(quiet.end)
    if start <= end:
        return start <= local < end
    return local >= start or local < end


def cap_limits(policy: ContactPolicy, channel: str, at: int) -> tuple[CapLimit, ...]:
    """The caps that a contact over a channel at a moment falls under."""
    return tuple(
        CapLimit(rule_id=cap.id, limit=cap.contacts, since=at - cap.period, channel=cap.channel)
        for cap in policy.caps
        if cap.channel in (None, channel)
    )


def contacts_under(cap: CapLimit, contacts: Sequence[Contact]) -> int:
    """How many of these contacts and live leases count under a cap."""
    return _n_contacts(contacts, since=cap.since, channel=cap.channel)


def _n_contacts(contacts: Sequence[Contact], *, since: int, channel: str | None) -> int:
    return sum(
        contact.at >= since and channel in (None, contact.channel) and contact.status != "released"
        for contact in contacts
    )


def longest_period(policy: ContactPolicy) -> int:
    """How far back the caps look, in microseconds."""
    return max((cap.period for cap in policy.caps), default=0)
