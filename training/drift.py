"""Drift: is what comes in still what the models learned from, and does what they say still come true?

One report for each journey that was trained: features, scores, calibration, effects of the actions, how decisions come
out, and the steps of the journey, with a verdict and its reasons. JSON for machines, a page for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from features.errors import Refused, UnknownObject
from features.home import Home
from features.kernel import Floats, Integers
from features.schema import feature_set
from models.bundle import load_bundle
from models.configuration import Configuration
from models.registry import model_name
from models.scoring import Scorer
from training.dataset import read_frames
from training.drift_calibration import STALL, Calibration, Predictions, calibration, calibration_reasons, predictions
from training.drift_choices import ChoiceEffect, choice_effects, choice_reasons
from training.drift_document import document_of
from training.drift_effects import ActionEffect, action_effects, effect_reasons, effects_together
from training.drift_features import SCORE, STALL_SCORE, FeatureDrift, feature_drift, feature_reasons, most_used
from training.drift_process import Process, process_reasons, process_steps, windows
from training.drift_rates import Rates, rate_reasons, rates
from training.drift_samples import Decided, Gathered, Subject, Texts, believed, joined, latest_apart, sampled_ids
from training.drift_sources import Source
from training.drift_verdict import RETRAIN, VERDICTS, Reason, Verdict, ordered, verdict_of
from training.params import DriftParams, Params
from training.pipeline import CANDIDATE
from training.reports import write_json
from training.snapshot import read_snapshot
from training.split import is_flat, time_split

SINCE: Final = "decisions since the training against those trained on"
DECISIONS: Final = "the latest decisions against earlier ones"
MOMENTS: Final = "latest moments against the moments trained on"
NOTHING: Final = "nothing to compare"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Compared:
    """Rows of two periods that distributions are compared on.

    Attributes:
        what: which comparison it is.
        before: decisions of the earlier period; None where moments are compared, or nothing.
        lately: decisions of the recent period; likewise.
        x: ``(n, n_features)`` of either side, of a sample of the decisions or of moments.
        stall: moments of the recent period with what became of them; None where decisions are compared.
    """

    what: str
    before: Decided | None = None
    lately: Decided | None = None
    x: tuple[Floats, Floats]
    stall: Predictions | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DecisionDrift:
    """What became of the decisions of two periods.

    Attributes:
        rates: None where no decisions were compared; likewise ``effects`` is empty.
        effects: of the actions that enough was left to chance of.
        choices: of what was decided, by outcome.
        calibrations_before: of the earlier period.
        calibrations: of the recent period, or of moments.
        reasons: that decisions gave.
    """

    rates: Rates | None = None
    effects: Sequence[ActionEffect] = ()
    choices: Sequence[ChoiceEffect] = ()
    calibrations_before: Sequence[Calibration] = ()
    calibrations: Sequence[Calibration] = ()
    reasons: Sequence[Reason] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JourneyDrift:
    """Everything that was found of one journey.

    Attributes:
        compared: what was compared.
        features: None where there was too little, or the features are others since the training.
        decisions: what became of decisions.
        process: the steps.
        reasons: of all parts, those to retrain first.
        verdict: what they come to.
    """

    journey_id: str
    compared: Compared
    features: FeatureDrift | None
    decisions: DecisionDrift
    process: Process
    reasons: list[Reason]
    verdict: Verdict


def drift_folder(home: Home) -> Path:
    """Where reports of drift are kept."""
    return home.reports / "drift"


def latest_verdict(home: Home, journey_id: str) -> Verdict | None:
    """What the newest report on a journey says: one of ``VERDICTS``; None where there is no report.

    Raises:
        Refused: the report cannot be read.
    """
    path = drift_folder(home) / f"{journey_id}.json"
    try:
        verdict = json.loads(path.read_bytes())["verdict"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is damaged ({error!r:.100}), expected what `headway drift` wrote: run it") from error
    for known in VERDICTS:
        if verdict == known:
            return known
    raise Refused(f"{path} has the verdict {verdict!r:.40}, expected one of {', '.join(VERDICTS)}: run `headway drift`")


def drift_step(
    home: Home,
    configuration: Configuration,
    params: Params,
    source: Source,
    journey_id: str | None = None,
    *,
    at: int,
) -> dict[str, dict[str, Any]]:
    """The drift of every journey that was trained (or of one), with reports under ``reports/drift/``.

    Args:
        home: of the installation.
        configuration: that holds for it.
        params: of the experiment.
        source: what is looked at.
        journey_id: only this one.
        at: the moment that the reports bear, microseconds since the epoch.

    Returns:
        By journey, the document that was written.

    Raises:
        UnknownObject: nothing was trained yet, or not this journey.
    """
    from training.drift_page import drift_page  # matplotlib: only where something is drawn
    from training.report_page import write_page

    trained = [
        journey.id
        for journey in configuration.journeys.journeys
        if journey_id in (None, journey.id) and home.bundle(CANDIDATE, model_name(journey.id)).is_dir()
    ]
    if not trained:
        wanted = "nothing" if journey_id is None else f"the journey {journey_id!r:.100}"
        raise UnknownObject(f"{wanted} was trained in {home.root}, so there is nothing to compare: run `headway train`")
    subjects = {one: _subject(configuration, one) for one in trained}
    samples = {name: _samples(source, subjects, params.drift, name) for name in ("before", "lately")}
    folder = drift_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    documents = {}
    for one in trained:
        page = folder / f"{one}.distributions.html"
        page.unlink(missing_ok=True)
        found = _journey_drift(
            home, subjects[one], params, source, samples["before"][one], samples["lately"][one], page
        )
        documents[one] = document_of(found, at=at, distributions=page.name if page.exists() else None)
        write_page(folder / f"{one}.html", drift_page(documents[one], title=subjects[one].journey.title))
        write_json(folder / f"{one}.json", documents[one])
    return documents


def _subject(configuration: Configuration, journey_id: str) -> Subject:
    journey = configuration.journeys.by_id[journey_id]
    return Subject(
        journey, configuration.taxonomy, configuration.catalogue, feature_set(configuration.taxonomy, journey)
    )


def _samples(
    source: Source, subjects: Mapping[str, Subject], params: DriftParams, period: str
) -> dict[str, Decided | None]:
    """By journey, a sample of the decisions that were trained on, or of those since; None where there are none."""
    n = params.decisions * len(subjects)
    if period == "lately":
        ids = sampled_ids(source.ids(after=source.trained_until), n)
    else:
        ids = sampled_ids(([one for one in page if one <= source.trained_until] for page in source.ids()), n)
    gathered = {one: Gathered(subject) for one, subject in subjects.items()}
    for page in source.records(ids):
        for one in gathered.values():
            one.add(page)
    return {
        one: held.decided(source.events(held.customer_ids), observed_until=max(source.observed_until, held.latest))
        if len(held)
        else None
        for one, held in gathered.items()
    }


def _journey_drift(
    home: Home,
    subject: Subject,
    params: Params,
    source: Source,
    before: Decided | None,
    lately: Decided | None,
    page: Path,
) -> JourneyDrift:
    journey = subject.journey
    scorer: Scorer | None = Scorer(load_bundle(home.bundle(CANDIDATE, model_name(journey.id)), None))
    reasons: list[Reason] = []
    if scorer is not None and scorer.bundle.lineage.features_version != subject.features.version:
        scorer = None
        reasons.append(_other_features(journey.id))
    if scorer is not None:
        before, lately = (None if one is None else believed(one, scorer) for one in (before, lately))
    compared = _compared(home, subject, params, scorer, before, lately)
    is_judged = min(map(len, compared.x)) >= params.drift.smallest
    features = None
    if is_judged and scorer is not None:
        names = most_used(scorer, subject.features.names, params.drift.columns)
        frames = [_frame(compared, side, names, subject, scorer, params.drift) for side in (0, 1)]
        specs = {spec.name: spec for spec in subject.features.specs}
        features = feature_drift(frames[0], frames[1], specs, params.drift, page)
        reasons += feature_reasons(features, params.drift)
    decisions = None
    if is_judged and compared.before is not None and compared.lately is not None:
        binary = [outcome.type == "binary" for outcome in journey.outcomes]
        decisions = decision_drift(compared.before, compared.lately, binary, params.drift, seed=params.seed)
        reasons += decisions.reasons
    elif compared.stall is not None:
        told = calibration(compared.stall, params.drift.calibration, seed=params.seed)
        decisions = DecisionDrift(calibrations=[told])
        reasons += calibration_reasons([], [told], params.drift.calibration)
    since = _trained_until(home) if compared.what == SINCE else None
    spans = windows(source, since, params.drift.process)
    process = process_steps(source, spans, params.drift.process)
    reasons += process_reasons(process, params.drift)
    return JourneyDrift(
        journey_id=journey.id,
        compared=compared,
        features=features,
        decisions=DecisionDrift() if decisions is None else decisions,
        process=process,
        reasons=ordered(reasons),
        verdict=verdict_of(reasons, is_judged=is_judged),
    )


def decision_drift(
    before: Decided, lately: Decided, binary: Sequence[bool], params: DriftParams, *, seed: int
) -> DecisionDrift:
    """What became of the decisions of two periods: how they came out, what actions changed, what came true.

    Args:
        before: the earlier decisions.
        lately: the recent ones.
        binary: ``(n_outcomes,)`` which outcomes are 0 or 1.
        params: what is asked.
        seed: fixes the resamples.
    """
    found = rates(before, lately)
    effects = action_effects(before, lately, params.effects)
    choices = choice_effects(lately, params.effects)
    calibrations = [
        [calibration(one, params.calibration, seed=seed) for one in predictions(side, binary)]
        for side in (before, lately)
    ]
    return DecisionDrift(
        rates=found,
        effects=effects,
        choices=choices,
        calibrations_before=calibrations[0],
        calibrations=calibrations[1],
        reasons=[
            *calibration_reasons(calibrations[0], calibrations[1], params.calibration),
            *effect_reasons(effects, params.effects, effects_together(before, lately, params.effects)),
            *choice_reasons(choices, params.effects),
            *rate_reasons(found, params),
        ],
    )


def _other_features(journey_id: str) -> Reason:
    return Reason(
        code="features.changed",
        calls_for=RETRAIN,
        subject=journey_id,
        text="the features are others than those that the models were trained on: the taxonomy or the journey changed",
    )


def _trained_until(home: Home) -> int | None:
    snapshot = read_snapshot(home)
    return None if snapshot is None else snapshot.watermark.observed_until


def _compared(
    home: Home,
    subject: Subject,
    params: Params,
    scorer: Scorer | None,
    before: Decided | None,
    lately: Decided | None,
) -> Compared:
    """What there is to compare: decisions since the training, else the latest of all, else the latest moments."""
    smallest = params.drift.smallest
    if before is not None and lately is not None and min(len(before), len(lately)) >= smallest:
        return _of_decisions(SINCE, before, lately, params.drift)
    known = [one for one in (before, lately) if one is not None]
    if known and sum(map(len, known)) >= smallest:
        parts = latest_apart(known[0] if len(known) == 1 else joined(*known), params.drift.recent_share)
        if parts is not None and min(map(len, parts)) >= smallest:
            return _of_decisions(DECISIONS, *parts, params.drift)
    return _of_moments(home, subject, params, scorer)


def _of_decisions(what: str, before: Decided, lately: Decided, params: DriftParams) -> Compared:
    x = (before.sample(params.sample).x, lately.sample(params.sample).x)
    return Compared(what=what, before=before, lately=lately, x=x)


def _of_moments(home: Home, subject: Subject, params: Params, scorer: Scorer | None) -> Compared:
    journey = subject.journey
    empty = np.empty((0, len(subject.features.names)))
    nothing = Compared(what=NOTHING, x=(empty, empty))
    if scorer is None or not (home.frames / journey.id).is_dir():
        return nothing
    moments = read_frames(journey.id, home.frames / journey.id).moments
    if is_flat(moments.at):
        return nothing
    known = moments.after.is_known(journey.horizon)
    split = time_split(
        moments.at,
        known,
        train_share=params.split.train_share,
        calibration_share=params.split.calibration_share,
        window_us=journey.horizon,
    )
    test = split.test & known
    told = Predictions(
        name=STALL,
        probability=scorer.stall_block(moments.x[test]).stall_propensity,
        happened=1.0 - moments.after.progressed(journey.horizon)[test].astype(np.float64),
        people=moments.customer_ids[test],
    )
    rows = tuple(
        moments.x[one_each(moments.customer_ids, np.flatnonzero(part), params.drift.sample, params.seed)]
        for part in (split.train, split.test)
    )
    return Compared(what=MOMENTS, x=(rows[0], rows[1]), stall=told)


def one_each(customer_ids: Texts, rows: Integers, n: int, seed: int) -> Integers:
    """One of each customer's rows, of at most ``n`` customers, all drawn at random.

    Moments of one customer are so alike that many of a few customers would look like a shift.

    Args:
        customer_ids: ``(n_rows,)`` of all rows.
        rows: numbers of those to draw from.
        n: customers at most.
        seed: fixes the draw.
    """
    drawn = np.random.default_rng(seed).permutation(rows)
    firsts = np.unique(customer_ids[drawn], return_index=True)[1]
    return np.sort(drawn[np.sort(firsts)[:n]])


def _frame(
    compared: Compared, side: int, names: list[str], subject: Subject, scorer: Scorer, params: DriftParams
) -> pd.DataFrame:
    """A sample of one side: the features named, and what one and the same bundle says of the rows."""
    x = compared.x[side]
    columns: dict[str, Floats] = {}
    found = scorer.customers(x)
    columns[STALL_SCORE] = found.stall_block().stall_propensity
    arms, catalogue = subject.arm_ids, subject.catalogue
    pairs = [(catalogue.by_id[name].outcome, name) for name in arms[1:]]
    effects = found.effect_block(pairs)
    for place, (outcome_id, _) in enumerate(pairs):
        columns.setdefault(f"{SCORE}control_response:{outcome_id}", effects.control_response[:, place])
    decided = (compared.before, compared.lately)[side]
    if decided is not None:
        shown = decided.sample(params.sample)
        uplift = np.concatenate([np.full((len(x), 1), np.nan), effects.uplift], axis=1)
        columns[f"{SCORE}uplift"] = uplift[np.arange(len(x)), shown.arm]
        columns[f"{SCORE}net_value"] = np.where(shown.arm > 0, shown.net_value, np.nan)
    places = [subject.features.names.index(name) for name in names]
    return pd.DataFrame({**columns, **{name: x[:, place] for name, place in zip(names, places, strict=True)}})
