"""The declarative mapping (``mapping.yaml``): its objects and where it is found.

It leads from a company's own files and columns to events, customer attributes, past decisions and outcomes;
``mapping_values`` and ``importing`` apply it.
"""

from __future__ import annotations

import codecs
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from features.config_model import ConfigModel, Name
from features.durations import Duration
from features.errors import MappingError, Problem
from features.yaml_files import Loaded, one_of, read_yaml

MAPPING_FILE = "mapping.yaml"

Scalar = str | bool | int | float
"""A plain word or number in the mapping; it is compared and used as its text."""

_SOURCES = ("column", "template", "constant", "followed_by")


def _known_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise ValueError("an encoding that Python knows, such as utf-8 or latin-1") from error


def _known_time_zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("an IANA time zone, such as Europe/Amsterdam") from error


TimeZone = Annotated[str, AfterValidator(_known_time_zone)]


class Condition(ConfigModel):
    """What one column must hold. Every operator that is given must be true.

    Attributes:
        column: the column that is looked at.
        equals: exactly this text.
        one_of: one of these texts.
        none_of: none of these texts.
        not_empty: True for "holds something", False for "holds nothing".
        not_zero: True for "holds a number other than 0", False for "holds 0".
    """

    column: str
    equals: Scalar | None = None
    one_of: tuple[Scalar, ...] = ()
    none_of: tuple[Scalar, ...] = ()
    not_empty: bool | None = None
    not_zero: bool | None = None

    @model_validator(mode="after")
    def _has_an_operator(self) -> Condition:
        if not self.model_fields_set - {"column"}:
            raise ValueError("an operator beside column: equals, one_of, none_of, not_empty or not_zero")
        return self


class FollowedBy(ConfigModel):
    """Whether a later row of the same group, within a time, meets conditions.

    Attributes:
        when: the conditions on the later row.
        at: the time of a row, this one and the later one.
        within: at most so much later.
        then: the value if there is such a row.
        otherwise: the value if there is none.
    """

    when: tuple[Condition, ...] = Field(min_length=1)
    at: Value
    within: Duration
    then: Scalar
    otherwise: Scalar


def _plain_is_constant(value: Any) -> Any:
    return {"constant": value} if isinstance(value, str | bool | int | float) else value


class _ValueFields(ConfigModel):
    """Where a value comes from, and what becomes of it on the way.

    Attributes:
        column: the text of this column.
        template: text with ``{column}``, ``{row}`` (the row's number in its file, from 1) and ``{file}`` filled in;
            empty if any of them is.
        constant: always this; a plain word instead of a mapping means the same.
        followed_by: what happened later in the same group.
        lookup: what each text means; a text that is not in the table is refused, unless ``otherwise`` is given.
        otherwise: the value where there is none, or where the table does not have it.
        format: how a time is written, as for ``strptime``, or ``unix_seconds`` or ``unix_milliseconds``; ISO 8601 if
            not given.
        time_zone: the IANA zone of times without an offset, which are refused if none is named.
        plus: added to a time.
        decimal: the decimal sign of a number; the other one of ``.`` and ``,`` is then taken for a separator.
    """

    column: str | None = None
    template: str | None = None
    constant: Scalar | None = None
    followed_by: FollowedBy | None = None
    lookup: dict[str, Scalar] | None = None
    otherwise: Scalar | None = None
    format: str | None = None
    time_zone: TimeZone | None = None
    plus: Duration | None = None
    decimal: Literal[".", ","] = "."

    @model_validator(mode="after")
    def _has_one_source(self) -> _ValueFields:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(_SOURCES)}; got {', '.join(given) or 'none'}")
        return self


Value = Annotated[_ValueFields, BeforeValidator(_plain_is_constant)]


class Output(ConfigModel):
    """What is common to everything that a row gives.

    Attributes:
        customer: the customer's identifier.
        at: when it happened.
        when: conditions on the row; a row that does not meet them gives nothing here.
        per: ``row``, or ``group`` for once per group, from its first row that meets the conditions.
        id: what identifies it among everything of this source; the row's number in its file if not given.
    """

    customer: Value
    at: Value
    when: tuple[Condition, ...] = ()
    per: Literal["row", "group"] = "row"
    id: Value | None = None


class EventOutput(Output):
    """One event of a row.

    Attributes:
        kind: a kind of the taxonomy.
        channel: a channel of the taxonomy, if any.
        sequence: order among equal times; the row's number if not given.
        arrived_at: when it was learned of; the same as ``at`` if not given.
        facts: what the taxonomy allows for the kind; empty values are left out.
        facts_json: facts written as one JSON object; unlike ``facts``, one that the kind does not allow is refused.
        text: raw feedback.
    """

    kind: Value
    channel: Value | None = None
    sequence: Value | None = None
    arrived_at: Value | None = None
    facts: dict[str, Value] = Field(default_factory=dict)
    facts_json: Value | None = None
    text: Value | None = None


class AttributesOutput(Output):
    """Customer attributes of a row: one ``profile_updated`` event. Empty values are left out.

    Attributes:
        values: by declared attribute, or ``holding:<name>``.
    """

    values: dict[str, Value] = Field(min_length=1)


class CandidateOutput(ConfigModel):
    """One thing that the past decision could have chosen.

    Attributes:
        treatment: a treatment of the catalogue, or ``no_action``.
        probability: how probable it was; unlogged if not given.
    """

    treatment: Name
    probability: Value | None = None


class DecisionOutput(Output):
    """One past decision of a row.

    Attributes:
        id: what the company called the decision.
        journey: the journey it was made for.
        chosen: the treatment that was chosen, ``no_action`` for none.
        probability: how probable the choice was; unlogged if neither this nor the candidate's own is given.
        candidates: everything that could have been chosen, ``no_action`` too where that was possible.
        candidates_json: the same as one JSON list of objects with ``treatment_id`` and ``selection_probability``.
    """

    id: Value
    journey: Name
    chosen: Value
    probability: Value | None = None
    candidates: tuple[CandidateOutput, ...] = ()
    candidates_json: Value | None = None


class DecisionReference(ConfigModel):
    """Which past decision an outcome belongs to.

    Attributes:
        id: the same as that decision's own.
        at: likewise.
    """

    id: Value
    at: Value


class OutcomeOutput(Output):
    """One outcome of a row.

    Attributes:
        outcome: a declared outcome.
        value: 0 or 1 for a binary outcome, else a number; a row where it is empty gives nothing here.
        decision: the past decision that it belongs to, if known.
    """

    outcome: Value
    value: Value
    decision: DecisionReference | None = None


class ThroughObjects(ConfigModel):
    """Objects that lead from an event to its customer: related to the event, and to the customer.

    Attributes:
        type: the objects' type.
        qualifiers: of the relationship between such an object and the customer, whichever names the other; empty for
            any.
    """

    type: str
    qualifiers: tuple[str, ...] = ()


class ObjectCentric(ConfigModel):
    """How the events of an OCEL 2.0 log, which know objects, reach customers.

    Attributes:
        customer: the type of the objects that are customers, or cases.
        qualifiers: of the relationship between an event and its customer; empty for any.
        through: where an event names no customer itself: other objects of the event that lead to one, in one step.
        several_customers: an event that reaches several customers is rejected; with ``each`` it is given to each.
    """

    customer: str
    qualifiers: tuple[str, ...] = ()
    through: tuple[ThroughObjects, ...] = ()
    several_customers: Literal["reject", "each"] = "reject"


class Table(ConfigModel):
    """One kind of file and what its rows give.

    Attributes:
        files: patterns of file names; the first table with a pattern that fits reads the file.
        format: how the file is written; each may be compressed by gzip, except Parquet. ``headway_events`` are our own
            event documents, one a line, which need no sections.
        group_by: a column; neighbouring rows with the same text in it form a group. An XES log is grouped by its cases,
            an OCEL log by its customers.
        delimiter: between the fields of a CSV file.
        encoding: of a CSV file.
        ocel: who the customers of an OCEL log are.
        events: the events of a row.
        attributes: the customer attributes of a row.
        decisions: the past decisions of a row.
        outcomes: the outcomes of a row.
    """

    files: tuple[str, ...] = ("*",)
    format: Literal["csv", "parquet", "xes", "jsonl", "ocel", "headway_events"]
    group_by: str | None = None
    delimiter: Literal["comma", "semicolon", "tab", "pipe"] = "comma"
    encoding: Annotated[str, AfterValidator(_known_encoding)] = "utf-8-sig"
    ocel: ObjectCentric | None = None
    events: tuple[EventOutput, ...] = ()
    attributes: tuple[AttributesOutput, ...] = ()
    decisions: tuple[DecisionOutput, ...] = ()
    outcomes: tuple[OutcomeOutput, ...] = ()

    @model_validator(mode="after")
    def _gives_something(self) -> Table:
        gives = bool(self.events or self.attributes or self.decisions or self.outcomes)
        if self.format == "headway_events":
            if gives or self.group_by is not None:
                raise ValueError("no sections and no group_by: each line of headway_events is an event by itself")
        elif not gives:
            raise ValueError("at least one of events, attributes, decisions, outcomes")
        return self

    @model_validator(mode="after")
    def _knows_its_customers(self) -> Table:
        if self.format == "ocel" and (self.ocel is None or self.group_by is not None):
            raise ValueError("ocel with the type of the customer, and no group_by, for the format ocel")
        if self.format != "ocel" and self.ocel is not None:
            raise ValueError("ocel for the format ocel only")
        return self


class Mapping(ConfigModel):
    """A whole mapping.

    Attributes:
        source: the source of everything imported; with the ids it makes a second import of the same file harmless.
        time_zone: the IANA zone of times without an offset; such times are refused if none is named.
        version: of the file's format.
        title: for people.
        tables: one for each kind of file.
    """

    version: Literal[1]
    source: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")
    title: str
    time_zone: TimeZone | None = None
    tables: tuple[Table, ...] = Field(min_length=1)


def shipped_mappings() -> dict[str, Traversable]:
    """The folders of the shipped mappings, by name."""
    folder = files("features") / "mappings"
    return {
        entry.name: entry
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if (entry / MAPPING_FILE).is_file()
    }


def mapping_folder(name_or_file: str) -> tuple[Traversable, str]:
    """The folder of a mapping and the name of its file, for a shipped mapping's name or the path of a file.

    Raises:
        MappingError: if it is neither.
    """
    shipped = shipped_mappings()
    if name_or_file in shipped:
        return shipped[name_or_file], MAPPING_FILE
    path = Path(name_or_file)
    if path.is_dir() and (path / MAPPING_FILE).is_file():
        return path, MAPPING_FILE
    if path.is_file():
        return path.parent, path.name
    expected = f"the path of a mapping file, or a shipped mapping: {one_of(list(shipped), name_or_file)}"
    raise MappingError("There is no such mapping:", [Problem("--mapping", name_or_file, expected)])


def read_mapping(folder: Traversable, name: str = MAPPING_FILE) -> Loaded[Mapping]:
    """The mapping in a folder, as far as it can be read."""
    return read_yaml(Mapping, (folder / name).read_text(encoding="utf-8"), file=str(folder / name))
