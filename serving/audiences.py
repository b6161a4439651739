"""Audiences for callers: made as durable jobs, estimated before, and lists screened; all in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from features.schema import FeatureSet
from models.audiences import AudienceSpec, Pins
from models.configuration import Configuration
from models.rule_checks import Names
from models.screen_lists import ScreenSpec
from serving.audience_requests import Sent, parse_audience, parse_list
from serving.audience_views import MOST_AT_ONCE, AudienceEstimate, ScreenAnswer
from serving.auth import Principal
from serving.child_commands import Command, RunCommand
from serving.configurations import Configurations
from serving.job_kinds import AUDIENCE, SCREENING, JobKind
from serving.job_views import JobView
from serving.jobs import JobDesk
from serving.telemetry import log_event

ESTIMATING_SECONDS: Final = 600.0
SCREENING_SECONDS: Final = 120.0


class AudienceDesk:
    """Takes audiences and lists.

    Args:
        configurations: what is in force.
        feature_sets: of the journeys.
        now: the moment and the position in the log that are pinned: everything that was answered before counts.
        bundles: label of the bundle that decides for each journey.
        jobs: takes durable jobs.
        run: runs a command.
    """

    def __init__(
        self,
        *,
        configurations: Configurations,
        feature_sets: Mapping[str, FeatureSet],
        now: Callable[[], tuple[int, int]],
        bundles: Callable[[], Mapping[str, str | None]],
        jobs: JobDesk,
        run: RunCommand,
    ) -> None:
        self._configurations, self._now, self._bundles = configurations, now, bundles
        self._features = {journey_id: one.names for journey_id, one in feature_sets.items()}
        self._jobs, self._run = jobs, run

    def make(self, document: object, principal: Principal, *, idempotency_key: str | None) -> JobView:
        """The job that makes an audience; it is on disk. Call it in a thread.

        Args:
            document: the body, an ``AudienceBody``.
            principal: who asks.
            idempotency_key: the header.

        Raises:
            InvalidInput: with every bad field.
            Conflict: the request id was used for something else.
            TooManyRequests: too many jobs wait.
            StoreUnavailable: it is unknown whether it was taken: asking again with the same request id tells.
        """
        configuration = self._configurations.in_force.configuration
        at, position = self._now()
        request_id, request = parse_audience(
            document, configuration, self._names(configuration), now=at, idempotency_key=idempotency_key
        )
        spec = AudienceSpec(request=request, pins=self._pins(configuration, request.journey_id, at, position))
        return self._submitted(AUDIENCE, spec, msgspec.to_builtins(request), principal, request_id)

    def estimate(self, document: object) -> AudienceEstimate:
        """What an audience would come to. It may take a while: call it in a thread.

        Raises:
            InvalidInput: with every bad field.
            InFlight: it is still being made; asking the same again gives it.
            TooManyRequests: another one is being made.
            StoreUnavailable: it could not be made.
        """
        configuration = self._configurations.in_force.configuration
        at, _ = self._now()
        _, request = parse_audience(document, configuration, self._names(configuration), now=at)
        asked = self._asked(request, configuration, request.journey_id)
        command = Command(
            kind="audience estimate",
            words=("audience", "estimate"),
            seconds=ESTIMATING_SECONDS,
            files=(("--spec", asked),),
        )
        return msgspec.convert(self._run(command).document, AudienceEstimate)

    def screen(self, sent: Sent, principal: Principal, *, idempotency_key: str | None) -> ScreenAnswer | JobView:
        """What becomes of the rows of a list, or the job that tells where there are many. Call it in a thread.

        Args:
            sent: the list.
            principal: who asks.
            idempotency_key: the header.

        Raises:
            InvalidInput: with every bad field.
            Conflict: the request id was used for something else.
            InFlight: it is still under way; asking the same again gives it.
            TooManyRequests: another one is under way, or too many jobs wait.
            StoreUnavailable: it could not be done.
        """
        configuration = self._configurations.in_force.configuration
        at, position = self._now()
        request_id, request = parse_list(sent, configuration, now=at, idempotency_key=idempotency_key)
        if len(request.rows) > MOST_AT_ONCE:
            spec = ScreenSpec(request=request, pins=self._pins(configuration, request.journey_id, at, position))
            return self._submitted(SCREENING, spec, msgspec.to_builtins(request), principal, request_id)
        asked = self._asked(request, configuration, request.journey_id)
        command = Command(
            kind="screening", words=("audience", "screen"), seconds=SCREENING_SECONDS, files=(("--spec", asked),)
        )
        answer = msgspec.convert(self._run(command).document, ScreenAnswer)
        log_event("list_screened", source=principal.source, rows=answer.rows, kept=answer.kept)
        return answer

    def _submitted(
        self,
        kind: JobKind,
        spec: msgspec.Struct,
        asked_for: Mapping[str, Any],
        principal: Principal,
        request_id: str | None,
    ) -> JobView:
        submitted = self._jobs.submit(
            kind.name, msgspec.to_builtins(spec), principal, request_id=request_id, asked_for=asked_for
        )
        return self._jobs.view(submitted.job)

    def _pins(self, configuration: Configuration, journey_id: str, at: int, position: int) -> Pins:
        return Pins(
            at=at,
            log_position=position,
            versions=dict(configuration.versions),
            bundle=self._bundles().get(journey_id),
        )

    def _asked(self, request: msgspec.Struct, configuration: Configuration, journey_id: str) -> str:
        """What a command is told that pins the moment itself: the same question is the same command."""
        asked = {
            "request": request,
            "versions": configuration.versions,
            "bundle": self._bundles().get(journey_id),
        }
        return msgspec.json.encode(asked).decode()

    def _names(self, configuration: Configuration) -> Names:
        return Names.of(configuration.taxonomy, configuration.journeys, self._features, configuration.policy)
