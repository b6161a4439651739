"""What the section ``tracking`` of a taxonomy says of the rest of it: every name must be declared there."""

from __future__ import annotations

from collections.abc import Iterator

from features.errors import Problem
from features.events import allowed_facts
from features.taxonomy import Taxonomy
from features.tracked_calls import snake_case
from features.tracking_rules import APP, WEB, CallRule
from features.yaml_files import YamlDocument, one_of
from models.rule_checks import Place


def tracking_problems(taxonomy: Taxonomy, document: YamlDocument) -> Iterator[Problem]:
    """Every name in the section that is not declared, and names of events that are one in snake case."""
    tracking = taxonomy.tracking
    seen: dict[str, str] = {}
    for name, rule in tracking.events.items():
        here: Place = ("tracking", "events", name)
        yield from _rule_problems(taxonomy, document, here, rule)
        if (first := seen.setdefault(snake_case(name), name)) != name:
            yield document.problem(here, name, f"another name: in snake case it is that of {first}")
    for what, view in (("page", tracking.page), ("screen", tracking.screen)):
        if view is not None:
            yield from _rule_problems(taxonomy, document, ("tracking", what), view)
    attributes = list(taxonomy.attributes)
    named: list[tuple[Place, str]] = [(("tracking", "traits", name), name) for name in tracking.traits]
    named += [] if tracking.group is None else [(("tracking", "group"), tracking.group)]
    for place, name in named:
        if name not in attributes:
            yield document.problem(place, name, one_of(attributes, name))
    channels = (("web_channel", tracking.web_channel, WEB), ("app_channel", tracking.app_channel, APP))
    for key, channel, default in channels:
        if channel != default and channel not in taxonomy.channels:
            yield document.problem(("tracking", key), channel, one_of(list(taxonomy.channels), channel))


def _rule_problems(taxonomy: Taxonomy, document: YamlDocument, here: Place, rule: CallRule) -> Iterator[Problem]:
    kind = taxonomy.all_kinds.get(rule.kind)
    if kind is None:
        yield document.problem((*here, "kind"), rule.kind, one_of(list(taxonomy.all_kinds), rule.kind))
        return
    facts = list(allowed_facts(rule.kind, taxonomy))
    for name in rule.facts:
        if name not in facts:
            yield document.problem((*here, "facts", name), name, one_of(facts, name))
    channels = list(kind.channels or taxonomy.channels)
    if rule.channel is not None and rule.channel not in channels:
        yield document.problem((*here, "channel"), rule.channel, one_of(channels, rule.channel))
