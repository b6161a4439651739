"""What the doors work with: opened by the composition root, or put together in memory by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models.records import RecordStore
from serving.activations import ActivationDesk
from serving.admission import Admission
from serving.audit import AuditTrail
from serving.auth import Authenticator
from serving.decision_search import DecisionSearch
from serving.explanations import ExplanationDesk
from serving.jobs import JobDesk
from serving.journey_reports import ReportDesk
from serving.key_limits import KeyLimits
from serving.outcomes import IngestPermitted, OutcomeRecorder
from serving.readiness import ReadinessCheck
from serving.recent_events import RecentEventsDesk
from serving.refusals import Refusals
from serving.schemas import DecisionRequest
from serving.settings import Settings
from serving.stored_reports import DriftDesk, EvaluationShelf
from serving.telemetry import Metrics
from serving.workers import Workers
from serving.workforce import WorkforceDesk
from serving.write_ahead import WriteAheadLogs

# They know states, and with them jitted code, for which the composition root chooses the folder first.
if TYPE_CHECKING:
    from serving.audiences import AudienceDesk
    from serving.configurations import Configurations
    from serving.contexts import ContextDesk
    from serving.decision_desk import DecisionDesk
    from serving.decision_outcomes import DecisionOutcomes
    from serving.identities import IdentityDesk
    from serving.measuring import ExperimentDesk, SimulationDesk
    from serving.model_desk import ModelDesk
    from serving.ofrep import FlagDesk
    from serving.replays import ReplayDesk
    from serving.timeline import TimelineDesk
    from serving.tracking import TrackingDesk


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
        capacity_used: share of each capacity and budget that is taken now, by its id.
        origins: of the pages that publishable keys are for.
        workers: threads for what takes no longer than a request may.
        errands: threads for what waits for other processes, for minutes.
        clock: now, microseconds since the epoch.
        randomness: so many random bytes.
        timer: a monotonic clock, seconds.
    """

    settings: Settings
    authenticator: Authenticator
    origins: Callable[[], frozenset[str]]
    audit: AuditTrail
    decider: Decides
    desk: DecisionDesk
    ingest: IngestPermitted
    outcomes: OutcomeRecorder
    tracking: TrackingDesk
    flags: FlagDesk
    recent: RecentEventsDesk
    decision_outcomes: DecisionOutcomes
    identities: IdentityDesk
    workforce: WorkforceDesk
    capacity_used: Callable[[], Mapping[str, float]]
    records: RecordStore
    search: DecisionSearch
    activations: ActivationDesk
    explanations: ExplanationDesk
    timelines: TimelineDesk
    contexts: ContextDesk
    reports: ReportDesk
    configurations: Configurations
    replays: ReplayDesk
    models: ModelDesk
    experiments: ExperimentDesk
    evaluations: EvaluationShelf
    simulations: SimulationDesk
    drift: DriftDesk
    jobs: JobDesk
    audiences: AudienceDesk
    feature_names: Mapping[str, tuple[str, ...]]
    loaded_bundles: Callable[[], Mapping[str, str | None]]
    readiness: ReadinessCheck
    write_ahead: WriteAheadLogs
    admission: Admission
    refusals: Refusals
    key_limits: KeyLimits
    workers: Workers
    errands: Workers
    metrics: Metrics
    clock: Callable[[], int]
    randomness: Callable[[int], bytes]
    timer: Callable[[], float]
