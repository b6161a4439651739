"""What is measured: experiments, off-policy evaluations, simulations, and drift."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from serving.api.calls import Call, as_json, body_of, refuse_query, runtime_of, words_of
from serving.requests import decode_json


@get("/v1/experiments/{experiment_id:str}/report")
async def report_experiment(request: Call, experiment_id: FromPath[str]) -> Response[bytes]:
    """What an experiment has shown so far."""
    runtime = runtime_of(request)
    refuse_query(request.query_params)
    return as_json(await runtime.errands.run(runtime.experiments.report, experiment_id))


@get("/v1/ope/reports")
async def list_evaluations(request: Call) -> Response[bytes]:
    """The off-policy evaluations that are kept."""
    runtime = runtime_of(request)
    refuse_query(request.query_params)
    return as_json(await runtime.workers.run(runtime.evaluations.reports))


@get("/v1/ope/reports/{report_id:str}")
async def read_evaluation(request: Call, report_id: FromPath[str]) -> Response[bytes]:
    """One of them."""
    runtime = runtime_of(request)
    refuse_query(request.query_params)
    return as_json(await runtime.workers.run(runtime.evaluations.report, report_id))


@post("/v1/simulations", status_code=200)
async def simulate(request: Call) -> Response[bytes]:
    """What a policy, a catalogue or a model would have come to."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_body_bytes, pace=runtime.workers.pace)
    return as_json(await runtime.errands.run(lambda: runtime.simulations.simulated(decode_json(body))))


@get("/v1/monitoring/drift")
async def read_drift(request: Call) -> Response[bytes]:
    """The latest drift reports."""
    runtime = runtime_of(request)
    return as_json(await runtime.workers.run(runtime.drift.drift, words_of(request)))
