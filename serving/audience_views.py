"""What the calls about audiences take and answer: shapes on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from models.audiences import MOST_CONDITIONS, MOST_LISTED, FileFormat
from models.removals import Removal
from models.screen_lists import MOST_ROWS
from models.sharing import RankBy
from serving.schemas import CandidateFilter, Names, Text, Timestamp

Json = dict[str, Any]

MOST_AT_ONCE: Final = 1_000
"""So many rows of a list are screened while the caller waits; more of them are a job."""


class AudienceFilterBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is asked for.

    Attributes:
        all_of: conditions as those of a rule, over `feature:`, `attribute:`, `holding:` and `consent:`, `stage`,
            `state`, `stall_state`, `stall_propensity`, `abandon_probability` and `lead_class`; all must hold.
    """

    all_of: Annotated[list[Json], Meta(max_length=MOST_CONDITIONS)] = []


class AudienceBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An audience: who, what may be done, how many, and what is told of them.

    Attributes:
        request_id: the idempotency key.
        journey_id: may be left out where there is one.
        customer_ids: these people, by any ids of theirs; everybody whose journey is open if not given.
        filter: only those of them for whom it holds.
        channels: only over these.
        candidates: which actions may be candidates.
        max_customers: so many get an action at most.
        rank_by: what is to be most in total, and what the rows are put in order by.
        min_net_value: of what is worth doing, money.
        within_capacity: under what is left of capacities and budgets.
        contact_at: when they are to be contacted, ISO 8601 with an offset: quiet hours and the validity of actions are
            those of that moment; at once if not given.
        format: of the file.
        columns: of the file, in order; a useful choice if not given.
    """

    request_id: Text | None = None
    journey_id: str | None = None
    customer_ids: Annotated[list[Text], Meta(min_length=1, max_length=MOST_LISTED)] | None = None
    filter: AudienceFilterBody | None = None
    channels: Names = ()
    candidates: CandidateFilter | None = None
    max_customers: Annotated[int, Meta(ge=1)] | None = None
    rank_by: RankBy = "priority"
    min_net_value: Annotated[float, Meta(ge=0)] | None = None
    within_capacity: bool = True
    contact_at: Timestamp | None = None
    format: FileFormat = "csv"
    columns: list[str] = []


class EstimatedNumber(msgspec.Struct, frozen=True, kw_only=True):
    """A number with its 95 % interval; the three are the same where it is exact."""

    estimate: float
    low: float
    high: float


class EstimatedMoney(msgspec.Struct, frozen=True, kw_only=True):
    """Money with its 95 % interval.

    Attributes:
        sampling_error: one standard error, since only a sample was looked at; 0 where everybody was.
        model_error: one standard deviation, as if all estimates of the models erred together.
    """

    estimate: float
    low: float
    high: float
    sampling_error: float
    model_error: float


class EstimatedUse(msgspec.Struct, frozen=True, kw_only=True):
    """What would be used of a capacity or a budget, and what is left of it now."""

    used: float
    left: float


class AudienceEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What an audience would come to.

    Attributes:
        contact_at: the moment of contact that quiet hours and the validity of actions are about.
        population: people who were listed, or whose journey is open: exact.
        sampled: so many of them were looked at.
        is_exact: all of them were.
        customers: those for whom the filter holds.
        selected: those of them who would get an action.
        reasons: how many would get none, by reason.
        actions: how many would get each action.
        channels: how many would be contacted over each channel.
        net_value: of all together, before the prices of what is scarce.
        capacities: by id.
        versions: of the configuration's files and of the model, by name.
    """

    journey_id: str
    as_of: Timestamp
    contact_at: Timestamp
    population: int
    sampled: int
    is_exact: bool
    customers: EstimatedNumber
    selected: EstimatedNumber
    reasons: dict[str, EstimatedNumber]
    actions: dict[str, EstimatedNumber]
    channels: dict[str, EstimatedNumber]
    net_value: EstimatedMoney
    currency: str
    capacities: dict[str, EstimatedUse]
    versions: dict[str, str | None]


class ListRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a list.

    Attributes:
        customer_id: any id of theirs.
        action_id: what they are to get; what holds for the list if not given.
        channel: over which; likewise.
    """

    customer_id: Text
    action_id: Text | None = None
    channel: Text | None = None


class ListBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list to be screened.

    Attributes:
        request_id: the idempotency key, where the list is long enough for a job.
        journey_id: may be left out where there is one.
        action_id: what everybody is to get who has no other in their row; anything if not given.
        channel: over which, likewise.
        contact_at: when they are to be contacted, ISO 8601 with an offset: quiet hours and the validity of actions are
            those of that moment; at once if not given.
        format: of the file, where the list is long enough for a job.
    """

    rows: Annotated[list[ListRow], Meta(min_length=1, max_length=MOST_ROWS)]
    request_id: Text | None = None
    journey_id: str | None = None
    action_id: Text | None = None
    channel: Text | None = None
    contact_at: Timestamp | None = None
    format: FileFormat = "csv"


class ScreenedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row.

    Attributes:
        row: its place in the list, from 0.
        reason: why it was removed; null of one that is kept.
        rule_ids: the rules that stood in the way of what came furthest.
        treatment_ids: of a row that is kept, what the person may get.
    """

    row: int
    customer_id: str
    action_id: str | None
    channel: str | None
    kept: bool
    reason: Removal | None
    rule_ids: list[str]
    treatment_ids: list[str]


class ScreenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a list: each row is kept, or removed for one reason.

    Attributes:
        contact_at: the moment of contact that quiet hours and the validity of actions are about.
        rows: how many there are: kept and removed together.
        reasons: how many rows were removed, by reason.
        versions: of the configuration's files and of the model, by name.
        results: of every row, in order.
    """

    journey_id: str
    as_of: Timestamp
    contact_at: Timestamp
    rows: int
    kept: int
    removed: int
    reasons: dict[str, int]
    versions: dict[str, str | None]
    results: list[ScreenedRow]
