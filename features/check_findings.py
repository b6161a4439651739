"""What a check of an installation found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed", "not_applicable"]
"""Warning: it works, and somebody should look. Failed: something does not work, or is about to be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        name: the check, with what was checked where there are several, such as ``events pages``.
        found: one sentence at most, without secrets.
        expected: what would have been well; empty where it is, or where nothing was to be checked.
        remedy: what to do; empty where there is nothing to do.
    """

    name: str
    status: Status
    found: str
    expected: str = ""
    remedy: str = ""


def passed(name: str, found: str) -> Finding:
    """A finding with which all is well."""
    return Finding(name=name, status="ok", found=found)


def not_applicable(name: str, why: str) -> Finding:
    """A finding where there is nothing to check."""
    return Finding(name=name, status="not_applicable", found=why)


def warned(name: str, found: str, *, expected: str, remedy: str) -> Finding:
    """A finding that somebody should look at."""
    return Finding(name=name, status="warning", found=found, expected=expected, remedy=remedy)


def failed(name: str, found: str, *, expected: str, remedy: str) -> Finding:
    """A finding of something that does not work, or is about to be lost."""
    return Finding(name=name, status="failed", found=found, expected=expected, remedy=remedy)
