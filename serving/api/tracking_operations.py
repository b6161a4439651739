"""The calls for tracking SDKs, as the description of the API has them."""

from __future__ import annotations

from typing import Final

from features.tracked_calls import CallType
from serving.api.operation import KEYED, WRITING, Operation
from serving.tracking_shapes import TrackingAnswer, TrackingBatch, TrackingCall, TrackingProblem

_MEANINGS: Final[dict[CallType, tuple[str, str]]] = {
    "track": (
        "Something happened",
        "`event` is the name of a kind, of an outcome, or one that the taxonomy's `tracking` maps; names are compared "
        "in snake case. With the property `decision_id` the event `Action Exposed` is the exposure of that decision, "
        "and the id of an outcome, or `Outcome Observed`, an outcome of it with the value `value`, `revenue` or 1.",
    ),
    "identify": (
        "Who somebody is",
        "Traits that are declared become attributes. With `userId` and `anonymousId` both are linked.",
    ),
    "page": ("A page was viewed", "By default the kind `page_viewed`, if the taxonomy has it."),
    "screen": ("A screen was viewed", "By default the kind `screen_viewed`, if the taxonomy has it."),
    "group": ("Which group somebody is in", "`groupId` becomes an attribute, if the taxonomy has one for it."),
    "alias": ("An id turned out to be the user's", "`previousId` is linked to `userId`."),
}


def _one(call_type: CallType) -> Operation:
    summary, meaning = _MEANINGS[call_type]
    return Operation(
        method="post",
        path=f"/v1/{call_type}",
        operation_id=call_type,
        summary=summary,
        description=f"{meaning} At most 32 KiB; everything else as for `POST /v1/batch`.",
        body=TrackingCall,
        answer=TrackingAnswer,
        problem=TrackingProblem,
        failures=(*KEYED, *WRITING),
    )


TRACKING_OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/batch",
        operation_id="take_batch",
        summary="Take calls of a tracking SDK in",
        description="For SDKs of Segment and those that speak like it: their host changed, the API key as write key. "
        "Each call is accepted, known already, rejected or dropped by itself; what is accepted is on disk before the "
        "answer leaves. A time is set right by `sentAt`: what happened so long before the batch was sent happened so "
        "long before it came. What the taxonomy has no place for, or the key no right to say, is not kept, and is "
        "counted and listed. At most 500 KiB, and 32 KiB a call.",
        body=TrackingBatch,
        answer=TrackingAnswer,
        problem=TrackingProblem,
        failures=(*KEYED, *WRITING),
    ),
    *(_one(call_type) for call_type in _MEANINGS),
)
"""Every call that tracking SDKs make."""
