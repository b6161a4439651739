"""Parity: whether the features that decisions were served with are those that training reads for the same moments.

Arrays in, a report out; where records and events come from is the caller's. There is no tolerance: both sides come out
of one kernel, so any difference is a difference in what was folded, and zero is the expected number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.kernel import Floats, Integers

Booleans: TypeAlias = NDArray[np.bool_]
Fault = Literal["mismatch", "missing", "extra"]


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Where two tables of the same features differ, each ``(n_decisions, n_features)``.

    Attributes:
        mismatch: both are known, and not the same to the bit.
        missing: it was served as unknown, and is known.
        extra: it was served, and is unknown.
    """

    mismatch: Booleans
    missing: Booleans
    extra: Booleans


def differences(served: Floats, recomputed: Floats) -> Differences:
    """Where what was served is something else than what is recomputed; NaN is equal to NaN, -0.0 is not to 0.0.

    >>> differences(np.array([[1.0, np.nan]]), np.array([[1.0, 2.0]])).missing.tolist()
    [[False, True]]
    """
    is_served, is_known = ~np.isnan(served), ~np.isnan(recomputed)
    same = np.ascontiguousarray(served).view(np.int64) == np.ascontiguousarray(recomputed).view(np.int64)
    return Differences(
        mismatch=is_served & is_known & ~same, missing=~is_served & is_known, extra=is_served & ~is_known
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One value that differs.

    Attributes:
        served: NaN where it was served as unknown.
        recomputed: NaN where it is unknown.
        is_behind: the served state had not folded all that had arrived.
    """

    feature: str
    decision_id: str
    fault: Fault
    served: float
    recomputed: float
    is_behind: bool

    @property
    def distance(self) -> float:
        """How far apart they are; infinite where only one is known."""
        return abs(self.served - self.recomputed) if self.fault == "mismatch" else np.inf


@dataclass(slots=True)
class FeatureTally:
    """How often one feature was compared, and found different."""

    decisions: int = 0
    mismatch: int = 0
    missing: int = 0
    extra: int = 0

    @property
    def different(self) -> int:
        """Values that differ in any way."""
        return self.mismatch + self.missing + self.extra

    def rate(self, count: int) -> float:
        """A count as a share of the values compared; 0 where there are none."""
        return count / self.decisions if self.decisions else 0.0


@dataclass(slots=True)
class ParityReport:
    """What a comparison of served with recomputed features found, as it grows.

    Attributes:
        decisions: compared.
        behind: of these, with a state that lacked what had arrived strictly before; a difference that is found either
            way, told apart since its cause is known.
        degraded: what the compared decisions say was missing when they were made, and how often.
        skipped: decisions that cannot be compared, by reason.
        by_feature: every feature that was compared.
        examples: by feature, the value that is furthest off.
    """

    decisions: int = 0
    behind: int = 0
    degraded: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    by_feature: dict[str, FeatureTally] = field(default_factory=dict)
    examples: dict[str, Example] = field(default_factory=dict)

    @property
    def total(self) -> FeatureTally:
        """Over all features: values compared, and different."""
        tallies = self.by_feature.values()
        return FeatureTally(
            decisions=sum(one.decisions for one in tallies),
            mismatch=sum(one.mismatch for one in tallies),
            missing=sum(one.missing for one in tallies),
            extra=sum(one.extra for one in tallies),
        )

    @property
    def is_proven(self) -> bool:
        """Something was compared, and nothing differs."""
        return self.decisions > 0 and self.behind == 0 and self.total.different == 0

    def skip(self, reason: str) -> None:
        """Count one decision that cannot be compared."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def add(
        self,
        names: Sequence[str],
        decision_ids: Sequence[str],
        served: Floats,
        recomputed: Floats,
        *,
        is_behind: Booleans,
        degraded: Sequence[Sequence[str]],
    ) -> None:
        """Count some decisions in.

        Args:
            names: of the features.
            decision_ids: ``(n,)``.
            served: ``(n, n_features)``.
            recomputed: likewise.
            is_behind: ``(n,)``.
            degraded: ``(n,)`` what each decision says was missing.
        """
        found = differences(served, recomputed)
        self.decisions += len(decision_ids)
        self.behind += int(is_behind.sum())
        for reason in (one for each in degraded for one in each):
            self.degraded[reason] = self.degraded.get(reason, 0) + 1
        counts = {fault: getattr(found, fault).sum(axis=0) for fault in ("mismatch", "missing", "extra")}
        for i, name in enumerate(names):
            tally = self.by_feature.setdefault(name, FeatureTally())
            tally.decisions += len(decision_ids)
            for fault, count in counts.items():
                setattr(tally, fault, getattr(tally, fault) + int(count[i]))
        self._keep_examples(names, decision_ids, served, recomputed, found, is_behind)

    def _keep_examples(
        self,
        names: Sequence[str],
        decision_ids: Sequence[str],
        served: Floats,
        recomputed: Floats,
        found: Differences,
        is_behind: Booleans,
    ) -> None:
        for fault in ("mismatch", "missing", "extra"):
            different: Booleans = getattr(found, fault)
            for i in np.flatnonzero(different.any(axis=0)).tolist():
                rows = np.flatnonzero(different[:, i])
                row = rows[np.argmax(np.nan_to_num(np.abs(served[rows, i] - recomputed[rows, i])))]
                example = Example(
                    feature=names[i],
                    decision_id=decision_ids[row],
                    fault=fault,
                    served=float(served[row, i]),
                    recomputed=float(recomputed[row, i]),
                    is_behind=bool(is_behind[row]),
                )
                kept = self.examples.get(example.feature)
                if kept is None or example.distance > kept.distance:
                    self.examples[example.feature] = example

    def worst(self, n: int) -> list[Example]:
        """One example for each of the features that differ most often."""
        ordered = sorted(self.examples.values(), key=lambda one: (-self.by_feature[one.feature].different, one.feature))
        return ordered[:n]


def parity_document(report: ParityReport, *, examples: int) -> dict[str, object]:
    """The report as JSON values: counts of values, and beside them their rates."""
    total = report.total
    return {
        "decisions": report.decisions,
        "features": len(report.by_feature),
        **_counts(total),
        "behind": report.behind,
        "degraded": dict(sorted(report.degraded.items())),
        "skipped": dict(sorted(report.skipped.items())),
        "by_feature": {
            name: {"decisions": tally.decisions, **_counts(tally)}
            for name, tally in report.by_feature.items()
            if tally.different
        },
        "examples": [_example(one) for one in report.worst(examples)],
    }


def _counts(tally: FeatureTally) -> dict[str, float]:
    counts = {"mismatch": tally.mismatch, "missing": tally.missing, "extra": tally.extra}
    return counts | {f"{name}_rate": tally.rate(count) for name, count in counts.items()}


def _example(one: Example) -> dict[str, object]:
    return {
        "feature": one.feature,
        "decision_id": one.decision_id,
        "fault": one.fault,
        "served": _number(one.served),
        "recomputed": _number(one.recomputed),
        "behind": one.is_behind,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def parity_text(report: ParityReport, *, examples: int) -> str:
    """The report as people read it; only features that differ are listed."""
    total = report.total
    lines = [
        f"{report.decisions:,} decisions, {len(report.by_feature):,} features, {total.decisions:,} values compared",
        f"mismatch  {total.mismatch:,} ({total.rate(total.mismatch):.4%})   both known, and different",
        f"missing   {total.missing:,} ({total.rate(total.missing):.4%})   served as unknown, and known",
        f"extra     {total.extra:,} ({total.rate(total.extra):.4%})   served, and unknown",
        f"behind    {report.behind:,} decisions with a state that lacked what had arrived",
        *_listed("degraded", report.degraded),
        *_listed("skipped", report.skipped),
    ]
    different = {name: tally for name, tally in report.by_feature.items() if tally.different}
    if different:
        width = max(len("feature"), *map(len, different))
        lines += ["", f"{'feature':<{width}}   mismatch    missing      extra"]
        lines += [
            f"{name:<{width}}  {tally.rate(tally.mismatch):9.4%}  {tally.rate(tally.missing):9.4%}  "
            f"{tally.rate(tally.extra):9.4%}"
            for name, tally in sorted(different.items(), key=lambda each: (-each[1].different, each[0]))
        ]
        lines += ["", "furthest off"]
        lines += [
            f"{one.decision_id}  {one.feature}: served {one.served!r}, recomputed {one.recomputed!r}"
            f"{', behind the log' if one.is_behind else ''}"
            for one in report.worst(examples)
        ]
    return "\n".join(lines) + "\n"


def _listed(what: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"{what:<9} {', '.join(f'{reason} {count:,}' for reason, count in sorted(counts.items()))}"]


def is_behind(positions: Integers, newest: Integers) -> Booleans:
    """``(n,)`` whether a state that had folded the log up to ``positions`` lacks what had arrived, ``newest``."""
    return np.asarray(positions < newest, dtype=np.bool_)
