"""What the policy's capacities and budgets say of the other files: whole periods, and names that lead somewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from features.durations import dump_duration
from features.errors import Problem
from features.yaml_files import YamlDocument, one_of
from models.actions import Catalogue
from models.capacity import fits_calendar
from models.policy import Capacity

_CALENDAR: Final = "whole days, or a part of one that divides it, such as 1d, 7d, 12h, 1h or 15m"


def capacity_problems(
    capacity: Capacity, document: YamlDocument, channels: Sequence[str] | None, catalogue: Catalogue | None
) -> Iterator[Problem]:
    """Every bad period, repeated id and dangling name.

    Args:
        capacity: of the policy.
        document: its file.
        channels: of the taxonomy; None where it is not valid.
        catalogue: None where it is not valid.
    """
    times = Counter([*(limit.id for limit in capacity.limits), *(budget.id for budget in capacity.budgets)])
    for kind, declared in (
        ("limits", [(limit.id, limit.period) for limit in capacity.limits]),
        ("budgets", [(budget.id, budget.period) for budget in capacity.budgets]),
    ):
        for index, (limit_id, period) in enumerate(declared):
            here = ("capacity", kind, index)
            if not fits_calendar(period):
                yield document.problem((*here, "period"), dump_duration(period), _CALENDAR)
            if times[limit_id] > 1:
                expected = f"ids that are unique among limits and budgets; this one stands {times[limit_id]} times"
                yield document.problem((*here, "id"), limit_id, expected)
    for index, limit in enumerate(capacity.limits):
        here = ("capacity", "limits", index)
        if limit.channel is not None and channels is not None and limit.channel not in channels:
            yield document.problem((*here, "channel"), limit.channel, one_of(channels, limit.channel))
        if limit.queue is not None and catalogue is not None and limit.queue not in catalogue.queues:
            expected = f"a queue that an action is assigned to: {one_of(catalogue.queues, limit.queue)}"
            yield document.problem((*here, "queue"), limit.queue, expected)
    if catalogue is not None:
        issues = tuple(dict.fromkeys(action.issue for action in catalogue.actions))
        named = [(index, *pair) for index, one in enumerate(capacity.budgets) for pair in enumerate(one.issues)]
        for index, position, issue in named:
            if issue not in issues:
                yield document.problem(("capacity", "budgets", index, "issues", position), issue, one_of(issues, issue))
