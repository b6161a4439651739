"""Command ``headway rank``: everybody in a journey ranked at once, under what is left of capacities and budgets."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from features.errors import Refused, UnknownObject
from features.events import dump_timestamp
from features.home import Home, use_numba_cache
from features.yaml_files import one_of
from models.command_options import moment_option
from models.configuration import Configuration, load_configuration

if TYPE_CHECKING:
    import pyarrow as pa

    from models.batch_observation import Scene
    from models.batch_population import Population
    from models.batch_ranking import Ranking
    from models.prices import PriceList
    from models.ranked_rows import FileFormat

_ID_COLUMN: Final = "customer_id"
_COLUMNS: Final = (
    *("customer_id", "journey_id", "rank", "action_id", "treatment_id", "channel", "priority", "net_value"),
    *("prices_paid", "uplift", "reason", "arm", "as_of", "bundle", "policy_version", "features_version"),
)


class Format(StrEnum):
    """How a ranking is written."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A batch ranking.

    Attributes:
        bundle: label of the bundle that valued the customers.
        left: what was left of each capacity and budget, by id.
    """

    scene: Scene
    population: Population
    ranking: Ranking
    prices: PriceList
    bundle: str | None
    left: Mapping[str, float]


def rank(
    output: Annotated[Path, typer.Option(help="The file to write, .csv, .csv.gz or .parquet.", dir_okay=False)],
    journey: Annotated[str | None, typer.Option(help="The journey; needed where there are several.")] = None,
    customers: Annotated[
        Path | None,
        typer.Option(
            help="Only these customers: a .csv or .parquet file with a column customer_id, or any other file with an "
            "id on each line. Everybody whose journey is open if not given.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="As of this moment: ISO 8601 with an offset; now if not given.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="csv or parquet; as the file's name says if not given.")
    ] = None,
    publishes: Annotated[
        bool, typer.Option("--publish-prices", help="Have decisions subtract the prices of what is scarce.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Rank the next best action of every customer in a journey, for most value under capacities and budgets.

    Every customer goes through the rules and the contact policy of a single decision; the holdout gets no action. The
    home is only read, also while a server runs, but for the prices if they are published. Nothing is contacted: each
    row still needs its decision.
    """
    now = time.time_ns() // 1000
    home = Home.from_environment(os.environ)
    configuration = load_configuration(home, os.environ)
    moment = moment_option("--at", at)
    if moment is not None and publishes:
        raise Refused("--publish-prices was given with --at, expected one of them: prices are those of now")
    if moment is not None and moment > now:
        raise Refused(f"--at: got {at}, expected a moment not after {dump_timestamp(now)}")
    chosen = _chosen(configuration, journey)
    if output.exists() and not force:
        raise Refused(f"--output: {output} exists, expected a new file: choose another name, or add --force")
    wanted = None if customers is None else frozenset(read_customer_ids(customers))
    use_numba_cache(home)
    from features.log_files import LogFormat, format_of

    written_as: LogFormat = format_of(output) if form is None else form.value
    if written_as == "xes":
        raise Refused(f"--output: got {output.name}, expected a name that ends in .csv, .csv.gz or .parquet")
    found = ranked_home(
        home,
        configuration,
        journey_id=chosen,
        at=now if moment is None else moment,
        is_past=moment is not None,
        now=now,
        wanted=wanted,
    )
    write_ranking(found, output, written_as)
    if publishes:
        from models.price_files import publish_prices

        publish_prices(home.prices, found.prices)
    about = {**summary(found), "output": str(output), "published": publishes}
    typer.echo(json.dumps(about, allow_nan=False) if as_json else "\n".join(_lines(about)))


def ranked_home(
    home: Home,
    configuration: Configuration,
    *,
    journey_id: str,
    at: int,
    is_past: bool,
    now: int,
    wanted: frozenset[str] | None = None,
) -> Ranked:
    """Everybody of a home, ranked; the home is only read.

    Args:
        home: the home.
        configuration: its own.
        journey_id: the journey.
        at: as of this moment, microseconds since the epoch.
        is_past: the moment was asked for, and consents are those that the events tell of.
        now: when it is done.
        wanted: any ids of the customers; None for everybody whose journey is open.

    Raises:
        UnknownObject: the home has no events yet.
        BundleError: its champion cannot be used.
        StoreError: a store does not answer, or is damaged.
    """
    from features.event_export import export_events
    from features.event_store import open_event_log
    from models.batch_home import champion_of, opened_records
    from models.batch_observation import Scene, customer_blocks
    from models.batch_population import considered_population, joined
    from models.batch_ranking import constraints_of, price_list, ranking_of
    from models.capacity import capacity_windows
    from models.rulebooks import feature_sets_of, rulebooks_of

    rulebook = rulebooks_of(configuration, feature_sets_of(configuration))[journey_id]
    scorer, bundle = champion_of(home, configuration, rulebook)
    scene = Scene(rulebook=rulebook, scorer=scorer, at=at, is_past=is_past)
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_event_log(home, readonly=True)))
        records = opened_records(home, stack)
        folder = stack.enter_context(TemporaryDirectory(prefix="headway-", dir=home.state))
        events = Path(folder) / "events.parquet"
        export_events(log, events, until=log.head())
        if wanted is not None:
            wanted = frozenset(log.person(one, at=at, known_before=at).customer_id for one in wanted)
        blocks = []
        for asked in customer_blocks(events, scene, wanted=wanted):
            observed = asked()
            graph = log.identities(observed.customer_ids).known_before(at)
            blocks.append(considered_population(observed, scene, graph=graph, records=records))
        population = joined(blocks, scene)
        windows = capacity_windows(rulebook.policy.capacity, at, configuration.taxonomy.time_zone)
        used = records.capacity_used(windows, now=at)
    ranking = ranking_of(population, scene, taken=used)
    given = constraints_of(rulebook, used)
    return Ranked(
        scene=scene,
        population=population,
        ranking=ranking,
        prices=price_list(ranking, scene, bundle=bundle, created_at=now),
        bundle=bundle,
        left=dict(zip(given.ids, given.most.tolist(), strict=True)),
    )


def read_customer_ids(path: Path) -> list[str]:
    """The customer ids in a file, each once, in order.

    Raises:
        Refused: the file has no column of ids, holds none, or cannot be read.
    """
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            found = _parquet_ids(path)
        elif name.endswith(".csv"):
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if _ID_COLUMN not in (rows.fieldnames or ()):
                    raise _no_column(path, rows.fieldnames or ())
                found = [row[_ID_COLUMN] or "" for row in rows]
        else:
            found = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Refused(f"--customers: cannot read {path}: {error}; expected a file of customer ids") from error
    ids = list(dict.fromkeys(one.strip() for one in found if one and one.strip()))
    if not ids:
        raise Refused(f"--customers: {path} holds no customer id, expected at least one")
    return ids


def _parquet_ids(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        if _ID_COLUMN not in names:
            raise _no_column(path, names)
        column = pq.read_table(path, columns=[_ID_COLUMN])[_ID_COLUMN].cast(pa.string())
    except pa.ArrowInvalid as error:
        raise Refused(f"--customers: cannot read {path}: {error}; expected a Parquet file") from error
    return [one or "" for one in column.to_pylist()]


def _no_column(path: Path, names: Any) -> Refused:
    return Refused(f"--customers: {path} has the columns {', '.join(names) or 'none'}, expected {_ID_COLUMN}")


def ranking_schema() -> pa.Schema:
    """Columns of a ranking: one row a customer, those who get an action first, by rank."""
    from models.ranked_rows import schema_of

    return schema_of(_COLUMNS, ("prices_version",))


def write_ranking(found: Ranked, output: Path, form: FileFormat) -> None:
    """Write a ranking to a file, which is seen only once it is whole.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    from models.batch_ranking import reasons_of
    from models.ranked_rows import RankedCustomers, write_rows

    ranked = RankedCustomers(
        scene=found.scene,
        population=found.population,
        ranking=found.ranking,
        reasons=reasons_of(found.population, found.ranking),
        bundle=found.bundle,
        asked_as={},
        more={"prices_version": found.prices.version},
    )
    write_rows(ranked, output, form, ranking_schema())


def summary(found: Ranked) -> dict[str, Any]:
    """What a ranking came to, as ``--json`` prints it."""
    from collections import Counter

    from models.batch_ranking import reasons_of

    allocation = found.ranking.allocation
    reasons = Counter(reason for reason in reasons_of(found.population, found.ranking) if reason is not None)
    return {
        "journey_id": found.scene.rulebook.journey.id,
        "as_of": dump_timestamp(found.scene.at),
        "customers": len(found.population.customer_ids),
        "selected": len(found.population.customer_ids) - sum(reasons.values()),
        "reasons": dict(sorted(reasons.items())),
        "value": allocation.value,
        "net_value": found.ranking.money,
        "bound": allocation.bound,
        "gap": allocation.gap,
        "relative_gap": allocation.relative_gap,
        "is_exact": allocation.is_exact,
        "prices": dict(found.ranking.prices),
        "used": dict(found.ranking.used),
        "left": dict(found.left),
        "version": found.prices.version,
        "valid_until": dump_timestamp(found.prices.valid_until),
        "bundle": found.bundle,
    }


def _lines(about: Mapping[str, Any]) -> Iterator[str]:
    yield f"{about['selected']:,} of {about['customers']:,} customers get an action: {about['output']}"
    for reason, count in about["reasons"].items():
        yield f"  {count:,} get none: {reason}"
    gap = f"{about['gap']:,.2f} ({about['relative_gap']:.2%})"
    yield f"worth {about['value']:,.2f}, at most {gap} below the best possible"
    for name, price in about["prices"].items():
        used, left = about["used"][name], about["left"][name]
        yield f"{name}: {used:,.2f} of {left:,.2f} used, price {price:,.4f}"
    if about["bundle"] is None:
        yield "There is no champion: the catalogue's priors alone value the actions."
    if about["published"]:
        yield f"prices {about['version']} hold until {about['valid_until']}"


def _chosen(configuration: Configuration, journey: str | None) -> str:
    known = list(configuration.journeys.by_id)
    if journey is None:
        if len(known) > 1:
            raise Refused(f"no --journey was given, expected one of {', '.join(known)}")
        return known[0]
    if journey not in known:
        raise UnknownObject(f"--journey: got {journey}, expected {one_of(known, journey)}")
    return journey
