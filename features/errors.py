"""The one tree of errors. A message says what is wrong (with the value), what was expected, and what to do.

HeadwayError
├── Refused                 the caller's input or set-up cannot be accepted (exit code 2, HTTP 4xx)
│   ├── ConfigurationError  configuration files with problems: all of them at once
│   ├── InvalidInput        one or more bad fields of one input document
│   ├── MappingError        an import mapping that cannot be applied to the given file
│   ├── Conflict            the same identifier was used before for something else
│   ├── InFlight            the same request is being answered right now
│   ├── UnknownObject       an identifier that names nothing here
│   ├── CannotReplay        something that a decision was made with is not here
│   └── HomeLocked          another process writes this file
├── StoreError              a store failed (exit code 1, HTTP 503)
│   ├── StoreUnavailable    it does not answer, or has been closed
│   └── StoreCorrupted      what it holds cannot be what was written
└── ModelError
    ├── BundleError         a bundle that is damaged, incomplete or made for other features
    └── NotEnoughData       a model cannot be fitted or judged on what there is
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EMPTY_STEP: Final = "\\e"
"""How an empty name stands in a dotted path."""


class HeadwayError(Exception):
    """Any error that Headway raises on purpose."""

    exit_code = 1


class Refused(HeadwayError):
    """The caller's input or set-up cannot be accepted."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one place of an input or a configuration file.

    Attributes:
        path: where it stands, as a dotted path with list indices, e.g. ``events[3].occurred_at``; names that
            nobody here chose go in by ``path_step``.
        value: the offending value as text, shortened; empty where something is missing.
        expected: what would have been accepted, with the allowed values where they are few.
        file: the file it stands in, if any.
        line: the line in that file, counted from 1, if known.
    """

    path: str
    value: str
    expected: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        got = f"got {self.value}, " if self.value else ""
        return f"{where}{self.path}: {got}expected {self.expected}"


def path_step(name: str) -> str:
    r"""A name as one step of a dotted path, whatever characters it has.

    >>> path_step("amount")
    'amount'
    >>> print(path_step("a.b"))
    a\.b
    """
    return re.sub(r"[\\.\[]", r"\\\g<0>", name) if name else EMPTY_STEP


class ProblemsError(Refused):
    """A refusal that lists every problem found, not only the first."""

    def __init__(self, headline: str, problems: Sequence[Problem]) -> None:
        self.headline = headline
        self.problems = tuple(problems)
        super().__init__("\n".join([headline, *(f"  {problem}" for problem in self.problems)]))


class ConfigurationError(ProblemsError):
    """Configuration files with problems."""


class InvalidInput(ProblemsError):
    """An input document with bad fields."""


class MappingError(ProblemsError):
    """An import mapping that cannot be applied to the given file."""


class Conflict(Refused):
    """The same identifier was used before for something else."""


class InFlight(Refused):
    """The same request is being answered right now; asking again later gives its answer."""


class UnknownObject(Refused):
    """An identifier that names nothing here."""


class CannotReplay(Refused):
    """Something that a decision was made with is not here, so that it cannot be made again.

    Attributes:
        reason: what, as a code.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class HomeLocked(Refused):
    """Another process writes this file."""


class StoreError(HeadwayError):
    """A store failed."""


class StoreUnavailable(StoreError):
    """A store does not answer, or has been closed."""


class StoreCorrupted(StoreError):
    """What a store holds cannot be what was written."""


class ModelError(HeadwayError):
    """A model, or the data behind it, cannot be used."""


class BundleError(ModelError):
    """A bundle that is damaged, incomplete or made for other features."""


class NotEnoughData(ModelError):
    """A model cannot be fitted or judged on what there is."""
