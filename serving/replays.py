"""Replays over HTTP: one decision made again, and what a policy or catalogue that is not in force yet would change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from features.errors import CannotReplay, ConfigurationError, Problem
from models.actions import Catalogue
from models.decision import DecisionRecord
from models.policy import Policy
from models.price_files import PriceLists
from models.records import RecordStore, Stored
from models.registry import Registry
from models.replay import Replay
from models.replayer import AS_RECORDED, Replayer, Scorers, Tally, WhatIf
from serving.answers import Answering, answer_bytes
from serving.configurations import Configurations, Part, of_body
from serving.governing_views import ReplayRequest
from serving.problems import TooManyRequests
from serving.schemas import decode_canonical_request

TRIAL_SECONDS: Final = 20.0
"""A trial that takes longer ends with the decisions it got to."""

_SLICE: Final = 8
_PAUSE_SECONDS: Final = 0.01
"""After each slice of a trial the interpreter is left to the requests for about as long as the slice held it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplayedAnswer:
    """A replay, with its answer.

    Attributes:
        answer_identical: the answer's bytes are the same.
    """

    replay: Replay
    answer_identical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of trying a policy or a catalogue.

    Attributes:
        problems: of the documents; none where they are valid.
        versions: that the configuration would have; empty where it is not valid.
        tally: over recorded decisions; None where it is not valid.
    """

    problems: tuple[Problem, ...] = ()
    versions: Mapping[str, str]
    tally: Tally | None = None


class ReplayDesk:
    """Makes recorded decisions again.

    Args:
        records: the decisions.
        configurations: what is in force, and what was.
        registry: the bundles.
        prices: that were charged.
        timer: a monotonic clock, seconds.
        pause: lets time pass.
    """

    def __init__(
        self,
        *,
        records: RecordStore,
        configurations: Configurations,
        registry: Registry,
        prices: PriceLists,
        timer: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._records, self._configurations = records, configurations
        self._scorers, self._prices = Scorers(registry), prices
        self._timer, self._pause = timer, pause
        self._as_recorded = Replayer(configurations.history, self._scorers, prices)
        self._trying = threading.Lock()

    def replay(self, stored: Stored, named: ReplayRequest) -> ReplayedAnswer:
        """A decision made again, with its answer.

        Raises:
            CannotReplay: what it was made with is not here.
            UnknownObject: what is named is not kept.
            StoreError: what is kept cannot be read.
        """
        what_if = self._what_if(named)
        replayer = self._as_recorded if what_if is AS_RECORDED else self._replayer(what_if)
        replay = replayer.replay(stored.record)
        request = decode_canonical_request(stored.record.request)
        about = Answering.of(replayer.rulebook(stored.record), request, replay.inputs, replay.deliberation)
        answer = answer_bytes(replay.record, replay.deliberation, about)
        return ReplayedAnswer(replay=replay, answer_identical=answer == stored.answer)

    def tried(self, documents: Mapping[Part, object], *, decisions: int) -> Trial:
        """Whether documents may be put in force, and what they would have changed of the newest decisions.

        Args:
            documents: policy, catalogue or both, as JSON values.
            decisions: at most so many are made again.

        Raises:
            TooManyRequests: another trial is under way.
            StoreError: the decisions cannot be read.
        """
        if not self._trying.acquire(blocking=False):
            raise TooManyRequests("another policy is being tried, expected one at a time: ask again later")
        try:
            return self._tried(documents, decisions)
        finally:
            self._trying.release()

    def _tried(self, documents: Mapping[Part, object], decisions: int) -> Trial:
        try:
            wanted = self._configurations.checked(documents)
        except ConfigurationError as error:
            return Trial(problems=tuple(of_body(error, {part: part for part in documents})), versions={})
        what_if = WhatIf(
            policy=wanted.policy if "policy" in documents else None,
            catalogue=wanted.catalogue if "actions" in documents else None,
            checked_with={part: wanted.versions[part] for part in ("taxonomy", "journeys")},
        )
        return Trial(versions=wanted.versions, tally=self._tally(self._replayer(what_if), decisions))

    def _what_if(self, named: ReplayRequest) -> WhatIf:
        """What is named, found.

        Raises:
            UnknownObject: it is not kept.
            StoreError: it cannot be read, or not by this release.
        """
        if named == ReplayRequest():
            return AS_RECORDED
        kept = self._configurations.kept
        policy = None if named.policy is None else kept("policy", named.policy)
        catalogue = None if named.actions is None else kept("actions", named.actions)
        return WhatIf(
            policy=policy if isinstance(policy, Policy) else None,
            catalogue=catalogue if isinstance(catalogue, Catalogue) else None,
            bundle=named.bundle,
            as_champion=named.as_champion,
        )

    def _replayer(self, what_if: WhatIf) -> Replayer:
        return Replayer(self._configurations.history, self._scorers, self._prices, what_if)

    def _tally(self, replayer: Replayer, decisions: int) -> Tally:
        tally, until = Tally(), self._timer() + TRIAL_SECONDS
        for seen, record in enumerate(self._newest(decisions), start=1):
            try:
                tally.add(replayer.replay(record))
            except CannotReplay as error:
                tally.skip(error)
            if seen % _SLICE == 0:
                if self._timer() >= until:
                    break
                self._pause(_PAUSE_SECONDS)
        return tally

    def _newest(self, decisions: int) -> list[DecisionRecord]:
        found: list[DecisionRecord] = []
        for page in self._records.read_back():
            found += page[: decisions - len(found)]
            if len(found) >= decisions:
                break
        return found
