"""What a change does, in figures: shares, moves, funnel, spend, value, who loses all actions, and by whom.

Pure: the table of ``models.change_tally`` in, JSON values out. What cannot be known is None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np

from models.actions import NO_ACTION
from models.change_tally import BoolArray, ChangedDecisions, FloatArray, Side
from models.decision import DropStage
from models.group_differences import GroupMeans, group_means, mean_intervals, simultaneous_interval
from models.metrics import Interval

FOUR_FIFTHS: Final = 0.8
"""Below this ratio to the highest rate a group is flagged; a rule of thumb, no verdict.

References: Uniform Guidelines on Employee Selection Procedures 1978, 29 CFR 1607.4(D).
"""

_SIDES: Final = ("before", "after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figuring:
    """How figures are made.

    Attributes:
        reaching: channels over which we reach out: an action on one of them is a contact.
        seed: fixes the resamples.
        resamples: of customers.
        level: of the intervals.
        smallest_group: customers below which a group's figures are not told.
        examples: ids of decisions that are named, at the most.
    """

    reaching: frozenset[str]
    seed: int = 7
    resamples: int = 400
    level: float = 0.95
    smallest_group: int = 30
    examples: int = 20


def change_figures(table: ChangedDecisions, figuring: Figuring) -> dict[str, Any]:
    """Everything that the table tells, as JSON values."""
    return {
        "changed": _changed(table),
        "actions": _shares(table, [action for action, _ in table.options], "action_id"),
        "channels": _shares(table, [channel or NO_ACTION for _, channel in table.options], "channel"),
        "moves": _moves(table),
        "funnel": _funnel(table.before, table.after),
        **_money(table, figuring),
        "access": _access(table, np.ones(len(table), dtype=np.bool_), figuring.examples),
        "stages": list(_stages(table, figuring)),
        "fairness": fairness(table, figuring),
    }


def _changed(table: ChangedDecisions) -> dict[str, Any]:
    moved = np.abs(table.after.probability - table.before.probability).sum(axis=1) / 2
    return {
        "decisions": int((table.before.drawn != table.after.drawn).sum()),
        "share": _mean((table.before.drawn != table.after.drawn).astype(np.float64)),
        "probability_moved": _mean(moved),
    }


def _shares(table: ChangedDecisions, names: list[str], key: str) -> list[dict[str, Any]]:
    """Share of the probability and of the draws by name, the largest before first; no action is among them."""
    found = []
    for name in dict.fromkeys(names):
        columns = np.array([one == name for one in names])
        before, after = (_mean(side.probability[:, columns].sum(axis=1)) for side in (table.before, table.after))
        drawn = [_mean(columns[side.drawn].astype(np.float64)) for side in (table.before, table.after)]
        found.append(
            {
                key: name,
                "before": before,
                "after": after,
                "difference": None if before is None or after is None else after - before,
                "drawn_before": drawn[0],
                "drawn_after": drawn[1],
            }
        )
    return sorted(found, key=lambda one: (-max(one["before"] or 0.0, one["after"] or 0.0), str(one[key])))


def _moves(table: ChangedDecisions) -> list[dict[str, Any]]:
    actions = [action for action, _ in table.options]
    pairs = Counter(zip(table.before.drawn.tolist(), table.after.drawn.tolist(), strict=True))
    moves: Counter[tuple[str, str]] = Counter()
    for (before, after), count in pairs.items():
        if actions[before] != actions[after]:
            moves[actions[before], actions[after]] += count
    ordered = sorted(moves.items(), key=lambda one: (-one[1], one[0]))
    return [{"before": before, "after": after, "decisions": count} for (before, after), count in ordered]


def _funnel(before: Side, after: Side) -> dict[str, Any]:
    """Counts by stage, in the funnel's order, and by rule, those that the change moves most first."""
    sides = (before, after)
    stages = [stage for stage in get_args(DropStage) if before.dropped[stage] or after.dropped[stage]]
    rules = sorted({*before.rules, *after.rules}, key=lambda one: (-abs(after.rules[one] - before.rules[one]), one))
    return {
        "candidates": {name: side.candidates for name, side in zip(_SIDES, sides, strict=True)},
        "allowed": {name: int(side.allowed.sum()) for name, side in zip(_SIDES, sides, strict=True)},
        "stages": [
            {
                "stage": stage,
                **{
                    name: {"candidates": side.dropped[stage], "decisions": side.dropping[stage]}
                    for name, side in zip(_SIDES, sides, strict=True)
                },
            }
            for stage in stages
        ],
        "rules": [
            {
                "stage": rule[0],
                "rule_id": rule[1],
                **{
                    name: {"candidates": side.rules[rule], "decisions": side.ruling[rule]}
                    for name, side in zip(_SIDES, sides, strict=True)
                },
            }
            for rule in rules
        ],
    }


def _money(table: ChangedDecisions, figuring: Figuring) -> dict[str, Any]:
    """Contacts, spend and estimated value a decision, before, after and their difference with its interval."""
    reaching = contacting(table, figuring.reaching)
    pairs = {
        "contacts": [side.probability[:, reaching].sum(axis=1) for side in (table.before, table.after)],
        "actions": [1 - side.probability[:, 0] for side in (table.before, table.after)],
        "contact_cost": [table.before.contact_cost, table.after.contact_cost],
        "incentive": [table.before.incentive, table.after.incentive],
        "total": [side.contact_cost + side.incentive for side in (table.before, table.after)],
        "estimated": [table.before.value, table.after.value],
    }
    figures = np.column_stack([column for one in pairs.values() for column in (*one, one[1] - one[0])])
    found = mean_intervals(
        figures, table.people, seed=figuring.seed, n_resamples=figuring.resamples, level=figuring.level
    )
    told = {name: _change(*found[3 * place : 3 * place + 3]) for place, name in enumerate(pairs)}
    return {
        "contacts": told["contacts"],
        "acting": told["actions"],
        "spend": {name: told[name] for name in ("contact_cost", "incentive", "total")},
        "estimated_value": {
            **told["estimated"],
            "unpriced": {name: _mean(getattr(table, name).unpriced) for name in _SIDES},
        },
    }


def contacting(table: ChangedDecisions, reaching: frozenset[str]) -> BoolArray:
    """``(m,)`` whether each option is a contact: an action on a channel over which we reach out."""
    return np.array([channel in reaching for _, channel in table.options], dtype=np.bool_)


def _change(before: Interval, after: Interval, difference: Interval) -> dict[str, Any]:
    return {
        "before": known(before.estimate),
        "after": known(after.estimate),
        "difference": interval_document(difference),
    }


def _access(table: ChangedDecisions, rows: BoolArray, examples: int) -> dict[str, Any]:
    """Decisions that had an allowed action on one side only; ids for looking them up."""
    had, has = table.before.allowed > 0, table.after.allowed > 0
    return {
        name: {
            "decisions": int(which.sum()),
            "customers": len(np.unique(table.people[which])),
            "examples": table.decision_ids[which][:examples].tolist(),
        }
        for name, which in (("lost_all", rows & had & ~has), ("gained_some", rows & ~had & has))
    }


def _stages(table: ChangedDecisions, figuring: Figuring) -> Iterator[dict[str, Any]]:
    reaching = contacting(table, figuring.reaching)
    for stage in np.unique(table.stages).tolist():
        rows = table.stages == stage
        sides = {}
        for name in _SIDES:
            side: Side = getattr(table, name)
            sides[name] = {
                "contact_rate": _mean(side.probability[rows][:, reaching].sum(axis=1)),
                "no_action_rate": _mean(side.probability[rows, 0]),
                "value": _mean(side.value[rows]),
            }
        yield {
            "stage": stage,
            "decisions": int(rows.sum()),
            "customers": len(np.unique(table.people[rows])),
            **sides,
            **_access(table, rows, 0),
        }


def fairness(table: ChangedDecisions, figuring: Figuring) -> dict[str, Any]:
    """How every group fares beside the rest, before and after.

    Intervals of the differences hold for all groups at once, for each figure. Groups of fewer customers than the
    smallest are named and not told.
    """
    actions = list(dict.fromkeys(action for action, _ in table.options if action != NO_ACTION))
    names = ("contact_rate", "no_action_rate", "value", *actions)
    reaching = contacting(table, figuring.reaching)
    figures = np.column_stack([_of_side(getattr(table, name), table, actions, reaching) for name in _SIDES])
    found = {
        attribute: group_means(figures, labels, table.people, seed=figuring.seed, n_resamples=figuring.resamples)
        for attribute, labels in table.groups.items()
        if len(np.unique(labels)) > 1
    }
    told = {
        attribute: [one for one in groups if one.people >= figuring.smallest_group]
        for attribute, groups in found.items()
    }
    comparisons = sum(map(len, told.values()))
    rows: list[dict[str, Any]] = []
    for attribute, groups in found.items():
        for one in groups:
            beginning = {"attribute": attribute, "group": one.name}
            if one.people < figuring.smallest_group:
                rows.append(beginning | {"suppressed": True})
                continue
            access = _access(table, table.groups[attribute] == one.name, 0)
            rows.append(
                {
                    **beginning,
                    "suppressed": False,
                    "decisions": one.rows,
                    "customers": one.people,
                    **{
                        side: _group_side(one, told[attribute], names, start, comparisons, figuring.level)
                        for side, start in zip(_SIDES, (0, len(names)), strict=True)
                    },
                    "lost_all": access["lost_all"]["decisions"],
                    "gained_some": access["gained_some"]["decisions"],
                }
            )
    return {
        "attributes": list(found),
        "without_groups": [name for name in table.groups if name not in found],
        "level": figuring.level,
        "comparisons": comparisons,
        "smallest_group": figuring.smallest_group,
        "suppressed": sum(one["suppressed"] for one in rows),
        "groups": rows,
    }


def _of_side(side: Side, table: ChangedDecisions, actions: list[str], reaching: BoolArray) -> FloatArray:
    """``(n, 3 + n_actions)``: contact rate, no-action rate, value, then the rate of each action."""
    by_action = [side.probability[:, [one == action for one, _ in table.options]].sum(axis=1) for action in actions]
    return np.column_stack([side.probability[:, reaching].sum(axis=1), side.probability[:, 0], side.value, *by_action])


def _group_side(
    one: GroupMeans, peers: Sequence[GroupMeans], names: Sequence[str], start: int, comparisons: int, level: float
) -> dict[str, Any]:
    """One side of a group; ``start`` is where its figures begin, ``peers`` are all groups told of its attribute."""
    mean = {name: float(one.mean[start + place]) for place, name in enumerate(names)}
    differences = {
        name: interval_document(
            simultaneous_interval(
                float(one.difference[start + place]),
                float(one.error[start + place]),
                comparisons=comparisons,
                level=level,
                freedom=one.freedom,
            )
        )
        for place, name in enumerate(names)
    }
    contact_ratio = _ratio(mean["contact_rate"], max(float(each.mean[start]) for each in peers))
    acting_ratio = _ratio(1 - mean["no_action_rate"], max(1 - float(each.mean[start + 1]) for each in peers))
    return {
        "contact_rate": mean["contact_rate"],
        "no_action_rate": mean["no_action_rate"],
        "value": mean["value"],
        "actions": {name: mean[name] for name in names[3:]},
        "difference_to_rest": {
            **{name: differences[name] for name in names[:3]},
            "actions": {name: differences[name] for name in names[3:]},
        },
        "contact_ratio": contact_ratio,
        "action_ratio": acting_ratio,
        "below_four_fifths": any(one is not None and one < FOUR_FIFTHS for one in (contact_ratio, acting_ratio)),
    }


def _ratio(rate: float, highest: float) -> float | None:
    return rate / highest if highest > 0 else None


def _mean(column: FloatArray) -> float | None:
    return float(column.mean()) if len(column) else None


def known(number: float) -> float | None:
    """A number, or None where it is NaN."""
    return None if math.isnan(number) else number


def interval_document(found: Interval | None) -> dict[str, Any] | None:
    """An interval as JSON values; None where there is no estimate."""
    if found is None or math.isnan(found.estimate):
        return None
    bounds: Mapping[str, float | None] = {"low": known(found.low), "high": known(found.high)}
    return {"estimate": found.estimate, **bounds}
