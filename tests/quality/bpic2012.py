"""BPI Challenge 2012 through the shipped mapping: will the offer be accepted, and who stalls."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import xgboost
from numpy.typing import NDArray

from features.history import EventTable, reads_at, whole_table
from features.home import HOME_VARIABLE, Home
from features.journeys import Journey
from features.schema import FeatureSet, feature_set
from models.boosting import Boosting
from models.configuration import Configuration, load_configuration
from models.metrics import auc, bootstrap_interval, brier, calibration_slope, ece
from models.scoring import scorer_of
from models.stall import Happened, StallParams, fit_forecast
from tests.benchmarks.report import Measure
from tests.quality.learners import Floats, Integers
from tests.quality.measures import Bounds, told, versus
from tests.quality.setting import FILES, Setting
from training.dataset import MomentFrame, moment_frame
from training.fit_stall import fitted_stall
from training.params import load_params
from training.snapshot import EVENTS_FILE, freeze

TITLE: Final = "BPI Challenge 2012"
METHOD: Final = """\
The log goes through the shipped mapping. **Offer accepted**: 4,685 applications whose last offer was accepted
(2,243), cancelled (1,640) or declined (802); one row after each moment with events, up to the 40th event, strictly
before the application or its last offer was decided; events of one time are seen together. The applications are cut
by time of submission, the first 80 % to learn from and the last 20 % to be judged on; both models stop on the last
quarter of the former. XGBoost sees aggregated prefixes, as in the literature: counts per activity and per resource,
the last of both, the amount, times since the first and the last event, hour and weekday. Ours sees the features that
decisions are made on. AUC over all rows, with a 95 % interval of the difference by bootstrap over applications, and
as published: per prefix length, weighted by rows. Published for XGBoost and aggregated prefixes: .699 (Teinemaa et
al. 2019, with other cuts: not comparable digit by digit). **Stall**: no progress within the journey's 7 days, at
every event and idle checkpoint, cut by time; the baseline knows the stage only, and says its share of the training
rows.
"""
MAPPING: Final = "bpic2012"
LONGEST_PREFIX: Final = 40
DECIDED: Final = ("o_accepted", "o_cancelled", "o_declined")
ENDED: Final = ("a_approved", "a_registered", "a_activated", "a_declined", "a_cancelled")
HOURS: Final = (0, 6, 24, 96, 336)
_HOUR_US: Final = 3_600_000_000
_QUICK_CASES: Final = 1_500


class Prefixes(NamedTuple):
    """One row for each moment at which an application is looked at.

    Attributes:
        case: ``(n,)`` index into the table's customers.
        at: ``(n,)`` microseconds, just after the newest event seen.
        length: ``(n,)`` events seen.
        row: ``(n,)`` row of the newest event seen.
        accepted: ``(n,)`` 1 where the last offer was accepted.
        started_at: ``(n,)`` of the application.
    """

    case: Integers
    at: Integers
    length: Integers
    row: Integers
    accepted: Floats
    started_at: Integers

    def where(self, chosen: NDArray[np.bool_]) -> Prefixes:
        """Only the chosen rows."""
        return Prefixes(*(column[chosen] for column in self))


def measures(setting: Setting) -> list[Measure]:
    """The gates of the log."""
    with TemporaryDirectory(prefix="headway-quality-") as folder:
        home, configuration, observed_until = _imported(setting, Path(folder))
        events = home.snapshot / EVENTS_FILE
        table = whole_table(events, configuration.taxonomy)
        (journey,) = configuration.journeys.journeys
        features = feature_set(configuration.taxonomy, journey)
        accepted = _offer_accepted(table, features, list(configuration.taxonomy.all_kinds), _resources(table, events))
        frame = moment_frame(table, features, journey, observed_until=observed_until, params=load_params().moments)
    return [*accepted, *_stall(frame, features, journey)]


def _imported(setting: Setting, folder: Path) -> tuple[Home, Configuration, int]:
    """A home with the log and a frozen snapshot of it."""
    path = setting.file(FILES["bpic2012"][0])
    if setting.quick:
        first = gzip.decompress(path.read_bytes()).split(b"</trace>", _QUICK_CASES)[:_QUICK_CASES]
        path = folder / "bpic2012.xes"
        path.write_bytes(b"</trace>".join(first) + b"</trace></log>")
    home = Home(folder / "home")
    command = [sys.executable, "-c", "from features.cli import main; main()", "import", "--mapping", MAPPING, str(path)]
    subprocess.run(command, env={**os.environ, HOME_VARIABLE: str(home.root)}, stdout=sys.stderr, check=True)
    configuration = load_configuration(home, {})
    snapshot = freeze(home, configuration, at=4_000_000_000_000_000)
    return home, configuration, snapshot.watermark.observed_until


# ---- offer accepted


def _offer_accepted(table: EventTable, features: FeatureSet, kinds: list[str], resource: Integers) -> list[Measure]:
    rows = _prefixes(table, kinds)
    cut = np.quantile(np.unique(np.column_stack([rows.case, rows.started_at]), axis=0)[:, 1], 0.8)
    train, test = rows.where(rows.started_at < cut), rows.where(rows.started_at >= cut)

    def ours(part: Prefixes) -> Floats:
        customers = table.customers.take(pa.array(part.case)).cast(pa.string())
        return reads_at(table, features, customers, part.at)

    aggregated = _aggregated(table, len(kinds), resource)
    scores = outcome_scores(ours(train), train, ours(test))
    theirs = _xgboost_scores(aggregated(train), train, aggregated(test))
    weighted = {name: _by_length(test, found) for name, found in (("ours", scores), ("theirs", theirs))}
    apart = bootstrap_interval(
        lambda drawn: auc(test.accepted[drawn], scores[drawn]) - auc(test.accepted[drawn], theirs[drawn]),
        len(test.case),
        clusters=test.case,
        seed=1,
    )
    found = [
        _not_below("offer accepted, XGBoost on aggregated prefixes", test.accepted, scores, theirs, test.case),
        told("offer accepted: difference of AUC", apart.estimate, unit="AUC", bounds=(apart.low, apart.high)),
        versus("offer accepted, weighted over prefix lengths", weighted["ours"], weighted["theirs"], unit="AUC"),
    ]
    for low, high in ((1, 13), (14, 20), (21, 30), (31, 40)):
        part = (test.length >= low) & (test.length <= high)
        if 0 < test.accepted[part].sum() < part.sum():
            pair = (auc(test.accepted[part], score[part]) for score in (scores, theirs))
            found.append(versus(f"offer accepted, events {low} to {high}", *pair, unit="AUC"))
    found += [
        versus(f"offer accepted: {name}", of(test.accepted, scores), of(test.accepted, theirs), unit=unit)
        for name, unit, of in (("Brier", "", brier), ("ECE", "", ece), ("calibration slope", "", calibration_slope))
    ]
    return found


def outcome_scores(x: Floats, train: Prefixes, new: Floats) -> Floats:
    """Probability of the declared outcome for new rows, by the product's forecast, calibrated on the latest rows."""
    early, late = _last_quarter(train)
    params = load_params().stall
    fitted = fit_forecast(
        x,
        *(Happened(part, train.accepted[part], train.case[part]) for part in (early, late)),
        outcome_id="accepted",
        params=StallParams(
            boosting=Boosting(**params.forecast.model_dump()),
            max_features=params.max_features,
            max_rows=params.max_rows,
        ),
        seed=1,
    )
    return scorer_of([fitted], x.shape[1]).customers(new).forecast_block(["accepted"])[:, 0]


def _xgboost_scores(x: Floats, train: Prefixes, new: Floats) -> Floats:
    """The depth of the trees is chosen by the same loss that stops them."""
    early, late = _last_quarter(train)
    models = []
    for depth in (3, 4, 6):
        model = xgboost.XGBClassifier(
            n_estimators=500,
            learning_rate=0.05,
            max_depth=depth,
            min_child_weight=20,
            subsample=0.8,
            colsample_bytree=0.5,
            early_stopping_rounds=40,
            eval_metric="logloss",
            n_jobs=1,
            random_state=1,
        )
        models.append(
            model.fit(x[early], train.accepted[early], eval_set=[(x[late], train.accepted[late])], verbose=False)
        )
    best = min(models, key=lambda model: float(model.best_score))
    probability: Floats = best.predict_proba(new)[:, 1].astype(np.float64)
    return probability


def _last_quarter(rows: Prefixes) -> tuple[Integers, Integers]:
    cut = np.quantile(rows.started_at, 0.75)
    return np.flatnonzero(rows.started_at < cut), np.flatnonzero(rows.started_at >= cut)


def _prefixes(table: EventTable, kinds: list[str]) -> Prefixes:
    kind, at = table.events.kind, table.events.at
    decided = np.isin(kind, [kinds.index(name) for name in DECIDED])
    over = np.isin(kind, [kinds.index(name) for name in ENDED])
    found = []
    for case in range(len(table.customers)):
        rows = np.arange(table.starts[case], table.starts[case + 1])
        offers = rows[decided[rows]]
        if not offers.size:
            continue
        ends = min(at[offers[-1]], *(at[rows[over[rows]]].tolist() or [np.inf]))
        accepted = float(kind[offers[-1]] == kinds.index("o_accepted"))
        is_last_of_time = np.r_[np.diff(at[rows]) > 0, True]
        for length in np.flatnonzero(is_last_of_time & (at[rows] < ends)) + 1:
            if length <= LONGEST_PREFIX:
                row = rows[length - 1]
                found.append((case, int(at[row]) + 1, length, row, accepted, int(at[rows[0]])))
    columns = np.array(found, dtype=np.float64).T
    case, moment, length, row, accepted, started_at = columns
    whole = (column.astype(np.int64) for column in (case, moment, length, row))
    return Prefixes(*whole, accepted, started_at.astype(np.int64))


def _resources(table: EventTable, events: Path) -> Integers:
    """``(n_events,)`` code of the resource of each event of the table; the last code is unknown."""
    rows = duckdb.sql(
        f"SELECT event_id, json_extract_string(facts, '$.resource') AS resource FROM '{events}'"  # noqa: S608  # own file
    ).fetchnumpy()
    by_id = dict(zip(rows["event_id"].tolist(), rows["resource"].tolist(), strict=True))
    names = [str(by_id.get(one)) for one in table.event_ids.to_pylist()]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _aggregated(table: EventTable, n_kinds: int, resource: Integers) -> Callable[[Prefixes], Floats]:
    """What the literature calls aggregation encoding, as a function of rows."""
    kind, at = table.events.kind, table.events.at
    n_resources = int(resource.max()) + 1
    amount = np.full(len(table.customers), np.nan)
    for row, facts in zip(table.profile_rows.tolist(), table.profile_facts, strict=True):
        if "amount_requested" in facts:
            amount[table.customer_of_row[row]] = float(facts["amount_requested"])

    def encoded(part: Prefixes) -> Floats:
        x = np.zeros((len(part.case), n_kinds + n_resources + 9))
        for i, (case, row) in enumerate(zip(part.case.tolist(), part.row.tolist(), strict=True)):
            first = int(table.starts[case])
            x[i, :n_kinds] = np.bincount(kind[first : row + 1], minlength=n_kinds)
            x[i, n_kinds : n_kinds + n_resources] = np.bincount(resource[first : row + 1], minlength=n_resources)
            x[i, -1] = at[row] - at[row - 1] if row > first else 0.0
        moments = part.at // _HOUR_US
        last = (kind[part.row], resource[part.row], part.length, part.at - part.started_at, amount[part.case])
        for column, values in enumerate((*last, moments % 24, moments // 24 % 7), start=n_kinds + n_resources):
            x[:, column] = values
        return x

    return encoded


def _by_length(rows: Prefixes, score: Floats) -> float:
    """AUC of each prefix length, weighted by its rows."""
    found = []
    for length in np.unique(rows.length):
        part = rows.length == length
        found.append((auc(rows.accepted[part], score[part]), int(part.sum())))
    known = [(value, n) for value, n in found if not np.isnan(value)]
    return float(np.average([value for value, _ in known], weights=[n for _, n in known]))


def _not_below(name: str, happened: Floats, ours: Floats, theirs: Floats, clusters: NDArray[np.generic]) -> Measure:
    mine, other = auc(happened, ours), auc(happened, theirs)
    low, high = _interval(happened, ours, clusters)
    return Measure(
        name=name,
        unit="AUC",
        ours=mine,
        baseline=other,
        ratio=mine / other,
        target=1.0,
        at_most=False,
        spread=(low, mine, high),
    )


def _interval(happened: Floats, score: Floats, clusters: NDArray[np.generic]) -> Bounds:
    found = bootstrap_interval(
        lambda drawn: auc(happened[drawn], score[drawn]), len(score), clusters=clusters, seed=1, n_resamples=100
    )
    return found.low, found.high


# ---- stall


def _stall(frame: MomentFrame, features: FeatureSet, journey: Journey) -> list[Measure]:
    params = load_params()
    # Forecasts have their own gate above.
    fit = fitted_stall(replace(frame, happened={}), features.names, journey, params, [])
    rows, happened, score = fit.test.rows, fit.test.stalled, fit.test.scores.stall_propensity
    earlier = frame.after.is_known(journey.horizon) & (frame.at + journey.horizon < fit.calibrate_from)
    stalled = ~frame.after.progressed(journey.horizon)
    shares = np.array(
        [
            float(stalled[of].mean()) if (of := earlier & (frame.stage == stage)).any() else 0.5
            for stage in range(len(journey.stage_ids))
        ]
    )
    stage, hours = frame.stage[rows], frame.x[rows, features.names.index("hours_since_progress")]
    known = shares[stage]
    found = [_not_below("stall, share of the stage", happened, score, known, frame.customer_ids[rows])]
    found += [
        versus(f"stall: {name}", of(happened, score), of(happened, known), unit="")
        for name, of in (("Brier", brier), ("ECE", ece))
    ]
    found.append(told("stall: calibration slope", calibration_slope(happened, score), unit=""))
    parts = [(f"stage {name}", stage == place) for place, name in enumerate(journey.stage_ids)]
    ends = zip(HOURS, [*(str(hour) for hour in HOURS[1:]), "more"], [*HOURS[1:], np.inf], strict=True)
    parts += [(f"{low} to {name} hours in the stage", (hours >= low) & (hours < high)) for low, name, high in ends]
    for name, part in parts:
        if 0 < happened[part].sum() < part.sum():
            found += [
                told(f"stall, {name} ({int(part.sum()):,} moments): {metric}", of(happened[part], score[part]), unit="")
                for metric, of in (("AUC", auc), ("Brier", brier), ("ECE", ece), ("slope", calibration_slope))
            ]
    return found
