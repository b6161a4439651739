"""Which kinds of events a caller may send: what a customer did always, everything else by a right of its own.

A link between two ids moves events, contacts and consents from one person to another; a consent decides whom may be
contacted; what the company did feeds what models learn. None of that may come from whoever can read a web page.
"""

from __future__ import annotations

from typing import Final

from features.taxonomy import IDENTITY_KINDS, Kind, Taxonomy
from features.taxonomy import Role as KindRole
from serving.auth import RIGHTS, Right

_BY_ROLE: Final[dict[KindRole, Right]] = {
    "consent": "consent",
    "profile": "profile",
    "contact": "company",
    "operation": "company",
    "outcome": "company",
    "override": "company",
}


def right_of(name: str, kind: Kind) -> Right | None:
    """The right that an event of a kind takes; None for what a customer did."""
    return "link" if name in IDENTITY_KINDS else _BY_ROLE.get(kind.role)


def forbidden_kinds(rights: frozenset[Right], taxonomy: Taxonomy) -> frozenset[str]:
    """The kinds that nobody with only these rights may send."""
    if len(rights) == len(RIGHTS):
        return frozenset()
    needed = {name: right_of(name, kind) for name, kind in taxonomy.known_kinds.items()}
    return frozenset(name for name, right in needed.items() if right is not None and right not in rights)
