"""Gradual rollouts: which version is being rolled out by the promotion log, and its share in the policy's file.

A share is one number of ``policy.yaml``. It is changed where it stands, so that comments and everything else stay, and
it decides when a service takes up the file. Arms are cut by stable hash in a fixed order, the challenger's from the
champion's side: while a share grows, whoever is in it stays in it, and holdout and random arm do not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from features.durable_files import replace_durably
from features.errors import ConfigurationError, Refused, StoreUnavailable
from features.home import Home
from features.yaml_files import read_yaml
from models.configuration import (
    BUILT_IN,
    CONFIG_VARIABLE,
    Configuration,
    configuration_in,
    install_texts,
    load_configuration,
)
from models.policy import Policy
from models.promotion_log import Entry, promotions_file, read_promotions
from models.registry import CHALLENGER, CHAMPION, LocalRegistry

POLICY: Final = "policy.yaml"
WAITING: Final = "waiting"
"""What a version is that was registered while another one is rolled out: it decides for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A version that decides for a share, put there by the steps of the promotion log.

    Attributes:
        share: of now.
        began_from: the share before its first step, which may be a standing one.
    """

    version: int
    share: float
    began_from: float


def rollout_of(entries: Sequence[Entry], name: str, share: float) -> Rollout | None:
    """The rollout under way; None where there is none, or where the share was since changed by somebody else.

    Args:
        entries: of the promotion log.
        name: of the registered model.
        share: by the policy in force.
    """
    found: Rollout | None = None
    for one in entries:
        if one.name != name or one.step != "done":
            continue
        if one.kind == "promote":
            found = None
        if one.share is None:
            continue
        is_next = found is not None and found.share == one.share.before
        began_from = found.began_from if found is not None and is_next else one.share.before
        is_over = one.share.after == 0
        found = (
            None
            if is_over
            else Rollout(version=one.after.version, share=one.share.after, began_from=min(began_from, one.share.after))
        )
    return found if found is not None and found.share == share else None


def alias_of_new(registry: LocalRegistry, name: str, share: float) -> str:
    """The alias that a version gets when it is registered.

    The first is the champion, a later one the challenger. While the challenger is being rolled out a later one is
    ``waiting``, which is no alias that serves: nobody has asked the gate whether it may decide for that share.

    Args:
        registry: the local one.
        name: of the registered model.
        share: of the challengers, by the policy in force.

    Raises:
        StoreUnavailable: the promotion log cannot be read.
    """
    if registry.alias(name, CHAMPION) is None:
        return CHAMPION
    rollout = rollout_of(read_promotions(promotions_file(registry.root)), name, share)
    is_rolled_out = rollout is not None and rollout.version == registry.alias(name, CHALLENGER)
    return WAITING if is_rolled_out else CHALLENGER


def check_room(policy: Policy, share: float) -> None:
    """Refuse a share that holdout and random arm do not leave.

    Raises:
        Refused: it is larger than what is left.
    """
    most = round(1.0 - policy.experiment.no_contact_holdout - policy.experiment.random_eligible, 9)
    if not 0 <= share <= most:
        raise Refused(
            f"a share of {share:g}, expected at most {most:g}: holdout and random arm have the rest of everybody"
        )


def write_share(home: Home, env: Mapping[str, str], share: float) -> Configuration:
    """Put a challenger's share into the policy's file that is in force, and give the configuration that holds then.

    Where the built-in configuration is in force, the home gets the four files as its own, as when a policy is put.

    Raises:
        ConfigurationError: the configuration is not valid, or would not be with that share.
        Refused: the share's place cannot be found, or the file changed meanwhile.
        StoreUnavailable: it cannot be written.
    """
    before = load_configuration(home, env)
    if before.origin == BUILT_IN:
        texts = {f"{part}.yaml": text for part, text in before.texts.items()}
        texts[POLICY] = with_share(texts[POLICY], share, file=f"{BUILT_IN}/{POLICY}")
        after = configuration_in(texts, origin=str(home.config))
        try:
            install_texts(home, texts)
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write {home.config}: {error.strerror}; expected a writable folder"
            ) from error
        return after
    file = (Path(env.get(CONFIG_VARIABLE) or home.config).absolute() / POLICY).resolve()  # links are written through
    try:
        data = file.read_bytes()
        wanted = with_share(data.decode(), share, file=str(file))
        texts = {f"{part}.yaml": text for part, text in before.texts.items()} | {POLICY: wanted}
        after = configuration_in(texts, origin=before.origin)
        if file.read_bytes() != data:
            raise Refused(f"{file} was changed by somebody else meanwhile, expected it to lie still: try again")
        if wanted.encode() != data:
            replace_durably(file, wanted.encode())
    except OSError as error:
        raise StoreUnavailable(f"cannot write {file}: {error.strerror}; expected a writable file") from error
    except UnicodeDecodeError as error:
        raise StoreUnavailable(f"cannot read {file}: {error}; expected UTF-8 text") from error
    return after


def with_share(text: str, share: float, *, file: str) -> str:
    """The text of a policy with another ``experiment.challenger``, every other character as it was.

    Raises:
        ConfigurationError: the text is no valid policy.
        Refused: there is no room for it, or it stands where a plain edit does not reach, such as behind an alias.

    >>> print(with_share(_EXAMPLE, 0.1, file="policy.yaml").splitlines()[2])
      random_eligible: 0.1  # learns
    >>> print(with_share(_EXAMPLE, 0.1, file="policy.yaml").splitlines()[3])
      challenger: 0.1
    """
    loaded = read_yaml(Policy, text, file=file)
    if loaded.value is None:
        raise ConfigurationError(f"{file} is not valid:", loaded.problems)
    before = loaded.value
    if before.experiment.challenger == share:
        return text
    check_room(before, share)
    experiment = before.experiment.model_copy(update={"challenger": share})
    edited = _edited(text, repr(float(share)))
    if read_yaml(Policy, edited, file=file).value != before.model_copy(update={"experiment": experiment}):
        raise Refused(
            f"{file} holds its experiment in a form that cannot be changed in place, expected plain keys: set "
            f"experiment.challenger to {share!r} by hand"
        )
    return edited


_EXAMPLE: Final = """\
version: 1
experiment: # who learns
  random_eligible: 0.1  # learns
  id: e
  salt: s
  no_contact_holdout: 0.05
exploration: {epsilon: 0.05, temperature: 2.0}
decision_ttl: 24h
"""


def _edited(text: str, share: str) -> str:
    """The text with the share in its place; whether that came out right is for the caller to see."""
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)  # the one whose marks count characters
    experiment = next(value for key, value in root.value if key.value == "experiment")
    keys = {key.value: (key, value) for key, value in experiment.value}
    if "challenger" in keys:
        value = keys["challenger"][1]
        return text[: value.start_mark.index] + share + text[value.end_mark.index :]
    key, value = keys["random_eligible"]  # it is always there, and on one line
    end = value.end_mark.index
    if experiment.flow_style:
        return f"{text[:end]}, challenger: {share}{text[end:]}"
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end
    is_windows = text[line_end - 1 : line_end] == "\r"
    at, newline = (line_end - 1, "\r\n") if is_windows else (line_end, "\n")
    return f"{text[:at]}{newline}{' ' * key.start_mark.column}challenger: {share}{text[at:]}"
