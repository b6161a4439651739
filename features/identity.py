"""The identity graph: who an id is, as of a time of events and as known at a moment. Pure; no store, no clock.

A *claim* is what an identity event says: an alias belongs to a customer, or does not. The graph is a function of the
set of claims known, never of the order they arrived in. Each alias has a timeline in event time, painted claim by claim
in event order:

- the first link of an alias paints all of its past and future with the customer, since an anonymous history belongs to
  the person who turns out to have made it; a later one, on a shared device, paints from its own moment on;
- an unlink with a moment ends what is painted with that customer there; one without withdraws every earlier link to
  that customer: the graph is as if they had never been, from when the withdrawal was known.

Links are followed: an alias of a person who is linked to another belongs to that other one.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from features.events import JourneyEvent, parse_timestamp
from features.taxonomy import IDENTITY_KINDS, LINKED, VALID_FROM, VALID_UNTIL

EARLIEST: Final = -(2**62)
LATEST: Final = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one identity event says.

    Attributes:
        is_link: the alias belongs to the customer; else it does not.
        boundary: the moment given with it: from when on a link holds, or when it ended; None where none was.
        order: order of the event among those of one customer; claims count in this order.
        arrived_at: when it was known, microseconds since the epoch.
        position: of its event in the log.
    """

    alias: str
    customer_id: str
    is_link: bool
    boundary: int | None
    order: tuple[int, int, str, str]
    arrived_at: int
    position: int

    @property
    def identity(self) -> tuple[str, str]:
        """Source and id of its event."""
        return self.order[2:]


def claim_of(event: JourneyEvent, position: int) -> Claim | None:
    """The claim of an event; None where it makes none."""
    if event.kind not in IDENTITY_KINDS:
        return None
    is_link = event.kind == LINKED
    boundary = event.facts.get(VALID_FROM if is_link else VALID_UNTIL)
    return Claim(
        alias=str(event.facts["alias"]),
        customer_id=event.customer_id,
        is_link=is_link,
        boundary=None if boundary is None else parse_timestamp(str(boundary)),
        order=event.order,
        arrived_at=event.arrived_at,
        position=position,
    )


@dataclass(frozen=True, slots=True)
class Span:
    """The events of one id with ``valid_from <= occurred_at < valid_until``."""

    customer_id: str
    valid_from: int = EARLIEST
    valid_until: int = LATEST

    def holds(self, at: int) -> bool:
        """Whether an event at ``at`` is among them."""
        return self.valid_from <= at < self.valid_until


@dataclass(frozen=True, slots=True)
class Person:
    """One person: whose events count as theirs.

    Attributes:
        customer_id: the canonical id, which nothing links on.
        spans: what belongs to them, by id and then by time; empty for an id that belongs to another at all times.
        linked_at: position in the log of the last claim that bears on them; 0 where there is none.
        last_position: position in the log of the last arrival that bears on them, claims included; 0 where no event is
            theirs, or where nobody looked.
    """

    customer_id: str
    spans: tuple[Span, ...]
    linked_at: int = 0
    last_position: int = 0

    @property
    def is_unlinked(self) -> bool:
        """Whether no claim ever bore on them."""
        return self.linked_at == 0

    @property
    def linked_ids(self) -> tuple[str, ...]:
        """The other ids that are theirs, sorted."""
        return tuple(sorted({span.customer_id for span in self.spans} - {self.customer_id}))


def unlinked(customer_id: str, *, last_position: int = 0) -> Person:
    """An id on which no claim bears: all of its events and no others are its own."""
    return Person(customer_id, (Span(customer_id),), last_position=last_position)


@dataclass(frozen=True, slots=True)
class Spell:
    """Whose the events of an alias were believed to be, in some time of events and for some time of knowledge.

    Attributes:
        alias: the id that the events were logged under.
        valid_from: first ``occurred_at``.
        valid_until: the end of it, exclusive.
        known_from: believed at the moments after this one,
        known_until: up to and with this one.
        owner: whose they are.
    """

    alias: str
    valid_from: int
    valid_until: int
    known_from: int
    known_until: int
    owner: str


@dataclass(frozen=True)
class Identities:
    """The graph that some claims make; asked about an id, it must hold every claim that bears on it."""

    claims: frozenset[Claim] = field(default_factory=frozenset)

    def known_before(self, moment: int) -> Identities:
        """The graph as it was known strictly before a moment."""
        return Identities(frozenset(claim for claim in self.claims if claim.arrived_at < moment))

    def up_to(self, position: int) -> Identities:
        """The graph of the claims up to a position in the log."""
        return Identities(frozenset(claim for claim in self.claims if claim.position <= position))

    def owner(self, customer_id: str, *, at: int) -> str:
        """Whose an event of ``customer_id`` at ``at`` is: the end of its chain of links.

        Links that lead in a circle, as withdrawals can leave them, make one person under the smallest id of the circle.
        """
        chain = [customer_id]
        while (following := self._step(chain[-1], at)) != chain[-1]:
            if following in chain:
                return min(chain[chain.index(following) :])
            chain.append(following)
        return chain[-1]

    def owners(self, customer_id: str) -> list[tuple[int, str]]:
        """Whose the events of an id are, over time: from when on, and the owner; the first from ``EARLIEST``."""
        if customer_id not in self._owners:
            starts = {start for one in self.above(customer_id) for start, _ in self._timeline(one)} | {EARLIEST}
            self._owners[customer_id] = _merged((start, self.owner(customer_id, at=start)) for start in sorted(starts))
        return self._owners[customer_id]

    def person(self, customer_id: str) -> Person:
        """The person whose canonical id this is; without spans where it is nobody's now."""
        if customer_id not in self._by_alias and customer_id not in self._aliases_of:
            return unlinked(customer_id)
        below = self.below(customer_id)
        spans = tuple(
            span for one in sorted(below) for span, owner in _spans(one, self.owners(one)) if owner == customer_id
        )
        return Person(customer_id, spans, self.linked_at(customer_id))

    def linked_at(self, customer_id: str) -> int:
        """Position in the log of the last claim that bears on whom an id belongs to, or who to it; 0 for none."""
        below = self.below(customer_id)
        return max((claim.position for one in below for claim in self._by_alias.get(one, ())), default=0)

    @property
    def customer_ids(self) -> frozenset[str]:
        """Every id that some claim names."""
        return frozenset(one for claim in self.claims for one in (claim.alias, claim.customer_id))

    def spells(self) -> Iterator[Spell]:
        """Whose the events of every alias were believed to be, ever: no two spells of an alias overlap.

        What was believed only of a time still to come is left out: no event of it was there to be anybody's. Who has
        many logins on one device would have a spell for each two of them else.
        """
        for alias in sorted(self._by_alias):
            if (only := self._only_link(alias)) is not None:
                yield Spell(alias, EARLIEST, LATEST, EARLIEST, only.arrived_at, alias)
                yield Spell(alias, EARLIEST, LATEST, only.arrived_at, LATEST, only.customer_id)
                continue
            bearing = self.bearing_on(alias)
            learned = sorted({claim.arrived_at for claim in bearing.claims})
            versions = [(EARLIEST, Identities()), *((at, bearing.known_before(at + 1)) for at in learned)]
            beliefs = [(known_from, version.owners(alias)) for known_from, version in versions]
            starts = sorted({start for _, owners in beliefs for start, _ in owners})
            for start, end in zip(starts, [*starts[1:], LATEST], strict=True):
                held = bisect.bisect_right(beliefs, start, key=lambda belief: belief[0]) - 1
                changes = _merged((known_from, _at(owners, start)) for known_from, owners in beliefs[max(held, 0) :])
                for (known_from, owner), (until, _) in zip(changes, [*changes[1:], (LATEST, "")], strict=True):
                    yield Spell(alias, start, end, known_from, until, owner)

    def _only_link(self, alias: str) -> Claim | None:
        """The claim of an alias that was linked once, for all of its time, to an id that is no alias: most are."""
        first, *others = self._by_alias[alias]
        is_whole = first.is_link and first.boundary is None and first.customer_id not in self._by_alias
        return first if is_whole and not others else None

    def bearing_on(self, customer_id: str) -> Identities:
        """The part of the graph that says whom an id belongs to."""
        return Identities(frozenset(claim for one in self.above(customer_id) for claim in self._by_alias.get(one, ())))

    def makes_circle(self, claim: Claim) -> bool:
        """Whether one more link would lead an id back to itself at any time."""
        after = Identities(self.claims | {claim})
        starts = {start for one in after.above(claim.alias) for start, _ in after._timeline(one)}
        return any(after._comes_back(claim.alias, start) for start in starts | {EARLIEST})

    def is_changed_by(self, claim: Claim) -> bool:
        """Whether one more claim says anything new."""
        return Identities(self.claims | {claim})._timeline(claim.alias) != self._timeline(claim.alias)

    def above(self, customer_id: str) -> set[str]:
        """The id and all that it was ever said to belong to, however indirectly."""
        return _reached(customer_id, lambda one: {claim.customer_id for claim in self._by_alias.get(one, ())})

    def below(self, customer_id: str) -> set[str]:
        """The id and all that were ever said to belong to it, however indirectly."""
        return _reached(customer_id, lambda one: self._aliases_of.get(one, set()))

    def _comes_back(self, customer_id: str, at: int) -> bool:
        met = {customer_id}
        here = customer_id
        while (following := self._step(here, at)) != here:
            if following in met:
                return following == customer_id
            met.add(following)
            here = following
        return False

    def _step(self, customer_id: str, at: int) -> str:
        return _at(self._timeline(customer_id), at)

    def _timeline(self, alias: str) -> list[tuple[int, str]]:
        if alias not in self._timelines:
            self._timelines[alias] = _painted(alias, self._by_alias.get(alias, ()))
        return self._timelines[alias]

    @cached_property
    def _timelines(self) -> dict[str, list[tuple[int, str]]]:
        return {}

    @cached_property
    def _owners(self) -> dict[str, list[tuple[int, str]]]:
        return {}

    @cached_property
    def _by_alias(self) -> Mapping[str, Sequence[Claim]]:
        by_alias: dict[str, list[Claim]] = {}
        for claim in sorted(self.claims, key=lambda one: one.order):
            by_alias.setdefault(claim.alias, []).append(claim)
        return by_alias

    @cached_property
    def _aliases_of(self) -> Mapping[str, set[str]]:
        aliases: dict[str, set[str]] = {}
        for claim in self.claims:
            aliases.setdefault(claim.customer_id, set()).add(claim.alias)
        return aliases


def is_said(claim: Claim, graph: Identities) -> bool:
    """Whether the same was said before, and saying it again changes nothing.

    What changes nothing and was never said is worth keeping: a link and its unlink may overtake each other.

    Args:
        claim: what is said.
        graph: at least every claim on the same alias.
    """
    if graph.is_changed_by(claim):
        return False
    of_these = (one for one in graph.claims if (one.alias, one.customer_id) == (claim.alias, claim.customer_id))
    return any(one.is_link == claim.is_link and (claim.is_link or one.boundary == claim.boundary) for one in of_these)


def circular(known: Iterable[Claim], claims: Sequence[Claim]) -> list[int]:
    """The places of those links that would make somebody an alias of themselves, each added to all others before it.

    A link closes a circle only where its customer leads to its alias. So one that leads out of a circle, which an
    import can have made, is let pass.

    Args:
        known: every claim that bears on an id of ``claims``; one of these that is known already is let pass.
        claims: the claims to add, in order; those that make a circle are not added.
    """
    by_alias: dict[str, set[Claim]] = {}
    for claim in known:
        by_alias.setdefault(claim.alias, set()).add(claim)
    identities = {claim.identity for bearing in by_alias.values() for claim in bearing}

    def above(customer_id: str) -> set[str]:
        return _reached(customer_id, lambda one: {claim.customer_id for claim in by_alias.get(one, ())})

    found = []
    for place, claim in enumerate(claims):
        if claim.is_link and claim.identity not in identities and claim.alias in above(claim.customer_id):
            ids = above(claim.customer_id) | above(claim.alias)
            bearing = frozenset(each for one in ids for each in by_alias.get(one, ()))
            if Identities(bearing).makes_circle(claim):
                found.append(place)
                continue
        by_alias.setdefault(claim.alias, set()).add(claim)
    return found


def _painted(alias: str, claims: Sequence[Claim]) -> list[tuple[int, str]]:
    """The timeline of an alias: from when on, and whom it belongs to, itself where it is nobody's."""
    timeline = [(EARLIEST, alias)]
    is_first = True
    withdrawn = {claim.customer_id: i for i, claim in enumerate(claims) if not claim.is_link and claim.boundary is None}
    for i, claim in enumerate(claims):
        if claim.is_link and i > withdrawn.get(claim.customer_id, -1):
            default = EARLIEST if is_first else claim.order[0]
            _link(timeline, default if claim.boundary is None else claim.boundary, claim.customer_id)
            is_first = False
        elif not claim.is_link and claim.boundary is not None:
            timeline = _with_end(timeline, claim.boundary, claim.customer_id, alias)
    return timeline


def _link(timeline: list[tuple[int, str]], start: int, customer_id: str) -> None:
    """Paint all from ``start`` on, in place: a device that many share has a claim for each of their logins."""
    while timeline and timeline[-1][0] >= start:
        timeline.pop()
    if not timeline or timeline[-1][1] != customer_id:
        timeline.append((start, customer_id))


def _with_end(timeline: list[tuple[int, str]], end: int, customer_id: str, alias: str) -> list[tuple[int, str]]:
    ended = [(start, alias if owner == customer_id and start >= end else owner) for start, owner in timeline]
    if _at(timeline, end) == customer_id:
        ended.append((end, alias))
    return _merged(sorted(dict(ended).items()))


def _merged(steps: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
    """Steps in order of time without those that change nothing."""
    merged: list[tuple[int, str]] = []
    for start, owner in steps:
        if not merged or merged[-1][1] != owner:
            merged.append((start, owner))
    return merged


def _at(steps: Sequence[tuple[int, str]], at: int) -> str:
    """What holds at a time that is not before the first step."""
    return steps[bisect.bisect_right(steps, at, key=lambda step: step[0]) - 1][1]


def _spans(customer_id: str, owners: Sequence[tuple[int, str]]) -> Iterator[tuple[Span, str]]:
    for (start, owner), (end, _) in zip(owners, [*owners[1:], (LATEST, "")], strict=True):
        yield Span(customer_id, start, end), owner


def _reached(customer_id: str, following: Callable[[str], set[str]]) -> set[str]:
    reached = {customer_id}
    waiting = [customer_id]
    while waiting:
        new = following(waiting.pop()) - reached
        reached |= new
        waiting.extend(new)
    return reached
