"""What every object read from a configuration file has in common: frozen, and unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints

NAME_PATTERN: Final = r"^[a-z][a-z0-9_]{0,63}$"
STATE_NAME_PATTERN: Final = r"^[A-Z][A-Z0-9_]{0,63}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""An identifier written in configuration: lower case, digits and underscores; it may end up in a feature's name."""

StateName = Annotated[str, StringConstraints(pattern=STATE_NAME_PATTERN)]
"""The name of a customer state: upper case, digits and underscores."""


class ConfigModel(BaseModel):
    """A frozen object read from YAML; a key it does not know is an error, and so is a number that is not finite."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, str_strip_whitespace=True, allow_inf_nan=False
    )
