"""Registered models for callers: what there is, and promotion and rollback by the commands that do them.

The commands write bundles, the promotion log and, for a rollout, the policy's file; what decides takes them up as it
does when an operator runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from features.errors import UnknownObject
from features.events import shown
from models.model_list import registered_models
from models.registry import model_name
from serving.child_commands import Command, Finished, RunCommand
from serving.model_views import (
    LONGEST_REASON,
    SHOWN_PROMOTIONS,
    SHOWN_VERSIONS,
    ListedModel,
    ModelsAnswer,
    ModelVersion,
    PlacedAlias,
    PromotionAnswer,
    ShareChange,
)
from serving.problems import CommandRefused, ConfigurationFixed, PromotionRefused
from serving.requests import Fields
from serving.telemetry import log_event

PROMOTING: Final = "promotion"
ROLLING_BACK: Final = "rollback"
ENDING: Final = "end of the rollout"
"""Nothing that puts things back waits for a gate that is being asked."""

PROMOTING_SECONDS: Final = 900.0
"""The gate makes tens of thousands of decisions again with two models."""


class ModelDesk:
    """Tells of registered models, and has them promoted and rolled back.

    Args:
        root: the folder of bundles.
        journeys: ids of the journeys.
        serving: label of the bundle that decides for each journey now.
        challenging: likewise for the challenger's arm.
        share: of the population that challengers decide for.
        fixed_folder: where the deployment keeps the configuration; None where it is the home's own or built in.
        run: runs a command.
        taken_up: has what decides look at aliases and policy now, instead of at the next tick.
    """

    def __init__(
        self,
        *,
        root: Path,
        journeys: Sequence[str],
        serving: Callable[[], Mapping[str, str | None]],
        challenging: Callable[[], Mapping[str, str | None]],
        share: Callable[[], float],
        fixed_folder: str | None,
        run: RunCommand,
        taken_up: Callable[[], None],
    ) -> None:
        self._root, self._journeys = root, {model_name(one): one for one in journeys}
        self._serving, self._challenging, self._share = serving, challenging, share
        self._fixed_folder, self._run, self._taken_up = fixed_folder, run, taken_up

    def models(self) -> ModelsAnswer:
        """The model of every journey, and what else is registered: versions, aliases and promotions."""
        found = {one["name"]: one for one in registered_models(self._root)}
        serving, challenging = self._serving(), self._challenging()
        listed = []
        for name in sorted({*found, *self._journeys}):
            model = found.get(name, {})
            journey_id = self._journeys.get(name, model.get("journey_id"))
            listed.append(
                ListedModel(
                    name=name,
                    journey_id=journey_id,
                    serving=serving.get(journey_id or ""),
                    challenging=challenging.get(journey_id or ""),
                    aliases=msgspec.convert(model.get("aliases", {}), dict[str, PlacedAlias]),
                    versions=tuple(_version(one) for one in model.get("versions", [])[:SHOWN_VERSIONS]),
                    promotions=tuple(model.get("promotions", [])[:SHOWN_PROMOTIONS]),
                )
            )
        for problem in sorted({problem for model in found.values() for problem in model["problems"]}):
            log_event("models_unreadable", reason=problem)  # it names folders, which callers need not know
        return ModelsAnswer(models=tuple(listed), share=self._share())

    def promote(self, name: str, document: object, *, by: str) -> PromotionAnswer:
        """Have a version promoted, or decide for a share; it may take a while: call it in a thread.

        Args:
            name: of the registered model.
            document: the body, a ``PromotionRequest``.
            by: the caller's key, as the promotion log is to name it.

        Raises:
            UnknownObject: there is no such model or version.
            InvalidInput: with every bad field.
            PromotionRefused: with the gate's reasons, or why it cannot be.
            ConfigurationFixed: a share, where the policy is the deployment's.
            InFlight: it is still running; asking the same again gives its result.
            TooManyRequests: another promotion is under way.
            StoreUnavailable: it failed.
        """
        journey_id = self._journey(name)
        fields = Fields.of(document, ("version", "share", "dry_run", "force", "reason"))
        version = fields.integer("version", 1, 1_000_000, None)
        share, dry_run, force = _share_of(fields), fields.flag("dry_run", False), fields.flag("force", False)
        reason = _reason_of(fields)
        if force and dry_run:
            fields.add("force", True, "no dry_run with it")
        if force and not reason.strip():
            fields.add("reason", reason, "why the gate is passed over")
        fields.refuse("the model cannot be promoted like this")
        if share is not None and self._fixed_folder is not None and not dry_run:
            raise ConfigurationFixed(
                f"the policy is in {self._fixed_folder}, which the deployment owns; expected one in the home: change "
                f"`experiment.challenger` there, or run `headway promote --share` as its owner"
            )
        words = ["promote", "--journey", journey_id, "--by", by, f"--reason={reason}", "--json"]
        words += ["--version", str(version)] if version is not None else []
        words += [f"--share={share!r}"] if share is not None else []
        words += ["--dry-run"] if dry_run else []
        words += ["--force"] if force else []
        finished = self._done(ENDING if share == 0 else PROMOTING, words)
        told = finished.document
        if not (finished.is_done or dry_run):
            raise PromotionRefused(
                "the promotion gate refused this version: "
                + ", ".join(one["code"] for one in told["verdict"]["reasons"]),
                reasons=told["verdict"]["reasons"],
                evidence=told["verdict"],
            )
        return self._answered(name, told, is_done=finished.is_done and not dry_run, by=by)

    def rollback(self, name: str, document: object, *, by: str) -> PromotionAnswer:
        """Have the champion before put back in its place.

        Raises:
            UnknownObject: there is no such model, or the bundle to go back to is gone.
            InvalidInput: with every bad field.
            PromotionRefused: the promotion log names no champion before, or another than the one to be left is it.
            InFlight: it is still running; asking the same again gives its result.
            TooManyRequests: another promotion is under way.
            StoreUnavailable: it failed.
        """
        journey_id = self._journey(name)
        fields = Fields.of(document, ("version", "reason"))
        version, reason = fields.integer("version", 1, 1_000_000, None), _reason_of(fields)
        fields.refuse("the model cannot be rolled back like this")
        words = ["rollback", "--journey", journey_id, "--by", by, f"--reason={reason}", "--json"]
        words += ["--version", str(version)] if version is not None else []
        return self._answered(name, self._done(ROLLING_BACK, words).document, is_done=True, by=by)

    def _done(self, kind: str, words: Sequence[str]) -> Finished:
        try:
            return self._run(Command(kind=kind, words=tuple(words), seconds=PROMOTING_SECONDS))
        except CommandRefused as error:
            raise PromotionRefused(str(error)) from error

    def _answered(self, name: str, told: Mapping[str, Any], *, is_done: bool, by: str) -> PromotionAnswer:
        answer = PromotionAnswer(
            done=is_done,
            verdict=told.get("verdict"),
            entry=told.get("entry"),
            share=None if told.get("share") is None else msgspec.convert(told["share"], ShareChange),
        )
        if is_done:
            self._taken_up()
            kind = (answer.entry or {}).get("kind")
            log_event("promotion_done", name=name, kind=kind, by=by, serving=self._serving())
        return answer

    def _journey(self, name: str) -> str:
        if name not in self._journeys:
            raise UnknownObject(f"no model {shown(name)}; expected one of {', '.join(self._journeys)}")
        return self._journeys[name]


def _version(told: Mapping[str, Any]) -> ModelVersion:
    known = {name: told.get(name) for name in ModelVersion.__struct_fields__ if name != "is_damaged"}
    return msgspec.convert({**known, "is_damaged": told["damaged"] is not None}, ModelVersion)


def _share_of(fields: Fields) -> float | None:
    if fields.value("share") is None:
        return None
    share = fields.number("share")
    if share is not None and not 0 <= share <= 1:
        fields.add("share", share, "a number from 0 to 1")
    return share


def _reason_of(fields: Fields) -> str:
    reason = fields.value("reason")
    if reason is None:
        return ""
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON or not reason.replace("\n", " ").isprintable():
        fields.add("reason", reason, f"text of at most {LONGEST_REASON} characters that can be printed")
        return ""
    return reason
