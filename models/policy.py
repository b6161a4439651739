"""The policy (``policy.yaml``): global rules, consent, contact limits, quiet hours, experiment arms, exploration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from features.config_model import ConfigModel, Name
from features.durations import Duration
from models.actions import Rule

Arm = Literal["no_contact_holdout", "random_eligible", "champion", "challenger"]


class ContactCap(ConfigModel):
    """At most so many contacts in a time.

    Attributes:
        id: named in answers where it drops a candidate.
        contacts: how many, live leases included.
        period: the time, looking back.
        channel: contacts over this one only; over all where none is named.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,79}$")
    contacts: int = Field(ge=0)
    period: Duration
    channel: Name | None = None


class QuietHours(ConfigModel):
    """No outbound contact between two times of day of the customer; may cross midnight.

    Attributes:
        start: ``HH:MM``, quiet from then on.
        end: ``HH:MM``, no longer quiet then.
        channels: on these.
    """

    start: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    end: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    channels: tuple[Name, ...] = Field(min_length=1)


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
    """

    consent: Consent = Consent()
    caps: tuple[ContactCap, ...] = ()
    quiet_hours: QuietHours | None = None


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
    """

    epsilon: float = Field(ge=0, le=1)
    temperature: float = Field(gt=0)


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
        contact_policy: consent, caps and quiet hours.
        capacity: what all customers together may take.
        experiment: who is experimented on.
        exploration: how much the champion tries out.
        channel_price: money per contact over a channel, on top of the treatment's own cost.
        decision_ttl: how long a decision may be acted on.
        inbound_decision_ttl: the same for a customer who is here, on a page or on the phone; as above if absent.
        rules: rules that hold for every action.
        decisions_kept: how long decisions are kept, with their contacts; for ever if absent. No shorter than anything
            looks back: retries and replay two days, then limits, decisions and outcomes as long as they last.
    """

    version: Literal[1]
    contact_policy: ContactPolicy = ContactPolicy()
    capacity: Capacity = Capacity()
    experiment: Experiment
    exploration: Exploration
    channel_price: dict[Name, float] = Field(default_factory=dict)
    decision_ttl: Duration
    inbound_decision_ttl: Duration | None = None
    rules: tuple[Rule, ...] = ()
    decisions_kept: Duration | None = None

    def ttl(self, *, outbound: bool) -> int:
        """How long a decision may be acted on, microseconds."""
        if outbound or self.inbound_decision_ttl is None:
            return self.decision_ttl
        return self.inbound_decision_ttl
