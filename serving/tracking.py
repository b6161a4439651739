"""Takes calls of tracking SDKs in: says what they mean, and has their events and outcomes taken.

What a call is counted as follows from what became of everything that was made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec

from features.errors import InvalidInput, Problem
from features.event_log import EventLog
from features.events import parse_event
from features.identity import Claim, Identities, claim_of, is_said
from features.taxonomy import ALIAS, EXPOSED, LINKED, Taxonomy
from features.tracked_calls import Drop, Envelope, Meant
from features.tracking import Meaning, Translator
from serving.auth import RIGHTS, Right
from serving.outcomes import OutcomeRecorder, Report
from serving.rights import forbidden_kinds
from serving.tracking_shapes import MAX_CALL_BYTES, TrackingReport


class IngestCorrected(Protocol):
    """Takes event documents in, durably before it answers, each with what its sender's clock is behind ours."""

    def ingest(
        self, documents: Sequence[object], *, source: str, arrived_at: int, corrections: Sequence[int]
    ) -> Report:
        """What became of each document.

        Raises:
            StoreUnavailable: nothing of the batch was kept.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Part:
    """One thing that a call means: of which call, and what its sender's clock is behind ours."""

    index: int
    meant: Meant
    correction: int


class TrackingDesk:
    """Takes calls in.

    Args:
        translator: says what they mean.
        taxonomy: the vocabulary.
        log: tells who is who.
        ingest: takes events in.
        outcomes: takes exposures and outcomes in.
    """

    def __init__(
        self,
        *,
        translator: Translator,
        taxonomy: Taxonomy,
        log: EventLog,
        ingest: IngestCorrected,
        outcomes: OutcomeRecorder,
    ) -> None:
        self._translator = translator
        self._taxonomy = taxonomy
        self._log = log
        self._ingest = ingest
        self._outcomes = outcomes

    def take(
        self,
        calls: Sequence[object],
        envelope: Envelope,
        *,
        source: str,
        received_at: int,
        paths: Sequence[str],
        rights: frozenset[Right] = frozenset(RIGHTS),
    ) -> TrackingReport:
        """What became of each call; everything accepted is durable.

        Args:
            calls: decoded calls.
            envelope: what is said of all of them.
            source: who sent them, from the caller's key.
            received_at: now, microseconds since the epoch.
            paths: where each call stands in the body.
            rights: what the sender may say; what else a call means is dropped.

        Raises:
            StoreUnavailable: a store does not answer; sending the same calls again completes what was begun.
        """
        tally = _Tally(paths)
        meanings: dict[int, Meaning] = {}
        forbidden = forbidden_kinds(rights, self._taxonomy)
        for index, call in enumerate(calls):
            try:
                _check_size(call, paths[index])
                meaning = self._translator.meaning(call, envelope, received_at=received_at, path=paths[index])
                meanings[index] = _permitted(meaning, forbidden) if forbidden else meaning
            except InvalidInput as error:
                tally.rejected[index] = error.problems
        self._take_events(meanings, tally, source, received_at)
        self._take_returned(meanings, tally, source, received_at)
        return tally.report(meanings)

    def _take_events(self, meanings: Mapping[int, Meaning], tally: _Tally, source: str, received_at: int) -> None:
        parts = [_Part(index, meant, one.correction) for index, one in meanings.items() for meant in one.events]
        said = self._said(parts, source, received_at)
        new = [place for place in range(len(parts)) if place not in said]
        if not new:
            return
        report = self._ingest.ingest(
            [parts[place].meant.document for place in new],
            source=source,
            arrived_at=received_at,
            corrections=[parts[place].correction for place in new],
        )
        tally.note(report, [parts[place] for place in new])
        refused = {new[index]: problems for index, problems in report.rejected}
        for place, first in said.items():
            if first in refused:
                tally.refuse(parts[place], refused[first])

    def _take_returned(self, meanings: Mapping[int, Meaning], tally: _Tally, source: str, received_at: int) -> None:
        parts = [_Part(index, one.returned, 0) for index, one in meanings.items() if one.returned is not None]
        if not parts:
            return
        report = self._outcomes.record([part.meant.document for part in parts], source=source, arrived_at=received_at)
        tally.note(report, parts)
        tally.late = tuple(parts[place].index for place in report.late)

    def _said(self, parts: Sequence[_Part], source: str, received_at: int) -> dict[int, int | None]:
        """The places of those links that say nothing new: SDKs tell who somebody is again and again.

        A link that is sent again under its own id is none of them: what had to follow it may not have been done.

        Returns:
            By place, the place of the first link here that says the same; None where the log does.
        """
        claims = {place: claim for place, part in enumerate(parts) if (claim := self._claim(part, source, received_at))}
        if not claims:
            return {}
        known: dict[str, set[Claim]] = {one.alias: set() for one in claims.values()}
        for claim in self._log.identities(known).claims:
            known.setdefault(claim.alias, set()).add(claim)
        said: dict[int, int | None] = {}
        first: dict[tuple[str, str], int] = {}
        for place, told in claims.items():
            of_alias = known[told.alias]
            if told.identity in {one.identity for one in of_alias}:
                continue
            if is_said(told, Identities(frozenset(of_alias))):
                said[place] = first.get((told.alias, told.customer_id))
            else:
                of_alias.add(told)
                first.setdefault((told.alias, told.customer_id), place)
        return said

    def _claim(self, part: _Part, source: str, received_at: int) -> Claim | None:
        document = part.meant.document
        if document["kind"] != LINKED:
            return None
        try:
            event = parse_event(
                document,
                taxonomy=self._taxonomy,
                source=source,
                arrived_at=received_at,
                position=0,
                correction=part.correction,
            )
        except InvalidInput:
            return None  # refused, with its reasons, where it is taken in
        return claim_of(event, 0)


class _Tally:
    """Counts what became of calls by what became of their parts."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._new: set[int] = set()
        self._degraded: dict[str, None] = {}
        self.rejected: dict[int, tuple[Problem, ...]] = {}
        self.late: tuple[int, ...] = ()

    def note(self, report: Report, parts: Sequence[_Part]) -> None:
        """Note what became of some parts."""
        for place, problems in report.rejected:
            self.refuse(parts[place], problems)
        settled = {*report.known, *(place for place, _ in report.rejected)}
        self._new |= {part.index for place, part in enumerate(parts) if place not in settled}
        self._degraded |= dict.fromkeys(report.degraded)

    def refuse(self, part: _Part, problems: Iterable[Problem]) -> None:
        """Note what is wrong with a part."""
        told = part.meant.renamed(problems, self._paths[part.index])
        self.rejected[part.index] = tuple(dict.fromkeys((*self.rejected.get(part.index, ()), *told)))

    def report(self, meanings: Mapping[int, Meaning]) -> TrackingReport:
        """What became of all calls."""
        dropped = [index for index, meaning in meanings.items() if meaning.is_dropped]
        accepted = len(self._new - self.rejected.keys())
        return TrackingReport(
            accepted=accepted,
            duplicates=len(self._paths) - accepted - len(self.rejected) - len(dropped),
            rejected=tuple(sorted(self.rejected.items())),
            dropped=len(dropped),
            drops=tuple(self._drops(meanings)),
            late=tuple(index for index in self.late if index not in self.rejected),
            degraded=tuple(self._degraded),
        )

    def _drops(self, meanings: Mapping[int, Meaning]) -> Iterable[tuple[int, Drop]]:
        for index, meaning in meanings.items():
            for drop in meaning.drops:
                yield index, drop


def _permitted(meaning: Meaning, forbidden: frozenset[str]) -> Meaning:
    """What of a meaning its sender may say: an exposure or outcome is what the company did, whatever its event."""
    events = tuple(one for one in meaning.events if one.document["kind"] not in forbidden)
    returned = None if EXPOSED in forbidden else meaning.returned
    lost = [one for one in meaning.events if one.document["kind"] in forbidden]
    places = [one.places.get(f"facts.{ALIAS}", "") for one in lost] + [""] * (returned is not meaning.returned)
    drops = (*meaning.drops, *(Drop(place, "not_allowed") for place in places))
    return replace(meaning, events=events, returned=returned, drops=drops)


def _check_size(call: object, path: str) -> None:
    size = len(msgspec.json.encode(call))
    if size > MAX_CALL_BYTES:
        problem = Problem(path, f"{size} bytes", f"at most {MAX_CALL_BYTES} bytes, without spaces between its parts")
        raise InvalidInput("the call is too large", [problem])
