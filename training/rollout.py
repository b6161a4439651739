"""Steps of a gradual rollout: a version decides for a share of the population, once the gate lets it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import Refused
from features.home import Home
from models.configuration import Configuration, load_configuration
from models.gate_steps import step_verdict
from models.promotion_log import Shares, entry_document, promotions_file, read_promotions
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, model_name
from models.rollouts import Rollout, check_room, rollout_of, write_share
from training.params import Params
from training.promote import check_serves, contest, gate_of, named_journey, verdict_document, verdict_on, wanted_version


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWanted:
    """One step that is asked for.

    Attributes:
        journey_id: may be None where there is one.
        version: the challenger's if None.
        share: of the population.
        at: now, microseconds since the epoch.
        by: who.
    """

    journey_id: str | None
    version: int | None
    share: float
    dry_run: bool
    force: bool
    reason: str
    at: int
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaken:
    """What came of it.

    Attributes:
        is_refused: by the gate.
        document: JSON values: ``promoted``, ``verdict``, ``entry``, ``share``.
        said: for people, the verdict not included.
    """

    is_refused: bool
    document: dict[str, Any]
    said: list[str]


def present_share() -> float:
    """The challengers' share by the policy that is in force for this process's environment."""
    home = Home.from_environment(os.environ)
    return load_configuration(home, os.environ).policy.experiment.challenger


def take_step(home: Home, configuration: Configuration, params: Params, wanted: StepWanted) -> StepTaken:
    """Let a version decide for a share. A share that does not grow is not asked for anything; 0 ends the rollout.

    Raises:
        Refused: holdout and random arm leave no room, or another journey's challenger would get the share too.
        UnknownObject: there is no such journey, version, champion or challenger.
        HeadwayError: as ``Promoter.give_share`` and ``write_share``.
    """
    journey = named_journey(configuration, wanted.journey_id)
    name, registry = model_name(journey.id), LocalRegistry(home.bundles)
    shares = Shares(before=configuration.policy.experiment.challenger, after=wanted.share)
    challenger, champion = registry.alias(name, CHALLENGER), registry.alias(name, CHAMPION)
    if not wanted.share and wanted.version is None:
        version = champion or wanted_version(home, journey, None)
    else:
        version = wanted_version(home, journey, wanted.version)
    if shares.before == shares.after and (version == challenger or not wanted.share):
        return StepTaken(is_refused=False, document=_document(), said=["The share is that already: nothing to do."])
    if wanted.share and version == champion:
        raise Refused(f"version {version} of {name} is the champion already, expected another one")
    check_room(configuration.policy, wanted.share)
    promoter = Promoter(registry, share=present_share)
    evidence = None
    is_growing = wanted.share > 0 and (shares.after > shares.before or version != challenger)
    if is_growing and not wanted.force:
        _refuse_others(registry, configuration, name)
        evidence = _asked(home, configuration, params, journey.id, version, wanted.share)
    is_refused = evidence is not None and not evidence["promotes"]
    if is_growing and wanted.force:
        check_serves(home, configuration, journey, version)
    if wanted.dry_run:
        said = [] if is_growing else ["The gate is not asked of a share that does not grow."]
        return StepTaken(is_refused=is_refused, document=_document(verdict=evidence), said=said)
    if evidence is not None and is_refused:
        told: dict[str, Any] = {"at": wanted.at, "by": wanted.by, "reason": wanted.reason, "shares": shares}
        entry = entry_document(promoter.refused(name, version, evidence=evidence, **told))
        return StepTaken(is_refused=True, document=_document(verdict=evidence, entry=entry), said=[])
    return _given(home, promoter, name, version, shares, wanted, evidence=evidence, expected=champion)


def _asked(
    home: Home, configuration: Configuration, params: Params, journey_id: str, version: int, share: float
) -> dict[str, Any]:
    """What the gate says of a version and a share, as JSON values."""
    compared = contest(home, configuration, journey_id, version)
    full = verdict_on(home, configuration, params, compared)
    verdict = step_verdict(full, share, largest_blind_share=params.gate.largest_blind_share)
    return verdict_document(compared, verdict, gate_of(params)) | {"share": share}


def rollout_under_way(home: Home, name: str) -> Rollout | None:
    """The rollout under way of a model, if there is one."""
    return rollout_of(read_promotions(promotions_file(home.bundles)), name, present_share())


def end_rollout(home: Home, name: str, rollout: Rollout, *, at: int, by: str) -> dict[str, Any]:
    """Put the share back to where the rollout of a version began that is the champion now, and give what was changed.

    Were it left, the next challenger would decide for it, and nobody would have asked the gate.

    Raises:
        HeadwayError: the policy cannot be written; the version stays the champion all the same.
    """
    shares = Shares(before=rollout.share, after=rollout.began_from)
    written: list[Configuration] = []
    Promoter(LocalRegistry(home.bundles), share=present_share).give_share(
        name,
        rollout.version,
        shares,
        put=lambda wanted: written.append(write_share(home, os.environ, wanted)),
        at=at,
        by=by,
        reason="the version that was rolled out is the champion",
    )
    return _changed(home, shares, written)


def _refuse_others(registry: LocalRegistry, configuration: Configuration, name: str) -> None:
    """Refuse where the share, which is one for all journeys, would also be given to a challenger nobody asked about."""
    names = [model_name(journey.id) for journey in configuration.journeys.journeys]
    others = [
        one
        for one in names
        if one != name and registry.alias(one, CHALLENGER) not in (None, registry.alias(one, CHAMPION))
    ]
    if others:
        raise Refused(
            f"the share holds for every journey, and {', '.join(others)} have a challenger too; expected none there: "
            f"promote it or another version first, or pass --force with a --reason"
        )


def _given(
    home: Home,
    promoter: Promoter,
    name: str,
    version: int,
    shares: Shares,
    wanted: StepWanted,
    *,
    evidence: dict[str, Any] | None,
    expected: int | None,
) -> StepTaken:
    written: list[Configuration] = []
    entry = promoter.give_share(
        name,
        version,
        shares,
        put=lambda share: written.append(write_share(home, os.environ, share)),
        at=wanted.at,
        by=wanted.by,
        forced=wanted.force,
        reason=wanted.reason,
        evidence=evidence,
        expected=expected,
    )
    changed = _changed(home, shares, written)
    document = _document(verdict=evidence, entry=entry_document(entry), share=changed)
    if shares.after:
        said = f"{name} version {version} decides for {_percent(shares.after)} of the customers"
    else:
        said = f"{name} version {version}, the champion, decides for everybody again"
    return StepTaken(is_refused=False, document=document, said=[f"{said}; the share was {_percent(shares.before)}"])


def _document(
    *, verdict: dict[str, Any] | None = None, entry: dict[str, Any] | None = None, share: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"promoted": False, "verdict": verdict, "entry": entry, "share": share}


def _changed(home: Home, shares: Shares, written: Sequence[Configuration]) -> dict[str, Any]:
    after = written[-1] if written else load_configuration(home, os.environ)
    return {"before": shares.before, "after": shares.after, "policy_version": after.versions["policy"]}


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
