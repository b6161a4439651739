"""What a taxonomy says of its attributes."""

from __future__ import annotations

from features.taxonomy import Taxonomy
from tests.histories import TAXONOMY


def test_personal_attributes_are_left_out() -> None:
    """Neither the rules nor the record of a decision see them."""
    personal = {"name": {"dtype": "text", "pii": True}}
    declared = TAXONOMY.model_dump()
    taxonomy = Taxonomy.model_validate(declared | {"attributes": declared["attributes"] | personal})

    assert taxonomy.without_personal({"name": "Zoë", "tier": "gold"}) == {"tier": "gold"}
