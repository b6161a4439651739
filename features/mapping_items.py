"""What one row gives under a mapping: validated events and past decisions, or every problem with its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from features.event_documents import event_of_document
from features.events import HOLDING_PREFIX, JourneyEvent, allowed_facts
from features.journeys import Outcome
from features.mapping import AttributesOutput, DecisionOutput, EventOutput, Mapping, OutcomeOutput, Table, Value
from features.mapping_fields import Common, Fields, Vocabulary, optional_text
from features.mapping_values import Row, Test, check_of, columns_of, moment_of_value, text_of
from features.past_decisions import PastDecision, decision_maker
from features.taxonomy import OUTCOME_OBSERVED
from features.yaml_files import one_of

Kind = Literal["events", "attributes", "decisions", "outcomes"]

Item: TypeAlias = JourneyEvent | PastDecision

AnyOutput: TypeAlias = EventOutput | AttributesOutput | DecisionOutput | OutcomeOutput


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
    if table.format == "headway_events":
        return [document_maker(mapping, vocabulary)]
    return [
        Maker(
            kind=kind,
            per_group=output.per == "group",
            columns=frozenset(_columns(output)),
            meets=check_of(output.when),
            make=make,
        )
        for kind, output, make in _outputs(table, mapping, vocabulary)
    ]


def document_maker(mapping: Mapping, vocabulary: Vocabulary) -> Maker:
    """The maker of rows that are event documents themselves."""

    def make(row: Row) -> JourneyEvent:
        return event_of_document(
            row.document,
            taxonomy=vocabulary.taxonomy,
            source=mapping.source,
            latest=vocabulary.latest,
            position=row.number,
        )

    return Maker(kind="events", per_group=False, columns=frozenset(), meets=lambda row: True, make=make)


def _outputs(
    table: Table, mapping: Mapping, vocabulary: Vocabulary
) -> Iterator[tuple[Kind, AnyOutput, Callable[[Row], Item | None]]]:
    for index, event in enumerate(table.events):
        yield "events", event, _event_maker(event, f"events[{index}]", index, mapping, vocabulary)
    for index, attributes in enumerate(table.attributes):
        yield (
            "attributes",
            attributes,
            _attributes_maker(attributes, f"attributes[{index}]", index, mapping, vocabulary),
        )
    for index, decision in enumerate(table.decisions):
        yield "decisions", decision, decision_maker(decision, f"decisions[{index}]", mapping, vocabulary)
    for index, outcome in enumerate(table.outcomes):
        yield "outcomes", outcome, _outcome_maker(outcome, f"outcomes[{index}]", mapping, vocabulary)


def _event_maker(
    output: EventOutput, label: str, index: int, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], JourneyEvent]:
    common = Common(output, f".{index}" if index else "", mapping, vocabulary)
    kind = text_of(output.kind, common.zone)
    channel = optional_text(output.channel, common.zone)
    sequence = optional_text(output.sequence, common.zone)
    text = optional_text(output.text, common.zone)
    facts_json = optional_text(output.facts_json, common.zone)
    arrived_at = moment_of_value(output.arrived_at, common.zone) if output.arrived_at is not None else None
    facts = [(name, text_of(value, common.zone), value.decimal) for name, value in output.facts.items()]
    kinds = vocabulary.taxonomy.known_kinds
    declared = {name: allowed_facts(name, vocabulary.taxonomy) for name in kinds}

    def make(row: Row) -> JourneyEvent:
        fields = Fields(label, row)
        kind_name = fields.required("kind", kind)
        allowed = declared.get(kind_name, {})
        given = _json_object(fields, "facts_json", fields.text("facts_json", facts_json))
        for name, read, decimal in facts:
            if name not in allowed:
                continue  # one list of facts serves all kinds of a table; each takes those that it declares
            if word := fields.text(f"facts.{name}", read):
                given[name] = fields.typed(f"facts.{name}", word, allowed[name].dtype, decimal)
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
    common = Common(output, f".profile{index or ''}", mapping, vocabulary)
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
        fields = Fields(label, row)
        given: dict[str, object] = {}
        for name, read, dtype, decimal in values:
            if word := fields.text(f"values.{name}", read):
                given[name] = fields.typed(f"values.{name}", word, dtype, decimal)
        if not given and not fields.problems:
            return None
        return common.event(fields, row, label, "profile_updated", given)

    return make


def _outcome_maker(
    output: OutcomeOutput, label: str, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], JourneyEvent | None]:
    common = Common(output, f".{label}", mapping, vocabulary)
    outcome = text_of(output.outcome, common.zone)
    value = text_of(output.value, common.zone)
    reference = output.decision
    decision_id = text_of(reference.id, common.zone) if reference is not None else None
    decided_at = moment_of_value(reference.at, common.zone) if reference is not None else None

    def make(row: Row) -> JourneyEvent | None:
        fields = Fields(label, row)
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
        return common.event(fields, row, label, OUTCOME_OBSERVED, facts)

    return make


def _outcome_value(fields: Fields, word: str, outcome: Outcome, decimal: str) -> float:
    if outcome.type == "binary":
        whole = word.removesuffix(".0")  # a flag that some tool wrote as a float
        return float(fields.typed("value", whole, "boolean") is True)
    number = fields.typed("value", word, "number", decimal)
    return number if isinstance(number, float) else 0.0


def _whole(fields: Fields, name: str, text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        fields.add(name, text, "a whole number")
        return None


def _json_object(fields: Fields, name: str, text: str) -> dict[str, object]:
    """The members of a JSON object that are not null; the event format checks their names and types."""
    if not text:
        return {}
    try:
        members = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        fields.add(name, text, "a JSON object of facts by name")
        return {}
    return {fact: value for fact, value in members.items() if value is not None}


def values_of(output: AnyOutput) -> Iterator[Value]:
    """Every value of an output."""
    yield output.customer
    yield output.at
    optional: Sequence[Value | None] = (output.id,)
    if isinstance(output, EventOutput):
        optional = (*optional, output.kind, output.channel, output.sequence, output.arrived_at, output.text)
        optional = (*optional, output.facts_json)
        yield from output.facts.values()
    elif isinstance(output, AttributesOutput):
        yield from output.values.values()
    elif isinstance(output, DecisionOutput):
        optional = (*optional, output.chosen, output.probability, *(c.probability for c in output.candidates))
        optional = (*optional, output.candidates_json)
    else:
        optional = (*optional, output.outcome, output.value)
        if output.decision is not None:
            optional = (*optional, output.decision.id, output.decision.at)
    yield from (value for value in optional if value is not None)


def _columns(output: AnyOutput) -> Iterator[str]:
    yield from (condition.column for condition in output.when)
    for value in values_of(output):
        yield from columns_of(value)
