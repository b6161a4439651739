"""Whatever is sent as a policy or a catalogue is put in force or refused with its problems; nothing ever fails."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ConfigurationError
from features.yaml_files import content_version
from models.configuration import Configuration, built_in_configuration
from serving.configurations import Part, checked_documents, of_body
from serving.problems import pointer

ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, 1e300, 10**30, "", "x", "1d", "2026-13-01", "0001-01-01T00:00:00+23:59", [], {}, ["a"]]
) | st.text(max_size=5)


@cache
def _in_force() -> Configuration:
    return built_in_configuration()


@cache
def _document(part: Part) -> Any:
    configuration = _in_force()
    model = configuration.catalogue if part == "actions" else configuration.policy
    return model.model_dump(mode="json", exclude_defaults=True)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inside for place in _places(one, (*path, key)))]


def _with(value: Any, path: tuple[str | int, ...], odd: Any) -> Any:
    if not path:
        return odd
    first, *rest = path
    if isinstance(value, dict):
        return {key: _with(one, tuple(rest), odd) if key == first else one for key, one in value.items()}
    return [_with(one, tuple(rest), odd) if place == first else one for place, one in enumerate(value)]


def _leads_into(document: Any, found: str) -> bool:
    """Whether a pointer names something of a document, or something that is missing from it."""
    *above, _ = found.split("/")
    for part in above[1:]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return True


@settings(max_examples=60, deadline=None)
@given(data=st.data(), part=st.sampled_from(["policy", "actions"]))
def test_every_document_is_valid_or_refused(data: st.DataObject, part: Part) -> None:
    """A document with something odd at any place: a configuration, or problems whose pointers lead into the body."""
    document = _document(part)
    place = data.draw(st.sampled_from(_places(document)))
    wanted = _with(document, place, data.draw(ODD))

    try:
        found = checked_documents(_in_force(), {part: wanted})
    except ConfigurationError as error:
        problems = of_body(error, {part: ""})
        assert problems != []
        assert [one.path for one in problems if not _leads_into(wanted, pointer(one.path))] == []
        return
    model = found.catalogue if part == "actions" else found.policy
    assert found.versions[part] == content_version(model)
    again = checked_documents(found, {part: model.model_dump(mode="json", exclude_defaults=True)})
    assert again.versions == found.versions


def test_what_is_read_can_be_put_back() -> None:
    """The document of what is in force has its version."""
    for part in ("policy", "actions"):
        assert checked_documents(_in_force(), {part: _document(part)}).versions == _in_force().versions
