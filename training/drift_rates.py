"""How decisions come out: which actions, how often none, what limits hold back, what was missing when deciding."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from features.kernel import Floats
from training.drift_samples import Decided, Texts
from training.drift_verdict import INVESTIGATE, Reason
from training.params import DriftParams

RULES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of a whole, before and lately.

    Attributes:
        before: NaN where there is nothing to take a share of.
        lately: likewise.
        se: standard error of the difference, clustered by person.
    """

    before: float
    lately: float
    se: float

    @property
    def change(self) -> float:
        """By how much it rose."""
        return self.lately - self.before

    def has_changed(self, params: DriftParams) -> bool:
        """Whether the change is both large enough to matter and certain; never where a side is unknown."""
        return abs(self.change) >= params.share_change and abs(self.change) > params.certainty * self.se


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How decisions came out, before and lately.

    Attributes:
        mix: by action, the share of the decisions; every action that either period chose, commonest lately first.
        mix_index: population stability index of the mix.
        no_action: share of decisions for nothing.
        saturation: of the candidates that came as far as the contact rules, the share that limits held back.
        blocked: share of decisions in which limits held back all of them.
        degraded: share of decisions for which something was missing or stale.
        rules: rules that held candidates back lately, with the share of decisions before and lately.
    """

    mix: Mapping[str, tuple[float, float]]
    mix_index: float
    no_action: Share
    saturation: Share
    blocked: Share
    degraded: Share
    rules: Mapping[str, tuple[float, float]]

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "mix": {name: list(pair) for name, pair in self.mix.items()},
            "mix_index": self.mix_index,
            **{
                name: {"before": one.before, "lately": one.lately, "se": one.se}
                for name, one in (
                    ("no_action", self.no_action),
                    ("cap_saturation", self.saturation),
                    ("blocked", self.blocked),
                    ("degraded", self.degraded),
                )
            },
            "rules": {name: list(pair) for name, pair in self.rules.items()},
        }


def rates(before: Decided, lately: Decided) -> Rates:
    """How the decisions of both periods came out."""
    one, two = (np.bincount(side.arm, minlength=len(side.arm_ids)) for side in (before, lately))
    chosen = sorted(np.flatnonzero(one + two).tolist(), key=lambda arm: -two[arm])
    return Rates(
        mix={before.arm_ids[arm]: (one[arm] / max(len(before), 1), two[arm] / max(len(lately), 1)) for arm in chosen},
        mix_index=mix_index(one.astype(np.float64), two.astype(np.float64)),
        no_action=share(_no_action(before), before.people, _no_action(lately), lately.people),
        saturation=_ratio(before, lately),
        blocked=share(_blocked(before), before.people, _blocked(lately), lately.people),
        degraded=share(
            before.degraded.astype(np.float64), before.people, lately.degraded.astype(np.float64), lately.people
        ),
        rules=_rules(before, lately),
    )


def rate_reasons(found: Rates, params: DriftParams) -> list[Reason]:
    """What to look into. None of it is cured by learning anew: limits, configuration and feeds are."""
    reasons = []
    if found.mix_index >= params.psi_threshold:
        reasons.append(
            Reason(
                code="actions.mix",
                calls_for=INVESTIGATE,
                value=found.mix_index,
                threshold=params.psi_threshold,
                text=f"other actions are chosen than before: the index of the mix is {found.mix_index:.2f}",
            )
        )
    for code, one, what in (
        ("actions.none", found.no_action, "decisions for no action"),
        ("limits.saturation", found.saturation, "candidates that limits hold back"),
        ("decisions.degraded", found.degraded, "decisions with something missing or stale"),
    ):
        is_worse = one.change > 0 or code == "actions.none"
        if is_worse and one.has_changed(params):
            reasons.append(
                Reason(
                    code=code,
                    calls_for=INVESTIGATE,
                    value=one.lately,
                    threshold=one.before + math.copysign(params.share_change, one.change),
                    text=f"{what} went from {one.before:.1%} to {one.lately:.1%}",
                )
            )
    return reasons


def mix_index(before: Floats, lately: Floats) -> float:
    """Population stability index of two counts of the same classes, half a row added to each; NaN without rows.

    ``sum (p - q) ln(p / q)``.

    References:
        Jeffreys 1946, An invariant form for the prior probability in estimation problems; Yurdakul 2018, Statistical
        properties of population stability index, section 2.

    >>> mix_index(np.array([50.0, 50.0]), np.array([50.0, 50.0]))
    0.0
    """
    if not before.sum() or not lately.sum():
        return math.nan
    used = (before + lately) > 0
    p, q = ((counts[used] + 0.5) / (counts[used] + 0.5).sum() for counts in (before, lately))
    return float(((p - q) * np.log(p / q)).sum())


def share(before: Floats, people: Texts, lately: Floats, people_lately: Texts) -> Share:
    """Shares of rows of noughts and ones in both periods; NaN where a period has none."""
    return ratio(before, np.ones_like(before), people, lately, np.ones_like(lately), people_lately)


def ratio(
    part: Floats, whole: Floats, people: Texts, part_lately: Floats, whole_lately: Floats, people_lately: Texts
) -> Share:
    """Ratios of sums in both periods, with the standard error of their difference over people.

    References:
        Cochran 1977, Sampling techniques, section 6.4 (linearisation of a ratio), over clusters.
    """
    if not whole.sum() or not whole_lately.sum():
        known = [
            float(a.sum() / b.sum()) if b.sum() else math.nan for a, b in ((part, whole), (part_lately, whole_lately))
        ]
        return Share(before=known[0], lately=known[1], se=math.nan)
    one, two = float(part.sum() / whole.sum()), float(part_lately.sum() / whole_lately.sum())
    influence = np.concatenate(
        [(part_lately - two * whole_lately) / whole_lately.sum(), -(part - one * whole) / whole.sum()]
    )
    group = np.unique(np.concatenate([people_lately, people]), return_inverse=True)[1]
    sums = np.bincount(group, weights=influence)
    return Share(before=one, lately=two, se=math.sqrt(float(sums @ sums)))


def _no_action(side: Decided) -> Floats:
    return np.asarray(side.arm == 0, dtype=np.float64)


def _blocked(side: Decided) -> Floats:
    return np.asarray((side.reached > 0) & (side.held == side.reached), dtype=np.float64)


def _ratio(before: Decided, lately: Decided) -> Share:
    counts = [column.astype(np.float64) for side in (before, lately) for column in (side.held, side.reached)]
    return ratio(counts[0], counts[1], before.people, counts[2], counts[3], lately.people)


def _rules(before: Decided, lately: Decided) -> dict[str, tuple[float, float]]:
    one, two = (Counter(rule for rules in side.held_by for rule in rules) for side in (before, lately))
    return {
        name: (one[name] / max(len(before), 1), count / max(len(lately), 1))
        for name, count in two.most_common(RULES_SHOWN)
    }
