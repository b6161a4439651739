"""What a drift report comes to: retrain, investigate, nothing, or too few to say, each with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Call = Literal["retrain", "investigate"]
Verdict = Literal["retrain", "investigate", "nothing", "too few"]

RETRAIN: Final = "retrain"
INVESTIGATE: Final = "investigate"
NOTHING: Final = "nothing"
TOO_FEW: Final = "too few"
VERDICTS: Final[tuple[Verdict, ...]] = (RETRAIN, INVESTIGATE, NOTHING, TOO_FEW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that speaks against going on as before.

    Attributes:
        code: for machines; never changes its meaning.
        calls_for: what it asks for.
        subject: the column, outcome, action or step that it is about; empty where it is about all.
        value: what was found; None where it cannot be told in a number.
        threshold: from where it counts.
        text: for people.
    """

    code: str
    calls_for: Call
    subject: str = ""
    value: float | None = None
    threshold: float | None = None
    text: str

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def verdict_of(reasons: Sequence[Reason], *, is_judged: bool) -> Verdict:
    """The strongest that any reason calls for.

    Args:
        reasons: of all parts of the report.
        is_judged: whether there was enough to judge any part by.

    >>> verdict_of([], is_judged=True), verdict_of([], is_judged=False)
    ('nothing', 'too few')
    """
    calls = {reason.calls_for for reason in reasons}
    if RETRAIN in calls:
        return RETRAIN
    if INVESTIGATE in calls:
        return INVESTIGATE
    return NOTHING if is_judged else TOO_FEW


def ordered(reasons: Sequence[Reason]) -> list[Reason]:
    """Reasons to retrain first; otherwise as they came."""
    return sorted(reasons, key=lambda reason: reason.calls_for != RETRAIN)
