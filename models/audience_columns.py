"""What a row of a ranking may tell of a customer: a closed set, and nothing personal in it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class Column(NamedTuple):
    """One column of a ranking.

    Attributes:
        meaning: for people.
        is_always: every row has it.
    """

    name: str
    type: Literal["text", "whole", "number"]
    meaning: str
    is_always: bool = False


COLUMNS: Final = (
    Column("customer_id", "text", "who", True),
    Column("journey_id", "text", "in which journey", True),
    Column("rank", "whole", "place among those who get an action, from 1"),
    Column("action_id", "text", "what to do; `no_action` where nothing is", True),
    Column("treatment_id", "text", "how it is said; `no_action` where nothing is", True),
    Column("channel", "text", "over which channel"),
    Column("priority", "number", "what the ranking sorts by, money; less the prices of what is scarce"),
    Column("net_value", "number", "expected net value, money; less the prices of what is scarce"),
    Column("net_value_low", "number", "lower end of its 95 % interval"),
    Column("net_value_high", "number", "upper end of its 95 % interval"),
    Column("prices_paid", "number", "the prices of what is scarce that are in it"),
    Column("uplift", "number", "what the action changes of the outcome"),
    Column("uplift_low", "number", "lower end of its 95 % interval"),
    Column("uplift_high", "number", "upper end of its 95 % interval"),
    Column("response_probability", "number", "probability of the outcome under the action; empty where it is unknown"),
    Column("reasons", "text", "why the action stands where it stands: reason codes, a space between them"),
    Column("reason", "text", "why nothing is done; empty where something is"),
    Column("rule_ids", "text", "the rules that stood furthest in the way of everything, a space between them"),
    Column("stage", "text", "of the journey"),
    Column("state", "text", "how the customer is stuck"),
    Column("stall_state", "text", "the stage's name for being stuck; empty while not stalled"),
    Column("stall_propensity", "number", "probability of no progress within the horizon; empty where it is unknown"),
    Column("arm", "text", "part of the experiment that the customer is in", True),
    Column("as_of", "text", "the moment of all of this", True),
    Column("bundle", "text", "the model; empty where only the catalogue's priors were there"),
    Column("policy_version", "text", "of the policy", True),
    Column("actions_version", "text", "of the catalogue", True),
    Column("features_version", "text", "of the feature set", True),
)
"""What a row may tell."""

COLUMN_NAMES: Final = tuple(column.name for column in COLUMNS)
DEFAULT_COLUMNS: Final = (
    *("customer_id", "rank", "action_id", "treatment_id", "channel", "priority", "net_value", "net_value_low"),
    *("net_value_high", "uplift", "response_probability", "reasons", "reason", "rule_ids", "stage", "state"),
    *("stall_propensity", "arm", "as_of", "bundle", "policy_version"),
)
"""What a row tells where nobody asked for anything in particular."""
