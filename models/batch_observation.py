"""Customers as of a moment, many at once: their feature vectors and profiles, out of the log, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.event_export import event_table
from features.event_log import EventLog, LoggedEvent
from features.event_tables import no_events
from features.history import EventTable, event_tables, profiles_at, reads_at, whole_table
from features.identity import Person
from features.store import ProfileRow
from features.taxonomy import Taxonomy
from models.deliberation import Rulebook
from models.funnel import Question
from models.ranking import CandidateTerms, candidate_terms
from models.scoring import Scorer

FloatArray = NDArray[np.float64]

CUSTOMERS_PER_BLOCK: Final = 4_096
_OPEN: Final = 1.0
_EVENTS_PER_TABLE: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What everybody is ranked by.

    Attributes:
        scorer: None where there is no champion: then catalogue priors alone value the actions.
        at: the moment, microseconds since the epoch; what arrived strictly before it counts.
        is_past: contacts and consents are those that were known at the moment, rather than those of the records now.
        channels: only candidates over these; None for all.
        include: only these actions; empty for all.
        exclude: none of these actions.
        issues: only actions of these issues; empty for all.
        contact_at: when they are to be contacted, which quiet hours and the validity of actions are about; None for at
            once.
    """

    rulebook: Rulebook
    scorer: Scorer | None
    at: int
    is_past: bool = False
    channels: frozenset[str] | None = None
    include: frozenset[str] = frozenset()
    exclude: frozenset[str] = frozenset()
    issues: frozenset[str] = frozenset()
    contact_at: int | None = None

    @property
    def taxonomy(self) -> Taxonomy:
        """The vocabulary."""
        return self.rulebook.taxonomy

    @property
    def question(self) -> Question:
        """What a decision about any of the customers would be asked."""
        return Question(
            at=self.at,
            outbound=True,
            channels=self.channels,
            include=self.include,
            exclude=self.exclude,
            issues=self.issues,
            contact_at=self.contact_at,
        )

    def terms(self, prices: Mapping[str, float] | None = None) -> CandidateTerms:
        """What the journey's candidates are worth and cost, at some prices of what is scarce."""
        return candidate_terms(
            self.rulebook.catalogue,
            self.rulebook.journey.outcome_by_id,
            self.rulebook.policy,
            journey_id=self.rulebook.journey.id,
            prices=prices or {},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Some customers as of a moment: vectors ``(n, n_features)``, and what is known of each, None of strangers."""

    customer_ids: list[str]
    vectors: FloatArray
    profiles: list[ProfileRow | None]

    def of(self, rows: Sequence[int]) -> Observed:
        """Some of them."""
        return Observed(
            [self.customer_ids[row] for row in rows], self.vectors[list(rows)], [self.profiles[row] for row in rows]
        )


Asked = Callable[[], Observed]
"""A block of customers, observed when it is asked for."""


def customer_blocks(
    events: Path,
    scene: Scene,
    *,
    wanted: frozenset[str] | None,
    size: int = CUSTOMERS_PER_BLOCK,
    progress: Callable[[int], None] = lambda events: None,
) -> Iterator[Asked]:
    """Customers in blocks: those whose journey is open, or all that are wanted, in the order of their ids.

    The blocks of the same events are the same, so that one that was dealt with before can be passed over unobserved.

    Args:
        events: the event log as Parquet.
        scene: journey and moment.
        wanted: canonical ids; None for everybody whose journey is open.
        size: customers of a block at most.
        progress: called with the number of events read.
    """
    seen: set[str] = set()
    for table in event_tables(events, scene.taxonomy, events_per_table=_EVENTS_PER_TABLE):
        told = _Told(table, scene)
        ids = [one for one in table.customers.to_pylist() if wanted is None or one in wanted]
        if wanted is not None:
            ids = [one for one in ids if one in told.profiles]
            seen.update(ids)
        for block in _blocks(ids, size):
            yield partial(told.observed, block, only_open=wanted is None)
        progress(table.n_events)
    nobody = _Told(no_events(), scene)
    for block in _blocks(sorted((wanted or frozenset()) - seen), size):
        yield partial(nobody.observed, block, only_open=False)


def listed_customers(persons: Sequence[Person], scene: Scene, log: EventLog, *, until: int | None = None) -> Observed:
    """Some people as of a moment, read from the log: for lists that are short beside it.

    Args:
        persons: as they were known at the moment.
        scene: journey and moment.
        log: has their events.
        until: the last position that counts; None for all there are.
    """
    events = [
        LoggedEvent(logged.position, replace(logged.event, customer_id=person.customer_id))
        for person, found in zip(persons, log.of_people([(person, 0) for person in persons]), strict=True)
        for logged in found
        if until is None or logged.position <= until
    ]
    told = _Told(whole_table(event_table(events), scene.taxonomy), scene)
    return told.observed([person.customer_id for person in persons], only_open=False)


class _Told:
    """What a table of events tells of customers as of a moment."""

    def __init__(self, table: EventTable, scene: Scene) -> None:
        self._table, self._scene = table, scene

    @cached_property
    def profiles(self) -> dict[str, ProfileRow]:
        """Of those of whom anything was known."""
        return profiles_at(self._table, self._scene.taxonomy, self._scene.at)

    def observed(self, ids: list[str], *, only_open: bool) -> Observed:
        """These customers, or those of them whose journey is open."""
        feature_set, at = self._scene.rulebook.feature_set, self._scene.at
        asked = [one for one in ids if one in self.profiles] if only_open else ids
        vectors = reads_at(self._table, feature_set, asked, np.full(len(asked), at))
        if only_open:
            chosen = np.flatnonzero(vectors[:, feature_set.names.index("journey_status")] == _OPEN)
            asked, vectors = [asked[row] for row in chosen.tolist()], vectors[chosen]
        return Observed(asked, vectors, [self.profiles.get(one) for one in asked])


def _blocks(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
