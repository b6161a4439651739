"""The reference of the API as Markdown, out of its OpenAPI description."""

from __future__ import annotations

from serving.api.openapi import OPERATIONS, api_document
from serving.api.operation import Json, Operation
from serving.problems import PROBLEM_TYPES


def reference() -> str:
    """The reference of all calls, as Markdown; ``docs/reference/api.md`` is this text."""
    document = api_document()
    lines = [
        "# HTTP API",
        "",
        "The service describes itself at `/openapi.json` (OpenAPI 3.1) and shows it at `/docs`. This page is made from",
        "that description. Every call but `/livez`, `/readyz` and the pages needs `Authorization: Bearer <key>`, or a",
        "token of the company's sign-on in its place; those for tracking SDKs also take the key as the user of Basic,",
        "without a password. [Who may call](../how-to/operator.md#who-may-call) has a table of calls and roles.",
        "Bodies are JSON in UTF-8, at most 32 levels deep, compressed with gzip if `Content-Encoding` says so.",
        "Failures are problem details (RFC 9457); each type has a page under [problems](../problems/).",
        "",
        "A second door for BentoML clients is `POST /rank`: the same key, body and answer as `POST /v1/decisions`.",
        "BentoML itself answers `/healthz`, and `/schema.json` with the shape of that call, without a key.",
        "",
    ]
    for operation in OPERATIONS:
        lines += _reference_of(operation)
    lines += ["## Shapes", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += _reference_of_shape(name, schema)
    lines += ["## Problems", "", "| type | status | title |", "|---|---|---|"]
    lines += [
        f"| [`{kind.path}`](../problems/{kind.slug}.md) | {kind.status} | {kind.title} |" for kind in PROBLEM_TYPES
    ]
    return "\n".join([*lines, ""])


def _reference_of(operation: Operation) -> list[str]:
    answer = _answer_of(operation)
    failures = ", ".join(f"{kind.status} `{kind.slug}`" for kind in sorted(operation.failures, key=lambda k: k.status))
    return [
        f"## {operation.method.upper()} {operation.path}",
        "",
        f"{operation.summary}. {operation.told}",
        "",
        *([f"Body: [`{operation.body.__name__}`](#shapes)."] if operation.body is not None else []),
        f"Answer: {answer}." + (f" Failures: {failures}." if failures else ""),
        "",
    ]


def _answer_of(operation: Operation) -> str:
    if isinstance(operation.answer, type):
        return f"[`{operation.answer.__name__}`](#shapes)"
    return operation.answer if isinstance(operation.answer, str) else " or ".join(operation.answer)


def _reference_of_shape(name: str, schema: Json) -> list[str]:
    required = schema.get("required", [])
    rows = [
        f"| `{field}` | {_type_of(described)} | {'yes' if field in required else ''} "
        f"| {described.get('description', '')} |"
        for field, described in schema.get("properties", {}).items()
    ]
    return [
        f"### {name}",
        "",
        schema.get("description", ""),
        "",
        "| field | type | always there | meaning |",
        "|---|---|---|---|",
        *rows,
        "",
    ]


def _type_of(schema: Json) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_of(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "prefixItems" in schema:
        return f"[{', '.join(_type_of(one) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type_of(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type", "any"))
