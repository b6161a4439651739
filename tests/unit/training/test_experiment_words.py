"""An experiment report in sentences: what is said of good news, bad news, no news, and news not to be trusted."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from training.experiment_findings import (
    ArmCount,
    ArmFindings,
    Comparison,
    Estimate,
    ExperimentReport,
    Measure,
    PolicyComparison,
    Sample,
    SampleRatio,
    SampleSizes,
)
from training.experiment_page import report_page
from training.experiment_text import report_text
from training.experiment_words import caveats, headlines, not_known

PRIMARY = Measure(id="outcome:moved", title="Moved on", unit="share")
VALUE = Measure(id="value", title="Value less costs", unit="money")
EXPOSED = Measure(id="exposed", title="Was shown or sent something", unit="share")
SCORED = Measure(id="nps_answered", title="Gave a score", unit="share")
NOTHING = Estimate(estimate=0.0, low=-0.1, high=0.1, always_low=-0.2, always_high=0.2)


def around(value: float, *, once: float = 0.01, always: float = 0.02) -> Estimate:
    """An estimate with symmetric intervals."""
    return Estimate(
        estimate=value, low=value - once, high=value + once, always_low=value - always, always_high=value + always
    )


def an_arm(arm: str, share: float, **changes: Any) -> ArmFindings:
    """An arm of 500 customers."""
    measures = {PRIMARY.id: around(share), VALUE.id: around(1.0), EXPOSED.id: around(0.0), SCORED.id: around(0.1)}
    told = {"people": 500, "settled": 500, "decisions_per_person": 1.0, "measures": measures}
    return ArmFindings(arm=arm, **(told | changes))


def a_report(difference: Estimate, *, status: Any = "matches", value: Estimate | None = None, **changes: Any) -> Any:
    """Headway against nobody, and what differs."""
    one = Comparison(
        arm="champion",
        against="no_contact_holdout",
        people=500,
        people_against=500,
        left_out=0,
        measures={
            PRIMARY.id: difference,
            VALUE.id: value or around(1.9, always=0.5),
            EXPOSED.id: around(0.9),
            SCORED.id: NOTHING,
        },
        value_per_decision=around(0.9),
        roi=around(2.5, always=0.7),
        sample_size=SampleSizes(
            effect=0.02,
            power=0.8,
            people=4_000,
            people_if_looking=9_000,
            days=30.0,
            days_if_looking=80.0,
            smallest_now=0.04,
        ),
    )
    made = ExperimentReport(
        format=1,
        experiment_id="exp",
        journey_id="journey",
        currency="EUR",
        configuration="c",
        since=None,
        until=None,
        group_by=None,
        observed_until="2026-03-01T00:00:00Z",
        primary_outcome="moved",
        follow_up_days=7.0,
        counted=("moved",),
        level=0.95,
        planned_people=5_000,
        sample_ratio=SampleRatio(
            status=status,
            alpha=0.001,
            p_value=0.0005,
            always_valid_p=0.0005,
            first_alarm_at=None,
            decisions_p_value=0.3,
            arms=(
                ArmCount(arm="no_contact_holdout", people=440, expected=500.0),
                ArmCount(arm="champion", people=560, expected=500.0),
            ),
        ),
        warnings=(),
        headlines=(),
        unknown=(),
        sample=Sample(
            people=1_000,
            settled=1_000,
            not_yet=0,
            decisions=1_200,
            excluded={},
            in_two_arms={},
            first_at="2026-01-01T00:00:00Z",
            last_at="2026-02-01T00:00:00Z",
            people_per_day=30.0,
        ),
        measures=(PRIMARY, VALUE, EXPOSED, SCORED),
        arms=(an_arm("no_contact_holdout", 0.19), an_arm("champion", 0.231)),
        comparisons=(one,),
        policies=(),
    )
    made = replace(made, **changes)
    made = replace(made, warnings=caveats(made))
    return replace(made, headlines=headlines(made), unknown=not_known(made, 50))


def test_good_news_is_told_with_what_it_is_worth() -> None:
    """The sample, the difference, the money for each customer, and for each unit spent."""
    said = a_report(around(0.041)).headlines

    assert said[0].startswith("The sample is sound: 1,000 customers")
    assert said[1:] == (
        "Moved on: 4.1 points more often [+2.1, +6.1] among customers whom Headway may contact than among customers "
        "whom nobody contacts (23.1 % against 19.0 %): sure, however often one looks.",
        "That is EUR +1.90 [+1.40, +2.40] for each customer in the 7 days after the first decision, all costs taken "
        "off: sure, however often one looks.",
        "Each EUR spent brought EUR 2.50 more than it cost [1.80, 3.20]: sure, however often one looks.",
    )


def test_bad_news_is_told_as_such() -> None:
    """Less often, and money lost."""
    said = a_report(around(-0.041), value=around(-1.9, always=2.5)).headlines

    assert "4.1 points less often [-6.1, -2.1]" in said[1]
    assert said[2].endswith("all costs taken off: not sure yet.")


def test_what_is_open_is_told_with_when_it_will_be_known() -> None:
    """How many customers it takes, looking once and at any time, and how long that lasts."""
    report = a_report(NOTHING)

    assert report.headlines[1].endswith(": not sure yet.")
    assert report.unknown == (
        "Customers whom Headway may contact against customers whom nobody contacts: whether there is any difference in "
        '"Moved on" is open. To find a difference of 2.0 points with 80% it takes 4,000 customers, or 9,000 where one '
        "looks at any time (about 30 and 80 days at the present rate).",
    )


@pytest.mark.parametrize(
    ("status", "first"), [("mismatch", "SAMPLE RATIO MISMATCH"), ("suspected", "SAMPLE RATIO SUSPECTED")]
)
def test_what_cannot_be_trusted_is_said_first(status: str, first: str) -> None:
    """In the headlines, the text and the page, before any figure, and once."""
    report = a_report(around(0.041), status=status)
    text, page = report_text(report), report_page(report)

    assert report.headlines[0].startswith(first)
    assert "no contact 440 where 500 are expected" in report.headlines[0]
    assert text.index(first) < text.index("Moved on")
    assert page.index(first) < page.index("Moved on")
    assert text.count(first) == page.count(first) == 1


def test_decisions_that_are_lost_are_a_warning() -> None:
    """Customers are as many as they should be; their decisions are not."""
    sound = a_report(around(0.041))
    uneven = replace(sound.sample_ratio, decisions_p_value=0.0001)

    (warning,) = a_report(around(0.041), sample_ratio=uneven).warnings

    assert warning.code == "decisions_uneven"
    assert sound.warnings == ()


def test_each_weakness_has_its_code() -> None:
    """A contacted holdout, people of two arms, scores that not all give alike, and a challenger that was not there."""
    report = a_report(around(0.041))
    measures = report.arms[0].measures | {EXPOSED.id: around(0.08)}
    scored = replace(report.comparisons[0], measures=report.comparisons[0].measures | {SCORED.id: around(0.1)})
    weak = replace(
        report,
        arms=(replace(report.arms[0], measures=measures), report.arms[1]),
        comparisons=(scored,),
        sample=replace(report.sample, in_two_arms={"several_ids": 30}, excluded={"broken_probabilities": 4}),
    )

    found = [one.code for one in caveats(weak, challenger_missing=12)]

    assert found == [
        "holdout_contacted",
        "broken_probabilities",
        "in_two_arms",
        "nps_answers_differ",
        "challenger_missing",
    ]


def test_too_few_are_named() -> None:
    """An arm of which nothing is said, people who came in lately, and a holdout that is not there."""
    report = a_report(
        Estimate(),
        arms=(an_arm("champion", 0.2), an_arm("random_eligible", 0.2, settled=12)),
        sample=replace(a_report(NOTHING).sample, settled=900, not_yet=100),
        comparisons=(),
        policies=(
            PolicyComparison(
                id="policy_rules_only",
                title="The policy against rules alone",
                how="off_policy",
                per="decision",
                value=Estimate(),
                refused=("7 effective decisions, expected at least 100",),
            ),
        ),
    )

    assert report.unknown == (
        "100 of 1,000 customers came in less than 7 days ago. They do not count yet.",
        "Nothing is said of arms with fewer than 50 customers: random_eligible (12).",
        "Nobody is kept without contact, so what Headway changes over doing nothing is not known.",
        "The policy against rules alone: 7 effective decisions, expected at least 100.",
    )
    assert "not known" in report_page(report)


def test_what_people_wrote_is_text_on_the_page() -> None:
    """A title with a tag in it is shown, not obeyed."""
    report = a_report(around(0.041), measures=(replace(PRIMARY, title="<b>Moved</b>"), VALUE, EXPOSED, SCORED))

    page = report_page(report)

    assert "<b>Moved" not in page
    assert "&lt;b&gt;Moved" in page
