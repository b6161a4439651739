"""Whatever comes in at the doors is read or refused with a reason; nothing else happens."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from features.errors import InvalidInput, Problem
from serving.problems import MalformedBody, pointer
from serving.requests import decode_json, parse_decision_request
from serving.schemas import DecisionRequest, canonical_request, decode_canonical_request

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
REQUESTS = st.dictionaries(st.sampled_from(DecisionRequest.__struct_fields__) | st.text(max_size=4), JSON, max_size=8)


def _outcome(document: Any, key: str | None) -> DecisionRequest | tuple[Problem, ...]:
    try:
        return parse_decision_request(document, idempotency_key=key, new_request_id="made")
    except InvalidInput as error:
        return error.problems


@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_decoded_or_malformed(body: bytes) -> None:
    """No bytes make anything but a document or a refusal."""
    with suppress(MalformedBody):
        decode_json(body)


@given(document=REQUESTS | JSON, key=st.none() | st.text(max_size=4))
def test_any_document_is_a_request_or_invalid(document: Any, key: str | None) -> None:
    """What is read can be kept and read again, exactly; what is not names at least one field and what it expected."""
    outcome = _outcome(document, key)

    if isinstance(outcome, DecisionRequest):
        assert decode_canonical_request(canonical_request(outcome)) == outcome
    else:
        assert [bool(problem.expected) for problem in outcome] == [True] * max(1, len(outcome))


@given(document=st.fixed_dictionaries({"customer_id": st.text(min_size=1, max_size=200)}))
def test_text_that_is_accepted_survives(document: dict[str, str]) -> None:
    """Hostile Unicode is kept as it was sent, or refused at the door."""
    with suppress(InvalidInput):
        request = parse_decision_request(document, idempotency_key=None, new_request_id="made")
        assert decode_canonical_request(canonical_request(request)).customer_id == document["customer_id"]


@given(path=st.text(max_size=40))
def test_any_path_makes_a_pointer(path: str) -> None:
    """Whatever a field is called, its pointer is empty or begins with a slash."""
    assert pointer(path)[:1] in ("", "/")
