"""The description of the API, OpenAPI 3.1, out of the very shapes that the routes send."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

import msgspec

from features.journey_findings import JourneyReport
from features.journey_question import DEFAULT_TOP, LARGEST_TOP
from serving import problems
from serving.access import rule_of
from serving.api.audience_operations import AUDIENCE_OPERATIONS
from serving.api.control_operations import CONTROL_OPERATIONS
from serving.api.examples import example_body, with_examples
from serving.api.job_operations import JOB_OPERATIONS
from serving.api.measuring_operations import MEASURING_OPERATIONS
from serving.api.ofrep_operations import EVALUATION_OPERATIONS
from serving.api.operation import DECISION_ID as _DECISION_ID
from serving.api.operation import IDEMPOTENCY_KEY as _IDEMPOTENCY_KEY
from serving.api.operation import KEYED as _KEYED
from serving.api.operation import READING as _READING
from serving.api.operation import WRITING as _WRITING
from serving.api.operation import Json, Operation
from serving.api.tracking_operations import TRACKING_OPERATIONS
from serving.governing_views import (
    ActionsDocument,
    DocumentAnswer,
    PolicyDocument,
    ReplayAnswer,
    ReplayRequest,
    ValidationAnswer,
    ValidationRequest,
)
from serving.problems import ProblemType
from serving.schemas import DecisionAnswer, DecisionRequest, EventBatch, LinkRequest, OutcomeBatch, UnlinkRequest
from serving.telemetry import METRICS_MEDIA_TYPE
from serving.views import EventsAnswer, Liveness, LookupAnswer, OutcomesAnswer, PersonAnswer, Readiness, StoredDecision
from serving.workforce import WorkforceAnswer, WorkforceBatch

_KEYS_SAID: Final = (
    "A key made with `headway keys create`, or a token of the company's sign-on where the service knows one. Each call "
    "says for which roles it is; `admin` may use all."
)
_LOCATION: Final[Json] = {
    "Location": {"description": "The job.", "schema": {"type": "string", "format": "uri-reference"}}
}
_REFERENCE: Final = "#/components/schemas/{name}"
_VERSION: Final[Json] = {
    "name": "version",
    "in": "query",
    "required": False,
    "description": "An earlier version that decided here; the one in force if not given.",
    "schema": {"type": "string"},
}
_IF_MATCH: Final[Json] = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The `ETag` of the version that the change was made to.",
    "schema": {"type": "string"},
}
_CHANGING: Final = (
    *(problems.FIXED, problems.PRECONDITION_FAILED, problems.PRECONDITION_REQUIRED),
    *_WRITING,
)


_DECIDING: Final[tuple[Json, ...]] = (
    {
        "name": "decide",
        "in": "query",
        "required": False,
        "description": "Decide on the customer that the events are about; all of them must be one customer's.",
        "schema": {"type": "boolean", "default": False},
    },
    {
        "name": "journey_id",
        "in": "query",
        "required": False,
        "description": "The journey to decide in; only with `decide=true`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
    {
        "name": "channel",
        "in": "query",
        "required": False,
        "description": "Only treatments of this channel; only with `decide=true`.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
)
_REPORT_PARAMETERS: Final[tuple[Json, ...]] = (
    {
        "name": "journey_id",
        "in": "path",
        "required": True,
        "description": "The journey, as the configuration names it.",
        "schema": {"type": "string"},
    },
    {
        "name": "since",
        "in": "query",
        "required": False,
        "description": "Only instances entered from here on, ISO 8601 with an offset.",
        "schema": {"type": "string", "format": "date-time"},
    },
    {
        "name": "until",
        "in": "query",
        "required": False,
        "description": "End of the observation, if before the newest event, ISO 8601 with an offset.",
        "schema": {"type": "string", "format": "date-time"},
    },
    {
        "name": "group_by",
        "in": "query",
        "required": False,
        "description": "Compare groups: `channel` (used last when the journey was entered), `nps_band`, or a category "
        "or boolean attribute that is not personal.",
        "schema": {"type": "string"},
    },
    {
        "name": "top",
        "in": "query",
        "required": False,
        "description": "Longest that a ranked list gets.",
        "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_TOP, "default": DEFAULT_TOP},
    },
)
_IDENTIFIER: Final[Json] = {
    "name": "name",
    "in": "query",
    "required": True,
    "description": "The identifier's name in the taxonomy.",
    "schema": {"type": "string"},
}
_IDENTIFIER_VALUE: Final[Json] = {
    "name": "value",
    "in": "query",
    "required": True,
    "description": "Its value, as it was sent.",
    "schema": {"type": "string"},
}
_QUEUE: Final[Json] = {
    "name": "queue",
    "in": "query",
    "required": False,
    "description": "Only those who work this queue.",
    "schema": {"type": "string"},
}


OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/events",
        operation_id="take_events",
        summary="Take a batch of events in",
        description="Each event is accepted, known already, or rejected by itself, with reasons. What is accepted is "
        "on disk before the answer leaves. The source of the events is the key's own; kinds that it has no right "
        "to send are rejected. With `decide=true` the answer "
        "also holds a decision on the customer, who is taken to be here (`inbound`); the same batch again gives the "
        "same one.",
        body=EventBatch,
        answer=EventsAnswer,
        parameters=_DECIDING,
        failures=(*_KEYED, *_WRITING),
    ),
    Operation(
        method="post",
        path="/v1/decisions",
        operation_id="decide",
        summary="The ranked next best action for a customer",
        description="The same request id and body give the same answer again. Where nothing is to be done the answer "
        "is still a 200, with `no_action.chosen` true and the funnel that says why. `degraded` names what was missing.",
        body=DecisionRequest,
        answer=DecisionAnswer,
        parameters=(_IDEMPOTENCY_KEY,),
        failures=(*_KEYED, problems.NOT_FOUND, problems.IN_FLIGHT, problems.REUSED, *_WRITING),
    ),
    Operation(
        method="get",
        path="/v1/decisions/{decision_id}",
        operation_id="read_decision",
        summary="A stored decision",
        description="The answer as it was given, the record (features, versions, and every candidate with its "
        "funnel stage, numbers and selection probabilities), and what has come of it. The roles admin, analyst and "
        "privacy read every decision, other keys those of their own source; whoever may not see them "
        "finds the other ids of the person, and what is personal in the request, masked.",
        answer=StoredDecision,
        parameters=(_DECISION_ID,),
        failures=(*_KEYED, *_READING),
    ),
    Operation(
        method="post",
        path="/v1/outcomes",
        operation_id="take_outcomes",
        summary="Take exposures and outcomes in, by decision id",
        description="Each is accepted, known already, or rejected by itself, with reasons; sending it again changes "
        "nothing. An exposure confirms the contact that its decision had reserved. What happened after the reward "
        "window of its outcome is kept, told as `late`, and counts as no response; an outcome that nobody tells of is "
        "a no when its window ends. What came before the decision is refused; a clock up to "
        "five minutes behind is forgiven.",
        body=OutcomeBatch,
        answer=OutcomesAnswer,
        failures=(*_KEYED, *_WRITING),
    ),
    Operation(
        method="get",
        path="/v1/journeys/{journey_id}/report",
        operation_id="report_journey",
        summary="How customers really go through a journey",
        description="Flow, stalls, hot spots, leaks to offline channels, loops, deviations, groups and stuck pools, as "
        "`headway report journey --json` prints them. One report is made at a time; asked again before new events come "
        "in, it is given at once.",
        answer=JourneyReport,
        parameters=_REPORT_PARAMETERS,
        failures=(*_KEYED, *_READING),
    ),
    Operation(
        method="post",
        path="/v1/identities/link",
        operation_id="link",
        summary="Say that an alias belongs to a customer",
        description="From then on events, contacts and consents of both are one person's, who may be asked about under "
        "either id. The alias's earlier events become the customer's; training sees that only from when the link was "
        "known. A link that would lead in a circle is refused; one that is known already changes nothing.",
        body=LinkRequest,
        answer=PersonAnswer,
        failures=(*_KEYED, *_WRITING),
    ),
    Operation(
        method="post",
        path="/v1/identities/unlink",
        operation_id="unlink",
        summary="Say that an alias does not belong to a customer",
        description="Without `valid_until` every earlier link between the two is withdrawn, as if it had never been; "
        "with it the alias's events up to that moment stay the customer's.",
        body=UnlinkRequest,
        answer=PersonAnswer,
        failures=(*_KEYED, *_WRITING),
    ),
    Operation(
        method="get",
        path="/v1/lookup",
        operation_id="lookup",
        summary="Find people by an identifier",
        description="An identifier is an attribute that the taxonomy declares as one, such as a keyed hash of the "
        "e-mail address. Whoever has that value now is found; where it is nobody, the list is empty.",
        answer=LookupAnswer,
        parameters=(_IDENTIFIER, _IDENTIFIER_VALUE),
        failures=(*_KEYED, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE),
    ),
    *TRACKING_OPERATIONS,
    *EVALUATION_OPERATIONS,
    *CONTROL_OPERATIONS,
    Operation(
        method="post",
        path="/v1/decisions/{decision_id}/replay",
        operation_id="replay_decision",
        summary="Make a decision again from its record",
        description="With no body: under the very configuration and bundle that made it, and `identical` says whether "
        "the record came out with the same bytes. With a body: what another policy, catalogue or bundle would have "
        "chosen, drawn with the same luck. Nothing is stored. Whoever may read a decision may replay it.",
        body=ReplayRequest,
        is_body_optional=True,
        answer=ReplayAnswer,
        parameters=(_DECISION_ID,),
        failures=(*_KEYED, problems.NOT_FOUND, problems.NOT_REPLAYABLE, *_WRITING),
    ),
    Operation(
        method="get",
        path="/v1/actions",
        operation_id="read_actions",
        summary="The catalogue in force",
        description="As JSON, with its version as `ETag`.",
        answer=DocumentAnswer,
        parameters=(_VERSION,),
        failures=(*_KEYED, *_READING),
        tagged=True,
    ),
    Operation(
        method="put",
        path="/v1/actions",
        operation_id="put_actions",
        summary="Put a catalogue in force",
        description="The whole catalogue as JSON. It is checked as at a start of the service, together with the other "
        "files in force, written to the home, and decides before the answer leaves; requests under way end as they "
        "began. The same content again changes nothing. Comments of the file that it replaces are lost.",
        body=ActionsDocument,
        answer=DocumentAnswer,
        parameters=(_IF_MATCH,),
        failures=(*_KEYED, *_CHANGING),
        tagged=True,
    ),
    Operation(
        method="get",
        path="/v1/policies",
        operation_id="read_policy",
        summary="The policy in force",
        description="As JSON, with its version as `ETag`.",
        answer=DocumentAnswer,
        parameters=(_VERSION,),
        failures=(*_KEYED, *_READING),
        tagged=True,
    ),
    Operation(
        method="put",
        path="/v1/policies",
        operation_id="put_policy",
        summary="Put a policy in force",
        description="The whole policy as JSON; everything else as for the catalogue.",
        body=PolicyDocument,
        answer=DocumentAnswer,
        parameters=(_IF_MATCH,),
        failures=(*_KEYED, *_CHANGING),
        tagged=True,
    ),
    Operation(
        method="post",
        path="/v1/policies/validate",
        operation_id="validate_policy",
        summary="Try a policy or a catalogue without putting it in force",
        description="Documents that may not be put in force are a 200 with `valid` false and every problem. Of valid "
        "ones it is told what they would have changed of the newest recorded decisions, made again from their records. "
        "One trial runs at a time, in slices between the requests.",
        body=ValidationRequest,
        answer=ValidationAnswer,
        failures=(*_KEYED, *_WRITING),
    ),
    Operation(
        method="put",
        path="/v1/workforce",
        operation_id="put_workforce",
        summary="Tell who works which queue",
        description="The very next decision knows them: actions of a queue that has people go to somebody who is "
        "available, has the skills and has room, by predicted result and load; where there is nobody the action is "
        "dropped with the rule `capacity.nobody_available`. A queue without people stays unassigned. All of the batch "
        "is remembered, or nothing.",
        body=WorkforceBatch,
        answer=WorkforceAnswer,
        failures=(*_KEYED, *_WRITING),
    ),
    Operation(
        method="get",
        path="/v1/workforce",
        operation_id="read_workforce",
        summary="Who works the queues, and what they have open",
        description="Open work is what was told, and what decisions have given since and still hold.",
        answer=WorkforceAnswer,
        parameters=(_QUEUE,),
        failures=(*_KEYED, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE),
    ),
    *MEASURING_OPERATIONS,
    *AUDIENCE_OPERATIONS,
    *JOB_OPERATIONS,
    Operation(
        method="get",
        path="/livez",
        operation_id="livez",
        summary="The process answers",
        description="For restarting a process that hangs.",
        answer=Liveness,
    ),
    Operation(
        method="get",
        path="/readyz",
        operation_id="readyz",
        summary="Requests can be served",
        description="200 where the stores take work, else 503. A journey without a bundle is served, degraded.",
        answer=Readiness,
        unready=True,
    ),
    Operation(
        method="get",
        path="/metrics",
        operation_id="metrics",
        summary="Metrics for Prometheus",
        description="Names start with `headway_`.",
        answer=METRICS_MEDIA_TYPE.partition(";")[0],
        failures=_KEYED,
    ),
)
"""Every documented call; pages and this description itself are not calls."""


def api_document() -> Json:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headway",
            "version": version("headway"),
            "summary": "Next best action: journey events in, a ranked, explained and recorded next best action out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": _KEYS_SAID},
                "write_key": {"type": "http", "scheme": "basic", "description": "The same key as user, no password."},
            },
        },
    }


def _paths() -> Json:
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return paths


def _described(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "description": operation.told,
        "responses": dict(_responses(operation)),
    }
    if operation.parameters:
        described["parameters"] = with_examples(operation)
    if operation.body is not None:
        content = {"application/json": {**_shape(operation.body), **example_body(operation)}}
        content |= {media_type: {"schema": {"type": "string"}} for media_type in operation.media_types}
        described["requestBody"] = {"required": not operation.is_body_optional, "content": content}
    rule = rule_of(operation.method.upper(), operation.path)
    if rule.is_open:
        described["security"] = []
    if rule.takes_basic:
        described["security"] = [{"key": []}, {"write_key": []}]
    return described


def _responses(operation: Operation) -> Iterator[tuple[str, Json]]:
    content = _content(operation.answer)
    success: Json = {"description": operation.summary, "content": content}
    if operation.tagged:
        success["headers"] = {"ETag": {"schema": {"type": "string"}}}
    if operation.status == 202:
        success["headers"] = _LOCATION
    yield str(operation.status), success
    if operation.accepted is not None:
        yield (
            "202",
            {
                "description": "Taken on as a job",
                "headers": _LOCATION,
                "content": {"application/json": _shape(operation.accepted)},
            },
        )
    if operation.has_not_modified:
        yield "304", {"description": "Nothing has changed", "headers": {"ETag": {"schema": {"type": "string"}}}}
    if operation.unready:
        yield "503", {"description": "Not ready", "content": content}
    by_status: dict[int, list[ProblemType]] = {}
    for kind in sorted(operation.failures, key=lambda kind: kind.status):
        by_status.setdefault(kind.status, []).append(kind)
    for status, kinds in by_status.items():
        response: Json = {
            "description": ". ".join(f"{kind.title} (`{kind.path}`)" for kind in kinds),
            "content": {operation.problem_media: _shape(operation.problem)},
        }
        if extra := {name: {"schema": {"type": "string"}} for kind in kinds for name in problems.headers(kind)}:
            response["headers"] = extra
        yield str(status), response


def _content(answer: type[msgspec.Struct] | str | tuple[str, ...]) -> Json:
    """What a success holds, by its media types."""
    if isinstance(answer, type):
        return {"application/json": _shape(answer)}
    kinds = (answer,) if isinstance(answer, str) else answer
    return {kind: {"schema": {} if kind == "application/json" else {"type": "string"}} for kind in kinds}


def _shape(struct: type[msgspec.Struct]) -> Json:
    return {"schema": {"$ref": _REFERENCE.format(name=struct.__name__)}}


def _schemas() -> Json:
    roots = [
        *{operation.body for operation in OPERATIONS if operation.body is not None},
        *{operation.answer for operation in OPERATIONS if isinstance(operation.answer, type)},
        *{operation.accepted for operation in OPERATIONS if operation.accepted is not None},
        *{operation.problem for operation in OPERATIONS},
    ]
    _, schemas = msgspec.json.schema_components(roots, schema_hook=_raw, ref_template=_REFERENCE)
    for name, schema in schemas.items():
        _describe_fields(schema, schema.get("description", ""))
        if name == "DecisionRequest":
            schema["required"].remove("request_id")  # the doors make one where the caller gave none
        if schema.get("additionalProperties") is False:
            _take_null(schema)
    return dict(sorted(schemas.items()))


def _raw(kind: type) -> Json:
    if kind is msgspec.Raw:
        return {"type": "object"}
    raise TypeError(f"no schema for {kind}")


def _describe_fields(schema: Json, docstring: str) -> None:
    """Move the ``Attributes:`` of a docstring to the fields that they describe."""
    text, _, attributes = inspect.cleandoc(docstring).partition("\n\nAttributes:\n")
    if text:
        schema["description"] = _for_callers(text)
    for match in re.finditer(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
        name, meaning = match.group(1), re.sub(r"\s+", " ", match.group(2))
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = _for_callers(meaning)


def _take_null(request: Json) -> None:
    """Describe that null stands for a field that is not given, as ``requests.Fields`` reads it."""
    for name, field in request["properties"].items():
        if name not in request["required"] and {"type": "null"} not in field.get("anyOf", ()):
            said = {word: field.pop(word) for word in ("description", "default") if word in field}
            request["properties"][name] = {"anyOf": [field, {"type": "null"}], **said}


def _for_callers(text: str) -> str:
    return re.sub(r"\bNone\b", "null", text.replace("``", "`"))
