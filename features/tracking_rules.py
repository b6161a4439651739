"""What calls of tracking SDKs mean where their names do not say it: the section ``tracking`` of ``taxonomy.yaml``."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from features.config_model import ConfigModel, Name

WEB: Final = "web"
APP: Final = "app"


class CallRule(ConfigModel):
    """What one call means.

    Attributes:
        kind: the kind of event that it is.
        facts: by fact, the properties that give it; the first of them that is there does, and the property of the
            fact's own name where none is.
        channel: the channel that it came over, where the property `channel` does not say.
    """

    kind: Name
    facts: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    channel: Name | None = None


class Tracking(ConfigModel):
    """What calls of tracking SDKs mean. Names of events, properties and traits are compared in snake case.

    Attributes:
        events: by name of a `track` call, what it means; another name means the kind of that name, if there is one.
        page: what a `page` call means; by default the kind `page_viewed`, if there is one, its fact `page` from the
            property of that name, the name of the page, or its path.
        screen: what a `screen` call means; by default the kind `screen_viewed`, if there is one, its fact `screen` from
            the property of that name, or the name of the screen.
        traits: by attribute, the traits of an `identify` call that give it; the first of them that is there does, and
            the trait of the attribute's own name where none is.
        group: the attribute that the id of a `group` call is; by default `group_id`, if there is one.
        web_channel: the channel of calls out of a browser, if the taxonomy has it.
        app_channel: the channel of calls out of a mobile app, likewise.
    """

    events: dict[str, CallRule] = Field(default_factory=dict)
    page: CallRule | None = None
    screen: CallRule | None = None
    traits: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    group: Name | None = None
    web_channel: Name = WEB
    app_channel: Name = APP
