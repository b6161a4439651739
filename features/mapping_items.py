"""What one row gives under a mapping: validated events and past decisions, or every problem with its fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from features.errors import InvalidInput, Problem
from features.events import FUTURE_SKEW_US, HOLDING_PREFIX, JourneyEvent, allowed_facts, dump_timestamp, parse_event
from features.journeys import Outcome
from features.mapping import (
    AttributesOutput,
    DecisionOutput,
    EventOutput,
    Mapping,
    OutcomeOutput,
    Table,
    Value,
)
from features.mapping_values import (
    Moment,
    Row,
    Test,
    Text,
    Unusable,
    columns_of,
    moment_of_value,
    parse_number,
    test_of,
    text_of,
    typed,
)
from features.taxonomy import Taxonomy
from features.yaml_files import one_of

Kind = Literal["events", "attributes", "decisions", "outcomes"]

NO_ACTION: Final = "no_action"
_PROBABILITY_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PastCandidate:
    """What a past decision could have chosen.

    Attributes:
        selection_probability: how probable it was; NaN where that was not logged.
    """

    treatment_id: str
    selection_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDecision:
    """One decision that another system made.

    Attributes:
        decision_id: our id of it, always the same for the same source, id, customer and time.
        request_id: what the company called it.
        decided_at: microseconds since the epoch.
        chosen: the treatment that was chosen, ``no_action`` for none.
        candidates: everything that could have been chosen, as far as it is known; the chosen one is among them.
    """

    source: str
    decision_id: str
    request_id: str
    customer_id: str
    journey_id: str
    decided_at: int
    chosen: str
    candidates: tuple[PastCandidate, ...]


Item: TypeAlias = JourneyEvent | PastDecision

DecisionIds: TypeAlias = Callable[[str, str, str, int], str]
"""The decision id for a source, the company's own id, a customer and a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What items are checked against.

    Attributes:
        outcomes: the declared outcomes by id.
        journeys: the declared journeys' ids.
        treatments: the catalogue's treatment ids.
        decision_ids: how past decisions are named.
        latest: the newest moment that can have happened, in microseconds since the epoch.
    """

    taxonomy: Taxonomy
    outcomes: dict[str, Outcome]
    journeys: AbstractSet[str]
    treatments: AbstractSet[str]
    decision_ids: DecisionIds
    latest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """One output of a table, ready to be applied to rows.

    Attributes:
        kind: what it makes.
        per_group: only once per group.
        columns: what it reads.
        meets: whether a row gives anything.
        make: the item of a row, None where the row holds no value for it. Raises InvalidInput.
    """

    kind: Kind
    per_group: bool
    columns: frozenset[str]
    meets: Test
    make: Callable[[Row], Item | None]


def makers_of(table: Table, mapping: Mapping, vocabulary: Vocabulary) -> list[Maker]:
    """The makers of everything that a table gives, in the order of the mapping."""
    return [
        Maker(
            kind=kind,
            per_group=output.per == "group",
            columns=frozenset(_columns(output)),
            meets=test_of(output.when),
            make=make,
        )
        for kind, output, make in _outputs(table, mapping, vocabulary)
    ]


def _outputs(
    table: Table, mapping: Mapping, vocabulary: Vocabulary
) -> Iterator[
    tuple[Kind, EventOutput | AttributesOutput | DecisionOutput | OutcomeOutput, Callable[[Row], Item | None]]
]:
    for index, event in enumerate(table.events):
        yield "events", event, _event_maker(event, f"events[{index}]", index, mapping, vocabulary)
    for index, attributes in enumerate(table.attributes):
        yield (
            "attributes",
            attributes,
            _attributes_maker(attributes, f"attributes[{index}]", index, mapping, vocabulary),
        )
    for index, decision in enumerate(table.decisions):
        yield "decisions", decision, _decision_maker(decision, f"decisions[{index}]", mapping, vocabulary)
    for index, outcome in enumerate(table.outcomes):
        yield "outcomes", outcome, _outcome_maker(outcome, f"outcomes[{index}]", mapping, vocabulary)


class _Fields:
    """Reads the fields of one item, noting every problem instead of stopping at the first."""

    def __init__(self, label: str, row: Row) -> None:
        self._label = label
        self._row = row
        self.problems: list[Problem] = []

    def text(self, name: str, read: Text | None) -> str:
        if read is None:
            return ""
        try:
            return read(self._row)
        except Unusable as error:
            self.add(name, error.value, error.expected)
            return ""

    def required(self, name: str, read: Text) -> str:
        before = len(self.problems)
        text = self.text(name, read)
        if not text and len(self.problems) == before:
            self.add(name, "", "a value: it is empty in this row")
        return text

    def moment(self, name: str, read: Moment, *, latest: int) -> int:
        try:
            at = read(self._row)
        except Unusable as error:
            self.add(name, error.value, error.expected)
            return 0
        if at is None:
            self.add(name, "", "a time: it is empty in this row")
            return 0
        if not 0 <= at <= latest + FUTURE_SKEW_US:
            self.add(name, _shown_moment(at), f"a time from 1970 until now ({_shown_moment(latest)})")
            return 0
        return at

    def number(self, name: str, text: str, dtype: str, decimal: str) -> float | str | bool | None:
        try:
            return typed(text, dtype, decimal)
        except Unusable as error:
            self.add(name, error.value, error.expected)
            return None

    def add(self, name: str, value: str, expected: str) -> None:
        self.problems.append(Problem(f"{self._label}.{name}", value, expected))

    def check(self) -> None:
        """Raises InvalidInput if there was any problem."""
        if self.problems:
            raise InvalidInput(f"{self._label} cannot be made of this row", self.problems)


class _Common:
    """The fields that every output has."""

    def __init__(
        self,
        output: EventOutput | AttributesOutput | DecisionOutput | OutcomeOutput,
        suffix: str,
        mapping: Mapping,
        vocabulary: Vocabulary,
    ) -> None:
        self.zone = mapping.time_zone
        self.customer = text_of(output.customer, self.zone)
        self.at = moment_of_value(output.at, self.zone)
        self.id = text_of(output.id, self.zone) if output.id is not None else _row_id(suffix)
        self.vocabulary = vocabulary
        self.source = mapping.source

    def event(
        self, fields: _Fields, row: Row, label: str, kind: str, facts: dict[str, object], **others: object
    ) -> JourneyEvent:
        """The validated event of a row, from what is common and what is given.

        Raises:
            InvalidInput: with every problem that was noted and every one that the event format has.
        """
        event_id = fields.required("id", self.id)
        customer_id = fields.required("customer", self.customer)
        occurred_at = fields.moment("at", self.at, latest=self.vocabulary.latest)
        arrived_at = others.pop("arrived_at", None)
        fields.check()
        return parse_event(
            {
                "event_id": event_id,
                "customer_id": customer_id,
                "kind": kind,
                "occurred_at": dump_timestamp(occurred_at),
                "facts": facts,
                **others,
            },
            taxonomy=self.vocabulary.taxonomy,
            source=self.source,
            arrived_at=arrived_at if isinstance(arrived_at, int) else occurred_at,
            position=row.number,
            path=label,
        )


def _event_maker(
    output: EventOutput, label: str, index: int, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], JourneyEvent]:
    common = _Common(output, f".{index}" if index else "", mapping, vocabulary)
    kind = text_of(output.kind, common.zone)
    channel = _optional_text(output.channel, common.zone)
    sequence = _optional_text(output.sequence, common.zone)
    text = _optional_text(output.text, common.zone)
    arrived_at = moment_of_value(output.arrived_at, common.zone) if output.arrived_at is not None else None
    facts = [(name, text_of(value, common.zone), value.decimal) for name, value in output.facts.items()]
    kinds = vocabulary.taxonomy.all_kinds
    declared = {name: allowed_facts(name, vocabulary.taxonomy) for name in kinds}

    def make(row: Row) -> JourneyEvent:
        fields = _Fields(label, row)
        kind_name = fields.required("kind", kind)
        allowed = declared.get(kind_name, {})
        given: dict[str, object] = {}
        for name, read, decimal in facts:
            if name not in allowed:
                continue  # one list of facts serves all kinds of a table; each takes those that it declares
            if word := fields.text(f"facts.{name}", read):
                given[name] = fields.number(f"facts.{name}", word, allowed[name].dtype, decimal)
        others: dict[str, object] = {
            "channel": fields.text("channel", channel) or None,
            "text": fields.text("text", text) or None,
        }
        if place := fields.text("sequence", sequence):
            others["sequence"] = _whole(fields, "sequence", place)
        if arrived_at is not None:
            others["arrived_at"] = fields.moment("arrived_at", arrived_at, latest=vocabulary.latest)
        return common.event(fields, row, label, kind_name, given, **others)

    return make


def _attributes_maker(
    output: AttributesOutput, label: str, index: int, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], JourneyEvent | None]:
    common = _Common(output, f".profile{index or ''}", mapping, vocabulary)
    declared = vocabulary.taxonomy.attributes
    values = [
        (
            name,
            text_of(value, common.zone),
            "boolean" if name.startswith(HOLDING_PREFIX) else declared[name].dtype if name in declared else "text",
            value.decimal,
        )
        for name, value in output.values.items()
    ]

    def make(row: Row) -> JourneyEvent | None:
        fields = _Fields(label, row)
        given: dict[str, object] = {}
        for name, read, dtype, decimal in values:
            if word := fields.text(f"values.{name}", read):
                given[name] = fields.number(f"values.{name}", word, dtype, decimal)
        if not given and not fields.problems:
            return None
        return common.event(fields, row, label, "profile_updated", given)

    return make


def _outcome_maker(
    output: OutcomeOutput, label: str, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], JourneyEvent | None]:
    common = _Common(output, f".{label}", mapping, vocabulary)
    outcome = text_of(output.outcome, common.zone)
    value = text_of(output.value, common.zone)
    reference = output.decision
    decision_id = text_of(reference.id, common.zone) if reference is not None else None
    decided_at = moment_of_value(reference.at, common.zone) if reference is not None else None

    def make(row: Row) -> JourneyEvent | None:
        fields = _Fields(label, row)
        word = fields.text("value", value)
        if not word and not fields.problems:
            return None
        outcome_id = fields.required("outcome", outcome)
        facts: dict[str, object] = {"outcome_id": outcome_id}
        declared = vocabulary.outcomes.get(outcome_id)
        if declared is not None:
            facts["value"] = _outcome_value(fields, word, declared, output.value.decimal)
        elif outcome_id:
            fields.add("outcome", outcome_id, f"a declared outcome: {one_of(list(vocabulary.outcomes), outcome_id)}")
        if decision_id is not None and decided_at is not None and (name := fields.text("decision.id", decision_id)):
            at = fields.moment("decision.at", decided_at, latest=vocabulary.latest)
            customer_id = fields.text("customer", common.customer)
            facts["decision_id"] = vocabulary.decision_ids(mapping.source, name, customer_id, at)
        return common.event(fields, row, label, "outcome_observed", facts)

    return make


def _outcome_value(fields: _Fields, word: str, outcome: Outcome, decimal: str) -> float:
    if outcome.type == "binary":
        truth = fields.number("value", "1" if word == "1.0" else "0" if word == "0.0" else word, "boolean", ".")
        return float(truth is True)
    number = fields.number("value", word, "number", decimal)
    return number if isinstance(number, float) else 0.0


def _decision_maker(
    output: DecisionOutput, label: str, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], PastDecision]:
    common = _Common(output, "", mapping, vocabulary)
    chosen = text_of(output.chosen, common.zone)
    probability = _optional_text(output.probability, common.zone)
    candidates = [
        (candidate.treatment, _optional_text(candidate.probability, common.zone)) for candidate in output.candidates
    ]
    known = vocabulary.treatments | {NO_ACTION}

    def make(row: Row) -> PastDecision:
        fields = _Fields(label, row)
        treatment = fields.required("chosen", chosen)
        if treatment and treatment not in known:
            fields.add("chosen", treatment, f"a treatment of the catalogue: {one_of(sorted(known), treatment)}")
        table = {
            name: _probability(fields, f"candidates.{name}", fields.text(f"candidates.{name}", read))
            for name, read in candidates
        }
        own = _probability(fields, "probability", fields.text("probability", probability))
        if candidates and treatment not in table:
            fields.add("chosen", treatment, one_of(list(table), treatment))
        if not math.isnan(own) or treatment not in table:
            table[treatment] = own
        _check_probabilities(fields, table, treatment)
        request_id = fields.required("id", common.id)
        customer_id = fields.required("customer", common.customer)
        decided_at = fields.moment("at", common.at, latest=vocabulary.latest)
        fields.check()
        return PastDecision(
            source=mapping.source,
            decision_id=vocabulary.decision_ids(mapping.source, request_id, customer_id, decided_at),
            request_id=request_id,
            customer_id=customer_id,
            journey_id=output.journey,
            decided_at=decided_at,
            chosen=treatment,
            candidates=tuple(
                PastCandidate(treatment_id=name, selection_probability=chance) for name, chance in table.items()
            ),
        )

    return make


def _check_probabilities(fields: _Fields, table: dict[str, float], chosen: str) -> None:
    if table.get(chosen) == 0.0:
        fields.add("probability", "0", f"more than 0 for {chosen}, which was chosen")
    if not any(math.isnan(chance) for chance in table.values()) and len(table) > 1:
        total = math.fsum(table.values())
        if abs(total - 1.0) > _PROBABILITY_TOLERANCE:
            fields.add("candidates", f"{total:.6g}", "probabilities that sum to 1")


def _probability(fields: _Fields, name: str, text: str) -> float:
    """A number, or a fraction as ``1/3``, between 0 and 1; NaN where there is none."""
    if not text:
        return math.nan
    above, stroke, below = text.partition("/")
    try:
        chance = parse_number(above) / (parse_number(below) if stroke else 1.0)
    except (Unusable, ZeroDivisionError):
        chance = math.nan
    if not 0.0 <= chance <= 1.0:
        fields.add(name, text, "a probability from 0 to 1, as 0.25 or 1/4")
    return chance


def _whole(fields: _Fields, name: str, text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        fields.add(name, text, "a whole number")
        return None


def _row_id(suffix: str) -> Text:
    return lambda row: f"{row.file}#{row.number}{suffix}"


def _optional_text(value: Value | None, zone: str | None) -> Text | None:
    return None if value is None else text_of(value, zone)


def _shown_moment(at: int) -> str:
    try:
        return dump_timestamp(at)
    except OverflowError:
        return f"{at} microseconds since 1970"


def values_of(output: EventOutput | AttributesOutput | DecisionOutput | OutcomeOutput) -> Iterator[Value]:
    """Every value of an output."""
    yield output.customer
    yield output.at
    optional: Sequence[Value | None] = (output.id,)
    if isinstance(output, EventOutput):
        optional = (*optional, output.kind, output.channel, output.sequence, output.arrived_at, output.text)
        yield from output.facts.values()
    elif isinstance(output, AttributesOutput):
        yield from output.values.values()
    elif isinstance(output, DecisionOutput):
        optional = (*optional, output.chosen, output.probability, *(c.probability for c in output.candidates))
    else:
        optional = (*optional, output.outcome, output.value)
        if output.decision is not None:
            optional = (*optional, output.decision.id, output.decision.at)
    yield from (value for value in optional if value is not None)


def _columns(output: EventOutput | AttributesOutput | DecisionOutput | OutcomeOutput) -> Iterator[str]:
    yield from (condition.column for condition in output.when)
    for value in values_of(output):
        yield from columns_of(value)
