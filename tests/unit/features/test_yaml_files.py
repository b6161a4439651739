"""YAML into models: the dialect, and problems named by file, line, path, value and expectation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from features.config_model import ConfigModel, Name
from features.durations import Duration
from features.errors import ConfigurationError, Problem
from features.yaml_files import content_version, load_yaml, parse_yaml, read_yaml


class _Step(ConfigModel):
    id: Name
    wait: Duration
    channel: Literal["sms", "email"] = "sms"
    limit: str | float | None = None


class _Plan(ConfigModel):
    version: Literal[1]
    share: float = Field(default=0.5, ge=0, le=1)
    steps: tuple[_Step, ...] = Field(min_length=1)
    named: dict[Name, _Step] = Field(default_factory=dict)


_GOOD = """
version: 1
steps:
  - id: first
    wait: 2d
"""


def _problems(text: str) -> tuple[Problem, ...]:
    return read_yaml(_Plan, text, file="plan.yaml").problems


def test_a_good_file_becomes_a_model() -> None:
    """A valid text gives the typed object and no problems."""
    loaded = read_yaml(_Plan, _GOOD, file="plan.yaml")

    assert loaded.problems == ()
    assert loaded.value == _Plan(version=1, steps=(_Step.model_validate({"id": "first", "wait": "2d"}),))


def test_an_unknown_key_lists_the_allowed_ones() -> None:
    """An unknown key is refused with its line, the allowed keys and a guess."""
    assert _problems(_GOOD + "    chanel: sms\n") == (
        Problem(
            path="steps[0].chanel",
            value="chanel",
            expected="no such key, but one of channel, id, limit, wait; did you mean channel?",
            file="plan.yaml",
            line=6,
        ),
    )


def test_an_unknown_key_inside_a_named_mapping_lists_the_allowed_ones() -> None:
    """Allowed keys are also found below keys that the file chooses."""
    text = _GOOD + "named:\n  other:\n    id: x\n    wait: 1d\n    oops: 1\n"

    assert [str(problem) for problem in _problems(text)] == [
        "plan.yaml:10: named.other.oops: got oops, expected no such key, but one of channel, id, limit, wait"
    ]


def test_all_problems_come_at_once() -> None:
    """Missing keys, bad units, bounds and unknown values are all listed, each at its line."""
    text = "version: 2\nshare: 1.5\nsteps:\n  - id: First\n    wait: 3 fortnights\n    channel: fax\n  - wait: 1d\n"

    assert [str(problem) for problem in _problems(text)] == [
        "plan.yaml:1: version: got 2, expected 1",
        "plan.yaml:2: share: got 1.5, expected less than or equal to 1",
        "plan.yaml:4: steps[0].id: got \"First\", expected string should match pattern '^[a-z][a-z0-9_]{0,63}$'",
        'plan.yaml:5: steps[0].wait: got "3 fortnights", expected a duration: a whole number and one of the units '
        'w, d, h, m, s, as in "2d", "6h", "90m", "30s"',
        'plan.yaml:6: steps[0].channel: got "fax", expected one of email, sms',
        "plan.yaml:7: steps[1].id: expected this key, which is required",
    ]


def test_branches_of_a_union_are_one_problem() -> None:
    """A value that fits no branch is named once, with what every branch expected."""
    assert [str(problem) for problem in _problems(_GOOD + "    limit: [1]\n")] == [
        "plan.yaml:6: steps[0].limit: got [1], expected a valid string or a valid number"
    ]


def test_a_key_given_twice_is_refused() -> None:
    """YAML's silent "last one wins" is an error here, naming both lines."""
    assert [str(problem) for problem in _problems(_GOOD + "version: 1\n")] == [
        "plan.yaml:6: version: got version, expected each key once; it stands in line 2 already"
    ]


def test_malformed_yaml_names_the_line() -> None:
    """A syntax error says where and what."""
    (problem,) = _problems("version: 1\nsteps: [\n")

    assert problem.line == 3
    assert problem.expected == "well-formed YAML"


def test_an_empty_file_is_refused() -> None:
    """Nothing is not a configuration."""
    assert [str(problem) for problem in _problems("# nothing\n")] == [
        "plan.yaml: .: expected a mapping; the file is empty"
    ]


def test_a_tag_is_refused() -> None:
    """Tags, and so Python objects, are never constructed."""
    (problem,) = _problems("version: !!python/object/apply:os.system ['true']\n")

    assert (problem.path, problem.line) == ("version", 1)
    assert problem.value == "tag:yaml.org,2002:python/object/apply:os.system"


def test_aliases_repeat_what_they_name() -> None:
    """An alias stands for its anchor's value."""
    text = "version: 1\nsteps:\n  - &first {id: first, wait: 1d}\n  - *first\n"

    loaded = read_yaml(_Plan, text, file="plan.yaml")

    assert loaded.value is not None
    assert loaded.value.steps[0] == loaded.value.steps[1]


def test_aliases_cannot_grow_without_end() -> None:
    """A few lines of nested aliases are refused instead of filling the memory."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9)]

    with pytest.raises(ConfigurationError, match="at most 200000 values"):
        parse_yaml("\n".join(lines), file="bomb.yaml")


def test_an_alias_to_itself_is_refused() -> None:
    """A structure without end is refused by its depth."""
    with pytest.raises(ConfigurationError, match="40 deep"):
        parse_yaml("a: &a [*a]", file="loop.yaml")


def test_endless_nesting_is_refused() -> None:
    """A text nested a million deep is refused instead of overflowing the parser."""
    with pytest.raises(ConfigurationError, match=r"x:1: \.: got too deep"):
        parse_yaml("[" * 1_000_000, file="x")


@pytest.mark.parametrize("number", ["9" * 5_000, "1e999"])
def test_a_number_beyond_all_bounds_is_refused(number: str) -> None:
    """Neither infinity nor thousands of digits are read as numbers."""
    with pytest.raises(ConfigurationError, match="expected a finite number of at most 100 characters"):
        parse_yaml(f"a: {number}", file="x")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("22:00", "22:00"),
        ("2024-01-01", "2024-01-01"),
        ("010", "010"),
        ("10", 10),
        ("-1.5", -1.5),
        ("1e3", 1000.0),
        ("~", None),
        ("", None),
        ("<<", "<<"),
        (".nan", ".nan"),
    ],
)
def test_plain_words_follow_the_core_schema(word: str, value: object) -> None:
    """Times, dates, country codes and numbers with leading zeros stay text; only true and false are booleans."""
    assert parse_yaml(f"key: {word}", file="x.yaml").data == {"key": value}


def test_keys_are_text() -> None:
    """Numbers and booleans as keys are the words that were written, as the columns of a file are."""
    assert parse_yaml("{1: a, true: b}", file="x.yaml").data == {"1": "a", "true": "b"}


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """A file that cannot be read says which."""
    with pytest.raises(ConfigurationError, match=r"plan\.yaml cannot be read"):
        load_yaml(_Plan, tmp_path / "plan.yaml")


def test_a_bad_file_raises_all_its_problems(tmp_path: Path) -> None:
    """Loading a path raises what reading a text lists."""
    path = tmp_path / "plan.yaml"
    path.write_text("version: 1\n")

    with pytest.raises(ConfigurationError, match=r"plan\.yaml:1: steps: expected this key"):
        load_yaml(_Plan, path)


def test_the_version_ignores_formatting() -> None:
    """Order of keys, comments and quoting do not change the version."""
    other = '# the same\n"steps": [{wait: 48h, id: first}]\nversion: 1\n'

    versions = {content_version(load) for text in (_GOOD, other) if (load := read_yaml(_Plan, text, file="x").value)}

    assert versions == {"d28865ca9012"}


def test_the_version_survives_a_key_that_is_new() -> None:
    """A key that a release adds changes no version until somebody sets it."""

    class _Later(ConfigModel):
        version: int
        share: float = 0.5

    class _Plan(ConfigModel):
        version: int

    later = type("_Plan", (_Later,), {})
    assert content_version(later(version=1)) == content_version(_Plan(version=1))
    assert content_version(later(version=1, share=0.6)) != content_version(_Plan(version=1))


def test_the_version_follows_the_content() -> None:
    """Another value is another version."""
    models = [read_yaml(_Plan, _GOOD + extra, file="x").value for extra in ("", "share: 0.6\n")]

    assert len({content_version(model) for model in models if model}) == 2
