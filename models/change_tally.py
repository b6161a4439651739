"""What a change of policy, catalogue or model does to recorded decisions, gathered as they are made again.

Pure: a decision as it was and as it came out again in, a table of both sides out. What the table says is for
``models.change_figures`` to tell.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.actions import NO_ACTION
from models.decision import Candidate, DecisionRecord

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

UNKNOWN: Final = "unknown"
"""Group of those of whom an attribute, or the stage, is not known."""

NOTHING: Final = (NO_ACTION, "")

_NUMBERS: Final = ("value", "contact_cost", "incentive", "unpriced", "allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How decisions are read.

    Attributes:
        attributes: that customers are grouped by.
        binary_outcomes: ids of outcomes that are a yes or no: their incentives are paid for each yes.
    """

    attributes: tuple[str, ...] = ()
    binary_outcomes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Side:
    """One side of ``n`` decisions, before or after, among ``m`` pairs of action and channel.

    Attributes:
        probability: ``(n, m)`` marginal probability of each in slot 1; rows sum to 1.
        drawn: ``(n,)`` the one in slot 1.
        value: ``(n,)`` expected net value by this side's own estimates, money.
        contact_cost: ``(n,)`` expected cost of the contact, money.
        incentive: ``(n,)`` expected incentive, money.
        unpriced: ``(n,)`` probability of what this side has no estimates of, so that value and costs lack it.
        allowed: ``(n,)`` candidates that no rule dropped.
        dropped: candidates dropped, by stage of the funnel.
        dropping: decisions in which the stage dropped some.
        rules: candidates that each rule dropped, by stage and id; several rules may stand against one.
        ruling: decisions in which it did.
        candidates: that there were in all.
    """

    probability: FloatArray
    drawn: IntArray
    value: FloatArray
    contact_cost: FloatArray
    incentive: FloatArray
    unpriced: FloatArray
    allowed: IntArray
    dropped: Counter[str]
    dropping: Counter[str]
    rules: Counter[tuple[str, str]]
    ruling: Counter[tuple[str, str]]
    candidates: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChangedDecisions:
    """``n`` decisions as they were, and as they came out again.

    Attributes:
        options: action and channel of the columns of probabilities; the first is no action.
        decision_ids: ``(n,)``.
        people: ``(n,)`` whose they are.
        stages: ``(n,)`` stage of the journey.
        groups: by attribute, ``(n,)`` the value that the record holds.
    """

    options: tuple[tuple[str, str], ...]
    decision_ids: NDArray[np.str_]
    people: NDArray[np.str_]
    stages: NDArray[np.str_]
    groups: Mapping[str, NDArray[np.str_]]
    before: Side
    after: Side

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.decision_ids)


@dataclass(slots=True)
class _Gathered:
    """One side, as it grows: probabilities as row, option and number; the rest a number a decision."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    places: array[int] = field(default_factory=lambda: array("q"))
    probabilities: array[float] = field(default_factory=lambda: array("d"))
    drawn: array[int] = field(default_factory=lambda: array("q"))
    numbers: dict[str, array[float]] = field(default_factory=lambda: {name: array("d") for name in _NUMBERS})
    dropped: Counter[str] = field(default_factory=Counter)
    dropping: Counter[str] = field(default_factory=Counter)
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    ruling: Counter[tuple[str, str]] = field(default_factory=Counter)
    candidates: int = 0

    def add(self, row: int, record: DecisionRecord, options: dict[tuple[str, str], int], reading: Reading) -> None:
        first = record.first
        self.drawn.append(options.setdefault(_option(first), len(options)))
        numbers = dict.fromkeys(_NUMBERS, 0.0)
        numbers["value"] = record.expected_net_value
        stages, rules = set(), set()
        for one in record.candidates:
            chance, is_action = one.selection_probability, one.treatment_id != NO_ACTION
            if chance > 0.0:
                self.rows.append(row)
                self.places.append(options.setdefault(_option(one), len(options)))
                self.probabilities.append(chance)
                if one.is_scored:
                    numbers["contact_cost"] += chance * _known(one.contact_cost)
                    numbers["incentive"] += chance * _incentive(one, reading.binary_outcomes)
                elif is_action:
                    numbers["unpriced"] += chance
            if not is_action:
                continue
            self.candidates += 1
            if one.dropped is None:
                numbers["allowed"] += 1
                continue
            self.dropped[one.dropped] += 1
            stages.add(one.dropped)
            failing = {(one.dropped, rule_id) for rule_id in one.rule_ids}
            self.rules.update(failing)
            rules |= failing
        self.dropping.update(stages)
        self.ruling.update(rules)
        for name, number in numbers.items():
            self.numbers[name].append(number)

    def side(self, n: int, m: int) -> Side:
        probability = np.zeros((n, m))
        np.add.at(probability, (np.array(self.rows), np.array(self.places)), np.array(self.probabilities))
        numbers = {name: np.array(column) for name, column in self.numbers.items()}
        return Side(
            **{**numbers, "allowed": numbers["allowed"].astype(np.int64)},
            probability=probability,
            drawn=np.array(self.drawn, dtype=np.int64),
            dropped=self.dropped,
            dropping=self.dropping,
            rules=self.rules,
            ruling=self.ruling,
            candidates=self.candidates,
        )


class ChangeTally:
    """Gathers decisions, each as it was and as it came out again; keeps some numbers of each, never the records."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._options: dict[tuple[str, str], int] = {NOTHING: 0}
        self._before, self._after = _Gathered(), _Gathered()
        self._decision_ids: list[str] = []
        self._people: list[str] = []
        self._stages: list[str] = []
        self._groups: dict[str, list[str]] = {name: [] for name in reading.attributes}

    def __len__(self) -> int:
        """Number of decisions so far."""
        return len(self._decision_ids)

    def add(self, before: DecisionRecord, after: DecisionRecord) -> None:
        """Gather one decision."""
        row = len(self)
        self._before.add(row, before, self._options, self._reading)
        self._after.add(row, after, self._options, self._reading)
        self._decision_ids.append(before.decision_id)
        self._people.append(before.customer_id)
        self._stages.append(before.stage or UNKNOWN)
        for name, labels in self._groups.items():
            labels.append(_label(before.attributes.get(name)))

    def table(self) -> ChangedDecisions:
        """What was gathered so far."""
        n, m = len(self), len(self._options)
        return ChangedDecisions(
            options=tuple(self._options),
            decision_ids=np.array(self._decision_ids, dtype=np.str_),
            people=np.array(self._people, dtype=np.str_),
            stages=np.array(self._stages, dtype=np.str_),
            groups={name: np.array(labels, dtype=np.str_) for name, labels in self._groups.items()},
            before=self._before.side(n, m),
            after=self._after.side(n, m),
        )


def _option(candidate: Candidate) -> tuple[str, str]:
    return NOTHING if candidate.treatment_id == NO_ACTION else (candidate.action_id, candidate.channel or "")


def _known(number: float) -> float:
    return 0.0 if math.isnan(number) else number


def _incentive(candidate: Candidate, binary_outcomes: frozenset[str]) -> float:
    """Expected incentive of a candidate: to whoever responds, to everyone where that is unknown or no probability."""
    share = 1.0
    if candidate.outcome in binary_outcomes and not math.isnan(candidate.control_response):
        share = candidate.control_response + candidate.uplift
    return share * _known(candidate.incentive_cost)


def _label(value: str | float | bool | None) -> str:
    if value is None:
        return UNKNOWN
    return str(value).lower() if isinstance(value, bool) else str(value)
