"""Kept configurations: found by the versions that records name, never changed, and missed by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import ConfigurationError, UnknownObject
from features.home import Home
from models.configuration import Configuration, built_in_configuration
from models.configuration_history import ConfigurationHistory, keep_configuration, keep_part


@pytest.fixture(scope="module")
def configuration() -> Configuration:
    """The built-in one."""
    return built_in_configuration()


def test_what_is_kept_is_found(tmp_path: Path, configuration: Configuration) -> None:
    """As the very same content, under the same versions; found twice it is one object."""
    home = Home(tmp_path)
    keep_configuration(home, configuration)
    history = ConfigurationHistory(home)

    found = history.configuration_of({**configuration.versions, "service": "1", "bundle": "b"})

    assert (found.taxonomy, found.journeys) == (configuration.taxonomy, configuration.journeys)
    assert (found.catalogue, found.policy) == (configuration.catalogue, configuration.policy)
    assert (found.versions, found.texts) == (configuration.versions, configuration.texts)
    assert history.configuration_of(configuration.versions) is found
    assert {path.stem for path in home.configurations.rglob("*.yaml")} == set(configuration.versions.values())


def test_what_is_kept_is_never_changed(tmp_path: Path, configuration: Configuration) -> None:
    """Also where the same content comes with other comments."""
    home = Home(tmp_path)
    keep_configuration(home, configuration)
    version = configuration.versions["policy"]

    keep_part(home, "policy", version, "# another comment\n" + configuration.texts["policy"])

    assert ConfigurationHistory(home).text("policy", version) == configuration.texts["policy"]


def test_a_file_is_found_by_its_name(tmp_path: Path, configuration: Configuration) -> None:
    """A later release may hash its content to something else: records go on naming what they named."""
    home = Home(tmp_path)
    keep_configuration(home, configuration)
    keep_part(home, "policy", "as-it-was-hashed", configuration.texts["policy"])
    versions = {**configuration.versions, "policy": "as-it-was-hashed"}

    found = ConfigurationHistory(home).configuration_of(versions)

    assert found.versions == versions
    assert found.policy == configuration.policy


@pytest.mark.parametrize("version", ["ffffffffffff", "", "../policy", "a/b", "."])
def test_what_is_missing_is_named(tmp_path: Path, configuration: Configuration, version: str) -> None:
    """Which version of which file, and where to put it."""
    keep_configuration(Home(tmp_path), configuration)

    with pytest.raises(UnknownObject, match=r"actions.yaml of version .* is not kept in .*: put the file there"):
        ConfigurationHistory(Home(tmp_path)).configuration_of({**configuration.versions, "actions": version})


def test_what_is_in_force_need_not_be_kept_yet(tmp_path: Path, configuration: Configuration) -> None:
    """A home of an earlier release that is only read."""
    history = ConfigurationHistory(Home(tmp_path), configuration)

    assert history.configuration_of(configuration.versions).policy == configuration.policy
    assert not Home(tmp_path).configurations.exists()


def test_a_kept_file_that_this_release_cannot_read_says_so(tmp_path: Path, configuration: Configuration) -> None:
    """With the file and the problem."""
    home = Home(tmp_path)
    keep_configuration(home, configuration)
    keep_part(home, "policy", "old", "version: 0\n")

    with pytest.raises(ConfigurationError, match=r"old.yaml was valid when it was kept(.|\n)*version: got 0"):
        ConfigurationHistory(home).configuration_of({**configuration.versions, "policy": "old"})
