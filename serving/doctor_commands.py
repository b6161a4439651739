"""Command ``headway doctor``."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from features.database_location import VARIABLE as DATABASE
from features.home import Home, use_numba_cache

if TYPE_CHECKING:
    from features.check_findings import Finding

_SAID: Final = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "not_applicable": "-"}


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Also ask Feast and LightGBM themselves, which takes some seconds.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check an installation: stores, models, configuration, disk, clock, permissions, and what to do about each.

    Nothing is changed, and a server may run. Exit code 1 where a check failed; warnings leave it at 0.
    """
    env = dict(os.environ)
    home = Home.from_environment({**env, DATABASE: ""})  # a database that cannot be used is a finding
    with tempfile.TemporaryDirectory(prefix="headway-doctor-") as folder:
        # Compiled code is taken from the home, but never put where there is no such folder yet.
        use_numba_cache(home if home.numba_cache.is_dir() else Home(Path(folder)))
        from serving.doctor import CHECKS, DEEP_CHECKS, Installation, examined

        findings = examined(Installation.of(env), [*CHECKS, *(DEEP_CHECKS if deep else ())])
    document = doctor_document(findings)
    typer.echo(json.dumps(document) if as_json else doctor_text(findings), nl=as_json)
    if not document["ok"]:
        raise typer.Exit(1)


def doctor_document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as JSON values; ``ok`` says that none failed."""
    return {
        "ok": all(finding.status != "failed" for finding in findings),
        "checks": [asdict(finding) for finding in findings],
    }


def doctor_text(findings: Sequence[Finding]) -> str:
    """The findings as lines: each check, and under those that are not well what was expected and what to do."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{_SAID[finding.status]:<8} {finding.name:<{width}}  {finding.found}")
        indent = " " * (width + 11)
        lines += [f"{indent}{word}: {text}" for word, text in _advice(finding) if text]
    counts = {status: sum(finding.status == status for finding in findings) for status in _SAID}
    lines.append(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['failed']} failed")
    return "\n".join(lines) + "\n"


def _advice(finding: Finding) -> tuple[tuple[str, str], ...]:
    return ("expected", finding.expected), ("to do", finding.remedy)
