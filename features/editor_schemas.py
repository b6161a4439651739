"""JSON Schemas of YAML files for editors, out of the models that the files are checked against.

A schema knows keys, types, bounds and patterns. What keys say of each other, and files of one another, only the loader
checks.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_MODELINE: Final = re.compile(r"^# yaml-language-server: *\$schema=.*(?:\n|$)")
_PLAIN: Final = ({"type": "string"}, {"type": "number"}, {"type": "boolean"})
_VALUE: Final = "_ValueFields"

Json = dict[str, Any]


def editor_schema(model: type[BaseModel], file: str) -> Json:
    """The JSON Schema of the file that a model is read from, with a word on every key."""
    schema = model.model_json_schema()
    shapes = {model.__name__: schema, **schema.get("$defs", {})}
    for each in _models(model, set()):
        if each.__name__ in shapes:
            _describe(shapes[each.__name__], each)
    return {"$schema": DIALECT, **_closed(schema), "title": file}


def meanings(description: str) -> dict[str, str]:
    """What a docstring says of each of its attributes."""
    attributes = description.partition("\nAttributes:\n")[2]
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}


def with_schema(text: str, schema: str) -> str:
    r"""A YAML text whose first line tells editors where its schema is, instead of any that told it before.

    >>> with_schema("version: 1\n", "schemas/policy.json")
    '# yaml-language-server: $schema=schemas/policy.json\nversion: 1\n'
    """
    return f"# yaml-language-server: $schema={schema}\n{_MODELINE.sub('', text, count=1)}"


def _models(annotation: Any, known: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Every model that an annotation leads to."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in known:
            return
        known.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            yield from _models(field.annotation, known)
    for inner in get_args(annotation):
        yield from _models(inner, known)


def _describe(shape: Json, model: type[BaseModel]) -> None:
    """Give the shape its first sentence and each key its meaning; inherited keys have theirs from the parent."""
    parents = [each for each in reversed(model.__mro__) if issubclass(each, BaseModel) and each is not BaseModel]
    said: dict[str, str] = {}
    for each in parents:
        said |= meanings(inspect.cleandoc(each.__doc__ or ""))
    about = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:")[0]
    shape["description"] = about.strip().replace("``", "`")
    for name, key in shape.get("properties", {}).items():
        if name in said:
            key["description"] = said[name].replace("``", "`")


def _closed(part: Any) -> Any:
    """Refuses unknown names as the loader does, and lets a value of a mapping be a plain word, as it does too."""
    if isinstance(part, list):
        return [_closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("$ref") == f"#/$defs/{_VALUE}":
        rest = {key: _closed(each) for key, each in part.items() if key != "$ref"}
        return {"anyOf": [*_PLAIN, {"$ref": "#/$defs/Value"}], **rest}
    closed = {"Value" if key == _VALUE else key: _closed(each) for key, each in part.items()}
    if "patternProperties" in closed:
        closed.setdefault("additionalProperties", False)
    if part.get("title") == _VALUE:
        closed["title"] = "Value"
    return closed
