"""An example of every call: shown in the description of the API, and run, as curl, from the page that is made of them.

The order is that in which they can be run one after the other: what one of them keeps, such as the id of a decision,
stands in those after it as a variable of the shell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from serving.api.operation import Json, Operation

ILLUSTRATED: Final[Mapping[str, str]] = {
    "NOW": "2026-03-01T09:30:00Z",
    "DECISION_ID": "d-01JN7Z5KQ2V8M4T6W9X1Y3A5BC",
    "POLICY_VERSION": "5d41402abc4b",
    "ACTIONS_VERSION": "7d793037a076",
    "REPORT_ID": "ope-0123456789abcdef",
    "JOB_ID": "j-01JN7Z5KQ2V8M4T6W9X1Y3A5BC",
    "ASKED_JOB_ID": "j-01JN7Z6MR3W9N5V7X1Y2Z4B6CD",
}
"""What stands in the description where a shell has a variable."""

_VARIABLE: Final = re.compile(r"\$([A-Z_]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One call as somebody would make it.

    Attributes:
        names: what stands in the path.
        query: its parameters.
        headers: what it needs beside the key and the content type.
        body: as JSON.
        keeps: variables of the shell that are kept for later examples, and the field of the answer that each holds.
        needs: what must be there first, for readers.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str | int | bool] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Json | None = None
    keeps: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""


def illustrated(value: Any) -> Any:
    """A value of an example with something to look at in the place of each variable.

    >>> illustrated({"decision_id": "$DECISION_ID", "value": 1})
    {'decision_id': 'd-01JN7Z5KQ2V8M4T6W9X1Y3A5BC', 'value': 1}
    """
    text = json.dumps(value)
    return json.loads(_VARIABLE.sub(lambda found: ILLUSTRATED[found[1]], text))


def with_examples(operation: Operation) -> list[Json]:
    """Parameters of a call, each with the value that its example gives it."""
    example = EXAMPLES.get(operation.operation_id, Example())
    given = {**example.names, **example.query, **example.headers}
    return [
        {**one, "example": illustrated(given[one["name"]])} if one["name"] in given else one
        for one in operation.parameters
    ]


def example_body(operation: Operation) -> Json:
    """The example of a call's body, as a description has it beside the schema; nothing where there is none."""
    example = EXAMPLES.get(operation.operation_id, Example())
    return {} if example.body is None else {"example": illustrated(example.body)}


_JOURNEY: Final = "credit_card_application"
_MODEL: Final = {"name": f"nba-{_JOURNEY}"}
_DECISION: Final = {"decision_id": "$DECISION_ID"}
_CUSTOMER: Final = {"customer_id": "c-7"}
_POLICY: Final[Json] = {
    "version": 1,
    "contact_policy": {"consent": {"opt_in": ["email"]}, "caps": [{"id": "cap.week", "contacts": 3, "period": "7d"}]},
    "experiment": {"id": "spring", "salt": "spring-2026", "no_contact_holdout": 0.05, "random_eligible": 0.1},
    "exploration": {"epsilon": 0.05, "temperature": 2.0},
    "decision_ttl": "24h",
}
_ACTIONS: Final[Json] = {
    "version": 1,
    "actions": [
        {
            "id": "nudge_documents",
            "title": "Show how to send the missing documents",
            "kind": "nudge",
            "issue": "onboard",
            "group": "documents",
            "journey": _JOURNEY,
            "outcome": "progress_7d",
            "stages": ["applied"],
            "treatments": [{"id": "email_edu_v2", "channel": "email", "contact_cost": 0.02, "fatigue_cost": 0.25}],
            "prior_uplift": 0.06,
            "prior_sigma": 0.04,
        }
    ],
}


_AUDIENCE: Final[Json] = {
    "request_id": "activation-week-10",
    "journey_id": _JOURNEY,
    "filter": {
        "all_of": [
            {"field": "stage", "one_of": ["applied", "verified"]},
            {"field": "stall_propensity", "at_least": 0.3},
            {"field": "feature:hours_since_progress", "at_least": 48},
            {"field": "attribute:region", "one_of": ["north", "capital"]},
        ]
    },
    "channels": ["email"],
    "candidates": {"exclude": ["survey_experience"]},
    "max_customers": 500,
    "rank_by": "net_value",
    "min_net_value": 0.5,
    "format": "csv",
}
_LIST: Final[Json] = {
    "journey_id": _JOURNEY,
    "action_id": "offer_protection",
    "rows": [{"customer_id": "c-7"}, {"customer_id": "c-8", "channel": "call"}],
}


def _tracked(call_id: str, **fields: Any) -> Json:
    return {"messageId": call_id, "userId": "c-7", **fields}


EXAMPLES: Final[Mapping[str, Example]] = {
    "livez": Example(),
    "readyz": Example(),
    "metrics": Example(),
    "take_events": Example(
        body={
            "events": [
                {
                    **{"event_id": "a-1", "customer_id": "c-7", "kind": "application_submitted", "channel": "web"},
                    **{"occurred_at": "2026-02-25T09:30:00+01:00", "facts": {"product": "classic"}},
                },
                {
                    **{"event_id": "a-2", "customer_id": "c-7", "kind": "consent_changed"},
                    **{"occurred_at": "2026-02-25T09:31:00+01:00", "facts": {"consent": "email", "state": "granted"}},
                },
            ]
        }
    ),
    "decide": Example(
        body={
            **{"request_id": "b7c1", "customer_id": "c-7", "direction": "inbound"},
            **{"placements": ["web/home_banner"], "max_actions": 3},
        },
        keeps={"DECISION_ID": "decision_id"},
    ),
    "read_decision": Example(names=_DECISION),
    "search_decisions": Example(query={"customer_id": "c-7", "limit": 20}),
    "explain_decision": Example(names=_DECISION, query={"action": "nudge_documents"}),
    "replay_decision": Example(names=_DECISION, body={"as_champion": True}),
    "activate_decision": Example(
        names=_DECISION, body={"slots": [1]}, needs="A decision that chose something, and is not too old."
    ),
    "take_outcomes": Example(
        body={
            "outcomes": [
                {"type": "exposure", "decision_id": "$DECISION_ID", "occurred_at": "$NOW"},
                {
                    **{"type": "outcome", "decision_id": "$DECISION_ID", "outcome_id": "progress_7d", "value": 1},
                    **{"occurred_at": "$NOW"},
                },
            ]
        }
    ),
    "customer_journey": Example(names=_CUSTOMER, query={"limit": 50}),
    "customer_context": Example(names=_CUSTOMER, query={"channel": "email"}),
    "link": Example(body={"alias": "cookie-81f3", "customer_id": "c-7"}),
    "unlink": Example(body={"alias": "cookie-81f3", "customer_id": "c-7"}),
    "lookup": Example(query={"name": "email_hash", "value": "5f4dcc3b5aa765d61d8327deb882cf99"}),
    "take_batch": Example(body={"batch": [_tracked("m-1", type="track", event="Card Activated", channel="browser")]}),
    "track": Example(body=_tracked("m-2", event="Card Activated", channel="browser")),
    "identify": Example(body=_tracked("m-3", anonymousId="cookie-81f3", traits={"region": "north"})),
    "page": Example(body=_tracked("m-4", name="documents", properties={"page": "documents"})),
    "screen": Example(body=_tracked("m-5", name="documents", properties={"screen": "documents"})),
    "group": Example(body=_tracked("m-6", groupId="branch-12")),
    "alias": Example(body=_tracked("m-7", previousId="cookie-81f3")),
    "recent_events": Example(query={"limit": 20}),
    "evaluate_flag": Example(names={"key": "web/home_banner"}, body={"context": {"targetingKey": "c-7"}}),
    "evaluate_flags": Example(body={"context": {"targetingKey": "c-7", "headway_channel": "web"}}),
    "list_jobs": Example(query={"limit": 20}, keeps={"JOB_ID": "job_id"}, needs="A job."),
    "read_job": Example(names={"job_id": "$JOB_ID"}),
    "job_result": Example(names={"job_id": "$JOB_ID"}, needs="A job that has succeeded."),
    "estimate_audience": Example(body=_AUDIENCE),
    "make_audience": Example(body=_AUDIENCE, keeps={"ASKED_JOB_ID": "job_id"}),
    "cancel_job": Example(names={"job_id": "$ASKED_JOB_ID"}, needs="A job that has not ended."),
    "screen_list": Example(body=_LIST),
    "report_journey": Example(names={"journey_id": _JOURNEY}, query={"top": 5}),
    "put_workforce": Example(
        body={
            "persons": [
                {
                    **{"person_id": "p-7", "queues": ["onboarding_desk"], "skills": ["dutch"], "most_open": 5},
                    **{"results": {"onboarding_desk": {"handled": 140, "succeeded": 61}}},
                }
            ]
        }
    ),
    "read_workforce": Example(query={"queue": "onboarding_desk"}),
    "validate_policy": Example(body={"policy": _POLICY, "decisions": 100}),
    "read_policy": Example(keeps={"POLICY_VERSION": "version"}),
    "put_policy": Example(headers={"If-Match": '"$POLICY_VERSION"'}, body=_POLICY),
    "read_actions": Example(keeps={"ACTIONS_VERSION": "version"}),
    "put_actions": Example(headers={"If-Match": '"$ACTIONS_VERSION"'}, body=_ACTIONS),
    "list_models": Example(),
    "promote_model": Example(names=_MODEL, body={"dry_run": True}, needs="A version that is not the champion."),
    "roll_back_model": Example(
        names=_MODEL, body={"version": 2, "reason": "complaints since Monday"}, needs="A champion before this one."
    ),
    "report_experiment": Example(names={"experiment_id": "default-2025"}, needs="Decisions of both arms."),
    "simulate": Example(body={"policy": _POLICY, "last": 500}, needs="Decisions."),
    "list_evaluations": Example(keeps={"REPORT_ID": "id"}, needs="One made by `headway evaluate --log`."),
    "read_evaluation": Example(names={"report_id": "$REPORT_ID"}),
    "read_drift": Example(query={"journey_id": _JOURNEY}),
}
"""By operation id, in the order in which they can be run."""
