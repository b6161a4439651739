"""A mapping, and where there is none yet a whole configuration, for a process log of unknown activities.

The texts are drafts in YAML for a person to edit: always the same for the same log.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from features.durations import dump_duration
from features.errors import MappingError, Problem
from features.main_paths import MainPath, main_path
from features.mapping import MAPPING_FILE
from features.process_logs import (
    ACTIVITY,
    CASE,
    CHANNEL,
    IDENTITY,
    LIFECYCLE,
    RESOURCE,
    TIME,
    ColumnProfile,
    Key,
    ProcessLog,
    names_of,
)
from features.taxonomy import BUILT_IN_KINDS, IDENTITY_KINDS, Taxonomy

PROCESS_MINING: Final = "process_mining"
"""The name of this mapping on the command line, and the source of what it imports."""

_PATTERNS: Final = {"csv": ["*.csv", "*.csv.gz"], "parquet": ["*.parquet"], "xes": ["*.xes", "*.xes.gz"]}
_SEPARATORS: Final = ("/", "|", "->", "::")
_RESOURCE_FACT: Final = "resource"
_OUTREACH: Final = "message"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """Files of a draft by name, and what to tell of them."""

    files: Mapping[str, str]
    told: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Names:
    """What things of the log are called in the configuration."""

    kinds: Mapping[Key, str]
    facts: Mapping[str, str]
    attributes: Mapping[str, str]
    channels: Mapping[str, str]


def draft_configuration(log: ProcessLog) -> Draft:
    """A mapping, a taxonomy with every activity, a journey along the main path, and the least of actions and policy.

    Raises:
        MappingError: the log has one activity only, which makes no journey.
    """
    names = _new_names(log)
    keys = list(log.keys)
    cases = [[(at, names.kinds[keys[key]]) for at, key in case.in_order()] for case in log.cases.values()]
    path = main_path(cases)
    if path is None:
        problem = Problem(ACTIVITY, keys[0][0], "at least two different activities")
        raise MappingError("A log of one activity makes no journey:", [problem])
    return Draft(
        files={
            MAPPING_FILE: _text(_MAPPING_HEAD, _mapping(log, names)),
            "taxonomy.yaml": _text(_TAXONOMY_HEAD, _taxonomy(log, names)),
            "journeys.yaml": _text(_JOURNEYS_HEAD, _journeys(path)),
            "actions.yaml": _text(_ACTIONS_HEAD, _ACTIONS),
            "policy.yaml": _text(_POLICY_HEAD, _POLICY),
        },
        told=(
            f"drafted from {', '.join(log.files)}: {len(names.kinds)} kinds of event, a journey from {path.entry[0]} "
            f"through {len(path.stages)} stages to {path.goal}",
            *_told_of_times(log),
        ),
    )


def draft_mapping(log: ProcessLog, taxonomy: Taxonomy) -> Draft:
    """A mapping to kinds, facts, attributes and channels that a taxonomy has by the same names; others are left out.

    Raises:
        MappingError: it has none of the activities.
    """
    new = _new_names(log, taken=frozenset())
    kinds = {key: name for key, name in new.kinds.items() if name in taxonomy.all_kinds}
    if not kinds:
        found = ", ".join(sorted(new.kinds.values())[:10])
        problem = Problem(ACTIVITY, found, f"at least one kind of the taxonomy: {', '.join(taxonomy.all_kinds)}")
        raise MappingError("The configuration knows no activity of the log:", [problem])
    allowed = {fact for name in kinds.values() for fact in taxonomy.all_kinds[name].facts}
    names = _Names(
        kinds=kinds,
        facts={column: name for column, name in new.facts.items() if name in allowed},
        attributes={column: name for column, name in new.attributes.items() if name in taxonomy.attributes},
        channels={text: name for text, name in new.channels.items() if name in taxonomy.channels},
    )
    told = f"{len(kinds)} of {len(new.kinds)} activities of {', '.join(log.files)} are kinds of the configuration"
    return Draft({MAPPING_FILE: _text(_MAPPING_HEAD, _mapping(log, names))}, (told, *_told_of_times(log)))


def _told_of_times(log: ProcessLog) -> Iterable[str]:
    if log.zoneless:
        yield "times without an offset are taken for UTC: set time_zone in mapping.yaml if they are local"


def _new_names(log: ProcessLog, taken: frozenset[str] = frozenset({*BUILT_IN_KINDS, *IDENTITY_KINDS})) -> _Names:
    transitions: dict[str, set[str]] = {}
    for activity, transition in log.keys:
        transitions.setdefault(activity, set()).add(transition)
    labels = {
        (activity, transition): activity if len(transitions[activity]) == 1 else f"{activity} {transition}".strip()
        for activity, transition in log.keys
    }
    # Two keys may have one label, as "a b" alone and "a" with the transition "b": the transition sets them apart.
    uses = Counter(labels.values())
    distinct = {key: label if uses[label] == 1 else f"{label} {key[1]}" for key, label in labels.items()}
    kinds = names_of(dict.fromkeys(distinct.values()), taken=taken)
    facts = [name for name in log.kept(log.columns) if name != CHANNEL]
    attributes = [name for name in sorted(log.case_columns) if f"case:{name}" in log.everywhere]
    fact_names = names_of(facts, taken=frozenset({_RESOURCE_FACT}))
    if RESOURCE in log.everywhere:
        fact_names[RESOURCE] = _RESOURCE_FACT
    channels = log.columns[CHANNEL].texts if CHANNEL in log.everywhere and CHANNEL in log.columns else set()
    return _Names(
        kinds={key: kinds[label] for key, label in distinct.items()},
        facts=fact_names,
        attributes=names_of(attributes),
        channels=names_of(sorted(channels)),
    )


def _separator(keys: Iterable[Key]) -> str:
    """What between activity and transition tells all of them apart.

    Raises:
        MappingError: nothing that is tried does.
    """
    given = [key for key in keys if key[1]]
    for separator in _SEPARATORS:
        if len({separator.join(key) for key in given}) == len(given):
            return separator
    problem = Problem(
        LIFECYCLE, given[0][1], f"activities and transitions that one of {' '.join(_SEPARATORS)} tells apart"
    )
    raise MappingError("Activities of the log cannot be told apart:", [problem])


def _mapping(log: ProcessLog, names: _Names) -> Json:
    head: Json = {"version": 1, "source": PROCESS_MINING, "title": f"Process log {log.files[0]}"}
    if log.zoneless:
        head["time_zone"] = "UTC"
    return {**head, "tables": [_table(form, delimiter, log, names) for form, delimiter in log.formats.items()]}


def _table(form: str, delimiter: str, log: ProcessLog, names: _Names) -> Json:
    table: Json = {"files": _PATTERNS[form], "format": form}
    if form == "csv" and delimiter != "comma":
        table["delimiter"] = delimiter
    if form != "xes":
        table["group_by"] = CASE
    table["events"] = list(_events(log, names))
    if names.attributes:
        table["attributes"] = [
            {
                "per": "group",
                "id": {"template": f"{{{CASE}}}#profile"},
                "customer": {"column": CASE},
                "at": {"column": TIME},
                "values": {name: {"column": f"case:{column}"} for column, name in names.attributes.items()},
            }
        ]
    return table


def _events(log: ProcessLog, names: _Names) -> Iterable[Json]:
    """One output; two where only some events have a transition."""
    separator = _separator(names.kinds)
    with_transition = {separator.join(key): name for key, name in names.kinds.items() if key[1]}
    without = {activity: name for (activity, transition), name in names.kinds.items() if not transition}
    has_transitions = any(transition for _, transition in log.keys)
    has_both = has_transitions and any(not transition for _, transition in log.keys)
    for is_given, lookup in ((True, with_transition), (False, without)):
        if not lookup:
            continue
        output: Json = {"id": {"column": IDENTITY}} if log.has_identities else {}
        output |= {"customer": {"column": CASE}, "at": {"column": TIME}}
        source = {"template": f"{{{ACTIVITY}}}{separator}{{{LIFECYCLE}}}"} if is_given else {"column": ACTIVITY}
        output["kind"] = {**source, "lookup": lookup}
        if names.channels:
            output["channel"] = {"column": CHANNEL, "lookup": dict(names.channels), "otherwise": ""}
        if names.facts:
            output["facts"] = {name: {"column": column} for column, name in names.facts.items()}
        if has_both:
            output["when"] = [{"column": LIFECYCLE, "not_empty": is_given}]
        yield output


def _taxonomy(log: ProcessLog, names: _Names) -> Json:
    channels = {name: {"title": text, "digital": True} for text, name in names.channels.items()}
    channels[_OUTREACH] = {"title": "Message", "digital": True, "outbound": True}
    titles = {name: f"{activity} {transition}".strip() for (activity, transition), name in names.kinds.items()}
    facts = {name: _facts_of(key, log, names) for key, name in names.kinds.items()}
    taxonomy: Json = {
        "version": 1,
        "currency": "EUR",
        "time_zone": "UTC",
        "channels": channels,
        "kinds": {name: {"title": title, **facts[name]} for name, title in titles.items()},
    }
    if names.attributes:
        taxonomy["attributes"] = {
            name: _attribute(log.case_columns[column]) for column, name in names.attributes.items()
        }
    return taxonomy


def _facts_of(key: Key, log: ProcessLog, names: _Names) -> Json:
    filled = log.filled_by_key[key]
    facts: Json = {
        name: {"dtype": _fact_type(log.columns[column])} for column, name in names.facts.items() if column in filled
    }
    if RESOURCE in names.facts:
        facts[_RESOURCE_FACT] = {"dtype": "text", "pii": True}
    return {"facts": facts} if facts else {}


def _fact_type(column: ColumnProfile) -> str:
    return "text" if column.dtype == "category" else column.dtype


def _attribute(column: ColumnProfile) -> Json:
    if column.dtype == "category":
        return {"dtype": "category", "values": sorted(column.texts)}
    return {"dtype": column.dtype}


def _journeys(path: MainPath) -> Json:
    journey: Json = {
        "id": "process",
        "title": "The main path of the process log",
        "entry": list(path.entry),
        "stages": [
            {
                "id": kind,
                "title": _title(kind),
                "enter": [kind],
                "stall_after": dump_duration(stall_after),
                "stall_state": f"AFTER_{kind.upper()}",
            }
            for kind, stall_after in path.stages.items()
        ],
        "goal": {"id": path.goal, "title": _title(path.goal), "enter": [path.goal]},
    }
    if path.exits:
        journey["exits"] = {kind: [kind] for kind in path.exits}
    return {
        "version": 1,
        "journeys": [
            {
                **journey,
                "abandon_after": dump_duration(path.abandon_after),
                "horizon": "7d",
                "outcomes": [
                    {
                        "id": "goal_reached",
                        "title": "Reached the goal within 30 days",
                        "event": path.goal,
                        "window": "30d",
                        "value": 1,
                    }
                ],
            }
        ],
    }


def _title(kind: str) -> str:
    return kind.replace("_", " ").capitalize()


class _Dumper(yaml.SafeDumper):
    """Quotes every text that is not plainly a word: YAML 1.1, which PyYAML writes, knows other numbers than 1.2."""

    def ignore_aliases(self, data: object) -> bool:
        """No anchors: a person edits one place without changing another."""
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    is_word = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", text) is not None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_word else '"')


_Dumper.add_representer(str, _quoted)


def _text(head: str, data: Json) -> str:
    body = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"{head}{body}"


def write_draft(draft: Draft, folder: Path) -> None:
    """Write the files of a draft into a folder."""
    for name, text in draft.files.items():
        (folder / name).write_text(text, encoding="utf-8")


_MAPPING_HEAD: Final = """\
# Drafted from a process log by `headway import --mapping process_mining`, which uses it from now on. Each case is a
# customer. The tables below say what each activity is called here: edit them, together with taxonomy.yaml.
"""
_TAXONOMY_HEAD: Final = """\
# Drafted from a process log. Edit: the role of each kind (such as `operation` for what the customer did not do), which
# channels are digital, the currency, and `feature: true` for attributes that are known when a case begins: one that is
# only known at its end would tell the models the answer. `resource` is taken for a name until you remove `pii`.
"""
_JOURNEYS_HEAD: Final = """\
# Drafted from the main path of a process log. Edit: the goal, which is a guess; the stages and how long is too long in
# each (`stall_after`: nine of ten went further within it); exits; and what reaching the goal is worth.
"""
_ACTIONS_HEAD: Final = """\
# A placeholder: a log says nothing of what could be done. It is never chosen before there is data on its effect.
"""
_POLICY_HEAD: Final = """\
# The least that a policy needs. Edit: consent, contact caps and the experiment.
"""
_ACTIONS: Final[Json] = {
    "version": 1,
    "actions": [
        {
            "id": "reach_out",
            "title": "Reach out to the customer",
            "kind": "nudge",
            "issue": "retain",
            "group": "outreach",
            "journey": "process",
            "outcome": "goal_reached",
            "treatments": [{"id": "reach_out_message", "channel": _OUTREACH, "contact_cost": 0.1}],
        }
    ],
}
_POLICY: Final[Json] = {
    "version": 1,
    "contact_policy": {
        "consent": {"opt_in": [_OUTREACH]},
        "caps": [{"id": "cap.message_week", "contacts": 1, "period": "7d", "channel": _OUTREACH}],
    },
    "experiment": {
        "id": "process-1",
        "salt": "process-1",
        "no_contact_holdout": 0.05,
        "random_eligible": 0.1,
    },
    "exploration": {"epsilon": 0.05, "temperature": 1.0},
    "decision_ttl": "24h",
}
