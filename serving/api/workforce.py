"""The workforce: tell who works which queue, and read it back."""

from __future__ import annotations

from litestar import Response, get, put

from features.errors import InvalidInput, Problem
from features.events import shown
from serving.api.calls import Call, as_json, body_of, runtime_of
from serving.requests import decode_json
from serving.telemetry import log_event


@put("/v1/workforce", status_code=200)
async def put_workforce(request: Call) -> Response[bytes]:
    """Remember people; the very next decision knows them."""
    runtime = runtime_of(request)
    body = await body_of(request, runtime.settings.max_batch_bytes, pace=runtime.workers.pace)
    now = runtime.clock()
    answer = await runtime.workers.run(lambda: runtime.workforce.put(decode_json(body), now=now))
    log_event("workforce_told", persons=len(answer.persons))
    return as_json(answer)


@get("/v1/workforce")
async def read_workforce(request: Call) -> Response[bytes]:
    """Everybody, or those of a queue, with the work they have open."""
    runtime = runtime_of(request)
    queue = _queue(request)
    now = runtime.clock()
    return as_json(await runtime.workers.run(lambda: runtime.workforce.read(queue, now=now)))


def _queue(request: Call) -> str | None:
    """The one query parameter, if it is given.

    Raises:
        InvalidInput: it is given twice, or there are others.
    """
    given = {name: request.query_params.getall(name) for name in set(request.query_params)}
    problems = [
        Problem(f"?{name}", shown(values[-1]), "once" if name == "queue" else "no query parameter but queue")
        for name, values in sorted(given.items())
        if name != "queue" or len(values) > 1
    ]
    if problems:
        raise InvalidInput("the query is not one that this call takes", problems)
    return given["queue"][0] if given else None
