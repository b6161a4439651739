"""The composition root of the service: opens what an installation has and puts the runtime together.

Importing this imports jitted code: set numba's cache folder first (``features.home.use_numba_cache``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from features.errors import StoreError
from features.event_log import EventLog
from features.event_store import SqlEventLog
from features.events import FUTURE_SKEW_US, JourneyEvent
from features.home import Home
from features.ingest import Ingestor
from features.kernel import new_state
from features.moments import Moments
from features.online_stores import open_online_store, open_redis_store
from features.schema import FeatureSet
from features.sqlite_files import Durability
from features.store import FeatureStore
from models.configuration import Configuration, load_configuration
from models.contact_responses import contact_responses
from models.explanation_requests import ExplanationReply, ExplanationRequest
from models.exposures import exposed_contacts
from models.journey_reports import KeptReports, ReportRequest
from models.price_files import PriceLists
from models.record_store import SqlRecordStore
from models.records import RecordStore
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from models.rulebooks import feature_sets_of
from serving.activations import ActivationDesk
from serving.auth import Authenticator, KeyFile
from serving.champions import Champions
from serving.configurations import Configurations
from serving.contexts import ContextDesk
from serving.decide import Decider
from serving.decision_desk import DecisionDesk
from serving.decision_outcomes import DecisionOutcomes
from serving.decision_search import DecisionSearch
from serving.explanations import WAITING_AT_MOST, ChildExplanations, ExplanationDesk
from serving.figures import Figures
from serving.identities import IdentityDesk
from serving.journey_reports import ChildReports, ReportDesk
from serving.observe import Observer
from serving.outcomes import OutcomeRecorder
from serving.pace import Pace
from serving.prices import Prices
from serving.readiness import Readiness
from serving.replays import ReplayDesk
from serving.reservations import used_shares
from serving.retention import forget_decisions
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from serving.settings import Settings
from serving.standing import StandingReader
from serving.surroundings import Surroundings
from serving.telemetry import Metrics, configure_logging, log_event
from serving.timeline import TimelineDesk
from serving.workers import WAITING_PER_THREAD, Workers
from serving.workforce import WorkforceDesk

REFRESH_SECONDS: Final = 1.0
"""How soon a promoted bundle decides, and how often the configuration's files are looked at."""

FORGET_SECONDS: Final = 3_600.0
"""How often texts are looked for that have been kept for long enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The three stores of an installation.

    Attributes:
        are_local: all are files of this machine, or in memory: a read takes microseconds.
    """

    log: EventLog
    records: RecordStore
    features: FeatureStore
    are_local: bool = True


def assemble(
    *,
    settings: Settings,
    configuration: Configuration,
    stores: Stores,
    keys: KeyFile,
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
    moments = Moments(after=_newest_moment(stores, surroundings.clock()))
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
            longest_wait=settings.deadline_ms / 1000,
            timer=surroundings.timer,
        ),
        metrics=metrics,
        surroundings=surroundings,
        is_local=stores.are_local,
    )
    metrics.watch(
        Figures(
            paces={"decisions": desk.pace, "others": workers.pace},
            decisions_waiting=lambda: desk.waiting,
            commits=lambda: stores.records.commits(),
            bundles=champions.labels,
        )
    )
    return Runtime(
        settings=settings,
        authenticator=Authenticator(keys, settings.bootstrap_key),
        decider=decider,
        desk=desk,
        ingest=ingestor,
        outcomes=OutcomeRecorder(records=stores.records, ingest=ingestor, journeys=configuration.journeys.by_id),
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
        feature_names={one.version: one.names for one in feature_sets.values()},
        loaded_bundles=champions.labels,
        readiness=Readiness(lambda: _check(stores), surroundings.timer),
        workers=workers,
        metrics=metrics,
        clock=surroundings.clock,
        randomness=surroundings.randomness,
        timer=surroundings.timer,
    )


@asynccontextmanager
async def open_runtime(env: Mapping[str, str]) -> AsyncIterator[Runtime]:
    """The runtime of the installation that ``env`` describes, warm and ready; closed in order at the end.

    Raises:
        ConfigurationError: settings or configuration are not valid.
        HomeLocked: another process writes the stores.
        StoreError: a store cannot be opened.
    """
    settings = Settings.from_environment(env)
    configure_logging(settings.log_level, sys.stderr)
    home = Home.from_environment(env).create()
    configuration = load_configuration(home, env)
    feature_sets = feature_sets_of(configuration)
    surroundings = Surroundings.of_process()
    champions, challengers = served_bundles(home, configuration, feature_sets)
    prices = Prices(home.prices)
    with ExitStack() as opened:
        stores = await asyncio.to_thread(_open_stores, opened, home, settings, configuration, feature_sets)
        child = ChildReports(env)
        explaining = ChildExplanations(env, waiting=max(1, min(WAITING_AT_MOST, settings.threads // 4)))
        runtime = assemble(
            settings=settings,
            configuration=configuration,
            stores=stores,
            keys=KeyFile.of(home),
            champions=champions,
            challengers=challengers,
            prices=prices,
            metrics=Metrics(env.get("PROMETHEUS_MULTIPROC_DIR")),
            surroundings=surroundings,
            kept_reports=KeptReports(home.journey_reports),
            make_report=child.made,
            home=home,
            env=env,
            make_explanation=explaining.made,
        )
        opened.callback(runtime.workers.close)
        opened.callback(explaining.close)
        opened.callback(child.close)  # first of all, so that no thread goes on waiting for it
        await asyncio.to_thread(prices.refresh)
        await asyncio.to_thread(_warm_up, runtime, [champions, challengers], configuration, feature_sets)
        kept_for = configuration.taxonomy.text_kept
        watching = asyncio.gather(
            _watch([champions.refresh, challengers.refresh, prices.refresh, runtime.configurations.refresh]),
            _forget_texts(stores.log, surroundings.clock, kept_for),
            forget_decisions(
                stores.records,
                surroundings.clock,
                lambda: runtime.configurations.in_force.configuration.policy.decisions_kept,
            ),
        )
        log_event("service_opened", configuration=configuration.version, bundles=champions.labels())
        try:
            yield runtime
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
    log_event("service_closed")


def _open_stores(
    opened: ExitStack,
    home: Home,
    settings: Settings,
    configuration: Configuration,
    feature_sets: Mapping[str, FeatureSet],
) -> Stores:
    durability: Durability = "FULL" if settings.durability == "full" else "NORMAL"
    log = SqlEventLog(home.events_db, durability=durability, identifiers=configuration.taxonomy.identifiers)
    opened.callback(log.close)
    records = SqlRecordStore(home.records_db, durability=durability)
    opened.callback(records.close)
    features = _feature_store(home, settings, configuration, feature_sets)
    opened.callback(features.close)
    are_local = settings.feature_reader == "online" and settings.online_store is None
    return Stores(log=log, records=records, features=features, are_local=are_local)


def _feature_store(
    home: Home, settings: Settings, configuration: Configuration, feature_sets: Mapping[str, FeatureSet]
) -> FeatureStore:
    taxonomy, location = configuration.taxonomy, settings.online_store
    if settings.feature_reader == "online":
        return open_online_store(home, location, feature_sets, taxonomy)
    from features.feast_store import FeastStore  # seconds to import: only where it was asked for

    if location is None:
        return FeastStore(home, feature_sets, taxonomy)
    keeper = open_redis_store(home, location, feature_sets, taxonomy)
    return FeastStore(home, feature_sets, taxonomy, online_store=location.feast_config, keeper=keeper)


def served_bundles(
    home: Home, configuration: Configuration, feature_sets: Mapping[str, FeatureSet]
) -> tuple[Champions, Champions]:
    """What decides for the champion's arm, and for the challenger's."""
    champions, challengers = (
        Champions(
            file,
            feature_names={journey_id: one.names for journey_id, one in feature_sets.items()},
            horizons={journey.id: journey.horizon for journey in configuration.journeys.journeys},
            catalogue=configuration.catalogue,
            alias=alias,
        )
        for alias, file in ((CHAMPION, home.champion_file), (CHALLENGER, home.challenger_file))
    )
    return champions, challengers


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


def _warm_up(
    runtime: Runtime,
    bundles: Sequence[Champions],
    configuration: Configuration,
    feature_sets: Mapping[str, FeatureSet],
) -> None:
    """Load the bundles and run the jitted code once: its first call takes seconds. Nothing is stored."""
    for one in bundles:
        one.refresh()
    at = runtime.clock()
    for journey_id, features in feature_sets.items():
        features.fold(new_state(features.plan), _any_event(features, at))
        request = DecisionRequest(request_id="warm-up", customer_id="warm-up", journey_id=journey_id, mode="dry_run")
        runtime.decider.decide(request, source="warm-up", now=at)


def _any_event(features: FeatureSet, at: int) -> JourneyEvent:
    kind = next(iter(features.kind_index))
    return JourneyEvent(
        source="warm-up",
        event_id="warm-up",
        customer_id="warm-up",
        kind=kind,
        occurred_at=at,
        arrived_at=at,
        sequence=0,
        day=0,
    )


async def _forget_texts(
    log: EventLog, clock: Callable[[], int], kept_for: int, *, pause_seconds: float = FORGET_SECONDS
) -> None:
    """Forget raw texts once their time is over; a log that does not answer is asked again an hour later."""
    while True:
        try:
            forgotten = await asyncio.to_thread(log.forget_texts, arrived_before=clock() - kept_for)
        except StoreError as error:
            log_event("texts_not_forgotten", error=error)
        else:
            if forgotten:
                log_event("texts_forgotten", texts=forgotten)
        await asyncio.sleep(pause_seconds)


async def _watch(refreshes: Sequence[Callable[[], object]]) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        for refresh in refreshes:
            try:
                await asyncio.to_thread(refresh)
            except Exception as error:  # one look that fails must not be the last one
                log_event("refresh_failed", level=logging.ERROR, error=error)
