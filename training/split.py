"""Who learns, who calibrates and who is judged: by time, or by stable hash where a table has only one time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from features.stable_hash import stable_unit

Booleans = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Disjoint parts of the rows by when they start; what is learned from one part must be cut off where it ends.

    Attributes:
        train: ``(n,)`` start before ``calibrate_from``.
        calibrate: ``(n,)`` start at ``calibrate_from`` or later, and before ``test_from``.
        test: ``(n,)`` start at ``test_from`` or later.
        calibrate_from: the first cut-off, microseconds since the epoch.
        test_from: the second.
    """

    train: Booleans
    calibrate: Booleans
    test: Booleans
    calibrate_from: int
    test_from: int


def is_flat(at: Integers) -> bool:
    """Whether all rows have one time, so that time cannot split them."""
    return len(at) == 0 or int(at.min()) == int(at.max())


def time_split(
    at: Integers, is_known: Booleans, *, train_share: float, calibration_share: float, window_us: int
) -> Split:
    """The rows cut by time at two quantiles of ``at``, among the rows whose window was fully observed.

    Args:
        at: ``(n,)`` moments, microseconds since the epoch.
        is_known: ``(n,)`` whether the window was fully observed.
        train_share: share of these rows before the first cut-off.
        calibration_share: share between the two.
        window_us: how far a row's label looks ahead.

    Raises:
        NotEnoughData: a part has no row whose window ends in it: the history is too short for the window.
    """
    if not is_known.any():
        raise NotEnoughData("no moment has a fully observed window, expected some: import a longer history")
    shares = (train_share, train_share + calibration_share)
    calibrate_from, test_from = (int(q) for q in np.quantile(at[is_known], shares, method="higher"))
    split = Split(
        train=at < calibrate_from,
        calibrate=(at >= calibrate_from) & (at < test_from),
        test=at >= test_from,
        calibrate_from=calibrate_from,
        test_from=test_from,
    )
    whole = (
        ("training", split.train & (at + window_us < calibrate_from)),
        ("calibration", split.calibrate & (at + window_us < test_from)),
        ("test", split.test & is_known),
    )
    for name, part in whole:
        if not part.any():
            days = (int(at.max()) - int(at.min())) / 86_400_000_000
            raise NotEnoughData(
                f"the {name} slice is empty: moments span {days:.1f} days and each looks "
                f"{window_us / 86_400_000_000:.1f} days ahead; import a longer history, or shorten the horizon"
            )
    return split


def before_and_after(at: Integers, window_us: int, *, train_share: float) -> tuple[Booleans, Booleans]:
    """Rows whose window ends before the cut-off, and rows that start at it or later, each ``(n,)``.

    The cut-off is the quantile of ``at`` that leaves ``train_share`` of the rows before it.
    """
    cut_off = int(np.quantile(at, train_share, method="higher"))
    return at + window_us < cut_off, at >= cut_off


def hashed_halves(customer_ids: Sequence[str], salt: str) -> tuple[Booleans, Booleans]:
    """Two halves of the customers by stable hash under a salt, each ``(n,)``; a customer's rows stay together."""
    first = np.array([stable_unit(f"split|{salt}", customer_id) < 0.5 for customer_id in customer_ids], dtype=np.bool_)
    return first, ~first
