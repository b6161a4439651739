"""The page of a drift report, for people: what to do, why, and what was compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from training.drift_verdict import INVESTIGATE, NOTHING, RETRAIN, TOO_FEW
from training.plots import intervals, reliability_plot, shares_before_and_after
from training.report_page import Section, figure, page, paragraph, table

_SAID: Final = {
    RETRAIN: "The models no longer fit what is going on: train them again.",
    INVESTIGATE: "Something has changed that training again would not cure by itself: look into it first.",
    NOTHING: "Nothing speaks against going on as before.",
    TOO_FEW: "There is too little to say anything yet.",
}
_TO_DO: Final = {
    RETRAIN: "Run headway train: the new models wait as challengers until they are promoted. Look at the reasons to "
    "investigate first, if there are any: what is broken would be learned.",
    INVESTIGATE: "Ask whoever runs the sources, the limits or the journey what changed on purpose. If it is meant to "
    "stay, train again once the windows of enough new decisions are over.",
    NOTHING: "Nothing to do until the next report.",
    TOO_FEW: "Nothing to do; the report says more once enough decisions were made since the training.",
}
_TONES: Final = {RETRAIN: "bad", INVESTIGATE: "bad", NOTHING: "good", TOO_FEW: ""}
_SHOWN: Final = 12


def drift_page(document: Mapping[str, Any], *, title: str) -> str:
    """The page of one report.

    Args:
        document: as ``training.drift_document.document_of`` makes it.
        title: of the journey.
    """
    verdict = document["verdict"]
    about = (
        f"{document['at']}. Compared: {document['comparison']}; {document['n_reference']:,} earlier and "
        f"{document['n_current']:,} recent rows, sampled where there were more."
    )
    sections = [
        Section("What to do, and why", [paragraph(_TO_DO[verdict], tone=_TONES[verdict]), *_reasons(document)]),
        Section("Do the actions still work?", [*_choices(document["choices"]), *_effects(document["effects"])]),
        Section("Do predictions come true?", _calibrations(document["calibration"])),
        Section("How decisions come out", _rates(document["rates"])),
        Section("The steps of the journey", _process(document["process"])),
        Section("What the models see and say", _features(document["features"], document["distributions"])),
    ]
    return page(f"Drift: {title}", lead=[_SAID[verdict]], about=about, sections=sections)


def _reasons(document: Mapping[str, Any]) -> list[Markup]:
    if not document["reasons"]:
        return [paragraph("No part of the report found anything that calls for action.")]
    rows = [(one["calls_for"], one["text"], one["code"]) for one in document["reasons"]]
    return [table(["calls for", "what was found", "code"], rows)]


def _choices(found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not found:
        return []
    rows = [
        (
            one["outcome_id"] + (" (missed)" if one["is_missed"] else ""),
            _signed(one["predicted"]),
            _bounds(one["observed"]),
            f"{one['n_treated']:,}",
            f"{one['n_control']:,}",
        )
        for one in found
    ]
    return [
        paragraph("What all recent decisions were predicted to change in the mean, and what they changed."),
        table(
            ["outcome", "predicted", "observed (95 %)", "with an action", "with none"],
            rows,
            numeric=(1, 2, 3, 4),
        ),
    ]


def _effects(effects: Sequence[Mapping[str, Any]]) -> list[Markup]:
    if not effects:
        return [paragraph("Not enough decisions left to chance, with their windows over, to compare any action.")]
    labels = [one["action_id"] for one in effects]
    rows = [
        (
            one["action_id"] + (" (drifted)" if one["has_drifted"] else " (mispredicted)" if one["is_missed"] else ""),
            one["outcome_id"],
            _signed(one["before"][0]),
            _signed(one["lately"][0]),
            _bounds(one["change"]),
            _signed(one["predicted"]),
            f"{one['n_treated'][1]:,}",
        )
        for one in effects
    ]
    drawn = intervals(
        labels,
        [_number(one["change"][0]) for one in effects],
        [(_number(one["change"][1]), _number(one["change"][2])) for one in effects],
        unit="change of the effect, recent less earlier (95 % interval)",
    )
    return [
        paragraph(
            "On decisions that were partly left to chance, what each action changed in its outcome, then and now. An "
            "action has drifted where the change is certain after allowing for how many actions are looked at, and "
            "large enough to matter."
        ),
        figure(drawn, "Left of the line an action works less well than before, right of it better."),
        table(
            ["action", "outcome", "effect before", "effect lately", "change (95 %)", "predicted", "recent decisions"],
            rows,
            numeric=(2, 3, 4, 5, 6),
        ),
    ]


def _calibrations(found: Sequence[Mapping[str, Any]]) -> list[Markup]:
    judged = [one for one in found if one["judged"]]
    if not judged:
        return [paragraph("Too few recent predictions have windows that are over, or all came out alike.")]
    rows = [
        (
            one["name"],
            f"{one['n']:,}",
            _percent(one["predicted"]),
            _percent(one["happened"]),
            _bounds(one["slope"], "{:.2f}"),
            _bounds(one["error"], "{:.1%}"),
        )
        for one in judged
    ]
    curves = {one["name"]: [(point[0], point[1]) for point in one["points"]] for one in judged}
    return [
        paragraph("Of those for whom 30 % was predicted, it should happen for 30 in 100. A slope of 1 is ideal."),
        figure(reliability_plot(curves), "On the line, what was predicted is what happened; each dot is a tenth."),
        table(
            ["prediction", "recent", "predicted", "happened", "slope (99 %)", "error (99 %)"],
            rows,
            numeric=(1, 2, 3, 4, 5),
        ),
    ]


def _rates(rates: Mapping[str, Any] | None) -> list[Markup]:
    if rates is None:
        return [paragraph("Too few decisions to compare.")]
    shares = [
        ("decisions for no action", rates["no_action"]),
        ("candidates that limits held back", rates["cap_saturation"]),
        ("decisions in which limits held back everything", rates["blocked"]),
        ("decisions with something missing or stale", rates["degraded"]),
    ]
    mix = dict(list(rates["mix"].items())[:_SHOWN])
    before, lately = ([pair[side] for pair in mix.values()] for side in (0, 1))
    parts = [
        table(
            ["share", "before", "lately"],
            [(name, _percent(one["before"]), _percent(one["lately"])) for name, one in shares],
            numeric=(1, 2),
        ),
        figure(
            shares_before_and_after(list(mix), before, lately, unit="share of the decisions", then="lately"),
            "What was chosen; the commonest lately on top.",
        ),
    ]
    if rates["rules"]:
        rows = [(name, _percent(pair[0]), _percent(pair[1])) for name, pair in rates["rules"].items()]
        parts.append(table(["limit that held something back in", "before", "lately"], rows, numeric=(1, 2)))
    return parts


def _process(process: Mapping[str, Any]) -> list[Markup]:
    if not process["is_judged"]:
        return [paragraph("Too few active customers in one of the two windows to compare.")]
    (since, until), (since_lately, until_lately) = ([str(one)[:10] for one in span] for span in process["windows"])
    kinds = sorted(process["kinds"].items(), key=lambda item: -abs((item[1][1] or 0) - (item[1][0] or 0)))[:_SHOWN]
    return [
        paragraph(
            f"Customers active from {since_lately} to {until_lately} ({process['customers'][1]:,}) against those from "
            f"{since} to {until} ({process['customers'][0]:,}). New and vanished steps stand among the reasons above."
        ),
        table(
            ["step that changed most", "before", "lately"],
            [(name, _percent(pair[0]), _percent(pair[1])) for name, pair in kinds],
            numeric=(1, 2),
        ),
    ]


def _features(features: Mapping[str, Any] | None, distributions: str | None) -> list[Markup]:
    if features is None:
        return [paragraph("Not compared.")]
    rows = [
        (
            name + (" (drifted)" if one["drifted"] else ""),
            one["method"],
            "unknown" if one["value"] is None else f"{one['value']:.3f}",
            f"{one['threshold']:g}",
        )
        for name, one in list(features["columns"].items())[:_SHOWN]
    ]
    parts = [
        paragraph(
            f"{_percent(features['drifted_share'])} of the features that the models use most have drifted. Furthest "
            f"from before first:"
        ),
        table(["column", "measure", "value", "drifted from"], rows, numeric=(2, 3)),
    ]
    for name, what in (("appeared", "Known now and never before"), ("vanished", "Not known any more")):
        if features[name]:
            parts.append(paragraph(f"{what}: {', '.join(features[name])}."))
    if distributions is not None:
        link = Markup('<p><a href="{}">All distributions, drawn by Evidently</a> (some megabytes)</p>')
        parts.append(link.format(distributions))
    return parts


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _bounds(found: Sequence[float | None], how: str = "{:+.3f}") -> str:
    if any(one is None for one in found):
        return "unknown"
    estimate, low, high = (how.format(one) for one in found)
    return f"{estimate} ({low} to {high})"
