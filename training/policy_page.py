"""A policy's evaluation on the log for people: a few lines, and an HTML page that a marketer can read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from markupsafe import Markup

from training.plots import intervals
from training.report_page import Section, figure, page, paragraph, table

ESTIMATORS_TOLD: Final = {
    "IPS": "weighs what was really done; trusts the logged probabilities alone, and varies most",
    "SNIPS": "the same, normalised; steadier, with a small bias in small logs",
    "DM": "what the models predicted; trusts them alone",
    "DR": "the models, corrected by what really came; right where either is. Read this one",
    "Switch-DR": "the same, but leaves the rows of largest weight to the models",
    "DRos": "the same, with large weights shrunk",
}
BASELINES_TOLD: Final = {
    "no_action": "nothing, to anybody",
    "random": "chance among what is eligible",
    "best_single": "the best single action for everybody",
    "response_ranking": "whatever is likeliest to get a yes",
    "rules_only": "rules only: the first of the catalogue that is eligible",
    "shuffled_model": "the ranking of the time, by estimates of other customers",
    "without_levers": "the ranking of the time, without business levers",
    "by_priority": "the ranking of the time, without exploration",
}


def evaluation_lines(report: Mapping[str, Any]) -> list[str]:
    """The report in a few lines."""
    data = report["data"]
    skipped = ", ".join(f"{count:,} {reason}" for reason, count in data["skipped"].items() if count)
    lines = [
        f"{report['id']}: {_policy(report)} on {data['decisions']:,} decisions of {data['customers']:,} customers"
        + (f"; left out: {skipped}" if skipped else "")
    ]
    if report["refused"]:
        return [*lines, "refused:", *(f"  {one['code']}: {one['text']}" for one in report["refused"])]
    for name, found in report["estimates"].items():
        clipped = f", {found['share_clipped']:.1%} clipped" if found["share_clipped"] else ""
        lines.append(f"{name:9} {_money(found)} per decision over doing nothing, ESS {found['ess']:,.0f}{clipped}")
    if report["logging"] is not None:
        lines.append(
            f"who decided earned {_money(report['logging'])}; the difference is {_money(report['difference'])}"
        )
    for name, found in report["baselines"].items():
        told = "refused" if found["value"] is None else _money(found["value"])
        lead = "" if found["lead"] is None else f"; the policy earns {_money(found['lead'])} more"
        lines.append(f"{name}: {told}{lead}")
    return lines


def policy_page(report: Mapping[str, Any]) -> str:
    """The report as an HTML page."""
    data = report["data"]
    about = (
        f"Report {report['id']}; journey {report['journey']}; decisions of {_day(data['first_decided_at'])} to "
        f"{_day(data['last_decided_at'])}; intervals hold {report['params']['level']:.0%}, by customer."
    )
    return page(
        f"What {_policy(report)} would have earned",
        lead=list(_lead(report)),
        about=about,
        sections=list(_sections(report)),
    )


def _policy(report: Mapping[str, Any]) -> str:
    question = report["question"]
    named = [f"{part} {question[part]}" for part in ("policy", "actions") if question[part] is not None]
    named += [] if question["version"] is None else [f"model version {question['version']}"]
    return " with ".join(named) if named else "the policy of the time, by the champion's rule for everybody"


def _lead(report: Mapping[str, Any]) -> Iterator[str]:
    data = report["data"]
    if report["refused"]:
        yield (
            f"The log of {data['decisions']:,} decisions cannot tell what this policy would have earned, so no number "
            f"is given. The reasons are below."
        )
        return
    dr = report["estimates"]["DR"]
    yield (
        f"On {data['decisions']:,} real decisions of {data['customers']:,} customers it would have earned "
        f"{dr['value']:.2f} per decision more than doing nothing (between {_bounds(dr)})."
    )
    difference = report["difference"]
    if difference is None or difference["low"] is None:
        return
    how = "as much as"
    if difference["low"] > 0:
        how = f"{difference['value']:.2f} more than"
    elif difference["high"] < 0:
        how = f"{-difference['value']:.2f} less than"
    told = "" if how == "as much as" else f" (between {_bounds(difference)})"
    if how == "as much as":
        told = f": the difference, {_money(difference)}, may be chance"
    yield f"That is {how} what was really done earned{told}."


def _sections(report: Mapping[str, Any]) -> Iterator[Section]:
    if report["refused"]:
        rows = [(one["code"], one["text"]) for one in report["refused"]]
        yield Section("Why there is no number", [table(["reason", "what was found"], rows)])
    else:
        yield Section("Value by estimator", list(_estimators(report)))
    if report["baselines"]:
        yield Section("Compared with simple policies", list(_baselines(report)))
    if report["actions"]:
        yield Section("What it would do", [_actions(report)])
    if report["stages"]:
        yield Section("By stage of the journey", [_stages(report)])
    if report["weights"]:
        yield Section("What the numbers rest on", list(_evidence(report)))
    if report.get("slates"):
        yield Section("Several slots at once", list(_slates(report["slates"])))


def _estimators(report: Mapping[str, Any]) -> Iterator[Markup]:
    found = report["estimates"]
    yield paragraph(
        "Six ways to estimate the same value. Where they agree, the number can be trusted; where the first two are far "
        "from the others, the log is thin; where the third is, the models are wrong."
    )
    drawn = intervals(
        list(found),
        [one["value"] for one in found.values()],
        [_ends(one) for one in found.values()],
        unit=report["unit"],
    )
    yield figure(drawn, "The line is doing nothing. Each bar holds the true value with the stated confidence.")
    yield table(
        ["estimator", "value", "from", "to", "effective decisions", "largest weight", "clipped", "how"],
        [
            (
                name,
                _number(one["value"]),
                _number(one["low"]),
                _number(one["high"]),
                f"{one['ess']:,.0f}",
                f"{one['largest_weight']:.1f}",
                f"{one['share_clipped']:.1%}",
                ESTIMATORS_TOLD[name],
            )
            for name, one in found.items()
        ],
        numeric=range(1, 7),
    )


def _baselines(report: Mapping[str, Any]) -> Iterator[Markup]:
    found = report["baselines"]
    known = {BASELINES_TOLD[name]: one["value"] for name, one in found.items() if one["value"] is not None}
    if report["logging"]:
        known = {"what was really done": report["logging"], **known}
    if report["estimates"]:
        known = {"this policy": report["estimates"]["DR"], **known}
    yield paragraph(
        "All on the same decisions, doubly robust. A lead whose ends are both above 0 is more than chance explains."
    )
    if known:
        drawn = intervals(
            list(known),
            [one["value"] for one in known.values()],
            [_ends(one) for one in known.values()],
            unit=report["unit"],
        )
        yield figure(drawn, "The line is doing nothing.")
    yield table(
        ["policy", "value", "this policy earns more by", "from", "to", "effective decisions", "not valued because"],
        [
            (
                BASELINES_TOLD[name],
                _number((one["value"] or {}).get("value")),
                _number((one["lead"] or {}).get("value")),
                _number((one["lead"] or {}).get("low")),
                _number((one["lead"] or {}).get("high")),
                f"{one['ess']:,.0f}",
                ", ".join(refused["code"] for refused in one["refused"]),
            )
            for name, one in found.items()
        ],
        numeric=range(1, 6),
    )


def _actions(report: Mapping[str, Any]) -> Markup:
    return table(
        ["action", "channel", "under this policy", "as was logged", "as it came out"],
        [
            (one["action_id"], one["channel"] or "", *(f"{one[key]:.1%}" for key in ("policy", "logged", "taken")))
            for one in report["actions"]
        ],
        numeric=(2, 3, 4),
    )


def _stages(report: Mapping[str, Any]) -> Markup:
    return table(
        ["stage", "decisions", "value", "difference to what was done", "from", "to", "not valued because"],
        [
            (
                stage,
                f"{one['decisions']:,}",
                _number((one["value"] or {}).get("value")),
                *(
                    _number(None if one["difference"] is None else one["difference"][end])
                    for end in ("value", "low", "high")
                ),
                "too few decisions" if one["refused"] is None else ", ".join(why["code"] for why in one["refused"]),
            )
            for stage, one in report["stages"].items()
        ],
        numeric=range(1, 6),
    )


def _evidence(report: Mapping[str, Any]) -> Iterator[Markup]:
    weights, overlap, data = report["weights"], report["overlap"], report["data"]
    share = weights["ess"] / data["decisions"]
    largest = "unknown" if weights["largest_share"] is None else f"{weights['largest_share']:.1%}"
    yield paragraph(
        f"The decisions count like {weights['ess']:,.0f} ({share:.0%}) that this policy would have made itself, and "
        f"{overlap['untreated_ess']:,.0f} that were left alone to compare with. The largest hundredth of the weights "
        f"holds {largest} of their sum. {overlap['unsupported']:.2%} of what it does could not have been logged; "
        f"{report['changed']:.1%} is decided otherwise than it was."
    )
    rows = [
        ("mean weight (1 is expected)", f"{weights['mean']:.3f}"),
        *(
            (f"weight that {100 * float(level):g} % do not exceed", f"{weight:.2f}")
            for level, weight in weights["quantiles"].items()
        ),
        ("largest weight", f"{weights['largest']:.2f}"),
        *((f"decisions in the arm {arm}", f"{count:,}") for arm, count in data["arms"].items()),
        *((f"left out: {reason}", f"{count:,}") for reason, count in data["skipped"].items()),
    ]
    yield table(["", ""], rows, numeric=(1,))
    if report["question"]["learned_until"]:
        yield paragraph(
            f"Only decisions after {report['question']['learned_until']}, the last that the version learned from."
        )


def _slates(slates: Mapping[str, Any]) -> Iterator[Markup]:
    yield paragraph(f"{slates['about']} {slates['decisions']:,} decisions of up to {slates['slots']} slots.")
    known = {"what the arm itself earned": slates["logging"], **(slates["estimates"] or {})}
    rows = [
        (name, _number(one["value"]), _number(one["low"]), _number(one["high"])) for name, one in known.items() if one
    ]
    if rows:
        yield table(["estimator", "value", "from", "to"], rows, numeric=(1, 2, 3))
    if slates["refused"]:
        reasons = [(one["code"], one["text"]) for one in slates["refused"]]
        yield table(["not valued because", "what was found"], reasons)


def _day(moment: str | None) -> str:
    return "no day" if moment is None else moment[:10]


def _drawn(found: Mapping[str, Mapping[str, Any]], unit: str) -> str:
    return intervals(list(found), [*map(_value, found.values())], [*map(_ends, found.values())], unit=unit)


def _money(found: Mapping[str, Any]) -> str:
    value = "unknown" if found["value"] is None else f"{found['value']:+.3f}"
    return f"{value} [{_number(found['low'])}, {_number(found['high'])}]"


def _bounds(found: Mapping[str, Any]) -> str:
    low, high = (_number(found[end], 2) for end in ("low", "high"))
    return f"{low} and {high}"


def _value(found: Mapping[str, Any]) -> float:
    return math.nan if found["value"] is None else float(found["value"])


def _ends(found: Mapping[str, Any]) -> tuple[float, float]:
    low, high = (math.nan if found[end] is None else found[end] for end in ("low", "high"))
    return low, high


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
