"""A recorded decision made again from its own record, bit for bit; or under something else, to see what would change.

Pure: the record, a rulebook and a scorer in, what came out again and every difference out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import msgspec
import numpy as np

from models.actions import NO_ACTION
from models.arbitration import Choice
from models.asked import asked_in, question_of, request_hash, stated_context
from models.capacity import recorded_assignees, slot_assignees
from models.decision import DEADLINE, Candidate, DecisionRecord, dump_record
from models.deliberation import Deliberation, Inputs, Rulebook, deliberate
from models.experiment import arm_of, arm_probabilities
from models.policy import Arm
from models.prices import PriceList
from models.records import NO_RESPONSE, Contact, CustomerRecords, ResponseKind
from models.scoring import Scorer

LOST_RACE: Final = "capacity.lost_race"

GIVEN: Final = frozenset(
    {
        *("decision_id", "source", "request", "customer_id", "linked_ids", "journey_id", "decided_at"),
        *("vector", "log_position", "last_event_at", "attributes", "holdings", "time_zone"),
        *("consents", "contacts", "contact_responses", "capacity_used", "assignees", "epsilon"),
        *("degraded", "latency_us"),
    }
)
"""Fields that a decision is made from, or that are of its moment alone: every other one follows from them.

Who handles a slot is given too: the people at work are not recorded, only whom it fell to, or that there was nobody.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that came out differently.

    Attributes:
        field: of the record, such as ``candidates[nudge_sms].net_value``.
        recorded: what the record says; None where it says nothing.
        replayed: what came out again.
    """

    field: str
    recorded: object
    replayed: object


_IN_BYTES: Final = Difference("bytes", "the bits of one NaN", "the bits of another")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """A decision made again.

    Attributes:
        recorded: as it was stored.
        record: as it came out again.
        inputs: what it was made from.
        deliberation: what led to it.
        identical: the canonical bytes are the same.
    """

    recorded: DecisionRecord
    record: DecisionRecord
    inputs: Inputs
    deliberation: Deliberation
    identical: bool

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Where the bytes are not the same. Found when asked for: under a change it takes as long as the replay."""
        if self.identical:
            return ()
        return tuple(differences(self.recorded, self.record)) or (_IN_BYTES,)

    @property
    def changes_choice(self) -> bool:
        """Whether slot 1 holds another treatment."""
        return self.recorded.first.treatment_id != self.record.first.treatment_id

    @property
    def value_difference(self) -> float:
        """Expected net value of slot 1 now, minus that of the recorded decision, each by its own estimates."""
        return self.record.expected_net_value - self.recorded.expected_net_value


def inputs_of(
    record: DecisionRecord, rulebook: Rulebook, *, arm: Arm | None = None, prices: PriceList | None = None
) -> Inputs:
    """What the decision was made from. Whatever a decision comes to depend on must be found again here.

    Args:
        record: the decision.
        rulebook: by which it is made again: it deals the arms.
        arm: instead of the one that the rulebook deals.
        prices: the list that the record names.
    """
    asked = asked_in(record.request)
    return Inputs(
        decision_id=record.decision_id,
        vector=np.array(record.vector, dtype=np.float64),
        attributes=record.attributes,
        holdings=None if record.holdings is None else frozenset(record.holdings),
        context=stated_context(asked),
        channel=asked.channel,
        records=_customer_records(record),
        question=question_of(asked, at=record.as_of, lost=_lost(record), out_of_time=DEADLINE in record.degraded),
        time_zone=record.time_zone or rulebook.taxonomy.time_zone,
        arm=arm or arm_of(record.customer_id, rulebook.policy.experiment, linked_ids=record.linked_ids),
        n_linked=len(record.linked_ids),
        epsilon=None if math.isnan(record.epsilon) else record.epsilon,
        prices=prices,
    )


def _customer_records(record: DecisionRecord) -> CustomerRecords:
    responses = record.contact_responses or (NO_RESPONSE,) * len(record.contacts)
    contacts = tuple(
        Contact(
            decision_id="",
            customer_id=record.customer_id,
            action_id=one.action_id,
            channel=one.channel,
            at=one.at,
            status="lease" if one.is_lease else "confirmed",
            expires_at=record.expires_at,
            response=cast(ResponseKind | Literal[""], response),
        )
        for one, response in zip(record.contacts, responses, strict=True)
    )
    return CustomerRecords(
        contacts=contacts,
        consents=record.consents,
        capacity_used=record.capacity_used,
        assignees=recorded_assignees(record),
    )


def _lost(record: DecisionRecord) -> dict[str, str]:
    """Treatments whose contact another decision took, with the cap that was reached."""
    return {one.treatment_id: one.rule_ids[1] for one in record.candidates if one.rule_ids[:1] == (LOST_RACE,)}


def replayed(
    record: DecisionRecord,
    rulebook: Rulebook,
    scorer: Scorer | None,
    challenger: Scorer | None = None,
    *,
    arm: Arm | None = None,
    prices: PriceList | None = None,
) -> Replay:
    """A decision made again.

    Args:
        record: the decision, made by this service.
        rulebook: that of the recorded versions, or another one to see what would change. Its ``policy_version`` seeds
            the draws: leave it the recorded one, so that what changes is not the luck of the draw.
        scorer: of the recorded champion's bundle, or another; None where there was none.
        challenger: of the recorded challenger's bundle, or another; None where none was asked.
        arm: instead of the one that the rulebook deals.
        prices: the list that the record names; None where it names none.

    Raises:
        StoreCorrupted: the stored request cannot be read.
    """
    inputs = inputs_of(record, rulebook, arm=arm, prices=prices)
    deliberation = deliberate(inputs, rulebook, scorer, challenger)
    versions = _versions(record, rulebook, inputs.arm, scorer, challenger)
    again = msgspec.structs.replace(record, **_derived(record, inputs, deliberation, rulebook), versions=versions)
    return Replay(
        recorded=record,
        record=again,
        inputs=inputs,
        deliberation=deliberation,
        identical=dump_record(again) == dump_record(record),
    )


def _derived(record: DecisionRecord, inputs: Inputs, deliberation: Deliberation, rulebook: Rulebook) -> dict[str, Any]:
    """Every field of a record that follows from the others, but for ``versions``; the rest is ``GIVEN``."""
    asked = asked_in(record.request)
    experiment, stall = rulebook.policy.experiment, deliberation.stall
    shares = arm_probabilities(experiment, n_linked=inputs.n_linked)
    return {
        "request_id": asked.request_id,
        "mode": asked.mode,
        "as_of": record.decided_at,  # what is asked of the past is never recorded
        "expires_at": record.decided_at + rulebook.policy.ttl(outbound=inputs.question.outbound),
        "arm": str(inputs.arm),
        "experiment_id": experiment.id,
        "arm_probabilities": {str(arm): share for arm, share in shares.items()},
        "stage": deliberation.situation.stage,
        "state": deliberation.situation.state,
        "stall_propensity": stall.stall_propensity,
        "abandon_probability": stall.abandon_probability,
        "expected_days_to_progress": stall.expected_days_to_progress,
        "benign_wait": stall.benign_wait,
        "candidates": deliberation.candidates,
        "selected": deliberation.selected,
        "assignees": slot_assignees(deliberation.selected, inputs.records),
        "explored": _is_drawn(deliberation.choice),
        "request_hash": request_hash(record.request),
        # Who activates a decision later writes it down elsewhere: the record stays as it was made.
        "activated": asked.activate and asked.mode == "live",
        "send_id": asked.send_id,
    }


def _versions(
    record: DecisionRecord, rulebook: Rulebook, arm: Arm, champion: Scorer | None, challenger: Scorer | None
) -> dict[str, str]:
    """Where both were asked, the arm says which bundle decided; its parts are those that it really has."""
    others = ("stall", "uplift") if challenger is not None else ("stall", "uplift", "champion", "challenger")
    versions = {name: version for name, version in record.versions.items() if name not in others}
    deciding: Arm = "champion" if challenger is None or arm != "challenger" else "challenger"
    scorer = champion if deciding == "champion" else challenger
    if challenger is not None and scorer is not None:
        versions["bundle"] = versions[deciding]
    if scorer is None:
        versions.pop("bundle", None)
    parts = {} if scorer is None else scorer.bundle.parts
    return {**versions, **parts, **rulebook.versions, "features": rulebook.feature_set.version}


def _is_drawn(choice: Choice) -> bool:
    return choice.how in ("explored", "random")


def differences(recorded: DecisionRecord, again: DecisionRecord) -> Iterator[Difference]:
    """Every field of two records that differs, NaN being equal to itself; candidates one by one."""
    for name in DecisionRecord.__struct_fields__:
        ours, theirs = getattr(recorded, name), getattr(again, name)
        if name == "candidates":
            yield from _candidate_differences(ours, theirs)
        elif isinstance(ours, dict) and isinstance(theirs, dict):
            for key in sorted({*ours, *theirs}):
                if not _same(ours.get(key), theirs.get(key)):
                    yield Difference(f"{name}.{key}", ours.get(key), theirs.get(key))
        elif not _same(ours, theirs):
            yield Difference(name, _plain(ours), _plain(theirs))


def _candidate_differences(ours: tuple[Candidate, ...], theirs: tuple[Candidate, ...]) -> Iterator[Difference]:
    before = {one.treatment_id: one for one in ours}
    after = {one.treatment_id: one for one in theirs}
    for treatment_id in dict.fromkeys([*before, *after]):
        one, other = before.get(treatment_id), after.get(treatment_id)
        where = f"candidates[{treatment_id}]"
        if one is None or other is None:
            yield Difference(where, None if one is None else _reached(one), None if other is None else _reached(other))
            continue
        for name in Candidate.__struct_fields__:
            if not _same(getattr(one, name), getattr(other, name)):
                yield Difference(f"{where}.{name}", _plain(getattr(one, name)), _plain(getattr(other, name)))
    if list(before) != list(after) and before.keys() == after.keys():
        yield Difference("candidates", list(before), list(after))


def _reached(candidate: Candidate) -> str:
    return candidate.dropped or ("no action" if candidate.treatment_id == NO_ACTION else "scored")


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return repr(one) == repr(other)  # NaN equals itself, and 0.0 is not -0.0, as in the bytes
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, msgspec.Struct) and isinstance(other, msgspec.Struct):
        return all(_same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    return type(one) is type(other) and one == other


def _plain(value: object) -> object:
    """A value as JSON can hold it: NaN is None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value
