"""Who the simulated customers are: attributes, consents, and the type of person, which is never recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.events import MICROSECONDS_PER_DAY
from training.simulated_draws import Draws, Floats, Integers
from training.simulated_world import type_shares

CONSENT_CHANNELS: Final = ("email", "sms", "push", "call")

AGE_BANDS: Final = ("18_24", "25_34", "35_44", "45_54", "55_64", "65_plus")
INCOME_BANDS: Final = ("below_20k", "20k_35k", "35k_55k", "55k_80k", "above_80k")
REGIONS: Final = ("north", "east", "south", "west", "capital", "abroad")
CHANNELS: Final = ("web", "app", "email", "sms", "call", "store")
DEVICES: Final = ("mobile", "tablet", "desktop")
SENSITIVITIES: Final = ("low", "medium", "high")
TIME_ZONES: Final = ("Europe/Amsterdam", "Europe/Lisbon", "America/Paramaribo")

_AGE = np.array([0.12, 0.24, 0.21, 0.18, 0.14, 0.11])
_INCOME = np.array([0.12, 0.26, 0.33, 0.19, 0.10])
_REGION = np.array([0.15, 0.18, 0.20, 0.22, 0.20, 0.05])
_PREFERRED = np.array(
    [
        [0.18, 0.44, 0.08, 0.20, 0.05, 0.05],
        [0.22, 0.38, 0.13, 0.17, 0.05, 0.05],
        [0.28, 0.26, 0.20, 0.12, 0.08, 0.06],
        [0.28, 0.18, 0.24, 0.10, 0.12, 0.08],
        [0.22, 0.12, 0.24, 0.08, 0.20, 0.14],
        [0.16, 0.06, 0.22, 0.06, 0.28, 0.22],
    ]
)
_MOBILE = np.array([0.82, 0.76, 0.64, 0.52, 0.40, 0.28])
_APP = np.array([0.80, 0.74, 0.62, 0.48, 0.34, 0.22])
_SENSITIVITY = np.array(
    [[0.20, 0.38, 0.42], [0.24, 0.40, 0.36], [0.34, 0.40, 0.26], [0.46, 0.36, 0.18], [0.58, 0.30, 0.12]]
)
_CONSENT = {"email": 0.84, "sms": 0.74, "push": 0.82, "call": 0.90}


@dataclass(frozen=True, slots=True)
class Population:
    """Customers as columns, each ``(n_customers,)``; categories are positions in the tuples above.

    Attributes:
        numbers: the customers' numbers in the whole population; ids come from them.
        ids: customer ids.
        entered_at: when each submits the application, microseconds since the epoch.
        consents: by channel, whether it is open at the start.
        holds_protection: holds card protection already.
        type_shares: ``(n_customers, n_types)`` what the type of person is drawn from.
        customer_type: the type of person, as position.
    """

    numbers: Integers
    ids: NDArray[np.object_]
    entered_at: Integers
    age: Integers
    income: Integers
    region: Integers
    preferred: Integers
    device: Integers
    sensitivity: Integers
    tenure: Floats
    app_user: NDArray[np.bool_]
    existing: NDArray[np.bool_]
    arrears: NDArray[np.bool_]
    hardship: NDArray[np.bool_]
    vulnerable: NDArray[np.bool_]
    holds_protection: NDArray[np.bool_]
    consents: Mapping[str, NDArray[np.bool_]]
    type_shares: Floats
    customer_type: Integers

    @property
    def n(self) -> int:
        """How many customers."""
        return int(self.numbers.size)

    def indicators(self) -> dict[str, Floats]:
        """The indicators that stay the same for a customer, each ``(n_customers,)`` of 0 and 1."""
        flags = {
            "young": self.age <= 1,
            "senior": self.age >= 4,
            "low_income": self.income <= 1,
            "price_sensitive": self.sensitivity == 2,
            "mobile": self.device == 0,
            "app_user": self.app_user,
            "long_tenure": self.tenure >= 8,
            "existing": self.existing,
        }
        return {name: flag.astype(np.float64) for name, flag in flags.items()}

    def attributes(self, row: int) -> dict[str, object]:
        """The attributes of one customer as an event carries them."""
        return {
            "age_band": AGE_BANDS[self.age[row]],
            "income_band": INCOME_BANDS[self.income[row]],
            "region": REGIONS[self.region[row]],
            "tenure_years": float(self.tenure[row]),
            "preferred_channel": CHANNELS[self.preferred[row]],
            "device": DEVICES[self.device[row]],
            "price_sensitivity": SENSITIVITIES[self.sensitivity[row]],
            "app_user": bool(self.app_user[row]),
            "existing_customer": bool(self.existing[row]),
            "open_complaint": False,
            "arrears_flag": bool(self.arrears[row]),
            "hardship_flag": bool(self.hardship[row]),
            "vulnerable_flag": bool(self.vulnerable[row]),
            "time_zone": TIME_ZONES[0] if self.region[row] < 5 else TIME_ZONES[1 + int(self.numbers[row]) % 2],
            "holding:current_account": bool(self.existing[row]),
            "holding:card_protection": bool(self.holds_protection[row]),
        }


def population(draws: Draws, numbers: Integers, *, until: int, span_days: float) -> Population:
    """The customers of some numbers.

    Args:
        draws: the draws of these customers.
        numbers: their numbers, ``(n_customers,)``.
        until: the end of simulated time, microseconds since the epoch.
        span_days: applications are spread evenly over so many days before it.
    """
    rows = np.arange(numbers.size, dtype=np.int64)
    age = draws.choice("age", rows, 0, _AGE)
    income = draws.choice("income", rows, 0, _INCOME)
    mobile = draws.happens("mobile", rows, 0, _MOBILE[age])
    existing = draws.happens("existing", rows, 0, 0.45 + 0.05 * age)
    years = (0.5 + 18.0 * draws.uniform("tenure", rows) ** 1.6) * (0.35 + 0.22 * age)
    app_user = draws.happens("app", rows, 0, _APP[age])
    consents = {name: draws.happens(f"consent-{name}", rows, 0, share) for name, share in _CONSENT.items()}
    consents["push"] &= app_user
    partial = Population(
        numbers=numbers,
        ids=np.array([f"c-{number:07d}" for number in numbers.tolist()], dtype=object),
        entered_at=until - (draws.uniform("entered", rows) * span_days * MICROSECONDS_PER_DAY).astype(np.int64),
        age=age,
        income=income,
        region=draws.choice("region", rows, 0, _REGION),
        preferred=draws.choice("preferred", rows, 0, _PREFERRED[age]),
        device=np.where(mobile, 0, 1 + draws.happens("desktop", rows, 0, 0.75)).astype(np.int64),
        sensitivity=draws.choice("sensitivity", rows, 0, _SENSITIVITY[income]),
        tenure=np.round(np.where(existing, years, 0.0), 1).astype(np.float64),
        app_user=app_user,
        existing=existing,
        arrears=draws.happens("arrears", rows, 0, 0.03),
        hardship=draws.happens("hardship", rows, 0, 0.015),
        vulnerable=draws.happens("vulnerable", rows, 0, 0.02 + 0.01 * age),
        holds_protection=existing & draws.happens("protection-held", rows, 0, 0.10),
        consents=consents,
        type_shares=np.empty((0, 0)),
        customer_type=np.empty(0, dtype=np.int64),
    )
    return _with_types(partial, draws, rows)


def _with_types(people: Population, draws: Draws, rows: Integers) -> Population:
    shares = type_shares(people.indicators(), people.n)
    return replace(people, type_shares=shares, customer_type=draws.choice("type", rows, 0, shares))
