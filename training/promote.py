"""What the promotion gate looks at: recorded decisions made again with either model, and what came of them.

Only reads the home, beside a service that writes it; the log is exported into a folder of its own, which is removed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import CannotReplay, Refused, UnknownObject
from features.event_export import export_events
from features.event_store import SqlEventLog
from features.history import whole_table
from features.home import Home
from features.journeys import Journey
from features.kernel import Floats
from features.schema import feature_set
from models.actions import NO_ACTION
from models.bundle import load_bundle
from models.configuration import Configuration
from models.configuration_history import ConfigurationHistory
from models.decision import Candidate, DecisionRecord
from models.gate import Comparison, Gate, Verdict, judged
from models.off_policy import Guard
from models.price_files import PriceLists
from models.record_store import SqlRecordStore
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name
from models.replayer import Replayer, Scorers, WhatIf
from training.dataset import what_came
from training.params import GateParams, Params
from training.snapshot import EVENTS_FILE

_Option = tuple[str, str]
"""A treatment, and the outcome that it aims at."""

_NONE: Final[_Option] = (NO_ACTION, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who is compared with whom.

    Attributes:
        name: of the registered model.
        champion: version.
        challenger: version.
        learned_until: id of the last decision that either learned from; empty where none was.
        features: versions of the feature sets that the two read.
    """

    journey: Journey
    name: str
    champion: int
    challenger: int
    learned_until: str
    features: frozenset[str]


def contest(home: Home, configuration: Configuration, journey_id: str | None, version: int | None) -> Contest:
    """The champion of a journey, and the version that is to take its place: the challenger where none is named.

    Raises:
        UnknownObject: there is no such journey, version, champion or challenger.
        Refused: there are several journeys and none was named, or the version is the champion.
        BundleError: a bundle is damaged.
    """
    journey = named_journey(configuration, journey_id)
    registry, name = LocalRegistry(home.bundles), model_name(journey.id)
    champion = registry.alias(name, CHAMPION)
    if champion is None:
        raise UnknownObject(
            f"{name} has no champion to compare with, expected one: `headway train` makes its first bundle that, or "
            f"promote a version with --force --reason"
        )
    challenger = wanted_version(home, journey, version)
    if challenger == champion:
        raise Refused(f"version {challenger} of {name} is the champion already, expected another one")
    lineages = [load_bundle(registry.path(name, one), None).lineage for one in (champion, challenger)]
    return Contest(
        journey=journey,
        name=name,
        champion=champion,
        challenger=challenger,
        learned_until=max(str(one.training.get("last_decision_id") or "") for one in lineages),
        features=frozenset(one.features_version for one in lineages),
    )


def named_journey(configuration: Configuration, journey_id: str | None) -> Journey:
    """A journey by its id; may be left out where there is one.

    Raises:
        UnknownObject: there is no such journey.
        Refused: there are several and none was named.
    """
    known = configuration.journeys.by_id
    if journey_id is None:
        if len(known) != 1:
            raise Refused(f"{len(known)} journeys are declared, expected one to be named: --journey {', '.join(known)}")
        return next(iter(known.values()))
    if journey_id not in known:
        raise UnknownObject(f"the journey {journey_id!r:.100} is not declared, expected one of {', '.join(known)}")
    return known[journey_id]


def wanted_version(home: Home, journey: Journey, version: int | None) -> int:
    """The named version, or the challenger's.

    Raises:
        UnknownObject: there is no such version, or no challenger.
    """
    registry, name = LocalRegistry(home.bundles), model_name(journey.id)
    found = registry.alias(name, CHALLENGER) if version is None else version
    if found is None:
        raise UnknownObject(f"{name} has no challenger, expected one: run `headway train`, or name a --version")
    registry.path(name, found)
    return found


def verdict_on(home: Home, configuration: Configuration, params: Params, contest: Contest) -> Verdict:
    """The gate's verdict on the home's log.

    Args:
        home: of the installation; a service may be writing it.
        configuration: that holds for it.
        params: of the experiment.
        contest: who is compared.

    Raises:
        BundleError: a bundle is damaged or made for other features.
    """
    return judged(comparison(home, configuration, params.gate, contest), gate_of(params))


def gate_of(params: Params) -> Gate:
    """What the parameters ask of a challenger."""
    wanted = params.gate
    return Gate(
        margin=wanted.margin,
        level=wanted.level,
        resamples=wanted.resamples,
        seed=params.seed,
        guard=Guard(
            smallest_ess=wanted.smallest_ess,
            smallest_ess_share=wanted.smallest_ess_share,
            largest_unsupported=wanted.largest_unsupported,
        ),
        smallest_changed=wanted.smallest_changed,
        largest_broken_share=wanted.largest_broken_share,
        largest_skipped_share=wanted.largest_skipped_share,
        calibration=wanted.calibration,
        largest_contact_rise=wanted.largest_contact_rise,
        largest_cost_rise=wanted.largest_cost_rise,
        smallest_group=wanted.smallest_group,
    )


def verdict_document(contest: Contest, verdict: Verdict, gate: Gate) -> dict[str, Any]:
    """A verdict as JSON values, with the thresholds that it was reached by."""
    found = asdict(verdict)
    difference = verdict.difference
    return {
        "name": contest.name,
        "champion": contest.champion,
        "challenger": contest.challenger,
        "promotes": verdict.promotes,
        **found,
        "reasons": [asdict(one) for one in verdict.reasons],
        "difference": None
        if difference is None
        else {"estimate": difference.estimate, "low": difference.low, "high": difference.high},
        "learned_until": contest.learned_until,
        "gate": asdict(gate),
    }


def comparison(home: Home, configuration: Configuration, params: GateParams, contest: Contest) -> Comparison:
    """The decisions made since both models were trained, whose outcomes are known, beside what either would do.

    Decisions that either learned from would flatter it, so they are left out; so are those of other modes than live,
    and those with a window that is not over.
    """
    if not home.records_db.exists() or not home.events_db.exists():
        return _table([], [], {}, np.zeros(0, dtype=np.str_), 0)
    with tempfile.TemporaryDirectory(prefix="promote-", dir=home.state) as folder:
        events = Path(folder) / EVENTS_FILE
        with closing(SqlEventLog(home.events_db, readonly=True)) as log:
            export_events(log, events)
        until = _observed_until(events)
        longest = max((one.window for one in contest.journey.outcomes), default=0)
        with closing(SqlRecordStore(home.records_db, readonly=True)) as records:
            chosen = _chosen(records, contest, decided_until=until - longest, most=params.decisions)
            made, skipped = _made_again(home, configuration, contest, chosen)
        made.reverse()
        people, came = what_came(
            events,
            pa.array([one.decision_id for one in made], pa.string()),
            pa.array([one.customer_id for one in made], pa.string()),
            np.array([one.decided_at for one in made], dtype=np.int64),
            table=whole_table(events, configuration.taxonomy),
            feature_set=feature_set(configuration.taxonomy, contest.journey),
            journey=contest.journey,
            observed_until=until,
        )
    outcomes = [(one.id, one.type == "binary") for one in contest.journey.outcomes]
    responses = {name: found.value for name, found in came.items()}
    return _table(made, outcomes, responses, np.array(people.to_pylist(), dtype=np.str_), skipped)


def _observed_until(events: Path) -> int:
    """The newest moment that the log knows of."""
    rows = pq.read_table(events, columns=["occurred_at", "arrived_at"])
    if not rows.num_rows:
        return 0
    return max(int(pc.max(rows[name]).cast(pa.int64()).as_py()) for name in rows.column_names)


def _chosen(records: SqlRecordStore, contest: Contest, *, decided_until: int, most: int) -> Iterator[DecisionRecord]:
    """The newest decisions that may be compared, newest first."""
    found = 0
    for record in chain.from_iterable(records.read_back()):
        if record.decision_id <= contest.learned_until or found == most:
            return
        if record.journey_id == contest.journey.id and record.mode == "live" and record.decided_at <= decided_until:
            found += 1
            yield record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A treatment that some model could choose.

    Attributes:
        told: its estimates: the challenger's, else the champion's, else the recorded ones.
        own: the challenger's, if it has any.
        logged: recorded marginal selection probability.
        champion: probability with which the champion chooses it.
        challenger: the same of the challenger.
    """

    told: Candidate
    own: Candidate | None
    logged: float
    champion: float
    challenger: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A decision made again with either model: what is kept of it, since a record holds many that none could choose.

    Attributes:
        first: the treatment that was chosen.
        none: probabilities of no action: logged, the champion's and the challenger's.
        offers: by treatment.
    """

    decision_id: str
    customer_id: str
    decided_at: int
    stage: str
    first: str
    none: tuple[float, float, float]
    offers: Mapping[str, _Offer]


def _made_again(
    home: Home, configuration: Configuration, contest: Contest, records: Iterable[DecisionRecord]
) -> tuple[list[_Made], int]:
    """Decisions made again with either model in the champion's place, and how many could not be."""
    history, prices = ConfigurationHistory(home, configuration), PriceLists(home.prices)
    scorers = Scorers(LocalRegistry(home.bundles))
    of_champion, of_challenger = (
        Replayer(history, scorers, prices, WhatIf(bundle=version, as_champion=True))
        for version in (contest.champion, contest.challenger)
    )
    outcomes = frozenset(one.id for one in contest.journey.outcomes)
    made, skipped = [], 0
    for record in records:
        if record.versions.get("features") not in contest.features or len(contest.features) > 1:
            skipped += 1  # one of the two cannot read what was recorded
            continue
        try:
            champion, challenger = (
                {one.treatment_id: one for one in replayer.replay(record).record.candidates}
                for replayer in (of_champion, of_challenger)
            )
            made.append(_reduced(record, champion, challenger, outcomes))
        except (CannotReplay, LookupError):
            skipped += 1
    return made, skipped


def _reduced(
    record: DecisionRecord,
    champion: Mapping[str, Candidate],
    challenger: Mapping[str, Candidate],
    outcomes: frozenset[str],
) -> _Made:
    offers = {}
    for one in record.candidates:
        theirs, ours = champion[one.treatment_id], challenger[one.treatment_id]
        told = next((it for it in (ours, theirs, one) if it.is_scored and it.outcome in outcomes), None)
        if told is not None and one.treatment_id != NO_ACTION:
            offers[one.treatment_id] = _Offer(
                told=told,
                own=ours if ours.is_scored else None,
                logged=one.selection_probability,
                champion=theirs.arm_selection_probability,
                challenger=ours.arm_selection_probability,
            )
    recorded = {one.treatment_id: one for one in record.candidates}[NO_ACTION]
    return _Made(
        decision_id=record.decision_id,
        customer_id=record.customer_id,
        decided_at=record.decided_at,
        stage=record.stage or "unknown",
        first=record.selected[0].treatment_id if record.selected else NO_ACTION,
        none=(
            recorded.selection_probability,
            champion[NO_ACTION].arm_selection_probability,
            challenger[NO_ACTION].arm_selection_probability,
        ),
        offers=offers,
    )


def _table(
    made: Sequence[_Made],
    outcomes: Sequence[tuple[str, bool]],
    responses: Mapping[str, Floats],
    people: np.typing.NDArray[np.str_],
    skipped: int,
) -> Comparison:
    """What was made again as arrays."""
    number = {name: place for place, (name, _) in enumerate(outcomes)}
    options: dict[_Option, int] = {_NONE: 0}
    for one in made:
        for treatment_id, offer in one.offers.items():
            options.setdefault((treatment_id, offer.told.outcome or ""), len(options))
    n, m, k = len(made), len(options), len(outcomes)
    names = ("logged", "champion", "challenger", "predicted", "value", "incentive", "cost")
    tables = {name: np.zeros((n, m)) for name in names}
    own, control, own_control = np.full((n, m), np.nan), np.zeros((n, k)), np.full((n, k), np.nan)
    taken = np.zeros(n, dtype=np.int64)
    binary = np.array([is_binary for _, is_binary in outcomes], dtype=np.bool_)
    fits = np.ones(n, dtype=np.bool_)
    for i, one in enumerate(made):
        if one.first != NO_ACTION and one.first not in one.offers:
            fits[i] = False  # the action's outcome is no longer declared
            continue
        taken[i] = 0 if one.first == NO_ACTION else options[one.first, one.offers[one.first].told.outcome or ""]
        for name, probability in zip(("logged", "champion", "challenger"), one.none, strict=True):
            tables[name][i, 0] = probability
        for treatment_id, offer in one.offers.items():
            told = offer.told
            at, aim = options[treatment_id, told.outcome or ""], number[told.outcome or ""]
            is_binary = bool(binary[aim])
            for name in ("logged", "champion", "challenger"):
                tables[name][i, at] = getattr(offer, name)
            tables["predicted"][i, at] = _response(told, is_binary=is_binary)
            tables["value"][i, at] = told.value
            # As in the policy's value: an incentive is paid for each yes, and once for what is a sum.
            tables["incentive"][i, at] = told.incentive_cost if is_binary else 0.0
            tables["cost"][i, at] = told.contact_cost + told.fatigue_cost + told.channel_price
            tables["cost"][i, at] += 0.0 if is_binary else told.incentive_cost
            control[i, aim] = told.control_response
            if offer.own is not None:
                own[i, at] = _response(offer.own, is_binary=is_binary)
                own_control[i, aim] = offer.own.control_response
    response = np.stack([responses[name] for name, _ in outcomes], axis=1) if outcomes and n else np.zeros((n, k))
    for name in ("champion", "challenger"):
        fits &= np.abs(tables[name].sum(axis=1) - 1) <= 1e-6  # a model may choose what is declared no longer
    usable = fits & ~np.isnan(response).any(axis=1)
    aims = np.array([0, *(number[outcome] for _, outcome in list(options)[1:])], dtype=np.int64)
    # Where nothing is predicted, what came of it tells alone: the score stays unbiased whatever stands here.
    control = np.nan_to_num(control)
    if k:
        unknown = np.isnan(tables["predicted"])
        tables["predicted"] = np.where(unknown, control[:, aims], tables["predicted"])
    lost = int((~fits).sum())
    return Comparison(
        **{name: table[usable] for name, table in tables.items()},
        taken=taken[usable],
        control=control[usable],
        response=response[usable],
        aim=aims,
        binary=binary,
        own=own[usable],
        own_control=own_control[usable],
        people=people[usable],
        groups=np.array([f"stage {one.stage}" for one in made], dtype=np.str_)[usable],
        skipped=skipped + lost,
        decisions=np.array([one.decision_id for one in made], dtype=np.str_)[usable],
        treatments=tuple(treatment for treatment, _ in options),
    )


def _response(candidate: Candidate, *, is_binary: bool) -> float:
    response = candidate.control_response + candidate.uplift
    return min(max(response, 0.0), 1.0) if is_binary else response
