"""What the service and the process that explains say to each other: one line of JSON each way."""

from __future__ import annotations

from typing import Literal

import msgspec


class ExplanationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One decision that is to be explained.

    Attributes:
        record: its canonical bytes.
        action_id: also what would have put this action first.
    """

    record: bytes
    action_id: str | None = None


class ExplanationReply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a request.

    Attributes:
        kind: ``explained``; ``refused`` where this decision cannot be explained here; ``failed`` where it may be later.
        message: what was wrong.
        document: the explanation, of ``models.explanation.explanation_document``.
    """

    kind: Literal["explained", "refused", "failed"]
    message: str = ""
    document: msgspec.Raw = msgspec.Raw(b"null")
