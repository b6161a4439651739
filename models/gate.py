"""Whether a challenger may replace a champion: what both would have earned on the log, and every reason against it.

Pure: logged decisions beside what both models would do in, a verdict with reasons that a machine can read out.

Both are valued by the same doubly robust scores of the same decisions (``models.logged_choices.policy_scores``), so
what they would have done alike cancels and only where they differ counts.

References:
    Dudik, Erhan, Langford and Li 2014, Doubly robust policy evaluation and optimization; Thomas, Theocharous and
    Ghavamzadeh 2015, High confidence policy improvement (a lower confidence bound decides).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import NotEnoughData
from models.experiment_statistics import Looks, always_valid_multiplier
from models.group_differences import sums_by_person
from models.logged_choices import LoggedChoices, broken_rows, check_policy, policy_scores
from models.metrics import Interval, bootstrap_interval, calibration_slope
from models.off_policy_log import Guard, clustered_error, effective_sample_size
from models.policy_values import choice_refusals

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BY_ROW: Final = ("champion", "challenger", "own", "own_control", "groups")
_NOTHING: Final = 1e-12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Comparison:
    """Logged decisions beside what champion and challenger would do.

    Attributes:
        log: the decisions.
        champion: ``(n, m)`` probability with which the champion takes each option; rows sum to 1.
        challenger: ``(n, m)`` the same of the challenger.
        own: ``(n, m)`` the challenger's own predicted responses, NaN where it has none: what is asked to be calibrated.
        own_control: ``(n, k)`` likewise under no action.
        groups: ``(n,)`` names of the groups in which the challenger must not be worse.
        skipped: decisions of the same time that could not be compared.
    """

    log: LoggedChoices
    champion: FloatArray
    challenger: FloatArray
    own: FloatArray
    own_control: FloatArray
    groups: NDArray[np.str_]
    skipped: int = 0

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What is asked of a challenger.

    Attributes:
        margin: money per decision that the lower bound of the difference must exceed.
        level: of the two-sided interval; a challenger that is no better passes half of the rest at the most.
        looks: ``once`` where the log is looked at one time; ``many`` where the interval is to hold however often it is
            looked at while it grows, see ``_interval``. Of a log of which only the newest are compared it is not known.
        planned: decisions at which the interval for many looks is narrowest; to be said before looking.
        resamples: of the bootstrap, by customer.
        seed: fixes them.
        guard: what is asked of the log for either policy: effective sample size, overlap, mean weight.
            Paired differences need less overlap than values: at 3.5 % of effective decisions two models that earn the
            same passed in 2 of 100 logs, where 2.5 were allowed.
        smallest_changed: effective decisions on which the two would differ.
        smallest_customers: effective customers on whom they would differ: a customer's decisions go along with each
            other, and an interval of few customers is too short however many decisions they had.
        largest_broken_share: share of decisions whose logged probabilities are missing or do not sum to 1.
        largest_skipped_share: share of decisions that could not be made again.
        probability_errors: standard errors by which an option may be taken more or less often than was logged.
        calibration: between which the slope of the challenger's responses must lie; 1 is ideal.
        largest_contact_rise: of the share of decisions that contact somebody; beyond it the contacts must be worth more
            than they are said to cost, see ``contact_cost_factor``.
        contact_cost_factor: a greater rise passes where the lower bound clears the margin with every contact costing so
            many times as much, for either model; None where a greater rise never passes.
        largest_cost_rise: money per decision, costs of contacts; None where there is no limit.
        smallest_group: decisions below which a group is not looked at.
    """

    margin: float = 0.0
    level: float = 0.95
    looks: Literal["once", "many"] = "once"
    planned: int = 10_000
    resamples: int = 1000
    seed: int = 7
    guard: Guard = field(default_factory=lambda: Guard(smallest_ess_share=0.02))
    smallest_changed: float = 100.0
    smallest_customers: float = 30.0
    largest_broken_share: float = 0.01
    largest_skipped_share: float = 0.2
    probability_errors: float = 5.0
    calibration: tuple[float, float] = (0.5, 2.0)
    largest_contact_rise: float = 0.1
    contact_cost_factor: float | None = 3.0
    largest_cost_rise: float | None = None
    smallest_group: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason not to promote.

    Attributes:
        code: for machines; never changes its meaning.
        value: what was found; None where it cannot be told.
        threshold: what was expected.
        text: for people.
    """

    code: str
    value: float | None
    threshold: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether to promote, and what that rests on.

    Attributes:
        reasons: against it; empty where there is none.
        decisions: that were compared.
        customers: whose they are.
        skipped: decisions that could not be compared.
        difference: money per decision, challenger less champion; None where it could not be estimated.
        champion_value: money per decision over doing nothing.
        challenger_value: likewise.
        ess: effective sample size of the challenger's weights.
        changed: share of the probability that goes to another option.
        changed_ess: effective sample size of the decisions on which they differ.
        changed_customers: the same of the customers.
        calibration_slope: of the challenger's responses; None where there is no binary outcome, or it cannot be told.
        contact_rise: of the share of decisions that contact somebody.
        cost_rise: money per decision.
        dear_contacts: the difference if every contact cost ``contact_cost_factor`` times as much; None where it was not
            asked.
    """

    reasons: tuple[Reason, ...]
    decisions: int
    customers: int = 0
    skipped: int = 0
    difference: Interval | None = None
    champion_value: float | None = None
    challenger_value: float | None = None
    ess: float = 0.0
    changed: float = 0.0
    changed_ess: float = 0.0
    changed_customers: float = 0.0
    calibration_slope: float | None = None
    contact_rise: float | None = None
    cost_rise: float | None = None
    dear_contacts: Interval | None = None

    @property
    def promotes(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def judged(compared: Comparison, gate: Gate) -> Verdict:
    """The verdict on a challenger.

    Raises:
        NotEnoughData: an array does not fit the others, or a policy is no distribution.
    """
    _check_shapes(compared)
    broken = broken_rows(compared.log)
    reasons = list(_logging_reasons(compared, broken, gate))
    kept = _kept(compared, ~broken)
    if not len(kept):
        reasons.append(Reason(code="few_decisions", value=0.0, threshold=gate.guard.smallest_ess, text=_NO_DECISIONS))
        return Verdict(reasons=tuple(reasons), decisions=0, skipped=compared.skipped)
    reasons += _wrong_probabilities(kept, gate)
    at = np.arange(len(kept))
    log = kept.log
    chance = log.logged[at, log.taken]
    weights = {name: getattr(kept, name)[at, log.taken] / chance for name in ("champion", "challenger")}
    reasons += _guard_reasons(kept, gate)
    moved = weights["challenger"] - weights["champion"]
    changed = float(np.abs(kept.challenger - kept.champion).sum(axis=1).mean() / 2)
    changed_ess = effective_sample_size(np.abs(moved))
    changed_customers = effective_sample_size(sums_by_person(np.abs(moved)[:, None], log.people)[:, 0])
    reasons += _changed_reasons(changed, changed_ess, changed_customers, gate)
    scores = {name: policy_scores(log, getattr(kept, name)) for name in weights}
    terms = scores["challenger"] - scores["champion"]
    difference = _interval(terms, log.people, gate)
    reasons += _value_reasons(kept, terms, difference, gate)
    slope = response_slope(kept)
    reasons += _slope_reasons(slope, kept, gate)
    rises = {
        "contact_rise": float((kept.champion[:, 0] - kept.challenger[:, 0]).mean()),
        "cost_rise": float(_added_cost(kept).mean()),
    }
    dear = _with_dear_contacts(kept, terms, gate) if rises["contact_rise"] > gate.largest_contact_rise else None
    reasons += _rise_reasons(rises, dear, gate)
    return Verdict(
        reasons=tuple(reasons),
        decisions=len(kept),
        customers=len(np.unique(log.people)),
        skipped=compared.skipped + int(broken.sum()),
        difference=_known(difference),
        champion_value=float(scores["champion"].mean()),
        challenger_value=float(scores["challenger"].mean()),
        ess=effective_sample_size(weights["challenger"]),
        changed=changed,
        changed_ess=changed_ess,
        changed_customers=changed_customers,
        calibration_slope=None if math.isnan(slope) else slope,
        contact_rise=rises["contact_rise"],
        cost_rise=rises["cost_rise"],
        dear_contacts=_known(dear),
    )


def _known(found: Interval | None) -> Interval | None:
    return None if found is None or math.isnan(found.low) else found


_NO_DECISIONS: Final = "no decision to compare the two on, expected some that were made since both were trained"


def response_slope(compared: Comparison) -> float:
    """Calibration slope of the challenger's responses to what was taken, over all binary outcomes; NaN if unknown."""
    at = np.arange(len(compared))
    happened, probability = [], []
    for k in np.flatnonzero(compared.log.binary):
        rows = at[(compared.log.taken == 0) | (compared.log.aim[compared.log.taken] == k)]
        none = compared.log.taken[rows] == 0
        told = np.where(none, compared.own_control[rows, k], compared.own[rows, compared.log.taken[rows]])
        known = ~np.isnan(told)
        happened.append(compared.log.response[rows, k][known])
        probability.append(told[known])
    if not happened:
        return math.nan
    return calibration_slope(np.concatenate(happened), np.concatenate(probability))


def _check_shapes(compared: Comparison) -> None:
    log = compared.log
    log.check()
    wrong = [name for name in ("own",) if getattr(compared, name).shape != log.logged.shape]
    wrong += [name for name in ("own_control",) if getattr(compared, name).shape != log.control.shape]
    wrong += [name for name in ("groups",) if len(getattr(compared, name)) != len(log)]
    if wrong:
        raise NotEnoughData(f"arrays that do not fit {len(log)} decisions: {wrong}")
    for name in ("champion", "challenger"):
        check_policy(log, getattr(compared, name), name)


def _kept(compared: Comparison, rows: BoolArray) -> Comparison:
    if rows.all():
        return compared
    parts = {name: getattr(compared, name)[rows] for name in _BY_ROW}
    return Comparison(**parts, log=compared.log.of(rows))


def _interval(terms: FloatArray, people: NDArray[np.generic], gate: Gate) -> Interval:
    """The mean of ``(n,)`` terms, between bounds that hold for one look or for many.

    For many it is an asymptotic confidence sequence of the mean, with errors by customer and decisions as its clock.
    Customers come back, so later terms go along with earlier ones: means at two looks are then closer to each other
    than those of independent decisions, and bounds that hold for these hold for them (Slepian). Customers are no clock:
    once all of them have come it would stand still while decisions are added.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, Time-uniform central limit theory and asymptotic
        confidence sequences; Slepian 1962, The one-sided barrier problem for Gaussian noise.
    """
    if gate.looks == "many":
        mean, looks = float(terms.mean()), Looks(level=gate.level, planned=gate.planned)
        is_one = len(np.unique(people)) < 2
        half = math.nan if is_one else always_valid_multiplier(len(terms), looks) * clustered_error(terms, people)
        return Interval(mean, mean - half, mean + half)
    return bootstrap_interval(
        lambda drawn: float(terms[drawn].mean()),
        len(terms),
        clusters=people,
        seed=gate.seed,
        n_resamples=gate.resamples,
        level=gate.level,
    )


def _logging_reasons(compared: Comparison, broken: BoolArray, gate: Gate) -> Iterator[Reason]:
    n = len(compared)
    share = float(broken.mean()) if n else 0.0
    if share > gate.largest_broken_share:
        yield Reason(
            code="broken_probabilities",
            value=share,
            threshold=gate.largest_broken_share,
            text=f"the selection probabilities of {share:.1%} of {n} decisions are missing, do not sum to 1, or give "
            f"what was done none; expected at most {gate.largest_broken_share:.1%}",
        )
    skipped = compared.skipped / (n + compared.skipped) if n + compared.skipped else 0.0
    if skipped > gate.largest_skipped_share:
        yield Reason(
            code="not_replayable",
            value=skipped,
            threshold=gate.largest_skipped_share,
            text=f"{skipped:.1%} of the decisions could not be made again, expected at most "
            f"{gate.largest_skipped_share:.1%}: those that can may not stand for the rest",
        )


def _wrong_probabilities(kept: Comparison, gate: Gate) -> list[Reason]:
    """Where an option was taken more or less often than its logged probabilities say.

    A customer's decisions share the arm of the experiment, so errors are summed by customer before they are squared.
    """
    off = -kept.log.logged.copy()
    off[np.arange(len(kept)), kept.log.taken] += 1
    person = np.unique(kept.log.people, return_inverse=True)[1]
    sums = np.zeros((int(person.max()) + 1, off.shape[1]))
    np.add.at(sums, person, off)
    # Never below what so many draws of that probability would have if they were one customer's each.
    noise = np.sqrt(np.maximum((sums**2).sum(axis=0), (kept.log.logged * (1 - kept.log.logged)).sum(axis=0)))
    errors = np.abs(off.sum(axis=0)) / np.maximum(noise, 1.0)
    worst = int(errors.argmax())
    if errors[worst] <= gate.probability_errors:
        return []
    n = len(kept)
    return [
        Reason(
            code="wrong_probabilities",
            value=float(errors[worst]),
            threshold=gate.probability_errors,
            text=f"option {worst} was taken {int((kept.log.taken == worst).sum())} times in {n} decisions, where the "
            f"logged probabilities say {kept.log.logged[:, worst].sum():.0f}: {errors[worst]:.1f} standard errors off, "
            f"expected at most {gate.probability_errors:g}",
        )
    ]


def _guard_reasons(kept: Comparison, gate: Gate) -> Iterator[Reason]:
    for name in ("champion", "challenger"):
        for one in choice_refusals(kept.log, getattr(kept, name), gate.guard):
            yield Reason(code=one.code, value=one.value, threshold=one.threshold, text=f"{name}: {one.reason}")


def _changed_reasons(changed: float, decisions: float, customers: float, gate: Gate) -> Iterator[Reason]:
    if changed < _NOTHING:
        yield Reason(
            code="same_choices", value=0.0, threshold=None, text="both models would decide the same everywhere"
        )
        return
    if decisions < gate.smallest_changed:
        yield Reason(
            code="few_changed",
            value=decisions,
            threshold=gate.smallest_changed,
            text=f"{decisions:.0f} effective decisions on which the two differ, expected at least "
            f"{gate.smallest_changed:.0f}: log more of what the challenger would do",
        )
    if customers < gate.smallest_customers:
        yield Reason(
            code="few_customers",
            value=customers,
            threshold=gate.smallest_customers,
            text=f"{customers:.0f} effective customers on whom the two differ, expected at least "
            f"{gate.smallest_customers:.0f}: decisions of the same customers tell little more than one of each",
        )


def _value_reasons(kept: Comparison, terms: FloatArray, difference: Interval, gate: Gate) -> Iterator[Reason]:
    percent = f"{gate.level:.0%}" if gate.looks == "once" else f"{gate.level:.0%} however often one looks"
    if not difference.low > gate.margin:
        is_worse = difference.high < 0
        yield Reason(
            code="worse" if is_worse else "not_better",
            value=None if math.isnan(difference.low) else difference.low,
            threshold=gate.margin,
            text=f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] money per decision "
            f"({percent}), expected a lower bound above {gate.margin:g}",
        )
    for group in np.unique(kept.groups).tolist():
        rows = kept.groups == group
        if int(rows.sum()) < gate.smallest_group or rows.all():
            continue
        found = _interval(terms[rows], kept.log.people[rows], gate)
        if found.high < 0:
            yield Reason(
                code="worse_for_group",
                value=found.high,
                threshold=0.0,
                text=f"{group}: {found.estimate:+.4f} [{found.low:+.4f}, {found.high:+.4f}] money per decision "
                f"({percent}), expected no group that is certainly worse off",
            )


def _slope_reasons(slope: float, kept: Comparison, gate: Gate) -> Iterator[Reason]:
    low, high = gate.calibration
    if math.isnan(slope):
        if kept.log.binary.any():
            yield Reason(
                code="calibration_unknown",
                value=None,
                threshold=None,
                text="the calibration of the challenger's responses cannot be told: the outcome always or never came, "
                "or all predictions are the same",
            )
    elif not low <= slope <= high:
        yield Reason(
            code="calibration",
            value=slope,
            threshold=low if slope < low else high,
            text=f"a calibration slope of {slope:.2f} of the challenger's responses, expected {low:g} to {high:g}",
        )


def _added_cost(kept: Comparison) -> FloatArray:
    """``(n,)`` money that the challenger spends more on contacts than the champion."""
    added: FloatArray = (((kept.challenger - kept.champion) * kept.log.cost)[:, 1:]).sum(axis=1)
    return added


def _with_dear_contacts(kept: Comparison, terms: FloatArray, gate: Gate) -> Interval | None:
    """The difference if every contact cost ``contact_cost_factor`` times as much."""
    if gate.contact_cost_factor is None:
        return None
    return _interval(terms - (gate.contact_cost_factor - 1) * _added_cost(kept), kept.log.people, gate)


def _rise_reasons(rises: dict[str, float], dear: Interval | None, gate: Gate) -> Iterator[Reason]:
    contacts, limit = rises["contact_rise"], gate.largest_contact_rise
    if contacts > limit and not (dear is not None and dear.low > gate.margin):
        said = f"a rise of the share of decisions that contact somebody by {contacts:.4f}, expected at most {limit:g}"
        if dear is not None:
            said += (
                f", or a lower bound above {gate.margin:g} money per decision with every contact costing "
                f"{gate.contact_cost_factor:g} times as much: {dear.estimate:+.4f} [{dear.low:+.4f}, {dear.high:+.4f}]"
            )
        yield Reason(code="contact_rise", value=contacts, threshold=limit, text=said)
    most = gate.largest_cost_rise
    if most is not None and rises["cost_rise"] > most:
        said = f"a rise of the cost of a decision by {rises['cost_rise']:.4f}, expected at most {most:g}"
        yield Reason(code="cost_rise", value=rises["cost_rise"], threshold=most, text=said)
