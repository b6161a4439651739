"""Who may call what: the one table that guards every route, and that the description of the API and the docs show.

A route without a row cannot be called by anybody. Roles say which calls; which objects a call then gives is said in
``objects`` and kept where the object is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from features.events import shown
from serving.auth import ROLES, Principal, Role
from serving.problems import Forbidden

Objects = Literal["own", "own alone", "masked", ""]
"""What of the objects of a call is given: of decisions, events and jobs, those of the caller's source, and of every
source to ``READS_ALL``, or to ``admin`` alone; of people, what the roles may see of them."""

READS_ALL: Final[frozenset[Role]] = frozenset(("admin", "analyst", "privacy"))
"""Roles that may read the decisions and jobs of every source; others read their own source's."""

SEES_PERSONAL: Final[frozenset[Role]] = frozenset(("admin", "privacy"))
"""Roles that see personal facts and attributes."""

SEES_IDS: Final[frozenset[Role]] = frozenset(("admin", "privacy", "caller"))
"""Roles that see under which other ids a person is known: systems know them, and told us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may use one call.

    Attributes:
        path: its template, without types of parameters.
        roles: one of them is needed; ``admin`` may do everything.
        is_open: anybody may, without a key.
        is_public: publishable keys may too, from pages of their origins.
        takes_basic: the key may come as the user of Basic.
        objects: what of its objects is given.
        is_counted: machines call it all day: the audit log counts its calls instead of listing them.
    """

    method: str
    path: str
    roles: frozenset[Role]
    is_open: bool = False
    is_public: bool = False
    takes_basic: bool = False
    objects: Objects = ""
    is_counted: bool = False

    def require(self, principal: Principal) -> None:
        """Pass where a principal may use the call.

        Raises:
            Forbidden: it may not.
        """
        if principal.is_public:
            if not self.is_public:
                raise Forbidden(
                    f"key {principal.key_id} is publishable: it sends events and calls of tracking SDKs, and nothing "
                    f"else; expected a secret key with one of the roles {', '.join(self.expected)}"
                )
            return
        if "admin" not in principal.roles and self.roles.isdisjoint(principal.roles):
            held = f"the roles {', '.join(sorted(principal.roles))}" if principal.roles else "no role"
            raise Forbidden(
                f"key {principal.key_id} has {held}; expected one of {', '.join(self.expected)}: use a key with one of "
                "them"
            )

    @property
    def expected(self) -> list[str]:
        """The roles that pass, by name."""
        return sorted({*self.roles, "admin"})

    @property
    def said(self) -> str:
        """Who may, in a sentence for the description of the API; empty where anybody may."""
        if self.is_open:
            return ""
        names = [role for role in ROLES if role in self.roles]
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "admin"
        public = " Publishable keys may too." if self.is_public else ""
        return f"For the role{'s' if len(names) > 1 else ''} {listed}.{public}"


def _rule(call: str, roles: str = "", **more: object) -> Rule:
    method, path = call.split()
    held = frozenset(cast("list[Role]", roles.split())) - {"admin"}
    return Rule(method=method, path=path, roles=held, **more)  # type: ignore[arg-type]  # the names of its own fields


_SENDERS: Final = "caller agent marketer"
_READERS: Final = "caller agent marketer analyst privacy"
_ASKERS: Final = "caller marketer analyst"
_TRACKED: Final = ("batch", "track", "identify", "page", "screen", "group", "alias")

RULES: Final = (
    _rule("POST /v1/events", _SENDERS, is_public=True, is_counted=True),
    _rule("POST /v1/decisions", _SENDERS, is_counted=True),
    _rule("POST /rank", _SENDERS, is_counted=True),
    *(_rule(f"POST /ofrep/v1/evaluate/flags{one}", _SENDERS, is_counted=True) for one in ("", "/{key}")),
    _rule("POST /v1/outcomes", _SENDERS, is_counted=True),
    *(_rule(f"POST /v1/{one}", _SENDERS, is_public=True, takes_basic=True, is_counted=True) for one in _TRACKED),
    _rule("GET /v1/events/recent", _READERS, objects="own"),
    _rule("GET /v1/decisions", _READERS, objects="own"),
    _rule("GET /v1/decisions/{decision_id}", _READERS, objects="own"),
    _rule("GET /v1/decisions/{decision_id}/explanation", _READERS, objects="own"),
    _rule("POST /v1/decisions/{decision_id}/replay", _READERS, objects="own"),
    _rule("POST /v1/decisions/{decision_id}/activate", _SENDERS, objects="own"),
    _rule("GET /v1/customers/{customer_id}/journey", "agent marketer analyst privacy", objects="masked"),
    _rule("GET /v1/customers/{customer_id}/context", _SENDERS, objects="masked"),
    _rule("POST /v1/identities/link", "caller agent", objects="masked"),
    _rule("POST /v1/identities/unlink", "caller agent", objects="masked"),
    _rule("GET /v1/lookup", "caller agent", objects="masked"),
    _rule("GET /v1/journeys/{journey_id}/report", "analyst"),
    _rule("GET /v1/actions", "agent marketer analyst"),
    _rule("PUT /v1/actions", "marketer"),
    _rule("GET /v1/policies", "agent marketer analyst"),
    _rule("PUT /v1/policies", "marketer"),
    _rule("POST /v1/policies/validate", "marketer analyst"),
    _rule("PUT /v1/workforce", "caller"),
    _rule("GET /v1/workforce", "caller agent marketer analyst"),
    _rule("GET /v1/models", "analyst"),
    _rule("POST /v1/models/{name}/promote"),
    _rule("POST /v1/models/{name}/rollback"),
    _rule("GET /v1/experiments/{experiment_id}/report", "marketer analyst"),
    _rule("GET /v1/ope/reports", "analyst"),
    _rule("GET /v1/ope/reports/{report_id}", "analyst"),
    _rule("POST /v1/simulations", "marketer analyst"),
    _rule("GET /v1/monitoring/drift", "analyst"),
    _rule("POST /v1/audiences", "marketer"),
    _rule("POST /v1/audiences/estimate", "marketer analyst"),
    _rule("POST /v1/audiences/screen", "marketer"),
    _rule("GET /v1/jobs", _ASKERS, objects="own"),
    _rule("GET /v1/jobs/{job_id}", _ASKERS, objects="own", is_counted=True),
    _rule("POST /v1/jobs/{job_id}/cancel", _ASKERS, objects="own alone"),
    _rule("GET /v1/jobs/{job_id}/result", _ASKERS, objects="own alone"),
    _rule("GET /metrics", " ".join(ROLES), is_counted=True),
    *(_rule(f"GET {path}", is_open=True) for path in ("/livez", "/readyz", "/openapi.json", "/", "/docs")),
    *(_rule(f"GET /docs/{path}", is_open=True) for path in ("assets/{name}", "problems/{slug}")),
)
"""Every route; a row without roles is for ``admin`` alone."""

_BY_CALL: Final = {(rule.method, rule.path): rule for rule in RULES}
_BY_SHAPE: Final = [
    (rule.method, re.compile(re.sub(r"\{\w+\}", "[^/]+", rule.path)), rule) for rule in RULES if "{" in rule.path
]
PUBLIC_PATHS: Final = frozenset(rule.path for rule in RULES if rule.is_public)


def rule_of(method: str, path: str) -> Rule:
    """The row of a route.

    Args:
        method: in capital letters.
        path: its template; types of its parameters may stand in it.

    Raises:
        Forbidden: the table has none, and so nobody may call it.
    """
    rule = _BY_CALL.get((method, path.replace(":str}", "}").replace(":path}", "}")))
    if rule is None:
        raise Forbidden(f"nobody may call {method} {shown(path)}; expected a row for it in the table of who may call")
    return rule


def rule_at(method: str, path: str) -> Rule | None:
    """The row of the route that a path leads to; None where none does.

    >>> rule_at("GET", "/v1/decisions/d-7").path
    '/v1/decisions/{decision_id}'
    """
    exact = _BY_CALL.get((method, path))
    if exact is not None:
        return exact
    return next((rule for one, shape, rule in _BY_SHAPE if one == method and shape.fullmatch(path)), None)


def may_read(principal: Principal, source: str) -> bool:
    """Whether a principal may read the decisions, and see the jobs, that a source asked for."""
    return source == principal.source or not READS_ALL.isdisjoint(principal.roles)


def readable_source(principal: Principal, source: str | None, *, reads: str) -> str | None:
    """The source whose objects a principal is given of those it asks for; None for all.

    Args:
        principal: who asks.
        source: that is asked for; None for whatever may be read.
        reads: what is said of it in words, such as ``reads decisions``.

    Raises:
        Forbidden: another source is asked for.
    """
    if not principal.roles.isdisjoint(READS_ALL):
        return source
    if source not in (None, principal.source):
        raise Forbidden(
            f"key {principal.key_id} {reads} of the source {principal.source}, not {shown(source)}; expected no "
            f"source, or a key with one of the roles {', '.join(sorted(READS_ALL))}"
        )
    return principal.source


def access_table(rules: Iterable[Rule] = RULES) -> str:
    """The table as Markdown, calls with the same answers in one row; open ones are left out."""
    lines = [f"| call | {' | '.join(role for role in ROLES if role != 'admin')} | publishable key |", "|---" * 7 + "|"]
    grouped: dict[tuple[object, ...], list[Rule]] = {}
    for rule in rules:
        if not rule.is_open:
            grouped.setdefault((rule.roles, rule.is_public, rule.objects), []).append(rule)
    for group in grouped.values():
        first = group[0]
        calls = ", ".join(f"`{rule.method} {rule.path}`" for rule in group)
        yes = {"own": "own", "own alone": "own", "masked": "yes", "": "yes"}[first.objects]
        cells = [_cell(role, first, yes) for role in ROLES if role != "admin"]
        lines.append(f"| {calls} | {' | '.join(cells)} | {'yes' if first.is_public else ''} |")
    return "\n".join(lines) + "\n"


def _cell(role: Role, rule: Rule, yes: str) -> str:
    if role not in rule.roles:
        return ""
    if rule.objects == "own" and role in READS_ALL:
        return "all"
    if rule.objects == "masked" and role not in SEES_PERSONAL:
        return "masked"
    return yes
