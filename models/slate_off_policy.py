"""What a policy that fills several slots would have earned, on slates that another one filled.

Pure. A slate has ``K`` ordered slots; ``w_k = pi(A_k | x, A_1..A_{k-1}) / e(A_k | x, A_1..A_{k-1})``. The estimators
differ in what they believe of the reward of a slot, and the more they believe the less their weights vary:

    =================  ======================================  ===================================================
    slate IPS          ``(w_1 ... w_K) sum_k r_k``             a slot's reward may depend on the whole slate
    RIPS               ``sum_k (w_1 ... w_k) r_k``             on the slots up to it (a cascade)
    cascade DR         the same, corrected by a model          on the slots up to it
    independent IPS    ``sum_k (pi_k(A_k) / e_k(A_k)) r_k``    on what stands in it alone
    =================  ======================================  ===================================================

where ``e_k`` and ``pi_k`` are the probabilities of slot ``k`` over all that may stand before it.

References:
    Swaminathan et al. 2017, Off-policy evaluation for slate recommendation (slate IPS and its variance); Li et al.
    2018, Offline evaluation of ranking policies with click models (independent IPS); McInerney et al. 2020,
    Counterfactual evaluation of slate recommendations with sequential reward interactions (RIPS); Kiyohara et al. 2022,
    Doubly robust off-policy evaluation for ranking policies under the cascade behavior model (cascade DR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.metrics import bootstrap_interval
from models.off_policy import EstimateParams
from models.off_policy_log import Guard, Logged, Refusal, UnsupportedPolicy, effective_sample_size, refusals

FloatArray = NDArray[np.float64]

SlateEstimatorName = Literal["slate IPS", "RIPS", "cascade DR", "independent IPS"]

_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Slates:
    """``n`` slates of ``K`` slots beside a policy that is to be valued on them.

    A slate that ends before ``K`` holds its end in the slot behind its last, with the probability of that; the slots
    behind are certain (1 in every table) and earn 0.

    Attributes:
        reward: ``(n, K)`` what came of each slot.
        logged: ``(n, K)`` logged probability of what stands in each slot, given the slots before it; above 0.
        policy: ``(n, K)`` the same of the policy.
        logged_at: ``(n, K)`` logged probability of it in that slot whatever stands before; None where not known.
        policy_at: ``(n, K)`` the same of the policy.
        predicted_taken: ``(n, K)`` predicted reward of this and all later slots, given the slots up to it, where the
            policy fills the later ones; by a model that did not see the slate. None for no model.
        predicted_policy: ``(n, K)`` its mean over what the policy puts into the slot, behind the logged slots before.
        unsupported: ``(n,)`` probability that the policy fills what could not have been logged; None for 0.
        clusters: ``(n,)`` customers; None where every slate is its own.
    """

    reward: FloatArray
    logged: FloatArray
    policy: FloatArray
    logged_at: FloatArray | None = None
    policy_at: FloatArray | None = None
    predicted_taken: FloatArray | None = None
    predicted_policy: FloatArray | None = None
    unsupported: FloatArray | None = None
    clusters: NDArray[np.generic] | None = None

    def __len__(self) -> int:
        """Number of slates."""
        return len(self.reward)

    def check(self) -> None:
        """Raise where an array does not fit the others, or a probability is none.

        Raises:
            NotEnoughData: naming it.
        """
        tables = ("logged", "policy", "logged_at", "policy_at", "predicted_taken", "predicted_policy")
        for name in tables:
            table = getattr(self, name)
            if table is not None and table.shape != self.reward.shape:
                raise NotEnoughData(f"{name} of shape {table.shape}, expected {self.reward.shape}, as the rewards'")
        for name, smallest in (("logged", "above 0"), ("logged_at", "above 0"), ("policy", ""), ("policy_at", "")):
            table = getattr(self, name)
            if table is None:
                continue
            low = (table > 0) if smallest else (table >= 0)
            if not (low & (table <= 1 + _ROUNDING)).all():
                raise NotEnoughData(
                    f"{name} holds what is no probability, expected numbers {smallest or 'from 0'} to 1"
                )
        for one, other in (("logged_at", "policy_at"), ("predicted_taken", "predicted_policy")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise NotEnoughData(f"{one} without {other}, or the other way round; expected both or none")


@dataclass(frozen=True, slots=True)
class SlateEstimate:
    """What one estimator says of the policy's mean reward of a slate.

    Attributes:
        name: of the estimator.
        value: the estimate.
        low: lower end of its interval, by bootstrap over clusters.
        high: upper end.
        ess: effective sample size of the weights that it puts on each slot's reward.
        largest_weight: the largest of all.
    """

    name: SlateEstimatorName
    value: float
    low: float
    high: float
    ess: tuple[float, ...]
    largest_weight: float


def slate_estimates(slates: Slates, params: EstimateParams) -> dict[SlateEstimatorName, SlateEstimate]:
    """What each estimator says that the log can answer; those that it cannot are left out.

    Independent IPS is among them where ``logged_at`` is known, cascade DR where there is a model.

    Raises:
        NotEnoughData: an array does not fit, or a probability is none.
        UnsupportedPolicy: every estimator is refused; with the reasons of the one that has fewest.
    """
    slates.check()
    found: dict[SlateEstimatorName, SlateEstimate] = {}
    refused: dict[SlateEstimatorName, tuple[Refusal, ...]] = {}
    for name, weight in slot_weights(slates).items():
        reasons = slate_refusals(slates, weight, params.guard)
        if reasons:
            refused[name] = reasons
            continue
        found[name] = _estimate(name, slates, weight, params)
    if not found:
        raise UnsupportedPolicy(min(refused.values(), key=len))
    return found


def slot_weights(slates: Slates) -> dict[SlateEstimatorName, FloatArray]:
    """``(n, K)`` the weight of each slot's reward, by estimator."""
    ratio = slates.policy / slates.logged
    up_to = ratio.cumprod(axis=1)
    found: dict[SlateEstimatorName, FloatArray] = {
        "slate IPS": np.repeat(up_to[:, -1:], up_to.shape[1], axis=1),
        "RIPS": up_to,
    }
    if slates.predicted_taken is not None:
        found["cascade DR"] = up_to
    if slates.logged_at is not None and slates.policy_at is not None:
        found["independent IPS"] = slates.policy_at / slates.logged_at
    return found


def slate_refusals(slates: Slates, weight: FloatArray, guard: Guard) -> tuple[Refusal, ...]:
    """Every reason not to trust an estimator's weights, each with the slot that it was found at; see ``refusals``.

    Args:
        slates: the slates.
        weight: ``(n, K)`` of ``slot_weights``.
        guard: what is asked of every slot's weights.
    """
    zeros = np.zeros(len(slates))
    found: dict[str, Refusal] = {}
    for slot, column in enumerate(weight.T, start=1):
        logged = Logged(
            reward=zeros,
            weight=column,
            predicted_taken=zeros,
            predicted_policy=zeros,
            unsupported=zeros if slates.unsupported is None else slates.unsupported,
            clusters=slates.clusters,
        )
        for one in refusals(logged, guard):
            found.setdefault(one.code, one._replace(reason=f"slot {slot}: {one.reason}"))
    return tuple(found.values())


def slate_terms(name: SlateEstimatorName, slates: Slates, weight: FloatArray) -> FloatArray:
    """``(n,)`` numbers whose mean is the estimate.

    Cascade DR is ``sum_k (w_1..w_k) (r_k - q_k) + (w_1..w_{k-1}) q_k(pi)``, where ``q_k`` is ``predicted_taken`` and
    ``q_k(pi)`` is ``predicted_policy``: right where either the probabilities or the model are.
    """
    earned: FloatArray = (weight * slates.reward).sum(axis=1)
    taken, policy = slates.predicted_taken, slates.predicted_policy
    if name != "cascade DR" or taken is None or policy is None:
        return earned
    before = np.c_[np.ones(len(slates)), weight[:, :-1]]
    corrected: FloatArray = earned + (before * policy - weight * taken).sum(axis=1)
    return corrected


def _estimate(name: SlateEstimatorName, slates: Slates, weight: FloatArray, params: EstimateParams) -> SlateEstimate:
    terms = slate_terms(name, slates, weight)
    interval = bootstrap_interval(
        lambda rows: float(terms[rows].mean()),
        len(slates),
        clusters=slates.clusters,
        seed=params.seed,
        n_resamples=params.resamples,
        level=params.level,
    )
    return SlateEstimate(
        name=name,
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
        ess=tuple(effective_sample_size(column) for column in weight.T),
        largest_weight=float(weight.max()),
    )
