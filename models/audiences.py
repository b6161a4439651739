"""What an audience is asked for by: who, what may be done, how many, what is told of them. Pure; no store, no clock.

An audience is pinned when it is taken on: a moment, a place in the log, the configuration and the model. Made again,
wherever and whenever, it is the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final, Literal

import msgspec
from pydantic import Field

from features.config_model import ConfigModel
from features.errors import Problem
from features.events import dump_timestamp
from features.yaml_files import YamlDocument, dump_yaml, read_yaml
from models.actions import Condition
from models.audience_columns import DEFAULT_COLUMNS
from models.rule_checks import Names, conditions_problems
from models.sharing import RankBy, Sharing

FileFormat = Literal["csv", "parquet"]

MOST_LISTED: Final = 100_000
MOST_CONDITIONS: Final = 32
MOST_FILTER_BYTES: Final = 32_768
"""Of a filter as JSON: it is read as the conditions of a file are, which takes seconds for each megabyte."""
SAMPLE: Final = 5_000
"""So many customers an estimate looks at; of more a sample."""

_OF_A_REQUEST: Final = ("channel", "direction")
_ALWAYS_OPEN: Final = "journey_status"


class AudienceFilter(ConfigModel):
    """Who of those whose journey is open is asked for.

    Attributes:
        all_of: conditions as rules have them, over what is known of the customer; all must hold.
    """

    all_of: tuple[Condition, ...] = Field(default=(), max_length=MOST_CONDITIONS)


class AudienceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An audience as it was asked for, once it was found to be valid.

    Attributes:
        customer_ids: any ids of these people; None for everybody whose journey is open.
        conditions: of the filter, as JSON values.
        channels: only over these; empty for all.
        include: only these actions; empty for all.
        exclude: none of these actions.
        issues: only actions of these issues; empty for all.
        max_customers: so many get an action at most; None for any number.
        rank_by: what is to be most in total, and puts the customers in order.
        min_net_value: of what is worth doing, money.
        within_capacity: under what is left of the policy's capacities and budgets.
        contact_at: when they are to be contacted, microseconds since the epoch; None for at once.
        columns: of the file, in order.
    """

    journey_id: str
    customer_ids: tuple[str, ...] | None = None
    conditions: tuple[dict[str, object], ...] = ()
    channels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()
    max_customers: int | None = None
    rank_by: RankBy = "priority"
    min_net_value: float = 0.0
    within_capacity: bool = True
    contact_at: int | None = None
    format: FileFormat = "csv"
    columns: tuple[str, ...] = DEFAULT_COLUMNS

    @property
    def sharing(self) -> Sharing:
        """How what is scarce is shared out."""
        return Sharing(
            by=self.rank_by,
            least_net_value=self.min_net_value,
            most_customers=self.max_customers,
            within_capacity=self.within_capacity,
        )


def contact_moment(contact_at: int | None, pins: Pins) -> str:
    """When somebody is to be contacted, as it is told: the moment of contact, or at once."""
    return dump_timestamp(pins.at if contact_at is None else contact_at)


class Pins(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What does not move under a job once it is taken on.

    Attributes:
        at: the moment, microseconds since the epoch.
        log_position: the last event that counts.
        versions: of the configuration's files, by name.
        bundle: label of the bundle; None where there is no champion.
    """

    at: int
    log_position: int
    versions: dict[str, str]
    bundle: str | None


class AudienceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of what an audience's job is told."""

    request: AudienceRequest
    pins: Pins


def filter_problems(content: object, names: Names, journey_id: str, *, path: str) -> list[Problem]:
    """Everything that is wrong with a filter, as it came.

    Args:
        content: JSON values.
        names: what conditions may refer to.
        journey_id: in which journey.
        path: where the filter stands.
    """
    if (n_bytes := len(msgspec.json.encode(content))) > MOST_FILTER_BYTES:
        return [Problem(path, f"{n_bytes} bytes", f"at most {MOST_FILTER_BYTES} bytes of JSON")]
    loaded = read_yaml(AudienceFilter, dump_yaml(content), file="")
    found = list(loaded.problems)
    if loaded.value is not None:
        found += _refused_fields(loaded.value.all_of, loaded.document)
    if loaded.value is not None and not found:
        found += conditions_problems(loaded.value.all_of, loaded.document, (), names, (journey_id,))
    return [replace(one, path=_joined(path, one.path), file=None, line=None) for one in found]


def _joined(path: str, inside: str) -> str:
    return path if inside in (".", "the file") else f"{path}.{inside}"


def _refused_fields(conditions: Collection[Condition], document: YamlDocument) -> Iterator[Problem]:
    """Conditions that say nothing of a customer: there is no request, and everybody's journey is open."""
    for position, condition in enumerate(conditions):
        place = ("all_of", position, "field")
        if condition.field in _OF_A_REQUEST or condition.field.startswith("context:"):
            yield document.problem(place, condition.field, "what is known of a customer: an audience has no request")
        elif condition.field == _ALWAYS_OPEN:
            expected = "another field: only customers whose journey is open are asked for"
            yield document.problem(place, condition.field, expected)
