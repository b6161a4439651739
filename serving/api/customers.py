"""Customers: the timeline of one, and one in short."""

from __future__ import annotations

from litestar import Response, get
from litestar.params import FromPath

from features.errors import UnknownObject
from features.events import MAX_ID_CHARACTERS, shown
from serving.api.calls import Call, as_json, principal_of, runtime_of, words_of


@get("/v1/customers/{customer_id:str}/journey")
async def customer_journey(request: Call, customer_id: FromPath[str]) -> Response[bytes]:
    """What happened to a customer over all channels, what was decided, and where they stand."""
    runtime, principal, words = runtime_of(request), principal_of(request), words_of(request)
    asked, now = _id_in_path(customer_id), runtime.clock()
    return as_json(await runtime.workers.run(lambda: runtime.timelines.journey(asked, words, principal, now=now)))


@get("/v1/customers/{customer_id:str}/context")
async def customer_context(request: Call, customer_id: FromPath[str]) -> Response[bytes]:
    """A customer in short, with the next best action."""
    runtime, principal, words = runtime_of(request), principal_of(request), words_of(request)
    asked, now = _id_in_path(customer_id), runtime.clock()
    return as_json(await runtime.workers.run(lambda: runtime.contexts.context(asked, words, principal, now=now)))


def _id_in_path(customer_id: str) -> str:
    """The id, if it can be one of a customer.

    Raises:
        UnknownObject: no customer has such an id.
    """
    if not 0 < len(customer_id) <= MAX_ID_CHARACTERS or "\0" in customer_id:
        raise UnknownObject(
            f"no customer {shown(customer_id)}; expected an id of 1 to {MAX_ID_CHARACTERS} characters without NUL"
        )
    return customer_id
