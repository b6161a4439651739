"""What is under way at the moment when somebody looks: measured at the look, so that no request pays for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from features.commit_figures import CommitFigures
from serving.admission import Kind
from serving.pace import Pace


class Figures(Collector):
    """Gauges of a running service.

    Args:
        paces: by kind of request.
        decisions_waiting: how many requests wait for their turn.
        commits: of the record store.
        bundles: label of the bundle that decides for each journey; None where there is none.
        write_ahead: bytes of the write-ahead log of each store that is a file.
        shed: how many were refused for what others wait for, by kind.
        key_limited: how many were refused for the limit of their key.
    """

    def __init__(
        self,
        *,
        paces: Mapping[str, Pace],
        decisions_waiting: Callable[[], int],
        commits: Callable[[], CommitFigures],
        bundles: Callable[[], Mapping[str, str | None]],
        write_ahead: Callable[[], Mapping[str, int]],
        shed: Callable[[], Mapping[Kind, int]],
        key_limited: Callable[[], int],
    ) -> None:
        self._paces = paces
        self._decisions_waiting = decisions_waiting
        self._commits = commits
        self._bundles = bundles
        self._write_ahead = write_ahead
        self._shed = shed
        self._key_limited = key_limited

    def collect(self) -> Iterator[Metric]:
        """All gauges now."""
        under_way = GaugeMetricFamily("headway_under_way", "Requests begun and not answered.", labels=("kind",))
        expected = GaugeMetricFamily("headway_expected_wait_seconds", "Wait of one more request.", labels=("kind",))
        refused = CounterMetricFamily("headway_refused", "Requests refused for the backlog.", labels=("kind",))
        for kind, pace in self._paces.items():
            under_way.add_metric((kind,), pace.under_way)
            expected.add_metric((kind,), pace.expected_wait)
            refused.add_metric((kind,), pace.refused)
        for shed, count in self._shed().items():
            refused.add_metric((shed,), count)
        limited = "Requests refused for the limit of their key."
        yield CounterMetricFamily("headway_key_limited", limited, value=self._key_limited())
        yield from (under_way, expected, refused)
        yield _gauge("headway_decisions_waiting", "Decisions that wait for their turn.", self._decisions_waiting())
        commits = self._commits()
        yield CounterMetricFamily("headway_commit_groups", "Transactions of the record store.", value=commits.groups)
        yield CounterMetricFamily("headway_commits", "Pieces of work in those transactions.", value=commits.jobs)
        yield _gauge("headway_commits_waiting", "Pieces of work that nobody has begun to write.", commits.waiting)
        yield _gauge("headway_commit_delay_seconds", "Age of the oldest not yet on disk.", commits.delay_seconds)
        bundle = GaugeMetricFamily("headway_bundle_info", "The bundle of each journey.", labels=("journey", "bundle"))
        for journey_id, label in self._bundles().items():
            bundle.add_metric((journey_id, label or "none"), 1)
        yield bundle
        write_ahead = GaugeMetricFamily("headway_write_ahead_bytes", "Write-ahead log.", labels=("store",))
        for store, size in self._write_ahead().items():
            write_ahead.add_metric((store,), size)
        yield write_ahead


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=value)
