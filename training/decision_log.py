"""The recorded decisions of a journey as arrays: what came of them, and what they would have been under changes.

Each is made again from its own record under every alternative (``models.replayer``). Only reads the home, beside a
service that writes it; the event log is exported into a folder of its own, which is removed.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.errors import CannotReplay
from features.event_export import export_events
from features.event_store import open_event_log
from features.history import whole_table
from features.home import Home
from features.journeys import Journey
from features.kernel import Floats, Integers
from features.schema import feature_set
from models.actions import NO_ACTION, Catalogue
from models.baseline_policies import Arbitrated
from models.configuration import Configuration
from models.configuration_history import ConfigurationHistory
from models.decision import Candidate, DecisionRecord
from models.logged_choices import SUM_TOLERANCE, LoggedChoices
from models.price_files import PriceLists
from models.record_store import SqlRecordStore, open_record_store
from models.registry import LocalRegistry
from models.replayer import Replayer, Scorers, WhatIf
from training.dataset import what_came
from training.snapshot import EVENTS_FILE

RECORDED: Final = "recorded"
"""Names the estimates that the records hold, beside those of the alternatives."""

OTHER_FEATURES: Final = "other_features"
UNDECLARED: Final = "undeclared"
"""Reasons to leave a decision out, beside those of ``models.replayer``: one side cannot read the recorded features, or
what was chosen aims at an outcome that is declared no longer."""

_Words = NDArray[np.str_]


class Option(NamedTuple):
    """What a decision can do: a treatment, for the outcome that its action aims at."""

    action_id: str
    treatment_id: str
    channel: str
    outcome: str


NOTHING: Final = Option(NO_ACTION, NO_ACTION, "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which decisions are asked for: live ones of a journey, the newest first.

    Attributes:
        most: how many at most.
        after: only those with later ids; empty for all.
        since: only those decided from here on, microseconds since the epoch.
        until: only those decided before; None for no bound.
        features: versions of feature sets that both sides read; None where any will do.
        settled: only those whose outcomes are all known by now.
    """

    most: int
    after: str = ""
    since: int = 0
    until: int | None = None
    features: Collection[str] | None = None
    settled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionLog:
    """``n`` decisions among ``m`` options, oldest first.

    Attributes:
        choices: the decisions, what came of them, and what was predicted before.
        options: what the columns are; the first is no action.
        policies: by alternative, ``(n, m)`` probability with which it takes each option; rows sum to 1.
        own: by alternative, ``(n, m)`` its own predicted responses; NaN where it has none.
        own_control: by alternative, ``(n, k)`` likewise under no action.
        outcomes: ids of the ``k`` outcomes.
        decision_ids: ``(n,)``.
        decided_at: ``(n,)`` microseconds since the epoch.
        arms: ``(n,)`` arm of the experiment that each was made in.
        stages: ``(n,)`` stage of the journey, ``unknown`` where there was none.
        arbitrated: what the recorded arbitration had to choose among, by the estimates that it had; what is mandatory,
            and the order of the catalogue, are as the configuration in force says.
        skipped: decisions that were asked for and could not be used, by reason.
    """

    choices: LoggedChoices
    options: tuple[Option, ...]
    policies: Mapping[str, Floats]
    own: Mapping[str, Floats]
    own_control: Mapping[str, Floats]
    outcomes: tuple[str, ...]
    decision_ids: _Words
    decided_at: Integers
    arms: _Words
    stages: _Words
    arbitrated: Arbitrated
    skipped: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.choices)


Probability = Literal["arm_selection_probability", "selection_probability"]

Noted = Callable[[DecisionRecord, Mapping[str, DecisionRecord]], None]
"""Told each decision as it was recorded, and as it is under each alternative, the newest first."""


def decision_log(
    home: Home,
    configuration: Configuration,
    journey: Journey,
    wanted: Wanted,
    alternatives: Mapping[str, WhatIf],
    *,
    predicted_by: Sequence[str] = (RECORDED,),
    probability: Probability = "arm_selection_probability",
    noted: Noted = lambda recorded, made: None,
) -> DecisionLog:
    """The decisions of a journey, made again under every alternative.

    A decision that one alternative cannot make again is left out for all.

    Args:
        home: of the installation; a service may be writing it.
        configuration: that holds for it.
        journey: as declared.
        wanted: which decisions.
        alternatives: by name, what is to be different.
        predicted_by: whose estimates are the predictions, by name or ``RECORDED``: the first that has one. Whoever
            learned from these decisions must not be among them.
        probability: with which the alternatives choose: in the arm that each decision has, or over all arms.
        noted: told each decision that was made again.

    Raises:
        StoreError: a store or a kept file cannot be read.
    """
    outcomes = tuple((one.id, one.type == "binary") for one in journey.outcomes)
    declared = frozenset(name for name, _ in outcomes)
    reduction = _Reduction(tuple(alternatives), tuple(predicted_by), declared, attrgetter(probability))
    if not home.has_records or not home.has_events:
        return _table([], reduction, outcomes, {}, np.zeros(0, dtype=np.str_), configuration.catalogue, Counter())
    with tempfile.TemporaryDirectory(prefix="decisions-", dir=home.state) as folder:
        events = Path(folder) / EVENTS_FILE
        with closing(open_event_log(home, readonly=True)) as log:
            export_events(log, events)
        observed_until = _observed_until(events)
        longest = max((one.window for one in journey.outcomes), default=0)
        with closing(open_record_store(home, readonly=True)) as records:
            decided_until = observed_until - longest if wanted.settled else None
            chosen = _chosen(records, journey.id, wanted, decided_until=decided_until)
            made, skipped = _made_again(home, configuration, chosen, wanted, alternatives, reduction, noted)
        made.reverse()
        people, came = what_came(
            events,
            pa.array([one.decision_id for one in made], pa.string()),
            pa.array([one.customer_id for one in made], pa.string()),
            np.array([one.decided_at for one in made], dtype=np.int64),
            table=whole_table(events, configuration.taxonomy),
            feature_set=feature_set(configuration.taxonomy, journey),
            journey=journey,
            observed_until=observed_until,
        )
    responses = {name: found.value for name, found in came.items()}
    customers = np.array(people.to_pylist(), dtype=np.str_)
    return _table(made, reduction, outcomes, responses, customers, configuration.catalogue, skipped)


def _observed_until(events: Path) -> int:
    """The newest moment that the log knows of."""
    rows = pq.read_table(events, columns=["occurred_at", "arrived_at"])
    if not rows.num_rows:
        return 0
    return max(int(pc.max(rows[name]).cast(pa.int64()).as_py()) for name in rows.column_names)


def _chosen(
    records: SqlRecordStore, journey_id: str, wanted: Wanted, *, decided_until: int | None
) -> Iterator[DecisionRecord]:
    """The decisions that are asked for, newest first; those after ``decided_until`` are not, if it is given."""
    found = 0
    bounds = (wanted.until, None if decided_until is None else decided_until + 1)
    before = min((one for one in bounds if one is not None), default=math.inf)
    for record in chain.from_iterable(records.read_back()):
        if record.decision_id <= wanted.after or found == wanted.most:
            return
        is_asked = record.journey_id == journey_id and record.mode == "live"
        if is_asked and wanted.since <= record.decided_at < before:
            found += 1
            yield record


@dataclass(frozen=True, slots=True)
class _Reduction:
    """What of a decision is kept: a record holds many candidates that nobody could choose.

    Attributes:
        names: of the alternatives.
        predicted_by: whose estimates are the predictions.
        outcomes: ids that are declared.
        chooses: probability with which an alternative chooses a candidate.
    """

    names: tuple[str, ...]
    predicted_by: tuple[str, ...]
    outcomes: frozenset[str]
    chooses: Callable[[Candidate], float]

    def of(self, record: DecisionRecord, made: Mapping[str, DecisionRecord]) -> _Made:
        """A decision as it was recorded, and as it is under each alternative."""
        by_name = {name: {one.treatment_id: one for one in made[name].candidates} for name in self.names}
        recorded = {one.treatment_id: one for one in record.candidates}
        sides = {RECORDED: recorded, **by_name}
        order = (*self.predicted_by, *(name for name in sides if name not in self.predicted_by))
        known = dict.fromkeys(chain(recorded, *by_name.values()))
        offers = {}
        for treatment_id in known:
            told = self._told([sides[name].get(treatment_id) for name in order])
            if told is None or treatment_id == NO_ACTION:
                continue
            own = [by_name[name].get(treatment_id) for name in self.names]
            logged = recorded.get(treatment_id)
            offers[treatment_id] = _Offer(
                told=told,
                recorded=logged if logged is not None and logged.is_scored else None,
                own=tuple(one if one is not None and one.is_scored else None for one in own),
                logged=0.0 if logged is None else logged.selection_probability,
                chosen=tuple(0.0 if one is None else self.chooses(one) for one in own),
            )
        return _Made(
            decision_id=record.decision_id,
            customer_id=record.customer_id,
            decided_at=record.decided_at,
            arm=record.arm,
            stage=record.stage or "unknown",
            first=record.selected[0].treatment_id if record.selected else NO_ACTION,
            none_logged=recorded[NO_ACTION].selection_probability,
            none_chosen=tuple(self.chooses(by_name[name][NO_ACTION]) for name in self.names),
            offers=offers,
        )

    def _told(self, sides: Sequence[Candidate | None]) -> Candidate | None:
        return next((one for one in sides if one is not None and one.is_scored and one.outcome in self.outcomes), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A treatment that somebody could choose.

    Attributes:
        told: its estimates, of the first that has some.
        recorded: the recorded ones, if there are any.
        own: each alternative's, if it has any.
        logged: recorded marginal selection probability.
        chosen: probability with which each alternative chooses it.
    """

    told: Candidate
    recorded: Candidate | None
    own: tuple[Candidate | None, ...]
    logged: float
    chosen: tuple[float, ...]

    @property
    def option(self) -> Option:
        """What it is."""
        return Option(self.told.action_id, self.told.treatment_id, self.told.channel or "", self.told.outcome or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A decision made again.

    Attributes:
        first: the treatment that was chosen.
        none_logged: recorded marginal probability of no action.
        none_chosen: that of each alternative.
        offers: by treatment.
    """

    decision_id: str
    customer_id: str
    decided_at: int
    arm: str
    stage: str
    first: str
    none_logged: float
    none_chosen: tuple[float, ...]
    offers: Mapping[str, _Offer]


def _made_again(
    home: Home,
    configuration: Configuration,
    records: Iterable[DecisionRecord],
    wanted: Wanted,
    alternatives: Mapping[str, WhatIf],
    reduction: _Reduction,
    noted: Noted,
) -> tuple[list[_Made], Counter[str]]:
    """Decisions made again under every alternative, and how many could not be, by reason."""
    history, prices = ConfigurationHistory(home, configuration), PriceLists(home.prices)
    scorers = Scorers(LocalRegistry(home.bundles))
    replayers = {name: Replayer(history, scorers, prices, what_if) for name, what_if in alternatives.items()}
    made: list[_Made] = []
    skipped: Counter[str] = Counter()
    features = wanted.features
    for record in records:
        if features is not None and (record.versions.get("features") not in features or len(features) > 1):
            skipped[OTHER_FEATURES] += 1
            continue
        try:
            again = {name: replayer.replay(record).record for name, replayer in replayers.items()}
            made.append(reduction.of(record, again))
        except CannotReplay as error:
            skipped[error.reason] += 1
        except LookupError:
            skipped[UNDECLARED] += 1
        else:
            noted(record, again)
    return made, skipped


def _table(
    made: Sequence[_Made],
    reduction: _Reduction,
    outcomes: Sequence[tuple[str, bool]],
    responses: Mapping[str, Floats],
    people: _Words,
    catalogue: Catalogue,
    skipped: Counter[str],
) -> DecisionLog:
    """What was made again as arrays, without what does not fit the journey as it is declared."""
    number = {name: place for place, (name, _) in enumerate(outcomes)}
    options: dict[Option, int] = {NOTHING: 0}
    for one in made:
        for offer in one.offers.values():
            options.setdefault(offer.option, len(options))
    n, m, k = len(made), len(options), len(outcomes)
    tables = {name: np.zeros((n, m)) for name in ("logged", "predicted", "value", "incentive", "cost")}
    policies = {name: np.zeros((n, m)) for name in reduction.names}
    own = {name: np.full((n, m), np.nan) for name in reduction.names}
    own_control = {name: np.full((n, k), np.nan) for name in reduction.names}
    control = np.zeros((n, k))
    taken = np.zeros(n, dtype=np.int64)
    binary = np.array([is_binary for _, is_binary in outcomes], dtype=np.bool_)
    fits = np.ones(n, dtype=np.bool_)
    for i, one in enumerate(made):
        if one.first != NO_ACTION and one.first not in one.offers:
            fits[i] = False  # the action's outcome is no longer declared
            continue
        taken[i] = 0 if one.first == NO_ACTION else options[one.offers[one.first].option]
        tables["logged"][i, 0] = one.none_logged
        for name, probability in zip(reduction.names, one.none_chosen, strict=True):
            policies[name][i, 0] = probability
        for offer in one.offers.values():
            told, at = offer.told, options[offer.option]
            aim = number[told.outcome or ""]
            is_binary = bool(binary[aim])
            tables["logged"][i, at] = offer.logged
            tables["predicted"][i, at] = _response(told, is_binary=is_binary)
            tables["value"][i, at] = told.value
            # As in the policy's value: an incentive is paid for each yes, and once for what is a sum.
            tables["incentive"][i, at] = told.incentive_cost if is_binary else 0.0
            tables["cost"][i, at] = told.contact_cost + told.fatigue_cost + told.channel_price
            tables["cost"][i, at] += 0.0 if is_binary else told.incentive_cost
            control[i, aim] = told.control_response
            for name, probability, theirs in zip(reduction.names, offer.chosen, offer.own, strict=True):
                policies[name][i, at] = probability
                if theirs is not None:
                    own[name][i, at] = _response(theirs, is_binary=is_binary)
                    own_control[name][i, aim] = theirs.control_response
    response = np.stack([responses[name] for name, _ in outcomes], axis=1) if outcomes and n else np.zeros((n, k))
    for policy in policies.values():
        fits &= np.abs(policy.sum(axis=1) - 1) <= SUM_TOLERANCE  # it may choose what is declared no longer
    usable = fits & ~np.isnan(response).any(axis=1)
    aims = np.array([0, *(number[one.outcome] for one in list(options)[1:])], dtype=np.int64)
    binary_outcomes = {name for name, is_binary in outcomes if is_binary}
    # Where nothing is predicted, what came of it tells alone: the score stays unbiased whatever stands here.
    control = np.nan_to_num(control)
    if k:
        unknown = np.isnan(tables["predicted"])
        tables["predicted"] = np.where(unknown, control[:, aims], tables["predicted"])
    lost = int((~fits).sum())
    choices = LoggedChoices(
        **tables, taken=taken, control=control, response=response, aim=aims, binary=binary, people=people
    )
    return DecisionLog(
        choices=choices.of(usable),
        options=tuple(options),
        policies={name: policy[usable] for name, policy in policies.items()},
        own={name: predicted[usable] for name, predicted in own.items()},
        own_control={name: predicted[usable] for name, predicted in own_control.items()},
        outcomes=tuple(name for name, _ in outcomes),
        decision_ids=np.array([one.decision_id for one in made], dtype=np.str_)[usable],
        decided_at=np.array([one.decided_at for one in made], dtype=np.int64)[usable],
        arms=np.array([one.arm for one in made], dtype=np.str_)[usable],
        stages=np.array([one.stage for one in made], dtype=np.str_)[usable],
        arbitrated=_arbitrated(made, options, binary_outcomes, catalogue).of(usable),
        skipped=skipped + Counter({UNDECLARED: lost}),
    )


def _arbitrated(
    made: Sequence[_Made], options: Mapping[Option, int], binary: Collection[str], catalogue: Catalogue
) -> Arbitrated:
    """What the recorded arbitrations had to choose among."""
    n, m = len(made), len(options)
    eligible = np.zeros((n, m), dtype=np.bool_)
    eligible[:, 0] = True
    response, net_value = np.full((n, m), np.nan), np.full((n, m), np.nan)
    context_weight_pct, lever_pct = np.zeros((n, m)), np.zeros((n, m))
    net_value[:, 0] = 0.0
    for i, one in enumerate(made):
        for offer in one.offers.values():
            known = offer.recorded
            if known is None:
                continue
            at = options[offer.option]
            eligible[i, at] = True
            response[i, at] = _response(known, is_binary=known.outcome in binary)
            net_value[i, at] = known.net_value
            context_weight_pct[i, at], lever_pct[i, at] = known.context_weight_pct, known.lever_pct
    place = {treatment_id: number for number, treatment_id in enumerate(catalogue.treatment_by_id)}
    required = {one.id for one in catalogue.actions if one.mandatory}
    return Arbitrated(
        eligible=eligible,
        response=response,
        net_value=net_value,
        context_weight_pct=context_weight_pct,
        lever_pct=lever_pct,
        mandatory=np.array([one.action_id in required for one in options], dtype=np.bool_),
        order=np.array([place.get(one.treatment_id, len(place)) for one in options], dtype=np.int64),
    )


def _response(candidate: Candidate, *, is_binary: bool) -> float:
    response = candidate.control_response + candidate.uplift
    return min(max(response, 0.0), 1.0) if is_binary else response
