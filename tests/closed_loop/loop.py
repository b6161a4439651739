"""One run of the loop: round after round customers come, are decided on, answer; then judge, promote, train."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from features.event_store import SqlEventLog
from features.home import Home
from features.schema import feature_set
from models.configuration import Configuration
from models.configuration_history import keep_configuration
from models.gate import judged
from models.logged_choices import LoggedChoices, policy_scores
from models.metrics import Interval, bootstrap_interval
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name
from serving.champions import served_bundles
from tests.closed_loop.desk import HeadwayChooser, RememberingStore
from tests.closed_loop.mail import Mail
from tests.closed_loop.setting import (
    DRIFT_ROUND,
    JOURNEY_ID,
    MORE_EVIDENCE,
    ROUND_DAYS,
    START,
    Setting,
    learned_policy,
    loop_params,
    random_policy,
)
from tests.closed_loop.truth import Truth
from training.decision_log import DecisionLog
from training.drift import drift_step
from training.drift_sources import LiveSource
from training.params import Params
from training.pipeline import fit_step, frames_step
from training.promote import compared, contest, contest_log, gate_of, verdict_document
from training.registering import register
from training.simulated_course import DAY_US
from training.simulated_draws import Floats
from training.simulated_journeys import Crowd
from training.simulated_policy import options_of
from training.snapshot import freeze, read_snapshot

NAME: Final = model_name(JOURNEY_ID)
BY: Final = "closed loop"
DRIFT_LOOKED_AT: Final = range(DRIFT_ROUND - 1, DRIFT_ROUND + 3)
"""Rounds at whose end drift is asked for: before the effects change, when they have, and once that was learned."""

_FEWEST: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an estimate says, beside the truth of the same decisions; money a decision.

    Attributes:
        truth: mean expected worth by the laws.
    """

    truth: float
    estimate: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the truth lies within the interval."""
        return self.low <= self.truth <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the gate said of a challenger, beside the truth.

    Attributes:
        surprise: largest standardised difference between what treatments brought and what was predicted of them.
    """

    champion: int
    challenger: int
    promoted: bool
    reasons: tuple[str, ...]
    decisions: int
    difference: Told | None
    value: Told | None
    contact_rise: float | None
    surprise: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What became of one round; money is a decision's, over doing nothing.

    Attributes:
        number: from 0.
        champion: version that decided; None where nothing had been learned.
        value: true value of what was decided, all arms together.
        champion_value: true value of the champion's own choices; NaN without one.
        random_value: true value of drawing evenly from the candidates.
        best: true value of the best candidate of each decision.
        contacted: share of the champion's decisions that contact somebody.
        judged: None where there was no challenger.
        drift: what ``headway drift`` said at the end, where it was asked.
        trained: whether another challenger was trained at the end.
        learns_from: before which decisions are left out of training, microseconds since the epoch; None for none.
    """

    number: int
    champion: int | None
    decisions: int
    events: int
    value: float
    champion_value: float
    random_value: float
    best: float
    contacted: float
    estimate: Told | None = None
    judged: Judged | None = None
    drift: dict[str, Any] | None = None
    trained: bool = True
    learns_from: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)


class _Untracked:
    """Stands in for the tracking server: the local registry is the one that serves."""

    def record(
        self, jobs: Sequence[Mapping[str, Any]], aliases: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """No run for any of them."""
        return [{"run_id": "", "version": 0} for _ in jobs], []


def run(setting: Setting, seed: int, home: Home) -> list[Round]:
    """The loop in a home of its own.

    Args:
        setting: what is run.
        seed: of the world and of all chance in it.
        home: empty.
    """
    home.create()
    params = loop_params()
    configuration = random_policy(home)
    rounds = []
    with ExitStack() as stack:
        installation = stack.enter_context(closing(Installation(setting, seed, home, configuration, params)))
        for number in range(setting.rounds):
            rounds.append(installation.round(number))
            print(f"seed {seed}: {_line(rounds[-1])}", file=sys.stderr, flush=True)
    return rounds


class Installation:
    """A home with its stores, its decider, and the world around it."""

    def __init__(self, setting: Setting, seed: int, home: Home, configuration: Configuration, params: Params) -> None:
        journey = configuration.journeys.by_id[JOURNEY_ID]
        self._features = feature_set(configuration.taxonomy, journey)
        self._setting, self._home, self._params = setting, home, params
        self._judged, self._trained_at = 0, START
        self._learns_from: int | None = None
        self._configuration = configuration
        keep_configuration(home, configuration)
        self._champions, self._challengers = served_bundles(home, configuration, {JOURNEY_ID: self._features})
        self._log = SqlEventLog(home.events_db, durability="NORMAL")
        self._records = RememberingStore(home.records_db, durability="NORMAL")
        self._chooser = HeadwayChooser(
            configuration=configuration,
            records=self._records,
            champions=self._champions,
            challengers=self._challengers,
            feature_set=self._features,
            seed=seed,
        )
        self._crowd = Crowd(
            seed=seed,
            numbers=np.arange(setting.rounds * setting.customers, dtype=np.int64),
            until=setting.end,
            span_days=float(setting.rounds * ROUND_DAYS),
            options=options_of(configuration.catalogue),
            journey=journey,
            chooser=self._chooser,
        )
        self._mail = self._chooser.mail = Mail(
            self._crowd.course,
            log=self._log,
            records=self._records,
            taxonomy=configuration.taxonomy,
            catalogue=configuration.catalogue,
        )

    def close(self) -> None:
        """Release the stores."""
        self._log.close()
        self._records.close()

    def round(self, number: int) -> Round:
        """Live through a round; at its end judge the challenger, and train on everything."""
        if number == 1:
            self._configure(learned_policy(self._home))
        self._champions.refresh()
        self._challengers.refresh()
        registry = LocalRegistry(self._home.bundles)
        champion = registry.alias(NAME, CHAMPION)
        end = self._setting.round_end(number)
        took, clock = {}, time.perf_counter()
        before = len(self._crowd.decisions.made)
        head = self._log.head()
        self._crowd.advance(end, effects=self._setting.effects(number))
        everybody = np.full(self._crowd.course.people.n, end)
        self._mail.deliver(everybody)
        self._mail.keep_only(self._crowd.undecided())
        took["decide"] = -clock + (clock := time.perf_counter())
        truth = self._truth()
        made = [one for batch in self._crowd.decisions.made[before:] for one in batch["decision_id"]]
        drift = self._drift(at=end) if self._setting.drifts and number + 1 in DRIFT_LOOKED_AT else None
        estimate, verdict = self._judge(truth, champion, at=end)
        took["judge"] = -clock + (clock := time.perf_counter())
        effects_changed = drift is not None and any(one["code"].startswith("effect.") for one in drift["reasons"])
        if effects_changed and self._learns_from is None:
            self._learns_from = self._trained_at
        if self._setting.told and number + 1 == DRIFT_ROUND:
            self._learns_from, effects_changed = self._setting.round_end(number - 1), True
        trains = (self._is_due(verdict) or effects_changed) and number + 1 < self._setting.rounds
        if trains:
            self._train(at=end)
        took["train"] = -clock + (clock := time.perf_counter())
        champion_value, random_value, contacted = self._by_arm(truth, made)
        found = Round(
            number=number,
            champion=champion,
            decisions=len(made),
            events=self._log.head() - head,
            value=float(truth.as_decided(made).mean()),
            champion_value=champion_value,
            random_value=random_value,
            best=float(truth.best(made).mean()),
            contacted=contacted,
            estimate=estimate,
            judged=verdict,
            drift=drift,
            trained=trains,
            learns_from=self._learns_from,
            seconds=took,
        )
        self._crowd.decisions.made.clear()
        if trains:
            self._crowd.decisions.effects.clear()
        return found

    def _is_due(self, verdict: Judged | None) -> bool:
        """Whether another challenger takes the place of this one: there is none, or no more evidence would help it."""
        if verdict is None or verdict.promoted or not set(verdict.reasons) <= MORE_EVIDENCE:
            return True
        self._judged += 1
        return self._judged >= self._setting.judged_times

    def _configure(self, configuration: Configuration) -> None:
        keep_configuration(self._home, configuration)
        self._configuration = self._chooser.configuration = configuration

    def _truth(self) -> Truth:
        return Truth(
            self._crowd.decisions.effects,
            catalogue=self._configuration.catalogue,
            journey=self._configuration.journeys.by_id[JOURNEY_ID],
            policy=self._configuration.policy,
        )

    def _by_arm(self, truth: Truth, made: list[str]) -> tuple[float, float, float]:
        """True value of the champion's choices, of an even draw, and the share that the champion contacts."""
        champion, even, contacted = [], [], []
        for decision_id in made:
            stored = self._records.decision(decision_id)
            assert stored is not None
            record = stored.record
            treatments = [one.treatment_id for one in record.candidates]
            chances = np.array([[one.arm_selection_probability for one in record.candidates]])
            eligible = np.array([[float(one.selection_probability > 0) for one in record.candidates]])
            if record.arm == "champion":
                champion.append(truth.of_policy([decision_id], treatments, chances)[0])
                contacted.append(bool(record.selected))
            even.append(truth.of_policy([decision_id], treatments, eligible / eligible.sum())[0])
        return _mean(champion), _mean(even), _mean(contacted)

    def _judge(self, truth: Truth, champion: int | None, *, at: int) -> tuple[Told | None, Judged | None]:
        """The champion's value by the log beside its true one; and the gate's verdict on the challenger."""
        if champion is None:
            return None, None
        registry = LocalRegistry(self._home.bundles)
        challenger = registry.alias(NAME, CHALLENGER)
        if challenger is None or challenger == champion:
            return None, None
        found = contest(self._home, self._configuration, JOURNEY_ID, challenger)
        log = contest_log(self._home, self._configuration, self._params.gate, found)
        verdict = judged(compared(log), gate_of(self._params))
        evidence = verdict_document(found, verdict, gate_of(self._params))
        promoter = Promoter(registry)
        if verdict.promotes:
            promoter.promote(NAME, challenger, at=at, by=BY, evidence=evidence, expected=champion)
        else:
            promoter.refused(NAME, challenger, at=at, by=BY, evidence=evidence)
        values = {
            name: (policy_scores(log.choices, table), self._true_value(truth, log, table))
            for name, table in log.policies.items()
        }
        differences = tuple(b - a for a, b in zip(values["champion"], values["challenger"], strict=True))
        told = {
            name: self._told(*pair, log)
            for name, pair in {**values, "difference": (differences[0], differences[1])}.items()
        }
        return told["champion"], Judged(
            champion=champion,
            challenger=challenger,
            promoted=verdict.promotes,
            reasons=tuple(one.code for one in verdict.reasons),
            decisions=verdict.decisions,
            difference=told["difference"],
            value=told["challenger"],
            contact_rise=verdict.contact_rise,
            surprise=_surprise(log.choices),
        )

    def _true_value(self, truth: Truth, log: DecisionLog, table: Floats) -> Floats:
        return truth.of_policy(log.decision_ids.tolist(), [one.treatment_id for one in log.options], table)

    def _told(self, scores: Floats, true: Floats, log: DecisionLog) -> Told | None:
        """An estimate as the gate makes it, with its interval, beside the truth of the same decisions."""
        if not len(scores):
            return None
        gate = gate_of(self._params)
        interval: Interval = bootstrap_interval(
            lambda drawn: float(scores[drawn].mean()),
            len(scores),
            clusters=log.choices.people,
            seed=gate.seed,
            n_resamples=gate.resamples,
            level=gate.level,
        )
        return Told(truth=float(true.mean()), estimate=interval.estimate, low=interval.low, high=interval.high)

    def _drift(self, *, at: int) -> dict[str, Any]:
        """What ``headway drift`` says before the next training."""
        with LiveSource(self._home, read_snapshot(self._home)) as source:
            found = drift_step(self._home, self._configuration, self._params, source, JOURNEY_ID, at=at)[JOURNEY_ID]
        return {"verdict": found["verdict"], "reasons": found["reasons"]}

    def _train(self, *, at: int) -> None:
        """What ``headway train`` does, without the tracking server and the check of Feast."""
        params = self._params
        if self._learns_from is not None:
            uplift = params.uplift.model_copy(update={"max_age_days": (at - self._learns_from) / DAY_US})
            params = params.model_copy(update={"uplift": uplift})
        snapshot = freeze(self._home, self._configuration, at=at)
        frames = frames_step(self._home, self._configuration, params, snapshot)
        trained = fit_step(self._home, self._configuration, params, snapshot, frames)
        register(self._home, self._configuration, params, trained, _Untracked(), at=at)
        self._trained_at, self._judged = at, 0


def _mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return float(np.mean(values)) if values else float("nan")


def _surprise(log: LoggedChoices) -> float:
    """The largest ``|mean(y - q)| / standard error`` of a treatment taken in at least ``_FEWEST`` decisions; else 0."""
    largest = 0.0
    for option in range(1, log.logged.shape[1]):
        rows = np.flatnonzero(log.taken == option)
        left = log.response[rows, log.aim[option]] - log.predicted[rows, option]
        if len(rows) >= _FEWEST and left.std() > 0:
            largest = max(largest, abs(float(left.mean())) / float(left.std() / np.sqrt(len(rows))))
    return largest


def _line(one: Round) -> str:
    said = ""
    if (judged := one.judged) is not None:
        verdict = "promoted" if judged.promoted else "refused: " + ", ".join(judged.reasons)
        said = f"; version {judged.challenger} {verdict}"
        if (found := judged.difference) is not None:
            said += f", {found.estimate:+.2f} [{found.low:+.2f}, {found.high:+.2f}], truly {found.truth:+.2f}"
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in one.seconds.items())
    return (
        f"round {one.number + 1}, version {one.champion}, {one.decisions} decisions, worth {one.value:.2f} "
        f"(champion {one.champion_value:.2f}, random {one.random_value:.2f}, best {one.best:.2f}){said}; {took}"
    )
