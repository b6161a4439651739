"""The policy (``policy.yaml``): global rules, consent, contact limits, quiet hours, experiment arms, exploration."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from features.config_model import ConfigModel, Name, StateName
from features.durations import Duration
from models.actions import Condition, Rule

NOT_QUALIFIED: Final = "NOT_QUALIFIED"
"""The class of a lead who misses a required criterion, or has too few points for any declared class."""

Arm = Literal["no_contact_holdout", "random_eligible", "champion", "challenger"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
WEEKDAYS: Final[tuple[Weekday, ...]] = (
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
)


class ContactCap(ConfigModel):
    """At most so many contacts in a time.

    Attributes:
        id: named in answers where it drops a candidate.
        contacts: how many, live leases included.
        period: the time, looking back.
        channel: contacts over this one only; over all where none is named.
        issue: contacts about this one only, likewise.
        group: contacts with actions of this group only, within the issue where one is named.
        action: contacts with this action only.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,79}$")
    contacts: int = Field(ge=0)
    period: Duration
    channel: Name | None = None
    issue: Name | None = None
    group: Name | None = None
    action: Name | None = None


class Suppression(ConfigModel):
    """What came back for earlier contacts holds later ones back: "ignored twice in 30 days: hold 60 days".

    Times count from the contact, not from the answer to it; an ignored one counts from when it turned out to be.

    Attributes:
        id: named in answers where it drops a candidate.
        after: contacts that were ``ignored``, or that came back ``negative`` or ``positive``.
        times: so many of them.
        within: in this time; not needed for a single one.
        ignored_after: a contact is ignored when it is so old and nothing came back.
        scope: holds what shares this with them: the channel, the issue, the group or the action; or ``all``.
        hold: for so long from the last of them on.
        channels: only contacts over these count; over all where none is named.
        issues: only contacts about these count, likewise.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,79}$")
    after: Literal["ignored", "negative", "positive"]
    times: int = Field(default=1, ge=1)
    within: Duration | None = None
    ignored_after: Duration | None = None
    scope: Literal["channel", "issue", "group", "action", "all"] = "action"
    hold: Duration
    channels: tuple[Name, ...] = ()
    issues: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if (self.after == "ignored") != (self.ignored_after is not None):
            raise ValueError("ignored_after belongs to a suppression after ignored contacts, and to those only")
        if self.times > 1 and self.within is None:
            raise ValueError(f"within is needed where {self.times} contacts are to be counted")
        return self

    @property
    def looks_back(self) -> int:
        """How old a contact may be that still holds something back, microseconds."""
        return self.hold + (self.within or 0) + (self.ignored_after or 0)


class Fatigue(ConfigModel):
    """What one more contact costs in patience grows with those before: by ``growth`` for each one in the period.

    Attributes:
        period: contacts of this time count, over all channels, live leases included.
        growth: share of the treatment's own ``fatigue_cost`` that each of them adds to it.
    """

    period: Duration
    growth: float = Field(ge=0)


class QuietHours(ConfigModel):
    """No outbound contact between two times of day of the customer; may cross midnight.

    Attributes:
        start: ``HH:MM``, quiet from then on.
        end: ``HH:MM``, no longer quiet then.
        channels: on these.
        days: whole days of the customer on which a channel is quiet, by channel, such as ``{call: [sunday]}``.
    """

    start: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    end: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    channels: tuple[Name, ...] = Field(min_length=1)
    days: dict[Name, tuple[Weekday, ...]] = Field(default_factory=dict)


class Consent(ConfigModel):
    """Which channels need a granted consent, and which are open until withdrawn.

    An objection to ``marketing`` or to ``all``, or a withdrawal of either, closes everything that is not transactional.

    Attributes:
        opt_in: channels that only a granted consent opens.
        opt_out: channels that are open until consent is withdrawn.
    """

    opt_in: tuple[Name, ...] = ()
    opt_out: tuple[Name, ...] = ()


class ContactPolicy(ConfigModel):
    """When a customer may be contacted.

    Attributes:
        consent: by channel.
        caps: all of them hold.
        quiet_hours: when not to reach out.
        suppressions: what came back holds contacts back; all of them hold.
        fatigue: how the fatigue cost grows; it stays as the treatment states it where this is absent.
    """

    consent: Consent = Consent()
    caps: tuple[ContactCap, ...] = ()
    quiet_hours: QuietHours | None = None
    suppressions: tuple[Suppression, ...] = ()
    fatigue: Fatigue | None = None


class Criterion(ConfigModel):
    """One thing that makes a good lead; it is met where all its conditions hold.

    Attributes:
        id: unique among the criteria.
        title: for people.
        points: that it is worth.
        required: without it nobody is qualified.
        all_of: the conditions.
    """

    id: Name
    title: str
    points: float = Field(default=0.0, ge=0)
    required: bool = False
    all_of: tuple[Condition, ...] = Field(min_length=1)


class LeadClass(ConfigModel):
    """One class of leads.

    Attributes:
        id: named in answers and rules.
        at_least: points.
    """

    id: StateName
    at_least: float = Field(ge=0)


class LeadQualification(ConfigModel):
    """When a customer is how good a lead.

    Attributes:
        criteria: what counts.
        classes: the one of most points that is reached; ``NOT_QUALIFIED`` where none is, or a required criterion is
            not met.
    """

    criteria: tuple[Criterion, ...] = Field(min_length=1)
    classes: tuple[LeadClass, ...] = Field(min_length=1)


class Experiment(ConfigModel):
    """The parts of the population that learn rather than earn, by stable hash of customer and salt.

    Attributes:
        id: named in answers and records.
        salt: another salt deals the customers anew.
        no_contact_holdout: share never contacted.
        random_eligible: share that gets a uniformly random candidate, no action included.
        challenger: share that the challenger's bundle decides.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    salt: str = Field(min_length=1)
    no_contact_holdout: float = Field(ge=0, le=1)
    random_eligible: float = Field(ge=0, le=1)
    challenger: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = self.no_contact_holdout + self.random_eligible + self.challenger
        if total > 1:
            raise ValueError(f"the shares of holdout, random and challenger add up to {total:g}, at most 1 is possible")
        return self


class Exploration(ConfigModel):
    """Epsilon-softmax over the safe set.

    Attributes:
        epsilon: share of the champion's decisions that explore.
        temperature: in money; the larger, the closer to uniform.
        regret_budget: money that exploring may be expected to lose in 1,000 decisions; epsilon is scaled down to it.
    """

    epsilon: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0)
    regret_budget: float | None = Field(default=None, ge=0)


class CapacityLimit(ConfigModel):
    """At most so many contacts over a channel, or so much work for a queue, in each period, over all customers.

    Attributes:
        id: named in answers where it drops a candidate, and in price lists.
        units: how many actions; leases included.
        period: whole days begin at midnight of the installation's time zone, anything shorter divides the day.
        channel: of the treatments that take from it.
        queue: likewise, of the actions that are assigned to it; one of the two is named, or both.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,79}$")
    units: int = Field(ge=0)
    period: Duration
    channel: Name | None = None
    queue: str | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.channel is None and self.queue is None:
            raise ValueError("a capacity names a channel, a queue or both, this one has neither")
        return self


class Budget(ConfigModel):
    """At most so much money in each period: contact costs, and incentives times the probability that they are paid.

    Attributes:
        id: as of a capacity.
        amount: money.
        period: as of a capacity.
        issues: spent on actions of these issues; on all where none is named.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,79}$")
    amount: float = Field(ge=0)
    period: Duration
    issues: tuple[Name, ...] = ()


class Capacity(ConfigModel):
    """What all customers together may take.

    Attributes:
        limits: of channels and queues; all of them hold.
        budgets: of money; all of them hold.
    """

    limits: tuple[CapacityLimit, ...] = ()
    budgets: tuple[Budget, ...] = ()


class Policy(ConfigModel):
    """The whole policy of one installation.

    Attributes:
        version: of the file's format.
        contact_policy: consent, caps, quiet hours, suppressions and fatigue.
        capacity: what all customers together may take.
        experiment: who is experimented on.
        exploration: how much the champion tries out.
        channel_price: money per contact over a channel, on top of the treatment's own cost; never below 0, which would
            make contacts without effect worth more than none.
        decision_ttl: how long a decision may be acted on.
        inbound_decision_ttl: the same for a customer who is here, on a page or on the phone; as above if absent.
        rules: rules that hold for every action, or for those of their issues and groups.
        lead_qualification: when a customer is how good a lead; rules may ask for the ``lead_class``.
        decisions_kept: how long decisions are kept, with their contacts; for ever if absent. No shorter than anything
            looks back: retries and replay two days, then limits, decisions and outcomes as long as they last.
    """

    version: Literal[1]
    contact_policy: ContactPolicy = ContactPolicy()
    capacity: Capacity = Capacity()
    experiment: Experiment
    exploration: Exploration
    channel_price: dict[Name, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    decision_ttl: Duration
    inbound_decision_ttl: Duration | None = None
    rules: tuple[Rule, ...] = ()
    lead_qualification: LeadQualification | None = None
    decisions_kept: Duration | None = None

    def ttl(self, *, outbound: bool) -> int:
        """How long a decision may be acted on, microseconds."""
        if outbound or self.inbound_decision_ttl is None:
            return self.decision_ttl
        return self.inbound_decision_ttl
