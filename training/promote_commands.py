"""Commands ``headway promote`` and ``headway rollback``: they write only ``bundles/``, and a service may run."""

from __future__ import annotations

import getpass
import os
from typing import Annotated, Any

import typer

from features.errors import Refused
from training.commands import AsJson, Journey, opened_home, present_moment, print_result

Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the promotion log.")]
By = Annotated[
    str | None,
    typer.Option("--by", help="Who, as the promotion log names them; the user of this process if not given."),
]


def promote(
    journey: Journey = None,
    version: Annotated[
        int | None, typer.Option("--version", help="The version to promote; the challenger if not given.", min=1)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the gate, and change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Without asking the gate; needs a --reason.")] = False,
    reason: Reason = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion, if it would have earned more on the decisions made since it was trained.

    Champion and version are valued doubly robustly on the same decisions. Exit code 1 and the reasons where the gate
    refuses; nothing is promoted then. Running services take up a new champion within a second.
    """
    if force and (dry_run or not reason.strip()):
        raise Refused("--force without a --reason, or with --dry-run; expected a reason, which the promotion log keeps")
    home, configuration = opened_home()
    from models.promotions import Promoter, entry_document
    from models.registry import LocalRegistry, model_name
    from training.params import load_params
    from training.pipeline import say
    from training.promote import contest, gate_of, named_journey, verdict_document, verdict_on, wanted_version

    promoter = Promoter(LocalRegistry(home.bundles))
    if force:
        declared = named_journey(configuration, journey)
        name, wanted = model_name(declared.id), wanted_version(home, declared, version)
        entry = promoter.promote(name, wanted, at=present_moment(), by=by or _who(), forced=True, reason=reason)
        said = [f"{name} version {wanted} is the champion now, FORCED past the gate: {reason}"]
        print_result({"promoted": True, "verdict": None, "entry": entry_document(entry)}, as_json, said)
        return
    params = load_params()
    compared = contest(home, configuration, journey, version)
    say(f"valuing versions {compared.champion} and {compared.challenger} of {compared.name} on the log")
    verdict = verdict_on(home, configuration, params, compared)
    evidence = verdict_document(compared, verdict, gate_of(params))
    lines = verdict_lines(evidence)
    document: dict[str, Any] = {"promoted": False, "verdict": evidence, "entry": None}
    if verdict.promotes and not dry_run:
        entry = promoter.promote(
            compared.name,
            compared.challenger,
            at=present_moment(),
            by=by or _who(),
            reason=reason,
            evidence=evidence,
            expected=compared.champion,
        )
        document |= {"promoted": True, "entry": entry_document(entry)}
        lines.append(f"{compared.name} version {compared.challenger} is the champion now")
    elif not dry_run:
        entry = promoter.refused(
            compared.name, compared.challenger, at=present_moment(), by=by or _who(), reason=reason, evidence=evidence
        )
        document["entry"] = entry_document(entry)
    print_result(document, as_json, lines)
    if not verdict.promotes:
        raise typer.Exit(1)


def rollback(journey: Journey = None, reason: Reason = "", by: By = None, as_json: AsJson = False) -> None:
    """Put the champion before back in its place, by the promotion log. The gate is not asked."""
    home, configuration = opened_home()
    from models.promotions import Promoter, entry_document
    from models.registry import LocalRegistry, model_name
    from training.promote import named_journey

    name = model_name(named_journey(configuration, journey).id)
    entry = Promoter(LocalRegistry(home.bundles)).rollback(name, at=present_moment(), by=by or _who(), reason=reason)
    was = "none" if entry.before is None else f"version {entry.before.version}"
    print_result(
        {"rolled_back": True, "entry": entry_document(entry)},
        as_json,
        [f"{name} version {entry.after.version} is the champion again; it was {was}"],
    )


def verdict_lines(evidence: dict[str, Any]) -> list[str]:
    """A verdict in a few lines for people."""
    lines = [
        f"{evidence['name']}: version {evidence['challenger']} against the champion, version {evidence['champion']}, "
        f"on {evidence['decisions']:,} decisions of {evidence['customers']:,} customers"
    ]
    if evidence["difference"] is not None:
        found = evidence["difference"]
        lines.append(
            f"difference {found['estimate']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}] money per decision; "
            f"champion {evidence['champion_value']:.4f}, challenger {evidence['challenger_value']:.4f} over doing "
            f"nothing; ESS {evidence['ess']:.0f}, {evidence['changed']:.1%} decided differently"
        )
    if evidence["promotes"]:
        return [*lines, "the gate: passed"]
    return [*lines, "the gate: refused", *(f"  {one['code']}: {one['text']}" for one in evidence["reasons"])]


def _who() -> str:
    """Who runs this process, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
