"""What an audience would come to, before it is made: exact where few are asked about, else from a sample, and how sure.

The sample is by stable hash, so that the same question about the same people has the same answer. What is scarce is
scaled to it. A count's interval is Wilson's, with the correction for a finite population; that of the net value holds
the sampling error, and the models' own as if all estimates erred together.

References:
    Cochran (1977), Sampling Techniques, 3rd ed., chapter 2 (finite population correction); ``wilson`` has its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from features.event_export import export_events
from features.event_log import EventLog
from features.event_store import open_event_log
from features.events import dump_timestamp
from features.home import Home
from features.journey_statistics import wilson
from features.stable_hash import stable_hash
from models.allocation import NOTHING
from models.arbitration import Z_95
from models.audience_work import (
    Tell,
    chosen_counts,
    considered_block,
    people_behind,
    people_once,
    pinned_configuration,
    removal_counts,
    scene_of,
)
from models.audiences import SAMPLE, AudienceRequest, Pins, contact_moment
from models.batch_home import opened_records
from models.batch_observation import CUSTOMERS_PER_BLOCK, Observed, Scene, customer_blocks, listed_customers
from models.batch_population import Population, joined
from models.batch_ranking import Ranking, constraints_of, ranking_of
from models.capacity import capacity_windows
from models.records import RecordStore

_SALT: Final = "audience|estimate"


def estimated_audience(
    home: Home, request: AudienceRequest, pins: Pins, *, tell: Tell, sample: int = SAMPLE
) -> dict[str, Any]:
    """What an audience would come to; the home is only read.

    Args:
        home: the home.
        request: what would be asked for.
        pins: as of when.
        tell: told how far it is.
        sample: so many customers are looked at.

    Raises:
        UnknownObject: something that was pinned is not there.
        StoreError: a store does not answer.
        BundleError: the model cannot be used.
    """
    configuration = pinned_configuration(home, pins)
    scene = scene_of(request, pins, home, configuration)
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_event_log(home, readonly=True)))
        records = opened_records(home, stack)
        found = _Sample(sample)
        if request.customer_ids is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="headway-", dir=home.state))
            events = Path(folder) / "events"
            export_events(log, events, until=pins.log_position)
            for asked in customer_blocks(events, scene, wanted=None):
                found.add(asked())
        else:
            persons, _ = people_once(request.customer_ids, people_behind(request.customer_ids, pins, log, tell))
            persons.sort(key=lambda one: _place(one.customer_id))
            found.n_seen = len(persons)
            for start in range(0, len(persons[:sample]), CUSTOMERS_PER_BLOCK):
                block = persons[start : min(start + CUSTOMERS_PER_BLOCK, sample)]
                found.kept.append(listed_customers(block, scene, log, until=pins.log_position))
        windows = capacity_windows(scene.rulebook.policy.capacity, pins.at, configuration.taxonomy.time_zone)
        taken = records.capacity_used(windows, now=pins.at)
        population = joined(list(_considered(found, request, pins, scene, log, records)), scene)
    part = found.n_kept / found.n_seen if found.n_seen else 1.0
    ranking = ranking_of(population, scene, taken=taken, sharing=replace(request.sharing, part=part))
    left = constraints_of(scene.rulebook, taken)
    return {
        **_estimates(population, ranking, scene, found.n_kept, found.n_seen, request.max_customers),
        "capacities": {
            one: {"used": min(ranking.used[one] / part, most), "left": most}
            for one, most in zip(left.ids, left.most.tolist(), strict=True)
            if one in ranking.used
        },
        "journey_id": request.journey_id,
        "as_of": dump_timestamp(pins.at),
        "contact_at": contact_moment(request.contact_at, pins),
        "currency": configuration.taxonomy.currency,
        "versions": {**pins.versions, "bundle": pins.bundle},
    }


class _Sample:
    """The customers of least hash among all that were seen.

    Attributes:
        kept: blocks of them.
        n_seen: how many were seen.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.kept: list[Observed] = []
        self.n_seen = 0

    @property
    def n_kept(self) -> int:
        """How many are kept."""
        return sum(len(one.customer_ids) for one in self.kept)

    def add(self, observed: Observed) -> None:
        """See more customers."""
        self.n_seen += len(observed.customer_ids)
        self.kept.append(observed)
        if self.n_kept > self._most:
            self._shrink()

    def _shrink(self) -> None:
        places = [
            (_place(customer_id), block, row)
            for block, observed in enumerate(self.kept)
            for row, customer_id in enumerate(observed.customer_ids)
        ]
        rows: dict[int, list[int]] = {}
        for _, block, row in sorted(places)[: self._most]:
            rows.setdefault(block, []).append(row)
        self.kept = [self.kept[block].of(sorted(own)) for block, own in sorted(rows.items())]


def _place(customer_id: str) -> int:
    return stable_hash(_SALT, customer_id)


def _considered(
    found: _Sample, request: AudienceRequest, pins: Pins, scene: Scene, log: EventLog, records: RecordStore
) -> Iterator[Population]:
    for observed in found.kept:
        yield considered_block(lambda observed=observed: observed, request, pins, scene, log, records)  # type: ignore[misc]  # bound now


def _estimates(
    population: Population, ranking: Ranking, scene: Scene, n: int, n_all: int, most_customers: int | None
) -> dict[str, Any]:
    actions, channels = chosen_counts(ranking, scene)
    most = n_all if most_customers is None else min(most_customers, n_all)

    def counts(found: Mapping[str, int], most: int = n_all) -> dict[str, Any]:
        return {name: _count(number, n, n_all, most=most) for name, number in found.items()}

    return {
        "population": n_all,
        "sampled": n,
        "is_exact": n == n_all,
        "customers": _count(len(population.customer_ids), n, n_all, most=n_all),
        "selected": _count(sum(actions.values()), n, n_all, most=most),
        "reasons": counts(removal_counts(population, ranking)),
        "actions": counts(actions, most),
        "channels": counts(channels, most),
        "net_value": _money(ranking, n, n_all, most=most),
    }


def _count(k: int, n: int, n_all: int, *, most: int) -> dict[str, float]:
    """How many there are of all, which are no more than ``most``, with an interval, where k of n in the sample are."""
    if n == n_all:
        return {"estimate": k, "low": k, "high": k}
    low, high = wilson(k / n, n * (n_all - 1) / (n_all - n))
    found = {"estimate": n_all * k / n, "low": max(k, n_all * low), "high": min(n_all - (n - k), n_all * high)}
    return {name: min(number, most) for name, number in found.items()}


def _money(ranking: Ranking, n: int, n_all: int, *, most: int) -> dict[str, float]:
    """The total of net values before the prices of what is scarce, with an interval, where ``most`` get an action."""
    is_chosen = ranking.allocation.choice != NOTHING
    each = np.zeros(n)
    each[: int(is_chosen.sum())] = (ranking.net_value + ranking.paid)[is_chosen]
    sigmas = ranking.net_value_sigma[is_chosen]
    scale = min(n_all / n, most / max(1, len(sigmas))) if n else 1.0
    total, model = float(each.sum()) * scale, float(sigmas.sum()) * scale
    sampling = 0.0
    if 1 < n < n_all:
        sampling = n_all * float(each.std(ddof=1)) * math.sqrt((1 - n / n_all) / n)
    half = Z_95 * math.hypot(model, sampling)
    return {
        "estimate": total,
        "low": total - half,
        "high": total + half,
        "sampling_error": sampling,
        "model_error": model,
    }
