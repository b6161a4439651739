"""Homes with a bundle and recorded, randomised decisions in two periods, of any size: what a drift report reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from features.event_store import SqlEventLog
from features.events import JourneyEvent, day_of
from features.home import Home
from features.schema import FeatureSet
from models.actions import NO_ACTION
from models.configuration import Configuration
from models.decision import Candidate, DecisionRecord, Selected
from models.ids import decision_id
from models.record_store import SqlRecordStore
from models.rulebooks import feature_sets_of
from tests.decision_records import record
from tests.doors import HOUR_US, JOURNEY, NOW
from tests.recorded import NAME, promote, recorded_world
from training.pipeline import CANDIDATE
from training.snapshot import freeze

OUTCOME = "progress_7d"
ACTIONS = ("nudge_documents", "remind_next_step")
EFFECTS = (0.2, 0.05)
DAY_US = 24 * HOUR_US
SPAN_US = 60 * DAY_US
"""Of either period."""

_VECTORS = 3_000
_PER_PAGE = 5_000
_DROPPED = tuple(
    Candidate(
        action_id=f"other_{place}",
        treatment_id=f"other_{place}_sms",
        channel="sms",
        dropped="eligibility",
        rule_ids=("elig.journey_open",),
    )
    for place in range(12)
)
_HELD = Candidate(
    action_id="callback_help",
    treatment_id="call_help",
    channel="call",
    dropped="contact_policy",
    rule_ids=("cap.week",),
)


def grown_home(folder: Path, *, before: int, lately: int, seed: int = 7, **changes: Any) -> tuple[Home, Configuration]:
    """A home whose snapshot ends between two periods of decisions; what changes in the later one is a keyword.

    Args:
        folder: to make it in.
        before: decisions that were trained on.
        lately: decisions since.
        seed: fixes what is drawn.
        changes: of ``period`` in the later period.
    """
    world = recorded_world(folder)
    promote(world, 1)
    home, configuration = world.home, world.configuration
    shutil.copytree(home.bundle(NAME, 1), home.bundle(CANDIDATE, NAME))
    features = feature_sets_of(configuration)[JOURNEY]
    with closing(SqlRecordStore(home.records_db)) as store, closing(SqlEventLog(home.events_db)) as log:
        _write(store, log, period(before, seed, features, since=NOW, first=0))
    freeze(home, configuration, at=NOW + SPAN_US)
    with closing(SqlRecordStore(home.records_db)) as store, closing(SqlEventLog(home.events_db)) as log:
        rows = period(lately, seed + 1, features, since=NOW + SPAN_US + DAY_US * 10, first=before, **changes)
        _write(store, log, rows)
    return home, configuration


Row = tuple[DecisionRecord, list[JourneyEvent]]


def period(
    n: int,
    seed: int,
    features: FeatureSet,
    *,
    since: int,
    first: int,
    effects: tuple[float, float] = EFFECTS,
    shift: float = 0.0,
    kind: str = "identity_verified",
) -> Iterator[Row]:
    """Decisions of one period, evenly in time, each on a customer of its own.

    Args:
        n: how many.
        seed: fixes what is drawn.
        features: of the journey.
        since: of the first one, microseconds since the epoch.
        first: number of the first customer.
        effects: of either action on the probability of progress within a week.
        shift: of every feature, in standard deviations.
        kind: of the event that is progress.
    """
    rng = np.random.default_rng(seed)
    tau = np.array([0.0, *effects])
    pool = _vectors(features, min(n, _VECTORS), rng, shift)
    for number in range(n):
        at = since + number * SPAN_US // n
        p0 = float(rng.uniform(0.15, 0.45))
        arm = int(rng.integers(3))
        customer = f"c-{first + number:08d}"
        progressed = rng.random() < p0 + tau[arm]
        yield (
            _record(
                at,
                customer,
                p0,
                arm,
                rng.bytes(9),
                features.version,
                pool[number % len(pool)],
                held=bool(rng.random() < 0.2),
            ),
            _events(at, customer, kind if progressed else None),
        )


def _record(
    at: int,
    customer: str,
    p0: float,
    arm: int,
    randomness: bytes,
    version: str,
    vector: tuple[float, ...],
    *,
    held: bool,
) -> DecisionRecord:
    made = decision_id(at=at, customer_id=customer, randomness=randomness)
    options = tuple(
        Candidate(
            action_id=name,
            treatment_id=f"{name}_sms",
            channel="sms",
            selection_probability=1 / 3,
            arm_selection_probability=1 / 3,
            control_response=p0,
            uplift=effect,
            sigma=0.01,
            effect_source="model",
            outcome=OUTCOME,
            net_value=38 * effect,
            priority=38 * effect,
        )
        for name, effect in zip(ACTIONS, EFFECTS, strict=True)
    )
    nothing = Candidate(
        action_id=NO_ACTION,
        treatment_id=NO_ACTION,
        channel=None,
        selection_probability=1 / 3,
        arm_selection_probability=1 / 3,
    )
    chosen = [
        Selected(slot=1, placement=None, action_id=name, treatment_id=f"{name}_sms")
        for name in ACTIONS[arm - 1 : arm]
        if arm
    ]
    return record(
        1,
        decision_id=made,
        request_id=made,
        customer_id=customer,
        journey_id=JOURNEY,
        arm="random_eligible",
        decided_at=at,
        as_of=at,
        expires_at=at + DAY_US,
        vector=vector,
        versions={"features": version},
        stall_propensity=1 - p0 - sum(EFFECTS) / 3,
        candidates=(*options, *((_HELD,) if held else ()), *_DROPPED, nothing),
        selected=tuple(chosen),
    )


def _events(at: int, customer: str, progress: str | None) -> list[JourneyEvent]:
    told = [("application_submitted", at - 2 * DAY_US)]
    if progress is not None:
        told.append((progress, at + 3 * DAY_US))
    return [
        JourneyEvent(
            source="test",
            event_id=f"{customer}-{kind}",
            customer_id=customer,
            kind=kind,
            channel="web",
            occurred_at=moment,
            arrived_at=moment,
            sequence=0,
            day=day_of(moment),
        )
        for kind, moment in told
    ]


def _vectors(features: FeatureSet, n: int, rng: np.random.Generator, shift: float) -> list[tuple[float, ...]]:
    """Vectors of open journeys: numbers are normal, categories and flags 0 or 1."""
    x = rng.normal(shift, 1.0, (n, len(features.names)))
    for place, spec in enumerate(features.specs):
        if spec.dtype in ("category", "boolean"):
            x[:, place] = x[:, place] > 0.5
    x[:, features.names.index("journey_status")] = 1.0
    return [tuple(row) for row in x.tolist()]


def _write(store: SqlRecordStore, log: SqlEventLog, rows: Iterator[Row]) -> None:
    records: list[DecisionRecord] = []
    events: list[JourneyEvent] = []
    for made, told in rows:
        records.append(made)
        events += told
        if len(records) == _PER_PAGE:
            store.append_imported(records)
            log.append(events)
            records, events = [], []
    store.append_imported(records)
    log.append(events)
