"""Declared reasons (``reason_templates`` of a journey): words for what the models found to matter, for people.

A template says nothing by itself: a reason is stated only where the model's own contributions bear it out.
"""

from __future__ import annotations

from string import Formatter
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from features.config_model import ConfigModel, Name, StateName

Quantity = Literal["stall", "effect"]
Direction = Literal["raises", "lowers"]

VALUE: Final = "value"
"""The one placeholder of a text: the value of the first feature, with its unit."""

_TAKEN: Final = ("EXPLORED", "STALL_HIGH", "STALLED_", "STATE_", "UPLIFT_", "PREFERS_")
"""Beginnings of the codes that every decision gives by itself; each of those is true by another definition."""


class ReasonTemplate(ConfigModel):
    """A reason in words, for where some features raised or lowered the stall, or what an action changes.

    Attributes:
        code: what programs call it; no other template of the journey has it.
        features: features of the journey; what they contribute together must have the direction.
        quantity: ``stall`` (how likely no progress is) or ``effect`` (what an action changes).
        action: only for the effect of this action; for that of any if absent.
        direction: ``raises`` or ``lowers`` the quantity.
        at_least: lower bound of the first feature's value, included; unknown is never within bounds.
        at_most: upper bound, included.
        text: for people; ``{value}`` stands for the first feature's value with its unit.
        talking_points: keys of texts for an agent or a template, as those of treatments.
    """

    code: StateName
    features: tuple[str, ...] = Field(min_length=1)
    quantity: Quantity = "stall"
    action: Name | None = None
    direction: Direction
    at_least: float | None = None
    at_most: float | None = None
    text: str = Field(min_length=1)
    talking_points: tuple[str, ...] = ()

    @field_validator("code")
    @classmethod
    def _is_free(cls, code: str) -> str:
        if code.startswith(_TAKEN):
            raise ValueError(f"a code that does not begin like those of every decision: {', '.join(_TAKEN)}")
        return code

    @field_validator("text")
    @classmethod
    def _has_known_placeholders(cls, text: str) -> str:
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"a text without loose braces ({error}); write {{{{ and }}}} for braces") from error
        if any(name is not None and (name, form, way) != (VALUE, "", None) for _, name, form, way in parts):
            raise ValueError(f"a text with no other placeholder than {{{VALUE}}}")
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.action is not None and self.quantity != "effect":
            raise ValueError("an action only where the quantity is effect: the stall is no action's")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least that is not above at_most, and {self.at_least:g} is above {self.at_most:g}")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value of the first feature is within the bounds; NaN only where there are none."""
        high_enough = self.at_least is None or value >= self.at_least
        return high_enough and (self.at_most is None or value <= self.at_most)
