"""Commands ``headway promote`` and ``headway rollback``; a service may run.

They write ``bundles/`` and, after it, MLflow's aliases; a share also writes one number of the policy in force.
"""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import HeadwayError, Refused
from features.home import Home
from training.commands import AsJson, Journey, opened_home, present_moment, print_result

if TYPE_CHECKING:
    from models.configuration import Configuration
    from models.rollouts import Rollout

Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the promotion log.")]
By = Annotated[
    str | None,
    typer.Option("--by", help="Who, for the promotion log; the user of this process if not given."),
]


def promote(
    journey: Journey = None,
    version: Annotated[
        int | None, typer.Option("--version", help="The version to promote; the challenger if not given.", min=1)
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Do not make it the champion: let it decide for this part of the customers, such as 0.01, 0.1 or 0.5. "
            "0 ends the rollout.",
            min=0.0,
            max=1.0,
        ),
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

    With --share it is rolled out step by step: the same gate asks that it is not certainly worse, and of larger shares
    that the log can tell. The share is written into policy.yaml, which a running service takes up within seconds.
    """
    if force and (dry_run or not reason.strip()):
        raise Refused("--force without a --reason, or with --dry-run; expected a reason, which the promotion log keeps")
    home, configuration = opened_home()
    from models.promotion_log import entry_document
    from models.promotions import Promoter
    from models.registry import LocalRegistry, model_name
    from training.params import load_params
    from training.pipeline import say
    from training.promote import (
        check_serves,
        contest,
        gate_of,
        named_journey,
        verdict_document,
        verdict_on,
        wanted_version,
    )
    from training.rollout import present_share, rollout_under_way

    if share is not None:
        _step(home, configuration, journey, version, share, dry_run, force, reason, by, as_json)
        return
    promoter = Promoter(LocalRegistry(home.bundles), share=present_share)
    if force:
        declared = named_journey(configuration, journey)
        name, wanted = model_name(declared.id), wanted_version(home, declared, version)
        check_serves(home, configuration, declared, wanted)
        rollout = rollout_under_way(home, name)
        entry = promoter.promote(name, wanted, at=present_moment(), by=by or _who(), forced=True, reason=reason)
        said = [f"{name} version {wanted} is the champion now, FORCED past the gate: {reason}"]
        document: dict[str, Any] = {"promoted": True, "verdict": None, "entry": entry_document(entry)}
        document["share"] = _ended(home, name, wanted, rollout, by)
        print_result({**document, "mlflow": _told_mlflow(home, name)}, as_json, said)
        return
    params = load_params()
    compared = contest(home, configuration, journey, version)
    say(f"valuing versions {compared.champion} and {compared.challenger} of {compared.name} on the log")
    verdict = verdict_on(home, configuration, params, compared)
    evidence = verdict_document(compared, verdict, gate_of(params))
    lines = verdict_lines(evidence)
    document = {"promoted": False, "verdict": evidence, "entry": None, "mlflow": None, "share": None}
    if verdict.promotes and not dry_run:
        rollout = rollout_under_way(home, compared.name)
        entry = promoter.promote(
            compared.name,
            compared.challenger,
            at=present_moment(),
            by=by or _who(),
            reason=reason,
            evidence=evidence,
            expected=compared.champion,
        )
        ended = _ended(home, compared.name, compared.challenger, rollout, by)
        document |= {"promoted": True, "entry": entry_document(entry), "share": ended}
        document["mlflow"] = _told_mlflow(home, compared.name)
        lines.append(f"{compared.name} version {compared.challenger} is the champion now")
    elif not dry_run:
        entry = promoter.refused(
            compared.name, compared.challenger, at=present_moment(), by=by or _who(), reason=reason, evidence=evidence
        )
        document["entry"] = entry_document(entry)
    print_result(document, as_json, lines)
    if not verdict.promotes:
        raise typer.Exit(1)


def rollback(
    journey: Journey = None,
    version: Annotated[
        int | None,
        typer.Option("--version", help="The champion to go back from; refused where another is by now.", min=1),
    ] = None,
    reason: Reason = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Put the champion before back in its place, by the promotion log. The gate is not asked.

    Twice goes back two; with --version only once.
    """
    home, configuration = opened_home()
    from models.promotion_log import entry_document
    from models.promotions import Promoter
    from models.registry import LocalRegistry, model_name
    from training.promote import named_journey
    from training.rollout import present_share

    name = model_name(named_journey(configuration, journey).id)
    entry = Promoter(LocalRegistry(home.bundles), share=present_share).rollback(
        name, at=present_moment(), by=by or _who(), reason=reason, leaving=version
    )
    was = "none" if entry.before is None else f"version {entry.before.version}"
    print_result(
        {"rolled_back": True, "entry": entry_document(entry), "mlflow": _told_mlflow(home, name)},
        as_json,
        [f"{name} version {entry.after.version} is the champion again; it was {was}"],
    )


def _step(
    home: Home,
    configuration: Configuration,
    journey: str | None,
    version: int | None,
    share: float,
    dry_run: bool,
    force: bool,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    from training.params import load_params
    from training.rollout import StepWanted, take_step

    wanted = StepWanted(
        journey_id=journey,
        version=version,
        share=share,
        dry_run=dry_run,
        force=force,
        reason=reason,
        at=present_moment(),
        by=by or _who(),
    )
    taken = take_step(home, configuration, load_params(), wanted)
    verdict = taken.document["verdict"]
    print_result(taken.document, as_json, [*(verdict_lines(verdict) if verdict else []), *taken.said])
    if taken.is_refused:
        raise typer.Exit(1)


def _ended(home: Home, name: str, version: int, rollout: Rollout | None, by: str | None) -> dict[str, Any] | None:
    """What became of the share of a version that is the champion now; nothing where it was not rolled out."""
    from training.rollout import end_rollout

    if rollout is None or rollout.version != version or rollout.began_from == rollout.share:
        return None
    try:
        return end_rollout(home, name, rollout, at=present_moment(), by=by or _who())
    except HeadwayError as error:
        typer.echo(
            f"warning: the challenger's share is still {rollout.share:g}: {error}. Set experiment.challenger in "
            f"policy.yaml to {rollout.began_from:g}, or the next challenger decides for it unasked",
            err=True,
        )
        return None


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
    dear = evidence["dear_contacts"]
    if dear is not None:
        lines.append(
            f"contacts rise by {evidence['contact_rise']:.1%} of the decisions; if each cost "
            f"{evidence['gate']['contact_cost_factor']:g} times as much the difference were {dear['estimate']:+.4f} "
            f"[{dear['low']:+.4f}, {dear['high']:+.4f}]"
        )
    if evidence["promotes"]:
        return [*lines, "the gate: passed"]
    return [*lines, "the gate: refused", *(f"  {one['code']}: {one['text']}" for one in evidence["reasons"])]


def _told_mlflow(home: Home, name: str) -> dict[str, Any]:
    """What became of MLflow's aliases after the local ones moved, with a warning where they did not follow."""
    from training.tracked_aliases import aliases_followed, warn_of

    problems = aliases_followed(home, [name])
    warn_of(problems)
    return {"followed": not problems, "problems": problems}


def _who() -> str:
    """Who runs this process, as the operating system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
