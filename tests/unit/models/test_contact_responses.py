"""What came back for contacts, out of events: each kind means what the taxonomy says it does."""

from __future__ import annotations

from typing import Any

import pytest

from features.taxonomy import Taxonomy
from models.actions import Catalogue
from models.contact_responses import contact_responses
from models.records import ContactResponse
from tests.decisions import action
from tests.histories import START_AT, TAXONOMY, event

ANSWERED = {"decision_id": {"dtype": "text"}}
KINDS = {
    "opened": {"title": "Opened", "role": "response", "facts": ANSWERED},
    "took": {"title": "Took it", "role": "offer_accepted", "facts": ANSWERED},
    "refused": {"title": "Refused it", "role": "offer_rejected", "facts": ANSWERED},
    "noticed": {"title": "Noticed", "facts": ANSWERED},
}
WORDS = Taxonomy.model_validate({**TAXONOMY.model_dump(), "kinds": KINDS})
CATALOGUE = Catalogue(version=1, actions=(action("call"), action("page"), action("ask", outcome="answered")))


@pytest.mark.parametrize(
    ("kind", "facts", "found"),
    [
        ("opened", {"decision_id": "d-1"}, ("neutral", None)),
        ("took", {"decision_id": "d-1"}, ("positive", None)),
        ("refused", {"decision_id": "d-1"}, ("negative", None)),
        ("refused", {}, None),
        ("noticed", {"decision_id": "d-1"}, None),
        ("action_exposed", {"decision_id": "d-1", "action_id": "call"}, None),
        (
            "outcome_observed",
            {"decision_id": "d-1", "outcome_id": "paid", "value": 20.0},
            ("positive", frozenset({"call", "page"})),
        ),
        (
            "outcome_observed",
            {"decision_id": "d-1", "outcome_id": "answered", "value": 0.0},
            ("negative", frozenset({"ask"})),
        ),
        ("outcome_observed", {"outcome_id": "paid", "value": 1.0}, None),
    ],
)
def test_an_event_means_what_its_kind_says(kind: str, facts: dict[str, Any], found: Any) -> None:
    """Yes, no, or an answer that is neither; what answers no decision, or answers nothing, says nothing."""
    responses = list(contact_responses([event("e1", kind=kind, facts=facts)], WORDS, CATALOGUE))

    expected = [] if found is None else [ContactResponse("d-1", "c1", found[0], START_AT, found[1])]
    assert responses == expected
