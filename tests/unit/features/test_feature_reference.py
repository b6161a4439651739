"""The reference of features: complete, and the page in the docs is the one that the code gives."""

from __future__ import annotations

import re
from pathlib import Path

from features.feature_reference import feature_page, feature_tables
from features.journeys import Journeys
from features.schema import feature_set
from features.taxonomy import Taxonomy
from features.yaml_files import load_yaml
from tests.histories import FEATURE_SETS, FEATURES

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reference" / "features.md"
DEFAULTS = ROOT / "features" / "defaults"


def test_the_page_in_the_docs_is_current() -> None:
    """The page shows the features of the built-in configuration as the code declares them now."""
    taxonomy = load_yaml(Taxonomy, DEFAULTS / "taxonomy.yaml")
    journeys = load_yaml(Journeys, DEFAULTS / "journeys.yaml").journeys

    page = feature_page([feature_set(taxonomy, journey) for journey in journeys])

    assert PAGE.read_text() == page, "run: headway features list --markdown > docs/reference/features.md"


def test_the_page_has_a_row_per_feature_in_the_order_of_the_vector() -> None:
    """Nothing that a model sees is left out, whatever the journey."""
    rows = [line for line in feature_page(FEATURE_SETS.values()).splitlines() if line.startswith("| `")]

    names = [line.split("`")[1] for line in rows]
    assert names == [name for each in FEATURE_SETS.values() for name in each.names]


def test_the_table_for_the_terminal_says_the_same() -> None:
    """Each line holds name, type, unit, meaning, what NaN means and the source."""
    lines = feature_tables([FEATURES]).splitlines()

    assert lines[0] == f"Journey application: {len(FEATURES.specs)} features, version {FEATURES.version}"
    assert [line.split()[0] for line in lines[2:]] == list(FEATURES.names)
    assert re.split(r" {2,}", lines[2]) == [
        "hours_since_event",
        "number",
        "hours",
        "since the last event of any kind",
        "NaN until it happened",
        "state",
    ]
