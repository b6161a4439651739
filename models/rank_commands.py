"""Command ``headway rank``: everybody in a journey ranked at once, under what is left of capacities and budgets."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
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

    from models.batch_ranking import Population, Ranking, Scene
    from models.prices import PriceList
    from models.records import RecordStore
    from models.scoring import Scorer

_ROWS_PER_WRITE: Final = 50_000
_ID_COLUMN: Final = "customer_id"


_OWNER_ONLY: Final = 0o600
"""What a customer is worth is nobody else's business."""


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
    from features.log_files import format_of

    written_as = format_of(output) if form is None else form.value
    if written_as not in list(Format):
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
    from models.batch_ranking import (
        Scene,
        considered_population,
        constraints_of,
        observed_customers,
        price_list,
        ranking_of,
    )
    from models.capacity import capacity_windows
    from models.rulebooks import feature_sets_of, rulebooks_of

    rulebook = rulebooks_of(configuration, feature_sets_of(configuration))[journey_id]
    scorer, bundle = _champion(home, rulebook.feature_set.names, configuration, journey_id)
    scene = Scene(rulebook=rulebook, scorer=scorer, at=at, is_past=is_past)
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_event_log(home, readonly=True)))
        records = _opened_records(home, stack)
        folder = stack.enter_context(TemporaryDirectory(prefix="headway-", dir=home.state))
        events = Path(folder) / "events.parquet"
        export_events(log, events, until=log.head())
        if wanted is not None:
            wanted = frozenset(log.person(one, at=at, known_before=at).customer_id for one in wanted)
        blocks = observed_customers(events, scene, wanted=wanted)
        population = considered_population(blocks, scene, log=log, records=records)
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


def _champion(
    home: Home, feature_names: tuple[str, ...], configuration: Configuration, journey_id: str
) -> tuple[Scorer | None, str | None]:
    """The scorer of a journey's champion and its label; None and None where none was promoted."""
    from models.bundle import check_horizon, load_bundle
    from models.registry import CHAMPION, model_name, read_champion
    from models.scoring import Scorer

    pointer = read_champion(home.champion_file, model_name(journey_id))
    if pointer is None:
        return None, None
    bundle = load_bundle(pointer.path, feature_names, manifest_sha256=pointer.manifest_sha256)
    check_horizon(bundle, configuration.journeys.by_id[journey_id].horizon)
    return Scorer(bundle, configuration.catalogue.priors), f"{pointer.name}@{CHAMPION}/{pointer.version}"


def _opened_records(home: Home, stack: ExitStack) -> RecordStore:
    from models.memory_records import MemoryRecordStore
    from models.record_store import open_record_store

    if not home.has_records:
        return MemoryRecordStore()  # nothing was ever decided
    return stack.enter_context(closing(open_record_store(home, readonly=True)))


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
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            pa.field("customer_id", text, nullable=False),
            pa.field("journey_id", text, nullable=False),
            pa.field("rank", pa.int64()),
            pa.field("action_id", text, nullable=False),
            pa.field("treatment_id", text, nullable=False),
            pa.field("channel", text),
            pa.field("priority", number),
            pa.field("net_value", number),
            pa.field("prices_paid", number),
            pa.field("uplift", number),
            pa.field("reason", text),
            pa.field("arm", text, nullable=False),
            pa.field("as_of", text, nullable=False),
            pa.field("bundle", text),
            *(pa.field(f"{name}_version", text, nullable=False) for name in ("policy", "features", "prices")),
        ]
    )


def write_ranking(found: Ranked, output: Path, form: str) -> None:
    """Write a ranking to a file, which is seen only once it is whole.

    Raises:
        StoreUnavailable: the file cannot be written.
    """
    import pyarrow as pa

    from features.log_files import log_writer

    schema = ranking_schema()
    with log_writer(output, "csv" if form == "csv" else "parquet", schema, mode=_OWNER_ONLY) as writer:
        for rows in _rows(found):
            writer.write(pa.Table.from_pylist(rows, schema=schema))


def _rows(found: Ranked) -> Iterator[list[dict[str, object]]]:
    import numpy as np

    from models.actions import NO_ACTION
    from models.allocation import NOTHING
    from models.batch_ranking import reasons_of

    population, ranking, rulebook = found.population, found.ranking, found.scene.rulebook
    reasons = reasons_of(population, ranking)
    choice = ranking.allocation.choice
    chosen = np.flatnonzero(choice != NOTHING)
    chosen = chosen[np.argsort(-ranking.priority[chosen], kind="stable")]
    same = {
        "journey_id": rulebook.journey.id,
        "as_of": dump_timestamp(found.scene.at),
        "bundle": found.bundle,
        "policy_version": rulebook.policy_version,
        "features_version": rulebook.feature_set.version,
        "prices_version": found.prices.version,
    }
    treatments = {
        treatment.id: (action.id, treatment.id, treatment.channel)
        for action in rulebook.catalogue.actions
        for treatment in action.treatments
    }

    def with_action(rank: int, row: int) -> dict[str, object]:
        place = int(population.rows[row])
        action_id, treatment_id, channel = treatments[ranking.treatment_ids[int(choice[row])]]
        return {
            **same,
            "customer_id": population.customer_ids[place],
            "rank": rank,
            "action_id": action_id,
            "treatment_id": treatment_id,
            "channel": channel,
            "priority": float(ranking.priority[row]),
            "net_value": float(ranking.net_value[row]),
            "prices_paid": float(ranking.paid[row]),
            "uplift": float(ranking.uplift[row]),
            "arm": population.arms[place],
        }

    def without(place: int) -> dict[str, object]:
        return {
            **same,
            "customer_id": population.customer_ids[place],
            "action_id": NO_ACTION,
            "treatment_id": NO_ACTION,
            "reason": reasons[place],
            "arm": population.arms[place],
        }

    yield from _in_pages(chosen.tolist(), lambda number, row: with_action(number + 1, row))
    left = [place for place, reason in enumerate(reasons) if reason is not None]
    yield from _in_pages(left, lambda _, place: without(place))


def _in_pages(items: list[int], row_of: Callable[[int, int], dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    for start in range(0, len(items), _ROWS_PER_WRITE):
        page = items[start : start + _ROWS_PER_WRITE]
        yield [row_of(start + number, item) for number, item in enumerate(page)]


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
        "used": dict(zip(found.ranking.prices, allocation.used.tolist(), strict=True)),
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
