"""Values of command line options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import Refused
from features.events import parse_timestamp
from models.configuration import Configuration, configuration_in

if TYPE_CHECKING:  # jitted code, which is imported once its folder is chosen
    from models.replayer import WhatIf


def moment_option(option: str, text: str | None) -> int | None:
    """The moment that an option gives, microseconds since the epoch; None where it was not given.

    Raises:
        Refused: it is no timestamp, or has no offset.
    """
    try:
        return None if text is None else parse_timestamp(text)
    except (ValueError, OverflowError) as error:
        expected = "an ISO 8601 timestamp with an offset, such as 2026-03-01T00:00:00Z"
        raise Refused(f"{option}: got {text}, expected {expected}") from error


def what_if_options(
    configuration: Configuration, policy: Path | None, actions: Path | None, bundle: int | None, *, as_champion: bool
) -> WhatIf:
    """What is to be different, checked with the taxonomy and the journeys in force.

    Raises:
        ConfigurationError: with every problem of the files.
    """
    from models.replayer import WhatIf

    if policy is None and actions is None:
        return WhatIf(bundle=bundle, as_champion=as_champion)
    texts = {f"{part}.yaml": text for part, text in configuration.texts.items()}
    for name, path in (("policy.yaml", policy), ("actions.yaml", actions)):
        if path is not None:
            texts[name] = path.read_text(encoding="utf-8")
    wanted = configuration_in(texts, origin="with " + ", ".join(str(one) for one in (policy, actions) if one))
    return WhatIf(
        policy=None if policy is None else wanted.policy,
        catalogue=None if actions is None else wanted.catalogue,
        bundle=bundle,
        as_champion=as_champion,
        checked_with={part: wanted.versions[part] for part in ("taxonomy", "journeys")},
    )
