"""Bodies as they come in: bounded JSON, then requests with every bad field named, not only the first.

What the configuration knows (channels, journeys, actions) is checked by the use cases, not here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVar, cast, get_args

import msgspec

from features.errors import InvalidInput, Problem, path_step
from features.events import LARGEST_INTEGER, MAX_ID_CHARACTERS, parse_timestamp, shown
from serving.problems import MalformedBody
from serving.repeated_fields import repeated_field
from serving.schemas import (
    MAX_ACTIONS,
    MAX_DEADLINE_MS,
    MAX_NAMES,
    MAX_PLACEMENTS,
    CandidateFilter,
    DecisionRequest,
    Direction,
    Explain,
    RequestMode,
    Scalar,
)

DEEPEST: Final = 32
MAX_CONTEXT_FACTS: Final = 64
MAX_CONTEXT_CHARACTERS: Final = 2_000
REQUIRED: Final = "a value: the field is required"
_QUOTED: Final = re.compile(r'"(?:[ !#-\[\]-~]|\\["\\])*"')

Document = dict[str, Any]
Choice = TypeVar("Choice", bound=str)


def decode_json(body: bytes) -> object:
    """The document that a body holds.

    Raises:
        MalformedBody: it is no JSON in UTF-8, deeper than 32 levels, or an object in it has a field twice.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body cannot be read as JSON: {error}; expected one JSON document in UTF-8") from error
    except RecursionError as error:
        raise MalformedBody(_TOO_DEEP) from error
    n_fields = _fields_within(document, DEEPEST)
    if n_fields is None:
        raise MalformedBody(_TOO_DEEP)
    if (twice := repeated_field(body, n_fields)) is not None:
        raise MalformedBody(f"the body has the field {shown(twice)} more than once; expected each field once")
    return document


_TOO_DEEP = f"the body is nested more than {DEEPEST} levels deep; expected at most {DEEPEST}"


def _fields_within(document: object, limit: int) -> int | None:
    """How many fields all objects of a document have; None where it is deeper than ``limit``."""
    layer, n_fields = [document], 0
    for _ in range(limit):
        n_fields += sum([len(item) for item in layer if isinstance(item, dict)])
        layer = [
            child
            for item in layer
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return n_fields
    return None


def parse_batch(document: object, *, key: str, limit: int) -> list[object]:
    """The items of a batch document ``{key: [...]}``.

    Raises:
        InvalidInput: it is no such document, or holds none or more than ``limit`` items.
    """
    fields = Fields.of(document, (key,))
    items = batch_items(fields, key, limit)
    fields.refuse(f"the body is not a batch of {key}")
    return items


def batch_items(fields: Fields, key: str, limit: int) -> list[object]:
    """The items in a field of a batch; none where it was noted that it holds none, or more than ``limit``."""
    items = fields.value(key)
    if isinstance(items, list) and 0 < len(items) <= limit:
        return items
    if items is None:
        fields.add(key, None, REQUIRED)
    else:
        got = f"{len(items)} items" if isinstance(items, list) else items
        fields.add(key, got, f"a list of 1 to {limit} items")
    return []


def parse_decision_request(document: object, *, idempotency_key: str | None, new_request_id: str) -> DecisionRequest:
    """The request that a decoded body means.

    Args:
        document: the decoded body.
        idempotency_key: the ``Idempotency-Key`` header, as it is or as a quoted string; counts where the body has no
            ``request_id``.
        new_request_id: the request id where the caller gave none.

    Raises:
        InvalidInput: with every bad field, its value and what was expected.

    References:
        IETF (2025), The Idempotency-Key HTTP Header Field, draft-ietf-httpapi-idempotency-key-header-06, section 2.1:
        the value is a String of RFC 9651, section 3.3.3.
    """
    fields = Fields.of(document, DecisionRequest.__struct_fields__)
    request = DecisionRequest(
        request_id=request_id_of(fields, idempotency_key) or new_request_id,
        customer_id=fields.required_text("customer_id"),
        channel=fields.text("channel"),
        direction=cast(Direction, fields.choice("direction", get_args(Direction), "outbound")),
        placements=fields.texts("placements", MAX_PLACEMENTS),
        send_id=fields.text("send_id"),
        journey_id=fields.text("journey_id"),
        context=_context(fields),
        candidates=_candidates(fields),
        max_actions=fields.integer("max_actions", 1, MAX_ACTIONS, 3) or 3,
        deadline_ms=fields.integer("deadline_ms", 1, MAX_DEADLINE_MS, None),
        mode=cast(RequestMode, fields.choice("mode", get_args(RequestMode), "live")),
        as_of=fields.timestamp("as_of"),
        activate=fields.flag("activate", True),
        explain=cast(Explain, fields.choice("explain", get_args(Explain), "none")),
        require_known=fields.flag("require_known", False),
    )
    fields.refuse("the request has invalid fields")
    return request


def request_id_of(fields: Fields, idempotency_key: str | None) -> str | None:
    """The idempotency key of a request, from the field ``request_id`` or the header; None where there is none."""
    given = fields.text("request_id")
    if idempotency_key is None:
        return given
    if _QUOTED.fullmatch(idempotency_key):
        idempotency_key = re.sub(r"\\(.)", r"\1", idempotency_key[1:-1])
    if not _is_text(idempotency_key, MAX_ID_CHARACTERS):
        fields.add("request_id", idempotency_key, f"an Idempotency-Key of 1 to {MAX_ID_CHARACTERS} characters")
    elif given is not None and given != idempotency_key:
        fields.add("request_id", given, f"the value of the Idempotency-Key header ({shown(idempotency_key)}), or none")
    return idempotency_key


def _context(fields: Fields) -> dict[str, Scalar]:
    given = fields.value("context")
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > MAX_CONTEXT_FACTS:
        fields.add("context", given, f"an object of at most {MAX_CONTEXT_FACTS} facts")
        return {}
    context: dict[str, Scalar] = {}
    for name, value in given.items():
        if not _is_text(name, MAX_ID_CHARACTERS) or not _is_scalar(value):
            fields.add(
                f"context.{path_step(name)}",
                value,
                f"text of at most {MAX_CONTEXT_CHARACTERS}, a number, a flag or null",
            )
            continue
        context[name] = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return context


def _candidates(fields: Fields) -> CandidateFilter:
    given = fields.value("candidates")
    if given is None:
        return CandidateFilter()
    if not isinstance(given, dict):
        fields.add("candidates", given, "an object")
        return CandidateFilter()
    inner = Fields(given, "candidates.", fields.problems)
    inner.refuse_unknown(CandidateFilter.__struct_fields__)
    return CandidateFilter(**{name: inner.texts(name, MAX_NAMES) for name in CandidateFilter.__struct_fields__})


def _is_text(value: object, limit: int, *, least: int = 1) -> bool:
    if not isinstance(value, str) or not least <= len(value) <= limit or "\0" in value:
        return False
    try:
        value.encode()  # a lone surrogate cannot be stored
    except UnicodeEncodeError:
        return False
    return True


def _is_scalar(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) <= LARGEST_INTEGER
    if isinstance(value, float):
        return math.isfinite(value)
    return _is_text(value, MAX_CONTEXT_CHARACTERS, least=0)


class Fields:
    """Reads the fields of one object, noting every problem instead of stopping at the first."""

    def __init__(self, document: Mapping[str, Any], prefix: str = "", problems: list[Problem] | None = None) -> None:
        self._document = document
        self._prefix = prefix
        self.problems: list[Problem] = [] if problems is None else problems

    @classmethod
    def of(cls, document: object, allowed: Collection[str], *, path: str = "") -> Fields:
        """The fields of a document, unknown ones noted.

        Raises:
            InvalidInput: the document is no object.
        """
        if not isinstance(document, dict):
            problem = Problem(path, shown(document), "a JSON object")
            raise InvalidInput("the body is not an object" if not path else f"{path} is not an object", [problem])
        fields = cls(document, f"{path}." if path else "")
        fields.refuse_unknown(allowed)
        return fields

    def refuse_unknown(self, allowed: Collection[str]) -> None:
        """Note every field that is not ``allowed``."""
        for name in self._document:
            if name not in allowed:
                self.add(path_step(name), self._document[name], f"one of {', '.join(allowed)}")

    def inside(self, prefix: str, document: Mapping[str, Any]) -> Fields:
        """The fields of an object inside this one; its problems are noted here."""
        return Fields(document, self._prefix + prefix, self.problems)

    def refuse(self, headline: str) -> None:
        """Raise what was noted, if anything.

        Raises:
            InvalidInput: with every problem.
        """
        if self.problems:
            raise InvalidInput(headline, self.problems)

    def add(self, name: str, value: object, expected: str) -> None:
        """Note a bad field; the value None stands for a missing one."""
        self.problems.append(Problem(self._prefix + name, "" if value is None else shown(value), expected))

    def value(self, name: str) -> Any:
        """The field as it came; None where it is missing or null."""
        return self._document.get(name)

    def text(self, name: str) -> str | None:
        """A text field, or None."""
        value = self.value(name)
        if value is not None and not _is_text(value, MAX_ID_CHARACTERS):
            self.add(name, value, f"text of 1 to {MAX_ID_CHARACTERS} characters without NUL")
            return None
        return cast(str | None, value)

    def required_text(self, name: str) -> str:
        """A text field that must be there; empty where it was noted as bad."""
        if self.value(name) is None:
            self.add(name, None, REQUIRED)
        return self.text(name) or ""

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A field that is an object; empty where it is missing or was noted as bad."""
        value = self.value(name)
        if value is not None and not isinstance(value, dict):
            self.add(name, value, "an object")
        return value if isinstance(value, dict) else {}

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """One of a closed set."""
        value = self.value(name)
        if value is None:
            return default
        if value not in allowed:
            self.add(name, value, f"one of {', '.join(allowed)}")
            return default
        return cast(str, value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.add(name, value, "true or false")
            return default
        return value

    def integer(self, name: str, least: int, most: int, default: int | None) -> int | None:
        """An integer within bounds."""
        value = self.value(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.add(name, value, f"an integer from {least} to {most}")
            return default
        return value

    def number(self, name: str) -> float | None:
        """A finite number that must be there; None where it was noted as bad."""
        value = self.value(name)
        if value is None:
            self.add(name, None, REQUIRED)
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_scalar(value):
            self.add(name, value, "a finite number, integers within 2^53")
            return None
        return float(value)

    def texts(self, name: str, limit: int) -> tuple[str, ...]:
        """A list of texts; empty where it is missing."""
        value = self.value(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > limit:
            self.add(name, value, f"a list of at most {limit} texts")
            return ()
        for position, item in enumerate(value):
            if not _is_text(item, MAX_ID_CHARACTERS):
                self.add(f"{name}[{position}]", item, f"text of 1 to {MAX_ID_CHARACTERS} characters without NUL")
        return tuple(item for item in value if isinstance(item, str))

    def timestamp(self, name: str) -> str | None:
        """An ISO 8601 timestamp with an offset, as text, or None."""
        text = self.text(name)
        if text is None:
            return None
        try:
            parse_timestamp(text)
        except (ValueError, OverflowError):
            self.add(name, text, "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z")
            return None
        return text
