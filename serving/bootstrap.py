"""The composition root of the service: opens what an installation has, and keeps what it serves fresh.

Importing this imports jitted code: set numba's cache folder first (``features.home.use_numba_cache``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from features.event_store import open_event_log
from features.events import JourneyEvent
from features.home import Home
from features.kernel import new_state
from features.online_stores import open_online_store, open_redis_store
from features.schema import FeatureSet
from features.sqlite_files import Durability
from features.store import FeatureStore
from models.configuration import Configuration, load_configuration
from models.journey_reports import KeptReports
from models.record_store import open_record_store
from models.rulebooks import feature_sets_of
from serving.assembly import Stores, assemble
from serving.audit import write_audit
from serving.champions import Champions, served_bundles
from serving.child_commands import ChildCommands
from serving.explanations import WAITING_AT_MOST, ChildExplanations
from serving.job_files import JobFiles
from serving.job_kinds import KINDS
from serving.job_runner import JobRunner
from serving.journey_reports import ChildReports
from serving.key_use import KeyUse, save_use
from serving.keys import KeyFile
from serving.prices import Prices
from serving.retention import forget_decisions, forget_jobs, forget_texts, in_one_process
from serving.runtime import Runtime
from serving.schemas import DecisionRequest
from serving.settings import Settings, online_lock
from serving.surroundings import Surroundings
from serving.telemetry import Metrics, configure_logging, log_event

if TYPE_CHECKING:
    from serving.tokens import TokenReader

REFRESH_SECONDS: Final = 1.0
"""How soon a promoted bundle decides, and how often the configuration's files are looked at."""


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
    tokens = _token_reader(settings)
    use = KeyUse.of(home)
    with ExitStack() as opened:
        stores = await asyncio.to_thread(_open_stores, opened, home, settings, configuration, feature_sets)
        child = ChildReports(env)
        commands = ChildCommands(env, folder=home.state)
        jobs = JobRunner(
            jobs=stores.jobs,
            files=JobFiles(home.jobs),
            kinds=KINDS,
            env=env,
            clock=surroundings.clock,
            is_alone=not stores.are_shared,
        )
        explaining = ChildExplanations(env, waiting=max(1, min(WAITING_AT_MOST, settings.threads // 4)))
        runtime = assemble(
            settings=settings,
            configuration=configuration,
            stores=stores,
            keys=KeyFile.of(home, use),
            tokens=tokens,
            champions=champions,
            challengers=challengers,
            prices=prices,
            metrics=Metrics(env.get("PROMETHEUS_MULTIPROC_DIR"), processes=settings.workers),
            surroundings=surroundings,
            kept_reports=KeptReports(home.journey_reports),
            make_report=child.made,
            home=home,
            env=env,
            make_explanation=explaining.made,
            run_command=commands.run,
            wake_jobs=jobs.wake,
        )
        opened.callback(runtime.workers.close)
        opened.callback(runtime.errands.close)
        opened.callback(explaining.close)
        opened.callback(commands.close)
        opened.callback(child.close)  # first of all, so that no thread goes on waiting for it
        opened.callback(jobs.close)
        await asyncio.to_thread(prices.refresh)
        if tokens is not None:
            await asyncio.to_thread(tokens.refresh)
        await asyncio.to_thread(_warm_up, runtime, [champions, challengers], configuration, feature_sets)
        jobs.start()
        kept_for = configuration.taxonomy.text_kept
        watching = _beside_requests(
            lambda: _watch(
                [
                    *(champions.refresh, challengers.refresh, prices.refresh),
                    *(runtime.configurations.refresh, runtime.drift.refresh),
                    *(runtime.write_ahead.refresh, runtime.metrics.leave_figures),
                ]
            ),
            lambda: write_audit(runtime.audit),
            lambda: save_use(use),
            *(() if tokens is None else (lambda: _watch([tokens.refresh]),)),
            lambda: in_one_process(
                home.state / "retention",
                lambda: asyncio.gather(
                    forget_texts(stores.log, surroundings.clock, kept_for),
                    forget_decisions(
                        stores.records,
                        surroundings.clock,
                        lambda: runtime.configurations.in_force.configuration.policy.decisions_kept,
                    ),
                    forget_jobs(stores.jobs, JobFiles(home.jobs), surroundings.clock, settings.jobs_kept_days),
                ),
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


def _token_reader(settings: Settings) -> TokenReader | None:
    """What reads tokens, if an issuer is configured; where none is, nothing that checks signatures is even loaded."""
    if settings.oidc_issuer is None:
        return None
    from serving.tokens import token_reader

    return token_reader(settings)


def _open_stores(
    opened: ExitStack,
    home: Home,
    settings: Settings,
    configuration: Configuration,
    feature_sets: Mapping[str, FeatureSet],
) -> Stores:
    durability: Durability = "FULL" if settings.durability == "full" else "NORMAL"
    log = open_event_log(home, durability=durability, identifiers=configuration.taxonomy.identifiers)
    opened.callback(log.close)
    records = open_record_store(home, durability=durability)
    opened.callback(records.close)
    features = _feature_store(home, settings, configuration, feature_sets)
    opened.callback(features.close)
    is_file = settings.database is None and settings.online_store is None
    are_local = is_file and settings.feature_reader == "online"
    are_shared = settings.database is not None
    files = {} if are_shared else {"events": home.events_db, "records": home.records_db}
    if settings.online_store is None:
        files["online"] = home.online_db
    return Stores(
        log=log,
        records=records,
        features=features,
        jobs=records.jobs,
        are_local=are_local,
        are_shared=are_shared,
        files=files,
    )


def _feature_store(
    home: Home, settings: Settings, configuration: Configuration, feature_sets: Mapping[str, FeatureSet]
) -> FeatureStore:
    taxonomy, location = configuration.taxonomy, settings.online_store
    if settings.feature_reader == "online":
        return open_online_store(home, location, feature_sets, taxonomy, lock=online_lock(settings))
    from features.feast_store import FeastStore  # seconds to import: only where it was asked for

    if location is None:
        return FeastStore(home, feature_sets, taxonomy)
    keeper = open_redis_store(home, location, feature_sets, taxonomy)
    return FeastStore(home, feature_sets, taxonomy, online_store=location.feast_config, keeper=keeper)


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


def _beside_requests(*works: Callable[[], Awaitable[object]]) -> asyncio.Future[list[None]]:
    """Do what goes on as long as the service runs; one that fails is said at once, and stops no other.

    Cancelled, it is done once all of them are.
    """
    return asyncio.gather(*map(_said_if_it_fails, works), return_exceptions=True)  # type: ignore[return-value]  # none fails


async def _said_if_it_fails(work: Callable[[], Awaitable[object]]) -> None:
    try:
        await work()
    except Exception as error:
        log_event("background_work_failed", level=logging.ERROR, error=error)


async def _watch(refreshes: Sequence[Callable[[], object]]) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        for refresh in refreshes:
            try:
                await asyncio.to_thread(refresh)
            except Exception as error:  # one look that fails must not be the last one
                log_event("refresh_failed", level=logging.ERROR, error=error)
