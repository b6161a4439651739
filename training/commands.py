"""Commands of this package: train, evaluate, snapshot, drift. What they need is imported when they run."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import Refused
from features.home import Home, use_numba_cache

if TYPE_CHECKING:
    from models.configuration import Configuration

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Journey = Annotated[str | None, typer.Option("--journey", help="Which journey; may be left out where there is one.")]


def train(
    as_json: AsJson = False,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Do nothing where too little is new; see `retrain` in params.yaml.")
    ] = False,
) -> None:
    """Train stall and uplift models on the home's history, judge them, and register the bundle.

    The first bundle of a journey becomes its champion; later ones become challengers. Each is one MLflow run. With
    --if-needed it says why it trains, or why not.
    """
    home, configuration = opened_home()
    from training.params import load_params
    from training.pipeline import say
    from training.train import train as run

    params, reason = load_params(), None
    if if_needed:
        from training.schedule import reason_to_train

        found = reason_to_train(home, configuration, params, at=present_moment())
        reason = asdict(found)
        if not found.is_needed:
            document: dict[str, Any] = {"trained": False, "reason": reason, "registered": []}
            print_result(document, as_json, [f"Nothing to do: {found.text}."])
            return
        say(f"training is needed: {found.text}")
    snapshot, registered = run(home, configuration, params, at=present_moment())
    document = {
        "trained": True,
        "reason": reason,
        "fingerprint": snapshot.fingerprint,
        "counts": dict(snapshot.counts),
        "registered": [
            {"name": one.name, "version": one.version, "alias": one.alias, "run_id": one.run_id} for one in registered
        ],
    }
    lines = [f"{one.name} version {one.version} is registered as {one.alias}" for one in registered]
    for one in registered:
        lines += summary_lines(one.evaluation)
    print_result(document, as_json, [*lines, "Next: headway evaluate, headway serve"])


def evaluate(
    as_json: AsJson = False,
    journey: Journey = None,
    log: Annotated[
        bool, typer.Option("--log", help="Value a policy on the recorded decisions instead, over doing nothing.")
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="With --log: this policy.yaml decides.", exists=True, dir_okay=False)
    ] = None,
    actions: Annotated[
        Path | None, typer.Option(help="With --log: this actions.yaml decides.", exists=True, dir_okay=False)
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="With --log: this version of the journey's registered model decides.", min=1)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="With --log: decisions from this moment on: ISO 8601 with an offset.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="With --log: decisions before this moment.")] = None,
    last: Annotated[int | None, typer.Option(help="With --log: so many of the newest decisions.", min=1)] = None,
) -> None:
    """Print how the models trained last did on held-out rows: stall, uplift by outcome and action, policy value.

    With --log: what a policy, a catalogue or a version would have earned on the recorded decisions whose outcomes are
    known, made again by the champion's rule for everybody. What is not given is what it was at each decision. Exit
    code 1 where the log cannot tell. The report is kept in reports/ope; a server may run.
    """
    asked: dict[str, object] = {"--policy": policy, "--actions": actions, "--version": version}
    asked |= {"--since": since, "--until": until, "--last": last}
    if log:
        _evaluate_on_log(
            as_json, journey, policy=policy, actions=actions, version=version, since=since, until=until, last=last
        )
        return
    if given := [name for name, value in asked.items() if value is not None]:
        raise Refused(f"{', '.join(given)} without --log, expected --log with it")
    from training.reports import SHOWN, page_file, read_evaluation

    home = Home.from_environment(os.environ)
    judged = read_evaluation(home, journey)
    for note in judged["about"]["notes"]:
        print(f"note: {note}", file=sys.stderr)
    shown = {key: judged[key] for key in SHOWN}
    print_result(shown, as_json, [*summary_lines(judged), f"As a page, with figures: {page_file(home)}"])


def _evaluate_on_log(
    as_json: bool,
    journey: str | None,
    *,
    policy: Path | None,
    actions: Path | None,
    version: int | None,
    since: str | None,
    until: str | None,
    last: int | None,
) -> None:
    home, configuration = opened_home()
    from models.command_options import moment_option, what_if_options
    from training.params import load_params
    from training.policy_evaluation import PolicyQuestion, policy_evaluation
    from training.policy_page import evaluation_lines, policy_page
    from training.promote import named_journey
    from training.report_page import write_page
    from training.reports import write_json

    question = PolicyQuestion(
        journey=named_journey(configuration, journey),
        what_if=what_if_options(configuration, policy, actions, version, as_champion=True),
        since=moment_option("--since", since),
        until=moment_option("--until", until),
        last=last,
    )
    report = policy_evaluation(home, configuration, load_params(), question)
    folder = home.evaluation_reports
    write_json(folder / f"{report['id']}.json", report)
    write_page(folder / f"{report['id']}.html", policy_page(report))
    print_result(report, as_json, [*evaluation_lines(report), f"The report is {folder / report['id']}.html"])
    if report["refused"]:
        raise typer.Exit(1)


def snapshot(as_json: AsJson = False) -> None:
    """Freeze the home's events and decisions for training, and move the watermark to them."""
    home, configuration = opened_home()
    from training.snapshot import freeze, snapshot_document, training_lock

    home.create()
    with training_lock(home):
        document = snapshot_document(freeze(home, configuration, at=present_moment()))
    counts = ", ".join(f"{count:,} {name}" for name, count in document["counts"].items())
    print_result(document, as_json, [f"{counts} frozen in {home.snapshot}, fingerprint {document['fingerprint']}"])


def drift(as_json: AsJson = False, journey: Journey = None) -> None:
    """Say whether what came in lately is still what the models learned from, and what to do about it.

    Decisions since the training, if there are enough; else the latest ones, or moments, among those trained on. Where
    HEADWAY_DRIFT_WEBHOOK_URL names a receiver, a verdict that calls for something new is sent there, signed.
    """
    from training.alerts import webhook_of

    webhook = webhook_of(os.environ)
    home, configuration = opened_home()
    from training.drift import drift_folder, drift_step
    from training.drift_history import told
    from training.drift_sources import LiveSource
    from training.params import load_params
    from training.snapshot import read_snapshot, training_lock

    home.create()
    with training_lock(home):
        with LiveSource(home, read_snapshot(home)) as source:
            found = drift_step(home, configuration, load_params(), source, journey, at=present_moment())
        found = {name: told(home, document, webhook) for name, document in found.items()}
    lines = []
    for name, one in found.items():
        lines.append(f"{name}: {one['verdict']} ({one['comparison']})")
        lines += [f"  {reason['calls_for']}: {reason['text']}" for reason in one["reasons"]]
        if one["alert"]["status"] == "failed":
            print(f"alert on {name} was not delivered: {one['alert']['detail']}", file=sys.stderr)
    print_result(found, as_json, [*lines, f"Reports are in {drift_folder(home)}"])


def summary_lines(judged: Mapping[str, Any]) -> list[str]:
    """An evaluation in a few lines for people."""
    lines = []
    stall = judged["stall"]
    if stall is not None:
        lines.append(
            f"stall: AUC {_number(stall['auc'])}, Brier {_number(stall['brier'])}, ECE {_number(stall['ece'])}, "
            f"slope {_number(stall['slope'])} on {stall['n']:,} later moments"
        )
    for outcome_id, arms in judged["uplift"].items():
        for action_id, found in arms.items():
            how = "" if found["randomised"] else ", NOT randomised"
            lines.append(
                f"uplift on {outcome_id} of {action_id}: {_ranking(found)}, "
                f"{found['n_treated']:,} against {found['n_control']:,}{how}"
            )
    policy = judged["policy"]
    if policy["value"] is not None:
        low, high = policy["interval"]
        lines.append(
            f"policy: {policy['value']:.2f} [{_number(low, 2)}, {_number(high, 2)}] per decision over doing nothing; "
            f"best single action {policy['best_single']:.2f}, random {policy['random']:.2f}, ESS {policy['ess']:.0f}"
        )
    return lines


def _ranking(found: Mapping[str, Any]) -> str:
    """How well an action's uplift ranks customers, if it does."""
    if found["qini_sklift"] is None:
        return "nothing held out to judge by"
    if found["auuc"] is None:
        return "the same for everybody"
    low, high = found["qini_interval"]
    return f"Qini {_number(found['qini_sklift'])} [{_number(low)}, {_number(high)}]"


def _number(value: float | None, digits: int = 3) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def opened_home() -> tuple[Home, Configuration]:
    """The home and the configuration of this process; jitted code is cached in the home."""
    home = Home.from_environment(os.environ)
    use_numba_cache(home)
    from models.configuration import load_configuration

    return home, load_configuration(home, os.environ)


def present_moment() -> int:
    """Now, microseconds since the epoch."""
    return time.time_ns() // 1000


def print_result(document: Mapping[str, Any], as_json: bool, lines: list[str]) -> None:
    """Print a result: the document for machines, or the lines for people."""
    if as_json:
        json.dump(document, sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
        return
    for line in lines:
        typer.echo(line)
