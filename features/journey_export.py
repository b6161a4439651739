"""The journeys in the event log under the column names of process mining (XES, IEEE 1849): one case per instance.

Only steps inside an instance leave: from the one that opens it to the one that ends it. Raw text, facts and what the
taxonomy calls ``pii`` do not; of facts only ``resource``, where it is not personal.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import kernel
from features.duck import connected
from features.event_tables import EventTable, event_tables
from features.events import HOLDING_PREFIX, FactValue, fact_problem
from features.history import transitions
from features.journeys import Journey
from features.kernel import Integers
from features.log_files import LogWriter
from features.schema import FeatureSet
from features.taxonomy import BOOKKEEPING, Attribute, AttributeType, Taxonomy

RESOURCE: Final = "resource"
"""The fact that becomes ``org:resource``."""

CASE_COLUMNS: Final = ("case:concept:name", "case:journey", "case:customer")
EVENT_COLUMNS: Final = (
    "concept:name",
    "time:timestamp",
    "lifecycle:transition",
    "org:resource",
    "channel",
    "stage",
    "identity:id",
)
_ARROW: Final[Mapping[AttributeType, pa.DataType]] = {
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "category": pa.string(),
    "text": pa.string(),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    events: int = 0
    cases: int = 0
    customers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRange:
    """Which events are written: those that occurred in ``[since, until)``, microseconds since the epoch."""

    since: float = -np.inf
    until: float = np.inf


def log_schema(taxonomy: Taxonomy) -> pa.Schema:
    """The columns of an exported log: of case and event, then ``case:`` with each attribute that is not ``pii``."""
    columns = [(name, pa.string()) for name in (*CASE_COLUMNS, *EVENT_COLUMNS)]
    typed = [(name, pa.timestamp("us", "UTC") if name == "time:timestamp" else kind) for name, kind in columns]
    attributes = [(f"case:{name}", _ARROW[each.dtype]) for name, each in _impersonal(taxonomy).items()]
    return pa.schema([*typed, *((name, kind) for name, kind in attributes if name not in CASE_COLUMNS)])


def export_journeys(
    events: Path,
    writer: LogWriter,
    *,
    taxonomy: Taxonomy,
    journeys: Sequence[tuple[Journey, FeatureSet]],
    only: ExportRange | None = None,
) -> Exported:
    """Write the cases of journeys, customer by customer, each case's events in their order.

    Args:
        events: an events Parquet, as ``export_events`` writes it.
        writer: takes tables of ``log_schema``.
        taxonomy: the vocabulary of the events.
        journeys: the journeys to write, with their feature sets.
        only: which events; all if None. Cases and stages are told from the whole history either way.

    Raises:
        Refused: an event is of a kind, or over a channel, that the taxonomy does not know.
    """
    only = ExportRange() if only is None else only
    schema = log_schema(taxonomy)
    n_events, n_cases, customers = 0, 0, 0
    for table in (each.lasting for each in event_tables(events, taxonomy)):
        written: set[str] = set()
        for journey, feature_set in journeys:
            rows = _case_rows(table, journey, feature_set, taxonomy, only)
            if not len(rows.rows):
                continue
            columns = _columns(table, rows, journey, taxonomy, _resources(events, table, rows.rows, taxonomy))
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            writer.write(pa.Table.from_arrays(arrays, schema=schema))
            n_events += len(rows.rows)
            n_cases += len(set(columns["case:concept:name"]))
            written.update(str(each) for each in columns["case:customer"])
        customers += len(written)
    return Exported(n_events, n_cases, customers)


@dataclass(frozen=True, slots=True)
class _CaseRows:
    """Rows of a table that belong to cases of one journey.

    Attributes:
        rows: ``(n,)`` of the table, ascending.
        numbers: ``(n,)`` which instance of the customer, from 1.
        opened: ``(n,)`` row that opened the case.
        stages: ``(n,)`` names after the event.
    """

    rows: Integers
    numbers: Integers
    opened: Integers
    stages: Sequence[str]


def _case_rows(
    table: EventTable, journey: Journey, feature_set: FeatureSet, taxonomy: Taxonomy, only: ExportRange
) -> _CaseRows:
    codes, stages = transitions(table, feature_set)
    entered = codes == kernel.ENTERED
    inside = entered | (stages >= 0) | (codes == kernel.GOAL_REACHED) | (codes == kernel.LEFT)
    inside &= ~_is_bookkeeping(taxonomy)[table.events.kind]
    inside &= (table.events.at >= only.since) & (table.events.at < only.until)
    rows = np.flatnonzero(inside)
    openings = np.flatnonzero(entered)
    before_customer = np.searchsorted(openings, table.starts[:-1])
    last_opening = np.searchsorted(openings, rows, side="right")
    return _CaseRows(
        rows=rows,
        numbers=last_opening - before_customer[table.customer_of_row[rows]],
        opened=openings[last_opening - 1],
        stages=_stage_names(journey, taxonomy, codes[rows], stages[rows], table.events.kind[rows]),
    )


def _is_bookkeeping(taxonomy: Taxonomy) -> NDArray[np.bool_]:
    """``(n_kinds,)`` whether a kind only keeps the books: no step that customer or company took."""
    return np.array([kind.role in BOOKKEEPING for kind in taxonomy.all_kinds.values()])


def _stage_names(journey: Journey, taxonomy: Taxonomy, codes: Integers, stages: Integers, kinds: Integers) -> list[str]:
    """The stage after each event: the goal where it is reached, the exit's name where the journey is left."""
    kind_names = tuple(taxonomy.all_kinds)
    exits = {kind: name for name, kinds_of_exit in journey.exits.items() for kind in kinds_of_exit}
    names = []
    for code, stage, kind in zip(codes.tolist(), stages.tolist(), kinds.tolist(), strict=True):
        if code == kernel.GOAL_REACHED:
            names.append(journey.goal.id)
        elif code == kernel.LEFT:
            names.append(exits[kind_names[kind]])
        else:
            names.append(journey.stage_ids[stage])
    return names


def _columns(
    table: EventTable, cases: _CaseRows, journey: Journey, taxonomy: Taxonomy, resources: Mapping[int, str]
) -> dict[str, Sequence[object]]:
    rows = pa.array(cases.rows)
    customers = table.customers.take(pa.array(table.customer_of_row[cases.rows])).to_pylist()
    case_ids = [f"{who}/{journey.id}/{n}" for who, n in zip(customers, cases.numbers.tolist(), strict=True)]
    kinds, channels = tuple(taxonomy.all_kinds), tuple(taxonomy.channels)
    identities = zip(
        case_ids, table.sources.take(rows).to_pylist(), table.event_ids.take(rows).to_pylist(), strict=True
    )
    profiles = _profiles(table, cases.opened, taxonomy)
    columns: dict[str, Sequence[object]] = {
        "case:concept:name": case_ids,
        "case:journey": [journey.id] * len(case_ids),
        "case:customer": customers,
        "concept:name": [kinds[kind] for kind in table.events.kind[cases.rows]],
        "time:timestamp": table.events.at[cases.rows].astype(np.int64).tolist(),
        "lifecycle:transition": ["complete"] * len(case_ids),
        "org:resource": [resources.get(position) for position in table.positions[cases.rows].tolist()],
        "channel": [None if index < 0 else channels[index] for index in table.events.channel[cases.rows]],
        "stage": cases.stages,
        "identity:id": [_identity(*each) for each in identities],
    }
    opened = cases.opened.tolist()
    for name in _impersonal(taxonomy):
        columns.setdefault(f"case:{name}", [profiles[row].get(name) for row in opened])
    return columns


def _identity(case_id: str, source: str, event_id: str) -> str:
    """A UUID of an event in a case, always the same, which tells neither."""
    digest = blake2b(digest_size=16)
    for part in (case_id, source, event_id):
        encoded = part.encode("utf-8")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return str(uuid.UUID(bytes=digest.digest()))


def _profiles(table: EventTable, opened: Integers, taxonomy: Taxonomy) -> dict[int, dict[str, FactValue]]:
    """For each row that opened a case, the customer's attributes by its time; later ones would tell the outcome."""
    known = _impersonal(taxonomy)
    owners = table.customer_of_row[table.profile_rows]
    found: dict[int, dict[str, FactValue]] = {}
    for row in dict.fromkeys(opened.tolist()):
        customer = table.customer_of_row[row]
        first, last = np.searchsorted(owners, [customer, customer + 1])
        profile: dict[str, FactValue] = {}
        for index in range(first, last):
            if table.events.at[table.profile_rows[index]] > table.events.at[row]:
                break
            for name, value in table.profile_facts[index].items():
                is_attribute = name in known and not name.startswith(HOLDING_PREFIX)
                if is_attribute and fact_problem(name, value, known[name]) is None:
                    profile[name] = value
        found[row] = profile
    return found


def _impersonal(taxonomy: Taxonomy) -> dict[str, Attribute]:
    return {name: each for name, each in taxonomy.attributes.items() if not each.pii}


def _resources(events: Path, table: EventTable, rows: Integers, taxonomy: Taxonomy) -> dict[int, str]:
    """The resource of each event that has one, by position, of the kinds where it is not personal."""
    kinds = [
        name
        for name, kind in taxonomy.all_kinds.items()
        if (fact := kind.facts.get(RESOURCE)) is not None and fact.dtype == "text" and not fact.pii
    ]
    if not kinds:
        return {}
    positions = pa.table({"position": table.positions[rows]})
    with connected() as connection:
        connection.register("wanted", positions)
        found = connection.execute(
            "SELECT position, json_extract_string(facts, '$.resource') FROM read_parquet($path) "
            "SEMI JOIN wanted USING (position) WHERE list_contains($kinds, kind)",
            {"path": str(events), "kinds": kinds},
        )
        return {position: text for position, text in found.fetchall() if text}
