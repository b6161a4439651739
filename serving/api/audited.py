"""What a call is noted as in the audit log: who, which call, which object, how it ended; nothing of its body."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

from serving.access import Rule, rule_of
from serving.auth import Principal
from serving.problems import Forbidden
from serving.runtime import Runtime

_CUSTOMER: Final = "customer_id"


def note_call(runtime: Runtime, scope: Any, *, status: int) -> None:
    """Note a call of a route that is not open.

    Args:
        runtime: has the log.
        scope: of a request that was routed; ``user`` is who calls, where the guard has found out.
        status: of the answer.
    """
    try:
        rule = rule_of(scope["method"], scope["path_template"])
    except Forbidden:
        return  # what is no call of ours, such as OPTIONS
    if not rule.is_open:
        note(runtime, rule, scope.get("user"), status=status, named=_named(rule, scope))


def note(
    runtime: Runtime, rule: Rule, principal: Principal | None, *, status: int, named: tuple[str, str] | None = None
) -> None:
    """Note a call; ``named`` is what it is about, as a parameter and its value."""
    runtime.audit.note(
        principal,
        f"{rule.method} {rule.path}",
        status=status,
        counted=rule.is_counted,
        object_id=None if named is None else named[1],
        is_customer=named is not None and named[0] == _CUSTOMER,
    )


def _named(rule: Rule, scope: Any) -> tuple[str, str] | None:
    if rule.is_counted:
        return None
    for name, value in scope.get("path_params", {}).items():
        return name, str(value)[:200]
    if rule.method == "GET" and _CUSTOMER.encode() in scope["query_string"]:
        given = parse_qs(scope["query_string"].decode("latin-1")).get(_CUSTOMER)
        return (_CUSTOMER, given[0]) if given else None
    return None
