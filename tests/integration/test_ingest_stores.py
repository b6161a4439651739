"""Ingestion over the embedded stores: concurrent senders, restarts, and consents where decisions look for them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from features.event_store import SqlEventLog
from features.ingest import Ingestor
from features.online import SqliteOnlineStore
from models.record_store import SqlRecordStore
from tests.histories import FEATURE_SETS, MINUTE_US, START_AT, TAXONOMY, event
from tests.unit.features.test_ingest import document

NOW = START_AT + 1_000 * MINUTE_US
CUSTOMERS = ("c1", "c2", "c3")


@contextmanager
def _opened(home: Path) -> Iterator[tuple[Ingestor, SqliteOnlineStore, SqlRecordStore]]:
    with (
        closing(SqlEventLog(home / "events.db")) as log,
        closing(SqliteOnlineStore(home / "online.db", FEATURE_SETS, TAXONOMY)) as store,
        closing(SqlRecordStore(home / "records.db")) as records,
    ):
        yield Ingestor(log, store, FEATURE_SETS, TAXONOMY, records.set_consents, [].extend), store, records


def _is_current(ingestor: Ingestor, store: SqliteOnlineStore) -> bool:
    for customer_id in CUSTOMERS:
        for journey_id in FEATURE_SETS:
            state, profile = ingestor.rebuild(customer_id, journey_id)
            row = store.read(customer_id, journey_id)
            if state is None or row.state is None or row.profile != profile:
                return False
            if (row.state.vector.tobytes(), row.state.order) != (state.vector.tobytes(), state.order):
                return False
            if row.state.log_position != state.log_position:
                return False
    return True


def test_concurrent_senders_end_in_the_fold_of_the_log(tmp_path: Path) -> None:
    """Eight senders, each with late and repeated events of the same customers: every state is whole at the end."""
    rng = random.Random(5)  # noqa: S311  # a test's order, not a secret
    documents = [
        document(
            event(
                f"e-{i}",
                customer_id=rng.choice(CUSTOMERS),
                kind=rng.choice(("visited", "applied", "uploaded", "checked", "profile_updated")),
                at=START_AT + MINUTE_US * rng.randrange(300),
            )
        )
        for i in range(120)
    ]
    accepted: list[int] = []

    def send(seed: int, ingestor: Ingestor) -> None:
        mine = random.Random(seed).sample(documents, 60)  # noqa: S311  # likewise
        for start in range(0, len(mine), 3):
            report = ingestor.ingest(mine[start : start + 3], source="web", arrived_at=NOW)
            accepted.append(report.accepted)

    with _opened(tmp_path) as (ingestor, store, _):
        threads = [threading.Thread(target=send, args=(seed, ingestor)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert _is_current(ingestor, store)
    with _opened(tmp_path) as (ingestor, store, _):
        report = ingestor.ingest(documents, source="web", arrived_at=NOW)
        assert _is_current(ingestor, store)
    assert sum(accepted) + report.accepted == 120
    assert report.duplicates == sum(accepted)


def test_an_objection_is_on_disk_before_the_answer(tmp_path: Path) -> None:
    """The record store, opened again, knows it; so does the profile."""
    facts: dict[str, str | float | bool] = {"consent": "marketing", "state": "objected"}
    with _opened(tmp_path) as (ingestor, _, _):
        ingestor.ingest([document(event("a", kind="consent_changed", facts=facts))], source="web", arrived_at=NOW)
    with _opened(tmp_path) as (_, store, records):
        assert records.customer("c1", since=0, now=NOW).consents == {"marketing": "objected"}
        profile = store.read("c1", "application").profile
        assert profile is not None
        assert profile.consents == {"marketing": "objected"}
