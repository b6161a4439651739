"""What the service tells of itself: one JSON object a line, and counters with few labels."""

from __future__ import annotations

import io
import json
import logging

import pytest

from serving.telemetry import Metrics, configure_logging, log_event


def test_an_entry_is_one_json_object_with_its_fields() -> None:
    """Machines read the log."""
    stream = io.StringIO()
    configure_logging("info", stream)

    log_event("events_taken", accepted=2)

    entry = json.loads(stream.getvalue())
    assert (entry["event"], entry["level"], entry["accepted"]) == ("events_taken", "info", 2)
    assert entry["at"].endswith("Z")


def test_an_error_is_told_by_type_and_place_only() -> None:
    """Its message may hold a customer's data."""
    stream = io.StringIO()
    configure_logging("info", stream)

    try:
        raise ValueError("person-77")
    except ValueError as error:
        log_event("request_failed", level=logging.ERROR, error=error)

    entry = json.loads(stream.getvalue())
    assert entry["error"] == "ValueError"
    assert "test_telemetry.py" in entry["raised_at"][-1]
    assert "person-77" not in stream.getvalue()


def test_entries_below_the_level_are_not_written() -> None:
    """A busy service may be told to be quiet."""
    stream = io.StringIO()
    configure_logging("warning", stream)

    log_event("events_taken", accepted=2)

    assert stream.getvalue() == ""


def test_counters_add_up() -> None:
    """Each result has its own series."""
    metrics = Metrics()

    metrics.count_events(accepted=2, duplicate=1, rejected=0)
    metrics.count_events(accepted=3, duplicate=0, rejected=4)

    lines = metrics.exposition().decode().splitlines()
    assert 'headway_events_total{result="accepted"} 5.0' in lines
    assert 'headway_events_total{result="duplicate"} 1.0' in lines
    assert 'headway_events_total{result="rejected"} 4.0' in lines


def test_calls_of_tracking_sdks_are_counted_with_what_is_not_kept() -> None:
    """Calls by result; calls, properties and traits by reason."""
    metrics = Metrics()

    for _ in range(2):
        metrics.count_calls(accepted=3, duplicate=1, rejected=0, dropped=2, drops={"not_declared": 4})

    lines = metrics.exposition().decode().splitlines()
    assert 'headway_tracking_calls_total{result="accepted"} 6.0' in lines
    assert 'headway_tracking_calls_total{result="dropped"} 4.0' in lines
    assert 'headway_tracking_drops_total{reason="not_declared"} 8.0' in lines


def test_two_registries_do_not_mix() -> None:
    """Each service counts its own."""
    first, second = Metrics(), Metrics()

    first.count_decision(chosen="action", arm="champion", degraded=())

    assert b"headway_decisions_total{" not in second.exposition()


@pytest.mark.parametrize(
    "text", ["r-1\n{}", "r-1\r\n{}", "r-1\u2028{}", "r-1\x0b{}", 'r-1", "level": "error', "\x1b[2J"]
)
def test_nothing_that_somebody_sent_makes_a_line_or_a_field(text: str) -> None:
    """Ids come from callers; an entry is one line of plain characters whatever they hold."""
    stream = io.StringIO()
    configure_logging("info", stream)

    log_event("decision_answered", request_id=text)

    written = stream.getvalue()
    assert written.splitlines() == [written.removesuffix("\n")]
    assert json.loads(written)["request_id"] == text
    assert json.loads(written)["level"] == "info"
    assert "\x1b" not in written
