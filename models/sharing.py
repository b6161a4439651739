"""How scarce things are shared out over everybody: what is to be most, and within which bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RankBy = Literal["priority", "net_value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How things are shared out.

    Attributes:
        by: what is to be most in total: priorities, in which levers count as in a single decision, or net values.
        least_net_value: of what is worth doing; mandatory actions are done whatever they are worth.
        most_customers: so many get an action at most; None for any number.
        within_capacity: under the policy's capacities and budgets.
        part: the customers are this part of those whom the capacities are for.
    """

    by: RankBy = "priority"
    least_net_value: float = 0.0
    most_customers: int | None = None
    within_capacity: bool = True
    part: float = 1.0
