"""A log that is lived through again: events come in late, doubled and shuffled, with decisions in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.event_store import SqlEventLog
from features.events import JourneyEvent, dump_timestamp
from features.home import Home
from features.importing import Importer, Rejects
from features.mapping import mapping_folder, read_mapping
from features.mapping_fields import Vocabulary
from features.online_location import RedisLocation
from features.online_stores import open_online_store
from models.configuration import Configuration, load_configuration
from models.ids import decision_id
from models.record_store import SqlRecordStore
from serving.bootstrap import feature_sets_of
from serving.settings import Settings
from tests.doors import BOOTSTRAP, Client, World

HOUR_US: Final = 3_600_000_000
_END: Final = 4_000_000_000_000_000


@dataclass
class _Collected:
    """A sink that keeps events in memory."""

    events: list[JourneyEvent] = field(default_factory=list)

    def append_events(self, events: Sequence[JourneyEvent]) -> Sequence[bool]:
        self.events.extend(events)
        return [True] * len(events)

    def append_decisions(self, decisions: Sequence[object]) -> int:
        return len(decisions)


def events_in(path: Path, mapping: str, configuration: Configuration) -> list[JourneyEvent]:
    """The events that an import of a file would give, each once."""
    loaded = read_mapping(*mapping_folder(mapping)).value
    assert loaded is not None
    vocabulary = Vocabulary(
        taxonomy=configuration.taxonomy,
        outcomes={one.id: one for journey in configuration.journeys.journeys for one in journey.outcomes},
        journeys=frozenset(configuration.journeys.by_id),
        treatments=configuration.treatment_ids,
        decision_ids=lambda source, request_id, customer_id, at: decision_id(
            at=at, customer_id=customer_id, randomness=bytes(9)
        ),
        latest=_END,
    )
    sink = _Collected()
    Importer(loaded, vocabulary, sink, Rejects(None)).read(path, lambda _path, _position: None)
    return list({(event.source, event.event_id): event for event in reversed(sink.events)}.values())[::-1]


def with_anonymous_past(events: Sequence[JourneyEvent], rng: np.random.Generator) -> list[JourneyEvent]:
    """The same events, the first of some customers under an alias that is linked to them later, and sometimes unlinked.

    Every other alias is shared by two customers.
    """
    by_customer: dict[str, list[JourneyEvent]] = {}
    for event in events:
        by_customer.setdefault(event.customer_id, []).append(event)
    changed: list[JourneyEvent] = []
    for i, (customer_id, own) in enumerate(by_customer.items()):
        if i % 2 or len(own) < 4:
            changed += own
            continue
        own.sort(key=lambda event: event.order)
        alias, cut = f"anonymous-{i // 2 - i // 2 % 3 // 2}", int(rng.integers(1, len(own)))
        changed += [replace(event, customer_id=alias) for event in own[:cut]] + own[cut:]
        claims = ["identity_linked", *["identity_unlinked"] * int(rng.random() < 0.3)]
        for kind, place in zip(claims, sorted(rng.integers(len(own), size=len(claims)).tolist()), strict=True):
            said = {"event_id": f"{kind}-{customer_id}", "kind": kind, "facts": {"alias": alias}, "channel": None}
            changed.append(replace(own[place], **said, text=None))
    return changed


def arrivals(events: Sequence[JourneyEvent], rng: np.random.Generator) -> list[tuple[int, JourneyEvent]]:
    """Events with the moments of their arrival, in that order: most at once, some hours late, few by weeks."""
    n = len(events)
    hours = np.choose(
        rng.choice(4, size=n, p=[0.70, 0.20, 0.08, 0.02]),
        [np.zeros(n), rng.exponential(3.0, n), rng.exponential(48.0, n), rng.uniform(168.0, 1_000.0, n)],
    )
    delays = (hours * HOUR_US).astype(np.int64).tolist()
    arrived = [(event.occurred_at + delay, event) for event, delay in zip(events, delays, strict=True)]
    return sorted(arrived, key=lambda one: (one[0], one[1].order))


def document(event: JourneyEvent) -> dict[str, Any]:
    """An event as a caller sends it."""
    fields = {
        "event_id": event.event_id,
        "customer_id": event.customer_id,
        "kind": event.kind,
        "occurred_at": dump_timestamp(event.occurred_at),
        "channel": event.channel,
        "sequence": event.sequence,
        "facts": dict(event.facts),
        "text": event.text,
    }
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def serving_over(
    home: Home, configuration: Configuration, location: RedisLocation | None = None
) -> Iterator[tuple[World, Client]]:
    """The service over the real stores of a home, and a client of it; the test moves the clock."""
    with ExitStack() as opened:
        home.create()
        log = SqlEventLog(home.events_db, durability="NORMAL", identifiers=configuration.taxonomy.identifiers)
        opened.callback(log.close)
        records = SqlRecordStore(home.records_db, durability="NORMAL")
        opened.callback(records.close)
        features = open_online_store(home, location, feature_sets_of(configuration), configuration.taxonomy)
        opened.callback(features.close)
        world = World(
            home.root,
            configuration=configuration,
            settings=Settings(bootstrap_key=BOOTSTRAP, threads=2, max_batch_items=10_000),
            log=log,
            features=features,
            records=records,
        )
        yield world, opened.enter_context(world.client())


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How a log is lived through again.

    Attributes:
        batch: events per call.
        decisions: decisions in all, spread over the log.
        doubled: share of events that are sent twice.
        steps_back: share of the calls before which the clock steps back, by up to two hours.
        context: what requests say of their moment, drawn from.
    """

    batch: int
    decisions: int
    doubled: float = 0.05
    steps_back: float = 0.05
    context: Sequence[Mapping[str, Any]] = ({},)

    def run(self, world: World, client: Client, events: Sequence[JourneyEvent], rng: np.random.Generator) -> None:
        """Send all events in order of their arrival, twice where they are doubled, and ask for decisions between."""
        arrived = arrivals(events, rng)
        batches = [arrived[start : start + self.batch] for start in range(0, len(arrived), self.batch)]
        asked = np.bincount(rng.integers(len(batches), size=self.decisions), minlength=len(batches)).tolist()
        seen = ["nobody"]
        sent: list[JourneyEvent] = []
        for i, batch in enumerate(batches):
            now, later = batch[-1][0], batches[i + 1][-1][0] if i + 1 < len(batches) else batch[-1][0] + HOUR_US
            own = [event for _, event in batch]
            # Never so far that what has happened looks like the future, which is refused.
            world.now = max(now - self._step_back(rng), *(event.occurred_at for event in own))
            twice = [sent[j] for j in rng.integers(len(sent), size=int(self.doubled * len(own)))] if sent else []
            together = [*own, *twice]
            rng.shuffle(together)
            answer = client.done("/v1/events", {"events": [document(event) for event in together]})
            assert (answer["accepted"], answer["duplicate"]) == (len(own), len(twice)), answer["rejections"][:3]
            sent += own
            recent = sorted({event.customer_id for event in own})
            seen += recent
            for moment in sorted(rng.integers(0, max(later - now, 1), size=asked[i]).tolist()):
                world.now = now + moment - self._step_back(rng)
                pool = recent if rng.random() < 0.5 else seen
                client.done(
                    "/v1/decisions",
                    {
                        "customer_id": pool[int(rng.integers(len(pool)))],
                        "context": self.context[int(rng.integers(len(self.context)))],
                        "mode": "live" if rng.random() < 0.9 else "shadow",
                    },
                )

    def _step_back(self, rng: np.random.Generator) -> int:
        return int(rng.integers(2 * HOUR_US)) if rng.random() < self.steps_back else 0


def installed(home: Home, mapping: str | None = None) -> Configuration:
    """The configuration of a new home: a mapping's own, or the built-in one."""
    if mapping is not None:
        from models.configuration import install_configuration

        install_configuration(home.create(), mapping_folder(mapping)[0], {})
    return load_configuration(home, {})
