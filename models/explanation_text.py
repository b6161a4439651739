"""An explanation as people read it on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from models.explanation import SCOPE, Explained, Explanation, strongest
from models.flips import MOST_FEATURES
from models.stated_reasons import number_text, value_text
from models.winning import TreatmentChanges

_SHOWN = 5
_WIDTH = 34


def explanation_text(explanation: Explanation, action_id: str | None = None) -> str:
    """The explanation in lines.

    Args:
        explanation: of a decision.
        action_id: an action of which it also says what would have put it first.

    Raises:
        UnknownObject: it was no candidate.
    """
    record = explanation.record
    drawn = ", drawn and not ranked first" if record.explored else ""
    lines = [f"decision {record.decision_id}: {record.first.action_id}{drawn}", f"({SCOPE})"]
    if explanation.scorer is None:
        lines.append("no model made it: what actions change is what the catalogue believes, the same for everybody")
    if explanation.largest_difference > 0:
        lines.append(f"NOT the same when scored again: differs by up to {explanation.largest_difference:.3g}")
    if explanation.stall is not None:
        lines += ["", f"stall propensity {explanation.stall.value:.3f}, contributions to its log odds"]
        lines += _explained(explanation, explanation.stall)
    for name, one in explanation.effects.items():
        lines += ["", f"uplift of {name} {one.value:+.4f}"]
        lines += _explained(explanation, one)
    if action_id is not None:
        lines += ["", *_to_win(explanation, action_id)]
    return "\n".join(lines) + "\n"


def _explained(explanation: Explanation, one: Explained) -> Iterator[str]:
    everybody = "" if one.by_feature.any() else "   the same for everybody"
    yield f"  {'baseline':{_WIDTH}} {one.baseline:+.4f}{everybody}"
    names, vector = explanation.feature_set.names, explanation.vector
    for place in strongest(one.by_feature, _SHOWN):
        value = value_text(explanation.feature_set, names[place], float(vector[place]))
        yield f"  {names[place]:{_WIDTH}} {one.by_feature[place]:+.4f}   {value}"
    for reason in one.reasons:
        points = f" -> {', '.join(reason.talking_points)}" if reason.talking_points else ""
        yield f"  {reason.code}: {reason.text}{points}"


def _to_win(explanation: Explanation, action_id: str) -> Iterator[str]:
    found = explanation.to_win(action_id)
    if found.wins:
        yield f"{action_id} stands first as it is, before {found.rival} ({found.rival_priority:.2f})"
        return
    yield f"for {action_id} to stand before {found.rival} ({found.rival_priority:.2f}), one of these alone:"
    for treatment in found.treatments:
        yield from _treatment(treatment)
    if any(treatment.changes for treatment in found.treatments):
        yield from _flips(explanation, action_id)


def _treatment(treatment: TreatmentChanges) -> Iterator[str]:
    if treatment.dropped is not None:
        rules = ", ".join(treatment.rule_ids)
        yield f"  {treatment.treatment_id}: dropped at {treatment.dropped}; would have to pass {rules}"
        return
    possible = [
        f"{quantity} {change.sense} {number_text(change.bound)} (is {number_text(change.present)})"
        for quantity, change in treatment.changes.items()
        if change is not None
    ]
    if treatment.changes:
        impossible = [quantity for quantity, change in treatment.changes.items() if change is None]
        never = f"; no {' or '.join(impossible)} does it" if impossible else ""
        yield f"  {treatment.treatment_id}: {' or '.join(possible) or 'none'}{never}"


def _flips(explanation: Explanation, action_id: str) -> Iterator[str]:
    flips = explanation.flips(action_id)
    for flip in flips[:_SHOWN]:
        present = value_text(explanation.feature_set, flip.feature, flip.present)
        changed = value_text(explanation.feature_set, flip.feature, flip.changed)
        exact = "" if changed == number_text(flip.changed) else f" ({flip.changed:g})"
        yield f"  {flip.feature}: {changed}{exact} instead of {present}"
    if not flips:
        yield f"  no single feature does it, among the {MOST_FEATURES} that matter most"
