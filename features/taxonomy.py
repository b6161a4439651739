"""The event taxonomy (``taxonomy.yaml``): what may happen, over which channels, and what is known of a customer.

Every system that sends events shares this vocabulary. What the kernel does with a kind follows from its ``role``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal

from pydantic import Field

from features.config_model import ConfigModel, Name
from features.durations import Duration
from features.tracking_rules import Tracking

Role = Literal[
    "activity",  # the customer did something
    "call",  # the customer called, or was on the phone with us
    "contact",  # we contacted the customer
    "response",  # the customer responded to a contact
    "feedback",  # the customer told us how it went: facts `nps` (0..10) and `sentiment` (-1..1)
    "offer_shown",
    "offer_accepted",
    "offer_rejected",
    "operation",  # something that we did ourselves: back office, decision, dispatch
    "outcome",  # what came back for a decision
    "override",  # a person decided otherwise
    "profile",  # attributes or holdings changed; folds into the profile, not into the journey state
    "consent",  # a consent was granted or withdrawn, or the customer objected
]
_WINDOWED_ROLES: Final = frozenset(
    ("activity", "call", "contact", "response", "feedback", "offer_shown", "offer_accepted", "offer_rejected")
)
BOOKKEEPING: Final[frozenset[Role]] = frozenset(("profile", "consent", "outcome", "override"))
"""Roles of events that are no steps: what was learned of a customer, and what came back for a decision."""

NPS: Final = "nps"
SENTIMENT: Final = "sentiment"
THEME: Final = "theme"
"""Facts of feedback that the features read."""

FactType = Literal["number", "text", "boolean"]
AttributeType = Literal["number", "boolean", "category", "text"]


class Fact(ConfigModel):
    """One fact that an event of a kind may carry.

    Attributes:
        dtype: its type; a fact of another type is refused.
        unit: for people.
        pii: says something personal; never logged.
        required: an event without it is refused.
    """

    dtype: FactType
    unit: str | None = None
    pii: bool = False
    required: bool = False


class Kind(ConfigModel):
    """One kind of event.

    Attributes:
        title: for people.
        role: what it means: ``activity`` the customer did something, ``call`` called or was on the phone with us,
            ``response`` responded to a contact, ``feedback`` told us how it went (facts ``nps`` 0..10 and ``sentiment``
            -1..1); ``contact`` we contacted the customer, ``offer_shown`` ``offer_accepted`` ``offer_rejected`` what
            became of an offer, ``operation`` something that we did ourselves; the others belong to the built-in kinds.
        channels: the channels it may come over; empty for any channel, or none.
        waiting: ``starts`` where the customer then waits on us, ``ends`` where that wait is over.
        value_fact: the numeric fact that is the event's money value, if any.
        price_fact: the numeric fact that is a price named to the customer, such as a rate or a fee, if any.
        windowed: whether it gets window and decayed counts among the features; by default what customers do, contacts
            and offers do, and what we do ourselves does not.
        facts: what it may carry; other facts are refused.
    """

    title: str
    role: Role = "activity"
    channels: tuple[Name, ...] = ()
    waiting: Literal["starts", "ends"] | None = None
    value_fact: Name | None = None
    price_fact: Name | None = None
    windowed: bool | None = None
    facts: dict[Name, Fact] = Field(default_factory=dict)

    @property
    def is_windowed(self) -> bool:
        """Whether it gets window and decayed counts among the features."""
        return self.role in _WINDOWED_ROLES if self.windowed is None else self.windowed


class Channel(ConfigModel):
    """One channel.

    Attributes:
        title: for people.
        digital: self-service by screen; leaving it for one that is not is a leak to offline.
        outbound: we can reach out to a customer over it.
        handling_cost: money for handling one contact of a customer over it; unknown if not given, never taken as 0.
    """

    title: str
    digital: bool
    outbound: bool = False
    handling_cost: float | None = Field(default=None, ge=0)


class Attribute(ConfigModel):
    """One customer attribute, kept in the profile.

    Attributes:
        dtype: its type; a value of another type is refused.
        values: the allowed values of a category, in their natural order: the model sees the position.
        unit: for people.
        meaning: for people.
        feature: whether the models see it. Text never is a feature.
        pii: masked wherever people look, never logged or recorded with a decision; rules cannot name it.
        identifier: customers can be looked up by it; text and pii only, a keyed hash that the sender made.
    """

    dtype: AttributeType
    values: tuple[str, ...] = ()
    unit: str | None = None
    meaning: str = ""
    feature: bool = False
    pii: bool = False
    identifier: bool = False


class Theme(ConfigModel):
    """One thing that feedback may be about.

    Attributes:
        title: for people.
        words: words and phrases that show it, lower case; a word ending in ``*`` stands for all that start with it.
    """

    title: str
    words: tuple[str, ...] = ()


EXPOSED: Final = "action_exposed"
LINKED: Final = "identity_linked"
UNLINKED: Final = "identity_unlinked"
ALIAS: Final = "alias"
VALID_FROM: Final = "valid_from"
VALID_UNTIL: Final = "valid_until"
OUTCOME_OBSERVED: Final = "outcome_observed"

BUILT_IN_KINDS: dict[str, Kind] = {
    EXPOSED: Kind(
        title="An action was shown or sent to the customer",
        role="contact",
        facts={
            "decision_id": Fact(dtype="text"),
            "action_id": Fact(dtype="text", required=True),
            "treatment_id": Fact(dtype="text"),
        },
    ),
    OUTCOME_OBSERVED: Kind(
        title="An outcome came back",
        role="outcome",
        value_fact="value",
        facts={
            "decision_id": Fact(dtype="text"),
            "outcome_id": Fact(dtype="text", required=True),
            "value": Fact(dtype="number", required=True),
        },
    ),
    "profile_updated": Kind(title="Attributes or holdings of the customer changed", role="profile"),
    "consent_changed": Kind(
        title="A consent was granted or withdrawn, or the customer objected",
        role="consent",
        facts={"consent": Fact(dtype="text", required=True), "state": Fact(dtype="text", required=True)},
    ),
    "decision_overridden": Kind(
        title="A person decided otherwise",
        role="override",
        facts={"decision_id": Fact(dtype="text", required=True), "reason": Fact(dtype="text")},
    ),
}
"""Kinds of every taxonomy. ``profile_updated`` takes the declared attributes, and ``holding:<name>``, as facts."""

IDENTITY_KINDS: Final[dict[str, Kind]] = {
    LINKED: Kind(
        title="An alias turned out to be the customer",
        role="operation",
        facts={ALIAS: Fact(dtype="text", required=True), VALID_FROM: Fact(dtype="text")},
    ),
    UNLINKED: Kind(
        title="An alias is no longer the customer, or never was",
        role="operation",
        facts={ALIAS: Fact(dtype="text", required=True), VALID_UNTIL: Fact(dtype="text")},
    ),
}
"""Kinds that say whose events are whose. They make no features and fold into no state: they move it."""


class Taxonomy(ConfigModel):
    """The whole taxonomy of one installation.

    Attributes:
        version: of the file's format.
        currency: the one currency of all money, ISO 4217.
        time_zone: the default IANA time zone, for quiet hours and local time.
        channels: every channel that events and treatments may name.
        kinds: every kind of event that may come in, beside the built-in ones.
        attributes: what may be known of a customer beside events.
        context: what a request may say of its own moment and the models see; other facts only rules can use.
        themes: what feedback may be about.
        text_reader: who reads the texts of feedback for sentiment and theme: ``english``, ``none``, or the name of an
            installed reader.
        text_kept: how long the raw texts are kept after their arrival; what was read from them stays.
        tracking: what calls of tracking SDKs mean where their names do not say it.
    """

    version: Literal[1]
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    time_zone: str
    channels: dict[Name, Channel] = Field(min_length=1)
    kinds: dict[Name, Kind] = Field(min_length=1)
    attributes: dict[Name, Attribute] = Field(default_factory=dict)
    context: dict[Name, Attribute] = Field(default_factory=dict)
    themes: dict[Name, Theme] = Field(default_factory=dict)
    text_reader: Name = "english"
    text_kept: Duration = Field(default="365d", validate_default=True)
    tracking: Tracking = Tracking()

    @cached_property
    def all_kinds(self) -> dict[str, Kind]:
        """The kinds that fold into states: declared ones in their order, then the built-in ones."""
        return {**self.kinds, **BUILT_IN_KINDS}

    @cached_property
    def known_kinds(self) -> dict[str, Kind]:
        """Every kind that may come in: those that fold, then those that say whose events are whose."""
        return {**self.all_kinds, **IDENTITY_KINDS}

    @cached_property
    def identifiers(self) -> frozenset[str]:
        """The attributes that customers can be looked up by."""
        return frozenset(name for name, attribute in self.attributes.items() if attribute.identifier)

    @cached_property
    def feature_attributes(self) -> dict[str, Attribute]:
        """The attributes that the models see, in declared order."""
        return {name: attribute for name, attribute in self.attributes.items() if attribute.feature}

    @cached_property
    def feature_context(self) -> dict[str, Attribute]:
        """The request's own facts that the models see, in declared order."""
        return {name: attribute for name, attribute in self.context.items() if attribute.feature}

    @cached_property
    def personal_attributes(self) -> frozenset[str]:
        """The attributes that no rule may name and no record may hold."""
        return frozenset(name for name, attribute in self.attributes.items() if attribute.pii)

    def without_personal(self, attributes: Mapping[str, str | float | bool]) -> dict[str, str | float | bool]:
        """Attributes of a customer, the personal ones left out."""
        personal = self.personal_attributes
        return {name: value for name, value in attributes.items() if name not in personal}
