"""The identity graph by example: anonymous then known, shared devices, ends, withdrawals, chains and circles."""

from __future__ import annotations

from features.events import dump_timestamp
from features.identity import EARLIEST, LATEST, Claim, Identities, Person, Span, claim_of, unlinked
from tests.histories import MINUTE_US, START_AT, event

LATER = START_AT + 60 * MINUTE_US


def claim(
    alias: str,
    customer_id: str,
    *,
    at: int = START_AT,
    until: int | None = None,
    since: int | None = None,
    link: bool = True,
) -> Claim:
    """A link, or with ``link=False`` an unlink; each claim is of its own event."""
    facts: dict[str, str | float | bool] = {"alias": alias}
    if since is not None:
        facts["valid_from"] = dump_timestamp(since)
    if until is not None:
        facts["valid_until"] = dump_timestamp(until)
    kind = "identity_linked" if link else "identity_unlinked"
    made = claim_of(
        event(f"{kind}-{alias}-{customer_id}-{at}", customer_id=customer_id, kind=kind, at=at, facts=facts), at
    )
    assert made is not None
    return made


def graph(*claims: Claim) -> Identities:
    """The graph that claims make."""
    return Identities(frozenset(claims))


def test_nobody_is_linked_at_first() -> None:
    """Without claims an id is its own person, with all of its time."""
    assert graph().person("c1") == unlinked("c1") == Person("c1", (Span("c1", EARLIEST, LATEST),))
    assert unlinked("c1").is_unlinked


def test_an_event_that_claims_nothing_makes_no_claim() -> None:
    """Only the two identity kinds do."""
    assert claim_of(event("e"), 1) is None


def test_the_anonymous_past_belongs_to_the_person() -> None:
    """The first link of an alias holds from the beginning of time."""
    person = graph(claim("cookie", "c1")).person("c1")

    assert person.linked_ids == ("cookie",)
    assert person.spans == (Span("c1"), Span("cookie"))
    assert graph(claim("cookie", "c1")).person("cookie").spans == ()


def test_a_link_may_say_since_when() -> None:
    """What an alias did before stays its own."""
    person = graph(claim("cookie", "c1", since=LATER)).person("c1")

    assert person.spans == (Span("c1"), Span("cookie", LATER, LATEST))


def test_on_a_shared_device_the_most_recent_login_wins() -> None:
    """A link to somebody else ends the earlier one at its own moment."""
    shared = graph(claim("tablet", "c1"), claim("tablet", "c2", at=LATER))

    assert shared.person("c1").spans == (Span("c1"), Span("tablet", EARLIEST, LATER))
    assert shared.person("c2").spans == (Span("c2"), Span("tablet", LATER, LATEST))


def test_a_withdrawn_link_is_as_if_it_had_never_been() -> None:
    """The alias is its own again, or whose it was before."""
    wrong = claim("tablet", "c2", at=LATER)
    withdrawn = claim("tablet", "c2", at=LATER + 1, link=False)

    assert graph(claim("tablet", "c1"), wrong, withdrawn).owner("tablet", at=LATEST - 1) == "c1"
    assert graph(wrong, withdrawn).owner("tablet", at=LATER) == "tablet"
    assert graph(wrong, withdrawn).known_before(LATER + 1).owner("tablet", at=LATER) == "c2"


def test_a_link_that_ended_keeps_what_was_before() -> None:
    """An unlink with a moment leaves the past to the person and gives the rest back."""
    ended = graph(claim("phone", "c1"), claim("phone", "c1", at=LATER + 5, until=LATER, link=False))

    assert ended.owners("phone") == [(EARLIEST, "c1"), (LATER, "phone")]


def test_links_are_followed() -> None:
    """An alias of somebody who is merged into another is the other's."""
    merged = graph(claim("cookie", "c1"), claim("c1", "c2", at=LATER))

    assert merged.owner("cookie", at=START_AT) == "c2"
    assert merged.person("c2").linked_ids == ("c1", "cookie")


def test_a_circle_is_one_person() -> None:
    """Links that lead in a circle, as a withdrawal can leave them, make one person under the smallest id."""
    circle = graph(claim("b", "c"), claim("c", "b", at=LATER))

    assert [circle.owner(one, at=START_AT) for one in ("b", "c")] == ["b", "b"]
    assert graph(claim("b", "c")).makes_circle(claim("c", "b", at=LATER))
    assert not graph(claim("b", "c")).makes_circle(claim("d", "b", at=LATER))


def test_what_is_known_already_changes_nothing() -> None:
    """The same link again, or the withdrawal of one that never was, says nothing new."""
    known = graph(claim("cookie", "c1"))

    assert not known.is_changed_by(claim("cookie", "c1", at=LATER))
    assert not known.is_changed_by(claim("cookie", "c2", at=LATER, link=False))
    assert known.is_changed_by(claim("cookie", "c2", at=LATER))


def test_the_last_claim_that_bears_on_somebody_is_known_by_its_position() -> None:
    """Also where it took something away; claims about others do not count."""
    shared = graph(claim("tablet", "c1"), claim("tablet", "c2", at=LATER), claim("x", "y", at=LATER + 9))

    assert [shared.person(one).linked_at for one in ("c1", "c2", "tablet", "z")] == [LATER, LATER, LATER, 0]


def test_many_logins_on_one_device_make_few_spells() -> None:
    """A device that two people use in turn has one spell for each login, and the first."""
    logins = [claim("tablet", f"c{i % 2}", at=START_AT + i * MINUTE_US) for i in range(100)]

    spells = list(graph(*logins).spells())

    assert len(spells) == 101
    assert [spell.owner for spell in spells[:4]] == ["tablet", "c0", "c1", "c0"]
