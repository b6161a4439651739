"""The calls that measure and promote, as the description of the API has them."""

from __future__ import annotations

from typing import Final

from serving import problems
from serving.api.operation import KEYED, READING, WRITING, Json, Operation
from serving.measuring_views import MOST_DECISIONS, ExperimentReport, SimulationAnswer, SimulationRequest
from serving.model_views import ModelsAnswer, PromotionAnswer, PromotionRequest, RollbackRequest
from serving.stored_reports import DriftAnswer, OpeReport, StoredReports


def _path(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


_NAME: Final = _path("name", "Name of the registered model: `nba-` and the journey's id.")
_LISTING: Final = (*KEYED, problems.INVALID, problems.TOO_MANY, problems.INTERNAL, problems.UNAVAILABLE)

MEASURING_OPERATIONS: Final = (
    Operation(
        method="get",
        path="/v1/models",
        operation_id="list_models",
        summary="Registered models, and who promoted them",
        description="Of each journey's model its versions with headline metrics, the aliases, which bundle decides in "
        "this process now, and the promotion log, newest first.",
        answer=ModelsAnswer,
        failures=_LISTING,
    ),
    Operation(
        method="post",
        path="/v1/models/{name}/promote",
        operation_id="promote_model",
        summary="Let a version decide: for a share of the customers, or as the champion",
        description="Runs `headway promote`. The gate values champion and version on the decisions made since both "
        "were trained, and refuses with its reasons (409); `dry_run` gives the same verdict as a 200 and changes "
        "nothing. Every recorded decision can be made again by any version, so a dry run is the shadow run of a model "
        "that serves nobody, and costs the decisions nothing. "
        "With `share` the version becomes the challenger and decides for that part of the customers, by stable hash: "
        "who is in it stays in it while the share grows. The gate is not asked of a share that does not grow; 0 ends "
        "the rollout. One promotion runs at a time. What takes longer than 45 s is answered 409 `in-flight` and goes "
        "on: ask the same again for its result. The promotion log names the key.",
        body=PromotionRequest,
        answer=PromotionAnswer,
        parameters=(_NAME,),
        failures=(
            *(*KEYED, problems.NOT_FOUND, problems.PROMOTION_REFUSED, problems.FIXED, problems.NOT_ENOUGH_DATA),
            *(problems.IN_FLIGHT, *WRITING),
        ),
    ),
    Operation(
        method="post",
        path="/v1/models/{name}/rollback",
        operation_id="roll_back_model",
        summary="Put the champion before back in its place",
        description="Runs `headway rollback`: at once, by the promotion log, without asking the gate; twice goes back "
        "two, unless `version` says which champion is to be left. A rollout goes on: end it with a share of 0.",
        body=RollbackRequest,
        answer=PromotionAnswer,
        parameters=(_NAME,),
        failures=(*KEYED, problems.NOT_FOUND, problems.PROMOTION_REFUSED, problems.IN_FLIGHT, *WRITING),
    ),
    Operation(
        method="get",
        path="/v1/experiments/{experiment_id}/report",
        operation_id="report_experiment",
        summary="What an experiment has shown so far",
        description="The arms compared, as `headway report experiment --json` prints it. One report is made at a time; "
        "asked again before anything new is recorded, it is given at once. One that takes longer than 45 s is answered "
        "409 `in-flight`: ask again for it.",
        answer=ExperimentReport,
        parameters=(_path("experiment_id", "The experiment, as `policy.yaml` names or named it."),),
        failures=(*KEYED, *READING, problems.NOT_ENOUGH_DATA, problems.IN_FLIGHT),
    ),
    Operation(
        method="get",
        path="/v1/ope/reports",
        operation_id="list_evaluations",
        summary="The off-policy evaluations that are kept",
        description="Made by `headway evaluate --log`; the newest first.",
        answer=StoredReports,
        failures=_LISTING,
    ),
    Operation(
        method="get",
        path="/v1/ope/reports/{report_id}",
        operation_id="read_evaluation",
        summary="One off-policy evaluation",
        description="What policies would have earned on the log, by several estimators, as `headway evaluate --log "
        "--json` prints it.",
        answer=OpeReport,
        parameters=(_path("report_id", "`ope-` and 16 hexadecimal digits."),),
        failures=(*KEYED, *READING),
    ),
    Operation(
        method="post",
        path="/v1/simulations",
        operation_id="simulate",
        summary="What a policy, a catalogue or a model would have come to",
        description=f"Makes up to {MOST_DECISIONS:,} of the newest decisions again under what is sent, and tells "
        "what would have changed and what it would be worth, as `headway simulate-policy --json` prints it. Nothing is "
        "put in force or recorded. One simulation runs at a time; one that takes longer than 45 s is answered 409 "
        "`in-flight`: ask the same again for its result.",
        body=SimulationRequest,
        answer=SimulationAnswer,
        failures=(*KEYED, problems.NOT_FOUND, problems.NOT_ENOUGH_DATA, problems.IN_FLIGHT, *WRITING),
    ),
    Operation(
        method="get",
        path="/v1/monitoring/drift",
        operation_id="read_drift",
        summary="Whether what comes in still looks like what was trained on",
        description="The latest report of `headway drift` on each journey, and the headlines of its runs so far. The "
        "headlines are in `/metrics` too.",
        answer=DriftAnswer,
        parameters=(
            {
                "name": "journey_id",
                "in": "query",
                "required": False,
                "description": "Only this journey.",
                "schema": {"type": "string"},
            },
        ),
        failures=(*KEYED, *READING),
    ),
)
"""Every documented call that measures or promotes."""
