"""A decider over a record store of one's own, for customers of whom nothing is known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from features.event_log import MemoryEventLog
from features.moments import Moments
from features.store import MemoryStore, ProfileRow, StateRow
from models.actions import Action
from models.deliberation import Rulebook
from models.records import RecordStore
from serving.decide import Decider
from serving.observe import Observer
from serving.schemas import DecisionRequest
from tests.decisions import rulebook
from tests.histories import FEATURE_SETS


def decider(book: Callable[[], Rulebook], *, records: RecordStore, **parts: Any) -> Decider:
    """A decider without a model over the journey of ``tests.histories``, in memory, unless told otherwise.

    Args:
        book: the rulebook at this moment.
        records: keeps decisions.
        parts: of the decider and of its observer.
    """
    moments = parts.pop("moments", None) or Moments()
    observed = {"store": MemoryStore(), "log": MemoryEventLog(), "rebuild": _nothing}
    observed = {name: parts.pop(name, default) for name, default in observed.items()}
    deciding: dict[str, Any] = {
        "served_model": lambda _: None,
        "randomness": bytes,
        "timer": lambda: 0,
        "deadline_ms": 1_000,
    }
    return Decider(
        rulebooks=lambda: {"application": book()},
        versions={"policy": "p1", "service": "test"},
        observer=Observer(feature_sets=FEATURE_SETS, moments=moments, **observed),
        moments=moments,
        records=records,
        **(deciding | parts),
    )


class Desk:
    """Decides; every question has an id of its own unless it says another. Any thread may ask.

    Two over one store, as two processes are, have their ``first`` chances far apart.
    """

    def __init__(
        self,
        *actions: Action,
        records: RecordStore,
        policy_changes: Mapping[str, Any] | None = None,
        first: int = 0,
    ) -> None:
        self.records = records
        self.rulebook = rulebook(*actions, policy_changes=policy_changes)
        self._chance = itertools.count(1 + first * 1_000_000)
        self.decider = decider(
            lambda: self.rulebook, records=records, randomness=lambda n: next(self._chance).to_bytes(n, "big")
        )

    def ask(self, customer_id: str = "c1", *, now: int, **changes: Any) -> dict[str, Any]:
        """The answer."""
        fields: dict[str, Any] = {"request_id": f"r-{next(self._chance)}", "customer_id": customer_id}
        request = DecisionRequest(**(fields | changes))
        answer: dict[str, Any] = msgspec.json.decode(self.decider.decide(request, source="test", now=now))
        return answer

    def actions(self, customer_id: str = "c1", *, now: int, **changes: Any) -> list[str]:
        """What is selected."""
        return [one["action_id"] for one in self.ask(customer_id, now=now, **changes)["selected"]]


def _nothing(customer_id: str, journey_id: str, **_: int) -> tuple[StateRow | None, ProfileRow]:
    return None, ProfileRow(customer_id)
