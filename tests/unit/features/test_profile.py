"""The profile: the last writer by event order wins, and only what the taxonomy allows is known."""

from __future__ import annotations

from features.events import JourneyEvent
from features.profile import fold_profile
from features.store import ProfileRow
from tests.histories import START_AT, TAXONOMY, event


def _told(**facts: str | float | bool) -> JourneyEvent:
    return event("e1", kind="profile_updated", facts=facts)


def test_attributes_and_holdings_are_overwritten_one_by_one() -> None:
    """A later event changes what it names and leaves the rest."""
    first = event("e1", kind="profile_updated", facts={"age": 30.0, "member": True, "holding:card": True})
    later = event(
        "e2", kind="profile_updated", at=START_AT + 1, facts={"age": 31.0, "holding:card": False, "holding:loan": True}
    )

    profile = fold_profile(ProfileRow("c1"), [first, later], TAXONOMY)

    assert profile == ProfileRow(
        "c1", attributes={"age": 31.0, "member": True}, holdings=frozenset({"loan"}), updated_at=START_AT + 1
    )


def test_consents_are_kept_by_name() -> None:
    """Each consent has its own last state."""
    events = [
        event("e1", kind="consent_changed", facts={"consent": "sms", "state": "granted"}),
        event("e2", kind="consent_changed", facts={"consent": "email", "state": "granted"}, at=START_AT + 1),
        event("e3", kind="consent_changed", facts={"consent": "sms", "state": "objected"}, at=START_AT + 2),
    ]

    profile = fold_profile(ProfileRow("c1"), events, TAXONOMY)

    assert dict(profile.consents) == {"sms": "objected", "email": "granted"}


def test_values_that_the_taxonomy_does_not_allow_stay_unknown() -> None:
    """A dropped attribute and a category that is none are not known; what is allowed beside them is."""
    profile = fold_profile(ProfileRow("c1"), [_told(shoe_size=42.0, tier="platinum", age=30.0)], TAXONOMY)

    assert dict(profile.attributes) == {"age": 30.0}


def test_a_fact_of_a_consent_is_no_attribute() -> None:
    """The attribute ``state`` is not told by the ``state`` of a consent."""
    changed = event("e1", kind="consent_changed", facts={"consent": "sms", "state": "granted"})

    profile = fold_profile(ProfileRow("c1"), [changed], TAXONOMY)

    assert dict(profile.attributes) == {}


def test_other_events_leave_the_profile_alone() -> None:
    """An event that does not concern the profile does not even touch its time."""
    assert fold_profile(ProfileRow("c1"), [event("e1")], TAXONOMY) == ProfileRow("c1")
