"""Feast's objects and configuration, as pure functions of feature sets, taxonomy and home.

Feast takes seconds to import, switches prometheus_client to its multi-process mode and changes how sqlite3 binds
datetimes: it is imported inside the functions, and only by processes that call them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.feast_layout import (
    CREATED_TIME,
    CUSTOMER_KEY,
    EVENT_TIME,
    JOURNEY_KEY,
    PROFILE_VIEW,
    PROJECT,
    STATE_VIEW,
    ColumnType,
    layout,
)
from features.home import Home
from features.schema import FeatureSet
from features.taxonomy import Taxonomy

if TYPE_CHECKING:
    from feast import FeatureView, RepoConfig


def import_feast() -> None:
    """Import Feast without the run-time type checks that it asks typeguard for.

    typeguard rewrites the source of each of its 240 classes and functions: 9 of the 13 s that the import took, against
    3.5 s without. Whoever uses Feast here is checked before it runs.
    """
    if "feast" in sys.modules:
        return
    try:
        typeguard: Any = importlib.import_module("typeguard")
    except ImportError:  # Feast may do without it one day
        return
    checked = typeguard.typechecked
    typeguard.typechecked = _unchecked
    try:
        import feast  # noqa: F401  # for what the import does
    finally:
        typeguard.typechecked = checked


def _unchecked(target: Any = None, **options: object) -> Any:
    """In the place of ``typeguard.typechecked``: gives back what it decorates."""
    return target if target is not None else _unchecked


def offline_file(home: Home, view: str) -> Path:
    """The Parquet file of a view's history."""
    return home.offline / f"{view}.parquet"


def feast_objects(home: Home, feature_sets: Iterable[FeatureSet], taxonomy: Taxonomy) -> list[Any]:
    """The entities and views to register: every journey's states in one view, since arrays have a length per row."""
    import_feast()
    from feast import Entity, ValueType

    columns = layout(feature_sets, taxonomy)
    customer = Entity(name="customer", join_keys=[CUSTOMER_KEY], value_type=ValueType.STRING, description="A customer.")
    journey = Entity(
        name="journey", join_keys=[JOURNEY_KEY], value_type=ValueType.STRING, description="A declared journey."
    )
    state_keys = {CUSTOMER_KEY: customer, JOURNEY_KEY: journey}
    return [
        customer,
        journey,
        _view(home, STATE_VIEW, state_keys, columns.state, "Folded state of a customer in one journey."),
        _view(
            home,
            PROFILE_VIEW,
            {CUSTOMER_KEY: customer},
            columns.profile,
            "What is known of a customer besides.",
        ),
    ]


def repo_config(home: Home, *, online_store: Mapping[str, Any] | None = None) -> RepoConfig:
    """Feast's configuration for a home.

    Args:
        home: where the registry, the history and the online store are.
        online_store: another online store than the home's SQLite file, as Feast's configuration writes it.
    """
    import_feast()
    from feast import RepoConfig

    return RepoConfig(
        project=PROJECT,
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{home.registry_db.absolute()}"},
        offline_store={"type": "duckdb"},
        online_store=dict(online_store or {"type": "sqlite", "path": str(home.online_db.absolute())}),
        entity_key_serialization_version=3,
    )


def _view(
    home: Home, name: str, entities: Mapping[str, Any], columns: Mapping[str, ColumnType], description: str
) -> FeatureView:
    from feast import FeatureView, Field, FileSource
    from feast.types import String

    source = FileSource(
        name=f"{name}_history",
        path=str(offline_file(home, name).absolute()),
        timestamp_field=EVENT_TIME,
        created_timestamp_column=CREATED_TIME,
    )
    types = _feast_types()
    return FeatureView(
        name=name,
        entities=list(entities.values()),
        # A state does not expire: the kernel reads every feature as of the moment that is asked.
        ttl=timedelta(0),
        schema=[
            *(Field(name=key, dtype=String) for key in entities),
            *(Field(name=column, dtype=types[kind]) for column, kind in columns.items()),
        ],
        source=source,
        online=True,
        description=description,
    )


def _feast_types() -> dict[ColumnType, Any]:
    from feast.types import Array, Bool, Float64, Int64, String

    return {
        "floats": Array(Float64),
        "texts": Array(String),
        "text": String,
        "integer": Int64,
        "number": Float64,
        "boolean": Bool,
    }
