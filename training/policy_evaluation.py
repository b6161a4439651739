"""What a policy, a catalogue or a model would have earned on the recorded decisions, in money over doing nothing.

Each decision is made again from its own record, by the champion's rule for everybody, and valued on what came of what
was really done (``models.policy_values``). Only reads the home, beside a service that writes it, but for the report.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.errors import Refused
from features.events import dump_timestamp_or_none
from features.home import Home
from features.journeys import Journey
from features.yaml_files import content_version
from models.baseline_policies import baseline_policies
from models.bundle import load_bundle
from models.configuration import Configuration
from models.configuration_history import ConfigurationHistory
from models.logged_choices import LoggedChoices, broken_rows
from models.metrics import Interval
from models.off_policy import Estimate, EstimateParams, EstimatorName
from models.off_policy_log import Guard, Refusal
from models.policy_values import PolicyValues, on_policy_value, paired_difference, policy_values
from models.price_files import PriceLists
from models.registry import LocalRegistry, model_name
from models.replayer import AS_RECORDED, Replayer, Scorers, WhatIf
from models.unknown_numbers import if_finite
from training.decision_log import RECORDED, DecisionLog, Wanted, decision_log
from training.logged_slates import MetSlates, slates_document
from training.params import Params

FORMAT: Final = 1
ASKED: Final = "asked"
UNIT: Final = "money per decision over doing nothing"

_BRIEFLY: Final[tuple[EstimatorName, ...]] = ("DR",)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyQuestion:
    """Which policy is to be valued, on which decisions.

    Attributes:
        journey: whose decisions.
        what_if: the policy, the catalogue and the version that decide instead of the recorded ones, for everybody as
            for the champion's arm. What is not given stays what it was at each decision.
        since: only decisions from here on, microseconds since the epoch; None for no bound.
        until: only decisions before.
        last: so many of the newest at most.
    """

    journey: Journey
    what_if: WhatIf
    since: int | None = None
    until: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Data:
    """The decisions that are valued on: those whose logged probabilities are whole.

    Attributes:
        log: of them.
        choices: of them.
        policy: ``(n, m)`` of the policy that is valued.
        broken: decisions left out for their probabilities.
        learned_until: id of the last decision that the named version learned from; empty where none is named.
        slates: the section ``slates``.
    """

    log: DecisionLog
    choices: LoggedChoices
    policy: Floats
    kept: NDArray[np.bool_]
    broken: int
    learned_until: str
    slates: Mapping[str, Any]

    @property
    def skipped(self) -> Counter[str]:
        """Decisions that were asked for and could not be used, by reason."""
        return self.log.skipped + Counter({"broken_probabilities": self.broken})


def policy_evaluation(
    home: Home, configuration: Configuration, params: Params, question: PolicyQuestion
) -> dict[str, Any]:
    """The report, as JSON values; the same question on the same data gives the same report.

    Raises:
        UnknownObject: there is no such version.
        Refused: nothing was ever decided here, or the journey declares no outcome.
        BundleError: the version's bundle is damaged.
        StoreError: a store or a kept file cannot be read.
    """
    data = _data(home, configuration, params, question)
    estimating = estimate_params(params)
    document = {
        "journey": question.journey.id,
        "unit": UNIT,
        "question": _question_document(question, data),
        "data": _data_document(data),
        "params": {**asdict(estimating), "log": _log_limits(params)},
    }
    found = _found(data, params, estimating)
    return {"format": FORMAT, "id": _id(document, data), **document, **found}


def estimate_params(params: Params) -> EstimateParams:
    """How values are estimated: as the gate does, but that a value needs more overlap than a paired difference."""
    gate = params.gate
    guard = Guard(smallest_ess=gate.smallest_ess, largest_unsupported=gate.largest_unsupported)
    return EstimateParams(guard=guard, resamples=params.evaluation.resamples, level=gate.level, seed=params.seed)


def _log_limits(params: Params) -> dict[str, float]:
    gate = params.gate
    return {
        "largest_broken_share": gate.largest_broken_share,
        "largest_skipped_share": gate.largest_skipped_share,
        "smallest_group": gate.smallest_group,
    }


def _data(home: Home, configuration: Configuration, params: Params, question: PolicyQuestion) -> _Data:
    what_if = replace(question.what_if, as_champion=True)
    learned_until, features = "", None
    if what_if.bundle is not None:
        registry = LocalRegistry(home.bundles)
        lineage = load_bundle(registry.path(model_name(question.journey.id), what_if.bundle), None).lineage
        learned_until = str(lineage.training.get("last_decision_id") or "")
        features = frozenset({lineage.features_version})
    if not question.journey.outcomes:
        raise Refused(f"the journey {question.journey.id} declares no outcome, expected one to value decisions by")
    if not home.has_records:
        raise Refused(f"no decision was ever made in {home.root}, expected a log to value a policy on")
    met = MetSlates(ASKED)
    log = decision_log(
        home,
        configuration,
        question.journey,
        Wanted(
            most=question.last or params.gate.decisions,
            after=learned_until,
            since=question.since or 0,
            until=question.until,
            features=features,
        ),
        {ASKED: what_if},
        predicted_by=(RECORDED,),
        noted=met,
    )
    history, prices = ConfigurationHistory(home, configuration), PriceLists(home.prices)
    scorers = Scorers(LocalRegistry(home.bundles))
    recorded, asked = (Replayer(history, scorers, prices, one) for one in (AS_RECORDED, what_if))
    kept = ~broken_rows(log.choices)
    return _Data(
        log=log,
        choices=log.choices.of(kept),
        policy=log.policies[ASKED][kept],
        kept=kept,
        broken=int((~kept).sum()),
        learned_until=learned_until,
        slates=slates_document(log, met, recorded, asked, estimate_params(params)),
    )


def _question_document(question: PolicyQuestion, data: _Data) -> dict[str, Any]:
    what_if = question.what_if
    return {
        "policy": None if what_if.policy is None else content_version(what_if.policy),
        "actions": None if what_if.catalogue is None else content_version(what_if.catalogue),
        "version": what_if.bundle,
        "arm": "champion",
        "since": dump_timestamp_or_none(question.since),
        "until": dump_timestamp_or_none(question.until),
        "last": question.last,
        "learned_until": data.learned_until or None,
    }


def _data_document(data: _Data) -> dict[str, Any]:
    decided_at = data.log.decided_at[data.kept]
    arms, counts = np.unique(data.log.arms[data.kept], return_counts=True)
    return {
        "decisions": len(data.choices),
        "customers": len(np.unique(data.choices.people)),
        "first_decided_at": dump_timestamp_or_none(int(decided_at.min())) if len(decided_at) else None,
        "last_decided_at": dump_timestamp_or_none(int(decided_at.max())) if len(decided_at) else None,
        "arms": dict(zip(arms.tolist(), counts.tolist(), strict=True)),
        "skipped": dict(sorted(data.skipped.items())),
    }


def _id(document: Mapping[str, Any], data: _Data) -> str:
    """Of the question and of everything that the answer is made from."""
    digest = hashlib.sha256(json.dumps([FORMAT, document], sort_keys=True).encode())
    digest.update("\n".join(data.log.decision_ids[data.kept].tolist()).encode())
    digest.update("\n".join(map(str, data.log.options)).encode())
    choices, arbitrated = data.choices, data.log.arbitrated.of(data.kept)
    tables = (choices.taken, choices.logged, choices.predicted, choices.control, choices.response, choices.value)
    others = (choices.incentive, choices.cost, choices.aim, choices.binary, data.policy)
    had = tuple(getattr(arbitrated, one.name) for one in fields(arbitrated))
    for table in (*tables, *others, *had):
        digest.update(np.ascontiguousarray(table).tobytes())
    return f"ope-{digest.hexdigest()[:16]}"


def _found(data: _Data, params: Params, estimating: EstimateParams) -> dict[str, Any]:
    about_log = log_refusals(data.choices, data.skipped, data.broken, params)
    if not len(data.choices):
        unknown = ("estimates", "logging", "difference", "changed", "weights", "overlap", "baselines", "actions")
        return {
            "refused": [refusal_document(one) for one in about_log],
            **dict.fromkeys((*unknown, "stages")),
            **data.slates,
        }
    values = policy_values(data.choices, data.policy, estimating)
    logging = policy_values(data.choices, data.choices.logged, estimating, names=())
    refused = (*about_log, *values.refusals)
    is_valued = not refused
    return {
        "refused": [refusal_document(one) for one in refused],
        "estimates": {name: _estimate_document(one) for name, one in values.estimates.items()} if is_valued else None,
        "logging": None
        if about_log or logging.refusals
        else _interval_document(on_policy_value(data.choices, estimating)),
        "difference": _interval_document(values.difference) if is_valued and values.difference is not None else None,
        "changed": values.changed,
        "weights": _weights_document(values),
        "overlap": {"unsupported": values.unsupported, "untreated_ess": values.untreated_ess},
        "baselines": None if about_log else _baselines(data, estimating, is_valued=is_valued),
        "actions": _action_mix(data),
        "stages": None if about_log else _stages(data, params, estimating),
        **data.slates,
    }


def log_refusals(choices: LoggedChoices, skipped: Mapping[str, int], broken: int, params: Params) -> list[Refusal]:
    """Why nothing can be valued on such a log at all; empty where there is no reason."""
    gate, n, lost = params.gate, len(choices), sum(skipped.values())
    found = []
    if not n and not lost:
        text = "no decision whose outcomes are known, expected some that the version did not learn from"
        found.append(Refusal("no_decisions", text, 0.0, estimate_params(params).guard.smallest_ess))
    share = broken / (n + broken) if n + broken else 0.0
    if share > gate.largest_broken_share:
        text = (
            f"the selection probabilities of {share:.1%} of {n + broken:,} decisions are missing, do not sum to 1, or "
            f"give what was done none; expected at most {gate.largest_broken_share:.1%}"
        )
        found.append(Refusal("broken_probabilities", text, share, gate.largest_broken_share))
    share = (lost - broken) / (n + lost) if n + lost else 0.0
    if share > gate.largest_skipped_share:
        text = (
            f"{share:.1%} of the decisions could not be made again, expected at most {gate.largest_skipped_share:.1%}: "
            f"those that can may not stand for the rest"
        )
        found.append(Refusal("not_replayable", text, share, gate.largest_skipped_share))
    return found


def refusal_document(one: Refusal) -> dict[str, Any]:
    """A refusal as JSON values."""
    return {"code": one.code, "value": one.value, "threshold": one.threshold, "text": one.reason}


def _estimate_document(one: Estimate) -> dict[str, float | None]:
    return {
        "value": if_finite(one.value),
        "low": if_finite(one.low),
        "high": if_finite(one.high),
        "ess": one.ess,
        "largest_weight": one.largest_weight,
        "share_clipped": one.share_clipped,
        "cut": if_finite(one.cut),
    }


def _interval_document(one: Interval) -> dict[str, float | None]:
    return {"value": one.estimate, "low": if_finite(one.low), "high": if_finite(one.high)}


def _weights_document(values: PolicyValues) -> dict[str, Any]:
    tail = values.tail
    return {
        "ess": tail.ess,
        "mean": tail.mean,
        "largest": tail.largest,
        "quantiles": {f"{level:g}": weight for level, weight in tail.quantiles.items()},
        "largest_share": if_finite(tail.largest_share),
    }


def _valued(values: PolicyValues) -> dict[str, Any]:
    """A policy that is not the one that was asked for: doubly robust alone."""
    dr = values.estimates.get("DR")
    return {
        "value": None if dr is None else {"value": dr.value, "low": if_finite(dr.low), "high": if_finite(dr.high)},
        "difference": None if values.difference is None else _interval_document(values.difference),
        "ess": values.tail.ess,
        "unsupported": values.unsupported,
        "refused": [refusal_document(one) for one in values.refusals],
    }


def _baselines(data: _Data, estimating: EstimateParams, *, is_valued: bool) -> dict[str, Any]:
    """Simple policies on the same decisions; ``lead`` is what the policy that was asked for earns more."""
    found = {}
    arbitrated = data.log.arbitrated.of(data.kept)
    for name, table in baseline_policies(arbitrated, seed=estimating.seed).items():
        values = policy_values(data.choices, table, estimating, names=_BRIEFLY)
        lead = None
        if is_valued and not values.refusals:
            lead = _interval_document(paired_difference(data.choices, data.policy, table, estimating))
        found[str(name)] = {**_valued(values), "lead": lead}
    return found


def _action_mix(data: _Data) -> list[dict[str, Any]]:
    """How often each action is taken on each channel: by the policy, as was logged, and as it came out."""
    n, options = len(data.choices), data.log.options
    taken = np.bincount(data.choices.taken, minlength=len(options)) / n
    shares: dict[tuple[str, str], list[float]] = {}
    columns = zip(options, data.policy.mean(axis=0), data.choices.logged.mean(axis=0), taken, strict=True)
    for option, *three in columns:
        known = shares.setdefault((option.action_id, option.channel), [0.0, 0.0, 0.0])
        shares[option.action_id, option.channel] = [a + float(b) for a, b in zip(known, three, strict=True)]
    return [
        {"action_id": action, "channel": channel or None, "policy": three[0], "logged": three[1], "taken": three[2]}
        for (action, channel), three in sorted(shares.items(), key=lambda one: -one[1][0])
        if any(three)
    ]


def _stages(data: _Data, params: Params, estimating: EstimateParams) -> dict[str, Any]:
    """The same by stage of the journey, doubly robust, of stages with enough decisions."""
    stages = data.log.stages[data.kept]
    found = {}
    for stage in np.unique(stages).tolist():
        rows = stages == stage
        if int(rows.sum()) < params.gate.smallest_group:
            found[stage] = {"decisions": int(rows.sum()), "value": None, "difference": None, "refused": None}
            continue
        values = policy_values(data.choices.of(rows), data.policy[rows], estimating, names=_BRIEFLY)
        found[stage] = {"decisions": int(rows.sum()), **_valued(values)}
    return found
