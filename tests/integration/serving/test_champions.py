"""Champions: what was promoted decides without a restart, and what is damaged never does."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from features.errors import BundleError
from models.actions import Catalogue
from models.bundle import FOREST, Bundle, load_bundle
from models.hazards import DAY_US
from models.heads import FittedHeads
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry, Pointer, read_champions
from serving.champions import LONGEST_PAUSE, Champions
from tests.boosters import FEATURES, PERIODS, fitted_heads, small_bundle, timed_bundle, written
from tests.decisions import action

AT = 1_700_000_000_000_000
NAME = "nba-card"


@pytest.fixture
def registry(tmp_path: Path) -> LocalRegistry:
    """A registry with two versions of one model, none promoted."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    registry.register(tmp_path / "made", NAME, {})
    registry.register(tmp_path / "made", NAME, {})
    return registry


def _champions(
    registry: LocalRegistry, feature_names: tuple[str, ...] = FEATURES, horizon_us: int = PERIODS.horizon_us
) -> Champions:
    return Champions(
        registry.root / "champion.json",
        feature_names={"card": feature_names},
        horizons={"card": horizon_us},
        catalogue=Catalogue(version=1, actions=(action(),)),
    )


def test_without_a_champion_there_is_no_model(registry: LocalRegistry) -> None:
    """The decider then says so."""
    champions = _champions(registry)

    champions.refresh()

    assert champions.served_model("card") is None
    assert champions.labels() == {"card": None}


def test_a_challenger_is_watched_like_a_champion(registry: LocalRegistry) -> None:
    """Its own file says which bundle it is, and answers name its alias."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    challengers = _challengers(registry)

    challengers.refresh()

    assert challengers.labels() == {"card": f"{NAME}@challenger/2"}


def _challengers(registry: LocalRegistry) -> Champions:
    return Champions(
        registry.root / "challenger.json",
        feature_names={"card": FEATURES},
        horizons={"card": PERIODS.horizon_us},
        catalogue=Catalogue(version=1, actions=(action(),)),
        alias=CHALLENGER,
    )


def test_a_challenger_that_is_promoted_is_released(registry: LocalRegistry) -> None:
    """From the next look on its share is nobody's, until another one is trained."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    champions, challengers = _champions(registry), _challengers(registry)
    for one in (champions, challengers):
        one.refresh()

    Promoter(registry).promote(NAME, 2, at=AT + 1, by="ann")
    for one in (champions, challengers):
        one.refresh()

    assert (champions.labels(), challengers.labels()) == ({"card": f"{NAME}@champion/2"}, {"card": None})

    registry.set_alias(NAME, CHALLENGER, 1, at=AT + 2)
    challengers.refresh()
    assert challengers.labels() == {"card": f"{NAME}@challenger/1"}


def test_challengers_go_with_their_file(registry: LocalRegistry) -> None:
    """A damaged one tells nothing, and leaves them."""
    registry.set_alias(NAME, CHALLENGER, 2, at=AT)
    challengers = _challengers(registry)
    challengers.refresh()
    file = registry.root / "challenger.json"

    file.write_text("{")
    challengers.refresh()
    assert challengers.labels() == {"card": f"{NAME}@challenger/2"}

    file.unlink()
    challengers.refresh()
    assert challengers.labels() == {"card": None}


def test_a_promoted_bundle_decides_from_the_next_look_on(registry: LocalRegistry) -> None:
    """Its name, alias and version are in every answer."""
    champions = _champions(registry)
    champions.refresh()

    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion/1"}
    model = champions.served_model("card")
    assert model is not None
    assert model.scorer.bundle.parts == dict.fromkeys(("stall", "uplift"), model.scorer.bundle.manifest_sha256[:12])


def test_a_stall_from_hazards_has_a_version(tmp_path: Path) -> None:
    """It is a stall as the single probability of older bundles is; a bundle of effects alone has none."""
    registry = LocalRegistry(tmp_path / "bundles")
    timed_bundle(tmp_path / "timed")
    effects = fitted_heads()
    boosters = {name: text for name, text in effects.boosters.items() if name != "stall"}
    written(tmp_path / "effects", [FittedHeads(effects.heads[2:], boosters)])
    found = []
    for version, made in enumerate(("timed", "effects"), start=1):
        registry.register(tmp_path / made, NAME, {})
        registry.set_alias(NAME, CHAMPION, version, at=AT)
        champions = _champions(registry)
        champions.refresh()
        found.append(champions.served_model("card"))

    timed, alone = found
    assert timed is not None
    assert timed.scorer.bundle.parts["stall"] == timed.scorer.bundle.manifest_sha256[:12]
    assert alone is not None
    assert alone.scorer.bundle.parts == {"uplift": alone.scorer.bundle.manifest_sha256[:12]}


def test_the_next_promotion_takes_over(registry: LocalRegistry) -> None:
    """Also where its bytes are those of the one before."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry)
    champions.refresh()

    registry.set_alias(NAME, CHAMPION, 2, at=AT)
    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion/2"}


def test_a_damaged_bundle_never_replaces_a_good_one(registry: LocalRegistry) -> None:
    """The one before goes on deciding."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry)
    champions.refresh()
    registry.set_alias(NAME, CHAMPION, 2, at=AT)
    forest = registry.path(NAME, 2) / FOREST
    forest.write_bytes(forest.read_bytes()[:-1])

    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion/1"}


def test_a_damaged_pointer_leaves_the_model_in_place(registry: LocalRegistry) -> None:
    """Half a file is not a promotion."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry)
    champions.refresh()
    (registry.root / "champion.json").write_text("{")

    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion/1"}


def test_a_bundle_for_other_features_is_refused(registry: LocalRegistry) -> None:
    """A model never scores a vector that it was not made for."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry, ("another", "vector", "entirely"))

    champions.refresh()

    assert champions.served_model("card") is None


def test_a_stall_of_another_horizon_is_refused(tmp_path: Path) -> None:
    """The journey's horizon was changed: answers would tell it beside a number that refers to the old one."""
    registry = LocalRegistry(tmp_path / "bundles")
    timed_bundle(tmp_path / "timed")
    registry.register(tmp_path / "timed", NAME, {})
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry, horizon_us=28 * DAY_US)

    champions.refresh()

    assert champions.served_model("card") is None


def test_the_model_stays_when_its_pointer_is_gone(registry: LocalRegistry) -> None:
    """Serving does not need the file to go on."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry)
    champions.refresh()
    (registry.root / "champion.json").unlink()

    champions.refresh()

    assert champions.served_model("card") is not None


def _damage(registry: LocalRegistry, version: int) -> None:
    forest = registry.path(NAME, version) / FOREST
    forest.write_bytes(forest.read_bytes()[:-1])


def test_a_start_with_a_damaged_champion_takes_the_one_before(
    registry: LocalRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """By the promotion log, loudly: answers and records name it a fallback, and errors are logged."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    Promoter(registry).promote(NAME, 2, at=AT, by="ann")
    _damage(registry, 2)
    champions = _champions(registry)

    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion_fallback/1"}
    assert {one.levelname for one in caplog.records if "champion_fallback" in one.getMessage()} == {"ERROR"}


def test_a_fallback_gives_way_to_what_is_promoted(registry: LocalRegistry) -> None:
    """A champion that can be used takes its place again, also the same version rolled back to."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    Promoter(registry).promote(NAME, 2, at=AT, by="ann")
    _damage(registry, 2)
    champions = _champions(registry)
    champions.refresh()

    Promoter(registry).rollback(NAME, at=AT + 1, by="ann")
    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion/1"}


def test_a_start_with_a_damaged_pointer_takes_the_last_promoted(registry: LocalRegistry) -> None:
    """The log says which it was."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    Promoter(registry).promote(NAME, 2, at=AT, by="ann")
    (registry.root / "champion.json").write_text("{")
    champions = _champions(registry)

    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion_fallback/2"}

    (registry.root / "champion.json").unlink()
    registry.set_alias(NAME, CHAMPION, 2, at=AT)
    champions.refresh()

    assert champions.labels() == {"card": "nba-card@champion/2"}


def test_a_fallback_that_is_damaged_too_is_no_model(registry: LocalRegistry) -> None:
    """Nothing that cannot be proven ever decides."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    Promoter(registry).promote(NAME, 2, at=AT, by="ann")
    for version in (1, 2):
        _damage(registry, version)
    champions = _champions(registry)

    champions.refresh()

    assert champions.labels() == {"card": None}


def _moved_away(registry: LocalRegistry, version: int) -> Path:
    """A forest that cannot be read for now; the path that it lies at."""
    forest = registry.path(NAME, version) / FOREST
    forest.rename(forest.with_suffix(".away"))
    return forest


def test_a_bundle_that_could_not_be_read_is_tried_again(registry: LocalRegistry) -> None:
    """What kept it from being read may pass without anybody promoting again; soon is soon enough, not at each look."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry)
    champions.refresh()
    registry.set_alias(NAME, CHAMPION, 2, at=AT)
    forest = _moved_away(registry, 2)
    for _ in range(200):
        champions.refresh()
    assert champions.labels() == {"card": f"{NAME}@champion/1"}
    forest.with_suffix(".away").rename(forest)

    looks = 0
    while champions.labels() != {"card": f"{NAME}@champion/2"} and looks <= LONGEST_PAUSE:
        champions.refresh()
        looks += 1

    assert 1 <= looks <= LONGEST_PAUSE


def test_a_fallback_gives_way_once_the_champion_can_be_read(registry: LocalRegistry) -> None:
    """The first trial after a failed one is at the next look."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    Promoter(registry).promote(NAME, 2, at=AT, by="ann")
    forest = _moved_away(registry, 2)
    champions = _champions(registry)
    champions.refresh()
    assert champions.labels() == {"card": f"{NAME}@champion_fallback/1"}
    forest.with_suffix(".away").rename(forest)

    champions.refresh()

    assert champions.labels() == {"card": f"{NAME}@champion/2"}


def test_an_alias_file_that_could_not_be_read_is_read_again(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file itself never changes, as when no descriptor was left."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions = _champions(registry)

    def fail(file: Path) -> dict[str, Pointer]:
        raise BundleError(f"cannot read {file}: Too many open files; expected a readable file")

    with monkeypatch.context() as broken:
        broken.setattr("serving.champions.read_champions", fail)
        champions.refresh()
    champions.refresh()

    assert champions.labels() == {"card": f"{NAME}@champion/1"}


def test_trials_of_a_damaged_bundle_get_rarer_and_are_said_once(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that says the same each second hides everything else; another promotion says it again."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    _damage(registry, 1)
    champions, tried = _champions(registry), []

    def load(path: Path, *arguments: Any, **named: Any) -> Bundle:
        tried.append(path)
        return load_bundle(path, *arguments, **named)

    monkeypatch.setattr("serving.champions.load_bundle", load)
    for _ in range(4 * LONGEST_PAUSE):
        champions.refresh()

    assert len(tried) <= 12
    assert [one.getMessage() for one in caplog.records].count("bundle_refused") == 1

    registry.set_alias(NAME, CHAMPION, 1, at=AT + 1)
    champions.refresh()
    assert [one.getMessage() for one in caplog.records].count("bundle_refused") == 2


def test_two_looks_at_once_take_turns(registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion over HTTP has the aliases looked at while the clock's own look may be under way."""
    registry.set_alias(NAME, CHAMPION, 1, at=AT)
    champions, both, met = _champions(registry), threading.Barrier(2), []

    def read(file: Path) -> dict[str, Pointer]:
        with suppress(threading.BrokenBarrierError):
            met.append(both.wait(0.2))
        return read_champions(file)

    monkeypatch.setattr("serving.champions.read_champions", read)
    threads = [threading.Thread(target=champions.refresh) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)

    assert (met, champions.labels()) == ([], {"card": f"{NAME}@champion/1"})
