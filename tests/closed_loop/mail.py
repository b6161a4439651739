"""Events on their way from the simulated world into the event log, each handed over when it arrives and not before."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.event_log import EventLog, LoggedEvent
from features.events import JourneyEvent, day_of, load_facts
from features.feedback_text import FeedbackTexts
from features.taxonomy import Taxonomy
from features.telling import consent_of
from models.actions import Catalogue
from models.contact_responses import contact_responses
from models.exposures import exposed_contacts
from models.records import ConsentChange, RecordStore
from training.simulated_course import NEVER, Course
from training.simulated_draws import Integers
from training.simulated_events import SOURCE, Added, arrival_delay

_SECOND_US: Final = 1_000_000


class Mail:
    """Takes what happened in the world to the stores of an installation.

    What is told of after a decision arrives after it, also where it is said to have happened before: no decision can
    have seen it.

    Args:
        course: of the customers; their events are taken out of it.
        log: where events go.
        records: where consents, exposures and answers go, as for any event that comes in.
        taxonomy: the vocabulary.
        catalogue: the actions.
    """

    def __init__(
        self, course: Course, *, log: EventLog, records: RecordStore, taxonomy: Taxonomy, catalogue: Catalogue
    ) -> None:
        self._course = course
        self._log = log
        self._records = records
        self._taxonomy = taxonomy
        self._catalogue = catalogue
        self._texts = FeedbackTexts(taxonomy)
        self._numbers = np.zeros(course.people.n, dtype=np.int64)
        self._waiting = _Waiting.nothing()
        self._known: dict[int, list[LoggedEvent]] = {}

    def deliver(self, before: Integers) -> int:
        """Put everything into the log that arrives before a moment of its customer's own.

        Args:
            before: ``(n_customers,)`` microseconds since the epoch; ``NEVER`` for nothing.

        Returns:
            How many events were delivered.
        """
        self._collect()
        waiting = self._waiting
        arrives = waiting.arrived < before[waiting.added.rows]
        events = self._events(waiting.where(arrives))
        self._waiting = waiting.where(~arrives)
        if not events:
            return 0
        appended = self._log.append([event for _, event in events])
        for (row, event), one in zip(events, appended, strict=True):
            self._known.setdefault(row, []).append(LoggedEvent(one.position, event))
        self._tell([event for _, event in events])
        return len(events)

    def known(self, rows: Integers) -> list[LoggedEvent]:
        """Every event of some customers that was delivered so far."""
        return [logged for row in rows.tolist() for logged in self._known.get(row, ())]

    def keep_only(self, rows: Integers) -> None:
        """Remember the delivered events of some customers alone; nobody will ask for the others'."""
        wanted = set(rows.tolist())
        self._known = {row: events for row, events in self._known.items() if row in wanted}

    def _collect(self) -> None:
        """What happened since the last time, with the moment at which each event arrives."""
        added = self._course.events.take()
        if not added.rows.size:
            return
        order = np.lexsort((np.arange(added.rows.size), added.at, added.rows))
        added = Added._make(column[order] for column in added)
        starts = np.flatnonzero(np.diff(added.rows, prepend=-1))
        counts = np.diff(np.append(starts, added.rows.size))
        numbers = np.arange(added.rows.size) - np.repeat(starts, counts) + self._numbers[added.rows]
        self._numbers[added.rows[starts]] += counts
        arrived = added.at + arrival_delay(self._course.draws, added.rows, numbers, added.channels)
        decided_at = self._course.decided_at[added.rows]
        soonest = np.where(decided_at == NEVER, NEVER, decided_at + _SECOND_US)
        self._waiting = self._waiting.joined(_Waiting(added, numbers, np.maximum(arrived, soonest)))

    def _events(self, waiting: _Waiting) -> list[tuple[int, JourneyEvent]]:
        """In order of arrival."""
        order = np.lexsort((waiting.numbers, waiting.added.rows, waiting.arrived))
        ids, found = self._course.people.ids, []
        columns = (*(column[order] for column in waiting.added), waiting.numbers[order], waiting.arrived[order])
        for row, at, kind, channel, facts, text, number, arrived in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            event = JourneyEvent(
                source=SOURCE,
                event_id=f"{ids[row]}-{number:04d}",
                customer_id=ids[row],
                kind=kind,
                occurred_at=at,
                arrived_at=arrived,
                sequence=number,
                day=day_of(at),
                channel=channel,
                facts=load_facts(facts.encode()),
                text=text,
            )
            found.append((row, self._texts.told(event)))
        return found

    def _tell(self, events: list[JourneyEvent]) -> None:
        """What the record store is to know of events, as where events are taken in."""
        changes = [
            ConsentChange(event.customer_id, *changed, event.occurred_at)
            for event in events
            if (changed := consent_of(event, self._taxonomy)) is not None
        ]
        if changes:
            self._records.apply_consents(changes)
        if contacts := exposed_contacts(events, self._catalogue):
            self._records.confirm_contacts(contacts)
        self._records.note_responses(tuple(contact_responses(events, self._taxonomy, self._catalogue)))


class _Waiting:
    """Events that have not arrived yet, each ``(n,)``: their numbers among their customer's, and when they arrive."""

    def __init__(self, added: Added, numbers: Integers, arrived: Integers) -> None:
        self.added = added
        self.numbers = numbers
        self.arrived = arrived

    @classmethod
    def nothing(cls) -> _Waiting:
        none = np.empty(0, dtype=np.int64)
        text = np.empty(0, dtype=np.object_)
        return cls(Added(none, none, text, text, text, text), none, none)

    def where(self, keep: NDArray[np.bool_]) -> _Waiting:
        return _Waiting(Added._make(column[keep] for column in self.added), self.numbers[keep], self.arrived[keep])

    def joined(self, other: _Waiting) -> _Waiting:
        added = Added._make(np.concatenate(pair) for pair in zip(self.added, other.added, strict=True))
        return _Waiting(
            added,
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.arrived, other.arrived]),
        )
