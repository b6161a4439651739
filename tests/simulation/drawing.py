"""What a seed draws: the setting of a run and its steps, as plain data that depends on nothing that happens in it.

So any step can be left out and the others stay what they were. Weights differ from seed to seed, so that some runs are
all crashes and others have none: what only shows where one thing is rare or frequent is met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.simulation.setting import DAY, HOUR, PERSONS, POLICIES, QUEUES, VERSIONS

Step = dict[str, Any]
"""What is done, under ``do``, and with what."""

_WEIGHTS: Final = {
    "ingest": 10.0,
    "decide": 10.0,
    "repeat": 2.0,
    "together": 2.0,
    "activate": 4.0,
    "returned": 4.0,
    "fault": 2.5,
    "lift": 1.0,
    "clock": 4.0,
    "policy": 0.4,
    "promote": 0.5,
    "workforce": 1.0,
    "restart": 0.3,
    "crash": 0.3,
    "features_lost": 0.4,
    "disk_full": 0.4,
}
"""How often each kind of step is drawn, before the seed changes it. A new call gets its row here."""

_SWARM: Final = (0.0, 0.3, 1.0, 1.0, 3.0)
_SPRING: Final = 1_774_746_000
"""2026-03-29T01:00Z, when clocks are set forward in Europe."""
_AUTUMN: Final = 1_792_890_000
"""2026-10-25T01:00Z, when they are set back."""

_EVENTS: Final[tuple[tuple[str, str | None, dict[str, Any]], ...]] = (
    ("application_submitted", "web", {"product": "classic"}),
    ("documents_uploaded", "app", {}),
    ("documents_rejected", "back_office", {}),
    ("identity_verified", "back_office", {}),
    ("card_offer_accepted", "web", {}),
    ("card_activated", None, {}),
    ("card_used", None, {"amount": 12.5}),
    ("page_viewed", "web", {"page": "help"}),
    ("call_received", "call", {}),
    ("application_withdrawn", "web", {}),
)
_CONSENTS: Final = ("email", "sms", "push", "call", "marketing", "all")
_STATES: Final = ("granted", "granted", "granted", "withdrawn", "objected")
_ZONES: Final = ("America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "Europe/Amsterdam")
_BAD: Final = ("no_kind", "far_future", "naive_time", "unknown_fact", "no_object", "null_byte", "not_finite")
_STORES: Final = ("log", "records", "features")
_FAULTS: Final = (*("before", "after") * 3, "death_before", "death_after")


@dataclass(frozen=True, slots=True)
class Plan:
    """One run.

    Attributes:
        variant: of the policy at its start.
        steps: what is done.
    """

    seed: int
    variant: int
    steps: tuple[Step, ...]


def plan_of(seed: int, *, steps: int) -> Plan:
    """What a seed draws."""
    chance = Random(seed)  # noqa: S311  # the same plan from every seed
    drawer = _Drawer(chance)
    weights = [weight * chance.choice(_SWARM) for weight in _WEIGHTS.values()]
    if not sum(weights[:2]):
        weights[:2] = _WEIGHTS["ingest"], _WEIGHTS["decide"]
    variant = chance.randrange(len(POLICIES))
    drawn = [drawer.first(), *(drawer.step(chance.choices(list(_WEIGHTS), weights)[0]) for _ in range(steps - 1))]
    return Plan(seed, variant, tuple(drawn))


class _Drawer:
    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._n_customers = chance.choice((1, 2, 4, 7))
        self._n_aliases = chance.choice((0, 1, 2))
        self._pace = chance.choice((1, 60, HOUR, 4 * HOUR))
        self._granting = chance.choice((0.05, 0.3))
        self._n_events = 0
        self._n_requests = 0
        self._sends: list[Step] = []

    def first(self) -> Step:
        """Everybody consents to something at the start, or hardly anything could be done for anybody."""
        told = [
            self._told(f"c-{person}", "consent_changed", None, {"consent": consent, "state": "granted"}, age=HOUR)
            for person in range(self._n_customers)
            for consent in self._chance.sample(_CONSENTS[:4], 3)
        ]
        return {"do": "ingest", "source": "crm", "events": told}

    def step(self, kind: str) -> Step:
        """One step of a kind."""
        drawn: dict[str, Callable[[], Step]] = {
            "ingest": self._ingest,
            "decide": lambda: {"request": self._request()},
            "repeat": lambda: {"which": self._which(), "changed": self._is(0.3)},
            "together": self._together,
            "activate": lambda: {"which": self._which(), "slots": self._chance.choice((None, None, [1], [2, 1]))},
            "returned": self._returned,
            "fault": self._fault,
            "lift": dict,
            "clock": self._clock,
            "policy": lambda: {
                "variant": self._chance.randrange(len(POLICIES)),
                "how": self._chance.choice(("put", "file", "refused")),
            },
            "promote": lambda: {
                "version": self._chance.randint(1, VERSIONS),
                "alias": self._chance.choice(("champion", "challenger")),
            },
            "workforce": self._workforce,
            "restart": dict,
            "crash": lambda: {"loses_features": self._is(0.3)},
            "features_lost": lambda: {"how": self._chance.choice(("cleared", "set_back"))},
            "disk_full": lambda: {"step": self.step(self._chance.choice(("ingest", "decide", "returned", "activate")))},
        }
        return {"do": kind, **drawn[kind]()}

    def _is(self, share: float) -> bool:
        return self._chance.random() < share

    def _which(self) -> int:
        """One of the decisions so far, counted back from the newest; the newest ones more often."""
        return int(self._chance.expovariate(0.4))

    def _customer(self) -> str:
        if self._n_aliases and self._is(0.2):
            return f"a-{self._chance.randrange(self._n_aliases)}"
        return f"c-{self._chance.randrange(self._n_customers)}"

    def _age(self) -> int:
        """Seconds before now that an event happened: most just now, some late, some a little in the future."""
        return self._chance.choice((0, 0, 0, 1, 60, HOUR, 30 * HOUR, 20 * DAY, -60))

    def _told(self, customer: str, kind: str, channel: str | None, facts: dict[str, Any], age: int) -> Step:
        known = self._n_events and self._is(0.1)
        number = self._chance.randrange(self._n_events) if known else self._n_events
        self._n_events += not known
        told: Step = {"id": number, "customer": customer, "kind": kind, "age": age, "facts": facts, "channel": channel}
        if self._is(0.15):
            told["sequence"] = self._chance.randint(-1, 3)
        return told

    def _event(self) -> Step:
        if self._n_aliases and self._is(0.06):
            number = self._chance.randrange(self._n_aliases)
            kind = self._chance.choice(("identity_linked", "identity_linked", "identity_unlinked"))
            return self._told(f"c-{number}", kind, None, {"alias": f"a-{number}"}, self._age())
        customer = self._customer()
        if self._is(self._granting):
            said = {"consent": self._chance.choice(_CONSENTS), "state": self._chance.choice(_STATES)}
            return self._told(customer, "consent_changed", None, said, self._age())
        if self._is(0.1):
            facts: dict[str, Any] = {"time_zone": self._chance.choice(_ZONES)}
            if self._is(0.5):
                facts = {"tenure_years": float(self._chance.randrange(9)), "holding:loan": self._is(0.5)}
            return self._told(customer, "profile_updated", None, facts, self._age())
        kind, channel, facts = self._chance.choice(_EVENTS)
        told = self._told(customer, kind, channel, facts, self._age())
        return told | {"bad": self._chance.choice(_BAD)} if self._is(0.05) else told

    def _ingest(self) -> Step:
        events = [self._event() for _ in range(self._chance.choice((1, 1, 2, 5)))]
        return {"do": "ingest", "source": self._chance.choice(("crm", "crm", "web")), "events": events}

    def _request(self) -> Step:
        self._n_requests += 1
        if self._sends and self._is(0.15):  # rendered again, under a request id of its own
            return self._chance.choice(self._sends[-5:]) | {"request_id": f"q-{self._n_requests}"}
        customer = "nobody" if self._is(0.02) else self._customer()
        asked: Step = {"request_id": f"q-{self._n_requests}", "customer_id": customer}
        if self._is(0.3):
            asked["activate"] = False
        if self._is(0.3):
            asked |= {"send_id": f"send-{self._chance.randrange(3)}", "activate": self._is(0.3)}
        if self._is(0.25):
            asked["direction"] = "inbound"
        if self._is(0.4):
            asked["placements"] = self._chance.choice((["web/home", "email/letter"], ["sms/a", "call/b", "email/c"]))
        elif self._is(0.2):
            asked["channel"] = self._chance.choice(("sms", "email", "call", "web", "case"))
        if self._is(0.2):
            asked["mode"] = self._chance.choice(("shadow", "dry_run"))
        if asked.get("mode") == "dry_run" and self._is(0.5):
            asked["as_of_age"] = self._chance.choice((1, HOUR, 3 * DAY))
        if self._is(0.1):
            asked["candidates"] = {"exclude": ["callback_help", "remind_next_step"]}
        if self._is(0.05):
            asked["waited"] = 30
        if self._is(0.1):
            asked["explain"] = "stages"
        if self._is(0.1):
            asked["max_actions"] = self._chance.randint(1, 5)
        if "send_id" in asked and asked.get("mode") is None and "waited" not in asked:
            self._sends.append(asked)
        return asked

    def _together(self) -> Step:
        first = self._request()
        second = self._request() | ({"customer_id": first["customer_id"]} if self._is(0.8) else {})
        between = self._which() if self._is(0.3) else None
        return {"requests": [first, second], "activated_between": between, "reversed": self._is(0.3)}

    def _returned(self) -> Step:
        items = [
            {
                "which": self._which(),
                "type": self._chance.choice(("exposure", "exposure", "outcome")),
                "age": self._chance.choice((0, 0, 60, HOUR)),
                "value": self._chance.choice((0, 0, 1)),
                "id": self._chance.choice((None, None, None, self._chance.randrange(20))),
            }
            for _ in range(self._chance.choice((1, 1, 3)))
        ]
        return {"do": "returned", "source": self._chance.choice(("crm", "web")), "items": items}

    def _fault(self) -> Step:
        where = self._chance.choice(_STORES)
        when = "down" if self._is(0.2) else self._chance.choice(_FAULTS)
        return {"where": where, "when": when, "passing": int(self._chance.expovariate(0.4))}

    def _clock(self) -> Step:
        if self._is(0.1):
            return {"by": -HOUR}
        if self._is(0.05):
            return {"by": self._chance.choice((2 * DAY, 8 * DAY, 40 * DAY))}
        if self._is(0.05):
            return {"to": self._chance.choice((_SPRING, _AUTUMN)) + self._chance.choice((-3 * HOUR, -1, 0, HOUR))}
        return {"by": self._chance.randrange(self._pace + 1)}

    def _workforce(self) -> Step:
        persons = [
            {
                "person_id": person,
                "queues": self._chance.sample(QUEUES, self._chance.randint(1, 2)),
                "available": self._is(0.8),
                "most_open": self._chance.randint(0, 3),
                **({"open_work": self._chance.randint(0, 2)} if self._is(0.7) else {}),
            }
            for person in self._chance.sample(PERSONS, self._chance.randint(1, 3))
        ]
        return {"persons": persons}
