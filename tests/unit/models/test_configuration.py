"""The four configuration files: where they come from, how they are checked together, how a home gets them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from features.errors import ConfigurationError, Conflict, Refused
from features.home import Home
from features.mapping import read_mapping, shipped_mappings
from features.mapping_checks import mapping_problems
from models.configuration import (
    FILES,
    Configuration,
    built_in_configuration,
    has_configuration,
    install_configuration,
    load_configuration,
    read_configuration,
)

MARKETER = Path(__file__).parents[3] / "docs" / "how-to" / "marketer.md"
DEFAULTS = Path(__file__).parents[3] / "features" / "defaults"

Edit = Callable[..., Path]

SALES = "stage: suitability\n    issues:"
ARREARS = '"attribute:arrears_flag", equals:'


@pytest.fixture(scope="module")
def built_in() -> Configuration:
    """The built-in configuration, read once."""
    return built_in_configuration()


@pytest.fixture
def edited(tmp_path: Path) -> Edit:
    """A folder with the built-in files, in which texts are replaced: ``edited("actions.yaml", old=new)``."""

    def edit(file: str, *replacements: tuple[str, str]) -> Path:
        folder = tmp_path / "edited"
        if not folder.exists():
            shutil.copytree(DEFAULTS, folder)
        text = (folder / file).read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        (folder / file).write_text(text)
        return folder

    return edit


def _problems(folder: Path) -> list[tuple[str, str, str]]:
    """File, path and expectation of everything that is wrong with a folder."""
    with pytest.raises(ConfigurationError) as raised:
        read_configuration(folder, origin="here")
    assert all(problem.line for problem in raised.value.problems)
    return [(problem.file or "", problem.path, problem.expected) for problem in raised.value.problems]


def test_the_built_in_configuration_is_the_card_journey(built_in: Configuration) -> None:
    """What everybody gets without writing a file: the card application with its channels, states and actions."""
    (journey,) = built_in.journeys.journeys
    channels = {treatment.channel for action in built_in.catalogue.actions for treatment in action.treatments}

    assert (journey.id, built_in.origin) == ("credit_card_application", "built-in")
    assert len(journey.states) == 4
    assert len(built_in.catalogue.actions) >= 12
    assert channels == {"sms", "email", "push", "web", "call", "case"}


def test_without_files_the_built_in_configuration_holds(tmp_path: Path, built_in: Configuration) -> None:
    """Neither variable nor home: the built-in one."""
    assert load_configuration(Home(tmp_path), {}).version == built_in.version


def test_a_homes_own_configuration_comes_before_the_built_in(tmp_path: Path, edited: Edit) -> None:
    """What stands in the home's config folder holds."""
    folder = edited("policy.yaml", ("epsilon: 0.05", "epsilon: 0.5"))
    shutil.copytree(folder, tmp_path / "home" / "config")

    configuration = load_configuration(Home(tmp_path / "home"), {})

    assert configuration.policy.exploration.epsilon == 0.5
    assert configuration.origin == str(tmp_path / "home" / "config")


def test_the_variable_comes_first(tmp_path: Path, edited: Edit) -> None:
    """HEADWAY_CONFIG is taken before the home's own."""
    shutil.copytree(DEFAULTS, tmp_path / "home" / "config")
    folder = edited("policy.yaml", ("epsilon: 0.05", "epsilon: 0.5"))

    configuration = load_configuration(Home(tmp_path / "home"), {"HEADWAY_CONFIG": str(folder)})

    assert configuration.policy.exploration.epsilon == 0.5


def test_a_variable_that_names_nothing_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is an error, not the next place."""
    with pytest.raises(
        ConfigurationError, match=r"HEADWAY_CONFIG: got .*nowhere, expected a folder that holds taxonomy"
    ):
        load_configuration(Home(tmp_path), {"HEADWAY_CONFIG": str(tmp_path / "nowhere")})


def test_a_missing_file_is_named(edited: Edit) -> None:
    """Three of four files are not filled up from elsewhere."""
    folder = edited("policy.yaml")
    (folder / "actions.yaml").unlink()

    with pytest.raises(ConfigurationError, match=r"here/actions\.yaml: \.: got .*expected a readable file"):
        read_configuration(folder, origin="here")


def test_formatting_does_not_change_versions(edited: Edit, built_in: Configuration) -> None:
    """A comment changes no version; a value changes the one of its file."""
    folder = edited("journeys.yaml", ("version: 1", "# a comment\nversion:   1"))
    edited("policy.yaml", ("epsilon: 0.05", "epsilon: 0.06"))

    versions = read_configuration(folder, origin="here").versions

    assert {name for name in versions if versions[name] != built_in.versions[name]} == {"policy"}


def test_problems_of_all_files_come_at_once(edited: Edit) -> None:
    """A bad unit, an unknown key and a bad bound in three files are one refusal, each with file and line."""
    folder = edited("journeys.yaml", ("stall_after: 2d", "stall_after: 2 days"))
    edited("taxonomy.yaml", ("currency: EUR", "curency: EUR"))
    edited("policy.yaml", ("epsilon: 0.05", "epsilon: 5"))

    found = _problems(folder)

    assert [(file, path) for file, path, _ in found] == [
        ("here/taxonomy.yaml", "currency"),
        ("here/taxonomy.yaml", "curency"),
        ("here/journeys.yaml", "journeys[0].stages[0].stall_after"),
        ("here/policy.yaml", "exploration.epsilon"),
    ]
    assert "did you mean currency?" in found[1][2]


@pytest.mark.parametrize(
    ("file", "old", "new", "path", "expected"),
    [
        ("taxonomy.yaml", "Europe/Amsterdam", "Europe/Atlantis", "time_zone", "an IANA time zone"),
        (
            "policy.yaml",
            "epsilon: 0.05",
            "epsilon: 0.05\n  regret_budget: inf",
            "exploration.regret_budget",
            "a finite number",
        ),
        ("policy.yaml", "sms: 0.05", "sms: -0.05", "channel_price.sms", "greater than or equal to 0"),
        ("taxonomy.yaml", "[social, sem, partner]", "[social, fax]", "kinds.ad_clicked.channels[1]", "one of app,"),
        ("taxonomy.yaml", "  ad_clicked:", "  consent_changed:", "kinds.consent_changed", "another name"),
        ("taxonomy.yaml", "  ad_clicked:", "  identity_linked:", "kinds.identity_linked", "another name"),
        (
            "taxonomy.yaml",
            "e-mail address, pii: true, identifier: true",
            "e-mail address, pii: false, identifier: true",
            "attributes.email_hash.identifier",
            "false, or an attribute of type text with pii: true",
        ),
        (
            "taxonomy.yaml",
            "age_band:\n    dtype: category",
            "age_band:\n    pii: true\n    dtype: category",
            "attributes.age_band.feature",
            "false: nothing personal is a feature",
        ),
        (
            "taxonomy.yaml",
            "age_band:\n    dtype: category",
            "age_band:\n    dtype: number",
            "attributes.age_band.values",
            "values for a category",
        ),
        *(
            ("taxonomy.yaml", "\nkinds:\n", f"\ntracking: {section}\nkinds:\n", f"tracking.{path}", expected)
            for section, path, expected in (
                ("{events: {Bought: {kind: card_usde}}}", "events.Bought.kind", "one of "),
                ("{events: {Paid Card: {kind: card_used}, paidCard: {kind: card_used}}}", "events.paidCard", "another"),
                ("{page: {kind: page_viewed, facts: {pages: [name]}}}", "page.facts.pages", "one of duration_s, page"),
                ("{screen: {kind: app_opened, channel: web}}", "screen.channel", "one of app"),
                ("{screen: {kind: card_used, channel: fax}}", "screen.channel", "one of app, store, web"),
                ("{traits: {regions: [area]}}", "traits.regions", "one of "),
                ("{group: company}", "group", "one of "),
                ("{web_channel: website}", "web_channel", "one of "),
            )
        ),
        ("journeys.yaml", "entry: [application_submitted]", "entry: [applied]", "journeys[0].entry[0]", "one of "),
        (
            "journeys.yaml",
            "enter: [card_used]",
            "enter: [card_activated]",
            "journeys[0].goal.enter",
            "a kind that enters one",
        ),
        (
            "journeys.yaml",
            "event: card_used",
            "event: card_sold",
            "journeys[0].outcomes[3].event",
            "one of action_exposed",
        ),
        ("journeys.yaml", "id: protection_14d", "id: progress_7d", "journeys", "outcome ids that are unique"),
        (
            "journeys.yaml",
            "stall_after: 2d",
            "stall_after: 90d",
            "journeys[0].stages[0].stall_after",
            "more than 0s, less",
        ),
        ("journeys.yaml", "horizon: 7d", "horizon: 0d", "journeys[0].horizon", "more than 0s"),
        ("journeys.yaml", "feature: stalled_now", "feature: stalled", "journeys[0].states[3].feature", "one of "),
        ("journeys.yaml", "id: verified", "id: applied", "journeys[0].stages[1]", "ids that are unique here"),
        ("actions.yaml", "id: explain_waiting", "id: nudge_documents", "actions[1]", "ids that are unique here"),
        ("actions.yaml", "id: email_edu_v2", "id: sms_edu_v2", "actions[0].treatments[1].id", "an id that no other"),
        ("actions.yaml", "id: sms_edu_v2", "id: no_action", "actions[0].treatments[0].id", "an id that no other"),
        ("actions.yaml", "channel: sms", "channel: fax", "actions[0].treatments[0].channel", "one of app, assistant"),
        (
            "actions.yaml",
            "outcome: progress_7d",
            "outcome: progress",
            "actions[0].outcome",
            "an outcome of credit_card",
        ),
        (
            "actions.yaml",
            "journey: credit_card_application",
            "journey: loan",
            "actions[0].journey",
            "one of credit_card",
        ),
        ("actions.yaml", "stages: [applied]", "stages: [sold]", "actions[0].stages[0]", "one of activated, applied"),
        ("actions.yaml", "[DOCUMENTS_MISSING]", "[IDLE]", "actions[0].stall_states[0]", "one of CARD_NOT_ACTIVATED"),
        (
            "actions.yaml",
            "feature:waiting_on_us_hours",
            "feature:waiting",
            "actions[0].rules[0].all_of[0].field",
            "feature: and",
        ),
        (
            "actions.yaml",
            "{field: state, equals",
            "{field: sate, equals",
            "actions[1].rules[0].all_of[0].field",
            "feature:<name>",
        ),
        ("policy.yaml", "opt_out: [call]", "opt_out: [fax]", "contact_policy.consent.opt_out[0]", "one of app"),
        (
            "policy.yaml",
            "opt_out: [call]",
            "opt_out: [sms]",
            "contact_policy.consent.opt_out",
            "a channel that is not in",
        ),
        ("policy.yaml", "channel: case}", "channel: fax}", "contact_policy.caps[5].channel", "one of app"),
        ("policy.yaml", "cap.all_month", "cap.all_week", "contact_policy.caps[1]", "ids that are unique here"),
        ("policy.yaml", "[sms, push, call]", "[sms, fax]", "contact_policy.quiet_hours.channels[1]", "one of app"),
        ("policy.yaml", "  sms: 0.05", "  fax: 0.05", "channel_price.fax", "one of app"),
        (
            "policy.yaml",
            "attribute:arrears_flag",
            "attribute:arears_flag",
            "rules[1].all_of[0].field",
            "attribute: and one of",
        ),
        (
            "policy.yaml",
            "attribute:arrears_flag",
            "attribute:email_hash",
            "rules[1].all_of[0].field",
            "attribute: and one of",
        ),
        ("policy.yaml", f"{SALES} [grow]", f"{SALES} [grew]", "rules[1].issues[0]", "one of "),
        (
            "policy.yaml",
            f"{SALES} [grow]",
            f"{SALES} [grow]\n    groups: [documents]",
            "rules[1].groups[0]",
            "a group of grow: one of card_offer, cross_sell, first_use",
        ),
        (
            "policy.yaml",
            "stage: eligibility",
            "stage: eligibility\n    groups: [documents]",
            "rules[0].groups[0]",
            "its issue beside it: onboard, service",
        ),
        (
            "policy.yaml",
            "period: 7d}",
            "period: 7d, issue: grew}",
            "contact_policy.caps[0].issue",
            "one of grow",
        ),
        (
            "policy.yaml",
            "period: 7d}",
            "period: 7d, issue: grow, group: documents}",
            "contact_policy.caps[0].group",
            "a group of grow",
        ),
        (
            "policy.yaml",
            "period: 7d}",
            "period: 7d, action: nudge}",
            "contact_policy.caps[0].action",
            "one of call_activation",
        ),
        (
            "policy.yaml",
            "[email, sms, push, call]}",
            "[email, fax]}",
            "contact_policy.suppressions[0].channels[1]",
            "one of app",
        ),
        (
            "policy.yaml",
            "issues: [grow]}",
            "issues: [grew]}",
            "contact_policy.suppressions[1].issues[0]",
            "one of grow",
        ),
        ("policy.yaml", "id: hold.accepted", "id: cap.all_week", "contact_policy.suppressions[2].id", "an id that no"),
        (
            "policy.yaml",
            'start: "21:00"',
            'start: "21:00"\n    days: {fax: [sunday]}',
            "contact_policy.quiet_hours.days.fax",
            "one of app",
        ),
        (
            "actions.yaml",
            "id: sms_edu_v2,",
            "id: sms_edu_v2, placements: [web/home_banner],",
            "actions[0].treatments[0].placements[0]",
            "a place on its channel, such as sms/home_banner",
        ),
        (
            "actions.yaml",
            "id: web_status_v1,",
            "id: web_status_v1, directions: [outbound],",
            "actions[1].treatments[1].directions",
            "inbound too, or a channel that reaches out",
        ),
        ("policy.yaml", f"{ARREARS} false", f'{ARREARS} "no"', "rules[1].all_of[0].equals", "true or false, without"),
        (
            "policy.yaml",
            f"{ARREARS} false",
            ARREARS.replace("equals:", "at_least: 1"),
            "rules[1].all_of[0].at_least",
            "one of equals, known: this field is true or false",
        ),
        (
            "policy.yaml",
            "at_least: 1, at_most: 1",
            "equals: open",
            "rules[0].all_of[0].equals",
            "a number",
        ),
        (
            "policy.yaml",
            "at_least: 1, at_most: 1",
            'one_of: ["1"]',
            "rules[0].all_of[0].one_of",
            "equals, at_least or at_most: this field is a number",
        ),
        (
            "policy.yaml",
            "equals: granted",
            "equals: given",
            "lead_qualification.criteria[1].all_of[0].equals",
            "one of granted, objected, withdrawn",
        ),
        (
            "policy.yaml",
            "one_of: [verified,",
            "one_of: [verifed,",
            "lead_qualification.criteria[2].all_of[0].one_of[0]",
            "one of activated, applied, offer_accepted, used, verified; did you mean verified?",
        ),
        (
            "policy.yaml",
            "field: abandon_probability, at_most: 0.3",
            "field: lead_class, equals: HOT",
            "lead_qualification.criteria[6].all_of[0].field",
            "another field",
        ),
        (
            "policy.yaml",
            "id: HOT",
            "id: NOT_QUALIFIED",
            "lead_qualification.classes[0].id",
            "another name: this class is built in",
        ),
        (
            "policy.yaml",
            '{field: "feature:journey_status", at_least: 1, at_most: 1}',
            "{field: lead_class, none_of: [LUKEWARM]}",
            "rules[0].all_of[0].none_of[0]",
            "one of COLD, HOT, NOT_QUALIFIED, WARM",
        ),
        (
            "policy.yaml",
            '{field: "feature:journey_status", at_least: 1, at_most: 1}',
            "{field: direction, equals: sideways}",
            "rules[0].all_of[0].equals",
            "one of inbound, outbound",
        ),
        (
            "actions.yaml",
            "id: appl.waiting_on_us\n        stage: applicability",
            "id: appl.waiting_on_us\n        issues: [grow]\n        stage: applicability",
            "actions[1].rules[0].issues",
            "no issues: the rule of an action is for it alone",
        ),
        (
            "actions.yaml",
            "none_of: [below_20k]",
            "none_of: [below_2k]",
            "actions[9].rules[0].all_of[0].none_of[0]",
            "one of 20k_35k",
        ),
        (
            "actions.yaml",
            "{field: state, equals: WAITING_ON_US}",
            "{field: state, equals: WAITING}",
            "actions[1].rules[0].all_of[0].equals",
            "one of ACTIVE, IDLE",
        ),
        (
            "actions.yaml",
            '"holding:card_protection", equals: false',
            '"holding:card_protection", equals: 0',
            "actions[14].rules[0].all_of[0].equals",
            "true or false",
        ),
        (
            "policy.yaml",
            "decision_ttl: 24h",
            "decisions_kept: 29d\ndecision_ttl: 24h",
            "decisions_kept",
            "at least 180d, which the suppression hold.accepted looks back",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(
    edited: Edit, file: str, old: str, new: str, path: str, expected: str
) -> None:
    """Each dangling or contradictory reference is refused at its file, line and path, with what is allowed."""
    found = _problems(edited(file, (old, new)))

    matching = [text for name, where, text in found if (name, where) == (f"here/{file}", path)]
    assert matching
    assert matching[0].startswith(expected)


def test_lead_classes_are_declared_before_rules_ask_for_them(edited: Edit) -> None:
    """A policy without sales criteria knows no lead class."""
    journey_open = '{field: "feature:journey_status", at_least: 1, at_most: 1}'
    text = (DEFAULTS / "policy.yaml").read_text()
    leads = text[text.index("lead_qualification:") :]

    found = _problems(edited("policy.yaml", (leads, ""), (journey_open, "{field: lead_class, equals: HOT}")))

    assert [(path, expected) for _, path, expected in found] == [
        ("rules[0].all_of[0].field", "another field, or a lead_qualification in policy.yaml")
    ]


def test_a_regulated_action_needs_its_disclosures(edited: Edit) -> None:
    """Credit offers without their disclosures are refused."""
    text = (DEFAULTS / "actions.yaml").read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith("disclosures:"))

    found = _problems(edited("actions.yaml", (line, "    disclosures: []")))

    assert [expected for _, _, expected in found] == ["the disclosures of a regulated action"]


def test_the_marketers_examples_are_valid(edited: Edit) -> None:
    """What the how-to shows can be written into the files as it is."""
    shown = re.findall(r"```yaml\n(.*?)```", MARKETER.read_text(), re.DOTALL)
    added, rules, contacts, leads = (yaml.safe_load(text) for text in shown)
    folder = edited("policy.yaml")
    policy = yaml.safe_load((folder / "policy.yaml").read_text())
    catalogue = yaml.safe_load((folder / "actions.yaml").read_text())
    policy["rules"], policy["contact_policy"] = rules["rules"], contacts
    policy["lead_qualification"] = leads["lead_qualification"]
    catalogue["actions"] += added
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    (folder / "actions.yaml").write_text(yaml.safe_dump(catalogue))

    read = read_configuration(folder, origin="here")

    assert [one.id for one in read.policy.contact_policy.suppressions] == [
        "hold.ignored",
        "hold.said_no",
        "hold.accepted",
    ]
    assert "nudge_wallet" in read.catalogue.by_id


def test_installing_makes_it_the_homes_own(tmp_path: Path, edited: Edit) -> None:
    """After installing, the home holds the four files and uses them, and an editor finds the schema beside each."""
    home = Home(tmp_path / "home").create()

    installed = install_configuration(home, edited("policy.yaml", ("epsilon: 0.05", "epsilon: 0.5")), {})

    assert sorted(path.name for path in home.config.glob("*.*")) == sorted(FILES)
    for name in FILES:
        schema = (home.config / name).read_text().partition("\n")[0].removeprefix("# yaml-language-server: $schema=")
        assert schema == f"schemas/{Path(name).stem}.json"
        assert json.loads((home.config / schema).read_text())["title"] == name
    assert installed.version == load_configuration(home, {}).version
    assert installed.policy.exploration.epsilon == 0.5


def test_installing_the_same_again_changes_nothing(tmp_path: Path, edited: Edit) -> None:
    """Equal content is equal, whatever its formatting; the files of the home stay as they are."""
    home = Home(tmp_path / "home").create()
    install_configuration(home, DEFAULTS, {})
    before = (home.config / "journeys.yaml").read_text()

    install_configuration(home, edited("journeys.yaml", ("version: 1", "version:  1")), {})

    assert (home.config / "journeys.yaml").read_text() == before


def test_a_config_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """What stands in the folder and is no configuration is neither overwritten nor mixed with one."""
    home = Home(tmp_path / "home").create()
    (home.config / "notes.txt").write_text("mine")

    with pytest.raises(Refused, match="expected an empty folder"):
        install_configuration(home, DEFAULTS, {})

    assert [path.name for path in home.config.iterdir()] == ["notes.txt"]
    assert [path.name for path in home.root.iterdir() if path.name.startswith(".")] == []


def test_a_different_configuration_is_refused(tmp_path: Path, edited: Edit) -> None:
    """Both versions and the remedy are named, and the home keeps what it has."""
    home = Home(tmp_path / "home").create()
    first = install_configuration(home, DEFAULTS, {})

    with pytest.raises(
        Conflict, match=rf"version {first.version}\), which this home uses; .*set HEADWAY_HOME to another"
    ):
        install_configuration(home, edited("policy.yaml", ("epsilon: 0.05", "epsilon: 0.5")), {})

    assert load_configuration(home, {}).version == first.version


def test_a_configuration_that_the_variable_would_hide_is_refused(tmp_path: Path, edited: Edit) -> None:
    """Installing beside a different HEADWAY_CONFIG would have no effect, so it is refused."""
    home = Home(tmp_path / "home").create()
    other = edited("policy.yaml", ("epsilon: 0.05", "epsilon: 0.5"))

    with pytest.raises(Conflict, match="or unset HEADWAY_CONFIG"):
        install_configuration(home, DEFAULTS, {"HEADWAY_CONFIG": str(other)})

    assert list(home.config.iterdir()) == []


@pytest.mark.parametrize("name", sorted(shipped_mappings()))
def test_shipped_mappings_fit_their_configuration(name: str) -> None:
    """Every shipped mapping is valid, and so is the configuration it brings or else the built-in one, with it."""
    folder = shipped_mappings()[name]
    configuration = read_configuration(folder, origin=name) if has_configuration(folder) else built_in_configuration()
    loaded = read_mapping(folder)

    assert loaded.problems == ()
    assert loaded.value is not None
    assert (
        mapping_problems(
            loaded.value,
            loaded.document,
            taxonomy=configuration.taxonomy,
            journeys=configuration.journeys,
            treatments=configuration.treatment_ids,
        )
        == []
    )
