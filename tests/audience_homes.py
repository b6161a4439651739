"""A home of the built-in journey, without a model, in which it is plain of everybody why they may get nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from features.database_location import DatabaseLocation
from features.event_store import open_event_log
from features.events import JourneyEvent, day_of
from features.home import Home
from models.audiences import AudienceRequest, Pins
from models.configuration import Configuration, built_in_configuration
from models.configuration_history import keep_configuration
from models.record_store import open_record_store
from models.records import ConsentChange, Contact, ContactResponse

NOW: Final = 1_772_366_400_000_000
"""2026-03-01T12:00:00Z, a Sunday at noon."""

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
JOURNEY: Final = "credit_card_application"
CUSTOMERS: Final = 120
REGIONS: Final = ("north", "east", "south", "west", "capital", "abroad")


def customer_id(number: int) -> str:
    """The canonical id of a customer."""
    return f"c-{number:04d}"


def alias(number: int) -> str:
    """Another id, of every tenth customer."""
    return f"web-{number:04d}"


def region(number: int) -> str:
    """Where a customer lives."""
    return REGIONS[number // 3 % len(REGIONS)]


def stage(number: int) -> str:
    """Where a customer is stuck, for ten days: a third each."""
    return ("applied", "verified", "activated")[number % 3]


def consents(number: int) -> bool:
    """Whether a customer has opted in to mail and messages."""
    return number % 4 != 0


def is_tired(number: int) -> bool:
    """Whether a customer was contacted as often this week as caps allow."""
    return number % 7 == 0


def holds_protection(number: int) -> bool:
    """Whether a customer has what ``offer_protection`` offers."""
    return number % 5 == 0


def has_alias(number: int) -> bool:
    """Whether a customer is known under another id too."""
    return number % 10 == 0


def audience_home(
    folder: Path, *, customers: int = CUSTOMERS, now: int = NOW, database: DatabaseLocation | None = None
) -> Home:
    """The home as of a moment, with its configuration kept as a service keeps it."""
    home = Home(folder, database).create()
    keep_configuration(home, built_in_configuration())
    events = [one for number in range(customers) for one in _events(number, now)]
    with closing(open_event_log(home)) as log:
        log.append(events)
    with closing(open_record_store(home)) as records:
        records.apply_consents(
            [
                ConsentChange(customer_id(number), channel, "granted", now - 20 * DAY_US)
                for number in range(customers)
                if consents(number)
                for channel in ("email", "sms", "push")
            ]
        )
        records.confirm_contacts(
            [
                contact(number, at=now - day * DAY_US)
                for number in range(customers)
                if is_tired(number)
                for day in (2, 3, 4)
            ]
        )
    return home


def contact(number: int, *, at: int, decision_id: str = "") -> Contact:
    """A mail that reminded a customer."""
    return Contact(decision_id, customer_id(number), "remind_next_step", "email", at, "confirmed", at + DAY_US)


def _events(number: int, now: int) -> Iterator[JourneyEvent]:
    entered = now - 20 * DAY_US
    yield _event(number, 0, "application_submitted", entered, {"product": "classic"}, channel="web")
    about: dict[str, Any] = {
        "region": region(number),
        **dict.fromkeys(("arrears_flag", "hardship_flag", "vulnerable_flag", "open_complaint"), False),
        "holding:card_protection": holds_protection(number),
        "tenure_years": float(number),
    }
    yield _event(number, 1, "profile_updated", entered, about)
    if consents(number):
        for place, channel in enumerate(("email", "sms", "push"), start=2):
            yield _event(number, place, "consent_changed", entered, {"consent": channel, "state": "granted"})
    if stage(number) == "verified":
        yield _event(number, 5, "identity_verified", now - 10 * DAY_US, {}, channel="back_office")
    if stage(number) == "activated":
        yield _event(number, 5, "card_activated", now - 10 * DAY_US, {}, channel="web")
    if has_alias(number):
        yield _event(number, 6, "identity_linked", now - 9 * DAY_US, {"alias": alias(number)})


def _event(
    number: int, place: int, kind: str, at: int, facts: dict[str, Any], *, channel: str | None = None
) -> JourneyEvent:
    return JourneyEvent(
        source="test",
        event_id=f"{number}-{place}",
        customer_id=customer_id(number),
        kind=kind,
        occurred_at=at,
        arrived_at=at,
        sequence=place,
        day=day_of(at),
        channel=channel,
        facts=facts,
    )


def later(home: Home, customers: int = CUSTOMERS) -> None:
    """What goes on after an audience was taken on: everybody moves on, withdraws consent, and is contacted.

    One event had arrived before, and only came to be written after: who is who has another answer since.
    """
    at = NOW + HOUR_US
    with closing(open_event_log(home)) as log:
        log.append(
            [
                event
                for number in range(customers)
                for event in (
                    *([_late_link()] if number == 1 else []),
                    _event(number, 8, "consent_changed", at, {"consent": "email", "state": "withdrawn"}),
                    _event(number, 9, "card_used", at, {"amount": 1.0}, channel="web"),
                )
            ]
        )
    with closing(open_record_store(home)) as records:
        records.confirm_contacts([contact(number, at=NOW - 1) for number in range(customers)])
        records.note_responses(
            [ContactResponse("", customer_id(number), "negative", NOW - 1) for number in range(customers)]
        )


def _late_link() -> JourneyEvent:
    return _event(1, 7, "identity_linked", NOW - 2, {"alias": customer_id(4)})


def pins(home: Home, *, at: int = NOW) -> Pins:
    """As of now, without a model."""
    with closing(open_event_log(home, readonly=True)) as log:
        head = log.head()
    return Pins(at=at, log_position=head, versions=dict(configuration().versions), bundle=None)


def configuration() -> Configuration:
    """The built-in one."""
    return built_in_configuration()


def asked(**changes: Any) -> AudienceRequest:
    """An audience of the built-in journey: everybody, unless told otherwise."""
    return AudienceRequest(journey_id=JOURNEY, **changes)
