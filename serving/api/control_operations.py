"""The calls that read and steer, as the description of the API has them; those of the hot path stand beside it."""

from __future__ import annotations

from typing import Final, get_args

from features.refused_events import KEPT_OF_SOURCE
from serving import problems
from serving.api.operation import DECISION_ID, KEYED, READING, WRITING, Json, Operation
from serving.customer_views import DEFAULT_TIMELINE, LARGEST_TIMELINE, CustomerContext, CustomerJourney
from serving.decision_search import ARMS, DEFAULT_LIMIT, LARGEST_LIMIT, LOOKED_AT_MOST, MODES, FoundDecisions
from serving.explanations import DecisionExplanation
from serving.recent_events import DEFAULT_RECENT, LARGEST_RECENT, RecentEvents
from serving.recent_events import LOOKED_AT_MOST as RECENT_LOOKED_AT
from serving.schemas import ActivationRequest, Direction
from serving.views import Activation


def _query(name: str, description: str, *, required: bool = False, **schema: object) -> Json:
    if not schema:
        schema = {"minLength": 1}
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
    }


_TIME: Final[Json] = {"format": "date-time"}
_CURSOR: Final = _query("cursor", "Where to go on: `next_cursor` of an answer to the same query.")

_CUSTOMER_ID: Final[Json] = {
    "name": "customer_id",
    "in": "path",
    "required": True,
    "description": "Any id of the customer.",
    "schema": {"type": "string"},
}


def _limit(default: int, most: int) -> Json:
    return _query("limit", "How many at most.", type="integer", minimum=1, maximum=most, default=default)


CONTROL_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/events/recent",
        operation_id="recent_events",
        summary="What came in lately, and what became of it",
        description="For connecting a sender: events that were accepted, rejected or dropped, newest first, with "
        "pointer and reason, over `/v1/events` and the calls of tracking SDKs. Accepted ones are looked for among the "
        f"newest {RECENT_LOOKED_AT:,} of the log; of what was refused the newest {KEPT_OF_SOURCE} of each source are "
        "kept, for a day, without the values. The roles admin, analyst and privacy see every source, other keys their "
        "own.",
        answer=RecentEvents,
        parameters=(
            _query("source", "Only what this source sent; your own, unless you may see all."),
            _query("kind", "Only events of this kind."),
            _query("status", "Only these.", enum=["accepted", "rejected", "dropped"]),
            _query("since", "Only what came from here on, ISO 8601 with an offset.", **_TIME),
            _limit(DEFAULT_RECENT, LARGEST_RECENT),
        ),
        failures=(*KEYED, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE),
    ),
    Operation(
        method="get",
        path="/v1/decisions",
        operation_id="search_decisions",
        summary="Find recorded decisions",
        description="Newest first, by any of the parameters. Of one person (`customer_id`, any id of theirs) over all "
        "time; of everybody within `since` and `until`, by default the last 24 hours. A page looks at no more than "
        f"{LOOKED_AT_MOST:,} decisions: go on with `next_cursor` until it is null, also where a page is short. What is "
        "decided meanwhile moves no page. The roles admin, analyst and privacy find every "
        "decision, other keys those of their own source.",
        answer=FoundDecisions,
        parameters=(
            _query("customer_id", "Decisions on this person, under any of their ids."),
            _query("since", "Only decisions from here on, ISO 8601 with an offset.", **_TIME),
            _query("until", "Only decisions before, likewise.", **_TIME),
            _query("action_id", "Only decisions that selected this action, or `no_action`."),
            _query("arm", "Only decisions of this arm.", enum=list(ARMS)),
            _query("mode", "Only decisions of this mode.", enum=list(MODES)),
            _query("journey_id", "Only decisions in this journey."),
            _query("degraded", "Only decisions that were degraded, or that were not.", enum=["true", "false"]),
            _query("request_id", "Only the decision on this request; with `source` it is found at any time, at once."),
            _query("source", "Only decisions asked for by this source; your own, unless you may read all."),
            _limit(DEFAULT_LIMIT, LARGEST_LIMIT),
            _CURSOR,
        ),
        failures=(*KEYED, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE),
    ),
    Operation(
        method="post",
        path="/v1/decisions/{decision_id}/activate",
        operation_id="activate_decision",
        summary="Count the contacts that a decision reserved",
        description="For decisions made with `activate: false`, and inbound ones: a reserved contact becomes one that "
        "counts, from now on, if it is still reserved and still fits under the limits; all of them or none. "
        "Activating again changes nothing and gives the same answer. Without a body all contacts of the decision are "
        "meant. An exposure does the same, and says that the customer really saw it.",
        body=ActivationRequest,
        is_body_optional=True,
        answer=Activation,
        parameters=(DECISION_ID,),
        failures=(*KEYED, problems.NOT_FOUND, problems.NOT_ACTIVATABLE, problems.LEASE_ENDED, *WRITING),
    ),
    Operation(
        method="get",
        path="/v1/decisions/{decision_id}/explanation",
        operation_id="explain_decision",
        summary="Why a decision came out as it did",
        description="What each feature contributed to the stall and to every effect, in numbers and in words, computed "
        "from the decision's own record with the model that made it; as `headway report decision --json` prints it. "
        "With `action` also what would have put that action first. It says what the models made of the features, not "
        "what would happen if they were others. One is made at a time.",
        answer=DecisionExplanation,
        parameters=(DECISION_ID, _query("action", "A candidate: also what it would have taken for it to win.")),
        failures=(*KEYED, *READING, problems.NOT_EXPLAINABLE),
    ),
    Operation(
        method="get",
        path="/v1/customers/{customer_id}/journey",
        operation_id="customer_journey",
        summary="What happened to a customer, and where they stand",
        description="Events of all channels with their key facts, decisions with what was selected and what came of "
        "it, exposures and outcomes, newest first; the profile, the linked ids, and the standing in every journey. "
        "What the taxonomy marks as personal is seen by the roles privacy and admin only; others are told what is "
        "`masked`.",
        answer=CustomerJourney,
        parameters=(
            _CUSTOMER_ID,
            _query("since", "Only what happened from here on, ISO 8601 with an offset.", **_TIME),
            _limit(DEFAULT_TIMELINE, LARGEST_TIMELINE),
            _CURSOR,
        ),
        failures=(*KEYED, *READING),
    ),
    Operation(
        method="get",
        path="/v1/customers/{customer_id}/context",
        operation_id="customer_context",
        summary="A customer in short",
        description="For decision systems, personalisation engines, agents and bots: where the customer stands in "
        "each journey, what happened last, contacts, consents, holdings, and the action that a decision now would "
        "choose, with talking points and disclosures. Nothing of it is personal, and nothing is recorded: to act on "
        "it, ask for a decision.",
        answer=CustomerContext,
        parameters=(
            _CUSTOMER_ID,
            _query("journey_id", "Only this journey; all that the customer ever entered if not given."),
            _query("channel", "Only actions on this channel."),
            _query("direction", "Whether we reach out or the customer is here.", enum=list(get_args(Direction))),
        ),
        failures=(*KEYED, *READING),
    ),
)
"""Every documented call of the control path that reads or steers decisions and customers."""
