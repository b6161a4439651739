"""YAML files into frozen pydantic models, with every problem named by file, line, path, value and expectation.

The dialect is YAML 1.2's core: only ``true`` and ``false`` are booleans, ``22:00`` and ``2024-01-01`` stay text, keys
are text and unique. Anchors and aliases work; tags and merge keys do not.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from features.errors import ConfigurationError, Problem

MAX_BYTES = 4_000_000
"""A configuration file above this is not one that a person wrote."""
MAX_NODES = 200_000
MAX_DEPTH = 40
MAX_DIGITS = 100

ModelT = TypeVar("ModelT", bound=BaseModel)
Place = tuple[str | int, ...]

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]  # the C loader is there or not, so its type is only known when it runs
    """PyYAML's safe loader, resolving plain words by the core schema of YAML 1.2 instead of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own protocol


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What one YAML file says, and where.

    Attributes:
        file: the name that problems give.
        data: dicts with text keys, lists, text, numbers, booleans and None.
        lines: the line of every path, counted from 1.
    """

    file: str
    data: object
    lines: Mapping[Place, int]

    def problem(self, path: Sequence[str | int], value: object, expected: str) -> Problem:
        """A problem at ``path`` of this file, with the line of the nearest thing that stands in it."""
        place = tuple(path)
        known = next((place[:n] for n in range(len(place), -1, -1) if place[:n] in self.lines), None)
        return Problem(
            path=dotted(place),
            value=shown(value),
            expected=expected,
            file=self.file,
            line=None if known is None else self.lines[known],
        )


@dataclass(frozen=True, slots=True)
class Loaded(Generic[ModelT]):
    """One file as far as it could be read: a value, or problems."""

    document: YamlDocument
    value: ModelT | None
    problems: tuple[Problem, ...] = ()


def load_yaml(model: type[ModelT], path: Path) -> ModelT:
    """The model that a file holds.

    Raises:
        ConfigurationError: with everything that is wrong with the file.
    """
    loaded = read_yaml(model, _text_of(path), file=str(path))
    if loaded.value is None:
        raise ConfigurationError(f"{path} is not valid:", loaded.problems)
    return loaded.value


def read_yaml(model: type[ModelT], text: str, *, file: str) -> Loaded[ModelT]:
    """The model in a text, or all problems that keep it from being one; never raises for what the text says."""
    try:
        document = parse_yaml(text, file=file)
    except ConfigurationError as error:
        return Loaded(YamlDocument(file, None, {}), None, error.problems)
    try:
        return Loaded(document, model.model_validate(document.data))
    except ValidationError as error:
        return Loaded(document, None, tuple(_problems(document, model, error)))


def parse_yaml(text: str, *, file: str) -> YamlDocument:
    """The plain data in a YAML text, with the line of every path.

    Raises:
        ConfigurationError: if it is not YAML, is empty, too large or too deep, or uses a key twice or a tag.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ConfigurationError(
            f"{file} is not valid:", [Problem(".", f"{len(text)} characters", f"at most {MAX_BYTES} bytes", file)]
        )
    try:
        _refuse_depth(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file} is not valid:", [_syntax_problem(file, error)]) from error
    if node is None:
        raise ConfigurationError(f"{file} is not valid:", [Problem(".", "", "a mapping; the file is empty", file)])
    reader = _Reader(file)
    data = reader.read(node, ())
    if reader.problems:
        raise ConfigurationError(f"{file} is not valid:", reader.problems)
    return YamlDocument(file, data, reader.lines)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, quoting by the core schema of YAML 1.2 as ``_Loader`` reads it."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # PyYAML folds rare line ends into spaces unless the text is quoted.
        style = None if data.isprintable() or not _RARE.search(data) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_RARE = re.compile("[^\n -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029\ufeff]")
_Dumper.add_representer(str, _Dumper.represent_str)


def dump_yaml(data: object) -> str:
    """JSON values as a YAML text that ``parse_yaml`` reads as the same values; keys stay in their order.

    >>> print(dump_yaml({"quiet": "22:00", "is": "true", "n": 1e-05}), end="")
    quiet: 22:00
    is: 'true'
    n: 1.0e-05
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def content_version(model: BaseModel) -> str:
    """Twelve hexadecimal digits that change when the content does, and not with formatting or the order of keys.

    What has its default is left out: a release that adds a key changes no version, and records name the same ones.
    """
    plain = _canonical(model.model_dump(exclude_defaults=True))
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    named = f"{type(model).__name__}\n{canonical}"
    return hashlib.blake2b(named.encode("utf-8"), digest_size=6).hexdigest()


def dotted(path: Sequence[str | int]) -> str:
    """A path as people read it.

    >>> dotted(("actions", 0, "treatments", 1, "channel"))
    'actions[0].treatments[1].channel'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "."


def shown(value: object) -> str:
    """A value as a message shows it: JSON, shortened; empty for what is missing."""
    if value is None:
        return "null"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_of(allowed: Sequence[str], got: str) -> str:
    """The expectation "one of these", with a guess at what was meant.

    >>> one_of(["sms", "email"], "emial")
    'one of email, sms; did you mean email?'
    """
    close = difflib.get_close_matches(got, allowed, n=1)
    listed = ", ".join(sorted(allowed)) or "(nothing is declared)"
    return f"one of {listed}" + (f"; did you mean {close[0]}?" if close else "")


class _Reader:
    """Turns composed nodes into plain data, noting lines and problems on the way."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.problems: list[Problem] = []
        self._nodes = 0

    def read(self, node: yaml.Node, path: Place) -> object:
        self._nodes += 1
        self.lines.setdefault(path, node.start_mark.line + 1)
        # Aliases are walked once per use, so a few lines of them could otherwise grow without end.
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            if not self.problems or self.problems[-1].value != "too large":
                self._refuse(node, path, "too large", f"at most {MAX_NODES} values, {MAX_DEPTH} deep")
            return None
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and (scalar := _SCALARS.get(node.tag)):
            if node.tag not in _NUMBERS or (len(node.value) <= MAX_DIGITS and math.isfinite(float(node.value))):
                return scalar(node.value)
            self._refuse(node, path, shown(node.value), f"a finite number of at most {MAX_DIGITS} characters")
            return None
        self._refuse(node, path, node.tag, "no tags: text, a number, true, false, null, a list or a mapping")
        return None

    def _mapping(self, node: yaml.MappingNode, path: Place) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, path, "a list or mapping as key", "a key that is text")
                continue
            name = str(key.value)
            if name in data:
                first = self.lines[(*path, name)]
                self._refuse(key, (*path, name), name, f"each key once; it stands in line {first} already")
                continue
            self.lines[(*path, name)] = key.start_mark.line + 1
            data[name] = self.read(value, (*path, name))
        return data

    def _refuse(self, node: yaml.Node, path: Place, value: str, expected: str) -> None:
        self.problems.append(Problem(dotted(path), value, expected, self.file, node.start_mark.line + 1))


_SCALARS: dict[str, Callable[[str], object]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:bool": lambda text: text.lower() == "true",
    "tag:yaml.org,2002:null": lambda text: None,
}


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _refuse_depth(text: str, file: str) -> None:
    """Raises ConfigurationError for a text that is nested too deep, which would overflow the parser's own stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            expected = f"at most {MAX_NODES} values, {MAX_DEPTH} deep"
            line = None if event.start_mark is None else event.start_mark.line + 1
            problem = Problem(".", "too deep", expected, file, line)
            raise ConfigurationError(f"{file} is not valid:", [problem])


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read:", [Problem(".", str(error), "a readable file of UTF-8 text", str(path))]
        ) from error


def _syntax_problem(file: str, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    context = getattr(error, "context", None)
    what = getattr(error, "problem", None) or str(error)
    return Problem(
        path="the file",
        value=f"YAML that breaks {context} ({what})" if context else f"YAML that breaks ({what})",
        expected="well-formed YAML",
        file=file,
        line=None if mark is None else mark.line + 1,
    )


def _problems(document: YamlDocument, model: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """One problem per place and value: what several branches of a union expected is joined by "or"."""
    grouped: dict[tuple[Place, str], list[str]] = {}
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # pydantic counts the valid items only; the invalid ones have problems of their own
        path = _place(document.data, item["loc"], item["type"])
        value, expected = _explained(model, path, dict(item))
        expectations = grouped.setdefault((path, value), [])
        if expected not in expectations:
            expectations.append(expected)
    for (path, value), expectations in grouped.items():
        found = document.problem(path, None, " or ".join(expectations))
        yield Problem(found.path, value, found.expected, found.file, found.line)


def _place(data: object, location: tuple[str | int, ...], kind: str) -> Place:
    """The path in the file that pydantic's location means: its names of union branches and key checks left out."""
    path: list[str | int] = []
    here: Any = data
    for index, part in enumerate(location):
        in_mapping = isinstance(here, dict) and part in here
        in_list = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if in_mapping or in_list:
            here = here[part]
        elif not (kind == "missing" and index == len(location) - 1):
            continue
        path.append(part)
    return tuple(path)


def _explained(model: type[BaseModel], path: Place, item: dict[str, Any]) -> tuple[str, str]:
    """The value and the expectation of one pydantic error."""
    if item["type"] == "missing":
        return "", "this key, which is required"
    if item["type"] == "extra_forbidden":
        return str(path[-1]), f"no such key, but {one_of(_allowed_keys(model, path[:-1]), str(path[-1]))}"
    if item["type"] in {"literal_error", "enum"}:
        allowed = re.findall(r"'([^']*)'", str(item["ctx"]["expected"])) or [str(item["ctx"]["expected"])]
        return shown(item["input"]), allowed[0] if len(allowed) == 1 else one_of(allowed, str(item["input"]))
    if item["type"] == "model_type":
        return shown(item["input"]), "an object: keys with their values"
    message = str(item["msg"])
    for opening in ("Value error, ", "Assertion failed, ", "Input should be ", "expected "):
        message = message.removeprefix(opening)
    return shown(item["input"]), message[:1].lower() + message[1:]


def _allowed_keys(model: type[BaseModel], path: Place) -> list[str]:
    """The keys that the model allows at a path, read off its JSON Schema; of all branches where there are several."""
    schema = model.model_json_schema()
    places = list(_branches(schema, schema))
    for part in path:
        places = [branch for place in places for step in _steps(place, part) for branch in _branches(step, schema)]
    return sorted({key for place in places for key in place.get("properties", {})})


def _steps(place: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    if isinstance(part, int):
        below = [place.get("items")]
    elif part in place.get("properties", {}):
        below = [place["properties"][part]]
    else:
        below = [place.get("additionalProperties"), *place.get("patternProperties", {}).values()]
    yield from (schema for schema in below if isinstance(schema, dict))


def _branches(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if reference := schema.get("$ref"):
        yield from _branches(root["$defs"][str(reference).rsplit("/", 1)[-1]], root)
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _branches(branch, root)
    yield schema


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_canonical(inner) for inner in value), key=str)
    if isinstance(value, (list, tuple)):
        return [_canonical(inner) for inner in value]
    return value
