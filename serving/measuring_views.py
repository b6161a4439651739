"""What the calls that measure take and answer: shapes on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from serving.schemas import Text

Json = dict[str, Any]

MOST_DECISIONS: Final = 5_000
DEFAULT_DECISIONS: Final = 1_000
MOST_GROUPS: Final = 8


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment has shown so far.

    Attributes:
        report: as `headway report experiment --json` prints it.
    """

    experiment_id: str
    report: Json


class SimulationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be tried on recorded decisions; at least one of policy, actions and version.

    Attributes:
        policy: a whole policy.
        actions: a whole catalogue.
        version: of the journey's registered model.
        last: so many of the newest decisions.
        journey_id: may be left out where there is one.
        group_by: compare groups of customers by these.
    """

    policy: Json | None = None
    actions: Json | None = None
    version: Annotated[int, Meta(ge=1)] | None = None
    last: Annotated[int, Meta(ge=1, le=MOST_DECISIONS)] = DEFAULT_DECISIONS
    journey_id: Text | None = None
    group_by: Annotated[list[Text], Meta(max_length=MOST_GROUPS)] = []


class SimulationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What would have come of it.

    Attributes:
        result: as `headway simulate-policy --json` prints it.
    """

    result: Json
