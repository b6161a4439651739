"""Nothing personal is seen by whoever may not see it, wherever it was planted and whatever is asked."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from features.event_log import MemoryEventLog
from features.taxonomy import Attribute, Fact, Taxonomy
from models.configuration import Configuration, built_in_configuration
from tests.doors import Client, World, event

SEES = {
    "caller": {"ids"},
    "agent": set(),
    "marketer": set(),
    "analyst": set(),
    "privacy": {"ids", "personal", "text"},
    "admin": {"ids", "personal", "text"},
}
PERSONAL_FACTS = {"application_submitted": "full_name", "chat_held": "said", "feedback_given": "employer"}


def _configuration() -> Configuration:
    """The built-in one, with personal facts in several kinds, and more personal attributes and context."""
    configuration = built_in_configuration()
    taxonomy = configuration.taxonomy
    personal = Fact(dtype="text", pii=True)
    kinds = {
        name: kind.model_copy(update={"facts": {**kind.facts, PERSONAL_FACTS[name]: personal}})
        if name in PERSONAL_FACTS
        else kind
        for name, kind in taxonomy.kinds.items()
    }
    changed: Taxonomy = taxonomy.model_copy(
        update={
            "kinds": kinds,
            "attributes": {**taxonomy.attributes, "birth_name": Attribute(dtype="text", pii=True)},
            "context": {**taxonomy.context, "typed_name": Attribute(dtype="text", pii=True)},
        }
    )
    return replace(configuration, taxonomy=Taxonomy.model_validate(changed.model_dump()))


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[World, Client, dict[str, str]]]:
    """One installation for all examples: each has people of its own."""
    configuration = _configuration()
    with tempfile.TemporaryDirectory() as folder:
        log = MemoryEventLog(identifiers=configuration.taxonomy.identifiers)
        world = World(Path(folder), configuration=configuration, log=log)
        keys = {role: world.key("crm", role) for role in SEES}
        with world.client() as client:
            yield world, client, keys


NUMBERS = itertools.count()
PLANTED = st.text(alphabet="abcdefghij", min_size=12, max_size=20)
PLACES = (
    "fact",
    "chat",
    "feedback",
    "attribute",
    "identifier",
    "raw",
    "wrong",
    "context",
    "unplanned",
    "alias",
    "told",
)


# Not made smaller: an example asks a hundred questions, and the first one that fails names role and place.
@settings(max_examples=6, deadline=None, phases=[Phase.generate])
@given(places=st.sets(st.sampled_from(PLACES), min_size=1), word=PLANTED)
def test_nothing_personal_is_seen(asked: tuple[World, Client, dict[str, str]], places: set[str], word: str) -> None:
    """In no answer of any call, for any role that may not see it; who may, does."""
    _, client, keys = asked
    number = next(NUMBERS)
    secret = {place: f"{word}{place}{number}" for place in places}
    customer = f"p{number}"
    rejected = _planted(client, keys["caller"], customer, secret)
    decision = _decided(client, keys["caller"], customer, secret)

    answers = {role: [*rejected, *_answers(client, key, customer, decision, secret)] for role, key in keys.items()}

    for role, bodies in answers.items():
        text = "\n".join(bodies)
        seen = {place for place, value in secret.items() if value in text}
        assert {place for place in seen if not _may_see(role, place)} == set(), role
        if role == "privacy":
            assert seen >= places & {"fact", "chat", "feedback", "attribute", "identifier", "alias", "told"}


def _may_see(role: str, place: str) -> bool:
    if place in ("alias", "told"):
        return "ids" in SEES[role]
    return place != "wrong" and "personal" in SEES[role]


def _planted(client: Client, key: str, customer: str, secret: dict[str, str]) -> list[str]:
    """Events with something personal in them; what was answered of those that are wrong."""

    def fact(place: str, name: str) -> dict[str, Any]:
        return {name: secret[place]} if place in secret else {}

    events = [
        event("a", customer_id=customer, facts={"product": "classic", **fact("fact", "full_name")}),
        event("b", customer_id=customer, kind="chat_held", channel="chat", facts=fact("chat", "said")),
        event(
            "c",
            customer_id=customer,
            kind="feedback_given",
            channel="web",
            facts=fact("feedback", "employer"),
            **({"text": f"it was slow, says {secret['raw']}"} if "raw" in secret else {}),
        ),
        event(
            "d",
            customer_id=customer,
            kind="profile_updated",
            channel=None,
            facts={"open_complaint": True, **fact("attribute", "birth_name"), **fact("identifier", "email_hash")},
        ),
    ]
    for one in events:
        one["event_id"] = f"{customer}-{one['event_id']}"
    taken = client.post("/v1/events", {"events": events}, key=key).json()
    assert taken["accepted"] == len(events), taken
    if "alias" in secret:
        linked = {"alias": secret["alias"], "customer_id": customer}
        assert client.post("/v1/identities/link", linked, key=key).status_code == 200
    if "told" in secret:
        seen = event(f"{customer}-e", customer_id=secret["told"], kind="app_opened", channel=None, facts={})
        link = event(
            f"{customer}-f", customer_id=customer, kind="identity_linked", channel=None, facts={"alias": secret["told"]}
        )
        assert client.post("/v1/events", {"events": [seen, link]}, key=key).json()["accepted"] == 2
    if "wrong" not in secret:
        return []
    wrong = [
        event("x", customer_id=customer, facts={"product": "classic", "full_name": [secret["wrong"]]}),
        event(
            "y",
            customer_id=customer,
            kind="profile_updated",
            channel=None,
            facts={"birth_name": {"a": secret["wrong"]}},
        ),
        event("z", customer_id=customer, text=secret["wrong"] * 1_000),
    ]
    answer = client.post("/v1/events", {"events": wrong}, key=key)
    assert answer.json()["rejected"] == len(wrong)
    return [answer.text]


def _decided(client: Client, key: str, customer: str, secret: dict[str, str]) -> str:
    """A decision that was asked for under another id, if there is one, and with something personal in its request."""
    context = {"device": "mobile"}
    context |= {"typed_name": secret["context"]} if "context" in secret else {}
    context |= {"campaign_words": secret["unplanned"]} if "unplanned" in secret else {}
    asked = secret.get("told", secret.get("alias", customer))
    answer = client.post("/v1/decisions", {"customer_id": asked, "context": context}, key=key)
    assert answer.status_code == 200, answer.text
    decision_id: str = answer.json()["decision_id"]
    return decision_id


def _answers(client: Client, key: str, customer: str, decision: str, secret: dict[str, str]) -> Iterator[str]:
    """Whatever a key is told of a customer: answers and problems alike."""
    for path in (
        f"/v1/customers/{customer}/journey",
        f"/v1/customers/{customer}/journey?limit=2",
        f"/v1/customers/{customer}/journey?limit=x",
        f"/v1/customers/{customer}/context",
        f"/v1/decisions?customer_id={customer}",
        f"/v1/decisions/{decision}",
        f"/v1/decisions/{decision}/explanation",
        f"/v1/lookup?name=birth_name&value={customer}",
        *([f"/v1/lookup?name=email_hash&value={secret['identifier']}"] if "identifier" in secret else []),
        "/v1/workforce",
        "/metrics",
    ):
        yield client.get(path, key=key).text
    yield client.post(f"/v1/decisions/{decision}/replay", {}, key=key).text
    yield client.post(f"/v1/decisions/{decision}/activate", {}, key=key).text
    yield client.post("/v1/decisions", {"customer_id": customer, "mode": "dry_run"}, key=key).text
    seen = event(f"{customer}-seen", customer_id=customer, kind="app_opened", channel=None, facts={})
    yield client.post("/v1/events?decide=true", {"events": [seen]}, key=key).text
    again = {"alias": f"{customer}-other", "customer_id": customer}
    yield client.post("/v1/identities/link", again, key=key).text
    yield client.post("/v1/identities/unlink", again, key=key).text
