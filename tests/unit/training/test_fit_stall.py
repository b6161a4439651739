"""What stall models and forecasts are learned from: nothing that happened after the cut-off of their part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.journeys import Journey
from features.kernel import Floats
from tests.histories import START_AT, journey
from training.dataset import MomentFrame
from training.fit_stall import StallFit, fitted_stall
from training.moments import HOUR_US, Aftermath
from training.params import Params, load_params

N = 3_000
NAMES = ("signal", "stalled_now", "noise")
OUTCOME = "paid_soon"
WINDOW_US = 48 * HOUR_US


@pytest.fixture(scope="module")
def params() -> Params:
    """The shipped ones with few trees."""
    shipped = load_params()
    few = shipped.stall.boosting.model_copy(update={"rounds": 8, "min_rows": 20})
    return shipped.model_copy(
        update={"stall": shipped.stall.model_copy(update={"boosting": few, "forecast": few, "max_rows": 50_000})}
    )


def of_hours(hours: int) -> Journey:
    """The journey with another horizon, and an outcome to forecast."""
    declared = journey()
    outcome = declared.outcomes[0].model_copy(update={"id": OUTCOME, "window": WINDOW_US, "forecast": True})
    return declared.model_copy(update={"horizon": hours * HOUR_US, "outcomes": (outcome,)})


@pytest.fixture(scope="module")
def frame() -> MomentFrame:
    """A moment each 20 minutes; the larger the signal, the sooner comes progress. Some leave, some are contacted."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=N), (np.arange(N) % 2).astype(float), rng.normal(size=N)], axis=1)
    at = START_AT + np.arange(N) * (HOUR_US // 3)
    whole = np.full(N, np.inf)
    progress, abandon = (rng.exponential(hours * HOUR_US, N) * np.exp(-x[:, 0]) for hours in (40, 120))
    first = progress < abandon
    after = Aftermath(
        progress=np.where(first, progress, np.inf),
        abandon=np.where(first, np.inf, abandon),
        contact=rng.exponential(60 * HOUR_US, N),
        observed=whole,
    ).until((at[-1] + 1 - at).astype(np.float64))
    happened = (progress < WINDOW_US).astype(np.float64)
    happened[at + WINDOW_US > at[-1]] = np.nan
    return MomentFrame(
        customer_ids=np.array([f"c{i // 5}" for i in range(N)]),
        at=at,
        stage=np.zeros(N, dtype=np.int64),
        after=after,
        happened={OUTCOME: happened},
        x=x,
    )


def fit(frame: MomentFrame, params: Params) -> StallFit:
    """Everything that is fitted on moments; nothing is missing."""
    notes: list[str] = []
    found = fitted_stall(frame, NAMES, of_hours(24), params, notes)
    assert (notes, len(found.parts)) == ([], 3)
    return found


def hidden(after: Floats, at: np.ndarray, end: int) -> Floats:
    """The same without what happened after a time to moments before it."""
    return np.where((at < end) & (at + after > end), np.inf, after)


def test_what_happened_after_the_second_cut_off_changes_no_model(frame: MomentFrame, params: Params) -> None:
    """Stall, waiting and forecast are the same to the last character, whatever the test period brought."""
    first = fit(frame, params)
    end = first.test_from
    other = replace(
        frame,
        after=replace(
            frame.after,
            **{name: hidden(getattr(frame.after, name), frame.at, end) for name in ("progress", "abandon", "contact")},
        ),
        happened={OUTCOME: np.where(frame.at + WINDOW_US >= end, 1 - frame.happened[OUTCOME], frame.happened[OUTCOME])},
    )

    assert not np.array_equal(other.after.progress, frame.after.progress)
    assert fit(other, params).parts == first.parts


def test_what_happened_after_the_first_cut_off_changes_no_tree_but_by_stopping(
    frame: MomentFrame, params: Params
) -> None:
    """With the stopping taken away, the boosters see training moments only until the calibration slice starts."""
    patient = params.model_copy(
        update={
            "stall": params.stall.model_copy(
                update={"boosting": params.stall.boosting.model_copy(update={"rounds": 1})}
            )
        }
    )
    first = fit(frame, patient)
    end = first.calibrate_from
    other = replace(
        frame,
        after=replace(
            frame.after,
            **{name: hidden(getattr(frame.after, name), frame.at, end) for name in ("progress", "abandon", "contact")},
        ),
    )

    again = fit(other, patient)

    assert [part.boosters for part in again.parts[:2]] == [part.boosters for part in first.parts[:2]]


def test_a_contact_ends_what_is_learned_of_waiting(frame: MomentFrame, params: Params) -> None:
    """Progress after a contact is not what waiting led to: without it the model of waiting stays the same."""
    after = frame.after
    prompted = replace(after, progress=np.where(after.progress > after.contact, np.inf, after.progress))

    first, other = fit(frame, params), fit(replace(frame, after=prompted), params)

    assert not np.array_equal(prompted.progress, after.progress)
    assert other.parts[0] != first.parts[0]
    assert other.parts[1] == first.parts[1]
