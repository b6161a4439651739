"""The history of drift reports: kept, bounded, and telling nobody the same thing twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from features.home import Home
from training import drift_history
from training.alerts import Delivery, Webhook
from training.drift_history import FORMER_FILE, HISTORY_FILE, append, last_entry, told

WEBHOOK = Webhook("https://alerts.example.com", b"k" * 32)
EFFECT = {"code": "effect.drifted", "subject": "nudge", "text": "changed by +0.2"}


def _document(verdict: str, *reasons: Mapping[str, str], at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {
        "journey_id": "card",
        "at": at,
        "verdict": verdict,
        "reasons": list(reasons),
        "headline": {"verdict": verdict},
        "comparison": "decisions",
    }


class Sender:
    """Takes alerts in place of the network."""

    def __init__(self, status: str = "sent") -> None:
        self.status = status
        self.messages: list[Mapping[str, Any]] = []

    def __call__(self, _: Webhook, message: Mapping[str, Any]) -> Delivery:
        """Take one."""
        self.messages.append(message)
        return Delivery(self.status, 1)


def _statuses(home: Home, sender: Sender, *documents: dict[str, Any]) -> list[str]:
    return [told(home, one, WEBHOOK, sender)["alert"]["status"] for one in documents]


def test_the_same_is_told_once(tmp_path: Path) -> None:
    """Other numbers of the same reasons are no news; another reason is, and so is the same after a quiet report."""
    home, sender = Home(tmp_path), Sender()
    retrain = _document("retrain", EFFECT)
    again = _document("retrain", {**EFFECT, "text": "changed by +0.3"})
    more = _document("retrain", EFFECT, {"code": "limits.saturation", "subject": "", "text": ""})

    statuses = _statuses(home, sender, retrain, again, more, _document("nothing"), retrain)

    assert statuses == ["sent", "unchanged", "sent", "unchanged", "sent"]
    assert [one["data"]["verdict_before"] for one in sender.messages] == [None, "retrain", "nothing"]


def test_what_was_not_delivered_is_told_again(tmp_path: Path) -> None:
    """With the next report, until somebody took it."""
    home, failing, working = Home(tmp_path), Sender("failed"), Sender()
    document = _document("investigate", EFFECT)
    assert _statuses(home, failing, document) == ["failed"]
    assert _statuses(home, working, document, document) == ["sent", "unchanged"]


@pytest.mark.parametrize("verdict", ["nothing", "too few"])
def test_what_calls_for_nothing_is_not_told(tmp_path: Path, verdict: str) -> None:
    """Also where it was something else before."""
    home, sender = Home(tmp_path), Sender()
    assert _statuses(home, sender, _document(verdict)) == ["unchanged"]
    assert sender.messages == []


def test_without_a_webhook_the_report_says_so(tmp_path: Path) -> None:
    """And a webhook that is set later is told what stands by then."""
    home, sender = Home(tmp_path), Sender()
    document = _document("retrain", EFFECT)
    assert told(home, document, None)["alert"] == {"status": "off", "attempts": 0, "detail": ""}
    assert _statuses(home, sender, document) == ["sent"]


def test_every_report_is_in_the_history_and_the_last_in_its_file(tmp_path: Path) -> None:
    """One line each, in order, with the alert."""
    home, sender = Home(tmp_path), Sender()
    _statuses(home, sender, _document("retrain", EFFECT), _document("nothing", at="2026-01-02T00:00:00Z"))
    folder = home.reports / "drift"
    lines = [json.loads(line) for line in (folder / HISTORY_FILE).read_text().splitlines()]
    assert [(one["verdict"], one["alert"]["status"]) for one in lines] == [
        ("retrain", "sent"),
        ("nothing", "unchanged"),
    ]
    assert json.loads((folder / "card.json").read_text())["verdict"] == "nothing"


def test_the_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put aside is still read; what was put aside before is gone."""
    monkeypatch.setattr(drift_history, "LARGEST_BYTES", 200)
    for number in range(20):
        append(tmp_path, {"journey_id": "card" if number < 18 else "loan", "number": number, "text": "x" * 40})
    kept = [
        json.loads(line) for name in (FORMER_FILE, HISTORY_FILE) for line in (tmp_path / name).read_text().splitlines()
    ]
    assert [one["number"] for one in kept] == list(range(20 - len(kept), 20))
    assert len(kept) < 10
    entry = last_entry(tmp_path, "card")
    assert entry is not None
    assert entry["number"] == 17


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    """A crash while writing loses that report's line, and none before or after it."""
    append(tmp_path, {"journey_id": "card", "number": 1})
    with (tmp_path / HISTORY_FILE).open("a") as file:
        file.write('{"journey_id":"card","num')
    assert last_entry(tmp_path, "card") == {"journey_id": "card", "number": 1}
    append(tmp_path, {"journey_id": "card", "number": 2})
    assert last_entry(tmp_path, "card") == {"journey_id": "card", "number": 2}


def test_the_message_says_nothing_of_customers(tmp_path: Path) -> None:
    """Verdict, reasons and headline numbers are all that leaves."""
    home, sender = Home(tmp_path), Sender()
    _statuses(home, sender, {**_document("retrain", EFFECT), "effects": [{"people": ["c-1"]}]})
    assert set(sender.messages[0]) == {"type", "timestamp", "data"}
    assert set(sender.messages[0]["data"]) == {"journey_id", "verdict", "verdict_before", "reasons", "headline"}
