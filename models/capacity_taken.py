"""What of each capacity and budget is taken in the present period, read back from the decisions made in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from models.actions import Catalogue
from models.decision import Candidate, DecisionRecord
from models.ids import smallest_id
from models.policy import Budget, CapacityLimit, Policy
from models.prices import takes_money, takes_unit, window
from models.records import RecordStore
from models.winning import recorded_factors


def taken(
    records: RecordStore,
    policy: Policy,
    catalogue: Catalogue,
    is_binary: Mapping[str, bool],
    *,
    at: int,
    time_zone: str,
) -> dict[str, float]:
    """Units of each capacity and money of each budget, by id, that live decisions of the present period take.

    Those that were activated, and those that may still be; of several for one send the last.

    Args:
        records: the decisions; only those of the longest period are read.
        policy: capacities and budgets.
        catalogue: queues and issues of the actions; of one that is no longer declared nothing is known.
        is_binary: whether an outcome is a yes or no, by its id, of all journeys.
        at: the moment, microseconds since the epoch.
        time_zone: of the installation: the day begins there.
    """
    declared: tuple[CapacityLimit | Budget, ...] = (*policy.capacity.limits, *policy.capacity.budgets)
    if not declared:
        return {}
    since = {one.id: window(one.period, at, time_zone)[0] for one in declared}
    total = dict.fromkeys(since, 0.0)
    for record in _standing(records, since=min(since.values()), at=at):
        for candidate in _selected(record):
            action = catalogue.by_id.get(candidate.action_id)
            if action is None or (candidate.outcome or "") not in is_binary:
                continue
            for one in declared:
                if record.decided_at >= since[one.id]:
                    total[one.id] += _amount(one, candidate, action.issue, action.assigned_to, is_binary)
    return total


def _amount(
    one: CapacityLimit | Budget, candidate: Candidate, issue: str, queue: str | None, is_binary: Mapping[str, bool]
) -> float:
    if isinstance(one, CapacityLimit):
        return float(takes_unit(one, channel=candidate.channel or "", queue=queue))
    return recorded_factors(candidate, is_binary).spend if takes_money(one, issue=issue) else 0.0


def _standing(records: RecordStore, *, since: int, at: int) -> Iterator[DecisionRecord]:
    """Live decisions before a moment that count a contact, or hold a lease on one."""
    of_send: dict[tuple[str, str], DecisionRecord] = {}
    for page in records.read(after=smallest_id(since)):
        for record in page:
            if record.mode != "live" or not since <= record.decided_at < at:
                continue
            is_counted = record.activated or record.expires_at > at
            if record.send_id is not None and not record.activated:
                of_send[record.customer_id, record.send_id] = record
            elif is_counted:
                yield record
    yield from (record for record in of_send.values() if record.expires_at > at)


def _selected(record: DecisionRecord) -> list[Candidate]:
    chosen = {one.treatment_id for one in record.selected}
    return [candidate for candidate in record.candidates if candidate.treatment_id in chosen and candidate.is_scored]
