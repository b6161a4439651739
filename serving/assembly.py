"""Puts the runtime together over an installation whose stores are open: who is given what, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from features.event_log import EventLog
from features.events import FUTURE_SKEW_US
from features.home import Home
from features.ingest import Ingestor
from features.moments import Moments, SharedMoments
from features.refused_events import MemoryRefusedEvents, RefusedEvents
from features.store import FeatureStore
from features.tracking import Translator
from models.configuration import CONFIG_VARIABLE, Configuration
from models.contact_responses import contact_responses
from models.explanation_requests import ExplanationReply, ExplanationRequest
from models.exposures import exposed_contacts
from models.jobs import Jobs
from models.journey_reports import KeptReports, ReportRequest
from models.price_files import PriceLists
from models.records import RecordStore
from models.registry import LocalRegistry
from models.rulebooks import feature_sets_of
from serving.activations import ActivationDesk
from serving.admission import Admission
from serving.audiences import AudienceDesk
from serving.audit import AuditTrail
from serving.auth import Authenticator, Tokens
from serving.champions import Champions
from serving.child_commands import RunCommand
from serving.configurations import Configurations
from serving.contexts import ContextDesk
from serving.decide import Decider
from serving.decision_desk import TOGETHER, DecisionDesk
from serving.decision_outcomes import DecisionOutcomes
from serving.decision_search import DecisionSearch
from serving.explanations import ExplanationDesk
from serving.figures import Figures
from serving.identities import IdentityDesk
from serving.job_files import JobFiles
from serving.jobs import JobDesk
from serving.journey_reports import ReportDesk
from serving.key_limits import KeyLimits
from serving.keys import KeyFile
from serving.measuring import ExperimentDesk, SimulationDesk
from serving.model_desk import ModelDesk
from serving.observe import Observer
from serving.ofrep import FlagDesk
from serving.outcomes import OutcomeRecorder
from serving.pace import Pace
from serving.prices import Prices
from serving.problems import TOO_MANY
from serving.readiness import ReadinessCheck
from serving.recent_events import RecentEventsDesk
from serving.refusals import Refusals
from serving.replays import ReplayDesk
from serving.reservations import used_shares
from serving.runtime import Runtime
from serving.settings import Settings
from serving.standing import StandingReader
from serving.stored_reports import DriftDesk, EvaluationShelf
from serving.surroundings import Surroundings
from serving.telemetry import Metrics, log_event
from serving.timeline import TimelineDesk
from serving.tracking import TrackingDesk
from serving.workers import WAITING_PER_THREAD, Workers
from serving.workforce import WorkforceDesk
from serving.write_ahead import WriteAheadLogs

ERRANDS: Final = 6
"""One of each kind of command that is run for callers, and a thread to tell the next caller that it has to wait."""


WAIT_SHARE: Final = 0.3
"""Of the deadline, that a decision may be expected to wait: it has to be made and committed too, the wait is guessed,
and an answer that comes too late has cost as much as one in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores of an installation.

    Attributes:
        jobs: kept in the same place as the records.
        are_local: all are files of this machine, or in memory: a read takes microseconds.
        refused: remembers what was refused of what came in.
        are_shared: other processes may write the log.
        files: of those stores that are files, by name.
    """

    log: EventLog
    records: RecordStore
    features: FeatureStore
    jobs: Jobs
    refused: RefusedEvents = field(default_factory=MemoryRefusedEvents)
    are_local: bool = True
    are_shared: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)


def assemble(
    *,
    settings: Settings,
    configuration: Configuration,
    stores: Stores,
    keys: KeyFile,
    tokens: Tokens | None = None,
    champions: Champions,
    challengers: Champions | None = None,
    prices: Prices | None = None,
    metrics: Metrics,
    surroundings: Surroundings,
    kept_reports: KeptReports,
    make_report: Callable[[ReportRequest], bytes],
    home: Home,
    env: Mapping[str, str],
    make_explanation: Callable[[ExplanationRequest], ExplanationReply],
    run_command: RunCommand,
    wake_jobs: Callable[[], None] = lambda: None,
) -> Runtime:
    """The runtime over stores that are open. It owns its threads and nothing else."""
    feature_sets = feature_sets_of(configuration)
    configurations = Configurations(
        configuration=configuration,
        feature_sets=feature_sets,
        home=home,
        env=env,
        clock=surroundings.clock,
        tell_refused=metrics.set_configuration_refused,
    )
    after = _newest_moment(stores, surroundings.clock())
    moments = SharedMoments(stores.log, surroundings.clock, after=after) if stores.are_shared else Moments(after=after)
    ingestor = Ingestor(
        stores.log,
        stores.features,
        feature_sets,
        configuration.taxonomy,
        stores.records.set_consents,
        lambda events: stores.records.confirm_contacts(
            exposed_contacts(events, configurations.in_force.configuration.catalogue)
        ),
        moments,
        lambda events: stores.records.note_responses(
            tuple(contact_responses(events, configuration.taxonomy, configurations.in_force.configuration.catalogue))
        ),
    )
    workers = Workers(settings.threads, timer=surroundings.timer)
    observer = Observer(
        feature_sets=feature_sets,
        store=stores.features,
        log=stores.log,
        rebuild=ingestor.rebuild,
        moments=moments,
        heal=lambda customer_id: workers.later(ingestor.refresh, [customer_id]),
    )
    decider = Decider(
        rulebooks=configurations.rulebooks,
        versions={"service": version("headway")},
        observer=observer,
        moments=moments,
        records=stores.records,
        served_model=champions.served_model,
        challenger=challengers.served_model if challengers is not None else lambda journey_id: None,
        randomness=surroundings.randomness,
        timer=lambda: int(surroundings.timer() * 1_000_000),
        deadline_ms=settings.deadline_ms,
        prices=(lambda journey_id: None) if prices is None else prices.current,
    )
    standings = StandingReader(
        observer=observer,
        taxonomy=configuration.taxonomy,
        journeys=configuration.journeys.by_id,
        feature_sets=feature_sets,
        served_model=champions.served_model,
    )
    decision_outcomes = DecisionOutcomes(
        log=stores.log,
        taxonomy=configuration.taxonomy,
        journeys=configuration.journeys.by_id,
        feature_sets=feature_sets,
    )
    desk = DecisionDesk(
        decider=decider,
        records=stores.records,
        workers=workers,
        pace=Pace(
            most=settings.threads * (1 + WAITING_PER_THREAD),
            longest_wait=WAIT_SHARE * settings.deadline_ms / 1000,
            least=2 * TOGETHER,  # one group of commits on its way to the disk, and the next being made
            timer=surroundings.timer,
        ),
        metrics=metrics,
        surroundings=surroundings,
        is_local=stores.are_local,
    )
    drift = DriftDesk(home.drift_reports, journeys=tuple(configuration.journeys.by_id), clock=surroundings.clock)
    metrics.watch(drift)
    write_ahead = WriteAheadLogs(stores.files)
    outcomes = OutcomeRecorder(records=stores.records, ingest=ingestor, journeys=configuration.journeys.by_id)
    admission = Admission(decisions=desk.pace, others=workers.pace)
    audit = AuditTrail.of(
        home, clock=surroundings.clock, randomness=surroundings.randomness, count_dropped=metrics.count_audit_drops
    )
    key_limits = KeyLimits(surroundings.timer)
    metrics.watch(
        Figures(
            paces={"decisions": desk.pace, "others": workers.pace},
            decisions_waiting=lambda: desk.waiting,
            commits=lambda: stores.records.commits(),
            bundles=champions.labels,
            write_ahead=write_ahead.sizes,
            shed=lambda: admission.refused,
            key_limited=lambda: key_limits.refused,
        )
    )
    jobs = JobDesk(
        jobs=stores.jobs,
        files=JobFiles(home.jobs),
        clock=surroundings.clock,
        randomness=surroundings.randomness,
        most_queued=settings.most_queued_jobs,
        kept_days=settings.jobs_kept_days,
        wake=wake_jobs,
    )
    return Runtime(
        settings=settings,
        authenticator=Authenticator(keys, settings.bootstrap_key, clock=surroundings.clock, tokens=tokens),
        origins=keys.origins,
        audit=audit,
        decider=decider,
        desk=desk,
        ingest=ingestor,
        outcomes=outcomes,
        tracking=TrackingDesk(
            translator=Translator(
                configuration.taxonomy,
                [one for journey in configuration.journeys.journeys for one in journey.outcome_by_id],
            ),
            taxonomy=configuration.taxonomy,
            log=stores.log,
            ingest=ingestor,
            outcomes=outcomes,
        ),
        flags=FlagDesk(lambda: configurations.in_force.configuration),
        recent=RecentEventsDesk(log=stores.log, refused=stores.refused, count_lost=metrics.count_refusals_lost),
        decision_outcomes=decision_outcomes,
        identities=IdentityDesk(
            log=stores.log, ingest=ingestor, taxonomy=configuration.taxonomy, randomness=surroundings.randomness
        ),
        workforce=WorkforceDesk(
            records=stores.records, catalogue=lambda: configurations.in_force.configuration.catalogue
        ),
        capacity_used=lambda: used_shares(
            stores.records,
            configurations.in_force.configuration.policy.capacity,
            surroundings.clock(),
            configuration.taxonomy.time_zone,
        ),
        records=stores.records,
        configurations=configurations,
        replays=ReplayDesk(
            records=stores.records,
            configurations=configurations,
            registry=LocalRegistry(home.bundles),
            prices=PriceLists(home.prices),
        ),
        search=DecisionSearch(records=stores.records, log=stores.log),
        explanations=ExplanationDesk(make_explanation),
        activations=ActivationDesk(
            records=stores.records, log=stores.log, configuration=lambda: configurations.in_force.configuration
        ),
        timelines=TimelineDesk(
            log=stores.log,
            records=stores.records,
            moments=moments,
            taxonomy=configuration.taxonomy,
            standings=standings,
            outcomes=decision_outcomes,
        ),
        contexts=ContextDesk(
            log=stores.log,
            records=stores.records,
            moments=moments,
            taxonomy=configuration.taxonomy,
            standings=standings,
            decider=decider,
        ),
        reports=ReportDesk(
            configuration=lambda: configurations.in_force.configuration,
            head=stores.log.head,
            kept=kept_reports,
            make=make_report,
        ),
        models=ModelDesk(
            root=home.bundles,
            journeys=tuple(configuration.journeys.by_id),
            serving=champions.labels,
            challenging=(lambda: {}) if challengers is None else challengers.labels,
            share=lambda: configurations.in_force.configuration.policy.experiment.challenger,
            fixed_folder=env.get(CONFIG_VARIABLE),
            run=run_command,
            taken_up=lambda: _take_up(champions, challengers, configurations),
        ),
        experiments=ExperimentDesk(
            state=lambda: (
                stores.log.head(),
                stores.records.newest_as_of(),
                configurations.in_force.configuration.version,
            ),
            run=run_command,
        ),
        evaluations=EvaluationShelf(home.evaluation_reports),
        simulations=SimulationDesk(configurations=configurations, run=run_command),
        drift=drift,
        jobs=jobs,
        audiences=AudienceDesk(
            configurations=configurations,
            feature_sets=feature_sets,
            now=lambda: _pinned_moment(stores.log, surroundings.clock()),
            bundles=champions.labels,
            jobs=jobs,
            run=run_command,
        ),
        feature_names={one.version: one.names for one in feature_sets.values()},
        loaded_bundles=champions.labels,
        readiness=ReadinessCheck(lambda: _check(stores), surroundings.timer),
        write_ahead=write_ahead,
        admission=admission,
        refusals=Refusals(
            admission=admission,
            note=lambda rule: audit.note(None, f"{rule.method} {rule.path}", status=TOO_MANY.status, counted=True),
            timer=surroundings.timer,
        ),
        key_limits=key_limits,
        workers=workers,
        errands=Workers(ERRANDS, timer=surroundings.timer),
        metrics=metrics,
        clock=surroundings.clock,
        randomness=surroundings.randomness,
        timer=surroundings.timer,
    )


def _take_up(champions: Champions, challengers: Champions | None, configurations: Configurations) -> None:
    """Let what was promoted decide now, instead of at the next tick."""
    looks = [champions.refresh] if challengers is None else [champions.refresh, challengers.refresh]
    for look in (*looks, configurations.refresh, configurations.refresh):  # a file counts once two find it the same
        try:
            look()
        except Exception as error:  # what was done is done; the next tick looks again
            log_event("refresh_failed", level=logging.ERROR, error=error)


def _pinned_moment(log: EventLog, now: int) -> tuple[int, int]:
    """A moment after everything that has arrived, also where the clock was set back, and the last position by then."""
    head = log.head()
    return max(now, log.arrived_at(head) + 1), head


def _newest_moment(stores: Stores, now: int) -> int:
    """The newest moment that an arrival or a decision was given; said where the clock is far behind it."""
    newest = max(stores.log.arrived_at(stores.log.head()), stores.records.newest_as_of())
    if newest > now + FUTURE_SKEW_US:
        log_event("clock_found_behind", level=logging.WARNING, seconds=round((newest - now) / 1_000_000))
    return newest


def _check(stores: Stores) -> None:
    """Raise ``StoreError`` where a store does not take work. Without the feature store there are still answers."""
    stores.log.head()
    stores.records.decision("")
    stores.log.check_writes()
    stores.records.check_writes()
