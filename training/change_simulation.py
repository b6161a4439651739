"""What a policy, catalogue or model that is not in force would have changed of recorded live decisions.

Each decision is made again from its own record. What the change would have led to later is not part of it: every
decision is taken by itself, with the contacts and the capacity that were there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from features.errors import InvalidInput, Problem, Refused
from features.events import dump_timestamp, dump_timestamp_or_none, shown
from features.home import Home
from features.journey_question import ENTRY_CHANNEL, NPS_BAND, groupings
from features.journeys import Journey
from features.taxonomy import Taxonomy
from features.yaml_files import content_version
from models.bundle import load_bundle
from models.change_figures import Figuring, change_figures, interval_document
from models.change_tally import ChangeTally, Reading
from models.change_value import ValueOfChange, value_of_change
from models.configuration import Configuration
from models.contact_policy import longest_period
from models.decision import DecisionRecord
from models.policy import Policy
from models.registry import LocalRegistry, model_name
from models.replayer import WhatIf
from training.decision_log import RECORDED, UNDECLARED, DecisionLog, Wanted, decision_log
from training.params import Params
from training.promote import gate_of

FORMAT: Final = 1
AFTER: Final = "after"
LARGEST_SKIPPED_SHARE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeQuestion:
    """What is asked.

    Attributes:
        journey: as declared.
        what_if: the change.
        most: the newest decisions, at the most.
        since: only those decided from here on, microseconds since the epoch; None for no bound.
        until: only those decided before; None for no bound.
        group_by: attributes that groups are made by.
    """

    journey: Journey
    what_if: WhatIf
    most: int
    since: int | None = None
    until: int | None = None
    group_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a change of nothing.

        Raises:
            Refused: nothing is to be different.
        """
        if not self.what_if.changes_something:
            raise Refused("nothing to simulate, expected a --policy, --actions or --version that is to be different")


def declared_groups(taxonomy: Taxonomy, wanted: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The attributes that groups are made by: those wanted, or every category and boolean that is not personal.

    Raises:
        InvalidInput: naming each that makes no groups.
    """
    known = [name for name in groupings(taxonomy) if name in taxonomy.attributes]
    known = [name for name in known if name not in (ENTRY_CHANNEL, NPS_BAND) or name in wanted]
    expected = f"a category or boolean attribute that is not personal: {', '.join(known)}"
    problems = [Problem("--group-by", shown(name), expected) for name in wanted if name not in known]
    if problems:
        raise InvalidInput("the change cannot be simulated as asked", problems)
    return tuple(dict.fromkeys(wanted)) or tuple(known)


def simulated_change(home: Home, configuration: Configuration, params: Params, asked: ChangeQuestion) -> dict[str, Any]:
    """The whole answer, as JSON values; the same question on the same decisions gives the same.

    Args:
        home: of the installation; a service may be writing it.
        configuration: that holds for it.
        params: whose ``gate`` says what is asked of the log before it may value a change.
        asked: the question.

    Raises:
        UnknownObject: there is no such version of the model.
        StoreError: a store or a kept file cannot be read.
    """
    learned_until = _learned_until(home, asked)
    tally = ChangeTally(
        Reading(
            attributes=asked.group_by,
            binary_outcomes=frozenset(one.id for one in asked.journey.outcomes if one.type == "binary"),
        )
    )
    span: list[int] = []

    def noted(recorded: DecisionRecord, made: Mapping[str, DecisionRecord]) -> None:
        tally.add(recorded, made[AFTER])
        span[:] = [min([*span, recorded.decided_at]), max([*span, recorded.decided_at])]

    log = decision_log(
        home,
        configuration,
        asked.journey,
        Wanted(most=asked.most, since=asked.since or 0, until=asked.until, settled=False),
        {AFTER: asked.what_if},
        predicted_by=(RECORDED,),
        probability="selection_probability",
        noted=noted,
    )
    table = tally.table()
    figures = change_figures(table, _figuring(configuration.taxonomy, params))
    rows = log.decision_ids > learned_until if learned_until else np.ones(len(log), dtype=np.bool_)
    value = value_of_change(
        log.choices.of(rows),
        log.policies[AFTER][rows],
        gate_of(params).guard,
        seed=params.seed,
        n_resamples=params.gate.resamples,
        level=params.gate.level,
    )
    estimated = figures.pop("estimated_value")
    skipped = Counter({reason: n for reason, n in log.skipped.items() if reason != UNDECLARED and n})
    question = _question(configuration, asked)
    return {
        "format": FORMAT,
        "id": _identity(question, configuration, params, log, table.decision_ids.tolist()),
        "question": question,
        "sample": {
            "decisions": len(table) + skipped.total(),
            "compared": len(table),
            "customers": len(np.unique(table.people)),
            "first": dump_timestamp(span[0]) if span else None,
            "last": dump_timestamp(span[1]) if span else None,
            "skipped": dict(skipped.most_common()),
        },
        **figures,
        "value": {
            "currency": configuration.taxonomy.currency,
            "level": params.gate.level,
            "estimated": estimated,
            "doubly_robust": _valued(value, compared=len(table), learned_from=int((~rows).sum())),
        },
        "caveats": list(_caveats(home, configuration, asked, skipped.total(), len(table), learned_until)),
    }


def _figuring(taxonomy: Taxonomy, params: Params) -> Figuring:
    return Figuring(
        reaching=frozenset(name for name, one in taxonomy.channels.items() if one.outbound),
        seed=params.seed,
        level=params.gate.level,
    )


def _learned_until(home: Home, asked: ChangeQuestion) -> str:
    """Id of the last decision that the model of the change learned from; empty where none is named, or it did not.

    Raises:
        UnknownObject: there is no such version.
        BundleError: the bundle is damaged.
    """
    version = asked.what_if.bundle
    if version is None:
        return ""
    path = LocalRegistry(home.bundles).path(model_name(asked.journey.id), version)
    return str(load_bundle(path, None).lineage.training.get("last_decision_id") or "")


def _question(configuration: Configuration, asked: ChangeQuestion) -> dict[str, Any]:
    what_if = asked.what_if
    return {
        "journey_id": asked.journey.id,
        "policy": None if what_if.policy is None else content_version(what_if.policy),
        "actions": None if what_if.catalogue is None else content_version(what_if.catalogue),
        "version": what_if.bundle,
        "in_force": dict(configuration.versions),
        "last": asked.most,
        "since": dump_timestamp_or_none(asked.since),
        "until": dump_timestamp_or_none(asked.until),
        "group_by": list(asked.group_by),
    }


def _identity(
    question: Mapping[str, Any], configuration: Configuration, params: Params, log: DecisionLog, decision_ids: list[str]
) -> str:
    """``sim-`` and 16 hexadecimal digits of the question, the decisions and what came of them."""
    gate = asdict(gate_of(params))
    asked = [FORMAT, question, configuration.version, params.seed, gate, decision_ids, log.decision_ids.tolist()]
    words = json.dumps(asked, sort_keys=True)
    digest = hashlib.blake2b(words.encode(), digest_size=8)
    digest.update(np.ascontiguousarray(log.choices.response).tobytes())
    return f"sim-{digest.hexdigest()}"


def _valued(value: ValueOfChange, *, compared: int, learned_from: int) -> dict[str, Any]:
    """What came of the decisions says, or why it says nothing."""
    return {
        "decisions": value.decisions,
        "customers": value.people,
        "not_valued": compared - value.decisions,
        "learned_from": learned_from,
        "ess": value.ess,
        "before": interval_document(value.before),
        "after": interval_document(value.after),
        "difference": interval_document(value.difference),
        "refused": [
            {"code": one.code, "value": one.value, "threshold": one.threshold, "text": one.reason}
            for one in value.refusals
        ],
    }


def _caveats(
    home: Home, configuration: Configuration, asked: ChangeQuestion, skipped: int, compared: int, learned_until: str
) -> Iterator[dict[str, str]]:
    what_if = asked.what_if
    yield _caveat(
        "each_by_itself",
        "Every decision is taken by itself: contacts and capacity that the change would have used or spared earlier do "
        "not count against later decisions.",
    )
    yield _caveat("first_slot", "Of several slots only the first is counted and valued.")
    if what_if.policy is not None:
        yield from _policy_caveats(configuration.policy, what_if.policy)
    if what_if.catalogue is not None:
        yield _caveat(
            "recorded_money",
            "What came of the decisions is valued by the values, incentives and costs that were recorded; those of the "
            "changed catalogue are in the estimated value and the spend.",
        )
    if what_if.bundle is not None:
        yield _caveat(
            "own_estimates",
            "The estimated value after the change is what the other model believes of its own choices.",
        )
        if learned_until:
            yield _caveat(
                "learned_from",
                f"The model learned from decisions up to {learned_until}; only later ones are valued by what came of "
                f"them.",
            )
    if not compared:
        yield _caveat("no_decisions", "No decision could be made again: this says nothing about the change.")
    elif skipped / (skipped + compared) > LARGEST_SKIPPED_SHARE:
        yield _caveat(
            "many_skipped",
            f"{skipped / (skipped + compared):.0%} of the decisions could not be made again; those that could may not "
            f"stand for the rest.",
        )


def _policy_caveats(in_force: Policy, wanted: Policy) -> Iterator[dict[str, str]]:
    if longest_period(wanted.contact_policy) > longest_period(in_force.contact_policy):
        yield _caveat(
            "looks_further_back",
            "The policy looks further back on contacts than the one in force: older contacts are in no record, so its "
            "caps and suppressions look looser here than they would be.",
        )
    new = sorted(_capacity_ids(wanted) - _capacity_ids(in_force))
    if new:
        yield _caveat(
            "unknown_capacity",
            f"What was taken of {', '.join(new)} is in no record: it counts as untouched in every decision.",
        )
    if (wanted.experiment.salt, wanted.experiment.id) != (in_force.experiment.salt, in_force.experiment.id):
        yield _caveat(
            "other_arms", "The policy deals the arms of the experiment anew: customers change places between them."
        )


def _capacity_ids(policy: Policy) -> set[str]:
    return {one.id for one in policy.capacity.limits} | {one.id for one in policy.capacity.budgets}


def _caveat(code: str, text: str) -> dict[str, str]:
    return {"code": code, "text": text}
