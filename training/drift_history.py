"""What drift reports said over time, one line a report, and who was told of it.

Lines are only ever added. Past a size the file is put aside under another name, in place of the one before: what is
kept is bounded, and the last thousand reports are always among it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from features.errors import StoreUnavailable
from features.home import Home
from training.alerts import Delivery, Webhook, deliver
from training.drift_verdict import INVESTIGATE, RETRAIN
from training.reports import write_json

HISTORY_FILE: Final = "history.jsonl"
FORMER_FILE: Final = "history.1.jsonl"
LARGEST_BYTES: Final = 1 << 21
CHANGED: Final = "drift.verdict_changed"
_HANDLED: Final = ("sent", "unchanged")
_FIELDS: Final = ("journey_id", "at", "verdict", "reasons", "headline", "comparison")

Deliver = Callable[[Webhook, Mapping[str, Any]], Delivery]


def told(
    home: Home, document: Mapping[str, Any], webhook: Webhook | None, send: Deliver | None = None
) -> dict[str, Any]:
    """A report with what became of its alert, once it is written to the history and to its own file.

    An alert is sent where the verdict calls for something, and verdict or reasons are others than in the report before,
    or nobody could be told of those yet.

    Args:
        home: of the installation.
        document: as ``training.drift.drift_step`` gives it.
        webhook: where alerts go; None where nobody is to be told.
        send: in place of ``alerts.deliver``.
    """
    folder = home.reports / "drift"
    before = last_entry(folder, str(document["journey_id"]))
    delivery = _delivery(document, before, webhook, send or _deliver)
    complete = {**document, "alert": asdict(delivery)}
    write_json(folder / f"{document['journey_id']}.json", complete)
    append(folder, {name: complete[name] for name in (*_FIELDS, "alert")})
    return complete


def _delivery(
    document: Mapping[str, Any], before: Mapping[str, Any] | None, webhook: Webhook | None, send: Deliver
) -> Delivery:
    if webhook is None:
        return Delivery("off")
    if document["verdict"] not in (RETRAIN, INVESTIGATE):
        return Delivery("unchanged")
    if before is not None and before["alert"]["status"] in _HANDLED and state(before) == state(document):
        return Delivery("unchanged")
    return send(webhook, message(document, before))


def _deliver(webhook: Webhook, document: Mapping[str, Any]) -> Delivery:
    identity = f"{document['data']['journey_id']} {document['timestamp']}"
    digest = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    return deliver(webhook, document, message_id=f"msg_{digest}")


def message(document: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is sent: the verdict, the one before, and why; nothing of any customer."""
    return {
        "type": CHANGED,
        "timestamp": document["at"],
        "data": {
            "journey_id": document["journey_id"],
            "verdict": document["verdict"],
            "verdict_before": None if before is None else before["verdict"],
            "reasons": document["reasons"],
            "headline": document["headline"],
        },
    }


def state(entry: Mapping[str, Any]) -> tuple[str, frozenset[tuple[str, str]]]:
    """What somebody is told of: the verdict and what it rests on, whatever the numbers are."""
    return entry["verdict"], frozenset((reason["code"], reason["subject"]) for reason in entry["reasons"])


def last_entry(folder: Path, journey_id: str) -> dict[str, Any] | None:
    """The newest line of a journey; None where there is none. A line that was torn by a crash is passed over."""
    for name in (HISTORY_FILE, FORMER_FILE):
        try:
            lines = (folder / name).read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in reversed(lines):
            entry = _parsed(line)
            if entry is not None and entry.get("journey_id") == journey_id:
                return entry
    return None


def append(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add a line.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    path = folder / HISTORY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size >= LARGEST_BYTES:
            path.replace(folder / FORMER_FILE)
        is_torn = _is_torn(path)
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * is_torn + json.dumps(entry, separators=(",", ":"), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreUnavailable(f"cannot write {path}: {error.strerror}; expected a folder with room") from error


def _is_torn(path: Path) -> bool:
    """Whether a crash left a last line without its end."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
