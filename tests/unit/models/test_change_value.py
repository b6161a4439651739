"""What a change is worth by what came of decisions, and when the log cannot tell."""

from __future__ import annotations

import numpy as np
import pytest

from models.change_value import value_of_change
from models.logged_choices import LoggedChoices
from models.off_policy_log import Guard

GUARD = Guard(smallest_ess=50.0, smallest_ess_share=0.02)


def _log(n: int = 4000, seed: int = 1) -> LoggedChoices:
    """No action or one that raises the response from 0.2 to 0.4, worth 10 each; half and half."""
    rng = np.random.default_rng(seed)
    taken = rng.integers(0, 2, n)
    response = (rng.random(n) < np.where(taken == 1, 0.4, 0.2)).astype(np.float64)
    table = np.zeros((n, 2))
    return LoggedChoices(
        taken=taken,
        logged=np.full((n, 2), 0.5),
        predicted=np.full((n, 2), 0.3),
        control=np.full((n, 1), 0.25),
        response=response[:, None],
        value=np.full((n, 2), 10.0),
        incentive=table,
        cost=table,
        aim=np.zeros(2, dtype=np.int64),
        binary=np.array([True]),
        people=np.arange(n),
    )


def _always(log: LoggedChoices, acting: float) -> np.ndarray:
    return np.tile([1 - acting, acting], (len(log), 1))


def test_the_true_difference_is_found() -> None:
    """From half to always is worth half of 0.2 responses at 10, also where predictions are wrong."""
    log = _log()

    found = value_of_change(log, _always(log, 1.0), GUARD, seed=1, n_resamples=300, level=0.99)

    assert found.refusals == ()
    assert found.difference is not None
    assert found.difference.low < 1.0 < found.difference.high
    assert found.difference.low > 0


def test_no_change_is_worth_exactly_nothing() -> None:
    """Both sides get the same scores, so nothing of chance is left."""
    log = _log()

    found = value_of_change(log, log.logged, GUARD, seed=1, n_resamples=50, level=0.95)

    assert found.difference == (0.0, 0.0, 0.0)
    assert found.ess == pytest.approx(len(log))


def test_what_could_not_be_logged_is_refused() -> None:
    """With the reason, and without any number."""
    log = _log()
    log.logged[:, :] = np.where(log.taken[:, None] == 1, [0.0, 1.0], [1.0, 0.0])

    found = value_of_change(log, _always(log, 1.0), GUARD, seed=1, n_resamples=50, level=0.95)

    assert "no_support" in [one.code for one in found.refusals]
    assert (found.before, found.after, found.difference) == (None, None, None)


def test_wrong_probabilities_are_refused() -> None:
    """Weights that do not average 1 tell them."""
    log = _log()
    log.logged[:, :] = [0.8, 0.2]

    found = value_of_change(log, _always(log, 1.0), GUARD, seed=1, n_resamples=50, level=0.95)

    assert [one.code for one in found.refusals] == ["wrong_weights"]


def test_without_anybody_left_alone_there_is_no_value() -> None:
    """Money is over doing nothing: what comes of that would be the model's word alone."""
    log = _log()
    rng = np.random.default_rng(2)
    log.taken[:] = rng.random(len(log)) < 0.995
    log.logged[:, :] = [0.005, 0.995]

    found = value_of_change(log, _always(log, 1.0), GUARD, seed=1, n_resamples=50, level=0.95)

    assert [one.code for one in found.refusals] == ["few_untreated"]


@pytest.mark.parametrize("n", [0, 30])
def test_few_decisions_are_refused(n: int) -> None:
    """Also none at all."""
    log = _log(n)

    found = value_of_change(log, _always(log, 1.0), GUARD, seed=1, n_resamples=50, level=0.95)

    assert (found.decisions, found.refusals[0].code, found.difference) == (n, "few_decisions", None)


def test_broken_rows_are_left_out() -> None:
    """A decision without the probability of what was done tells nothing."""
    log = _log()
    log.logged[:100, 1] = np.nan

    found = value_of_change(log, _always(log, 0.7), GUARD, seed=1, n_resamples=50, level=0.95)

    assert found.decisions == len(log) - 100
