"""A small world with really trained models, and decisions recorded in it, for tests of explanations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from features.kernel import Floats, new_state
from models.boosting import Boosting, lightgbm_raw_scores
from models.bundle import Bundle, member_texts, write_bundle
from models.decision import DecisionRecord, dump_record, load_record
from models.deliberation import Inputs, Rulebook, deliberate
from models.hazards import Course, periods_of
from models.heads import FittedHeads
from models.records import CustomerRecords
from models.scoring import Scorer
from models.stall import Slice, StallParams, fit_stall
from models.uplift import UpliftParams, fit_uplift
from tests import decision_records
from tests.boosters import lineage
from tests.decisions import action, question, rulebook
from tests.histories import FEATURES, MINUTE_US, START_AT, event, journey

NAME = "nba-application"
KINDS = ("visited", "applied", "called", "uploaded", "surveyed")
AGE = FEATURES.names.index("attribute_age")
CALLS = FEATURES.names.index("calls_since_progress")
PERIODS = periods_of(24 * 60 * MINUTE_US, (0.25, 0.5, 1, 2))
_SMALL = Boosting(rounds=40, patience=8, num_leaves=7, min_rows=30)
_N = 2_400

REASONS = [
    {
        "code": "CALLS_AGAIN",
        "features": ["calls_since_progress", "repeated_calls_since_progress", "count_called"],
        "direction": "raises",
        "at_least": 1,
        "text": "Called {value} times",
        "talking_points": ["help.again", "help.now"],
    },
    {
        "code": "CALLS_NOT",
        "features": ["calls_since_progress", "repeated_calls_since_progress", "count_called"],
        "direction": "lowers",
        "at_most": 0,
        "text": "Never called",
    },
    {
        "code": "OLDER",
        "features": ["attribute_age"],
        "quantity": "effect",
        "action": "nudge",
        "direction": "raises",
        "text": "Is {value}",
        "talking_points": ["help.now"],
    },
]


def book() -> Rulebook:
    """Three actions for the journey of ``tests.histories``, which has reasons: two modelled, one only believed."""
    declared = journey().model_dump() | {
        "reason_templates": REASONS,
        "abandon_after": "2d",
        "horizon": "1d",
        "stages": [stage.model_dump() | {"stall_after": "1h"} for stage in journey().stages],
        "outcomes": [outcome.model_dump() | {"window": "1d"} for outcome in journey().outcomes],
    }
    actions = (
        action("nudge", prior_uplift=None, lever_pct=20),
        action("offer", prior_uplift=None, incentive_cost=1.5),
        action("brochure", prior_uplift=0.02),
        action("later", stages=["uploaded"]),
    )
    return rulebook(*actions, in_journey=type(journey()).model_validate(declared))


def vectors(n: int, seed: int) -> Floats:
    """``(n, n_features)`` of customers with a few random events, as the kernel reads them."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        state, at = new_state(FEATURES.plan), START_AT
        for place in range(int(rng.integers(1, 7))):
            kind = "visited" if place == 0 else KINDS[int(rng.choice(5, p=[0.4, 0.1, 0.35, 0.05, 0.1]))]
            facts: dict[str, Any] = {"nps": float(rng.integers(0, 11))} if kind == "surveyed" else {}
            FEATURES.fold(state, event(f"e{place}", kind=kind, at=at, channel="web", facts=facts))
            at += int(rng.integers(1, 90)) * MINUTE_US
        age = {"age": float(rng.integers(18, 90))} if rng.random() < 0.9 else {}
        rows.append(FEATURES.vector(state, age, at + int(rng.integers(1, 600)) * MINUTE_US))
    return np.array(rows)


@cache
def fits() -> tuple[FittedHeads, FittedHeads]:
    """Who calls progresses later, older people leave sooner; the nudge works on older people, the offer on others."""
    x = vectors(_N, 0)
    rng = np.random.default_rng(1)
    calls, age = x[:, CALLS], np.nan_to_num(x[:, AGE], nan=40.0)
    progress = rng.exponential(PERIODS.horizon_us * np.exp(np.minimum(calls, 4.0) - 1.0))
    abandon = rng.exponential(3.0 * PERIODS.horizon_us * np.exp(-(age - 40) / 40))
    course = Course(
        progress=np.where(progress < abandon, progress, np.inf),
        abandon=np.where(abandon < progress, abandon, np.inf),
        observed=np.full(_N, 2.0 * PERIODS.horizon_us),
    )
    course = Course(*(np.where(after <= course.observed, after, np.inf) for after in course[:2]), course.observed)
    cut = 1_600
    slices = [
        Slice(x, rows, Course(*(part[rows] for part in course)), rows) for rows in (np.arange(cut), np.arange(cut, _N))
    ]
    stall = fit_stall(*slices, periods=PERIODS, params=StallParams(boosting=_SMALL), seed=2)
    arm = rng.integers(0, 3, _N)
    gain = np.select([arm == 1, arm == 2], [np.where(age > 50, 0.4, 0.0), np.where(age > 50, 0.0, 0.5)], 0.0)
    uplift = fit_uplift(
        x,
        arm,
        (rng.random(_N) < 0.2 + gain).astype(np.float64),
        outcome_id="paid",
        arm_ids=("no_action", "nudge", "offer"),
        binary=True,
        selection_probability=np.full(_N, 1 / 3),
        params=UpliftParams(response=_SMALL, effect=_SMALL),
        seed=2,
    )
    return stall, uplift.fitted


def bundle(directory: Path) -> Bundle:
    """The trained bundle, written and proven."""
    texts, periods, n_timed = member_texts(fits())
    assert periods is not None
    golden = vectors(32, 3)
    return write_bundle(
        directory,
        lineage=replace(
            lineage(),
            name=NAME,
            journey_id=FEATURES.journey_id,
            feature_names=FEATURES.names,
            features_version=FEATURES.version,
        ),
        fitted=fits(),
        golden_rows=golden,
        golden_raw=lightgbm_raw_scores(list(texts.values()), golden, n_timed=n_timed, n_periods=len(periods)),
    )


@dataclass(frozen=True)
class World:
    """A trained bundle in its folder, and the rulebook it serves."""

    directory: Path
    bundle: Bundle
    rulebook: Rulebook

    @property
    def scorer(self) -> Scorer:
        """As serving has it."""
        return Scorer(self.bundle, self.rulebook.catalogue.priors)

    def decided(self, vector: Floats, number: int = 1, **changes: Any) -> DecisionRecord:
        """A decision on a customer with this vector, recorded and read back."""
        inputs = Inputs(
            decision_id=f"d-{number}",
            vector=vector,
            attributes={},
            holdings=frozenset(),
            context={},
            channel=None,
            records=CustomerRecords(),
            question=question(at=START_AT + 600 * MINUTE_US),
            time_zone="Europe/Amsterdam",
            arm="champion",
        )
        found = deliberate(inputs, self.rulebook, self.scorer)
        digest = self.bundle.manifest_sha256[:12]
        fields: dict[str, Any] = {
            "journey_id": self.rulebook.journey.id,
            "versions": {
                "features": FEATURES.version,
                "bundle": f"{NAME}@champion/1",
                "stall": digest,
                "uplift": digest,
            },
            "vector": tuple(vector.tolist()),
            "stall_propensity": found.stall.stall_propensity,
            "abandon_probability": found.stall.abandon_probability,
            "expected_days_to_progress": found.stall.expected_days_to_progress,
            "candidates": found.candidates,
            "selected": (),
        }
        return load_record(dump_record(decision_records.record(number, **(fields | changes))))


def world(directory: Path) -> World:
    """The world, with its bundle written to a folder that does not exist yet."""
    return World(directory, bundle(directory), book())
