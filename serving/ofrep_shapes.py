"""Flag evaluations of the OpenFeature Remote Evaluation Protocol on the wire.

References:
    OpenFeature (2026), OpenFeature Remote Evaluation Protocol 0.3.0, service/openapi.yaml.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from serving.schemas import Text, Timestamp

ValueType = Literal["object", "string", "boolean"]
"""What the value of a flag is: what is to be shown, the id of its treatment, or ``true``."""

ErrorCode = Literal["FLAG_NOT_FOUND", "PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL"]

EVALUATED: Final = "TARGETING_MATCH"
"""The reason of every evaluation: it was about this customer, whatever came out, so that nobody can tell a holdout."""


class EvaluationContext(msgspec.Struct, frozen=True, kw_only=True):
    """Whom and what moment a flag is evaluated for. Other properties may be there.

    Those that the taxonomy declares under `context`, or that a rule asks for, are facts of the moment; all others are
    not looked at, and not kept.

    Attributes:
        targetingKey: the customer: any id of theirs.
        headway_value: what the value is: what is to be shown as an `object`, the id of the treatment as a `string`, or
            `true` as a `boolean`.
        headway_journey_id: the journey to decide in; may be missing where the configuration has only one.
        headway_channel: of all flags at once, only those of this channel.
    """

    targetingKey: Text  # the protocol's own name
    headway_value: ValueType = "object"
    headway_journey_id: Text | None = None
    headway_channel: Text | None = None


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What flags are evaluated for."""

    context: EvaluationContext


class ShownTreatment(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be shown at a place.

    Attributes:
        decision_id: to be told with the exposure, and with what follows.
        expires_at: the decision may be acted on until then.
        disclosures: what must be said with it.
    """

    action_id: str
    treatment_id: str
    placement: str
    decision_id: str
    expires_at: Timestamp
    disclosures: tuple[str, ...]


FlagValue: TypeAlias = ShownTreatment | str | bool


class FlagEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What came out for one flag.

    Attributes:
        key: the placement.
        reason: always `TARGETING_MATCH`.
        variant: the id of the treatment that is to be shown; `no_action` where nothing is.
        metadata: `decision_id` and `expires_at` of the decision.
        value: missing where nothing is to be shown: then the default of the code holds.
    """

    key: str
    reason: Literal["TARGETING_MATCH"] = EVALUATED
    variant: str
    metadata: dict[str, str]
    value: FlagValue | UnsetType = UNSET


class BulkEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What came out for every flag, by key."""

    flags: tuple[FlagEvaluation, ...]


class EvaluationFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a flag, or all of them, could not be evaluated.

    Attributes:
        key: the flag; missing where all were asked for.
        errorCode: of OpenFeature.
        errorDetails: what was wrong, and what to do.
    """

    errorCode: ErrorCode  # the protocol's own name
    errorDetails: str  # likewise
    key: str | UnsetType = UNSET
