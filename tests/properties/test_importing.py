"""Whatever stands in a file, an import ends with counts that add up; whatever stands in YAML, it is judged."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.mapping import Mapping
from features.yaml_files import read_yaml
from tests.imports import EVENT, import_files, mapping_of

_CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["c1", "c2", "visited", "paid", "2025-01-01T00:00:00Z", "2025-01-01", "12.5", "-1", "nan", "1e999"]
    ),
)
_MAPPING = mapping_of({"events": [{**EVENT, "facts": {"amount": {"column": "amount"}}}]})
_KEYS = st.sampled_from(["version", "source", "title", "tables", "format", "events", "kind", "at", "column", "oops"])
_DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(_CELLS, min_size=1, max_size=5), max_size=8))
def test_every_row_of_any_table_is_accounted_for(rows: list[list[str]]) -> None:
    """Each row gives an event that is kept or known, or is rejected with a reason; nothing raises, nothing is lost."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["who", "when", "what", "amount"])
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))

        imported = import_files(_MAPPING, path, rejects=Path(folder) / "rejects.jsonl")

    result = imported.result
    tally = result.tallies["events"]
    malformed = len({entry["row"] for entry in imported.rejects if entry["field"] == "row"})
    assert result.problems == []
    assert result.rows == tally.accepted + tally.duplicate + tally.rejected + malformed
    assert tally.accepted == len(imported.events)
    assert len({entry["row"] for entry in imported.rejects}) == result.rows_rejected == tally.rejected + malformed


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=60), _DOCUMENTS.map(json.dumps)))
def test_any_text_is_a_model_or_has_problems(text: str) -> None:
    """Reading YAML never raises for what the text says: there is a value, or there are problems with a file."""
    loaded = read_yaml(Mapping, text, file="mapping.yaml")

    assert (loaded.value is None) == bool(loaded.problems)
    assert {problem.file for problem in loaded.problems} <= {"mapping.yaml"}
