"""The catalogue (``actions.yaml``): what could be done for a customer, how it is said, and what it costs."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from features.config_model import ConfigModel, Name, StateName
from features.durations import Duration
from features.events import parse_timestamp

NO_ACTION: Final = "no_action"
"""The action that is always possible, costs nothing and is worth exactly 0. Its treatment has the same name."""

OPERATORS: Final = ("equals", "one_of", "none_of", "at_least", "at_most", "known")
RuleStage = Literal["eligibility", "applicability", "suitability"]
Direction = Literal["outbound", "inbound"]

ALWAYS: Final = (-math.inf, math.inf)
"""The validity of an action that is valid at any time."""

PLACEMENT_SEPARATOR: Final = "/"
"""A placement is ``channel/name``, such as ``web/home_banner``."""

Placement = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}/\S{1,190}$")]


def channel_of_placement(placement: str) -> str:
    """The channel that a placement is on.

    >>> channel_of_placement("web/home_banner")
    'web'
    """
    return placement.partition(PLACEMENT_SEPARATOR)[0]


class Condition(ConfigModel):
    """One typed predicate over one thing known of the customer or the request. One operator is given, or both bounds.

    Attributes:
        field: ``feature:<name>``, ``attribute:<name>``, ``context:<name>``, ``holding:<name>``, ``consent:<name>``, or
            one of ``stage``, ``state``, ``stall_state``, ``journey_status``, ``channel``, ``direction``,
            ``stall_propensity``, ``abandon_probability``, ``lead_class``. A consent is ``granted``, ``withdrawn`` or
            ``objected``, and unknown where nothing was ever said.
        equals: the value.
        one_of: any of these texts.
        none_of: none of these texts.
        at_least: lower bound, included.
        at_most: upper bound, included.
        known: whether the value is known at all.
        missing: what an unknown value makes of the condition; unknown fails unless ``pass`` is stated.
    """

    field: str
    equals: str | float | bool | None = None
    one_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    known: bool | None = None
    missing: Literal["fail", "pass"] = "fail"

    @model_validator(mode="after")
    def _exactly_one_operator(self) -> Self:
        given = [name for name in OPERATORS if getattr(self, name) not in (None, ())]
        bounds_only = set(given) == {"at_least", "at_most"}
        if len(given) != 1 and not bounds_only:
            raise ValueError(
                f"a condition has one of {', '.join(OPERATORS)} (or both bounds), this one has {given or 'none'}"
            )
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"nothing is at least {self.at_least:g} and at most {self.at_most:g}")
        if self.known is not None and self.missing != "fail":
            raise ValueError("a condition on what is known has no missing: it says itself what an unknown value means")
        return self


class Rule(ConfigModel):
    """A named rule of one stage of the funnel; all its conditions must hold.

    Attributes:
        id: named in answers where it drops a candidate.
        stage: of the funnel.
        issues: only actions of these issues; empty for all.
        groups: only actions of these groups, within these issues; empty for all.
        all_of: the conditions.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_.]{0,79}$")
    stage: RuleStage
    issues: tuple[Name, ...] = ()
    groups: tuple[Name, ...] = ()
    all_of: tuple[Condition, ...] = Field(min_length=1)


class Treatment(ConfigModel):
    """One way of saying or doing an action, on one channel.

    Attributes:
        id: unique in the catalogue.
        channel: it goes over.
        contact_cost: money for one contact.
        fatigue_cost: money that one more contact costs in patience.
        talking_points: keys of texts for an agent or a template.
        placements: the places it may fill, ``channel/name``; empty for any place of its channel.
        directions: whether it may be used to reach out, to answer who is here, or both.
    """

    id: Name
    channel: Name
    contact_cost: float = Field(ge=0)
    fatigue_cost: float = Field(default=0.0, ge=0)
    talking_points: tuple[str, ...] = ()
    placements: tuple[Placement, ...] = ()
    directions: tuple[Direction, ...] = Field(default=("outbound", "inbound"), min_length=1)

    def fits(self, placement: str) -> bool:
        """Whether it may fill a place."""
        return placement in self.placements if self.placements else channel_of_placement(placement) == self.channel


class Action(ConfigModel):
    """One thing that could be done.

    Attributes:
        id: the arm that its effect is estimated for.
        title: for people.
        kind: what sort of thing it is.
        issue: what it is about, such as ``grow`` or ``service``; callers may ask for some issues only.
        group: its family within the issue; rules may name it.
        journey: the journey it belongs to.
        outcome: the declared outcome it aims at.
        treatments: the ways of doing it; each is a candidate.
        incentive_cost: money paid to everyone who converts under it.
        regulated: needs its disclosures to be said; refused by the policy without them.
        disclosures: what has to be said with it.
        transactional: a service message: consent, objection and suppressions do not apply to it, caps and quiet hours
            do.
        mandatory: a message that has to be given: where it is eligible it goes before everything else. Suppressions do
            not apply to it; consent, caps and quiet hours do.
        assigned_to: the queue that works a case or a call.
        skills: what somebody of that queue must be able to do; names that the people's own skills use.
        sla: how soon a case must be resolved.
        stall_states: only for customers who are stalled in one of these; empty for all.
        stages: only in these stages; empty for all.
        min_stall_propensity: below it the action is not applicable.
        lever_pct: the business lever, in percent of a positive net value.
        context_weight_pct: likewise, for what fits the moment.
        prior_uplift: what it is believed to change before there is data; none is "unknown", which is never scored.
        prior_sigma: one standard deviation of that belief.
        valid_from: ISO 8601 with an offset; from this moment on.
        valid_to: likewise; until before this moment.
        rules: rules of this action alone.
    """

    id: Name
    title: str
    kind: Literal["nudge", "offer", "call", "case", "message"]
    issue: Name
    group: Name
    journey: Name
    outcome: Name
    treatments: tuple[Treatment, ...] = Field(min_length=1)
    incentive_cost: float = Field(default=0.0, ge=0)
    regulated: bool = False
    disclosures: tuple[str, ...] = ()
    transactional: bool = False
    mandatory: bool = False
    assigned_to: str | None = None
    skills: tuple[str, ...] = ()
    sla: Duration | None = None
    stall_states: tuple[StateName, ...] = ()
    stages: tuple[Name, ...] = ()
    min_stall_propensity: float = Field(default=0.0, ge=0, le=1)
    lever_pct: float = Field(default=0.0, ge=-100, le=1000)
    context_weight_pct: float = Field(default=0.0, ge=-100, le=1000)
    prior_uplift: float | None = Field(default=None, ge=-1, le=1)
    prior_sigma: float = Field(default=0.05, gt=0)
    valid_from: str | None = None
    valid_to: str | None = None
    rules: tuple[Rule, ...] = ()

    @field_validator("valid_from", "valid_to")
    @classmethod
    def _is_timestamp(cls, value: str | None) -> str | None:
        if value is not None:
            parse_timestamp(value)
        return value

    @model_validator(mode="after")
    def _what_is_mandatory_is_valued(self) -> Self:
        if self.mandatory and self.prior_uplift is None:
            raise ValueError("a mandatory action needs a prior_uplift, such as 0: what has no estimate is not scored")
        return self

    @cached_property
    def validity(self) -> tuple[float, float]:
        """From when until before when it is valid, microseconds since the epoch; infinite where open."""
        start = -math.inf if self.valid_from is None else float(parse_timestamp(self.valid_from))
        end = math.inf if self.valid_to is None else float(parse_timestamp(self.valid_to))
        return start, end


class Catalogue(ConfigModel):
    """All actions of one installation, in catalogue order.

    Attributes:
        version: of the file's format.
        actions: with different ids.
    """

    version: Literal[1]
    actions: tuple[Action, ...] = Field(min_length=1)

    @cached_property
    def by_id(self) -> dict[str, Action]:
        """The actions by id."""
        return {action.id: action for action in self.actions}

    @cached_property
    def priors(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Believed uplift and its standard deviation, by outcome and action, of the actions that declare one."""
        return {
            (action.outcome, action.id): (action.prior_uplift, action.prior_sigma)
            for action in self.actions
            if action.prior_uplift is not None
        }

    @cached_property
    def queues(self) -> tuple[str, ...]:
        """The queues that actions are assigned to, each once."""
        return tuple(dict.fromkeys(action.assigned_to for action in self.actions if action.assigned_to is not None))

    @cached_property
    def action_by_treatment(self) -> dict[str, Action]:
        """The action of every treatment."""
        return {treatment.id: action for action in self.actions for treatment in action.treatments}

    @cached_property
    def treatment_by_id(self) -> dict[str, Treatment]:
        """The treatments of all actions by id."""
        return {treatment.id: treatment for action in self.actions for treatment in action.treatments}

    @cached_property
    def channel_by_treatment(self) -> dict[str, str]:
        """The channel of every treatment."""
        return {treatment.id: treatment.channel for action in self.actions for treatment in action.treatments}
