"""The description of the API as the file that is published: ``python -m serving.api.published`` writes it."""

from __future__ import annotations

import json
import sys

from serving.api.openapi import api_document


def openapi_text() -> str:
    """The description as indented JSON; ``docs/reference/openapi.json`` is this text."""
    return json.dumps(api_document(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(openapi_text())
