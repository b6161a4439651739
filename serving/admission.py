"""Who is let in while the service is short of time: explanations go first, then reports, then events, decisions last.

What waits is measured by the paces of decisions and of everything else. Each kind may use a share of what can wait; so
the kinds that can wait are refused while there is still room for those that cannot. Health and metrics are no kind:
they are always answered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from serving.pace import LONGEST_RETRY_SECONDS, Pace
from serving.problems import TooManyRequests

Kind = Literal["explanations", "reports", "events", "decisions"]

SHARES: Final[Mapping[Kind, float]] = MappingProxyType(
    {"explanations": 0.25, "reports": 0.5, "events": 0.75, "decisions": 1.0}
)
"""Of what can wait: a kind is refused from there on."""

_DECISIONS: Final = frozenset({"/v1/decisions", "/rank", "/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/{key}"})
_ALWAYS: Final = frozenset({"/metrics"})
_EXPLAINING: Final = frozenset(
    {
        "/v1/decisions/{decision_id}/explanation",
        "/v1/decisions/{decision_id}/replay",
        "/v1/policies/validate",
        "/v1/audiences/estimate",
        "/v1/audiences/screen",
        "/v1/simulations",
    }
)


def kind_of(method: str, template: str) -> Kind | None:
    """The kind of a request by its method and the template of its path; None for what is always answered.

    What tells or changes something goes with the events: it is lost where its sender gives up.
    """
    if template in _ALWAYS:
        return None
    if template in _EXPLAINING:
        return "explanations"
    if method == "GET":
        return "reports"
    return "decisions" if template in _DECISIONS else "events"


class Admission:
    """Lets requests in by their kind.

    Args:
        decisions: the pace of decisions.
        others: the pace of everything that threads do.

    Attributes:
        refused: how many were refused until now, by kind; decisions are counted by their own pace.
    """

    def __init__(self, *, decisions: Pace, others: Pace) -> None:
        self._decisions, self._others = decisions, others
        self.refused: dict[Kind, int] = {kind: 0 for kind in SHARES if kind != "decisions"}

    @property
    def load(self) -> float:
        """Share of what can wait that does, 0 where nothing waits."""
        return self._load_behind(0)

    def _load_behind(self, others: int) -> float:
        return max(self._decisions.load_behind(others), self._others.load_behind(others))

    def has_room(self, kind: Kind | None, *, behind: int = 0) -> bool:
        """Whether a request of a kind is let in now. What others wait for does not keep a decision out.

        Args:
            kind: None for what is always let in.
            behind: so many requests of any kind that are known to come first.
        """
        if kind is None:
            return True
        if kind == "decisions":
            return not self._decisions.is_full_behind(behind)
        return self._load_behind(behind) < SHARES[kind]

    def admit(self, kind: Kind | None) -> None:
        """Pass where there is room for a request of a kind.

        Raises:
            TooManyRequests: there is none; it says when to come back.
        """
        if kind is not None and not self.has_room(kind):
            self.count_refused(kind)
            raise self.refusal(kind)

    def count_refused(self, kind: Kind) -> None:
        """One more of a kind is refused."""
        if kind == "decisions":
            self._decisions.refused += 1
        else:
            self.refused[kind] += 1

    def refusal(self, kind: Kind) -> TooManyRequests:
        """What is said to a request of a kind for which there is no room."""
        if kind == "decisions":
            return self._decisions.refusal()
        wait = self._decisions.expected_wait
        return TooManyRequests(
            f"the service is busy with what cannot wait: {self.load:.0%} of the room for waiting requests is taken, "
            f"expected less than {SHARES[kind]:.0%} for {kind}: ask again later",
            retry_after=min(max(1, math.ceil(wait)), LONGEST_RETRY_SECONDS),
        )
