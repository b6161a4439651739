"""``reports/evaluation.html``: what the models can and cannot do, for people who use their recommendations.

Made of the documents of a judgement alone. Every number is said in a sentence before it stands in a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from markupsafe import Markup

from features.journeys import Journey
from features.schema import feature_set
from models.configuration import Configuration
from training import evaluation_plots as drawings
from training.plots import intervals
from training.report_page import Section, figure, page, paragraph, table

FEW_MOMENTS: Final = 200
"""Below so many the numbers of a stage are shown, but no sentence is built on them."""
_DRIVERS: Final = 6
_CANNOT: Final = (
    "A prediction for one customer is a chance and no certainty: of customers with a stall propensity of 70 %, three "
    "in ten go on by themselves.",
    "Effects are known for groups of customers, not for a single one: the intervals above are those of tenths of the "
    "customers, and a single customer's is wider.",
    "What drives the stall model is what it looks at, not what causes stalls: changing it need not change the stall.",
    "Everything was judged on the past. A new campaign, price or audience is not in it until it was tried on some of "
    "the customers, with the probabilities logged.",
)

Rows = Sequence[Mapping[str, Any]]
Judged = Mapping[str, Any]


class EvaluationPage(NamedTuple):
    """A page, and its figures.

    Attributes:
        text: HTML.
        figures: SVG by name: of each journey ``reliability``, ``qini``, ``effects``, ``policy`` and ``drivers``.
    """

    text: str
    figures: dict[str, str]


def evaluation_page(
    configuration: Configuration,
    evaluations: Mapping[str, Judged],
    reliability: Rows,
    qini: Rows,
    *,
    about: str,
) -> EvaluationPage:
    """The page on every journey that was trained, and its figures by themselves.

    Args:
        configuration: titles, currency and the meaning of features.
        evaluations: by journey, from ``training.evaluate.evaluation``.
        reliability: points of the reliability plot, of all journeys; see ``training.reports.plot_points``.
        qini: points of the Qini plot, likewise.
        about: what it was made from and when.
    """
    many = len(evaluations) > 1
    lead, sections = [], []
    figures: dict[str, str] = {}
    for journey_id, judged in evaluations.items():
        told = _Told(configuration, configuration.journeys.by_id[journey_id], judged)
        lead += [f"{told.journey.title}: {line}" if many else line for line in told.lead()]
        found = list(
            told.sections(
                [one for one in reliability if one["journey"] == journey_id],
                [one for one in qini if one["journey"] == journey_id],
            )
        )
        figures |= {f"{journey_id}-{name}": svg for name, svg in told.figures.items()}
        sections += [Section(f"{told.journey.title}: {one.title}", one.parts) if many else one for one in found]
    titles = ", ".join(configuration.journeys.by_id[journey_id].title for journey_id in evaluations)
    text = page(f"What the models can do: {titles}", lead=lead, about=about, sections=sections)
    return EvaluationPage(text, figures)


class _Told:
    """The judgement of one journey in words."""

    def __init__(self, configuration: Configuration, journey: Journey, judged: Judged) -> None:
        self.journey = journey
        self.figures: dict[str, str] = {}
        self._judged = judged
        self._currency = configuration.taxonomy.currency
        self._actions = {action.id: action.title for action in configuration.catalogue.actions}
        self._stages = {stage.id: stage.title for stage in journey.stages}
        self._meanings = {spec.name: spec.meaning for spec in feature_set(configuration.taxonomy, journey).specs}
        self._days = f"{judged['about']['horizon_days']:g} days"

    def _figure(self, name: str, svg: str, caption: str) -> Markup:
        self.figures[name] = svg
        return figure(svg, caption)

    def lead(self) -> Iterator[str]:
        stall, policy = self._judged["stall"], self._judged["policy"]
        if stall is None or stall["auc"] is None:
            yield "There is no stall model that could be judged; the notes at the end say why."
        else:
            yield self._discrimination(stall["auc"])
        if policy["value"] is None:
            yield (
                "What the recommendations are worth cannot be told: nothing was logged with the probabilities with "
                "which it was chosen."
            )
        else:
            low, high = policy["interval"]
            certain = low is not None and low > 0
            yield (
                f"Acting as the models recommend is worth {_money(policy['value'], self._currency)} per decision more "
                f"than doing nothing ({_range(low, high)})"
                + ("." if certain else ": from these data it is not certain that it is worth anything.")
            )
        ranked = [found for _, _, found in self._judged_actions() if _ranking(found) == "yes"]
        listed = list(self._judged_actions())
        if listed:
            yield (
                f"For {len(ranked)} of {len(listed)} actions it is certain that the models can tell customers whom the "
                f"action helps more from those whom it helps less; of the others they know an average effect at best."
            )

    def _discrimination(self, value: float) -> str:
        return (
            f"Shown two moments, one of which was followed by no progress within {self._days} and one by progress, the "
            f"stall model gives the higher risk to the right one in {value * 100:.0f} of 100 cases (50 is guessing, "
            f"100 is perfect)."
        )

    def sections(self, reliability: Rows, qini: Rows) -> Iterator[Section]:
        if self._judged["stall"] is not None:
            yield Section("Who will stall", list(self._stall(reliability)))
        yield Section("Whom an action helps", list(self._uplift(qini)))
        if tables := self._effect_tables():
            yield Section("Are predicted effects true on average?", list(self._effects(tables)))
        if self._judged["policy"]["value"] is not None:
            yield Section("What the recommendations are worth", list(self._policy()))
        if self._judged["about"].get("drivers"):
            yield Section("What the stall model looks at", list(self._drivers()))
        yield Section("What the models cannot do", [paragraph(line) for line in _CANNOT])
        yield Section("How this was judged", list(self._about()))

    def _stall(self, reliability: Rows) -> Iterator[Markup]:
        stall = self._judged["stall"]
        ece, slope = stall["ece"], stall["slope"]
        if ece is not None:
            yield paragraph(
                f"When the model says 70 %, do 70 of 100 stall? Over {stall['n']:,} later moments, which it had not "
                f"seen, predictions are off by {ece * 100:.1f} percentage points on average."
            )
        if slope is not None and not 0.8 <= slope <= 1.25:
            way = "too extreme: high risks are said too high, low ones too low" if slope < 1 else "too timid"
            yield paragraph(f"Predictions are {way} (calibration slope {slope:.2f}, 1 is ideal).", tone="bad")
        if reliability:
            yield self._figure(
                "reliability",
                drawings.reliability_diagram(reliability),
                "Each dot is an equal share of the moments. On the grey line predictions are right; bars are 95 % "
                "intervals. Below: how many moments get which prediction.",
            )
        rows = [
            [
                self._stages.get(name, name),
                _number(found["auc"], 2),
                _points(found["ece"]),
                f"{found['n']:,}",
                "" if found["n"] >= FEW_MOMENTS else "few moments",
            ]
            for name, found in stall["by_stage"].items()
        ]
        yield table(["Stage", "right order (AUC)", "off by, points", "moments", ""], rows, numeric=(1, 2, 3))

    def _judged_actions(self) -> Iterator[tuple[str, str, Judged]]:
        for outcome_id, arms in self._judged["uplift"].items():
            for action_id, found in arms.items():
                yield outcome_id, action_id, found

    def _uplift(self, qini: Rows) -> Iterator[Markup]:
        listed = list(self._judged_actions())
        if not listed:
            yield paragraph("No past decisions could be learned from: no effect of an action is known.", tone="bad")
            return
        yield paragraph(
            "The effect of an action is how many more customers reach its outcome with it than without it, in "
            "percentage points (for amounts, in their unit). Where a comparison is not randomised, what was not "
            "recorded may explain the difference."
        )
        rows = [
            [
                self._actions.get(action_id, action_id),
                self._outcome(outcome_id),
                self._effect(outcome_id, found["mean_effect"], found["mean_effect_interval"]),
                _ranking(found),
                f"{found['n_treated']:,} / {found['n_control']:,}".replace(" ", _NO_BREAK),
                "" if found["randomised"] else "not randomised",
            ]
            for outcome_id, action_id, found in listed
        ]
        head = ["Action", "outcome", "effect on average (95 %)", "tells customers apart", "with / without", ""]
        yield table(head, rows, numeric=(2, 4))
        curves = self._curves(qini)
        if curves:
            shown = f"The first {drawings.MOST_PANELS} of {len(curves)}. " if len(curves) > drawings.MOST_PANELS else ""
            yield self._figure(
                "qini",
                drawings.qini_curves(curves),
                f"{shown}Gain when the customers with the highest predicted effect are contacted first (blue, with its "
                f"95 % interval), beside contacting them in random order (orange). A curve well above the line: the "
                f"models know whom to contact first. Where it falls again, the last ones contacted are harmed.",
            )

    def _curves(self, qini: Rows) -> dict[str, Rows]:
        """Curves of actions that do not have the same effect for everybody, those that certainly rank first."""
        by_curve: dict[str, list[Mapping[str, Any]]] = {}
        for point in qini:
            by_curve.setdefault(point["curve"], []).append(point)
        ranked = [
            (_ranking(found) != "yes", outcome_id, action_id)
            for outcome_id, action_id, found in self._judged_actions()
            if found["auuc"] is not None and f"{outcome_id}: {action_id}" in by_curve
        ]
        return {
            self._action_on(outcome_id, action_id): by_curve[f"{outcome_id}: {action_id}"]
            for _, outcome_id, action_id in sorted(ranked, key=lambda one: one[0])
        }

    def _effect_tables(self) -> dict[tuple[str, str], Rows]:
        effects = self._judged["about"].get("effects") or {}
        return {
            (outcome_id, action_id): found["tenths"]
            for outcome_id, arms in effects.items()
            for action_id, found in arms.items()
            if len(found["tenths"]) > 1
        }

    def _effects(self, tables: Mapping[tuple[str, str], Rows]) -> Iterator[Markup]:
        inside, all_tenths = 0, 0
        for tenths in tables.values():
            known = [one for one in tenths if one["low"] is not None and one["high"] is not None]
            inside += sum(one["low"] <= one["predicted"] <= one["high"] for one in known)
            all_tenths += len(known)
        yield paragraph(
            f"Customers are sorted by the effect that was predicted for them and cut into tenths. In {inside} of "
            f"{all_tenths} tenths the predicted effect lies within the 95 % interval of the observed one; 95 of 100 "
            f"are expected where all predictions are right."
        )
        shown = f"The first {drawings.MOST_PANELS} of {len(tables)}. " if len(tables) > drawings.MOST_PANELS else ""
        yield self._figure(
            "effects",
            drawings.effects_by_tenths(
                {self._action_on(*key): tenths for key, tenths in tables.items()},
                are_shares=all(self._is_binary(outcome_id) for outcome_id, _ in tables),
            ),
            f"{shown}Each dot is a tenth of the customers; bars are 95 % intervals. On the dashed line the prediction "
            f"is right; below the grey line the action does harm.",
        )
        rows = [
            [
                self._actions.get(action_id, action_id) if place == 0 else "",
                f"{place + 1}",
                self._amount(outcome_id, one["predicted"]),
                self._effect(outcome_id, one["effect"], [one["low"], one["high"]]),
                f"{one['n']:,}",
            ]
            for (outcome_id, action_id), tenths in tables.items()
            for place, one in enumerate(tenths)
        ]
        listed = table(["Action", "tenth", "predicted", "observed (95 %)", "decisions"], rows, numeric=(1, 2, 3, 4))
        yield Markup("<details><summary>The same in numbers, percentage points</summary>{}</details>").format(listed)

    def _policy(self) -> Iterator[Markup]:
        policy, beside = self._judged["policy"], self._judged["about"].get("policy")
        if beside is not None:
            more, (low, high) = beside["over_best_single"], beside["over_best_single_interval"]
            single = self._actions.get(beside["single_action"], "doing nothing")
            certain = low is not None and low > 0
            yield paragraph(
                f"Choosing for each customer earns {_money(more, self._currency)} per decision more than the best "
                f"single choice for everybody, “{single}” ({_range(low, high)})"
                + ("." if certain else ": from these data it is not certain that choosing pays."),
                tone="good" if certain else "",
            )
            yield paragraph(
                f"The recommendations contact somebody in {beside['contacts']:.0%} of {beside['n']:,} decisions. What "
                f"is known of their worth is as much as {policy['ess']:,.0f} decisions made by them would tell; below "
                f"a few hundred it is rough."
            )
            yield self._figure(
                "policy",
                intervals(
                    ["as recommended", "best single action", "random choice", "no action"],
                    [policy["value"], policy["best_single"], policy["random"], 0.0],
                    [
                        _pair(policy["interval"]),
                        _pair(beside["best_single_interval"]),
                        _pair(beside["random_interval"]),
                        (0.0, 0.0),
                    ],
                    unit=f"{self._currency} per decision over doing nothing",
                ),
                "What each way of choosing would have earned on decisions that the models had not seen, contacts and "
                "incentives paid; bars are 95 % intervals.",
            )

    def _drivers(self) -> Iterator[Markup]:
        named = {
            self._stages.get(stage, stage): listed
            for stage, listed in self._judged["about"]["drivers"].items()
            if listed
        }
        yield self._figure(
            "drivers",
            drawings.driver_bars(named, most=_DRIVERS),
            "The longer the bar, the more the feature moves the predicted risk at this stage. Features that go along "
            "with each other share what they have in common.",
        )
        used = dict.fromkeys(one["feature"] for listed in named.values() for one in listed[:_DRIVERS])
        yield table(["Feature", "what it is"], [[name, self._meanings.get(name, "")] for name in used])

    def _about(self) -> Iterator[Markup]:
        about = self._judged["about"]
        if about.get("stall_test_from"):
            yield paragraph(
                f"The stall model learned from {about['stall_n_train']:,} moments, was calibrated on moments since "
                f"{about['stall_calibrate_from'][:10]} and judged on moments since {about['stall_test_from'][:10]}."
            )
        if about["split"] is not None:
            how = {"time": "on decisions later than those learned from", "hash": "on customers not learned from"}
            yield paragraph(f"Effects were judged {how.get(about['split'], about['split'])}.")
        for note in about["notes"]:
            yield paragraph(f"Note: {note}.")

    def _outcome(self, outcome_id: str) -> str:
        outcome = self.journey.outcome_by_id.get(outcome_id)
        return outcome_id if outcome is None else outcome.title

    def _action_on(self, outcome_id: str, action_id: str) -> str:
        title = self._actions.get(action_id, action_id)
        aims = [arms for arms in self._judged["uplift"].values() if action_id in arms]
        return title if len(aims) == 1 else f"{title}: {self._outcome(outcome_id)}"

    def _is_binary(self, outcome_id: str) -> bool:
        outcome = self.journey.outcome_by_id.get(outcome_id)
        return outcome is not None and outcome.type == "binary"

    def _amount(self, outcome_id: str, value: float | None) -> str:
        if value is None:
            return "unknown"
        told = f"{value * 100:+.1f}" if self._is_binary(outcome_id) else f"{value:+.2f}"
        return told if told.strip("+-0.") else told[1:]  # no sign on a nought

    def _effect(self, outcome_id: str, value: float | None, bounds: Sequence[float | None]) -> str:
        if value is None:
            return "unknown"
        low, high = (self._amount(outcome_id, bound) for bound in bounds)
        return f"{self._amount(outcome_id, value)} ({low} to {high})".replace(" ", _NO_BREAK)


_NO_BREAK: Final = "\N{NO-BREAK SPACE}"

Ranking = Literal["yes", "not certain", "no: the same effect is used for everybody", "cannot be judged"]


def _ranking(found: Judged) -> Ranking:
    """Whether an action's predictions order customers by whom it helps more."""
    if found["qini_sklift"] is None:
        return "cannot be judged"
    if found["auuc"] is None:
        return "no: the same effect is used for everybody"
    low = found["qini_interval"][0]
    return "yes" if low is not None and low > 0 else "not certain"


def _money(value: float, currency: str) -> str:
    return f"{currency} {value:,.2f}"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "how sure that is cannot be told"
    return f"95 % interval {low:,.2f} to {high:,.2f}"


def _pair(bounds: Sequence[float | None]) -> tuple[float, float]:
    low, high = (float("nan") if bound is None else bound for bound in bounds)
    return low, high


def _number(value: float | None, digits: int) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def _points(value: float | None) -> str:
    return "unknown" if value is None else f"{value * 100:.1f}"
