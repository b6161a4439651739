"""Settings: read together, refused together, and never telling the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import ConfigurationError
from features.home import lock_file, share_file
from features.online_location import RedisLocation
from serving.settings import VARIABLES, Settings, online_lock, reference

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set."""
    settings = Settings.from_environment({"PATH": "/bin"})

    assert settings == Settings()


def test_values_are_read() -> None:
    """Every variable reaches its attribute."""
    settings = Settings.from_environment(
        {"HEADWAY_HOME": "/srv/h", "HEADWAY_PORT": "3100", "HEADWAY_DURABILITY": "normal", "HEADWAY_DEADLINE_MS": "80"}
    )

    assert (settings.home, settings.port) == (Path("/srv/h"), 3100)
    assert (settings.durability, settings.deadline_ms) == ("normal", 80)


def test_the_url_of_a_redis_is_not_told() -> None:
    """It may carry a password: neither a refusal nor the settings' own text shows it."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"HEADWAY_ONLINE_STORE": "redis://app:s3cret@host/x"})
    settings = Settings.from_environment({"HEADWAY_ONLINE_STORE": "redis://app:s3cret@host/2"})

    assert "HEADWAY_ONLINE_STORE: got (hidden), expected sqlite, or redis://" in str(caught.value)
    assert "s3cret" not in str(caught.value) + repr(settings)
    assert settings.online_store == RedisLocation("redis://app:s3cret@host/2")


def test_an_empty_variable_counts_as_not_set() -> None:
    """Compose files set variables to nothing."""
    assert Settings.from_environment({"HEADWAY_PORT": ""}).port == 3000


def test_an_unknown_name_is_refused_with_the_near_one() -> None:
    """A misspelt setting is not silently ignored, and its value, which may be a key, is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"HEADWAY_BOOTSTRAP_KEI": "hw_secret_secret_secret"})

    message = str(caught.value)
    assert "HEADWAY_BOOTSTRAP_KEI: expected a known variable; did you mean HEADWAY_BOOTSTRAP_KEY?" in message
    assert "hw_secret" not in message


def test_all_problems_are_told_at_once() -> None:
    """One start shows everything that is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"HEADWAY_PORT": "70000", "HEADWAY_DURABILITY": "fast", "HEADWAY_WORKERS": "65"})

    assert [problem.path for problem in caught.value.problems] == [
        "HEADWAY_PORT",
        "HEADWAY_WORKERS",
        "HEADWAY_DURABILITY",
    ]


def test_a_host_name_is_refused() -> None:
    """BentoML listens on addresses only, and would say so later and worse."""
    with pytest.raises(ConfigurationError, match="HEADWAY_HOST: got 'localhost', expected an IP address"):
        Settings.from_environment({"HEADWAY_HOST": "localhost"})


def test_a_short_bootstrap_key_is_refused_without_showing_it() -> None:
    """A guessable key is no key."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"HEADWAY_BOOTSTRAP_KEY": "short"})

    assert "HEADWAY_BOOTSTRAP_KEY: got (hidden), expected at least 16" in str(caught.value)
    assert "short" not in str(caught.value)


def test_the_key_is_masked() -> None:
    """Settings can be logged."""
    settings = Settings.from_environment({"HEADWAY_BOOTSTRAP_KEY": "hw_0123456789abcdef"})

    assert "0123456789abcdef" not in repr(settings)


def test_variables_of_the_tests_are_left_alone() -> None:
    """The test tools' own variables do not stop a start."""
    assert Settings.from_environment({"HEADWAY_TEST_REQUIRE": "1"}) == Settings()


def test_documented_defaults_are_the_real_ones() -> None:
    """The reference says what holds."""
    documented = {one.attribute: one.parse(one.default) for one in VARIABLES if one.attribute and one.default}

    assert documented == {name: getattr(Settings(), name) for name in documented}


def test_the_reference_is_current() -> None:
    """docs/reference/settings.md is what the code says."""
    assert REFERENCE.read_text(encoding="utf-8") == reference()


_SERVERS = {"HEADWAY_DATABASE": "postgresql://host/headway", "HEADWAY_ONLINE_STORE": "redis://host/1"}


def test_several_workers_need_a_database_and_a_redis() -> None:
    """With both there may be up to 64, and the online store is locked together; else both are named with the reason."""
    settings = Settings.from_environment({"HEADWAY_WORKERS": "64", **_SERVERS})
    with pytest.raises(ConfigurationError) as alone:
        Settings.from_environment({"HEADWAY_WORKERS": "2"})

    assert (settings.workers, online_lock(settings), online_lock(Settings())) == (64, share_file, lock_file)
    assert [problem.path for problem in alone.value.problems] == ["HEADWAY_DATABASE", "HEADWAY_ONLINE_STORE"]
    assert "HEADWAY_WORKERS is 2, and the home's files of events and records have one writing process" in str(
        alone.value
    )


@pytest.mark.parametrize("missing", sorted(_SERVERS))
def test_one_of_the_two_is_not_enough(missing: str) -> None:
    """Only what is missing is named."""
    env = {name: value for name, value in _SERVERS.items() if name != missing}
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({"HEADWAY_WORKERS": "3", **env})

    assert [problem.path for problem in caught.value.problems] == [missing]


def test_several_workers_do_not_write_through_feast() -> None:
    """What Feast writes asks nobody what is there."""
    with pytest.raises(
        ConfigurationError, match="HEADWAY_FEATURE_READER: got feast, expected online: HEADWAY_WORKERS is"
    ):
        Settings.from_environment({"HEADWAY_WORKERS": "2", "HEADWAY_FEATURE_READER": "feast", **_SERVERS})


def test_one_worker_needs_neither() -> None:
    """Nor more than 64 are taken."""
    assert Settings.from_environment({"HEADWAY_WORKERS": "1"}).workers == 1
    with pytest.raises(ConfigurationError, match="HEADWAY_WORKERS: got '65', expected a number from 1 to 64"):
        Settings.from_environment({"HEADWAY_WORKERS": "65", **_SERVERS})
