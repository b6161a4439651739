"""What the README shows is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.configuration import built_in_configuration
from serving.schemas import DecisionAnswer

README = (Path(__file__).parents[2] / "README.md").read_text()
SHOWN: dict[str, Any] = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
FIELDS = {field.encode_name: field.type for field in msgspec.structs.fields(DecisionAnswer)}


@pytest.mark.parametrize("name", SHOWN)
def test_the_shown_answer_has_the_shape_of_answers(name: str) -> None:
    """Every shown part is whole and of its type."""
    assert name in FIELDS
    msgspec.convert(SHOWN[name], FIELDS[name], strict=True)


@pytest.mark.parametrize("name", [name for name, value in SHOWN.items() if isinstance(value, dict)])
def test_the_shown_answer_has_no_other_fields(name: str) -> None:
    """A field that is gone must go from the README too."""
    shape = msgspec.convert(SHOWN[name], FIELDS[name], strict=True)

    assert set(SHOWN[name]) == set(msgspec.to_builtins(shape))


def test_the_shown_action_is_whole_and_of_the_catalogue() -> None:
    """Its arithmetic holds too: the net value is what the factors make of the uplift."""
    (action,) = SHOWN["ranked_actions"]
    (ranked,) = msgspec.convert([action], FIELDS["ranked_actions"], strict=True)
    declared = built_in_configuration().catalogue.by_id[action["action_id"]]
    factors = action["factors"]
    costs = sum(factors[name] for name in ("contact_cost", "fatigue_cost", "channel_price", "budget_price"))

    assert set(action) == set(msgspec.to_builtins(ranked))
    assert action["treatment_id"] in [treatment.id for treatment in declared.treatments]
    assert action["uplift"] * factors["value"] - costs == pytest.approx(action["net_value"], abs=0.02)
