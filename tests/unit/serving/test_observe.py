"""Observing: a decision sees exactly what had arrived strictly before its moment, in whatever order it was written."""

from __future__ import annotations

from collections.abc import Collection

from features.event_log import MemoryEventLog
from features.events import JourneyEvent
from features.ingest import Ingestor
from features.moments import Moments
from features.store import MemoryStore
from serving.observe import Observed, Observer
from tests.histories import FEATURE_SETS, FEATURES, MINUTE_US, START_AT, TAXONOMY, event

NOW = START_AT + 60 * MINUTE_US


class _World:
    """An observer over a log and a feature store in memory."""

    def __init__(self, moments: Moments | None = None) -> None:
        self.moments = moments or Moments()
        self.log = MemoryEventLog()
        self.store = MemoryStore()
        self.ingestor = Ingestor(
            self.log, self.store, FEATURE_SETS, TAXONOMY, lambda *_, at: None, lambda events: None, self.moments
        )

    def observed(self, customer_id: str, *, at: int) -> Observed:
        """A customer at a moment."""
        observer = Observer(
            feature_sets=FEATURE_SETS,
            store=self.store,
            log=self.log,
            rebuild=self.ingestor.rebuild,
            moments=self.moments,
        )
        return observer.observe(customer_id, "application", at=at)


def _n_events(observed: Observed) -> float:
    return float(observed.vector[FEATURES.names.index("events_total")])


def test_of_two_arrivals_at_once_the_later_may_be_written_first() -> None:
    """The event that had not arrived is left out, though the newest position in the log is that of the other."""
    world = _World()
    with world.moments.arriving(["c1"], now=NOW) as first:
        asked = world.moments.question(NOW + 1)
        with world.moments.arriving(["c1"], now=NOW + 2) as second:
            world.log.append([event("second", at=START_AT, arrived_at=second)])
        world.log.append([event("first", at=START_AT, arrived_at=first)])
    world.ingestor.refresh(["c1"])

    observed = world.observed("c1", at=asked)

    assert (first, asked, second) == (NOW, NOW + 1, NOW + 2)
    assert _n_events(observed) == 1.0


class _SlowLog(Moments):
    """Moments of a process whose arrivals are written when somebody waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[JourneyEvent] = []
        self.log = MemoryEventLog()

    def settle(self, customer_ids: Collection[str], *, before: int) -> None:
        """Write what is on its way for some customers."""
        for one in [one for one in self.under_way if {one.customer_id, one.facts.get("alias")} & {*customer_ids}]:
            self.under_way.remove(one)
            self.log.append([one])


def test_a_link_that_was_waited_for_has_its_customers_events_waited_for() -> None:
    """An id leads by a link on its way to somebody whose event is on its way, too: all of it had arrived before."""
    moments = _SlowLog()
    world = _World(moments)
    world.log = moments.log
    moments.log.append([_link("a", "b"), event("e-1", customer_id="a", at=START_AT)])
    moments.under_way = [_link("b", "c"), event("e-2", customer_id="c", at=START_AT)]

    observed = world.observed("a", at=NOW)

    assert observed.person.customer_id == "c"
    assert observed.person.last_position == 4
    assert moments.under_way == []


def _link(alias: str, customer_id: str) -> JourneyEvent:
    facts: dict[str, str | float | bool] = {"alias": alias}
    return event(f"{alias}-{customer_id}", customer_id=customer_id, kind="identity_linked", facts=facts)
