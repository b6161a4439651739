"""The frozen snapshot: events and decision records up to a watermark, as Parquet that does not move by itself.

``snapshot.json`` names the watermark. Only ``headway snapshot`` and ``headway train`` move it; the pipeline exports the
same rows again and refuses if they are no longer the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from features.duck import connected
from features.durable_files import replace_durably
from features.errors import Refused, UnknownObject
from features.event_export import export_events
from features.event_store import open_event_log
from features.events import dump_timestamp, parse_timestamp
from features.home import FileLock, Home, lock_file
from features.subjects import forget_subjects, write_subjects
from models.configuration import Configuration
from models.record_export import export_records, record_table
from models.record_store import open_record_store

FORMAT: Final = 1
EVENTS_FILE: Final = "events.parquet"
RECORDS_FILE: Final = "decisions.parquet"
_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far a snapshot goes.

    Attributes:
        log_head: position of the last event.
        last_decision_id: id of the last decision; empty where there is none.
        frozen_at: when it was frozen, microseconds since the epoch.
        observed_until: end of observation: the newest event or decision known. What a customer did not do by then is
            not known to be left undone.
    """

    log_head: int
    last_decision_id: str
    frozen_at: int
    observed_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A frozen snapshot.

    Attributes:
        watermark: how far it goes.
        fingerprint: hash of all its rows.
        counts: ``events``, ``customers`` and ``decisions``.
        configuration: versions of the configuration it was frozen under.
    """

    watermark: Watermark
    fingerprint: str
    counts: Mapping[str, int]
    configuration: Mapping[str, str]


def training_lock(home: Home) -> FileLock:
    """The right to write snapshot, frames, candidates and reports of a home, until it is closed.

    Raises:
        HomeLocked: another training runs.
    """
    return lock_file(home.state / "training")


def freeze(home: Home, configuration: Configuration, *, at: int) -> Snapshot:
    """The snapshot of everything that the home holds now; ``snapshot.json`` moves to it.

    Where nothing changed since the last one it stays as it is: the same rows are the same snapshot.

    Args:
        home: holds the events.
        configuration: whose versions it is frozen under.
        at: now, microseconds since the epoch.

    Raises:
        UnknownObject: the home holds no events.
    """
    head = log_head(home)
    if head == 0:
        raise UnknownObject(f"{home.root} holds no events, expected some: run `headway import` first")
    _export(home, head, None)
    snapshot = Snapshot(
        watermark=Watermark(
            log_head=head,
            last_decision_id=_last_decision_id(home.snapshot),
            frozen_at=at,
            observed_until=_observed_until(home.snapshot),
        ),
        fingerprint=fingerprint(home.snapshot),
        counts=_counts(home.snapshot),
        configuration=dict(configuration.versions),
    )
    named = read_snapshot(home)
    if named is not None and replace(named, watermark=snapshot.watermark) == snapshot:
        return named
    _write(home.snapshot_file, snapshot)
    return snapshot


def restore(home: Home, snapshot: Snapshot) -> None:
    """Export the rows of a snapshot again.

    Raises:
        Refused: the home no longer holds the same rows up to the watermark.
    """
    _export(home, snapshot.watermark.log_head, snapshot.watermark.last_decision_id)
    found = fingerprint(home.snapshot)
    if found != snapshot.fingerprint:
        raise Refused(
            f"{home.root} no longer holds the rows that {home.snapshot_file.name} names: fingerprint {found}, "
            f"expected {snapshot.fingerprint}; an import of older decisions or an erasure changed them. Run "
            f"`headway snapshot` to freeze what there is now"
        )


def files_are_there(home: Home) -> bool:
    """Whether the files of the snapshot are there."""
    return all((home.snapshot / name).is_file() for name in (EVENTS_FILE, RECORDS_FILE))


def log_head(home: Home) -> int:
    """Position of the last event; 0 where the home has none."""
    if not home.has_events:
        return 0
    with closing(open_event_log(home, readonly=True)) as log:
        return log.head()


def read_snapshot(home: Home) -> Snapshot | None:
    """The snapshot that ``snapshot.json`` names, if there is one.

    Raises:
        Refused: the file is damaged or of another format.
    """
    try:
        document = json.loads(home.snapshot_file.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Refused(f"{home.snapshot_file} is no JSON: {error}; run `headway snapshot` to write it anew") from error
    try:
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r}, expected {FORMAT}")
        watermark = document["watermark"]
        return Snapshot(
            watermark=Watermark(
                log_head=int(watermark["log_head"]),
                last_decision_id=str(watermark["last_decision_id"]),
                frozen_at=parse_timestamp(watermark["frozen_at"]),
                observed_until=parse_timestamp(watermark["observed_until"]),
            ),
            fingerprint=str(document["fingerprint"]),
            counts={str(name): int(count) for name, count in document["counts"].items()},
            configuration={str(name): str(version) for name, version in document["configuration"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(f"{home.snapshot_file}: {error!r:.200}; run `headway snapshot` to write it anew") from error


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as JSON values, with times as text."""
    watermark = asdict(snapshot.watermark)
    for name in ("frozen_at", "observed_until"):
        watermark[name] = dump_timestamp(watermark[name])
    return {
        "format": FORMAT,
        "watermark": watermark,
        "fingerprint": snapshot.fingerprint,
        "counts": dict(snapshot.counts),
        "configuration": dict(snapshot.configuration),
    }


def fingerprint(folder: Path) -> str:
    """Hash of the rows of a snapshot's files; the files' own bytes depend on the library that wrote them."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (EVENTS_FILE, RECORDS_FILE):
        with pq.ParquetFile(folder / name) as file:
            for batch in file.iter_batches(batch_size=_ROWS):
                digest.update(batch.serialize())
    return digest.hexdigest()


def _export(home: Home, head: int, last_decision_id: str | None) -> None:
    home.snapshot.mkdir(parents=True, exist_ok=True)
    forget_subjects(home.snapshot)
    with closing(open_event_log(home, readonly=True)) as log:
        export_events(log, home.snapshot / EVENTS_FILE, until=head)
    if home.has_records:
        with closing(open_record_store(home, readonly=True)) as store:
            export_records(store, home.snapshot / RECORDS_FILE, until=last_decision_id)
    else:
        pq.write_table(record_table([]), home.snapshot / RECORDS_FILE)
    write_subjects(home.snapshot, _customer_ids(home.snapshot))


def _customer_ids(folder: Path) -> Iterator[str]:
    for name in (EVENTS_FILE, RECORDS_FILE):
        column = pq.read_table(folder / name, columns=["customer_id"])["customer_id"]
        yield from column.unique().to_pylist()


def _last_decision_id(folder: Path) -> str:
    newest = _row("SELECT max(decision_id) FROM read_parquet(?)", folder / RECORDS_FILE)[0]
    return "" if newest is None else str(newest)


def _observed_until(folder: Path) -> int:
    newest = "SELECT epoch_us(max(occurred_at)), epoch_us(max(arrived_at)) FROM read_parquet(?)"
    moments = _row(newest, folder / EVENTS_FILE)
    moments += _row("SELECT epoch_us(max(decided_at)) FROM read_parquet(?)", folder / RECORDS_FILE)
    return max(int(moment) for moment in moments if moment is not None)


def _counts(folder: Path) -> dict[str, int]:
    events, customers = _row("SELECT count(*), count(DISTINCT customer_id) FROM read_parquet(?)", folder / EVENTS_FILE)
    decisions = pq.read_metadata(folder / RECORDS_FILE).num_rows
    return {"events": int(events), "customers": int(customers), "decisions": int(decisions)}


def _row(query: str, file: Path) -> tuple[Any, ...]:
    with connected() as connection:
        row: tuple[Any, ...] | None = connection.execute(query, [str(file)]).fetchone()
    return row or ()


def _write(path: Path, snapshot: Snapshot) -> None:
    replace_durably(path, (json.dumps(snapshot_document(snapshot), indent=1) + "\n").encode())
