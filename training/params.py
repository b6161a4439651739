"""The parameters of the experiment (``params.yaml``): frozen, seeds included, unknown keys refused."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from features.config_model import ConfigModel
from features.yaml_files import load_yaml

PARAMS_FILE: Final = Path(__file__).with_name("params.yaml")


class SimulateParams(ConfigModel):
    """The population that stands in for an empty home.

    Attributes:
        customers: how many.
        seed: of everything that is drawn.
    """

    customers: int = Field(ge=1)
    seed: int = Field(ge=0)


class SnapshotParams(ConfigModel):
    """What the snapshot does where there is nothing to freeze.

    Attributes:
        when_empty: simulate a population, or fail.
        simulate: which population.
    """

    when_empty: Literal["simulate", "fail"]
    simulate: SimulateParams


class MomentParams(ConfigModel):
    """Which moments become rows.

    Attributes:
        idle_hours: hours after the last event at which a silent customer is looked at again.
        max_rows: above it whole customers are left out, by stable hash.
    """

    idle_hours: tuple[float, ...]
    max_rows: int = Field(ge=1000)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if any(hours <= 0 for hours in self.idle_hours) or list(self.idle_hours) != sorted(set(self.idle_hours)):
            raise ValueError("idle_hours above 0, each later than the one before")
        return self


class SplitParams(ConfigModel):
    """Where time is cut.

    Attributes:
        train_share: share of the moments before the first cut-off.
        calibration_share: share between the two cut-offs; the rest is the test.
        flat_salts: where all times are equal, one half-and-half split of the customers for each.
    """

    train_share: float = Field(gt=0, lt=1)
    calibration_share: float = Field(gt=0, lt=1)
    flat_salts: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _leaves_a_test(self) -> Self:
        if self.train_share + self.calibration_share >= 1:
            raise ValueError("train_share and calibration_share that leave a share for the test")
        return self


class BoostingParams(ConfigModel):
    """How one booster grows; what is not given is the estimator's own.

    Attributes:
        rounds: trees at most.
        patience: rounds without a better held-out loss after which it stops.
        num_leaves: leaves of a tree at most.
        min_rows: rows in a leaf at least.
        learning_rate: weight of each tree.
        lambda_l2: penalty on the leaves' values.
        feature_fraction: share of the features that each tree sees.
        max_bin: values that a feature is cut into at most.
    """

    rounds: int = Field(ge=1)
    patience: int = Field(ge=1)
    num_leaves: int = Field(ge=2)
    min_rows: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    lambda_l2: float = Field(default=1.0, ge=0)
    feature_fraction: float = Field(default=1.0, gt=0, le=1)
    max_bin: int = Field(default=255, ge=2, le=65535)


class StallFitParams(ConfigModel):
    """How the stall models are fitted; see ``models.stall``.

    Attributes:
        boosting: of progress and of abandonment.
        forecast: of a declared outcome, which there are fewer customers to learn from than moments.
        period_shares: ends of the periods that hazards are estimated for, as shares of the journey's horizon; 1 is one.
        max_features: features that a model sees at the most.
        max_rows: rows that a model is fitted on at the most.
    """

    boosting: BoostingParams
    forecast: BoostingParams
    period_shares: tuple[float, ...] = Field(min_length=1, max_length=64)
    max_features: int = Field(ge=1)
    max_rows: int = Field(ge=1000)

    @model_validator(mode="after")
    def _reaches_the_horizon(self) -> Self:
        shares = list(self.period_shares)
        if shares != sorted(set(shares)) or shares[0] <= 0 or 1 not in shares:
            raise ValueError("period_shares above 0, each later than the one before, and 1 among them")
        return self


class UpliftFitParams(ConfigModel):
    """How responses and effects are fitted; see ``models.uplift.UpliftParams``.

    Attributes:
        n_folds: of the cross-fitting, by customer.
        response: the booster of outcomes.
        effect: the booster of effects.
        effect_leaves: numbers of leaves to choose from, beside the arm's mean; learners are compared at the middle one.
        learners: whose effects to choose from; a later one is taken where it is better on every fold.
        smallest_arm: effective rows an arm needs for an effect model; below it there is its mean.
        shrink_rows: n0: an effect's weight against the arm's mean is n / (n + n0), n the effective rows of the arm.
        prior_spread: how far an arm's mean effect may be from 0 at the least where the catalogue declares no prior of
            it, one standard deviation, in standard deviations of the outcome; see ``models.shrinkage``.
        smallest_probability: estimated selection probabilities are clipped here. Logged ones are used as they are: the
            weights by overlap bound what a rare one can do.
        max_age_days: only decisions that are no older at the end of observation are learned from; null for all. To be
            set where the world is known to have changed: old decisions tell of effects that are gone.
        largest_delay_weight: decisions with open windows are used where at least one in so many like them have seen
            theirs end; see ``training.maturity``.
    """

    n_folds: int = Field(ge=2)
    response: BoostingParams
    effect: BoostingParams
    effect_leaves: tuple[int, ...] = Field(min_length=1)
    learners: tuple[Literal["x", "dr", "r"], ...] = Field(default=("x", "dr", "r"), min_length=1)
    smallest_arm: int = Field(ge=1)
    shrink_rows: float = Field(ge=0)
    prior_spread: float = Field(default=0.05, gt=0)
    smallest_probability: float = Field(gt=0, lt=0.5)
    max_age_days: float | None = Field(default=None, gt=0)
    largest_delay_weight: float = Field(default=5.0, ge=1)


class EvaluationParams(ConfigModel):
    """How the judging is done.

    Attributes:
        resamples: bootstrap resamples of whole customers.
        curve_points: points of a plotted curve.
    """

    resamples: int = Field(ge=20)
    curve_points: int = Field(ge=5)


class ColumnDriftParams(ConfigModel):
    """How one column is compared, in place of what its kind says.

    Attributes:
        method: Evidently's name of it.
        threshold: of the measure, from which the column has drifted.
    """

    method: Literal["psi", "jensenshannon", "wasserstein", "hellinger"]
    threshold: float = Field(gt=0)


class CalibrationDriftParams(ConfigModel):
    """When predictions no longer come true; see ``training.drift_calibration``.

    Attributes:
        slope: bounds of the slope of the logistic recalibration; 1 is ideal.
        ece: largest expected calibration error.
        smallest: decisions with a known outcome below which nothing is judged, and of each kind a tenth of it.
        level: of the intervals.
        resamples: of the bootstrap, by customer.
    """

    slope: tuple[float, float] = (0.5, 2.0)
    ece: float = Field(default=0.1, gt=0, lt=1)
    smallest: int = Field(default=500, ge=50)
    level: float = Field(default=0.99, ge=0.8, lt=1)
    resamples: int = Field(default=200, ge=20)

    @model_validator(mode="after")
    def _holds_the_ideal(self) -> Self:
        if not 0 < self.slope[0] <= 1 <= self.slope[1]:
            raise ValueError("slope bounds around 1, the ideal")
        return self


class EffectDriftParams(ConfigModel):
    """When an action no longer changes what it did; see ``training.drift_effects``.

    Attributes:
        alpha: probability of any false alarm over all actions of a run, and again of all of them together.
        smallest_change: in standard deviations of the outcome; what is less is no drift however certain.
        smallest_arm: decisions with the action, and with none, that either side must hold.
        smallest_together: likewise for an action to be among those that are looked at together.
        smallest_probability: decisions on which the action or none was less likely are left out.
        smallest_miss: share of what was promised of the choices; what they miss it by less is no miss however certain.
    """

    alpha: float = Field(default=0.0005, gt=0, lt=0.5)
    smallest_change: float = Field(default=0.05, ge=0)
    smallest_arm: int = Field(default=200, ge=20)
    smallest_together: int = Field(default=50, ge=20)
    smallest_probability: float = Field(default=0.005, gt=0, lt=0.5)
    smallest_miss: float = Field(default=0.33, ge=0)


class ProcessDriftParams(ConfigModel):
    """When the journey's steps are no longer those of before; see ``training.drift_process``.

    Attributes:
        longest_days: of the windows that are compared.
        customers: of each window at most, by stable hash.
        smallest: customers of either window below which nothing is judged.
        new_share: share of the customers that a step which nobody took before must have to be called new.
        expected: customers that a vanished step would have had lately, or a new one before, had nothing changed.
    """

    longest_days: int = Field(default=28, ge=1)
    customers: int = Field(default=20_000, ge=100)
    smallest: int = Field(default=200, ge=20)
    new_share: float = Field(default=0.01, gt=0, lt=1)
    expected: float = Field(default=20.0, ge=5)


class DriftParams(ConfigModel):
    """How drift is judged; see ``training.drift``.

    Attributes:
        columns: most important features that are compared.
        sample: rows of each side that distributions are compared on, at most.
        smallest: decisions of either side below which nothing is judged.
        decisions: decisions of each side that are read, at most: what rates, calibration and effects come from.
        psi_threshold: population stability index from which a column of numbers has drifted, or the action mix.
        category_threshold: Jensen-Shannon distance from which a column of categories or yes and no has drifted.
        overrides: by column, what is compared otherwise.
        drift_share: share of drifted columns from which the features have.
        share_change: change of a share (of no action, held-back candidates, degraded decisions, missing values,
            customers who take a step) from which it is looked into.
        certainty: standard errors by which a share must have changed besides.
        recent_share: where nothing new came since the training: the share of the decisions that counts as recent.
        calibration: when predictions no longer come true.
        effects: when an action no longer changes what it did.
        process: when the journey's steps are others.
    """

    columns: int = Field(ge=1)
    sample: int = Field(ge=100)
    smallest: int = Field(ge=1)
    decisions: int = Field(default=20_000, ge=1_000)
    psi_threshold: float = Field(gt=0)
    category_threshold: float = Field(default=0.15, gt=0, lt=0.84)
    overrides: dict[str, ColumnDriftParams] = Field(default_factory=dict)
    drift_share: float = Field(gt=0, le=1)
    share_change: float = Field(default=0.1, gt=0, lt=1)
    certainty: float = Field(default=4.0, ge=2)
    recent_share: float = Field(default=0.2, gt=0, lt=1)
    calibration: CalibrationDriftParams = CalibrationDriftParams()
    effects: EffectDriftParams = EffectDriftParams()
    process: ProcessDriftParams = ProcessDriftParams()


class RetrainParams(ConfigModel):
    """How much must be new for ``headway train --if-needed`` to train; see ``training.schedule``.

    Attributes:
        smallest_new_decisions: decisions that models learn from, since the last snapshot.
        smallest_new_share: events since the last snapshot, as a share of those in it.
        largest_age_days: days since the last snapshot after which a single new row is enough.
    """

    smallest_new_decisions: int = Field(default=500, ge=1)
    smallest_new_share: float = Field(default=0.05, gt=0)
    largest_age_days: float = Field(default=30.0, gt=0)


class GateParams(ConfigModel):
    """When a challenger may become the champion; see ``models.gate.Gate``.

    Attributes:
        decisions: the newest decisions that are compared, at most.
        margin: money per decision that the lower bound of the difference must exceed.
        level: of the interval; a challenger that is no better passes half of the rest.
        looks: ``once``, or ``many`` for an interval that holds however often the growing log is looked at.
        planned: decisions at which that for many looks is narrowest; to be set before looking.
        resamples: of the bootstrap, by customer.
        smallest_ess: effective decisions for either model.
        smallest_ess_share: the same as a share of all.
        smallest_changed: effective decisions on which the two differ.
        smallest_customers: effective customers on whom they differ.
        largest_unsupported: share of what a model does that could not have been logged.
        largest_broken_share: share of decisions with missing or wrong probabilities.
        largest_skipped_share: share of decisions that could not be made again.
        calibration: bounds of the calibration slope of the challenger's responses.
        largest_contact_rise: of the share of decisions that contact somebody.
        contact_cost_factor: a greater rise passes where it pays with every contact costing so many times as much; null
            where it never passes.
        largest_cost_rise: of the cost of a decision, money; null where there is no limit.
        smallest_group: decisions of a stage below which it is not looked at by itself.
        largest_blind_share: of the customers, up to which a rollout may start while the log says too little.
    """

    decisions: int = Field(default=50_000, ge=100)
    margin: float = 0.0
    level: float = Field(default=0.95, ge=0.8, lt=1)
    looks: Literal["once", "many"] = "once"
    planned: int = Field(default=10_000, ge=100)
    resamples: int = Field(default=1000, ge=100)
    smallest_ess: float = Field(default=100.0, ge=1)
    smallest_ess_share: float = Field(default=0.02, ge=0, lt=1)
    smallest_changed: float = Field(default=100.0, ge=1)
    smallest_customers: float = Field(default=30.0, ge=2)
    largest_unsupported: float = Field(default=0.01, ge=0, le=1)
    largest_broken_share: float = Field(default=0.01, ge=0, lt=1)
    largest_skipped_share: float = Field(default=0.2, ge=0, le=1)
    calibration: tuple[float, float] = (0.5, 2.0)
    largest_contact_rise: float = Field(default=0.1, ge=0, le=1)
    contact_cost_factor: float | None = Field(default=3.0, ge=1)
    largest_cost_rise: float | None = None
    smallest_group: int = Field(default=500, ge=1)
    largest_blind_share: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _holds_the_ideal(self) -> Self:
        if not 0 < self.calibration[0] <= 1 <= self.calibration[1]:
            raise ValueError("calibration bounds around 1, the ideal")
        return self


class ExperimentParams(ConfigModel):
    """How an experiment is reported on.

    Attributes:
        level: of the intervals.
        planned_people: people at whom the intervals for looking often are narrowest; to be set before looking.
        ratio_alpha: chance of a false alarm of the sample-ratio check.
        smallest_arm: people in an arm below which nothing is said of it.
        smallest_effect: what is to be found, as a share of the mean of the arm that is compared with.
        power: probability of finding it.
        decisions: the newest ones that policies are compared on which have no arm of their own.
    """

    level: float = Field(default=0.95, gt=0.5, lt=1)
    planned_people: int = Field(default=5_000, ge=100)
    ratio_alpha: float = Field(default=0.001, gt=0, lt=0.1)
    smallest_arm: int = Field(default=50, ge=2)
    smallest_effect: float = Field(default=0.1, gt=0)
    power: float = Field(default=0.8, gt=0.5, lt=1)
    decisions: int = Field(default=10_000, ge=100)


class Params(ConfigModel):
    """Everything that one training run may be tuned by.

    Attributes:
        seed: of everything that training draws.
        snapshot: what is frozen.
        moments: which moments become rows.
        split: where time is cut.
        stall: how the stall models are fitted.
        uplift: how responses and effects are fitted.
        evaluation: how the judging is done.
        drift: how drift is judged.
        gate: when a challenger may become the champion.
        retrain: how much must be new for a training on a schedule.
        experiment: how an experiment is reported on.
    """

    seed: int = Field(ge=0)
    snapshot: SnapshotParams
    moments: MomentParams
    split: SplitParams
    stall: StallFitParams
    uplift: UpliftFitParams
    evaluation: EvaluationParams
    drift: DriftParams
    gate: GateParams = GateParams()
    retrain: RetrainParams = RetrainParams()
    experiment: ExperimentParams = ExperimentParams()


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The parameters in a file.

    Raises:
        ConfigurationError: every problem of the file, with its line.
    """
    return load_yaml(Params, path)
