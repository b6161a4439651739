"""While a rollout grows nobody leaves the challenger's arm, and nobody enters or leaves holdout and random arm."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from features.yaml_files import read_yaml
from models.experiment import arm_of, arm_probabilities
from models.policy import Experiment, Policy
from models.rollouts import with_share
from tests.unit.models.test_rollouts import TEXT

FIXED = ("no_contact_holdout", "random_eligible")
PEOPLE = [f"c-{number}" for number in range(300)]

SALTS = st.text(min_size=1, max_size=8).filter(str.strip)  # blanks around it do not count
shares = st.lists(st.floats(0.0, 0.6), min_size=2, max_size=6).map(sorted)


def _experiment(share: float, holdout: float, random: float, salt: str) -> Experiment:
    return Experiment(id="e", salt=salt, no_contact_holdout=holdout, random_eligible=random, challenger=share)


@settings(deadline=None, max_examples=50)
@given(shares, st.floats(0.0, 0.2), st.floats(0.0, 0.2), SALTS, st.integers(0, 2))
def test_a_growing_share_only_adds_people(
    steps: list[float], holdout: float, random: float, salt: str, n_linked: int
) -> None:
    """Those who come are the champion's; with linked ids too."""
    before: dict[str, str] = {}
    for share in steps:
        experiment = _experiment(share, holdout, random, salt)
        linked = {one: [f"{one}-{place}" for place in range(n_linked)] for one in PEOPLE}
        arms = {one: arm_of(one, experiment, linked_ids=linked[one]) for one in PEOPLE}
        for one, arm in before.items():
            assert arms[one] == arm or (arm, arms[one]) == ("champion", "challenger")
        before = dict(arms)


@given(st.floats(0.0, 0.6), st.floats(0.0, 0.6))
def test_the_other_arms_keep_their_probabilities(one: float, other: float) -> None:
    """What was logged under one share and under another is comparable."""
    first, second = (arm_probabilities(_experiment(share, 0.05, 0.1, "s")) for share in (one, other))

    assert [first[arm] for arm in FIXED] == [second[arm] for arm in FIXED]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0.0, 0.85).map(lambda share: float(f"{share:.12g}")), min_size=1, max_size=5))
def test_steps_change_nothing_but_the_share(steps: list[float]) -> None:
    """Whatever the steps were, the file is the first one with the last share."""
    text = TEXT
    for share in steps:
        text = with_share(text, share, file="policy.yaml")

    policy, first = (read_yaml(Policy, one, file="policy.yaml").value for one in (text, TEXT))

    assert policy is not None
    assert first is not None
    assert policy.experiment.challenger == steps[-1]
    assert policy.model_copy(update={"experiment": first.experiment}) == first
    lines = [line for line in text.split("\n") if not line.startswith("  challenger:")]
    assert lines == TEXT.split("\n")
