"""Numbers that may be unknown: NaN where they are computed with, nothing where they are told."""

from __future__ import annotations

import math


def if_finite(number: float) -> float | None:
    """A number as it is told; None where it is NaN or infinite.

    >>> if_finite(0.5), if_finite(math.nan)
    (0.5, None)
    """
    return number if math.isfinite(number) else None
