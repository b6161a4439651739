"""What the calls on configuration and replay take and answer: shapes on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from features.events import dump_timestamp_or_none
from models.actions import NO_ACTION
from models.decision import DecisionRecord
from serving.problems import FieldError, field_errors
from serving.schemas import Text

if TYPE_CHECKING:  # they know jitted code, for which the composition root chooses the folder first
    from models.replay import Difference
    from models.replayer import Tally
    from serving.configurations import Document
    from serving.replays import ReplayedAnswer, Trial

Json = dict[str, Any]

DEFAULT_DECISIONS: Final = 200
MOST_DECISIONS: Final = 2_000
SHOWN: Final = 200
"""Differences that an answer lists."""


class DocumentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the configuration.

    Attributes:
        version: content hash, also the `ETag`; decisions name it.
        document: the content, without what has its default.
        origin: where it was read: a folder, or `built-in`.
        since: from when on it has decided in this process; null for an earlier version.
    """

    version: str
    document: Json
    origin: str
    since: str | None


class ActionsDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The whole catalogue, as `actions.yaml` holds it; the reference of configuration keys explains every key."""

    version: int
    actions: list[Json]


class PolicyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The whole policy, as `policy.yaml` holds it; the reference of configuration keys explains every key."""

    version: int
    contact_policy: Json = {}
    capacity: Json = {}
    experiment: Json
    exploration: Json
    channel_price: dict[str, float] = {}
    decision_ttl: str
    inbound_decision_ttl: str | None = None
    rules: list[Json] = []
    lead_qualification: Json | None = None
    decisions_kept: str | None = None


class ValidationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be tried; at least one document.

    Attributes:
        policy: a whole policy.
        actions: a whole catalogue.
        decisions: at most so many of the newest decisions are made again.
    """

    policy: Json | None = None
    actions: Json | None = None
    decisions: Annotated[int, Meta(ge=1, le=MOST_DECISIONS)] = DEFAULT_DECISIONS


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """How often slot 1 went from one action to another."""

    before: str
    after: str
    decisions: int


class DroppedByStage(msgspec.Struct, frozen=True, kw_only=True):
    """How many candidates a stage of the funnel dropped, as recorded and under what is tried."""

    stage: str
    before: int
    after: int


class WhatIfAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What would have changed.

    Attributes:
        decisions: that were made again; fewer than asked for where there are no more, or time ran out.
        changed: of them, with another treatment in slot 1.
        skipped: that could not be made again, by reason.
        moves: of slot 1, the most frequent first.
        net_value_difference: mean over the decisions of the expected net value of slot 1, after minus before, each by
            its own estimates; null where no decision was made again. A statement about the models, not the world.
    """

    decisions: int
    changed: int
    skipped: dict[str, int]
    moves: tuple[Move, ...]
    dropped: tuple[DroppedByStage, ...]
    net_value_difference: float | None


class ValidationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether documents may be put in force, and what they would have changed.

    Attributes:
        errors: every problem, with a pointer into the body.
        versions: of all four files, if they were put in force; null where they are not valid.
        what_if: over the newest decisions; null where they are not valid.
    """

    valid: bool
    errors: tuple[FieldError, ...]
    versions: dict[str, str] | None
    what_if: WhatIfAnswer | None


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the decision is to be made again with; what is not given is as recorded.

    Attributes:
        policy: version of a kept policy.
        actions: version of a kept catalogue.
        bundle: version of the journey's registered model.
        as_champion: as a customer of the arm `champion`, whatever the arm was.
    """

    policy: Text | None = None
    actions: Text | None = None
    bundle: Annotated[int, Meta(ge=1)] | None = None
    as_champion: bool = False


class FieldDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One field of the record that came out differently; unknown numbers are null.

    Attributes:
        field: such as `candidates[nudge_sms].net_value`.
    """

    field: str
    recorded: Any
    replayed: Any


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision came to.

    Attributes:
        treatment_id: of slot 1.
        candidates: how many were scored.
        expected_net_value: mean net value of slot 1 over the draw and the arms, by its own estimates.
    """

    action_id: str
    treatment_id: str
    arm: str
    candidates: int
    expected_net_value: float


class ReplayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A decision made again from its record.

    Attributes:
        identical: the record came out with the same bytes.
        answer_identical: so did the answer.
        n_differences: fields of the record that differ.
        differences: the first of them.
        versions: what it was made again with.
    """

    decision_id: str
    identical: bool
    answer_identical: bool
    n_differences: int
    differences: tuple[FieldDifference, ...]
    recorded: Chosen
    replayed: Chosen
    versions: dict[str, str]


def document_answer(document: Document) -> DocumentAnswer:
    """One file as it leaves."""
    return DocumentAnswer(
        version=document.version,
        document=document.content,
        origin=document.origin,
        since=dump_timestamp_or_none(document.since),
    )


def validation_answer(trial: Trial) -> ValidationAnswer:
    """A trial as it leaves."""
    return ValidationAnswer(
        valid=not trial.problems,
        errors=field_errors(trial.problems),
        versions=dict(trial.versions) or None,
        what_if=None if trial.tally is None else what_if_answer(trial.tally),
    )


def what_if_answer(tally: Tally) -> WhatIfAnswer:
    """A tally as it leaves."""
    stages = [one for one in (*tally.dropped_before, *tally.dropped_after) if one is not None]
    return WhatIfAnswer(
        decisions=tally.decisions,
        changed=tally.changed,
        skipped=dict(tally.skipped),
        moves=tuple(
            Move(before=before, after=after, decisions=count) for (before, after), count in tally.moves.most_common()
        ),
        dropped=tuple(
            DroppedByStage(stage=stage, before=tally.dropped_before[stage], after=tally.dropped_after[stage])
            for stage in dict.fromkeys(stages)
        ),
        net_value_difference=tally.value_difference / tally.decisions if tally.decisions else None,
    )


def replay_answer(answered: ReplayedAnswer) -> ReplayAnswer:
    """A replay as it leaves."""
    replay = answered.replay
    return ReplayAnswer(
        decision_id=replay.recorded.decision_id,
        identical=replay.identical,
        answer_identical=answered.answer_identical,
        n_differences=len(replay.differences),
        differences=tuple(_difference(one) for one in replay.differences[:SHOWN]),
        recorded=_chosen(replay.recorded),
        replayed=_chosen(replay.record),
        versions=replay.record.versions,
    )


def _difference(one: Difference) -> FieldDifference:
    return FieldDifference(field=one.field, recorded=one.recorded, replayed=one.replayed)


def _chosen(record: DecisionRecord) -> Chosen:
    first = record.first
    return Chosen(
        action_id=first.action_id,
        treatment_id=first.treatment_id,
        arm=record.arm,
        candidates=sum(one.is_scored and one.treatment_id != NO_ACTION for one in record.candidates),
        expected_net_value=record.expected_net_value,
    )
