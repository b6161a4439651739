"""Requests: strict JSON, every bad field named, and nothing that a store could not keep."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from features.errors import InvalidInput
from serving.problems import MalformedBody, field_errors
from serving.requests import decode_json, parse_batch, parse_decision_request
from serving.schemas import CandidateFilter, DecisionRequest, canonical_request, decode_canonical_request


def _parsed(document: object, *, key: str | None = None) -> DecisionRequest:
    return parse_decision_request(document, idempotency_key=key, new_request_id="made")


def _problems(document: object, *, key: str | None = None) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        _parsed(document, key=key)
    return {problem.path: problem.expected for problem in caught.value.problems}


def test_a_customer_is_enough() -> None:
    """Everything else has a default."""
    assert _parsed({"customer_id": "c-1"}) == DecisionRequest(request_id="made", customer_id="c-1")


def test_the_documented_request_is_read_in_full() -> None:
    """Every field of the API's example arrives."""
    request = _parsed(
        {
            "request_id": "b7c1",
            "customer_id": "c-000123",
            "channel": None,
            "direction": "outbound",
            "placements": [],
            "send_id": "camp-7/c-000123",
            "journey_id": "credit_card_application",
            "context": {"device": "mobile", "basket": 3},
            "candidates": {"include": [], "exclude": ["offer_gold"], "issues": ["grow", "service"]},
            "max_actions": 3,
            "deadline_ms": 80,
            "mode": "live",
            "as_of": None,
            "activate": True,
            "explain": "none",
        }
    )

    assert request == DecisionRequest(
        request_id="b7c1",
        customer_id="c-000123",
        send_id="camp-7/c-000123",
        journey_id="credit_card_application",
        context={"device": "mobile", "basket": 3.0},
        candidates=CandidateFilter(exclude=("offer_gold",), issues=("grow", "service")),
        deadline_ms=80,
    )


def test_every_bad_field_is_named() -> None:
    """One answer is enough to mend a request."""
    problems = _problems(
        {
            "channel": 7,
            "direction": "sideways",
            "placements": ["web/top", ""],
            "context": {"x": {"deep": 1}, "n": 2**60},
            "candidates": {"only": []},
            "max_actions": 0,
            "deadline_ms": True,
            "mode": "imported",
            "as_of": "2026-03-01T09:30:00",
            "activate": "yes",
            "colour": "blue",
        }
    )

    assert list(problems) == [
        "colour",
        "customer_id",
        "channel",
        "direction",
        "placements[1]",
        "context.x",
        "context.n",
        "candidates.only",
        "max_actions",
        "deadline_ms",
        "mode",
        "as_of",
        "activate",
    ]
    assert problems["as_of"] == "an ISO 8601 timestamp with an offset, such as 2026-03-01T09:30:00Z"
    assert problems["customer_id"] == "a value: the field is required"


@pytest.mark.parametrize("value", ["", "x" * 201, "a\0b", "\udcff", 1, ["c"], {"c": 1}])
def test_a_customer_id_that_cannot_be_kept_is_refused(value: object) -> None:
    """NUL, lone surrogates and endless text stop at the door."""
    assert "customer_id" in _problems({"customer_id": value})


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_a_body_that_is_no_object_is_refused(document: object) -> None:
    """The body itself is what is wrong."""
    assert _problems(document) == {"": "a JSON object"}


def test_the_idempotency_key_counts_where_the_body_has_none() -> None:
    """Callers may use the standard header."""
    assert _parsed({"customer_id": "c"}, key="k-1").request_id == "k-1"


@pytest.mark.parametrize(
    ("header", "request_id"),
    [('"k-1"', "k-1"), (r'"a \"b\" \\c"', r'a "b" \c'), ('"k', '"k'), ('k"', 'k"'), ('"k"; v=1', '"k"; v=1')],
)
def test_the_idempotency_key_may_be_a_quoted_string(header: str, request_id: str) -> None:
    """As its draft has it: the request id is what stands between the quotes; anything else counts as it is."""
    assert _parsed({"customer_id": "c"}, key=header).request_id == request_id
    assert _parsed({"customer_id": "c", "request_id": request_id}, key=header).request_id == request_id


def test_a_quoted_string_without_anything_is_no_idempotency_key() -> None:
    """As the header without anything."""
    assert "request_id" in _problems({"customer_id": "c"}, key='""')


def test_the_idempotency_key_may_repeat_the_request_id() -> None:
    """Both are the same thing."""
    assert _parsed({"customer_id": "c", "request_id": "k-1"}, key="k-1").request_id == "k-1"


def test_two_different_idempotency_keys_are_refused() -> None:
    """It must be clear which one holds."""
    assert _problems({"customer_id": "c", "request_id": "k-2"}, key="k-1") == {
        "request_id": "the value of the Idempotency-Key header ('k-1'), or none"
    }


def test_the_canonical_request_comes_back() -> None:
    """A stored request can be decided again, exactly."""
    request = _parsed({"customer_id": "c", "context": {"b": 1, "a": None}, "as_of": "2026-03-01T09:30:00+01:00"})

    assert decode_canonical_request(canonical_request(request)) == request


def test_the_order_of_keys_does_not_make_another_request() -> None:
    """A retry through another JSON library is the same question."""
    one = _parsed({"customer_id": "c", "context": {"a": 1, "b": 2}})
    other = _parsed({"context": {"b": 2, "a": 1}, "customer_id": "c"})

    assert canonical_request(one) == canonical_request(other)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'"\xff"',
        b'"\\ud800"',
        b"{} {}",
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
        b'{"a":' * 33 + b"1" + b"}" * 33,
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(body: bytes) -> None:
    """Truncated, deep, non-finite and badly encoded bodies are all told from valid ones."""
    with pytest.raises(MalformedBody, match="expected"):
        decode_json(body)


def test_the_deepest_allowed_body_is_read() -> None:
    """Thirty-two levels are fine."""
    assert decode_json(b"[" * 32 + b"]" * 32) != []


@pytest.mark.parametrize(
    "document", [{}, {"events": None}, {"events": []}, {"events": {}}, {"events": [1, 2, 3]}, {"events": [1], "x": 1}]
)
def test_a_batch_of_the_wrong_size_or_shape_is_refused(document: dict[str, Any]) -> None:
    """A batch is one list of one to so many items, and nothing beside it."""
    with pytest.raises(InvalidInput, match="not a batch of events"):
        parse_batch(document, key="events", limit=2)


def test_a_batch_gives_its_items_unread() -> None:
    """A bad item is the matter of that item."""
    assert parse_batch({"events": [1, "x"]}, key="events", limit=2) == [1, "x"]


def test_an_unknown_field_is_named_as_it_came() -> None:
    """A dot or an empty name in it does not make it another field's pointer."""
    with pytest.raises(InvalidInput) as caught:
        _parsed({"customer_id": "c-1", "a.b": 1, "": 2, "context": {"x.y": []}})

    assert [one.pointer for one in field_errors(caught.value.problems)] == ["/a.b", "/", "/context/x.y"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"a": 1, "a": 1}', "/a"),
        (b'{"a:b": 1, "a:b": 2}', "/a:b"),
        (b'{"t": "10:30", "b": [0, {"c": {"d/e": 1, "f": ":", "d/e": 2}}]}', "/b/1/c/d~1e"),
        (rb'{"quote\"": "\\", "quote\u0022": 2}', '/quote"'),
    ],
)
def test_a_field_may_be_there_once(body: bytes, where: str) -> None:
    """Two values for one field are a question with two meanings; the refusal says which field it is."""
    with pytest.raises(MalformedBody, match=re.escape(repr(where))):
        decode_json(body)


def test_colons_in_texts_are_no_fields() -> None:
    """Times, links and escaped quotes may hold as many as they like."""
    document = {"at": "2026-03-01T12:00:00Z", 'a":"b': ['x\\":', {"": ":"}, ":"], "url": 'https://a:1/?b={"c":1}'}

    assert decode_json(json.dumps(document).encode()) == document


def test_a_field_given_twice_among_very_many_is_found_in_one_pass() -> None:
    """Where each field was compared with all others, a body of a megabyte held the service up for minutes."""
    fields = ",".join(f'"{number:x}":0' for number in range(120_000))

    with pytest.raises(MalformedBody, match="field '/0' more than once"):
        decode_json(f'{{{fields},"0":0}}'.encode())
