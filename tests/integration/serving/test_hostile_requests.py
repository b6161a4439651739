"""Every door that takes JSON against every hostile body: a problem that says where, and nothing taken in."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from serving.api.openapi import api_document
from serving.gate import RANK
from serving.runtime import Runtime
from serving.settings import Settings
from tests.doors import BOOTSTRAP, World, event
from tests.gated import doors

KEY = {"Authorization": f"Bearer {BOOTSTRAP}"}
GZIP = {"Content-Encoding": "gzip"}
LIMIT = 1 << 15
ITEMS = 20
_IDS = {"decision_id": "d-1", "name": "nba-credit_card_application", "job_id": "j-1"}


class Hostile(NamedTuple):
    """A body that no door may take.

    Attributes:
        statuses: any of them will do.
        says: in the problem's detail, or in one of its errors.
    """

    body: bytes
    says: str
    statuses: tuple[int, ...] = (400,)
    headers: Mapping[str, str] = {}


def _nested(opening: bytes, closing: bytes, levels: int) -> bytes:
    return opening * levels + b"1" + closing * levels


NOT_JSON = "cannot be read as JSON"
HOSTILE: dict[str, Hostile] = {
    "blanks": Hostile(b" \t\r\n", NOT_JSON),
    "cut short": Hostile(b'{"customer_id": "c-', NOT_JSON),
    "two documents": Hostile(b"{} {}", "byte 4"),
    "a comma too many": Hostile(b'{"customer_id": "c-1",}', "byte 22"),
    "a comment": Hostile(b'{"customer_id": "c-1"} // me', "byte 24"),
    "single quotes": Hostile(b"{'customer_id': 'c-1'}", "byte 1"),
    "a form": Hostile(b"customer_id=c-1", NOT_JSON, headers={"Content-Type": "application/x-www-form-urlencoded"}),
    "NaN": Hostile(b'{"customer_id": NaN}', "byte 16"),
    "Infinity": Hostile(b'{"customer_id": Infinity}', "byte 16"),
    "minus Infinity": Hostile(b'{"customer_id": -Infinity}', NOT_JSON),
    "a number beyond doubles": Hostile(b'{"customer_id": 1e400}', NOT_JSON),
    "an integer of 5,000 digits": Hostile(b'{"customer_id": %s}' % (b"9" * 5_000), NOT_JSON),
    "a leading zero": Hostile(b'{"customer_id": 01}', NOT_JSON),
    "no UTF-8": Hostile(b'{"customer_id": "\xff\xfe"}', "position"),
    "an overlong NUL": Hostile(b'{"customer_id": "\xc0\x80"}', "position"),
    "a surrogate as bytes": Hostile(b'{"customer_id": "\xed\xa0\x80"}', "position"),
    "UTF-16": Hostile('{"customer_id": "c-1"}'.encode("utf-16"), NOT_JSON),
    "a byte order mark": Hostile(b'\xef\xbb\xbf{"customer_id": "c-1"}', NOT_JSON),
    "a lone surrogate": Hostile(rb'{"customer_id": "\ud800"}', NOT_JSON),
    "a lone surrogate as a name": Hostile(rb'{"\udfff": "c-1"}', NOT_JSON),
    "a raw NUL": Hostile(b'{"customer_id": "c\x001"}', NOT_JSON),
    "lists too deep": Hostile(_nested(b"[", b"]", 33), "32 levels"),
    "objects too deep": Hostile(_nested(b'{"a":', b"}", 33), "32 levels"),
    "lists without end": Hostile(_nested(b"[", b"]", 15_000), "32 levels"),
    "objects without end": Hostile(_nested(b'{"a":', b"}", 5_000), "32 levels"),
    "a list never closed": Hostile(b"[" * 30_000, "32 levels"),
    "a field twice": Hostile(b'{"customer_id": "c-1", "customer_id": "c-2"}', "customer_id"),
    "a field twice, written differently": Hostile(rb'{"customer_id": "c-1", "customer\u005fid": "c:2"}', "customer_id"),
    "a field twice inside": Hostile(b'{"a": [{"b": {"c": 1, "c": 2}}]}', "/a/0/b/c"),
    "too many bytes": Hostile(b'{"a": "' + b"x" * LIMIT + b'"}', "bytes, expected at most", (413,)),
    "another encoding": Hostile(b"{}", "'br'", (415,), {"Content-Encoding": "br"}),
    "two encodings": Hostile(b"{}", "'gzip, gzip'", (415,), {"Content-Encoding": "gzip, gzip"}),
    "an endless encoding": Hostile(b"{}", "content encoding", (415,), {"Content-Encoding": "x" * 30_000}),
    "no gzip": Hostile(b"{}", "no gzip", headers=GZIP),
    "an empty gzip": Hostile(b"", "ends early", headers=GZIP),
    "a gzip cut short": Hostile(gzip.compress(b'{"customer_id": "c-1"}')[:-9], "ends early", headers=GZIP),
    "a gzip with a wrong sum": Hostile(gzip.compress(b"{}")[:-8] + bytes(8), "no gzip", headers=GZIP),
    "a gzip of zlib": Hostile(zlib.compress(b"{}"), "no gzip", headers=GZIP),
    "a gzip with more behind": Hostile(gzip.compress(b"{}") + b"more", "one stream", headers=GZIP),
    "two gzips": Hostile(gzip.compress(b"{}") * 2, "one stream", headers=GZIP),
    "a gzip in a gzip": Hostile(gzip.compress(gzip.compress(b"{}")), NOT_JSON, headers=GZIP),
    "a gzip bomb": Hostile(gzip.compress(bytes(40_000_000)), "bytes", (413,), GZIP),
    "null": Hostile(b"null", "object", (422,)),
    "true": Hostile(b"true", "object", (422,)),
    "a number": Hostile(b"7", "object", (422,)),
    "a text": Hostile(b'"customer_id"', "object", (422,)),
    "a list": Hostile(b"[]", "object", (422,)),
    "an integer of 30 digits": Hostile(b"9" * 30, "object", (422,)),
}


def _doors_for_json() -> list[tuple[str, str]]:
    """Every documented call that takes a body, and BentoML's way in."""
    found = [
        (method.upper(), path.format(**_IDS))
        for path, operations in api_document()["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]
    return [*found, ("POST", RANK)]


DOORS = _doors_for_json()


def _world(folder: Path) -> World:
    bounds = {"max_body_bytes": LIMIT, "max_batch_bytes": LIMIT, "max_batch_items": ITEMS}
    return World(folder, settings=Settings(bootstrap_key=BOOTSTRAP, threads=2, **bounds))


@asynccontextmanager
async def _untouched(world: World) -> AsyncIterator[tuple[Runtime, httpx.AsyncClient]]:
    """The runtime and a client of the gate; afterwards nothing was stored, nor is anything under way."""
    async with doors(world) as (runtime, door, _):
        in_force = runtime.configurations.in_force.configuration.version
        yield runtime, door
        assert (world.log.head(), world.records.newest_as_of()) == (0, 0)
        assert runtime.configurations.in_force.configuration.version == in_force
        assert (runtime.workers.pace.under_way, runtime.desk.pace.under_way) == (0, 0)


def _told(problem: Mapping[str, Any]) -> str:
    return " ".join([problem["detail"], *(f"{one['pointer']} {one['expected']}" for one in problem["errors"])])


def test_no_door_takes_a_hostile_body(tmp_path: Path) -> None:
    """Each door refuses each body with the same words: where reading stopped, or what was expected."""

    async def taken() -> list[tuple[str, str, str, int, str]]:
        found = []
        async with _untouched(_world(tmp_path)) as (_, door):
            for name, hostile in HOSTILE.items():
                headers = {**KEY, "If-Match": '"any"', **hostile.headers}
                for method, path in DOORS:
                    answer = await door.request(method, path, content=hostile.body, headers=headers)
                    if not _is_refused(answer, hostile):
                        found.append((name, method, path, answer.status_code, answer.text[:300]))
        return found

    assert asyncio.run(taken()) == []


def _is_refused(answer: httpx.Response, hostile: Hostile) -> bool:
    if answer.status_code == 404:  # the decision was looked for first
        return hostile.statuses == (422,)
    is_problem = answer.headers["content-type"] == "application/problem+json"
    return answer.status_code in hostile.statuses and is_problem and hostile.says in _told(answer.json())


GET_PATHS = sorted(
    path.format(**_IDS, customer_id="c-1", journey_id="credit_card_application", experiment_id="e", report_id="r")
    for path, operations in api_document()["paths"].items()
    if "get" in operations and path.startswith("/v1")
)
QUERIES: dict[str, str] = {
    "an unknown one": "wish=1",
    "one without a name": "=1",
    "NUL": "wish=%00",
    "no UTF-8": "wish=%ff%fe",
    "a surrogate": "wish=%ed%a0%80",
    "no escape": "wish=%zz",
    "an endless one": "wish=" + "x" * 60_000,
    "very many": "&".join(f"w{number}=1" for number in range(7_000)),
    "the same very often": "&".join(["cursor=1"] * 6_000),
}
WORDS = ("limit", "cursor", "since", "until", "customer_id", "name", "value", "channel", "action", "queue", "version")
VALUES = (
    "",
    "-1",
    "0",
    "9" * 30,
    "9" * 5_000,
    "1e400",
    "NaN",
    "%00",
    "%ff",
    "%ed%a0%80",
    "%E2%80%AE",
    "9999-12-31T23:59:59Z",
)


def test_no_query_is_answered_otherwise_than_with_a_problem(tmp_path: Path) -> None:
    """Whatever is not asked for is refused by name, however much of it there is."""

    async def answered() -> list[tuple[str, str, int, str]]:
        found = []
        async with _untouched(_world(tmp_path)) as (_, door):
            for path in GET_PATHS:
                for name, query in QUERIES.items():
                    answer = await door.get(f"{path}?{query}", headers=KEY)
                    looked_up = answer.status_code == 404 and "/decisions/d-1" in path  # the decision, before the query
                    if (answer.status_code != 422 and not looked_up) or len(answer.content) > 20_000:
                        found.append((name, path, answer.status_code, answer.text[:300]))
        return found

    assert asyncio.run(answered()) == []


def test_no_value_of_a_query_breaks_a_call(tmp_path: Path) -> None:
    """A value that a parameter cannot have is a problem or finds nothing; it never fails the service."""

    async def failed() -> list[tuple[str, int, str]]:
        found = []
        async with _untouched(_world(tmp_path)) as (_, door):
            for path in GET_PATHS:
                for query in (f"{word}={value}" for word in WORDS for value in VALUES):
                    answer = await door.get(f"{path}?{query}", headers=KEY)
                    if answer.status_code not in (200, 404, 409, 422):
                        found.append((f"{path}?{query[:60]}", answer.status_code, answer.text[:300]))
        return found

    assert asyncio.run(failed()) == []


NAMES = ("%00", "%ff", "%ed%a0%80", "..", "%2e%2e%2f", "a%2Fb", "%E2%80%AEmd", "x" * 60_000, "%20", "9" * 5_000)


def test_no_name_in_a_path_breaks_a_call(tmp_path: Path) -> None:
    """An id that nothing can have names nothing."""

    async def failed() -> list[tuple[str, str, int, str]]:
        found = []
        async with _untouched(_world(tmp_path)) as (_, door):
            for template, operations in api_document()["paths"].items():
                if "{" not in template:
                    continue
                for method in operations:
                    for name in NAMES:
                        path = template.partition("{")[0] + name + template.partition("}")[2]
                        answer = await door.request(
                            method, path, headers=KEY, content=b"{}" if method != "get" else b""
                        )
                        is_in_order = answer.status_code in (400, 404, 405, 422) or "/customers/" in template
                        if not is_in_order or answer.status_code >= 500 or len(answer.content) > 2_000:
                            found.append((method, path[:80], answer.status_code, answer.text[:300]))
        return found

    assert asyncio.run(failed()) == []


HEADERS: dict[str, tuple[Mapping[str, bytes], tuple[int, ...]]] = {
    "a key with NUL": ({"Idempotency-Key": b"a\x00b"}, (422,)),
    "an endless key": ({"Idempotency-Key": b"k" * 100_000}, (422,)),
    "an empty key": ({"Idempotency-Key": b""}, (422,)),
    "an announced length that is none": ({"Content-Length": b"-1"}, (200,)),
    "an announced length of other digits": ({"Content-Length": "\u0663".encode()}, (200,)),
    "an endless announced length": ({"Content-Length": b"9" * 5_000}, (413,)),
    "no scheme": ({"Authorization": b"hw_bootstrap_0123456789"}, (401,)),
    "an endless secret": ({"Authorization": b"Bearer " + b"x" * 100_000}, (401,)),
    "a secret of bytes": ({"Authorization": b"Bearer \xff\xfe\x00"}, (401,)),
    "Basic of nothing": ({"Authorization": b"Basic !!!"}, (401,)),
    "Basic of bytes": ({"Authorization": b"Basic //79/A=="}, (401,)),
    "an encoding of bytes": ({"Content-Encoding": b"\xff"}, (415,)),
    "very many": ({f"X-{number}": b"x" for number in range(1_000)}, (200, 422)),
}


def test_no_header_breaks_a_call(tmp_path: Path) -> None:
    """Every door answers as the header says, or that it cannot."""

    async def failed() -> list[tuple[str, str, int, str]]:
        found = []
        async with doors(_world(tmp_path)) as (_, door, framework):
            for name, (headers, statuses) in HEADERS.items():
                for place, client in (("door", door), ("framework", framework)):
                    sent = [*(KEY | headers).items()]
                    answer = await client.post("/v1/decisions", content=b'{"customer_id": "c-1"}', headers=sent)
                    if answer.status_code not in statuses:
                        found.append((name, place, answer.status_code, answer.text[:300]))
                for path in ("/v1/events", "/v1/batch", "/v1/track"):
                    answer = await door.post(path, content=b"[]", headers=[*(KEY | headers).items()])
                    if answer.status_code not in (*statuses, 422):
                        found.append((name, path, answer.status_code, answer.text[:300]))
        return found

    assert asyncio.run(failed()) == []


VALID: dict[tuple[str, str], Any] = {
    ("POST", "/v1/events"): {"events": [event()]},
    ("POST", "/v1/batch"): {
        "batch": [
            {
                "type": "track",
                "messageId": "m-1",
                "userId": "c-1",
                "anonymousId": "a-1",
                "event": "Card Activated",
                "timestamp": "2026-03-01T11:00:00Z",
                "properties": {"channel": "web", "decision_id": "d-1"},
                "context": {"page": {"path": "/"}},
                "integrations": {"All": True},
            }
        ],
        "sentAt": "2026-03-01T11:00:00Z",
    },
    ("POST", "/v1/identify"): {"messageId": "m-1", "userId": "c-1", "traits": {"region": "north", "tenure_years": 3}},
    ("POST", "/v1/decisions"): {
        "request_id": "r-1",
        "customer_id": "c-1",
        "channel": "web",
        "placements": ["p"],
        "send_id": "s",
        "journey_id": "credit_card_application",
        "context": {"basket": 3},
        "candidates": {"include": ["a"], "issues": ["grow"]},
        "max_actions": 3,
        "deadline_ms": 80,
        "mode": "dry_run",
        "as_of": "2026-03-01T11:00:00Z",
        "explain": "none",
    },
    ("POST", "/v1/outcomes"): {
        "outcomes": [
            {"decision_id": "d-1", "outcome_id": "progress_7d", "occurred_at": "2026-03-01T11:00:00Z", "value": 1}
        ]
    },
    ("POST", "/v1/identities/link"): {"customer_id": "c-1", "alias": "a-1"},
    ("POST", "/v1/identities/unlink"): {"customer_id": "c-1", "alias": "a-1"},
    ("PUT", "/v1/workforce"): {"persons": [{"person_id": "p-1", "queues": ["desk"], "skills": ["nl"], "open": 1}]},
    ("POST", "/v1/policies/validate"): {"policy": {"version": 1}, "decisions": 5},
    ("PUT", "/v1/policies"): {"version": 1},
    ("PUT", "/v1/actions"): {"actions": [{"id": "a", "title": "t"}]},
    ("POST", "/v1/decisions/d-1/activate"): {"treatment_id": "t"},
    ("POST", "/v1/decisions/d-1/replay"): {"policy": "p", "bundle": 1, "as_champion": True},
    ("POST", "/v1/models/none/promote"): {"version": 1, "share": 0.5, "force": True, "reason": "r", "dry_run": True},
    ("POST", "/v1/models/none/rollback"): {"reason": "r"},
}
LEAVES: tuple[object, ...] = (
    *(2**53 + 1, -(2**53) - 1, 10**29, -(10**29), 1e308, -1, True, None, "", [], {}, [[[]]], {"": {"": [None]}}),
    *("c\0d", "x" * 20_000, "\u202etxt.exe", "\ufeff", "\U0010ffff\ufffe", "a\u0300" * 200, "'; DROP TABLE events;--"),
)


def _with_leaves(value: Any, leaf: object) -> list[Any]:
    """The document once for each place in it, with ``leaf`` there."""
    if isinstance(value, dict):
        inside = [value | {name: changed} for name, one in value.items() for changed in _with_leaves(one, leaf)]
    elif isinstance(value, list):
        inside = [[changed] for one in value[:1] for changed in _with_leaves(one, leaf)]
    else:
        return [leaf]
    return [leaf, *inside]


def _rejects_constant(text: str) -> None:
    raise AssertionError(f"the answer has the number {text}")


@pytest.mark.slow
def test_no_value_of_a_field_breaks_a_door(tmp_path: Path) -> None:
    """At any place in a body: it is taken, rejected by itself, or a problem that says where; never a failure."""

    async def failed() -> list[tuple[str, str, int, str]]:
        found = []
        async with doors(_world(tmp_path)) as (runtime, door, _):
            for (method, path), document in VALID.items():
                for body in (json.dumps(one) for leaf in LEAVES for one in _with_leaves(document, leaf)):
                    headers = {**KEY, "If-Match": '"any"'}
                    answer = await door.request(method, path, content=body.encode(), headers=headers)
                    told = json.loads(answer.content, parse_constant=_rejects_constant)
                    where = answer.status_code != 422 or told["errors"] or "request_id" in told["detail"]
                    if answer.status_code >= 500 or not where:
                        found.append((path, body[:300], answer.status_code, answer.text[:300]))
            assert (runtime.workers.pace.under_way, runtime.desk.pace.under_way) == (0, 0)
        return found

    assert asyncio.run(failed()) == []
