"""What a caller may say beside the customer: the optional fields and parameters of calls, by name."""

from __future__ import annotations

from typing import TypedDict

from serving.schemas import CandidateFilter, Direction, Explain, RequestMode, Scalar


class DecisionOptions(TypedDict, total=False):
    """Fields of ``DecisionRequest``, which explains them; what is left out has its default."""

    channel: str | None
    direction: Direction
    placements: tuple[str, ...]
    send_id: str | None
    journey_id: str | None
    context: dict[str, Scalar]
    candidates: CandidateFilter
    max_actions: int
    deadline_ms: int | None
    mode: RequestMode
    as_of: str | None
    activate: bool
    explain: Explain
    require_known: bool


class DecisionFilters(TypedDict, total=False):
    """Parameters of ``GET /v1/decisions``, whose description explains them."""

    customer_id: str
    since: str
    until: str
    action_id: str
    arm: str
    mode: str
    journey_id: str
    degraded: bool
    request_id: str
    source: str
    limit: int
