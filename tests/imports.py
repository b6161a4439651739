"""Small imports for tests: a mapping from a dict, files from text, a sink that remembers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.events import JourneyEvent
from features.importing import Importer, ImportResult, Rejects
from features.journeys import Outcome
from features.mapping import Mapping
from features.mapping_fields import Vocabulary
from features.past_decisions import PastDecision
from tests.histories import TAXONOMY

NOW_AT = 1_800_000_000_000_000


class MemorySink:
    """Keeps what an import accepts, and knows what it has."""

    def __init__(self) -> None:
        self.events: list[JourneyEvent] = []
        self.decisions: list[PastDecision] = []
        self._known: set[tuple[str, str]] = set()

    def append_events(self, events: Sequence[JourneyEvent]) -> Sequence[bool]:
        """Keep the new ones."""
        news = []
        for event in events:
            identity = (event.source, event.event_id)
            news.append(identity not in self._known)
            if news[-1]:
                self._known.add(identity)
                self.events.append(event)
        return news

    def append_decisions(self, decisions: Sequence[PastDecision]) -> int:
        """Keep the new ones."""
        known = {decision.decision_id for decision in self.decisions}
        new = [decision for decision in decisions if decision.decision_id not in known]
        self.decisions += new
        return len(new)


def vocabulary() -> Vocabulary:
    """The vocabulary of ``tests.histories``, with one outcome of each type and readable decision ids."""
    outcomes: dict[str, dict[str, Any]] = {
        "paid": {"title": "Paid", "event": "paid", "window": "1d", "value": 10},
        "revenue": {"title": "Revenue", "event": "paid", "window": "1d", "value": 1, "type": "continuous"},
    }
    return Vocabulary(
        taxonomy=TAXONOMY,
        outcomes={name: Outcome.model_validate({"id": name, **fields}) for name, fields in outcomes.items()},
        journeys={"application"},
        treatments={"sms_nudge", "email_nudge"},
        decision_ids=lambda source, request_id, customer_id, at: f"{source}/{request_id}/{customer_id}/{at}",
        latest=NOW_AT,
    )


def mapping_of(*tables: dict[str, Any], time_zone: str | None = None) -> Mapping:
    """A mapping of the given tables; each reads CSV unless it says otherwise."""
    return Mapping.model_validate(
        {
            "version": 1,
            "source": "shop",
            "title": "A test",
            "time_zone": time_zone,
            "tables": [{"format": "csv", **table} for table in tables],
        }
    )


EVENT = {"customer": {"column": "who"}, "at": {"column": "when"}, "kind": {"column": "what"}}
"""The plainest event: columns ``who``, ``when`` and ``what``."""


class Imported:
    """What came of importing files: the result, what was kept, and what was rejected."""

    def __init__(self, result: ImportResult, sink: MemorySink, rejects: Path) -> None:
        self.result = result
        self.events = sink.events
        self.decisions = sink.decisions
        lines = rejects.read_text(encoding="utf-8").splitlines() if rejects.exists() else []
        self.rejects = [json.loads(line) for line in lines]

    @property
    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Accepted, duplicate and rejected by kind of item, where there was any."""
        tallies = {k: (t.accepted, t.duplicate, t.rejected) for k, t in self.result.tallies.items()}
        return {kind: tally for kind, tally in tallies.items() if any(tally)}


def import_files(mapping: Mapping, *paths: Path, rejects: Path, sink: MemorySink | None = None) -> Imported:
    """Import files into memory."""
    sink = MemorySink() if sink is None else sink
    with Rejects(rejects) as rejected:
        importer = Importer(mapping, vocabulary(), sink, rejected)
        for path in paths:
            importer.read(path, lambda path, position: None)
    return Imported(importer.result, sink, rejects)


def file_of(folder: Path, text: str, name: str = "file.csv") -> Path:
    """A file holding a text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
