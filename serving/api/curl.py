"""Every call as a line of curl: ``python -m serving.api.curl`` writes the page that holds them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

from serving.access import rule_of
from serving.api.examples import EXAMPLES, Example
from serving.api.openapi import OPERATIONS
from serving.api.operation import Operation

_WIDTH: Final = 100
_OPENING: Final = """# Every call, by curl

Made from the examples in the description of the API by `python -m serving.api.curl > docs/reference/curl.md`; a test
runs them from top to bottom. What each call takes and answers is in the [reference](api.md), what to do when something
fails in [how to call it](../how-to/caller.md#8-when-something-fails). `--fail-with-body` shows the problem, and ends
with the exit code 22.

```sh
export URL=http://127.0.0.1:3000
export KEY="hw_choose_your_own_0123456789"   # with the roles of all of them: the service's HEADWAY_BOOTSTRAP_KEY
export NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ)
```
"""


def curl_page() -> str:
    """The page; ``docs/reference/curl.md`` is this text."""
    operations = {one.operation_id: one for one in OPERATIONS}
    sections = (_section(operations[name], example) for name, example in EXAMPLES.items())
    return "\n".join([_OPENING, *sections])


def curl_of(operation: Operation, example: Example) -> str:
    """A call as commands of a shell, and what of its answer is kept for later ones."""
    options = [f'curl -sS --fail-with-body {_method(operation, example)}"$URL{_target(operation, example)}"']
    options += _options(operation, example)
    command = " \\\n  ".join(options)
    kept = " | tee answer.json" if example.keeps else ""
    if example.body is None:
        command += kept
    else:
        command += f" \\\n  -d @- <<JSON{kept}\n{_laid_out(example.body)}\nJSON"
    return "\n".join([command, *_kept(example)])


def _method(operation: Operation, example: Example) -> str:
    usual = "get" if example.body is None else "post"
    return "" if operation.method == usual else f"-X {operation.method.upper()} "


def _target(operation: Operation, example: Example) -> str:
    names = {name: quote(value, safe="$") for name, value in example.names.items()}
    query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in example.query.items()}
    return operation.path.format_map(names) + ("?" + urlencode(query, safe="$") if query else "")


def _options(operation: Operation, example: Example) -> Iterator[str]:
    rule = rule_of(operation.method.upper(), operation.path)
    if rule.takes_basic:
        yield '-u "$KEY:"'
    elif not rule.is_open:
        yield '-H "Authorization: Bearer $KEY"'
    for name, value in example.headers.items():
        yield '-H "' + f"{name}: {value}".replace('"', '\\"') + '"'
    if example.body is not None:
        yield '-H "Content-Type: application/json"'


def _laid_out(value: Any, indent: int = 0) -> str:
    """JSON that breaks a line only where it would be too long."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= _WIDTH or not isinstance(value, dict | list):
        return flat
    inner = indent + 1
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_laid_out(one, inner + len(name) + 4)}" for name, one in value.items()]
        start, end = "{", "}"
    else:
        parts = [_laid_out(one, inner) for one in value]
        start, end = "[", "]"
    return start + (",\n" + " " * inner).join(parts) + end


def _kept(example: Example) -> Iterator[str]:
    for variable, name in example.keeps.items():
        yield f'{variable}=$(grep -o \'"{name}":"[^"]*\' answer.json | head -n 1 | cut -d \'"\' -f 4)'


def _section(operation: Operation, example: Example) -> str:
    needs = f" Needs: {example.needs[0].lower()}{example.needs[1:]}" if example.needs else ""
    head = f"## {operation.method.upper()} {operation.path}\n\n{operation.summary}.{needs}\n"
    return f"{head}\n```bash\n{curl_of(operation, example)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(curl_page())
