"""Figures of several worker processes: sums of what adds up, the largest of what does not, nothing of the dead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from serving.shared_figures import SharedFigures


class _Figures(Collector):
    """Of one process."""

    def __init__(self, under_way: float, delay: float, refused: float, bundle: str) -> None:
        self._values = (under_way, delay, refused, bundle)

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        under_way, delay, refused, bundle = self._values
        gauge = GaugeMetricFamily("headway_under_way", "Under way.", labels=("kind",))
        gauge.add_metric(("decisions",), under_way)
        yield gauge
        yield GaugeMetricFamily("headway_commit_delay_seconds", "Delay.", value=delay)
        counter = CounterMetricFamily("headway_refused", "Refused.", labels=("kind",))
        counter.add_metric(("decisions",), refused)
        yield counter
        named = GaugeMetricFamily("headway_bundle_info", "Bundle.", labels=("bundle",))
        named.add_metric((bundle,), 1)
        yield named


def _told(figures: SharedFigures) -> list[str]:
    registry = CollectorRegistry()
    registry.register(figures)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_the_figures_of_all_processes_are_told_together(tmp_path: Path) -> None:
    """Another process that runs left its own; one that has ended counts no more."""
    SharedFigures(tmp_path, [_Figures(2, 0.5, 7, "a@champion/1")]).leave()
    own = tmp_path / f"{os.getpid()}.figures"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        own.rename(tmp_path / f"{other.pid}.figures")
        figures = SharedFigures(tmp_path, [_Figures(3, 0.25, 4, "a@champion/2")])
        together = _told(figures)
        other.communicate(b"\n")
    alone = _told(figures)

    assert sorted(together) == [
        'headway_bundle_info{bundle="a@champion/1"} 1.0',
        'headway_bundle_info{bundle="a@champion/2"} 1.0',
        "headway_commit_delay_seconds 0.5",
        'headway_refused_total{kind="decisions"} 11.0',
        'headway_under_way{kind="decisions"} 5.0',
    ]
    assert alone == [
        'headway_under_way{kind="decisions"} 3.0',
        "headway_commit_delay_seconds 0.25",
        'headway_refused_total{kind="decisions"} 4.0',
        'headway_bundle_info{bundle="a@champion/2"} 1.0',
    ]
    assert [path.name for path in tmp_path.iterdir()] == [own.name]


def test_what_is_no_list_of_figures_is_passed_over(tmp_path: Path) -> None:
    """A file that was cut short does not keep the others from being told."""
    (tmp_path / f"{os.getppid()}.figures").write_bytes(b'[["headway')

    assert len(_told(SharedFigures(tmp_path, [_Figures(3, 0.25, 4, "b")]))) == 4


def test_figures_are_left_and_told_at_the_same_time(tmp_path: Path) -> None:
    """By the thread that leaves them every second, and by the one that somebody asked."""
    figures = SharedFigures(tmp_path, [_Figures(1, 0.5, 2, "a")])

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: _told(figures), range(400)))

    assert all(one == told[0] for one in told)
