"""The contact policy: consent, objection, caps and quiet hours, each with its own rule id."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from features.events import parse_timestamp
from models.actions import Catalogue
from models.contact_policy import (
    caps_of,
    contact_standing,
    contacts_under,
    failing_consent,
    failing_history,
    failing_moment,
    fatigue_factor,
    is_quiet,
    longest_period,
)
from models.policy import Consent, ContactPolicy, Fatigue, QuietHours, Suppression
from models.records import CapLimit, Contact, CustomerRecords
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
        # A kind of event that the taxonomy declares may bring a state that no release knows.
        ("web", {"marketing": "blocked"}, ("contact.objection",)),
        ("web", {"all": "OBJECTED"}, ("contact.objection",)),
        ("phone", {"phone": "blocked"}, ("contact.objection",)),
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


@pytest.mark.parametrize(
    ("cap", "counted", "others"),
    [
        ({"issue": "grow"}, ("sell", "insure"), ("nudge", "help", "gone")),
        ({"issue": "grow", "group": "insurance"}, ("insure",), ("sell", "nudge", "help", "gone")),
        ({"group": "care"}, ("help",), ("sell", "insure", "nudge", "gone")),
        ({"action": "sell"}, ("sell",), ("insure", "nudge", "help", "gone")),
        ({"action": "gone"}, ("gone",), ("sell", "insure", "nudge", "help")),
        ({}, ("sell", "insure", "nudge", "help", "gone"), ()),
    ],
)
def test_caps_are_about_issues_groups_and_actions(
    cap: dict[str, str], counted: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """Only contacts with the actions that a cap names count; what has left the catalogue has no issue."""
    policy = ContactPolicy.model_validate({"caps": [{"id": "cap", "contacts": 1, "period": "7d"} | cap]})
    (found,) = caps_of(policy, Catalogue(version=1, actions=(action("nudge"), *OTHERS)))

    by_action = {one: contacts_under(found.at(START_AT), [contact(action_id=one)]) for one in counted + others}

    assert by_action == dict.fromkeys(counted, 1) | dict.fromkeys(others, 0)


@pytest.mark.parametrize("channel", [None, "phone", "email"])
@pytest.mark.parametrize("action_ids", [None, frozenset({"nudge"}), frozenset({"sell", "nudge"}), frozenset[str]()])
def test_a_cap_counts_what_falls_under_it(channel: str | None, action_ids: frozenset[str] | None) -> None:
    """From its moment on, over its channel, with its actions, and nothing that was given back."""
    cap = CapLimit("cap", 1, START_AT, channel, action_ids)
    contacts = [
        contact(at=START_AT + shift, status=status, channel=over, action_id=with_action)
        for shift in (-1, 0, 1)
        for status in ("confirmed", "lease", "released")
        for over in ("phone", "email")
        for with_action in ("nudge", "sell")
    ]

    counted = [
        one
        for one in contacts
        if one.at >= cap.since
        and one.status in ("confirmed", "lease")
        and (channel is None or one.channel == channel)
        and (action_ids is None or one.action_id in action_ids)
    ]
    assert contacts_under(cap, contacts) == len(counted)


IGNORED_TWICE = {"after": "ignored", "times": 2, "within": "30d", "ignored_after": "7d", "hold": "60d"}


def _held(suppression: dict[str, Any], *contacts: Contact, at: int = START_AT, **changes: Any) -> bool:
    """Whether contacts of days before hold an action on the phone back."""
    one = Suppression.model_validate({"id": "hold"} | suppression)
    catalogue = Catalogue(version=1, actions=(asked := action("nudge", **changes), *OTHERS))
    policy = ContactPolicy(suppressions=(one,))
    standing = contact_standing(policy, (), catalogue, contacts, at=at)
    return failing_history(asked, "phone", policy.suppressions, (), standing) == ("hold",)


def _days_ago(days: float, **changes: Any) -> Contact:
    return contact(at=START_AT - int(days * DAY_US), **changes)


@pytest.mark.parametrize(
    ("contacts", "is_held"),
    [
        ((_days_ago(40), _days_ago(10)), True),
        ((_days_ago(41), _days_ago(10)), False),
        ((_days_ago(10),), False),
        ((_days_ago(20), _days_ago(7)), True),
        ((_days_ago(20), _days_ago(6)), False),
        ((_days_ago(80), _days_ago(66.9)), True),
        ((_days_ago(80), _days_ago(67)), False),
        ((_days_ago(20, response="positive"), _days_ago(10)), False),
        ((_days_ago(20, response="neutral"), _days_ago(10)), False),
        ((_days_ago(20, status="lease"), _days_ago(10)), False),
        ((_days_ago(20, action_id="sell"), _days_ago(10)), False),
        ((_days_ago(100), _days_ago(90), _days_ago(40), _days_ago(30)), True),
    ],
)
def test_who_ignored_it_twice_is_left_alone(contacts: tuple[Contact, ...], is_held: bool) -> None:
    """Two contacts in 30 days that nothing came back for within a week hold the action back for 60 days."""
    assert _held(IGNORED_TWICE, *contacts) is is_held


@pytest.mark.parametrize(
    ("suppression", "one", "is_held"),
    [
        ({"after": "negative", "hold": "90d"}, _days_ago(89, response="negative"), True),
        ({"after": "negative", "hold": "90d"}, _days_ago(90, response="negative"), False),
        ({"after": "negative", "hold": "90d"}, _days_ago(1, response="positive"), False),
        ({"after": "positive", "hold": "90d"}, _days_ago(1, response="positive"), True),
        ({"after": "positive", "hold": "90d"}, _days_ago(1, response="neutral"), False),
        ({"after": "positive", "hold": "90d"}, _days_ago(1, response="positive", action_id="help"), False),
        (
            {"after": "positive", "hold": "9d", "scope": "group"},
            _days_ago(1, response="positive", action_id="help"),
            False,
        ),
        (
            {"after": "positive", "hold": "9d", "scope": "issue"},
            _days_ago(1, response="positive", action_id="help"),
            True,
        ),
        (
            {"after": "positive", "hold": "9d", "scope": "issue"},
            _days_ago(1, response="positive", action_id="sell"),
            False,
        ),
        (
            {"after": "positive", "hold": "9d", "scope": "issue"},
            _days_ago(1, response="positive", action_id="gone"),
            False,
        ),
        (
            {"after": "positive", "hold": "9d", "scope": "all"},
            _days_ago(1, response="positive", action_id="gone"),
            True,
        ),
        (
            {"after": "negative", "hold": "9d", "scope": "channel"},
            _days_ago(1, response="negative", channel="web"),
            False,
        ),
        (
            {"after": "negative", "hold": "9d", "scope": "channel"},
            _days_ago(1, response="negative", action_id="sell"),
            True,
        ),
        (
            {"after": "negative", "hold": "9d", "scope": "all", "channels": ["web"]},
            _days_ago(1, response="negative", channel="web"),
            True,
        ),
        ({"after": "negative", "hold": "9d", "channels": ["web"]}, _days_ago(1, response="negative"), False),
        ({"after": "negative", "hold": "9d", "issues": ["grow"]}, _days_ago(1, response="negative"), False),
        (
            {"after": "negative", "hold": "9d", "scope": "all", "issues": ["grow"]},
            _days_ago(1, response="negative", action_id="sell"),
            True,
        ),
    ],
)
def test_what_came_back_holds_what_shares_its_scope(suppression: dict[str, Any], one: Contact, is_held: bool) -> None:
    """By channel, issue, group, action or everything; filters say which contacts count, not what is held."""
    assert _held(suppression, one) is is_held


def test_a_clock_that_was_set_back_lets_nothing_go() -> None:
    """The answer is here already, whatever the clock says of when the contact was; silence is none yet."""
    rejected, silent = _days_ago(-1, response="negative"), _days_ago(-1)

    assert _held({"after": "negative", "hold": "90d"}, rejected)
    assert not _held({"after": "ignored", "ignored_after": "0d", "hold": "90d"}, silent)


@pytest.mark.parametrize("changes", [{"transactional": True}, {"mandatory": True}])
def test_what_has_to_be_said_is_not_suppressed(changes: dict[str, Any]) -> None:
    """Service messages and mandatory ones go out, however often they were ignored; caps still hold for them."""
    ignored = (_days_ago(20), _days_ago(10))

    assert not _held(IGNORED_TWICE, *ignored, **changes)
    assert _failing(CustomerRecords(contacts=ignored), **changes) == ("cap.all",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"after": "ignored", "hold": "1d"}, "ignored_after belongs to"),
        ({"after": "negative", "ignored_after": "1d", "hold": "1d"}, "ignored_after belongs to"),
        ({"after": "negative", "times": 2, "hold": "1d"}, "within is needed where 2"),
    ],
)
def test_a_suppression_says_what_it_counts(fields: dict[str, Any], said: str) -> None:
    """What is missing, or means nothing, is refused when the file is read."""
    with pytest.raises(ValidationError, match=said):
        Suppression.model_validate({"id": "hold"} | fields)


def test_the_contacts_of_the_whole_look_back_are_read() -> None:
    """The longest of caps, suppressions and fatigue: an ignored contact counts for within + ignored_after + hold."""

    def longest(**changes: Any) -> int:
        return longest_period(ContactPolicy.model_validate(changes)) // DAY_US

    assert longest() == 0
    assert longest(caps=[{"id": "a", "contacts": 1, "period": "7d"}]) == 7
    assert longest(suppressions=[{"id": "hold"} | IGNORED_TWICE]) == 97
    assert longest(suppressions=[{"id": "hold", "after": "positive", "hold": "9d"}]) == 9
    assert longest(fatigue={"period": "14d", "growth": 1}) == 14


def test_fatigue_grows_with_the_contacts_of_its_period() -> None:
    """Contacts and live leases count, older and released ones do not; without fatigue nothing grows."""
    fatigue = Fatigue.model_validate({"period": "14d", "growth": 0.5})
    contacts = [_days_ago(14), _days_ago(1, status="lease"), _days_ago(15), _days_ago(1, status="released")]

    assert fatigue_factor(fatigue, contacts, at=START_AT) == 2.0
    assert fatigue_factor(fatigue, [], at=START_AT) == 1.0
    assert fatigue_factor(None, contacts, at=START_AT) == 1.0


def test_a_whole_day_can_be_quiet() -> None:
    """No calls on the customer's own Sunday, at any hour; other channels keep to the hours alone."""
    quiet = QuietHours.model_validate(
        {"start": "21:00", "end": "08:00", "channels": ["sms"], "days": {"phone": ["sunday"]}}
    )
    sunday_in_tokyo = parse_timestamp("2026-02-28T15:00:00Z")  # Saturday, 16:00 in Amsterdam

    assert is_quiet(quiet, "phone", sunday_in_tokyo, "Asia/Tokyo")
    assert not is_quiet(quiet, "phone", sunday_in_tokyo, "Europe/Amsterdam")
    assert not is_quiet(quiet, "phone", sunday_in_tokyo + DAY_US, "Asia/Tokyo")
    assert is_quiet(quiet, "sms", sunday_in_tokyo, "Asia/Tokyo")
    assert not is_quiet(quiet, "sms", sunday_in_tokyo + 10 * 3_600_000_000, "Asia/Tokyo")


def test_reaching_out_needs_an_outbound_channel() -> None:
    """A channel that cannot reach out serves only customers who are here."""
    assert _failing(CustomerRecords(), channel_is_outbound=False) == ("contact.channel_not_outbound",)
    assert _failing(CustomerRecords(), channel_is_outbound=False, outbound=False) == ()
