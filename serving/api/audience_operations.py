"""The calls about audiences, as the description of the API has them."""

from __future__ import annotations

from typing import Final, get_args

from models.audiences import SAMPLE, FileFormat
from models.screen_lists import MOST_ROWS
from serving import problems
from serving.api.operation import IDEMPOTENCY_KEY, KEYED, WRITING, Json, Operation
from serving.audience_views import MOST_AT_ONCE, AudienceBody, AudienceEstimate, ListBody, ScreenAnswer
from serving.job_views import JobView


def _of_table(name: str, description: str, **schema: object) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": f"{description} Only with a body of CSV; of JSON it stands in the body.",
        "schema": {"type": "string", **schema},
    }


AUDIENCE_OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/audiences",
        operation_id="make_audience",
        summary="Have an audience made, as a job",
        description="Who is asked for, put in order by what an action would change for them, with the action, its "
        "treatment, value and reasons; whoever gets none has a row with the reason. Moment, log, configuration and "
        "model are those of when the job was taken on, whatever goes on meanwhile; a job that is interrupted goes on "
        "and ends in the same bytes. Nobody is contacted: each row still needs its decision. The same request id and "
        "body are the same job.",
        body=AudienceBody,
        answer=JobView,
        status=202,
        parameters=(IDEMPOTENCY_KEY,),
        failures=(*KEYED, problems.REUSED, *WRITING),
    ),
    Operation(
        method="post",
        path="/v1/audiences/estimate",
        operation_id="estimate_audience",
        summary="What an audience would come to",
        description=f"Takes the same body. Exact where no more than {SAMPLE:,} people are asked about; of more a "
        "sample is looked at, by stable hash, and every number has its 95 % interval. One estimate is made at a time; "
        "one that takes longer than 45 s is answered 409 `in-flight`: ask the same again for it.",
        body=AudienceBody,
        answer=AudienceEstimate,
        failures=(*KEYED, problems.IN_FLIGHT, *WRITING),
    ),
    Operation(
        method="post",
        path="/v1/audiences/screen",
        operation_id="screen_list",
        summary="Screen a list: each row is kept, or removed for one reason",
        description=f"JSON, or a CSV with the columns customer_id and, if need be, action_id and channel. Up to "
        f"{MOST_AT_ONCE:,} rows are answered at once, one list at a time; up to {MOST_ROWS:,} are a job, whose file "
        "tells the same. One person gets one row: the first. Nothing is reserved: each row still needs its decision.",
        body=ListBody,
        media_types=("text/csv",),
        answer=ScreenAnswer,
        accepted=JobView,
        parameters=(
            IDEMPOTENCY_KEY,
            _of_table("request_id", "The idempotency key."),
            _of_table("journey_id", "May be left out where there is one."),
            _of_table("action_id", "What everybody is to get who has no other in their row."),
            _of_table("channel", "Over which, likewise."),
            _of_table("contact_at", "When they are to be contacted.", format="date-time"),
            _of_table("format", "Of the file.", enum=list(get_args(FileFormat))),
        ),
        failures=(*KEYED, problems.IN_FLIGHT, problems.REUSED, *WRITING),
    ),
)
"""Every documented call about audiences."""
