"""Declared journeys (``journeys.yaml``): stages in order, a goal, exits, and the outcomes that actions aim at."""

from __future__ import annotations

import operator
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from features.config_model import ConfigModel, Name, StateName
from features.durations import Duration
from features.reason_templates import ReasonTemplate

PROGRESS = "progress"
"""As an outcome's ``event``: entering a later stage, or the goal."""

ACTIVE = "ACTIVE"
"""The state of a customer on the way, whom no declared state describes."""


class Stage(ConfigModel):
    """One step of a journey.

    Attributes:
        id: what rules, actions and answers call it.
        title: for people.
        enter: the kinds of event that enter it.
        stall_after: how long without progress until a customer counts as stalled here.
        stall_state: the name of being stuck here, for rules and people.
    """

    id: Name
    title: str
    enter: tuple[Name, ...] = Field(min_length=1)
    stall_after: Duration
    stall_state: StateName


class Goal(ConfigModel):
    """Where the journey wants to end.

    Attributes:
        id: what answers call it.
        title: for people.
        enter: the kinds of event that reach it.
    """

    id: Name
    title: str
    enter: tuple[Name, ...] = Field(min_length=1)


class StateRule(ConfigModel):
    """How a customer is stuck: the first rule whose bounds hold names the state.

    Attributes:
        state: the name of the state.
        feature: a feature of the journey; while it is unknown the rule does not hold.
        at_least: lower bound, included.
        at_most: upper bound, included.
    """

    state: StateName
    feature: str
    at_least: float | None = None
    at_most: float | None = None


class Outcome(ConfigModel):
    """What an action tries to change.

    Attributes:
        id: what actions and reports call it.
        title: for people.
        event: a kind of event, or ``progress``; an ``outcome_observed`` event with this outcome's id always counts.
        window: the reward window; at its end the outcome is "no" (or 0).
        type: ``binary`` (did it happen) or ``continuous`` (the sum of its values).
        value: money for one yes, or for one unit of a continuous outcome, in the taxonomy's currency.
        forecast: also estimate, at every moment of an open journey, how likely it is within the window from there.
    """

    id: Name
    title: str
    event: Name
    window: Duration
    type: Literal["binary", "continuous"] = "binary"
    value: float = Field(ge=0)
    # Left out where it says nothing, so that the version of a file that does not use it stays what it was.
    forecast: bool = Field(default=False, exclude_if=operator.not_)

    @model_validator(mode="after")
    def _forecast_is_binary(self) -> Self:
        if self.forecast and self.type != "binary":
            raise ValueError("forecast only on a binary outcome: what is forecast is a probability")
        return self


class Journey(ConfigModel):
    """One declared journey.

    Attributes:
        id: names the model, ``nba-<id>``.
        title: for people.
        entry: the kinds of event that open a new instance when none is open.
        stages: in order; entering a later one is progress.
        goal: where it wants to end.
        exits: named ways to leave without the goal, each with the kinds of event that mean it.
        abandon_after: a silence this long also means abandoned.
        horizon: the horizon H of the stall propensity.
        outcomes: what actions may aim at.
        states: how customers get stuck, first match first; where none holds the customer is ``ACTIVE``.
        reason_templates: words for what the models found to matter; no part of the file's version.
    """

    id: Name
    title: str
    entry: tuple[Name, ...] = Field(min_length=1)
    stages: tuple[Stage, ...] = Field(min_length=1)
    goal: Goal
    exits: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
    abandon_after: Duration
    horizon: Duration
    outcomes: tuple[Outcome, ...] = Field(min_length=1)
    states: tuple[StateRule, ...] = ()
    # Nothing learns or decides by these words: another wording calls for no other snapshot, model or home.
    reason_templates: tuple[ReasonTemplate, ...] = Field(default=(), exclude=True)

    @cached_property
    def outcome_by_id(self) -> dict[str, Outcome]:
        """The declared outcomes by id."""
        return {outcome.id: outcome for outcome in self.outcomes}

    @cached_property
    def stage_ids(self) -> tuple[str, ...]:
        """Stage ids in order, without the goal."""
        return tuple(stage.id for stage in self.stages)


class Journeys(ConfigModel):
    """All declared journeys of one installation.

    Attributes:
        version: of the file's format.
        journeys: with different ids.
    """

    version: Literal[1]
    journeys: tuple[Journey, ...] = Field(min_length=1)

    @cached_property
    def by_id(self) -> dict[str, Journey]:
        """The journeys by id."""
        return {journey.id: journey for journey in self.journeys}
