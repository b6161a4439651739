"""Frames of features at moments of the past, from file to file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import InvalidInput
from features.feast_layout import STATE_VIEW
from features.history import final_states, reads_at, whole_table
from features.moment_frames import write_moment_frame
from tests.histories import FEATURES, START_AT, TAXONOMY, arrow_events, random_history

UTC = pa.timestamp("us", "UTC")


def _moments(customers: list[str], at: list[int], **more: pa.Array) -> pa.Table:
    return pa.table({"customer_id": pa.array(customers, pa.string()), "at": pa.array(at, pa.int64()).cast(UTC), **more})


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), per_table=st.sampled_from([1, 7, 25, 1_000]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_out_are_rows_in_each_as_of_its_moment(tmp_path: Path, seed: int, n: int, per_table: int) -> None:
    """However the events are cut into tables; for customers without events too, before, between and after others."""
    rng = np.random.default_rng(seed)
    events = arrow_events(random_history(seed))
    customers = [f"{name}é" for name in rng.choice(["a", "c0", "c1", "c2", "c3", "c30", "c4", "d"], n)]
    at = (START_AT + rng.integers(0, 6_000 * 60, n) * 1_000_000).tolist()
    asked = _moments(customers, at, mark=pa.array(range(n), pa.int64()))
    out, states = tmp_path / "frame.parquet", tmp_path / f"{STATE_VIEW}.parquet"

    framed = write_moment_frame(
        events, asked, out, feature_set=FEATURES, taxonomy=TAXONOMY, states=states, events_per_table=per_table
    )

    frame = pq.read_table(out)
    assert (framed.rows, frame.num_rows, framed.events) == (n, n, 60)
    assert frame.column_names == ["customer_id", "at", "mark", *FEATURES.names]
    marks = frame["mark"].to_numpy()
    assert sorted(marks.tolist()) == list(range(n))
    assert frame.select(["customer_id", "at"]).equals(asked.select(["customer_id", "at"]).take(frame["mark"]))
    table = whole_table(events, TAXONOMY)
    expected = reads_at(table, FEATURES, customers, np.array(at, dtype=np.int64))
    found = np.array([frame[name].to_numpy() for name in FEATURES.names]).T.reshape(n, len(FEATURES.names))
    np.testing.assert_array_equal(found, expected[marks])
    last = final_states(table, FEATURES)
    kept = pq.read_table(states)
    assert kept["customer_id"].to_pylist() == last.customers.to_pylist()
    assert kept["last_event_id"].to_pylist() == last.last_event_ids.to_pylist()


def test_only_the_features_that_are_asked_for(tmp_path: Path) -> None:
    """In the order in which they are named, each once."""
    names = ["events_total", "journey_status", "events_total"]
    write_moment_frame(
        arrow_events(random_history(1)),
        _moments(["c0é"], [START_AT]),
        tmp_path / "frame.parquet",
        feature_set=FEATURES,
        taxonomy=TAXONOMY,
        names=names,
    )
    assert pq.read_schema(tmp_path / "frame.parquet").names == ["customer_id", "at", "events_total", "journey_status"]


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        (pa.table({"customer_id": ["c1"]}), "moments.at: expected a column of the moments, which have customer_id"),
        (pa.table({"customer_id": [1], "at": pa.array([0], UTC)}), "moments.customer_id: got 'int64'"),
        (pa.table({"customer_id": ["a"], "at": pa.array([0], pa.timestamp("us"))}), "a column of timestamps with"),
        (_moments(["c1"], [0], events_total=pa.array([1.0])), "moments.events_total"),
        (pa.table({"customer_id": ["a"], "at": pa.array([None], UTC)}), "moments.at: expected a value in every row"),
        (pa.table({"customer_id": pa.array([None], pa.string()), "at": pa.array([0], UTC)}), "moments.customer_id"),
    ],
)
def test_moments_that_cannot_be_read_are_refused(tmp_path: Path, moments: pa.Table, message: str) -> None:
    """Naming the column and what was expected of it; no file is written."""
    events = arrow_events(random_history(1))
    with pytest.raises(InvalidInput) as refused:
        write_moment_frame(events, moments, tmp_path / "f.parquet", feature_set=FEATURES, taxonomy=TAXONOMY)
    assert message in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_feature_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """With a guess at what was meant."""
    with pytest.raises(InvalidInput, match="events_total"):
        write_moment_frame(
            arrow_events([]),
            _moments(["c"], [0]),
            tmp_path / "f.parquet",
            feature_set=FEATURES,
            taxonomy=TAXONOMY,
            names=["events_totl"],
        )
