"""What exploration is expected to cost, held within a budget: epsilon follows the last decisions, and never this one.

Were it to follow the candidates of the decision itself, removing one that lost could change the winner.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from models.policy import Exploration

BUDGETED_DECISIONS: Final = 1_000
"""The budget is money for so many decisions."""


class RegretMeter:
    """Remembers what each of the last decisions was expected to lose if it explored; safe to call from threads.

    Decisions that it has not seen yet, after a start, are taken for the dearest seen so far, and before the first one
    nothing is explored: a budget is kept from the beginning.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._losses: deque[float] = deque(maxlen=BUDGETED_DECISIONS)
        self._total = 0.0
        self._dearest = 0.0

    def note(self, loss: float) -> None:
        """Remember a decision that may explore.

        Args:
            loss: ``arbitration.exploration_loss``.
        """
        with self._guard:
            if len(self._losses) == BUDGETED_DECISIONS:
                self._total -= self._losses[0]
            self._losses.append(loss)
            self._total += loss
            self._dearest = max(self._dearest, loss)

    def epsilon(self, exploration: Exploration) -> float | None:
        """The share that may explore now; None where no budget holds it down."""
        if exploration.regret_budget is None:
            return None
        with self._guard:
            seen = len(self._losses)
            if seen == 0:
                return 0.0
            expected = max(0.0, self._total) + (BUDGETED_DECISIONS - seen) * self._dearest
        if expected * exploration.epsilon <= exploration.regret_budget:
            return exploration.epsilon
        return exploration.regret_budget / expected
