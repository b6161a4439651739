"""The check, at each training, that Feast reads what serving will read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import StoreCorrupted
from features.feast_values import FloatRuns
from features.home import Home
from tests.histories import FEATURES, TAXONOMY, arrow_events, random_history
from training.feature_check import FeatureCheck, compared_rows

pytestmark = pytest.mark.filterwarnings(
    "ignore:fetch_arrow_table:DeprecationWarning", "ignore::DeprecationWarning:ibis.*"
)


def _events(folder: Path) -> Path:
    path = folder / "events.parquet"
    pq.write_table(arrow_events(random_history(5)), path)
    return path


def test_the_rows_of_some_customers_are_compared(tmp_path: Path) -> None:
    """One for each customer, all equal."""
    assert compared_rows(_events(tmp_path), {FEATURES.journey_id: FEATURES}, TAXONOMY) == 5


def test_another_meaning_of_the_bytes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were we to read a state otherwise than Feast does, the training would end there."""
    decoded = FloatRuns.decoded

    def shifted(self: FloatRuns, messages: dict[str, bytes]) -> object:
        vector = decoded(self, messages)
        return None if vector is None else vector + 1.0

    monkeypatch.setattr(FloatRuns, "decoded", shifted)
    with pytest.raises(StoreCorrupted, match="our reader and Feast's disagree on the state vector"):
        compared_rows(_events(tmp_path), {FEATURES.journey_id: FEATURES}, TAXONOMY)


def test_a_check_that_cannot_be_made_stops_the_training(tmp_path: Path) -> None:
    """Its last words say why."""
    home = Home(tmp_path / "home").create()
    events = arrow_events(random_history(5))
    strange = events.set_column(events.column_names.index("kind"), "kind", pa.repeat("unheard_of", 60))
    path = tmp_path / "events.parquet"
    pq.write_table(strange, path)
    with (
        FeatureCheck(home, path) as check,
        pytest.raises(StoreCorrupted, match="could not be shown to be equal: the events hold the kind"),
    ):
        check.passed()
