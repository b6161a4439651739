"""Whether customers still take the steps they took: kinds of event, and one kind directly after another.

Two windows of one length and whole weeks apart are compared, so that a Monday is never held against a Sunday, by the
share of the customers active in each who took a step. New and vanished steps are named; so are those that many more or
fewer take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from features.duck import connected
from features.stable_hash import stable_hash
from training.drift_sources import Source
from training.drift_verdict import INVESTIGATE, Reason
from training.params import DriftParams, ProcessDriftParams

DAY_US: Final = 86_400_000_000
_WEEK: Final = 7
_ARROW: Final = " -> "
_SALT: Final = "drift process"


class Window(NamedTuple):
    """From ``since`` up to before ``until``, microseconds since the epoch."""

    since: int
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A kind of event, or one that directly follows another of the same customer.

    Attributes:
        before: customers who took it in the earlier window.
        lately: in the recent window.
    """

    name: str
    before: int
    lately: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """The steps of two windows.

    Attributes:
        windows: the earlier and the recent one.
        customers: active in each.
        kinds: kinds of event, commonest first.
        transitions: one kind after another, likewise.
        is_judged: both windows hold enough customers.
    """

    windows: tuple[Window, Window]
    customers: tuple[int, int]
    kinds: tuple[Step, ...]
    transitions: tuple[Step, ...]
    is_judged: bool

    def share(self, step: Step) -> tuple[float, float]:
        """Share of the customers active in each window who took a step; NaN where there are none."""
        return tuple(  # type: ignore[return-value]  # two
            count / n if n else math.nan for count, n in zip((step.before, step.lately), self.customers, strict=True)
        )

    def document(self) -> dict[str, Any]:
        """As plain values; transitions only where they are new or vanished, of which there are few."""
        return {
            "windows": [list(one) for one in self.windows],
            "customers": list(self.customers),
            "kinds": {step.name: list(self.share(step)) for step in self.kinds},
        }


def windows(source: Source, since: int | None, params: ProcessDriftParams) -> tuple[Window, Window]:
    """The latest days since the training, and as many before it.

    They are whole weeks apart. The recent window is as long as one may be, or as the time since the training where
    that is less, but a day at least.

    Args:
        source: whose end of observation counts.
        since: until when was trained on, microseconds since the epoch; None where all that there is was trained on:
            then the windows follow each other.
        params: the longest window.
    """
    end = source.observed_until + 1
    passed = params.longest_days * DAY_US if since is None else end - since
    days = min(params.longest_days, max(1, passed // DAY_US))
    apart = _WEEK * max(1, math.ceil(passed / (_WEEK * DAY_US)))
    recent = Window(end - days * DAY_US, end)
    return Window(recent.since - apart * DAY_US, recent.until - apart * DAY_US), recent


def process_steps(source: Source, spans: tuple[Window, Window], params: ProcessDriftParams) -> Process:
    """The steps of two windows, of whole customers by stable hash where there are many."""
    steps = source.steps(spans[0].since)
    with connected() as connection:
        connection.register("steps", steps)
        tables = [_window(connection, one, params.customers) for one in spans]
        counted = [_counts(connection, one) for one in tables]
    customers = (counted[0][0], counted[1][0])
    return Process(
        windows=spans,
        customers=customers,
        kinds=_merged(counted[0][1], counted[1][1]),
        transitions=_merged(counted[0][2], counted[1][2]),
        is_judged=min(customers) >= params.smallest,
    )


def process_reasons(found: Process, params: DriftParams) -> list[Reason]:
    """Steps that are new, gone, or taken by many more or fewer: something outside the models changed."""
    if not found.is_judged:
        return []
    reasons = []
    told: set[str] = set()
    for step in found.kinds:
        if (reason := _come_or_gone(found, step, "do", params.process)) is not None:
            told.add(step.name)
            reasons.append(reason)
        elif (reason := _rate_reason(found, step, params)) is not None:
            reasons.append(reason)
    for step in found.transitions:
        # Where a kind came or went, so did all before and after it.
        if not told & set(step.name.split(_ARROW)):
            reason = _come_or_gone(found, step, "go", params.process)
            reasons += [] if reason is None else [reason]
    return reasons


def _come_or_gone(found: Process, step: Step, verb: str, params: ProcessDriftParams) -> Reason | None:
    before, lately = found.share(step)
    expected = before * found.customers[1]
    if not step.lately and expected >= params.expected:
        text = f"nobody does {step.name} any more" if verb == "do" else f"nobody goes from {step.name} any more"
        return _reason("process.vanished", step.name, 0.0, params.expected, f"{text}; {expected:.0f} were expected to")
    if not step.before and lately >= params.new_share and lately * found.customers[0] >= params.expected:
        text = f"{lately:.1%} of the customers {verb} {step.name}, which nobody did before"
        return _reason("process.new", step.name, lately, params.new_share, text)
    return None


def _rate_reason(found: Process, step: Step, params: DriftParams) -> Reason | None:
    before, lately = found.share(step)
    if not _has_changed(before, lately, found.customers, params):
        return None
    threshold = before + math.copysign(params.share_change, lately - before)
    text = f"customers with {step.name} went from {before:.1%} to {lately:.1%}"
    return _reason("process.rate", step.name, lately, threshold, text)


def _reason(code: str, subject: str, value: float, threshold: float, text: str) -> Reason:
    return Reason(code=code, calls_for=INVESTIGATE, subject=subject, value=value, threshold=threshold, text=text)


def _has_changed(before: float, lately: float, customers: tuple[int, int], params: DriftParams) -> bool:
    """A change that matters and is certain, by the normal approximation of two shares."""
    pooled = (before * customers[0] + lately * customers[1]) / sum(customers)
    se = math.sqrt(pooled * (1 - pooled) * (1 / customers[0] + 1 / customers[1]))
    return abs(lately - before) >= params.share_change and abs(lately - before) > params.certainty * se


def _window(connection: Any, span: Window, most: int) -> pa.Table:
    rows: pa.Table = connection.sql(
        "SELECT customer_id, kind, moment, sequence FROM steps WHERE moment >= ? AND moment < ?", params=list(span)
    ).to_arrow_table()
    names = rows["customer_id"].unique().to_pylist()
    if len(names) <= most:
        return rows
    chosen = sorted(names, key=lambda one: stable_hash(_SALT, one))[:most]
    connection.register("chosen", pa.table({"customer_id": pa.array(chosen, pa.string())}))
    connection.register("taken", rows)
    kept: pa.Table = connection.sql("SELECT taken.* FROM taken SEMI JOIN chosen USING (customer_id)").to_arrow_table()
    return kept


def _counts(connection: Any, rows: pa.Table) -> tuple[int, Mapping[str, int], Mapping[str, int]]:
    """Customers, and how many of them took each kind, and each transition."""
    connection.register("taken", rows)
    n = int(connection.execute("SELECT count(DISTINCT customer_id) FROM taken").fetchone()[0])
    kinds = connection.execute("SELECT kind, count(DISTINCT customer_id) FROM taken GROUP BY kind").fetchall()
    pairs = connection.execute(
        "SELECT former || ? || kind, count(DISTINCT customer_id) FROM (SELECT customer_id, kind, "
        "lag(kind) OVER (PARTITION BY customer_id ORDER BY moment, sequence, kind) AS former FROM taken) "
        "WHERE former IS NOT NULL GROUP BY 1",
        [_ARROW],
    ).fetchall()
    return n, dict(kinds), dict(pairs)


def _merged(before: Mapping[str, int], lately: Mapping[str, int]) -> tuple[Step, ...]:
    names = sorted({*before, *lately}, key=lambda name: (-before.get(name, 0) - lately.get(name, 0), name))
    return tuple(Step(name=name, before=before.get(name, 0), lately=lately.get(name, 0)) for name in names)
