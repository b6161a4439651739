"""What calls of tracking SDKs mean under a small taxonomy."""

from __future__ import annotations

from typing import Any

import pytest

from features.errors import InvalidInput, Problem
from features.events import dump_timestamp
from features.schema import feature_set
from features.taxonomy import Taxonomy
from features.tracked_calls import Drop, Envelope, Meant
from features.tracking import Meaning, Translator
from features.yaml_files import content_version
from tests.histories import FEATURES, MINUTE_US, START_AT, TAXONOMY, journey

RECEIVED = START_AT + 100 * MINUTE_US
AT = dump_timestamp(START_AT)
ENVELOPE = Envelope()


def taxonomy(*, tracking: dict[str, Any] | None = None, **changes: Any) -> Taxonomy:
    """The small taxonomy, with a few kinds that calls can mean, and a section ``tracking``."""
    kinds = {
        "page_viewed": {"title": "Viewed", "channels": ["web"], "facts": {"page": {"dtype": "text", "required": True}}},
        "clicked": {"title": "Clicked", "role": "response", "facts": {"decision_id": {"dtype": "text"}}},
        "rated": {"title": "Rated", "role": "feedback", "facts": {"nps": {"dtype": "number"}}},
    }
    plain = TAXONOMY.model_dump()
    plain["kinds"] |= kinds
    plain["channels"] |= {"app": {"title": "App", "digital": True}}
    return Taxonomy.model_validate(plain | {"tracking": tracking or {}} | changes)


def meaning(call: object, *, envelope: Envelope = ENVELOPE, tracking: dict[str, Any] | None = None) -> Meaning:
    """What a call means that came at ``RECEIVED``."""
    translator = Translator(taxonomy(tracking=tracking), {"paid", "renewed"})
    return translator.meaning(call, envelope, received_at=RECEIVED, path="batch[0]")


def call(kind: str = "track", **changes: Any) -> dict[str, Any]:
    """A payment that customer c1 made, unless told otherwise."""
    fields: dict[str, Any] = {"type": kind, "messageId": "m-1", "userId": "c1", "timestamp": AT}
    if kind == "track":
        fields |= {"event": "Paid", "properties": {"amount": 2.5}}
    return {name: value for name, value in (fields | changes).items() if value is not None}


def only(found: Meaning) -> dict[str, Any]:
    """The document of the one event that a call means."""
    (event,) = found.events
    return event.document


def drops(found: Meaning) -> dict[str, str]:
    """What was not kept, and why."""
    return {drop.path: drop.reason for drop in found.drops}


def problems(document: object, **options: Any) -> dict[str, str]:
    """What is wrong with a call, by place."""
    with pytest.raises(InvalidInput) as refused:
        meaning(document, **options)
    return {problem.path: problem.expected for problem in refused.value.problems}


# ---- track


def test_a_name_in_snake_case_is_the_kind() -> None:
    """With its properties as facts, under the message's id."""
    assert only(meaning(call(event="Paid", properties={"Amount": 2.5}))) == {
        "event_id": "m-1",
        "customer_id": "c1",
        "occurred_at": AT,
        "kind": "paid",
        "facts": {"amount": 2.5},
    }


def test_a_name_that_is_no_kind_is_dropped() -> None:
    """And told with the field that says it."""
    found = meaning(call(event="Danced"))

    assert found.is_dropped
    assert found.drops == (Drop("event", "unknown_event"),)


@pytest.mark.parametrize("name", ["Order Completed", "order_completed", "orderCompleted", "Order-Completed"])
def test_a_configured_name_means_its_kind_and_facts(name: str) -> None:
    """However the sender writes it."""
    rule = {"kind": "paid", "facts": {"amount": ["total", "revenue"]}, "channel": "web"}
    tracking = {"events": {"Order Completed": rule}}

    document = only(meaning(call(event=name, properties={"revenue": 9, "amount": 1}), tracking=tracking))

    assert (document["kind"], document["facts"], document["channel"]) == ("paid", {"amount": 9}, "web")


def test_properties_that_are_not_declared_are_told() -> None:
    """One that does not fit likewise; the event is kept without them, and a null is no property."""
    found = meaning(call(properties={"amount": "much", "a.b": 1, "coupon": None}))

    assert only(found)["facts"] == {}
    assert drops(found) == {"properties.amount": "does_not_fit", r"properties.a\.b": "not_declared"}


def test_a_property_by_its_exact_name_comes_first() -> None:
    """Of two that are one in snake case."""
    assert only(meaning(call(properties={"Amount": 1, "amount": 2})))["facts"] == {"amount": 2}


def test_a_required_fact_that_does_not_fit_is_left_to_be_refused() -> None:
    """The event would say less than it must."""
    assert only(meaning(call("page", name=None, properties={"page": 7})))["facts"] == {"page": 7}


def test_what_a_customer_said_is_the_text_of_feedback() -> None:
    """Of other kinds it is a property like any other."""
    rated, paid = (call(event=name, properties={"text": "Fine."}) for name in ("Rated", "Paid"))

    assert only(meaning(rated))["text"] == "Fine."
    assert drops(meaning(paid)) == {"properties.text": "not_declared"}


# ---- decisions


def test_an_exposure_names_its_decision() -> None:
    """With what was shown, at the time by our clock."""
    shown = {"decisionId": "d-1", "action_id": "call", "Treatment Id": "call_phone", "slot": 1}
    found = meaning(call(event="Action Exposed", properties=shown, sentAt=dump_timestamp(RECEIVED - MINUTE_US)))

    assert found.events == ()
    assert found.returned is not None
    assert found.returned.document == {
        "type": "exposure",
        "decision_id": "d-1",
        "action_id": "call",
        "treatment_id": "call_phone",
        "occurred_at": dump_timestamp(START_AT + MINUTE_US),
    }
    assert drops(found) == {"properties.slot": "not_declared"}


def test_a_configured_name_may_be_an_exposure() -> None:
    """With what gives its fields, the decision among them; without a decision it is an event."""
    rule = {"kind": "action_exposed", "facts": {"decision_id": ["offerRef"], "action_id": ["banner"]}}
    tracking = {"events": {"Banner Shown": rule}}

    shown = meaning(call(event="Banner Shown", properties={"offerRef": "d-1", "banner": "call"}), tracking=tracking)
    seen = meaning(call(event="Banner Shown", properties={"banner": "call"}), tracking=tracking)

    assert shown.returned is not None
    assert shown.returned.document == {
        "type": "exposure",
        "decision_id": "d-1",
        "action_id": "call",
        "occurred_at": AT,
    }
    assert only(seen)["facts"] == {"action_id": "call"}


@pytest.mark.parametrize(
    ("properties", "value"), [({}, 1), ({"value": 0}, 0), ({"revenue": 9.5}, 9.5), ({"revenue": 9, "value": 3}, 3)]
)
@pytest.mark.parametrize("name", ["Renewed", "Outcome Observed"])
def test_an_outcome_by_its_id(name: str, properties: dict[str, Any], value: float) -> None:
    """Its value is the one that is given, the revenue, or that it happened."""
    by_name = {} if name == "Renewed" else {"outcome_id": "renewed"}
    found = meaning(call(event=name, properties={"decision_id": "d-1"} | by_name | properties))

    assert found.returned is not None
    assert found.returned.document == {
        "type": "outcome",
        "decision_id": "d-1",
        "outcome_id": "renewed",
        "value": value,
        "occurred_at": AT,
    }


def test_an_outcome_that_is_a_kind_too_is_an_outcome_only_with_a_decision() -> None:
    """Without it the customer just did it."""
    with_one, without = meaning(call(properties={"decision_id": "d-1"})), meaning(call())

    assert (with_one.returned is not None, with_one.events) == (True, ())
    assert (without.returned, only(without)["kind"]) == (None, "paid")


def test_a_kind_that_carries_decisions_is_an_event() -> None:
    """It responds to one, and says which."""
    assert only(meaning(call(event="Clicked", properties={"decision_id": "d-1"})))["facts"] == {"decision_id": "d-1"}


def test_a_kind_that_has_no_place_for_a_decision_is_kept_without_it() -> None:
    """The customer did it all the same."""
    found = meaning(call(event="Visited", properties={"decision_id": "d-1"}))

    assert only(found)["kind"] == "visited"
    assert drops(found) == {"properties.decision_id": "not_declared"}


def test_a_decision_with_an_unknown_name_is_dropped() -> None:
    """Nobody can say what came of it."""
    assert drops(meaning(call(event="Danced", properties={"decision_id": "d-1"}))) == {"event": "unknown_event"}


# ---- page and screen


@pytest.mark.parametrize(
    ("changes", "page"),
    [
        ({"name": "Fees", "properties": {"path": "/fees"}}, "Fees"),
        ({"properties": {"path": "/fees"}}, "/fees"),
        ({"name": "Fees", "properties": {"page": "fees"}}, "fees"),
        ({"properties": {"name": "Fees"}}, "Fees"),
    ],
)
def test_a_page_is_its_own_property_its_name_or_its_path(changes: dict[str, Any], page: str) -> None:
    """Where nothing is configured."""
    document = only(meaning(call("page", **changes)))

    assert (document["kind"], document["facts"]) == ("page_viewed", {"page": page})


def test_a_screen_without_a_kind_is_dropped() -> None:
    """The taxonomy has no `screen_viewed`."""
    assert drops(meaning(call("screen", name="Home"))) == {"type": "unknown_event"}


def test_a_screen_means_what_is_configured() -> None:
    """With its name as a property, which is not told where nothing was made of it."""
    visited = meaning(call("screen", name="Home"), tracking={"screen": {"kind": "visited", "channel": "app"}})

    assert (only(visited)["kind"], only(visited)["channel"], visited.drops) == ("visited", "app", ())


# ---- channels


@pytest.mark.parametrize(
    ("changes", "channel"),
    [
        ({}, None),
        ({"channel": "server"}, None),
        ({"channel": "browser"}, "web"),
        ({"channel": "web"}, "web"),
        ({"channel": "mobile"}, "app"),
        ({"context": {"page": {"path": "/"}}}, "web"),
        ({"context": {"device": {"type": "ios"}}}, "app"),
        ({"context": {"app": {"name": "Bank"}, "page": {"path": "/"}}}, "web"),
        ({"channel": "server", "context": {"device": {}}}, None),
        ({"properties": {"channel": "phone"}, "channel": "web"}, "phone"),
    ],
)
def test_the_channel_is_told_or_seen(changes: dict[str, Any], channel: str | None) -> None:
    """A property says it, else the SDK's own field, else what the call was made in; else nobody knows."""
    assert only(meaning(call(event="Visited", **changes))).get("channel") == channel


def test_a_channel_that_the_kind_does_not_allow_is_none() -> None:
    """One that was told is told of."""
    seen = meaning(call(event="Called", channel="web", properties=None))
    told = meaning(call(event="Called", properties={"channel": "web"}))

    assert ("channel" in only(seen), "channel" in only(told)) == (False, False)
    assert (drops(seen), drops(told)) == ({}, {"properties.channel": "does_not_fit"})


def test_a_browser_is_the_channel_that_is_configured() -> None:
    """Where the taxonomy calls it otherwise."""
    assert only(meaning(call(channel="web"), tracking={"web_channel": "phone"}))["channel"] == "phone"


# ---- identify, group and alias


def test_traits_become_attributes() -> None:
    """Those that are declared and fit, holdings too; the others are told."""
    traits = {"Age": 40, "tier": "silver", "member": True, "holding:card": True, "shoeSize": 43}

    found = meaning(call("identify", traits=traits))

    assert only(found) == {
        "event_id": "m-1",
        "customer_id": "c1",
        "occurred_at": AT,
        "kind": "profile_updated",
        "facts": {"age": 40, "member": True, "holding:card": True},
    }
    assert drops(found) == {"traits.tier": "does_not_fit", "traits.shoeSize": "not_declared"}


def test_traits_may_stand_in_the_context() -> None:
    """As RudderStack's SDKs send them."""
    found = meaning(call("identify", context={"traits": {"age": 40, "shoeSize": 43}}))

    assert only(found)["facts"] == {"age": 40}
    assert drops(found) == {"context.traits.shoeSize": "not_declared"}


def test_a_configured_trait_is_the_attribute() -> None:
    """Under the sender's own name."""
    found = meaning(call("identify", traits={"plan": "gold"}), tracking={"traits": {"tier": ["level", "plan"]}})

    assert only(found)["facts"] == {"tier": "gold"}


def test_identify_with_both_ids_links_them() -> None:
    """First the link, then what is known; each has an id of its own."""
    link, profile = meaning(call("identify", anonymousId="cookie", traits={"age": 40})).events

    assert (link.document["kind"], link.document["facts"]) == ("identity_linked", {"alias": "cookie"})
    assert (link.document["event_id"], profile.document["event_id"]) == ("m-1/link", "m-1")
    assert {link.document["customer_id"], profile.document["customer_id"]} == {"c1"}


@pytest.mark.parametrize("ids", [{"anonymousId": "c1"}, {}, {"userId": None, "anonymousId": "cookie"}])
def test_one_id_links_nobody(ids: dict[str, Any]) -> None:
    """The same id twice is one too; and a call of which nothing is declared is dropped."""
    found = meaning(call("identify", traits={"shoeSize": 43}, **ids))

    assert found.is_dropped
    assert drops(found) == {"": "nothing_declared", "traits.shoeSize": "not_declared"}


def test_an_alias_is_a_link() -> None:
    """Of the earlier id to the user's."""
    document = only(meaning(call("alias", previousId="old")))

    assert (document["kind"], document["customer_id"], document["facts"]) == ("identity_linked", "c1", {"alias": "old"})


@pytest.mark.parametrize(
    ("tracking", "kept", "reason"),
    [({"group": "state"}, {"state": "g-1"}, None), ({"group": "tier"}, {}, "does_not_fit"), ({}, {}, "not_declared")],
)
def test_a_group_is_the_attribute_that_is_configured(
    tracking: dict[str, Any], kept: dict[str, Any], reason: str | None
) -> None:
    """Without one it is dropped; the traits of a group are nobody's."""
    found = meaning(call("group", groupId="g-1", traits={"age": 3}), tracking=tracking)

    assert [one.document["facts"] for one in found.events] == ([kept] if kept else [])
    assert drops(found).get("groupId") == reason
    assert drops(found)["traits.age"] == "not_declared"


# ---- who, when, and whether at all


def test_whoever_is_not_known_yet_is_the_anonymous_id() -> None:
    """And a number is an id."""
    assert only(meaning(call(userId="", anonymousId=17)))["customer_id"] == "17"


@pytest.mark.parametrize(
    ("integrations", "kept"),
    [
        ({}, True),
        ({"Headway": False}, False),
        ({"Headway": True}, True),
        ({"All": False}, False),
        ({"all": False}, False),
        ({"All": False, "Headway": True}, True),
        ({"All": True, "Headway": False}, False),
        ({"All": False, "Headway": {"any": 1}}, True),
        ({"Amplitude": False}, True),
    ],
)
def test_the_sender_may_switch_us_off(integrations: dict[str, Any], kept: bool) -> None:
    """By our name, or by all of them; on the call or for the batch."""
    own = meaning(call(integrations=integrations))
    of_batch = meaning(call(), envelope=Envelope(integrations=integrations))

    assert (own.is_dropped, of_batch.is_dropped) == (not kept, not kept)
    assert (drops(own) == {"integrations": "sender_wish"}) is not kept


def test_a_call_may_say_otherwise_than_its_batch() -> None:
    """What is said of all holds where a call says nothing."""
    envelope = Envelope(integrations={"All": False}, context={"page": {}})

    found = meaning(call(integrations={"Headway": True}), envelope=envelope)

    assert only(found)["channel"] == "web"


def test_a_clock_is_set_right_by_when_the_batch_was_sent() -> None:
    """What happened a minute before it was sent happened a minute before it came: by its own or the batch's word."""
    sent = dump_timestamp(START_AT + MINUTE_US)

    by_batch = meaning(call(), envelope=Envelope(sent_at=sent))
    by_call = meaning(call(sentAt=sent), envelope=Envelope(sent_at=AT))
    original = meaning(call(originalTimestamp=AT, timestamp=dump_timestamp(RECEIVED), sentAt=sent))

    assert [START_AT + one.correction for one in (by_batch, by_call, original)] == [RECEIVED - MINUTE_US] * 3
    assert [only(one)["occurred_at"] for one in (by_batch, by_call, original)] == [AT] * 3


def test_without_a_time_it_happened_when_it_came() -> None:
    """Whatever the sender says of when it was sent."""
    found = meaning(call(timestamp=None, sentAt=AT))

    assert (only(found)["occurred_at"], found.correction) == (dump_timestamp(RECEIVED), 0)


@pytest.mark.parametrize("sent", ["soon", 17, "2026-03-01T09:30:00", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_time_of_sending_that_no_clock_shows_corrects_nothing(sent: Any) -> None:
    """And is told."""
    found = meaning(call(sentAt=sent))

    assert found.correction == 0
    assert drops(found) == {"sentAt": "does_not_fit"}


def test_a_call_without_an_id_has_one_of_its_content() -> None:
    """The same again has the same, whenever it is sent; another one has another."""
    ids = [
        only(meaning(call(messageId=None, sentAt=sent, properties={"amount": amount})))["event_id"]
        for sent, amount in ((AT, 1), (dump_timestamp(RECEIVED), 1), (AT, 2))
    ]

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], {"batch[0]": "a JSON object"}),
        (call(type="shout"), {"batch[0].type": "one of track, identify, page, screen, group, alias"}),
        (call(event=None), {"batch[0].event": "text: the field is required"}),
        (call(userId=None), {"batch[0].userId": "an id here or in anonymousId: one of them is required"}),
        (call(userId=[1]), {"batch[0].userId": "an id: text, or an integer within 2^53"}),
        (call(properties=[1]), {"batch[0].properties": "an object"}),
        (call("identify", traits="x"), {"batch[0].traits": "an object"}),
        (call("group"), {"batch[0].groupId": "an id: the field is required"}),
        (call("alias", userId=None, previousId="x"), {"batch[0].userId": "an id: the field is required"}),
        (call("alias"), {"batch[0].previousId": "an id: the field is required"}),
        (call(messageId="m" * 196), {"batch[0].messageId": "text of 1 to 195 characters"}),
        (
            call("alias", userId=True, context=3),
            {
                "batch[0].context": "an object",
                "batch[0].userId": "an id: text, or an integer within 2^53",
                "batch[0].previousId": "an id: the field is required",
            },
        ),
    ],
)
def test_a_call_that_cannot_be_is_refused_by_field(document: object, expected: dict[str, str]) -> None:
    """With everything that is wrong."""
    assert problems(document) == expected


def test_the_path_may_say_the_type() -> None:
    """Then a call needs none, and cannot say otherwise."""
    found = meaning(call(type="identify"), envelope=Envelope(call_type="track"))

    assert only(found)["kind"] == "paid"


def test_problems_of_an_event_stand_where_the_call_has_them() -> None:
    """A fact that is missing is expected among the properties, or traits."""
    event = Meant({}, {"customer_id": "anonymousId", "facts.amount": "properties.Total"})
    found = [Problem(f"events[3].{name}", "", "") for name in ("customer_id", "facts.amount", "facts.product")]

    assert [one.path for one in event.renamed(found, "batch[1]")] == [
        "batch[1].anonymousId",
        "batch[1].properties.Total",
        "batch[1].properties.product",
    ]
    assert event.renamed(found[:1], "")[0].path == "anonymousId"


# ---- versions


def test_the_section_changes_no_version_where_it_says_nothing_and_no_features_ever() -> None:
    """Decisions and models name the versions that they were made under."""
    told = taxonomy(tracking={"group": "state"})

    assert content_version(TAXONOMY.model_copy(update={"tracking": taxonomy().tracking})) == content_version(TAXONOMY)
    assert content_version(told) != content_version(taxonomy())
    assert feature_set(TAXONOMY.model_copy(update={"tracking": told.tracking}), journey()).version == FEATURES.version
