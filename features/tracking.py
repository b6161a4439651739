"""What calls of tracking SDKs mean: events, attributes, links, and what came back for decisions. No store, no clock.

Names are compared in snake case: ``Card Activated`` is the kind ``card_activated``. What the taxonomy has no place for
is not kept, and each such thing is told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from features.events import allowed_facts, fact_problem
from features.taxonomy import EXPOSED, OUTCOME_OBSERVED, Kind, Taxonomy
from features.tracked_calls import Document, Drop, Envelope, Meant, Properties, TrackedCall, snake_case
from features.tracking_rules import CallRule

PROFILE: Final = "profile_updated"
_DECISION_ID: Final = "decision_id"
_EXPOSURE_FIELDS: Final = (_DECISION_ID, "action_id", "treatment_id", "outcome_event_id")
_OUTCOME_FIELDS: Final = (_DECISION_ID, "outcome_id", "value", "outcome_event_id")
_VALUES: Final[dict[str, tuple[str, ...]]] = {"value": ("value", "revenue")}
_HAPPENED: Final = {"value": 1}
_PAGE: Final = CallRule(kind="page_viewed", facts={"page": ("page", "name", "path")})
_SCREEN: Final = CallRule(kind="screen_viewed", facts={"screen": ("screen", "name")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What one call means; one that means nothing was dropped.

    Attributes:
        events: in order, their times as sent.
        returned: an exposure or outcome of a decision, its time corrected.
        correction: microseconds that the sender's clock is behind ours; 0 where nobody knows.
        drops: what is not kept of it.
    """

    events: tuple[Meant, ...] = ()
    returned: Meant | None = None
    correction: int = 0
    drops: tuple[Drop, ...] = ()

    @property
    def is_dropped(self) -> bool:
        """Whether nothing of the call is kept."""
        return not self.events and self.returned is None


class Translator:
    """Says what calls mean under a taxonomy.

    Args:
        taxonomy: the vocabulary, with its section ``tracking``.
        outcome_ids: every outcome that a journey declares.
    """

    def __init__(self, taxonomy: Taxonomy, outcome_ids: Collection[str]) -> None:
        self._taxonomy = taxonomy
        self._outcome_ids = frozenset(outcome_ids)
        self._rules = {name: CallRule(kind=name) for name in taxonomy.all_kinds}
        self._rules |= {snake_case(name): rule for name, rule in taxonomy.tracking.events.items()}

    def meaning(self, document: object, envelope: Envelope, *, received_at: int, path: str) -> Meaning:
        """What one decoded call means.

        Args:
            document: the call.
            envelope: what its batch says of it.
            received_at: now, microseconds since the epoch.
            path: where the call stands, for messages; empty for the body itself.

        Raises:
            InvalidInput: with every bad field, its value and what was expected.
        """
        call = TrackedCall.of(document, envelope, path=path, received_at=received_at)
        if not call.is_for_us:
            return Meaning(drops=(Drop("integrations", "sender_wish"),))
        meaning = _MEANINGS[call.type](self, call) if call.type is not None else Meaning()
        call.refuse()
        return replace(meaning, correction=call.correction, drops=(*meaning.drops, *call.drops))

    def _track(self, call: TrackedCall) -> Meaning:
        name = snake_case(call.required_text("event"))
        given = Properties.of(call, "properties")
        rule = self._rules.get(name)
        if given.find(_DECISION_ID, {} if rule is None else rule.facts) is not None:
            told = self._returned(given, name, rule)
            if told is not None:
                return Meaning(returned=call.returned(told, given.places), drops=given.unused())
        return self._happened(call, rule, given, name="event")

    def _returned(self, given: Properties, name: str, rule: CallRule | None) -> Document | None:
        """What came back for a decision; None where the call tells of something that only carries its id."""
        kind, rules = (None, {}) if rule is None else (rule.kind, rule.facts)
        if kind == EXPOSED:
            return {"type": "exposure", **given.take(_EXPOSURE_FIELDS, rules)}
        if kind == OUTCOME_OBSERVED:
            return {"type": "outcome", **_HAPPENED, **given.take(_OUTCOME_FIELDS, _VALUES | rules)}
        if name in self._outcome_ids and not self._carries_decisions(kind):
            outcome = given.take(_OUTCOME_FIELDS, _VALUES | rules)
            given.places["outcome_id"] = "event"
            return {"type": "outcome", **_HAPPENED, **outcome, "outcome_id": name}
        return None

    def _carries_decisions(self, kind: str | None) -> bool:
        return kind is not None and _DECISION_ID in allowed_facts(kind, self._taxonomy)

    def _page(self, call: TrackedCall) -> Meaning:
        return self._viewed(call, self._taxonomy.tracking.page or _PAGE)

    def _screen(self, call: TrackedCall) -> Meaning:
        return self._viewed(call, self._taxonomy.tracking.screen or _SCREEN)

    def _viewed(self, call: TrackedCall, rule: CallRule) -> Meaning:
        given = Properties.of(call, "properties", beside=("name", "category"))
        return self._happened(call, rule if rule.kind in self._taxonomy.all_kinds else None, given, name="type")

    def _happened(self, call: TrackedCall, rule: CallRule | None, given: Properties, *, name: str) -> Meaning:
        """The event that a call tells of; ``name`` is the field that says what it is."""
        customer = call.customer()
        if rule is None:
            return Meaning(drops=(Drop(name, "unknown_event"),))
        kind = self._taxonomy.all_kinds[rule.kind]
        facts, drops = given.facts(allowed_facts(rule.kind, self._taxonomy), rule.facts)
        document: Document = {"kind": rule.kind, "facts": facts}
        if kind.role == "feedback":
            document |= given.take(("text",))
        channel, misfits = self._channel(call, rule, kind, given)
        if channel is not None:
            document["channel"] = channel
        event = call.event(document, customer, given.places)
        return Meaning(events=(event,), drops=(*drops, *misfits, *given.unused()))

    def _channel(
        self, call: TrackedCall, rule: CallRule, kind: Kind, given: Properties
    ) -> tuple[str | None, tuple[Drop, ...]]:
        """The channel that a call came over, None where nobody knows; and what it says of it that cannot be."""
        place = None if "channel" in kind.facts else given.find("channel")
        told = None if place is None else given.use(place)
        tracking = self._taxonomy.tracking
        seen = {"web": tracking.web_channel, "app": tracking.app_channel}.get(call.surface or "")
        allowed = kind.channels or tuple(self._taxonomy.channels)
        found = next((one for one in (told, rule.channel, seen) if isinstance(one, str) and one in allowed), None)
        return found, () if place is None or found == told else (Drop(place, "does_not_fit"),)

    def _identify(self, call: TrackedCall) -> Meaning:
        customer, anonymous = call.customer(), call.identifier("anonymousId")
        events = []
        if customer[1] == "userId" and anonymous not in (None, customer[0]):
            events.append(call.link(str(anonymous), "anonymousId", customer))
        given = Properties.of(call, "traits", context="traits")
        facts, drops = given.facts(self._taxonomy.attributes, self._taxonomy.tracking.traits)
        facts |= given.holdings()
        if facts:
            events.append(call.event({"kind": PROFILE, "facts": facts}, customer, given.places, others="traits"))
        return _kept(events, (*drops, *given.unused()))

    def _group(self, call: TrackedCall) -> Meaning:
        customer, group = call.customer(), call.required_identifier("groupId")
        name = self._taxonomy.tracking.group or "group_id"
        attribute = self._taxonomy.attributes.get(name)
        unused = Properties.of(call, "traits").unused()
        if attribute is None:
            return _kept([], (Drop("groupId", "not_declared"), *unused))
        if fact_problem(name, group, attribute) is not None:
            return _kept([], (Drop("groupId", "does_not_fit"), *unused))
        places = {f"facts.{name}": "groupId"}
        return _kept([call.event({"kind": PROFILE, "facts": {name: group}}, customer, places)], unused)

    def _alias(self, call: TrackedCall) -> Meaning:
        customer = call.required_identifier("userId")
        previous = "anonymousId" if call.identifier("previousId") is None else "previousId"
        alias = call.identifier(previous) or call.required_identifier("previousId")
        return Meaning(events=(call.link(alias, previous, (customer, "userId")),))


_MEANINGS: Final = {
    "track": Translator._track,
    "identify": Translator._identify,
    "page": Translator._page,
    "screen": Translator._screen,
    "group": Translator._group,
    "alias": Translator._alias,
}


def _kept(events: Sequence[Meant], drops: tuple[Drop, ...]) -> Meaning:
    return Meaning(events=tuple(events), drops=drops if events else (Drop("", "nothing_declared"), *drops))
