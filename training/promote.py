"""What the promotion gate looks at: recorded decisions made again with either model, and what came of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from features.errors import BundleError, Refused, UnknownObject
from features.home import Home
from features.journeys import Journey
from features.schema import feature_set
from models.bundle import check_horizon, load_bundle
from models.configuration import Configuration
from models.gate import Comparison, Gate, Verdict, judged
from models.off_policy_log import Guard
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name
from models.replayer import WhatIf
from training.decision_log import RECORDED, DecisionLog, Wanted, decision_log
from training.params import GateParams, Params


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


def check_serves(home: Home, configuration: Configuration, journey: Journey, version: int) -> None:
    """Refuse a version that no service with this configuration would let decide; the gate finds that out by itself.

    Raises:
        Refused: it reads other features, tells of another horizon, or is damaged.
    """
    name = model_name(journey.id)
    names = feature_set(configuration.taxonomy, journey).names
    try:
        check_horizon(load_bundle(LocalRegistry(home.bundles).path(name, version), names), journey.horizon)
    except BundleError as error:
        raise Refused(
            f"version {version} of {name} would not serve under the configuration in force, expected one that does: "
            f"{error}"
        ) from error


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
        looks=wanted.looks,
        planned=wanted.planned,
        resamples=wanted.resamples,
        seed=params.seed,
        guard=Guard(
            smallest_ess=wanted.smallest_ess,
            smallest_ess_share=wanted.smallest_ess_share,
            largest_unsupported=wanted.largest_unsupported,
        ),
        smallest_changed=wanted.smallest_changed,
        smallest_customers=wanted.smallest_customers,
        largest_broken_share=wanted.largest_broken_share,
        largest_skipped_share=wanted.largest_skipped_share,
        calibration=wanted.calibration,
        largest_contact_rise=wanted.largest_contact_rise,
        contact_cost_factor=wanted.contact_cost_factor,
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
        "difference": None if difference is None else difference._asdict(),
        "dear_contacts": None if verdict.dear_contacts is None else verdict.dear_contacts._asdict(),
        "learned_until": contest.learned_until,
        "gate": asdict(gate),
    }


def comparison(home: Home, configuration: Configuration, params: GateParams, contest: Contest) -> Comparison:
    """What the gate compares: ``contest_log`` as it reads it."""
    return compared(contest_log(home, configuration, params, contest))


def contest_log(home: Home, configuration: Configuration, params: GateParams, contest: Contest) -> DecisionLog:
    """The decisions made since both models were trained, whose outcomes are known, beside what either would do.

    Decisions that either learned from would flatter it, so they are left out.
    """
    models = {CHAMPION: contest.champion, CHALLENGER: contest.challenger}
    return decision_log(
        home,
        configuration,
        contest.journey,
        Wanted(most=params.decisions, after=contest.learned_until, features=contest.features),
        {name: WhatIf(bundle=version, as_champion=True) for name, version in models.items()},
        predicted_by=(CHALLENGER, CHAMPION, RECORDED),
    )


def compared(log: DecisionLog) -> Comparison:
    """Champion and challenger on a log, stage by stage."""
    return Comparison(
        log=log.choices,
        champion=log.policies[CHAMPION],
        challenger=log.policies[CHALLENGER],
        own=log.own[CHALLENGER],
        own_control=log.own_control[CHALLENGER],
        groups=np.char.add("stage ", log.stages),
        skipped=log.skipped.total(),
    )
