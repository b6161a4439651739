"""The contact policy: consent, objection, caps and quiet hours, each with its own rule id."""

from __future__ import annotations

from typing import Any

import pytest

from features.events import parse_timestamp
from models.contact_policy import caps_of, contact_standing, failing_consent, failing_history, failing_moment, is_quiet
from models.actions import Catalogue
from models.policy import Consent, ContactPolicy, QuietHours
from models.records import CustomerRecords
from tests.decisions import DAY_US, action, contact
from tests.histories import START_AT

CONSENT = Consent(opt_in=("sms",), opt_out=("phone",))
OTHERS = (
    action("sell", issue="grow"),
    action("insure", issue="grow", group="insurance"),
    action("help", group="care"),
)
NIGHT = QuietHours(start="21:00", end="08:00", channels=("phone",))


@pytest.mark.parametrize(
    ("channel", "consents", "failing"),
    [
        ("sms", {}, ("contact.consent.sms",)),
        ("sms", {"sms": "granted"}, ()),
        ("sms", {"sms": "withdrawn"}, ("contact.consent.sms",)),
        ("phone", {}, ()),
        ("phone", {"phone": "withdrawn"}, ("contact.consent.phone",)),
        ("phone", {"marketing": "objected"}, ("contact.objection",)),
        ("web", {"all": "objected"}, ("contact.objection",)),
        ("web", {"marketing": "withdrawn"}, ("contact.objection",)),
        ("web", {"all": "withdrawn"}, ("contact.objection",)),
        ("web", {"marketing": "granted"}, ()),
        ("phone", {"phone": "objected"}, ("contact.objection",)),
        ("web", {}, ()),
    ],
)
def test_consent(channel: str, consents: dict[str, str], failing: tuple[str, ...]) -> None:
    """Opt-in needs a grant, opt-out is open until withdrawn, and an objection closes everything."""
    assert failing_consent(channel, CONSENT, consents) == failing


@pytest.mark.parametrize(
    ("moment", "zone", "quiet"),
    [
        ("2026-03-01T20:00:00Z", "Europe/Amsterdam", True),
        ("2026-03-01T19:59:59Z", "Europe/Amsterdam", False),
        ("2026-03-01T07:00:00Z", "Europe/Amsterdam", False),
        ("2026-03-01T06:59:59Z", "Europe/Amsterdam", True),
        # The clock goes forward on 29 March: 08:00 local is an hour earlier in UTC.
        ("2026-03-29T06:00:00Z", "Europe/Amsterdam", False),
        ("2026-03-29T05:59:59Z", "Europe/Amsterdam", True),
        ("2026-03-01T20:00:00Z", "America/New_York", False),
    ],
)
def test_quiet_hours_are_local_and_cross_midnight(moment: str, zone: str, quiet: bool) -> None:
    """The start is quiet and the end is not, on the customer's own clock, daylight saving included."""
    assert is_quiet(NIGHT, "phone", parse_timestamp(moment), zone) is quiet


def test_quiet_hours_are_for_their_channels() -> None:
    """A channel that is not named is never quiet."""
    assert not is_quiet(NIGHT, "email", parse_timestamp("2026-03-01T23:00:00Z"), "Europe/Amsterdam")


def _failing(
    records: CustomerRecords,
    *,
    channel: str = "phone",
    transactional: bool = False,
    outbound: bool = True,
    channel_is_outbound: bool = True,
    **changes: Any,
) -> tuple[str, ...]:
    """Every contact rule that stands against an action over a channel; the action is in the issue ``onboard``."""
    limits = {
        "caps": [
            {"id": "cap.phone", "contacts": 1, "period": "7d", "channel": "phone"},
            {"id": "cap.all", "contacts": 2, "period": "30d"},
        ]
    }
    policy = ContactPolicy.model_validate(limits | changes.pop("limits", {}))
    asked = action("nudge", transactional=transactional, **changes)
    catalogue = Catalogue(version=1, actions=(asked, *OTHERS))
    caps = caps_of(policy, catalogue)
    return (
        *failing_moment(
            channel,
            transactional=transactional,
            outbound=outbound,
            channel_is_outbound=channel_is_outbound,
            policy=policy,
            records=records,
            at=START_AT,
            time_zone="Europe/Amsterdam",
        ),
        *failing_history(
            asked,
            channel,
            policy.suppressions,
            [cap for cap in caps if cap.at(START_AT).covers(channel, asked.id)],
            contact_standing(policy, caps, catalogue, records.contacts, at=START_AT),
        ),
    )


def test_caps_count_contacts_and_leases_in_their_period_and_channel() -> None:
    """A contact of the last 7 days fills the phone's cap; two of any channel fill the general one."""
    sms = contact(channel="sms", status="lease", at=START_AT - 20 * DAY_US)
    recent = contact(at=START_AT - 7 * DAY_US)
    older = contact(at=START_AT - 7 * DAY_US - 1)

    assert _failing(CustomerRecords(contacts=(recent,))) == ("cap.phone",)
    assert _failing(CustomerRecords(contacts=(older,))) == ()
    assert _failing(CustomerRecords(contacts=(sms, older))) == ("cap.all",)
    assert _failing(CustomerRecords(contacts=(sms, recent)), channel="sms") == ("cap.all",)


def test_a_released_lease_counts_nothing() -> None:
    """What was released is free again."""
    assert _failing(CustomerRecords(contacts=(contact(status="released"),))) == ()


def test_a_service_message_needs_no_consent_but_keeps_to_caps() -> None:
    """Transactional messages pass consent and objection, never the caps."""
    objected = CustomerRecords(contacts=(contact(),), consents={"all": "objected"})

    assert _failing(objected, transactional=True) == ("cap.phone",)
    assert _failing(objected) == ("contact.objection", "cap.phone")


def test_reaching_out_needs_an_outbound_channel() -> None:
    """A channel that cannot reach out serves only customers who are here."""
    assert _failing(CustomerRecords(), channel_is_outbound=False) == ("contact.channel_not_outbound",)
    assert _failing(CustomerRecords(), channel_is_outbound=False, outbound=False) == ()
