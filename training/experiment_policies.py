"""What the policy earns more than other ways to decide, where nobody was drawn for those: valued on the recorded log.

Each recorded decision is made again as the champion would have made it. Both policies are valued by the same doubly
robust scores (``models.logged_choices.policy_scores``), so only where they decide otherwise counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.home import Home
from features.kernel import Floats
from models.actions import NO_ACTION, Catalogue
from models.baseline_policies import Arbitrated, BaselineName, baseline_policies
from models.configuration import Configuration
from models.decision import Candidate, DecisionRecord
from models.experiment_statistics import ArmMean, Looks, Spread, spread_of
from models.logged_choices import LoggedChoices, broken_rows, policy_scores
from models.off_policy_log import Guard, clustered_error
from models.policy_values import choice_refusals
from models.replayer import WhatIf
from training.decision_log import DecisionLog, Option, Wanted, decision_log
from training.experiment_findings import Comparison, Estimate, PolicyComparison
from training.experiment_log import AskedExperiment
from training.params import Params

PolicyComparisonId = Literal[
    "policy_random", "policy_response_ranking", "policy_without_levers", "policy_rules_only", "model_random"
]

TITLES: Final[Mapping[PolicyComparisonId, str]] = {
    "policy_random": "The policy against a random action",
    "policy_response_ranking": "The policy against whatever is likeliest to get a yes",
    "policy_without_levers": "The policy against itself without levers",
    "policy_rules_only": "The policy against rules alone",
    "model_random": "The policy against itself with estimates of other customers",
}
_AGAINST: Final[Mapping[PolicyComparisonId, BaselineName]] = {
    "policy_random": "random",
    "policy_response_ranking": "response_ranking",
    "policy_without_levers": "without_levers",
    "policy_rules_only": "rules_only",
    "model_random": "shuffled_model",
}
_POLICY: Final = "policy"
_SAME: Final = 1e-12


def drawn_comparison(comparisons: Sequence[Comparison]) -> PolicyComparison | None:
    """The champion against a random action by the customers who were drawn into both; None where there are too few."""
    for one in comparisons:
        if (one.arm, one.against) == ("champion", "random_eligible") and one.measures["value"].estimate is not None:
            return PolicyComparison(
                id="policy_random",
                title=TITLES["policy_random"],
                how="arms",
                per="customer",
                value=one.measures["value"],
            )
    return None


def policy_comparisons(
    home: Home,
    configuration: Configuration,
    params: Params,
    journey_id: str,
    asked: AskedExperiment,
    *,
    looks: Looks,
) -> tuple[PolicyComparison, ...]:
    """All five, valued on the newest decisions of the experiment whose outcomes are known.

    Args:
        home: of the installation; a service may be writing it.
        configuration: that holds for it.
        params: how many decisions, and what is asked of a log.
        journey_id: the journey.
        asked: the experiment, and from when to when.
        looks: how intervals are made.

    Raises:
        StoreError: a store or a kept file cannot be read.
    """
    arbitrated: dict[str, Sequence[Candidate]] = {}

    def noted(recorded: DecisionRecord, made: Mapping[str, DecisionRecord]) -> None:
        if recorded.experiment_id == asked.experiment_id:
            arbitrated[recorded.decision_id] = [one for one in made[_POLICY].candidates if one.is_scored]

    log = decision_log(
        home,
        configuration,
        configuration.journeys.by_id[journey_id],
        Wanted(most=params.experiment.decisions, since=asked.since, until=asked.until),
        {_POLICY: WhatIf(as_champion=True)},
        noted=noted,
    )
    rows = np.array([one in arbitrated for one in log.decision_ids.tolist()], dtype=np.bool_)
    rows &= ~broken_rows(log.choices)
    table = arbitrated_of(log, arbitrated, configuration.catalogue).of(rows)
    return compared_policies(
        log.choices.of(rows),
        table,
        guard=Guard(
            smallest_ess=params.gate.smallest_ess,
            smallest_ess_share=params.gate.smallest_ess_share,
            largest_unsupported=params.gate.largest_unsupported,
        ),
        looks=looks,
        seed=params.seed,
    )


def arbitrated_of(log: DecisionLog, candidates: Mapping[str, Sequence[Candidate]], catalogue: Catalogue) -> Arbitrated:
    """What the arbitration of each decision of a log had before it.

    Args:
        log: the decisions.
        candidates: by decision, those that came as far as the arbitration; nothing of a decision that has none.
        catalogue: in whose order the options stand.
    """
    place = {option.treatment_id: i for i, option in enumerate(log.options)}
    shape = (len(log), len(log.options))
    eligible = np.zeros(shape, dtype=np.bool_)
    eligible[:, 0] = True
    response, net_value = np.full(shape, np.nan), np.full(shape, np.nan)
    context, lever = np.zeros(shape), np.zeros(shape)
    for row, decision_id in enumerate(log.decision_ids.tolist()):
        for one in candidates.get(decision_id, ()):
            at = place.get(one.treatment_id)
            if at is None or one.treatment_id == NO_ACTION:
                continue
            eligible[row, at] = True
            response[row, at] = one.control_response + one.uplift
            net_value[row, at] = one.net_value
            context[row, at], lever[row, at] = one.context_weight_pct, one.lever_pct
    return Arbitrated(
        eligible=eligible,
        response=response,
        net_value=net_value,
        context_weight_pct=context,
        lever_pct=lever,
        mandatory=np.array([_is_mandatory(one, catalogue) for one in log.options], dtype=np.bool_),
        order=_order(log.options, catalogue),
    )


def _is_mandatory(option: Option, catalogue: Catalogue) -> bool:
    action = catalogue.by_id.get(option.action_id)
    return action is not None and action.mandatory


def _order(options: Sequence[Option], catalogue: Catalogue) -> NDArray[np.int64]:
    treatments = [treatment.id for action in catalogue.actions for treatment in action.treatments]
    number = {treatment_id: i for i, treatment_id in enumerate(treatments)}
    return np.array([number.get(one.treatment_id, len(number)) for one in options], dtype=np.int64)


def compared_policies(
    log: LoggedChoices, arbitrated: Arbitrated, *, guard: Guard, looks: Looks, seed: int
) -> tuple[PolicyComparison, ...]:
    """What the policy would have earned for each decision more than each of the others, or why that cannot be told.

    Args:
        log: decisions whose logged probabilities are whole.
        arbitrated: what each had before it.
        guard: what is asked of the log for either policy.
        looks: how intervals are made.
        seed: of the estimates that are dealt out anew.
    """
    tables = baseline_policies(arbitrated, seed=seed)
    policy = tables["by_priority"]
    return tuple(_compared(one, log, policy, tables[other], guard, looks) for one, other in _AGAINST.items())


def _compared(
    comparison: PolicyComparisonId,
    log: LoggedChoices,
    policy: Floats,
    other: Floats,
    guard: Guard,
    looks: Looks,
) -> PolicyComparison:
    refused = [
        f"{who}: {one.reason}"
        for who, table in (("the policy", policy), ("the other", other))
        for one in choice_refusals(log, table, guard)
    ]
    found = Spread(*[math.nan] * 5)
    if not refused and len(log):
        if float(np.abs(policy - other).sum()) < _SAME:
            found = Spread(*[0.0] * 5)
        else:
            told = clustered_mean(policy_scores(log, policy) - policy_scores(log, other), log.people)
            # Decisions are the clock: once everybody has come, the number of people would stand still.
            found = spread_of(told, looks, n=len(log))
    return PolicyComparison(
        id=comparison,
        title=TITLES[comparison],
        how="off_policy",
        per="decision",
        value=Estimate(**{name: None if math.isnan(one) else one for name, one in found._asdict().items()}),
        decisions=len(log),
        refused=tuple(refused),
    )


def clustered_mean(terms: Floats, people: NDArray[np.generic]) -> ArmMean:
    """The mean over rows with its variance over people: ``k/(k-1) sum_i (sum of i's (terms - mean))^2 / n^2``.

    References:
        Liang and Zeger 1986, Longitudinal data analysis using generalized linear models (the sandwich of an intercept).
    """
    k = len(np.unique(people))
    variance = math.nan if k < 2 else k / (k - 1) * clustered_error(terms, people) ** 2
    return ArmMean(n=k, mean=float(terms.mean()), variance=variance)
