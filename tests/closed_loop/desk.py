"""The product's own decider in the place of the simulator's past policy."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Final

import numpy as np

from features.event_export import event_table
from features.history import positions_at, profiles_at, reads_at, whole_table
from features.identity import unlinked
from features.moments import Moments
from features.schema import FeatureSet
from features.store import ProfileRow
from models.actions import NO_ACTION
from models.configuration import Configuration
from models.decision import DecisionRecord
from models.record_store import SqlRecordStore
from models.records import Committed, Reservation
from models.rulebooks import rulebooks_of
from serving.champions import Champions
from serving.decide import Decider
from serving.observe import Observed
from serving.recording import Asking
from serving.schemas import DecisionRequest
from tests.closed_loop.mail import Mail
from tests.closed_loop.setting import JOURNEY_ID
from training.simulated_choice import Choice, Occasion
from training.simulated_course import NEVER
from training.simulated_draws import Integers
from training.simulated_policy import Option
from training.simulated_world import STAGES

SOURCE: Final = "closed-loop"
_LATEST: Final = 4_000_000_000_000_000


class SimulatedMoments(Moments):
    """The moments of simulated time: customers come in no order, and nothing is on its way while they are decided."""

    def question(self, now: int) -> int:
        """The moment asked for."""
        return now


class RememberingStore(SqlRecordStore):
    """A record store that gives the last record that it took.

    Attributes:
        last: None before any.
    """

    last: DecisionRecord | None = None

    def commit(self, record: DecisionRecord, answer: bytes, reservation: Reservation | None) -> Committed:
        """Store a decision and its contacts."""
        committed = super().commit(record, answer, reservation)
        self.last = record
        return committed


class PreparedObserver:
    """Gives what was read of customers beforehand, for many at once, by the kernel over tables."""

    def __init__(self) -> None:
        self._observed: dict[tuple[str, int], Observed] = {}

    def prepare(self, observed: Mapping[tuple[str, int], Observed]) -> None:
        """Take what is to be given, by customer and moment."""
        self._observed = dict(observed)

    def observe(
        self, customer_id: str, journey_id: str, *, at: int, context: Mapping[str, object] | None = None
    ) -> Observed:
        """A customer as of a moment."""
        return self._observed[customer_id, at]


class HeadwayChooser:
    """Decides for simulated customers as the service does, each decision recorded before it counts.

    Attributes:
        mail: brings the events that a decision may see into the log first; set once the customers are there.

    Args:
        records: keeps decisions.
        champions: what serves.
        challengers: what decides for the challenger's arm.
        feature_set: of the journey.
        seed: of all chance.
    """

    mail: Mail

    def __init__(
        self,
        *,
        configuration: Configuration,
        records: RememberingStore,
        champions: Champions,
        challengers: Champions,
        feature_set: FeatureSet,
        seed: int,
    ) -> None:
        self._records = records
        self._feature_set = feature_set
        self._observer = PreparedObserver()
        numbers = itertools.count()
        self.configuration = configuration
        self.decider = Decider(
            rulebooks=lambda: self._rulebooks,
            versions={"service": "closed-loop"},
            observer=self._observer,  # type: ignore[arg-type]  # the two methods of it that a live decision calls
            moments=SimulatedMoments(),
            records=records,
            served_model=champions.served_model,
            challenger=challengers.served_model,
            randomness=lambda n: hashlib.blake2b(f"{seed}/{next(numbers)}".encode(), digest_size=n).digest(),
            timer=lambda: 0,
            deadline_ms=60_000,
        )

    @property
    def configuration(self) -> Configuration:
        """The configuration that decides from now on."""
        return self._configuration

    @configuration.setter
    def configuration(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rulebooks = rulebooks_of(configuration, {JOURNEY_ID: self._feature_set})

    def choose(self, occasion: Occasion, options: tuple[Option, ...]) -> Choice:
        """What the service decides for each customer, after everything that it may know of them came in."""
        course, rows, at = occasion.course, occasion.rows, occasion.at
        before = np.full(course.people.n, NEVER)
        before[rows] = at
        self.mail.deliver(before)
        customers = course.people.ids[rows].tolist()
        self._observer.prepare(self._observed(rows, customers, at))
        column = {option.treatment.id: place for place, option in enumerate(options)} | {NO_ACTION: len(options)}
        probabilities = np.zeros((rows.size, len(options) + 1))
        option = np.zeros(rows.size, dtype=np.int64)
        ids, request_ids = [], []
        for place, (customer, moment) in enumerate(zip(customers, at.tolist(), strict=True)):
            request = DecisionRequest(
                request_id=f"{customer}/{occasion.step}", customer_id=customer, journey_id=JOURNEY_ID
            )
            self.decider.answered(request, Asking(source=SOURCE, now=moment, arrived=0, may_be_known=False))
            record = self._records.last
            assert record is not None
            for one in record.candidates:
                probabilities[place, column[one.treatment_id]] += one.selection_probability
            option[place] = column[record.selected[0].treatment_id if record.selected else NO_ACTION]
            ids.append(record.decision_id)
            request_ids.append(request.request_id)
        # Whatever the stage allows: another model may have candidates that this one did not.
        stage = STAGES[occasion.standing.stage]
        fits = np.array([not one.action.stages or stage in one.action.stages for one in options])
        return Choice(
            ids=ids,
            request_ids=request_ids,
            option=option,
            probabilities=probabilities,
            noted=np.broadcast_to(fits, (rows.size, len(options))),
        )

    def _observed(self, rows: Integers, customers: list[str], at: Integers) -> dict[tuple[str, int], Observed]:
        taxonomy = self._configuration.taxonomy
        table = whole_table(event_table(self.mail.known(rows)), taxonomy)
        vectors = reads_at(table, self._feature_set, customers, at)
        positions = positions_at(table, customers, at)
        moment_of = dict(zip(customers, at.tolist(), strict=True))
        moments = np.array([moment_of[one] for one in table.customers.to_pylist()])[table.customer_of_row]
        known = table.where((table.known_at < moments) & (moments <= table.events.until))
        profiles = profiles_at(known, taxonomy, _LATEST)
        newest = dict(
            zip(
                known.customers.to_pylist(),
                np.maximum.reduceat(known.events.at, known.starts[:-1]).tolist(),
                strict=True,
            )
        )
        return {
            (customer, moment): Observed(
                person=unlinked(customer, last_position=position),
                vector=vector,
                profile=profiles.get(customer, ProfileRow(customer)),
                is_known=customer in newest,
                log_position=position,
                last_event_at=int(newest.get(customer, 0)),
                degraded=(),
            )
            for customer, moment, vector, position in zip(
                customers, at.tolist(), vectors, positions.tolist(), strict=True
            )
        }
