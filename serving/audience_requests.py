"""Audiences and lists as they come in, JSON or CSV: every bad field named, against the configuration in force."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from msgspec import structs

from features.errors import InvalidInput, Problem
from features.events import parse_timestamp
from features.yaml_files import one_of
from models.audience_columns import COLUMN_NAMES, DEFAULT_COLUMNS
from models.audiences import MOST_LISTED, AudienceRequest, FileFormat, filter_problems
from models.screen_lists import MOST_ROWS, ScreenRequest, ScreenRow
from models.sharing import RankBy
from serving.problems import MOST_ERRORS, MalformedBody
from serving.queries import Query, Words
from serving.requests import REQUIRED, Fields, request_id_of
from serving.schemas import MAX_NAMES, CandidateFilter

if TYPE_CHECKING:  # it knows jitted code, for which the composition root chooses the folder first
    from models.actions import Action, Catalogue
    from models.configuration import Configuration
    from models.rule_checks import Names

ROW_COLUMNS: Final = ("customer_id", "action_id", "channel")
LIST_WORDS: Final = ("request_id", "journey_id", "action_id", "channel", "contact_at", "format")
LARGEST_NET_VALUE: Final = 1e9
CONTACT_WITHIN_DAYS: Final = 366
ASKED_AGAIN_DAYS: Final = 7
_DAY_US: Final = 86_400_000_000
_AUDIENCE_FIELDS: Final = (
    *("request_id", "journey_id", "customer_ids", "filter", "channels", "candidates", "max_customers", "rank_by"),
    *("min_net_value", "within_capacity", "contact_at", "format", "columns"),
)
_FORMATS: Final = get_args(FileFormat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a list is, before its rows are looked at.

    Attributes:
        fields: of the list as a whole.
        rows: as they came.
    """

    fields: Fields
    rows: Sequence[Mapping[str, Any]]


def parse_audience(
    document: object, configuration: Configuration, names: Names, *, now: int, idempotency_key: str | None = None
) -> tuple[str | None, AudienceRequest]:
    """The request id and the audience that a decoded body means.

    Args:
        document: the body.
        configuration: in force.
        names: what conditions of the filter may refer to.
        now: microseconds since the epoch.
        idempotency_key: the header.

    Raises:
        InvalidInput: with every bad field, its value and what was expected.
    """
    fields = Fields.of(document, _AUDIENCE_FIELDS)
    request_id = request_id_of(fields, idempotency_key)
    journey_id = _journey_id(fields, configuration)
    catalogue = configuration.catalogue
    candidates = fields.inside("candidates.", fields.mapping("candidates"))
    candidates.refuse_unknown(CandidateFilter.__struct_fields__)
    conditions = fields.value("filter")
    if isinstance(conditions, dict) and conditions.get("all_of", ()) is None:
        conditions = {name: value for name, value in conditions.items() if name != "all_of"}  # null is not given
    if conditions is not None:
        fields.problems += filter_problems(conditions, names, journey_id, path="filter")
    is_listed = fields.value("customer_ids") is not None
    customer_ids = fields.texts("customer_ids", MOST_LISTED)
    if is_listed and not customer_ids:
        fields.add("customer_ids", fields.value("customer_ids"), f"1 to {MOST_LISTED} ids, or no such field")
    columns = _known(fields, "columns", fields.texts("columns", len(COLUMN_NAMES)), COLUMN_NAMES)
    if len(set(columns)) < len(columns):
        fields.add("columns", list(columns), "each column once")
    actions = _actions(catalogue, journey_id)
    issues = tuple(dict.fromkeys(action.issue for action in actions.values()))
    request = AudienceRequest(
        journey_id=journey_id,
        customer_ids=customer_ids if is_listed else None,
        conditions=_conditions(conditions),
        channels=_known(
            fields, "channels", fields.texts("channels", MAX_NAMES), tuple(configuration.taxonomy.channels)
        ),
        include=_known(candidates, "include", candidates.texts("include", MAX_NAMES), tuple(actions)),
        exclude=_known(candidates, "exclude", candidates.texts("exclude", MAX_NAMES), tuple(actions)),
        issues=_known(candidates, "issues", candidates.texts("issues", MAX_NAMES), issues),
        max_customers=fields.integer("max_customers", 1, 1_000_000_000, None),
        rank_by=cast(RankBy, fields.choice("rank_by", get_args(RankBy), "priority")),
        min_net_value=_net_value(fields),
        within_capacity=fields.flag("within_capacity", True),
        contact_at=_contact_at(fields, now),
        format=cast(FileFormat, fields.choice("format", _FORMATS, "csv")),
        columns=columns or DEFAULT_COLUMNS,
    )
    fields.refuse("the audience has invalid fields")
    return request_id, request


def _conditions(given: object) -> tuple[dict[str, object], ...]:
    """The conditions of a filter; none of what was noted to be none."""
    found = given.get("all_of") if isinstance(given, dict) else None
    return tuple(found) if isinstance(found, list) else ()


def _net_value(fields: Fields) -> float:
    if fields.value("min_net_value") is None:
        return 0.0
    number = fields.number("min_net_value")
    if number is not None and not 0 <= number <= LARGEST_NET_VALUE:
        fields.add("min_net_value", number, f"a number from 0 to {LARGEST_NET_VALUE:.0f}")
    return number or 0.0


def _contact_at(fields: Fields, now: int) -> int | None:
    text = fields.timestamp("contact_at")
    moment = None if text is None else parse_timestamp(text)
    # A little in the past too: whoever sends the same request again is given the same job.
    if moment is not None and not -ASKED_AGAIN_DAYS * _DAY_US <= moment - now <= CONTACT_WITHIN_DAYS * _DAY_US:
        expected = f"a moment of the next {CONTACT_WITHIN_DAYS} days, or of the last {ASKED_AGAIN_DAYS}"
        fields.add("contact_at", text, expected)
    return moment


def sent_document(document: object) -> Sent:
    """The list in a decoded body.

    Raises:
        InvalidInput: it is no object, or has no list of rows.
    """
    fields = Fields.of(document, (*LIST_WORDS, "rows"))
    rows = fields.value("rows")
    if rows is None:
        fields.add("rows", None, REQUIRED)
    elif not isinstance(rows, list) or not 0 < len(rows) <= MOST_ROWS:
        fields.add("rows", f"{len(rows)} rows" if isinstance(rows, list) else rows, f"a list of 1 to {MOST_ROWS} rows")
        rows = None
    found = []
    for place, row in enumerate(rows or ()):
        if isinstance(row, dict):
            fields.inside(f"rows[{place}].", row).refuse_unknown(ROW_COLUMNS)
            found.append(row)
        else:
            fields.add(f"rows[{place}]", row, "an object")
    if not rows:
        fields.refuse("the body is not a list to be screened")
    return Sent(fields=fields, rows=found)


def sent_table(body: bytes, words: Words) -> Sent:
    """The list in a CSV: its columns among those of a row, and everything about it as a whole in the query.

    Raises:
        MalformedBody: it is no CSV in UTF-8.
        InvalidInput: it has other columns, none of ids, no rows, or too many.
    """
    query = Query.of_words(words, LIST_WORDS)
    try:
        reader = csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline=""), restkey="", strict=True)
        columns = [one.strip() for one in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = list(islice(reader, MOST_ROWS + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedBody(f"the body cannot be read as CSV: {error}; expected a table in UTF-8") from error
    others = [one for one in columns if one not in ROW_COLUMNS]
    problems = []
    if others or len(set(columns)) < len(columns) or ROW_COLUMNS[0] not in columns:
        expected = f"customer_id, and beside it {' and '.join(ROW_COLUMNS[1:])} at most: leave other columns out"
        problems.append(Problem("rows", f"the columns {', '.join(columns) or '(none)'}"[:200], expected))
    elif not 0 < len(rows) <= MOST_ROWS:
        got = f"more than {MOST_ROWS} rows" if rows else "0 rows"
        problems.append(Problem("rows", got, f"1 to {MOST_ROWS} rows"))
    else:
        problems += [
            Problem(f"rows[{place}]", "more cells than columns", "one cell for each column")
            for place, row in enumerate(rows)
            if "" in row
        ]
    if problems:
        raise InvalidInput("the body is not a list to be screened", [*query.problems, *problems])
    cells = [{name: text for name, text in row.items() if text} for row in rows]
    return Sent(fields=query, rows=cells)


def parse_list(
    sent: Sent, configuration: Configuration, *, now: int, idempotency_key: str | None = None
) -> tuple[str | None, ScreenRequest]:
    """The request id, and the list to be screened.

    Args:
        sent: the list as it came.
        configuration: in force.
        now: microseconds since the epoch.
        idempotency_key: the header.

    Raises:
        InvalidInput: with every bad field, its value and what was expected.
    """
    fields = sent.fields
    request_id = request_id_of(fields, idempotency_key)
    journey_id = _journey_id(fields, configuration)
    actions = _actions(configuration.catalogue, journey_id)
    channels = tuple(configuration.taxonomy.channels)
    for_all = _row(fields, actions, channels, ScreenRow(customer_id=""))
    rows = []
    for place, one in enumerate(sent.rows):
        # Not Fields.inside: of a CSV the list's own fields stand in the query, and the rows in the body.
        row = Fields(one, f"rows[{place}].", fields.problems)
        asked = structs.replace(for_all, customer_id=row.required_text("customer_id"))
        rows.append(_row(row, actions, channels, asked))
    request = ScreenRequest(
        journey_id=journey_id,
        rows=tuple(rows),
        contact_at=_contact_at(fields, now),
        format=cast(FileFormat, fields.choice("format", _FORMATS, "csv")),
    )
    fields.refuse("the list has invalid fields")
    return request_id, request


def _row(fields: Fields, actions: Mapping[str, Action], channels: Sequence[str], default: ScreenRow) -> ScreenRow:
    """A row, or what holds for all rows, where it says nothing itself."""
    given_action, given_channel = fields.text("action_id"), fields.text("channel")
    action_id = given_action or default.action_id
    channel = given_channel or default.channel
    if given_action is not None and given_action not in actions:
        fields.add("action_id", given_action, _expected(fields, list(actions), given_action))
        action_id = None
    if given_channel is not None and given_channel not in channels:
        fields.add("channel", given_channel, _expected(fields, channels, given_channel))
        channel = None
    if action_id is not None and channel is not None and (given_action or given_channel):
        possible = list(dict.fromkeys(one.channel for one in actions[action_id].treatments))
        if channel not in possible:
            fields.add("channel", channel, f"a channel that {action_id} has a treatment for: {', '.join(possible)}")
    return ScreenRow(customer_id=default.customer_id, action_id=action_id, channel=channel)


def _actions(catalogue: Catalogue, journey_id: str) -> dict[str, Action]:
    return {action.id: action for action in catalogue.actions if action.journey == journey_id}


def _journey_id(fields: Fields, configuration: Configuration) -> str:
    known = tuple(configuration.journeys.by_id)
    if fields.value("journey_id") is None and len(known) > 1:
        fields.add("journey_id", None, f"{REQUIRED} where there are several journeys: {', '.join(known)}")
    return fields.choice("journey_id", known, known[0])


def _known(fields: Fields, name: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Names of which each is known; noted where one is not."""
    for place, one in enumerate(given):
        if one not in known:
            fields.add(f"{name}[{place}]", one, _expected(fields, known, one))
    return tuple(given)


def _expected(fields: Fields, known: Sequence[str], given: str) -> str:
    """One of these, with a guess where anybody reads it: 100,000 guesses take 20 s."""
    return one_of(known, given) if len(fields.problems) < MOST_ERRORS else "another name"
