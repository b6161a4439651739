"""What the four configuration files say of each other: every reference must lead somewhere.

Each check reads only files that are valid by themselves, so that one bad file does not hide what is wrong elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from features.durations import MICROSECONDS, dump_duration
from features.errors import Problem
from features.feedback_text import text_readers
from features.journeys import PROGRESS, Journey, Journeys
from features.taxonomy import BUILT_IN_KINDS, IDENTITY_KINDS, Taxonomy
from features.yaml_files import Loaded, YamlDocument, one_of
from models.actions import NO_ACTION, Action, Catalogue, Treatment, channel_of_placement
from models.capacity_checks import capacity_problems
from models.policy import Policy
from models.rule_checks import Names, Place, lead_problems, repeated_ids, rules_problems, unknown_names
from models.tracking_checks import tracking_problems

_RETRIED_US: Final = 2 * MICROSECONDS["d"]
"""The same request id gives the same answer for so long."""


def reference_problems(
    taxonomy: Loaded[Taxonomy], journeys: Loaded[Journeys], catalogue: Loaded[Catalogue], policy: Loaded[Policy]
) -> list[Problem]:
    """Every dangling or contradictory reference between the files, and inside them, as far as they could be read."""
    problems: list[Problem] = []
    if taxonomy.value is not None:
        problems += _taxonomy_problems(taxonomy.value, taxonomy.document)
    if taxonomy.value is not None and journeys.value is not None:
        problems += _journeys_problems(journeys.value, journeys.document, taxonomy.value)
    # Feature names exist only where taxonomy and journeys fit together.
    features = None
    if taxonomy.value is not None and journeys.value is not None and not problems:
        features = _feature_names(taxonomy.value, journeys.value)
        problems += _feature_problems(journeys.value, journeys.document, features)
        problems += _state_problems(journeys.value, journeys.document, features)
        problems += _reason_problems(journeys.value, journeys.document, features, catalogue.value)
    names = Names.of(taxonomy.value, journeys.value, features, policy.value)
    if catalogue.value is not None:
        problems += _catalogue_problems(catalogue.value, catalogue.document, names)
    if policy.value is not None:
        problems += _policy_problems(policy.value, policy.document, names, catalogue.value)
    return problems


def _taxonomy_problems(taxonomy: Taxonomy, document: YamlDocument) -> Iterator[Problem]:
    try:
        ZoneInfo(taxonomy.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield document.problem(("time_zone",), taxonomy.time_zone, "an IANA time zone, such as UTC or Europe/Amsterdam")
    for name, kind in taxonomy.kinds.items():
        here: Place = ("kinds", name)
        if name in BUILT_IN_KINDS or name in IDENTITY_KINDS:
            yield document.problem(here, name, "another name: this kind is built in")
        yield from unknown_names(document, (*here, "channels"), kind.channels, tuple(taxonomy.channels))
        for role, named in (("value_fact", kind.value_fact), ("price_fact", kind.price_fact)):
            fact = kind.facts.get(named or "")
            if named is not None and fact is None:
                yield document.problem((*here, role), named, one_of(list(kind.facts), named))
            elif fact is not None and fact.dtype != "number":
                yield document.problem((*here, role), named, f"a number, this fact is {fact.dtype}")
            elif fact is not None and fact.pii:
                yield document.problem((*here, role), named, "a fact that is not personal: features are read from it")
    yield from tracking_problems(taxonomy, document)
    if taxonomy.text_reader not in (known := text_readers()):
        yield document.problem(("text_reader",), taxonomy.text_reader, one_of(known, taxonomy.text_reader))
    declared = [(("attributes", name), attribute) for name, attribute in taxonomy.attributes.items()]
    declared += [(("context", name), attribute) for name, attribute in taxonomy.context.items()]
    for here, attribute in declared:
        if (attribute.dtype == "category") != bool(attribute.values):
            yield document.problem(
                (*here, "values"), list(attribute.values), "values for a category, and for a category only"
            )
        if attribute.dtype == "text" and attribute.feature:
            yield document.problem((*here, "feature"), True, "false: text never is a feature")
        if attribute.feature and attribute.pii:
            # Every decision's record keeps the features that it saw, and whoever may read it sees them.
            yield document.problem((*here, "feature"), True, "false: nothing personal is a feature")
        if attribute.identifier and not (attribute.dtype == "text" and attribute.pii and here[0] == "attributes"):
            expected = "false, or an attribute of type text with pii: true: a keyed hash that the sender made"
            yield document.problem((*here, "identifier"), True, expected)


def _journeys_problems(journeys: Journeys, document: YamlDocument, taxonomy: Taxonomy) -> Iterator[Problem]:
    kinds = tuple(taxonomy.all_kinds)
    yield from repeated_ids(document, ("journeys",), [journey.id for journey in journeys.journeys])
    outcome_ids = [outcome.id for journey in journeys.journeys for outcome in journey.outcomes]
    for outcome_id, count in Counter(outcome_ids).items():
        if count > 1:
            yield document.problem(
                ("journeys",), outcome_id, f"outcome ids that are unique; this one stands {count} times"
            )
    for index, journey in enumerate(journeys.journeys):
        here: Place = ("journeys", index)
        yield from unknown_names(document, (*here, "entry"), journey.entry, kinds)
        yield from repeated_ids(document, (*here, "stages"), [*journey.stage_ids, journey.goal.id])
        for place, names in _entering(journey):
            yield from unknown_names(document, (*here, *place), names, kinds)
        for name, places in _entered_by(journey).items():
            if len(places) > 1:
                yield document.problem(
                    (*here, *places[1]), name, "a kind that enters one stage only, or leaves, not both"
                )
        for position, outcome in enumerate(journey.outcomes):
            if outcome.event not in (*kinds, PROGRESS):
                place = (*here, "outcomes", position, "event")
                yield document.problem(place, outcome.event, one_of([*kinds, PROGRESS], outcome.event))
            if outcome.window == 0:
                yield document.problem((*here, "outcomes", position, "window"), "0s", "more than 0s")
        yield from _duration_problems(journey, document, here)


def _entering(journey: Journey) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Every place of a journey that moves a customer, with the kinds that do."""
    for index, stage in enumerate(journey.stages):
        yield ("stages", index, "enter"), stage.enter
    yield ("goal", "enter"), journey.goal.enter
    for name, kinds in journey.exits.items():
        yield ("exits", name), kinds


def _entered_by(journey: Journey) -> dict[str, list[Place]]:
    places: dict[str, list[Place]] = {}
    for place, names in _entering(journey):
        for name in names:
            places.setdefault(name, []).append(place)
    return places


def _duration_problems(journey: Journey, document: YamlDocument, here: Place) -> Iterator[Problem]:
    for name in ("abandon_after", "horizon"):
        if getattr(journey, name) == 0:
            yield document.problem((*here, name), "0s", "more than 0s")
    for index, stage in enumerate(journey.stages):
        if not 0 < stage.stall_after < journey.abandon_after:
            place = (*here, "stages", index, "stall_after")
            yield document.problem(place, stage.model_dump()["stall_after"], "more than 0s, less than abandon_after")


def _feature_problems(
    journeys: Journeys, document: YamlDocument, features: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Kinds, channels and stages may be named so that one's window is another's name."""
    for index, journey in enumerate(journeys.journeys):
        repeated = [name for name, count in Counter(features[journey.id]).items() if count > 1]
        if repeated:
            expected = (
                f"one feature of each name, and {', '.join(repeated)} would stand for two: rename a kind or channel"
            )
            yield document.problem(("journeys", index, "id"), journey.id, expected)


def _state_problems(
    journeys: Journeys, document: YamlDocument, features: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    for index, journey in enumerate(journeys.journeys):
        for position, rule in enumerate(journey.states):
            here: Place = ("journeys", index, "states", position)
            if rule.feature not in features[journey.id]:
                expected = one_of(features[journey.id], rule.feature)
                yield document.problem((*here, "feature"), rule.feature, expected)
            if rule.at_least is None and rule.at_most is None:
                yield document.problem(here, rule.state, "at_least, at_most or both")


def _reason_problems(
    journeys: Journeys, document: YamlDocument, features: Mapping[str, Sequence[str]], catalogue: Catalogue | None
) -> Iterator[Problem]:
    for index, journey in enumerate(journeys.journeys):
        here: Place = ("journeys", index, "reason_templates")
        yield from repeated_ids(document, here, [template.code for template in journey.reason_templates])
        for position, template in enumerate(journey.reason_templates):
            place = (*here, position)
            yield from unknown_names(document, (*place, "features"), template.features, features[journey.id])
            yield from repeated_ids(document, (*place, "features"), template.features)
            if template.action is not None and catalogue is not None:
                known = [action.id for action in catalogue.actions if action.journey == journey.id]
                if template.action not in known:
                    expected = f"an action of {journey.id}: {one_of(known, template.action)}"
                    yield document.problem((*place, "action"), template.action, expected)


def _catalogue_problems(catalogue: Catalogue, document: YamlDocument, names: Names) -> Iterator[Problem]:
    yield from repeated_ids(document, ("actions",), [action.id for action in catalogue.actions])
    seen: set[str] = {NO_ACTION}
    for index, action in enumerate(catalogue.actions):
        here: Place = ("actions", index)
        if action.id == NO_ACTION:
            yield document.problem((*here, "id"), action.id, "another id: this one is built in")
        for position, treatment in enumerate(action.treatments):
            place = (*here, "treatments", position)
            if treatment.id in seen:
                yield document.problem(
                    (*place, "id"), treatment.id, "an id that no other treatment of the catalogue has"
                )
            seen.add(treatment.id)
            if names.channels is not None and treatment.channel not in names.channels:
                yield document.problem(
                    (*place, "channel"), treatment.channel, one_of(names.channels, treatment.channel)
                )
            yield from _treatment_problems(treatment, document, place, names)
        if action.regulated and not action.disclosures:
            yield document.problem((*here, "disclosures"), [], "the disclosures of a regulated action")
        if names.journeys is not None:
            yield from _journey_reference_problems(action, document, here, names.journeys)
        yield from rules_problems(action.rules, document, here, names, [action.journey])
        for position, rule in enumerate(action.rules):
            for name, given in (("issues", rule.issues), ("groups", rule.groups)):
                if given:
                    expected = f"no {name}: the rule of an action is for it alone; put it into policy.yaml for others"
                    yield document.problem((*here, "rules", position, name), list(given), expected)


def _treatment_problems(treatment: Treatment, document: YamlDocument, here: Place, names: Names) -> Iterator[Problem]:
    for position, placement in enumerate(treatment.placements):
        if channel_of_placement(placement) != treatment.channel:
            expected = f"a place on its channel, such as {treatment.channel}/home_banner"
            yield document.problem((*here, "placements", position), placement, expected)
    reaches_out = names.outbound is None or treatment.channel in names.outbound
    if treatment.directions == ("outbound",) and not reaches_out:
        expected = f"inbound too, or a channel that reaches out: {', '.join(names.outbound or ())}"
        yield document.problem((*here, "directions"), "outbound", expected)


def _journey_reference_problems(
    action: Action, document: YamlDocument, here: Place, journeys: Mapping[str, Journey]
) -> Iterator[Problem]:
    journey = journeys.get(action.journey)
    if journey is None:
        yield document.problem((*here, "journey"), action.journey, one_of(list(journeys), action.journey))
        return
    if action.outcome not in journey.outcome_by_id:
        expected = f"an outcome of {journey.id}: {one_of(list(journey.outcome_by_id), action.outcome)}"
        yield document.problem((*here, "outcome"), action.outcome, expected)
    yield from unknown_names(document, (*here, "stages"), action.stages, journey.stage_ids)
    stall_states = tuple(dict.fromkeys(stage.stall_state for stage in journey.stages))
    yield from unknown_names(document, (*here, "stall_states"), action.stall_states, stall_states)


def _policy_problems(
    policy: Policy, document: YamlDocument, names: Names, catalogue: Catalogue | None
) -> Iterator[Problem]:
    limits: Place = ("contact_policy",)
    contact_policy = policy.contact_policy
    if names.channels is not None:
        consent = contact_policy.consent
        yield from unknown_names(document, (*limits, "consent", "opt_in"), consent.opt_in, names.channels)
        yield from unknown_names(document, (*limits, "consent", "opt_out"), consent.opt_out, names.channels)
        for index, cap in enumerate(contact_policy.caps):
            if cap.channel is not None and cap.channel not in names.channels:
                place = (*limits, "caps", index, "channel")
                yield document.problem(place, cap.channel, one_of(names.channels, cap.channel))
        if contact_policy.quiet_hours is not None:
            quiet = contact_policy.quiet_hours.channels
            yield from unknown_names(document, (*limits, "quiet_hours", "channels"), quiet, names.channels)
            for channel in contact_policy.quiet_hours.days:
                if channel not in names.channels:
                    place = (*limits, "quiet_hours", "days", channel)
                    yield document.problem(place, channel, one_of(names.channels, channel))
        for index, one in enumerate(contact_policy.suppressions):
            place = (*limits, "suppressions", index, "channels")
            yield from unknown_names(document, place, one.channels, names.channels)
        for channel in policy.channel_price:
            if channel not in names.channels:
                yield document.problem(("channel_price", channel), channel, one_of(names.channels, channel))
    both = sorted(set(contact_policy.consent.opt_in) & set(contact_policy.consent.opt_out))
    for channel in both:
        yield document.problem((*limits, "consent", "opt_out"), channel, "a channel that is not in opt_in too")
    cap_ids = [cap.id for cap in contact_policy.caps]
    yield from repeated_ids(document, (*limits, "caps"), cap_ids)
    yield from repeated_ids(document, (*limits, "suppressions"), [one.id for one in contact_policy.suppressions])
    for index, one in enumerate(contact_policy.suppressions):
        if one.id in cap_ids:
            yield document.problem((*limits, "suppressions", index, "id"), one.id, "an id that no cap has")
    yield from capacity_problems(policy.capacity, document, names.channels, catalogue)
    yield from _retention_problems(policy, document, names.journeys or {})
    journeys = list(names.journeys) if names.journeys is not None else []
    yield from rules_problems(policy.rules, document, (), names, journeys)
    if policy.lead_qualification is not None:
        yield from lead_problems(policy.lead_qualification, document, ("lead_qualification",), names, journeys)
    if catalogue is not None:
        yield from _family_problems(policy, document, catalogue)


def _retention_problems(policy: Policy, document: YamlDocument, journeys: Mapping[str, Journey]) -> Iterator[Problem]:
    if policy.decisions_kept is None:
        return
    contact_policy = policy.contact_policy
    needed = {
        "retries and replay": _RETRIED_US,
        "decision_ttl": policy.decision_ttl,
        **{f"the cap {cap.id}": cap.period for cap in contact_policy.caps},
        **{f"the suppression {one.id}": one.looks_back for one in contact_policy.suppressions},
        **{f"the outcome {one.id}": one.window for journey in journeys.values() for one in journey.outcomes},
    }
    longest = max(needed, key=lambda name: needed[name])
    if policy.decisions_kept < needed[longest]:
        expected = f"at least {dump_duration(needed[longest])}, which {longest} looks back"
        yield document.problem(("decisions_kept",), dump_duration(policy.decisions_kept), expected)


def _family_problems(policy: Policy, document: YamlDocument, catalogue: Catalogue) -> Iterator[Problem]:
    """Issues, groups and actions that no action of the catalogue has; a group belongs to an issue."""
    issues = tuple(dict.fromkeys(action.issue for action in catalogue.actions))
    for index, rule in enumerate(policy.rules):
        here: Place = ("rules", index)
        yield from unknown_names(document, (*here, "issues"), rule.issues, issues)
        yield from _group_problems(document, (*here, "groups"), rule.groups, rule.issues, catalogue)
    limits: Place = ("contact_policy",)
    for index, cap in enumerate(policy.contact_policy.caps):
        here = (*limits, "caps", index)
        if cap.issue is not None and cap.issue not in issues:
            yield document.problem((*here, "issue"), cap.issue, one_of(issues, cap.issue))
        if cap.action is not None and cap.action not in catalogue.by_id:
            yield document.problem((*here, "action"), cap.action, one_of(list(catalogue.by_id), cap.action))
        within = () if cap.issue is None else (cap.issue,)
        if cap.group is not None:
            yield from _group_problems(document, (*here, "group"), (cap.group,), within, catalogue)
    for index, one in enumerate(policy.contact_policy.suppressions):
        yield from unknown_names(document, (*limits, "suppressions", index, "issues"), one.issues, issues)


def _group_problems(
    document: YamlDocument, place: Place, groups: Sequence[str], issues: Sequence[str], catalogue: Catalogue
) -> Iterator[Problem]:
    """Groups that none of the issues has, or that several issues have where none is named."""
    issues_of: dict[str, set[str]] = {}
    for action in catalogue.actions:
        issues_of.setdefault(action.group, set()).add(action.issue)
    known = tuple(group for group, of in issues_of.items() if not issues or of & set(issues))
    for index, group in enumerate(groups):
        where = (*place, index) if place[-1] == "groups" else place
        if group not in known:
            within = f" of {', '.join(issues)}" if issues else ""
            yield document.problem(where, group, f"a group{within}: {one_of(known, group)}")
        elif not issues and len(issues_of[group]) > 1:
            expected = f"its issue beside it: {', '.join(sorted(issues_of[group]))} have a group of this name"
            yield document.problem(where, group, expected)


def _feature_names(taxonomy: Taxonomy, journeys: Journeys) -> dict[str, Sequence[str]]:
    # Imported here because it loads compiled code, for which the caller chooses the folder first.
    from features.schema import feature_set

    return {journey.id: feature_set(taxonomy, journey).names for journey in journeys.journeys}
