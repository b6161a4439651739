"""Training rows never see the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import JourneyEvent
from features.history import whole_table
from features.journeys import Journey
from tests.histories import FEATURES, MINUTE_US, TAXONOMY, arrow_events, event, journey, random_history
from training.dataset import MomentFrame, moment_frame
from training.moments import HOUR_US
from training.params import MomentParams

PARAMS = MomentParams(idle_hours=(1, 6, 24), max_rows=1000)
JOURNEY: Journey = journey()


def frame_of(events: list[JourneyEvent], observed_until: int) -> MomentFrame:
    """The moments of a history."""
    table = whole_table(arrow_events(events), TAXONOMY)
    return moment_frame(table, FEATURES, JOURNEY, observed_until=observed_until, params=PARAMS)


def rows_until(frame: MomentFrame, until: int) -> dict[tuple[str, int], bytes]:
    """Features of the moments that are not later, by customer and time."""
    return {
        (str(customer), int(at)): x.tobytes()
        for customer, at, x in zip(frame.customer_ids, frame.at, frame.x, strict=True)
        if at <= until
    }


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.1, 0.9))
def test_features_do_not_change_with_what_comes_later(seed: int, share: float) -> None:
    """Whatever happens from a moment on, and however it goes, the features of earlier moments stay bit for bit."""
    events = random_history(seed, n_customers=3, n_events=40)
    known = sorted(max(one.occurred_at, one.arrived_at) for one in events)
    cut = known[int(share * (len(known) - 1))]
    until = known[-1] + 60 * 24 * HOUR_US
    past = [one for one in events if max(one.occurred_at, one.arrived_at) < cut]
    # Another future: the same customers do other things, and what arrived later than the cut never arrives.
    future = [
        event(f"f{i}", customer_id=one.customer_id, kind="called", at=cut + i * 10 * MINUTE_US)
        for i, one in enumerate(events[:6])
    ]
    told = rows_until(frame_of(events, until), cut)
    otherwise = rows_until(frame_of([*past, *future], until), cut)
    shared = told.keys() & otherwise.keys()
    assert {key: told[key] for key in shared} == {key: otherwise[key] for key in shared}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_labels_do_not_reach_beyond_the_observation(seed: int) -> None:
    """Cutting the observation short forgets what was not seen yet and changes nothing else."""
    events = [replace(one, arrived_at=one.occurred_at) for one in random_history(seed, n_customers=3, n_events=40)]
    last = max(one.occurred_at for one in events)
    early = last - 12 * HOUR_US
    seen = [one for one in events if one.occurred_at <= early]
    if not seen:
        return
    short, full = frame_of(seen, early), frame_of(events, last)
    labels = dict(zip(keys(full), full.after.progress.tolist(), strict=True))
    for key, progress, observed in zip(keys(short), short.after.progress, short.after.observed, strict=True):
        assert progress == (labels[key] if labels[key] <= observed else np.inf)


def keys(frame: MomentFrame) -> list[tuple[str, int]]:
    """Customer and time of each moment."""
    return list(zip(frame.customer_ids.tolist(), frame.at.tolist(), strict=True))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_share_that_is_kept_consists_of_whole_customers(seed: int) -> None:
    """Too many moments are thinned by customer, so that no customer is cut in two."""
    events = random_history(seed, n_customers=30, n_events=600)
    until = max(one.arrived_at for one in events) + 30 * 24 * HOUR_US
    table = whole_table(arrow_events(events), TAXONOMY)
    full = moment_frame(table, FEATURES, JOURNEY, observed_until=until, params=replace_rows(10**6))
    thinned = moment_frame(table, FEATURES, JOURNEY, observed_until=until, params=replace_rows(1000))
    counts = dict(zip(*np.unique(full.customer_ids, return_counts=True), strict=True))
    for customer, n in zip(*np.unique(thinned.customer_ids, return_counts=True), strict=True):
        assert n == counts[customer]


def replace_rows(max_rows: int) -> MomentParams:
    """The parameters with another bound."""
    return MomentParams(idle_hours=PARAMS.idle_hours, max_rows=max_rows)
