"""What the doors work with: opened by the composition root, or put together in memory by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models.records import RecordStore
from serving.auth import Authenticator
from serving.journey_reports import ReportDesk
from serving.outcomes import Ingest, OutcomeRecorder
from serving.readiness import Readiness
from serving.schemas import DecisionRequest
from serving.settings import Settings
from serving.telemetry import Metrics
from serving.workers import Workers

if TYPE_CHECKING:  # they know states, so jitted code, for which the composition root chooses the folder first
    from serving.decision_desk import DecisionDesk
    from serving.identities import IdentityDesk


class Decides(Protocol):
    """The one use case behind both doors."""

    def decide(self, request: DecisionRequest, *, source: str, now: int) -> bytes:
        """The answer as JSON, recorded before it is returned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Everything that a request needs.

    Attributes:
        feature_names: names of the model vector by version of the feature set.
        loaded_bundles: label of the bundle that decides for each journey now; None where there is none.
        clock: now, microseconds since the epoch.
        randomness: so many random bytes.
        timer: a monotonic clock, seconds.
    """

    settings: Settings
    authenticator: Authenticator
    decider: Decides
    desk: DecisionDesk
    ingest: Ingest
    outcomes: OutcomeRecorder
    identities: IdentityDesk
    records: RecordStore
    reports: ReportDesk
    feature_names: Mapping[str, tuple[str, ...]]
    loaded_bundles: Callable[[], Mapping[str, str | None]]
    readiness: Readiness
    workers: Workers
    metrics: Metrics
    clock: Callable[[], int]
    randomness: Callable[[int], bytes]
    timer: Callable[[], float]
