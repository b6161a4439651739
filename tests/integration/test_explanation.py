"""Explanations of decisions that really trained models made."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.errors import BundleError, Refused, UnknownObject
from features.kernel import Floats
from models.boosting import contributions, lightgbm_raw_scores
from models.bundle import booster_texts, member_texts
from models.contributions import Contributions, head_contributions, stall_contributions
from models.deciding_bundle import deciding_bundle
from models.decision import DecisionRecord
from models.explanation import Explanation, explain, explanation_document
from models.explanation_text import explanation_text
from models.flips import feature_flips, priorities_of
from models.forest import column_name, raw_scores_block
from models.hazards import incidence
from models.heads import ABANDON, PROGRESS, STALL, Head, effect_head, hazard_head, head_values
from models.monotone import MonotoneMap
from models.registry import LocalRegistry
from models.winning import recorded_factors
from tests.explained import AGE, CALLS, NAME, PERIODS, World, fits, vectors, world
from tests.histories import FEATURES

ADDS_UP = 1e-6
IS_BINARY = {"paid": True}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The small world."""
    return world(tmp_path_factory.mktemp("explained") / NAME / "1")


@pytest.fixture(scope="module")
def rows() -> Floats:
    """Customers that no model was fitted on."""
    return vectors(60, 9)


def explained(small: World, record: DecisionRecord) -> Explanation:
    """The explanation of a decision under the configuration that it was made under."""
    return explain(
        record,
        small.directory,
        journey=small.rulebook.journey,
        catalogue=small.rulebook.catalogue,
        feature_set=FEATURES,
    )


def stall_of(small: World, rows: Floats) -> Contributions:
    """Contributions to the stall of some customers."""
    found = stall_contributions(small.bundle.heads, booster_texts(small.directory), rows, horizon=PERIODS.horizon)
    assert found is not None
    return found


def with_features(vector: Floats, **values: float) -> Floats:
    """A vector with some features set."""
    changed = vector.copy()
    for name, value in values.items():
        changed[FEATURES.names.index(name)] = value
    return changed


def test_contributions_add_up_to_the_raw_score_of_every_member(rows: Floats) -> None:
    """LightGBM's own, in the order of the vector, for those that know a period too."""
    texts, _, n_timed = member_texts(fits())
    n_periods = len(PERIODS)
    raw = lightgbm_raw_scores(list(texts.values()), rows, n_timed=n_timed, n_periods=n_periods)

    for period in range(n_periods):
        found = contributions(list(texts.values()), rows, period)
        assert found.shape == (len(rows), len(texts), len(FEATURES.names) + 1)
        timed = raw[:, [member * n_periods + period for member in range(n_timed)]]
        expected = np.concatenate([timed, raw[:, n_timed * n_periods :]], axis=1)
        assert np.abs(found.sum(axis=2) - expected).max() < ADDS_UP
    assert n_timed == 2


def test_a_member_that_knows_some_columns_contributes_to_those(rows: Floats) -> None:
    """Its features are called after their places in the vector."""
    import lightgbm as lgb

    some = [CALLS, AGE]
    label = np.nan_to_num(rows[:, AGE], nan=30.0)
    data = lgb.Dataset(rows[:, some], label, feature_name=[column_name(place) for place in some])
    booster = lgb.train({"verbosity": -1, "min_data_in_leaf": 5, "num_threads": 1}, data, num_boost_round=5)

    found = contributions([booster.model_to_string()], rows)[:, 0]

    assert np.flatnonzero(np.abs(found[:, :-1]).sum(axis=0)).tolist() == sorted(some)
    assert np.abs(found.sum(axis=1) - booster.predict(rows[:, some])).max() < ADDS_UP


def test_contributions_add_up_to_responses_and_effects_before_their_links(small: World, rows: Floats) -> None:
    """Weights and means of the heads included."""
    texts = booster_texts(small.directory)
    table = small.bundle.table
    unlinked = replace(table, logistic=np.zeros_like(table.logistic), calibration=np.zeros_like(table.calibration))
    raw, _ = head_values(unlinked, raw_scores_block(small.bundle.forest, rows))

    checked = 0
    for place, head in enumerate(small.bundle.heads):
        if head.name.startswith(("control:", "effect:")):
            assert np.abs(head_contributions(head, texts, rows).raw - raw[:, place]).max() < ADDS_UP
            checked += 1
    assert checked == 3


def test_contributions_add_up_to_the_stall_before_its_calibration(small: World, rows: Floats) -> None:
    """What the bundle's own hazards lead to by the horizon, as log odds."""
    table = small.bundle.table
    values, _ = head_values(table, raw_scores_block(small.bundle.forest, rows))
    hazards = [
        values[:, [table.names.index(hazard_head(cause, period)) for period in range(PERIODS.horizon + 1)]]
        for cause in (PROGRESS, ABANDON)
    ]
    stalled = 1 - incidence(*hazards).progress[:, -1]

    found = stall_of(small, rows)

    assert np.abs(found.raw - np.log(stalled / (1 - stalled))).max() < ADDS_UP


def test_what_raises_the_stall_is_positive(small: World, rows: Floats) -> None:
    """Calls make stalls in this world: the stall contribution of many is above that of none, on every customer."""
    many, none = rows.copy(), rows.copy()
    many[:, CALLS], none[:, CALLS] = 4.0, 0.0

    calm, stuck = stall_of(small, none), stall_of(small, many)

    assert (stuck.raw > calm.raw).all()
    assert (stuck.by_feature[:, CALLS] > 0).all()
    assert (calm.by_feature[:, CALLS] < 0).all()


def test_a_stall_of_one_head_is_taken_apart_too(small: World, rows: Floats) -> None:
    """As bundles of format 1 have it: by the head itself."""
    name = effect_head("paid", "nudge")
    text = booster_texts(small.directory)[next(one.members[0] for one in small.bundle.heads if one.name == name)]
    head = Head(name=STALL, members=(STALL,), link="logistic", calibration=MonotoneMap("platt", 2.0, 0.5))

    found = stall_contributions([head], {STALL: text}, rows, horizon=None)

    assert found is not None
    assert np.abs(found.raw - lightgbm_raw_scores([text], rows)[:, 0]).max() < ADDS_UP


def test_a_bundle_without_a_stall_explains_none(small: World, rows: Floats) -> None:
    """There is nothing to take apart."""
    heads = [head for head in small.bundle.heads if head.name.startswith("effect:")]

    assert stall_contributions(heads, booster_texts(small.directory), rows, horizon=None) is None


def test_a_hazard_that_is_calibrated_by_steps_is_refused(small: World, rows: Floats) -> None:
    """Contributions to it would not add up to anything."""
    steps = MonotoneMap("isotonic", x=(0.0, 1.0), y=(0.1, 0.9))
    heads = [replace(head, calibration=steps) for head in small.bundle.heads]

    with pytest.raises(BundleError, match="hazard:progress:0 is calibrated by steps"):
        stall_contributions(heads, booster_texts(small.directory), rows, horizon=PERIODS.horizon)


def test_scored_again_from_the_record_it_is_the_same(small: World, rows: Floats) -> None:
    """To the last bit, what the catalogue believed included."""
    differences = [explained(small, small.decided(row)).largest_difference for row in rows]

    assert differences == [0.0] * len(rows)


def test_another_record_shows_its_distance(small: World, rows: Floats) -> None:
    """A vector that was changed afterwards is not hidden."""
    record = small.decided(with_features(rows[0], attribute_age=80.0))
    younger = small.decided(with_features(rows[0], attribute_age=20.0))

    found = explained(small, msgspec.structs.replace(record, candidates=younger.candidates))

    assert found.largest_difference > 0.05


def test_a_benign_wait_that_is_not_found_again_is_shown(small: World, rows: Floats) -> None:
    """This bundle gives none."""
    assert explained(small, small.decided(rows[0], benign_wait=0.3)).largest_difference == math.inf


def test_a_decision_is_explained_in_numbers_and_words(small: World, rows: Floats) -> None:
    """A caller of eighty: the calls raise the stall, the age raises what the nudge changes, and points follow."""
    caller = with_features(
        rows[0], calls_since_progress=4.0, repeated_calls_since_progress=3.0, count_called=4.0, attribute_age=80.0
    )
    record = small.decided(caller)

    document = explanation_document(explained(small, record), action_id="offer")

    stall, nudge = document["stall"], document["effects"]["nudge"]
    assert stall["value"] == record.stall_propensity
    assert stall["contributions"][0]["feature"] == "calls_since_progress"
    total = sum(one["contribution"] for one in stall["contributions"])
    assert stall["baseline"] + total + stall["others"] == pytest.approx(stall["raw"], abs=ADDS_UP)
    assert [(one["code"], one["text"]) for one in stall["reasons"]] == [("CALLS_AGAIN", "Called 4 times")]
    assert stall["talking_points"] == ["help.again", "help.now"]
    assert [one["code"] for one in nudge["reasons"]] == ["OLDER"]
    assert nudge["reasons"][0]["text"] == "Is 80 years"
    assert document["effects"]["offer"]["reasons"] == []
    assert document["largest_difference"] == 0.0
    assert set(document["effects"]) == {"nudge", "offer"}
    assert set(document["control"]) == {"paid"}
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_same_decision_is_explained_alike(small: World, rows: Floats) -> None:
    """Byte for byte."""
    first, second = (
        json.dumps(explanation_document(explained(small, small.decided(rows[1])), action_id="nudge")) for _ in range(2)
    )

    assert first == second


def test_the_age_flips_the_decision(small: World, rows: Floats) -> None:
    """The offer would have stood first for a younger customer, whom the model tells apart at about fifty."""
    record = small.decided(with_features(rows[0], attribute_age=80.0))
    found = explained(small, record)

    assert found.to_win("nudge").wins
    age = {flip.feature: flip for flip in found.flips("offer")}["attribute_age"]
    assert 40 < age.changed < 60
    again = small.decided(with_features(np.array(record.vector), attribute_age=age.changed))
    best = max((one for one in again.candidates if one.is_scored), key=lambda one: one.priority)
    assert (best.action_id, best.priority) == ("offer", pytest.approx(age.priority))
    before = small.decided(with_features(np.array(record.vector), attribute_age=np.nextafter(age.changed, 99)))
    assert max((one for one in before.candidates if one.is_scored), key=lambda o: o.priority).action_id == "nudge"


def test_what_would_have_put_a_believed_action_first_is_said_too(small: World, rows: Floats) -> None:
    """No feature moves its effect, which is the catalogue's prior; one that lowers the others' can put it first."""
    record = small.decided(rows[0])
    found = explained(small, record)

    document = explanation_document(found, action_id="brochure")

    assert not document["to_win"]["wins"]
    for flip in found.flips("brochure"):
        changed = with_features(rows[0], **{flip.feature: flip.changed})
        priorities = priorities_of(small.scorer, changed[None, :], record.candidates[:3], IS_BINARY)[0]
        assert record.candidates[int(np.argmax(priorities))].action_id == "brochure"
    (treatment,) = document["to_win"]["treatments"]
    assert treatment["changes"]["uplift"]["present"] == pytest.approx(0.02)
    assert "for brochure to stand before" in explanation_text(found, "brochure")


def test_every_flip_flips(small: World, rows: Floats) -> None:
    """Decided again with the changed value, the action stands first; the nearest ones come first."""
    n_flips = 0
    for row in rows[:12]:
        record = small.decided(row)
        found = explained(small, record)
        for action_id in ("nudge", "offer"):
            flips = () if found.to_win(action_id).wins else found.flips(action_id)
            assert [flip.steps for flip in flips] == sorted(flip.steps for flip in flips)
            for flip in flips:
                changed = with_features(np.array(record.vector), **{flip.feature: flip.changed})
                priorities = priorities_of(small.scorer, changed[None, :], record.candidates[:3], IS_BINARY)[0]
                names = [one.action_id for one in record.candidates[:3]]
                assert names[int(np.argmax(priorities))] == action_id
                n_flips += 1
    assert n_flips > 10


def test_many_priorities_at_once_are_those_of_the_decision(small: World, rows: Floats) -> None:
    """The vectorised formula and the factors of the record agree to the bit."""
    for row in rows:
        record = small.decided(row)
        scored = [one for one in record.candidates[:-1] if one.is_scored]
        again = priorities_of(small.scorer, row[None, :], scored, IS_BINARY)[0]
        assert [one.priority for one in scored] == again.tolist()
        assert [one.priority for one in scored] == [recorded_factors(one, IS_BINARY).priority for one in scored]


def test_what_was_dropped_has_no_flip(small: World, rows: Floats) -> None:
    """Its rules would have to pass; no feature is searched."""
    record = small.decided(with_features(rows[0], journey_status=1.0, stage_index=0.0))
    found = explained(small, record)

    (treatment,) = found.to_win("later").treatments
    assert (treatment.dropped, treatment.rule_ids) == ("applicability", ("applicability.stage",))
    assert found.flips("later") == ()
    assert (
        feature_flips(
            small.scorer,
            found.vector,
            record.candidates,
            "later",
            is_binary=IS_BINARY,
            strength=np.zeros(len(FEATURES.names)),
            specs=FEATURES.specs,
        )
        == ()
    )


def test_an_unknown_action_is_refused_by_name(small: World, rows: Floats) -> None:
    """The message lists what was a candidate."""
    with pytest.raises(UnknownObject, match="one of brochure, later, nudge, offer; did you mean nudge"):
        explanation_document(explained(small, small.decided(rows[0])), action_id="nudg")


def test_other_features_are_refused(small: World, rows: Floats) -> None:
    """A vector means nothing under another version of its names."""
    record = small.decided(rows[0])
    other = small.decided(rows[0], versions=record.versions | {"features": "f0"})

    with pytest.raises(Refused, match="of version f0, expected 172 of"):
        explained(small, other)


def test_another_bundle_is_refused(small: World, rows: Floats) -> None:
    """Explaining a decision by models that did not make it would be an invention."""
    record = small.decided(rows[0])
    other = small.decided(rows[0], versions=record.versions | {"stall": "0" * 12})

    with pytest.raises(BundleError, match="expected 000000000000, which made decision"):
        explained(small, other)


def test_a_damaged_text_is_refused_before_it_is_parsed(small: World, rows: Floats, tmp_path: Path) -> None:
    """LightGBM aborts the process on a broken text, so the digests come first."""
    folder = shutil.copytree(small.directory, tmp_path / "copy")
    text = next((folder / "boosters").iterdir())
    text.write_bytes(text.read_bytes()[:-10])

    with pytest.raises(BundleError, match="restore the bundle"):
        explained(replace(small, directory=folder), small.decided(rows[0]))


def test_the_deciding_bundle_is_found_by_its_label(small: World, rows: Floats) -> None:
    """Also after another one became the champion; one without a model has none, and of an imported one nobody knows."""
    registry = LocalRegistry(small.directory.parents[1])
    record = small.decided(rows[0])

    assert deciding_bundle(record, registry) == small.directory
    without = small.decided(rows[0], versions={"features": FEATURES.version})
    assert deciding_bundle(without, registry) is None
    with pytest.raises(Refused, match="was made without a bundle"):
        deciding_bundle(msgspec.structs.replace(without, mode="imported"), registry)
    with pytest.raises(UnknownObject, match="has no version 7"):
        deciding_bundle(small.decided(rows[0], versions=record.versions | {"bundle": f"{NAME}@champion/7"}), registry)


def test_a_decision_without_a_model_is_explained_by_its_rules(small: World, rows: Floats) -> None:
    """Nothing is taken apart; what would have put an action first is still told."""
    record = small.decided(rows[0])
    found = explain(
        msgspec.structs.replace(record, versions={"features": FEATURES.version}),
        None,
        journey=small.rulebook.journey,
        catalogue=small.rulebook.catalogue,
        feature_set=FEATURES,
    )

    document = explanation_document(found, action_id="offer")

    assert (document["stall"], document["control"], document["effects"]) == (None, {}, {})
    assert document["to_win"]["flips"] == []
    assert (
        document["to_win"]["treatments"]
        == explanation_document(explained(small, record), action_id="offer")["to_win"]["treatments"]
    )
    assert "no model made it" in explanation_text(found, "offer")


def test_people_read_it_on_a_terminal(small: World, rows: Floats) -> None:
    """What it is about, what contributed, in which words, and what would have changed it."""
    text = explanation_text(explained(small, small.decided(with_features(rows[0], attribute_age=80.0))), "offer")

    assert "about the models of this decision, not about the world" in text
    assert "OLDER: Is 80 years -> help.now" in text
    assert "for offer to stand before nudge_phone" in text
    assert "attribute_age: " in text
    assert "NOT the same" not in text
