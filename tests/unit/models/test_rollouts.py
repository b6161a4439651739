"""A challenger's share: changed where it stands in the policy's file, and which rollout the promotion log tells of."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from features.errors import ConfigurationError, Refused, StoreUnavailable
from features.home import Home
from features.yaml_files import read_yaml
from models.configuration import built_in_configuration, install_texts, load_configuration
from models.policy import Policy
from models.promotion_log import Entry, Placed, Shares, Step
from models.promotions import Promoter
from models.registry import CHALLENGER, CHAMPION, LocalRegistry
from models.rollouts import WAITING, Rollout, alias_of_new, rollout_of, with_share, write_share
from tests.boosters import small_bundle

TEXT = files("features").joinpath("defaults/policy.yaml").read_text(encoding="utf-8")
NAME = "nba-card"


def _changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that are only in one of two texts."""
    old, new = before.split("\n"), after.split("\n")
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_a_share_is_added_below_the_random_arm() -> None:
    """One line more, with the same indentation; every comment stays."""
    edited = with_share(TEXT, 0.01, file="policy.yaml")

    assert _changed(TEXT, edited) == ([], ["  challenger: 0.01"])
    assert edited.replace("  challenger: 0.01\n", "") == TEXT


def test_a_share_is_changed_in_its_place() -> None:
    """The rest of its line too, whatever stands there."""
    text = TEXT.replace("  id: default-2025\n", "  id: default-2025\n  challenger:   0.01 # for now: ü\n")

    edited = with_share(text, 0.5, file="policy.yaml")

    assert _changed(text, edited) == (["  challenger:   0.01 # for now: ü"], ["  challenger:   0.5 # for now: ü"])


@pytest.mark.parametrize("share", [1 / 3, 0.1 + 0.2, 1e-7])
def test_a_share_keeps_all_its_digits(share: float) -> None:
    """It is read back as the very number that the gate was asked about."""
    loaded = read_yaml(Policy, with_share(TEXT, share, file="policy.yaml"), file="policy.yaml").value
    assert loaded is not None
    assert loaded.experiment.challenger == share


def test_the_same_share_changes_nothing() -> None:
    """Also where it is not written down: the default is 0."""
    assert with_share(TEXT, 0.0, file="policy.yaml") == TEXT


def test_ending_a_rollout_brings_the_version_back(tmp_path: Path) -> None:
    """A share of 0 is the default, so decisions name the policy of before."""
    home, built_in = Home(tmp_path).create(), built_in_configuration()

    grown = write_share(home, {}, 0.1)
    ended = write_share(home, {}, 0.0)

    assert grown.versions["policy"] != built_in.versions["policy"] == ended.versions["policy"]


@pytest.mark.parametrize(
    "experiment",
    [
        "experiment: {id: e, salt: s, no_contact_holdout: 0.05, random_eligible: 0.10} # ü, flow",
        "experiment:\n    random_eligible: 0.10\n    no_contact_holdout: 0.05\n    salt: s\n    id: e",
        "experiment: {id: e, salt: s, challenger: 0.3, no_contact_holdout: 0.05, random_eligible: 0.10}",
        '"experiment":\n  id: e\n  salt: s\n  no_contact_holdout: 0.05\n  "random_eligible": 1e-1   # learns',
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_way_to_write_it_is_changed(experiment: str, newline: str) -> None:
    """Flow or block, any order, quoted, with either kind of line end: the policy is the same but for the share."""
    lines = ["# ü", "version: 1", experiment, "exploration: {epsilon: 0.1, temperature: 2}", "decision_ttl: 24h"]
    text = newline.join("\n".join(lines).split("\n"))

    edited = with_share(text, 0.25, file="policy.yaml")

    assert "challenger: 0.25" in edited
    assert edited.count(newline) == edited.count("\n")
    assert "# ü" in edited


def test_what_cannot_be_changed_in_place_is_refused() -> None:
    """A share behind an alias would change something else as well."""
    text = (
        "version: 1\nexperiment: {id: e, salt: s, no_contact_holdout: &x 0.05, random_eligible: 0.1, challenger: *x}\n"
        "exploration: {epsilon: 0.1, temperature: 2}\ndecision_ttl: 24h\n"
    )

    with pytest.raises(Refused, match=r"by hand$"):
        with_share(text, 0.2, file="policy.yaml")


def test_a_share_that_leaves_nothing_is_refused() -> None:
    """With what there is room for."""
    with pytest.raises(Refused, match=r"a share of 0\.95, expected at most 0\.85"):
        with_share(TEXT, 0.95, file="policy.yaml")
    assert "challenger: 0.85" in with_share(TEXT, 0.85, file="policy.yaml")


def test_a_file_that_is_no_policy_is_said() -> None:
    """With every problem, as at a start."""
    with pytest.raises(ConfigurationError, match=r"policy\.yaml:1: version"):
        with_share("version: 2\n", 0.1, file="policy.yaml")


def test_a_home_without_a_configuration_gets_the_built_in_one(tmp_path: Path) -> None:
    """With its comments, as when a policy is put over HTTP."""
    home = Home(tmp_path).create()

    after = write_share(home, {}, 0.1)

    assert after.policy.experiment.challenger == 0.1
    assert load_configuration(home, {}).versions == after.versions
    assert "# Changing the salt deals everybody again" in (home.config / "policy.yaml").read_text()


def test_a_folder_that_the_environment_names_is_written_where_it_is(tmp_path: Path) -> None:
    """Through links: the file that is edited is the one that people edit."""
    home, folder, kept = Home(tmp_path / "home").create(), tmp_path / "config", tmp_path / "kept"
    install_texts(
        Home(tmp_path / "other"), {f"{part}.yaml": text for part, text in built_in_configuration().texts.items()}
    )
    (tmp_path / "other" / "config").rename(folder)
    (folder / "policy.yaml").rename(kept)
    (folder / "policy.yaml").symlink_to(kept)

    write_share(home, {"HEADWAY_CONFIG": str(folder)}, 0.1)

    assert "\n  challenger: 0.1\n" in kept.read_text()
    assert (folder / "policy.yaml").is_symlink()
    assert list(home.config.iterdir()) == []


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as it is."""
    home = Home(tmp_path).create()
    write_share(home, {}, 0.1)
    before = (home.config / "policy.yaml").read_bytes()

    def fail(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("models.rollouts.replace_durably", fail)

    with pytest.raises(StoreUnavailable, match=r"policy\.yaml: Permission denied"):
        write_share(home, {}, 0.2)
    assert (home.config / "policy.yaml").read_bytes() == before


def test_a_home_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The built-in configuration would become its own."""
    (tmp_path / "home").write_text("a file")

    with pytest.raises(StoreUnavailable, match=r"config: .*; expected a writable folder"):
        write_share(Home(tmp_path / "home"), {}, 0.1)


def _step(version: int, before: float, after: float, step: Step = "done") -> Entry:
    return Entry(
        number=1,
        step=step,
        kind="share",
        name=NAME,
        at=1,
        by="ann",
        before=None,
        after=Placed(version=version, manifest_sha256="f"),
        share=Shares(before=before, after=after),
    )


def _promoted(version: int) -> Entry:
    after = Placed(version=version, manifest_sha256="f")
    return Entry(number=1, step="done", kind="promote", name=NAME, at=1, by="ann", before=None, after=after)


@pytest.mark.parametrize(
    ("entries", "share", "expected"),
    [
        ([], 0.1, None),
        ([_step(2, 0.0, 0.01)], 0.01, Rollout(version=2, share=0.01, began_from=0.0)),
        ([_step(2, 0.0, 0.01), _step(2, 0.01, 0.1)], 0.1, Rollout(version=2, share=0.1, began_from=0.0)),
        ([_step(2, 0.05, 0.5)], 0.5, Rollout(version=2, share=0.5, began_from=0.05)),
        ([_step(2, 0.0, 0.5), _step(2, 0.5, 0.0)], 0.0, None),
        ([_step(2, 0.0, 0.5), _promoted(2)], 0.5, None),
        ([_step(2, 0.0, 0.1), _step(3, 0.1, 0.1)], 0.1, Rollout(version=3, share=0.1, began_from=0.0)),
        ([_step(2, 0.3, 0.1)], 0.1, Rollout(version=2, share=0.1, began_from=0.1)),
        ([_step(2, 0.0, 0.1, step="abandoned")], 0.1, None),
    ],
    ids=["none", "first", "next", "standing", "ended", "promoted", "another", "lowered", "abandoned"],
)
def test_the_log_tells_which_rollout_is_under_way(entries: list[Entry], share: float, expected: Rollout | None) -> None:
    """And from where it began, which is where a promotion puts the share back to."""
    assert rollout_of(entries, NAME, share) == expected


def test_a_share_that_somebody_else_changed_is_nobodys_rollout() -> None:
    """It is not put back by a promotion."""
    assert rollout_of([_step(2, 0.0, 0.1)], NAME, 0.2) is None
    assert rollout_of([_step(2, 0.0, 0.1)], "nba-other", 0.1) is None


def test_steps_after_somebody_else_changed_the_share_begin_anew() -> None:
    """From the share that they left."""
    entries = [_step(2, 0.0, 0.1), _step(2, 0.2, 0.5)]

    assert rollout_of(entries, NAME, 0.5) == Rollout(version=2, share=0.5, began_from=0.2)


def test_a_new_version_waits_while_another_is_rolled_out(tmp_path: Path) -> None:
    """Nobody asked the gate whether it may decide for that share; before and after the rollout it is the challenger."""
    registry = LocalRegistry(tmp_path / "bundles")
    small_bundle(tmp_path / "made")
    for _ in range(3):
        registry.register(tmp_path / "made", NAME, {})
    found = [alias_of_new(registry, NAME, 0.0)]
    registry.set_alias(NAME, CHAMPION, 1, at=1)
    registry.set_alias(NAME, CHALLENGER, 2, at=1)
    found.append(alias_of_new(registry, NAME, 0.1))  # a share that somebody set by hand is for whoever challenges
    shares = iter((Shares(before=0.0, after=0.1), Shares(before=0.1, after=0.0)))
    for share in (0.1, 0.0):
        promoter = Promoter(registry)
        promoter.give_share(NAME, 2, next(shares), put=lambda _: None, at=1, by="ann")
        found.append(alias_of_new(registry, NAME, share))

    assert found == [CHAMPION, CHALLENGER, WAITING, CHALLENGER]
