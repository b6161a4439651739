"""Past decisions of other systems: what an import makes of a row that holds one."""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import msgspec

from features.mapping import DecisionOutput, Mapping
from features.mapping_fields import Common, Fields, Vocabulary, optional_text
from features.mapping_values import Row, Unusable, parse_number, text_of
from features.yaml_files import one_of

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


def decision_maker(
    output: DecisionOutput, label: str, mapping: Mapping, vocabulary: Vocabulary
) -> Callable[[Row], PastDecision]:
    """The function that makes the past decision of a row, which raises InvalidInput with every problem."""
    common = Common(output, "", mapping, vocabulary)
    chosen = text_of(output.chosen, common.zone)
    probability = optional_text(output.probability, common.zone)
    candidates = [
        (candidate.treatment, optional_text(candidate.probability, common.zone)) for candidate in output.candidates
    ]
    candidates_json = optional_text(output.candidates_json, common.zone)
    known = vocabulary.treatments | {NO_ACTION}

    def make(row: Row) -> PastDecision:
        fields = Fields(label, row)
        treatment = fields.required("chosen", chosen)
        if treatment and treatment not in known:
            fields.add("chosen", treatment, f"a treatment of the catalogue: {one_of(sorted(known), treatment)}")
        table = {
            name: _probability(fields, f"candidates.{name}", fields.text(f"candidates.{name}", read))
            for name, read in candidates
        }
        table |= _logged(fields, fields.text("candidates_json", candidates_json), known)
        own = _probability(fields, "probability", fields.text("probability", probability))
        if treatment in known and table and treatment not in table:
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


class _LoggedCandidate(msgspec.Struct, frozen=True):
    treatment_id: str
    selection_probability: float | None = None


_LOGGED: Final = msgspec.json.Decoder(list[_LoggedCandidate])


def _logged(fields: Fields, text: str, known: AbstractSet[str]) -> dict[str, float]:
    """Probability by treatment of a JSON list of candidates; NaN where it was not logged."""
    if not text:
        return {}
    try:
        logged = _LOGGED.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        expected = f"a JSON list of objects with treatment_id and selection_probability: {error}"
        fields.add("candidates_json", text, expected)
        return {}
    table: dict[str, float] = {}
    for index, candidate in enumerate(logged):
        name, chance = candidate.treatment_id, candidate.selection_probability
        if name not in known:
            expected = f"a treatment of the catalogue: {one_of(sorted(known), name)}"
            fields.add(f"candidates_json[{index}]", name, expected)
        if name in table:
            fields.add(f"candidates_json[{index}]", name, "each candidate once")
        if chance is not None and not 0.0 <= chance <= 1.0:
            fields.add(f"candidates_json[{index}]", repr(chance), "a probability from 0 to 1")
        table[name] = math.nan if chance is None else chance
    return table


def _check_probabilities(fields: Fields, table: dict[str, float], chosen: str) -> None:
    if table.get(chosen) == 0.0:
        fields.add("probability", "0", f"more than 0 for {chosen}, which was chosen")
    if not any(math.isnan(chance) for chance in table.values()) and len(table) > 1:
        total = math.fsum(table.values())
        if abs(total - 1.0) > _PROBABILITY_TOLERANCE:
            fields.add("candidates", f"{total:.6g}", "probabilities that sum to 1")


def _probability(fields: Fields, name: str, text: str) -> float:
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
