"""``headway demo``: the whole product in one command, on a population whose true effects are known.

It runs the commands that anyone would run (simulate, import, features backfill, train, serve) in a home of its own.
Then it asks the service over HTTP for a customer who is stalled, shows the answer, and reports what came back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from features.errors import Refused
from features.events import MICROSECONDS_PER_DAY, dump_timestamp
from features.home import HOME_VARIABLE, Home, telemetry_off
from training.demo_service import DemoService, ServiceFailed, command_line

CUSTOMERS: Final = 3_000
SEED: Final = 7
TRIED: Final = 200
"""How many recently silent customers are asked about before giving up."""

_PLAIN_WIDTH: Final = 150
"""Columns where nobody says how wide the screen is."""

_MARKER: Final = "demo.json"
_JOURNEY: Final = "credit_card_application"


def demo(
    serve: Annotated[bool, typer.Option("--serve", help="Keep the service running until interrupted.")] = False,
    customers: Annotated[int, typer.Option(help="How many customers to simulate.", min=500)] = CUSTOMERS,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = SEED,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON instead of a table.")] = False,
) -> None:
    """Simulate, import, train, serve and decide: the whole product in one command.

    Everything it writes is in the folder ``demo`` of the home, which it empties first.
    """
    console = Console(stderr=True)
    started = time.monotonic()
    home = _fresh_home(Home.from_environment(os.environ))
    now = time.time_ns() // 1000
    with _environment(home), DemoService(os.environ, home.reports / "service.log") as service:
        # What a machine reads is one JSON document, not what the commands say to people.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            _build(service, home, customers, seed, now, console)
        answer, outcome = _decide_and_report(service, home, now)
        _show(answer, outcome, as_json=as_json)
        console.print(f"Done in {time.monotonic() - started:.0f} s. Everything is in {home.root}.")
        if serve:
            _keep_serving(service, answer, console)


def _fresh_home(home: Home) -> Home:
    """The demo's own home, emptied if an earlier demo made it.

    Raises:
        Refused: the folder is there, and no demo made it.
    """
    root = home.root / "demo"
    if root.exists() and not (root / _MARKER).is_file():
        raise Refused(f"{root} exists and was not made by a demo; move it away, or name another {HOME_VARIABLE}")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / _MARKER).write_text('{"made_by": "headway demo"}\n')
    return Home(root).create()


@contextmanager
def _environment(home: Home) -> Iterator[None]:
    """The commands of the demo see its home with everything in it, and the built-in configuration."""
    before = dict(os.environ)
    telemetry_off(os.environ)
    os.environ[HOME_VARIABLE] = str(home.root)
    for name in ("HEADWAY_CONFIG", "HEADWAY_ONLINE_STORE"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _build(service: DemoService, home: Home, customers: int, seed: int, now: int, console: Console) -> None:
    """From nothing to a service whose champion decides."""
    _prepare(home, customers, seed, now, console)
    # Training reads the event log only, so the feature store is filled, and the service started, beside it.
    with ThreadPoolExecutor(1) as beside:
        serving = beside.submit(_fill_and_start, service, dict(os.environ))
        _step(console, "train", _train)
        _step(console, "features backfill, then serve, meanwhile", lambda: sys.stdout.write(serving.result()))
    service.wait_until("waiting for the service and its champion", bundle=f"nba-{_JOURNEY}")


def _prepare(home: Home, customers: int, seed: int, now: int, console: Console) -> None:
    from models.commands import import_files
    from training.simulate import IMPORTED
    from training.simulate_commands import simulate

    folder = home.root / "simulation"
    files = [folder / name for name in IMPORTED]
    _step(
        console,
        f"simulate --customers {customers} --seed {seed}",
        lambda: simulate(customers=customers, seed=seed, out=folder, until=dump_timestamp(now)),
    )
    _step(console, "import --mapping simulated", lambda: import_files(files, mapping="simulated"))


def _fill_and_start(service: DemoService, env: dict[str, str]) -> str:
    """What ``headway features backfill`` said; the service starts after it, since both write the feature store.

    Raises:
        ServiceFailed: the feature store could not be filled.
    """
    filled = subprocess.run(  # noqa: S603  # our own command, without a shell
        command_line("features", "backfill"), env=env, capture_output=True, text=True, check=False
    )
    if filled.returncode != 0:
        raise ServiceFailed(f"headway features backfill failed:\n{filled.stderr}")
    service.start()
    return filled.stdout


def _train() -> None:
    from training.commands import train

    train()


def _step(console: Console, words: str, run: Callable[[], Any]) -> None:
    started = time.monotonic()
    console.print(f"[bold]headway {words}[/bold]")
    run()
    console.print(f"  [dim]{time.monotonic() - started:.1f} s[/dim]")


def _decide_and_report(service: DemoService, home: Home, now: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A live decision for a stalled customer, and what the service said to its outcome.

    Raises:
        ServiceFailed: nobody who was asked about is to be helped now.
    """
    answer = next(_live_decisions(service, home, now), None)
    if answer is None:
        raise ServiceFailed(
            f"none of {TRIED} recently silent customers has a next best action; simulate more customers"
        )
    chosen = answer["selected"][0]
    moment = dump_timestamp(time.time_ns() // 1000)
    came_back = [
        {
            "decision_id": answer["decision_id"],
            "type": "exposure",
            "action_id": chosen["action_id"],
            "occurred_at": moment,
        },
        {
            "decision_id": answer["decision_id"],
            "type": "outcome",
            "outcome_id": _outcome_of(home, chosen["action_id"]),
            "value": 1.0,
            "occurred_at": moment,
        },
    ]
    return answer, service.call("POST", "/v1/outcomes", {"outcomes": came_back})


def _outcome_of(home: Home, action_id: str) -> str:
    from models.configuration import load_configuration

    return load_configuration(home, os.environ).catalogue.by_id[action_id].outcome


def _live_decisions(service: DemoService, home: Home, now: int) -> Iterator[dict[str, Any]]:
    """Live decisions that chose an action, for customers who are stalled and whom the champion decides."""
    for customer_id in _stalled_customers(service, home, now):
        question = {"request_id": f"demo-{customer_id}", "customer_id": customer_id, "max_actions": 5}
        answer = service.call("POST", "/v1/decisions", question)
        # Exploration draws anew for every decision, and may draw to do nothing.
        if answer["selected"]:
            yield answer


def _stalled_customers(service: DemoService, home: Home, now: int) -> Iterator[str]:
    """Customers who fell silent in the last days, are stalled, and for whom the champion has something to do."""
    for customer_id in _recently_silent(home, now):
        question = {"request_id": "look", "customer_id": customer_id, "mode": "dry_run"}
        answer = service.call("POST", "/v1/decisions", question)
        reasons = answer["ranked_actions"][0]["reasons"] if answer["ranked_actions"] else []
        is_stalled = any(reason.startswith("STALLED_") for reason in reasons)
        if is_stalled and answer["experiment"]["arm"] == "champion" and not answer["no_action"]["chosen"]:
            yield customer_id


def _recently_silent(home: Home, now: int) -> list[str]:
    from features.duck import connected

    latest, earliest = now - 2 * MICROSECONDS_PER_DAY, now - 20 * MICROSECONDS_PER_DAY
    with connected() as connection:
        rows = connection.execute(
            "select customer_id from read_parquet($file) group by customer_id "
            "having epoch_us(max(occurred_at)) between $earliest and $latest order by customer_id limit $tried",
            {
                "file": str(home.root / "simulation" / "events.parquet"),
                "earliest": earliest,
                "latest": latest,
                "tried": TRIED,
            },
        ).fetchall()
    return [row[0] for row in rows]


def _show(answer: dict[str, Any], outcome: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        json.dump({"decision": answer, "outcomes": outcome}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    journey = answer["journey"]
    console.print(
        f"\nCustomer [bold]{answer['customer_id']}[/bold] is in stage [bold]{journey['stage']}[/bold], state "
        f"[bold]{journey['state']}[/bold]: no progress within {journey['horizon_days']:g} days with probability "
        f"[bold]{journey['stall_propensity']:.0%}[/bold], abandons with {journey['abandon_probability']:.0%}."
    )
    console.print(_table(answer))
    funnel = " > ".join(f"{name} {count}" for name, count in answer["funnel"].items())
    console.print(f"Funnel: {funnel}")
    console.print(f"Selected: [bold]{answer['selected'][0]['action_id']}[/bold] (decision {answer['decision_id']})")
    console.print(f"Exposure and outcome reported: {outcome['accepted']} accepted, {outcome['rejected']} rejected.")


def _table(answer: dict[str, Any]) -> Table:
    currency = answer["ranked_actions"][0]["currency"]
    table = Table(title="Ranked next best actions")
    for heading in ("#", "action", "channel"):
        table.add_column(heading, no_wrap=True)
    for heading in ("uplift", "95 % interval", f"net value {currency}", "selected with"):
        table.add_column(heading, justify="right")
    table.add_column("reasons")
    for action in answer["ranked_actions"]:
        low, high = action["uplift_interval"]
        table.add_row(
            str(action["rank"]),
            action["action_id"],
            action["channel"],
            f"{action['uplift']:+.3f}",
            f"{low:+.3f} .. {high:+.3f}",
            f"{action['net_value']:.2f}",
            f"{action['selection_probability']:.3f}",
            " ".join(action["reasons"]),
        )
    table.add_row("", "no action", "", "", "", "0.00", "", "")
    return table


def _keep_serving(service: DemoService, answer: dict[str, Any], console: Console) -> None:
    console.print(f"\nThe service answers at {service.url}; its key, shown only here: [bold]{service.key}[/bold]")
    console.print(
        f"curl -H 'Authorization: Bearer {service.key}' -H 'Content-Type: application/json' {service.url}/v1/decisions "
        f'-d \'{{"customer_id": "{answer["customer_id"]}", "mode": "dry_run"}}\'',
        soft_wrap=True,
    )
    console.print("Press Ctrl-C to stop it.")
    with suppress(KeyboardInterrupt):
        service.wait_until_stopped()
