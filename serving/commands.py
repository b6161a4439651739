"""Commands of the service: ``headway serve``, ``headway keys`` and ``headway audit``.

Heavy modules load only where they are needed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import ExitStack, closing
from itertools import islice
from typing import Annotated

import msgspec
import typer

from features.durations import EXPECTED, parse_duration
from features.errors import InvalidInput, Problem, Refused
from features.events import dump_timestamp, shown
from features.home import HOME_VARIABLE, Home, lock_file, use_numba_cache
from serving.audit import AuditTrail
from serving.auth import RIGHTS, ROLES
from serving.key_limits import KeyLimit
from serving.key_use import KeyUse
from serving.keys import KeyFile, StoredKey
from serving.settings import Settings, online_lock

SERVICE = "serving.service:HeadwayService"
CONFIG_VARIABLE = "HEADWAY_CONFIG"

FINISH_SECONDS = 15
"""So long requests that run may take to finish when the service is stopped; the supervisor kills after 30 s."""

_BENTOML = (sys.executable, "-m", "bentoml", "serve", "--quiet")

_Rate = Annotated[float | None, typer.Option(help="Requests a second that it may make; no limit if not given.")]
_Burst = Annotated[int | None, typer.Option(help="Requests at once; a second's worth if not given.")]

keys = typer.Typer(help="Make, list, limit, rotate and revoke API keys.", no_args_is_help=True)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Start the service in the foreground; SIGTERM or Ctrl-C ends it."""
    env = dict(os.environ)
    if host is not None:
        env["HEADWAY_HOST"] = host
    if port is not None:
        env["HEADWAY_PORT"] = str(port)
    settings = Settings.from_environment(env)
    home = Home.from_environment(env).create()
    env[HOME_VARIABLE] = str(home.root)
    if settings.config is not None:
        env[CONFIG_VARIABLE] = str(settings.config.absolute())
    _check_start(home, settings, env)
    use_numba_cache(home, env)
    env["BENTOML_HOME"] = str(home.root / "cache" / "bentoml")
    # This process becomes BentoML's, so that signals reach it and nothing has to be passed on.
    sys.stdout.flush()
    os.execve(  # noqa: S606  # no shell is wanted
        sys.executable,
        _command(settings, home),
        env,
    )


def _command(settings: Settings, home: Home) -> list[str]:
    # BentoML puts its working folder before everything else on the path of imports: let it be one without code.
    place = ["--working-dir", str(home.root)]
    address = ["--host", settings.host, "--port", str(settings.port)]
    return [*_BENTOML, SERVICE, *place, *address, "--timeout-graceful-shutdown", str(FINISH_SECONDS)]


def _check_start(home: Home, settings: Settings, env: dict[str, str]) -> None:
    """Refuse here, with a message and an exit code, what would otherwise end the worker again and again.

    Raises:
        ConfigurationError: the configuration is not valid.
        HomeLocked: another process writes the home's stores.
        StoreError: the database does not answer, or has the layout of another release.
        Refused: the address cannot be listened on, another home keeps the Redis, or the database has no tables.
    """
    from models.configuration import load_configuration

    load_configuration(home, env)
    if settings.oidc_issuer is not None:
        from serving.tokens import token_reader

        token_reader(settings)
    with ExitStack() as locks:
        ours = [] if settings.database is not None else [home.events_db, home.records_db]
        for path in ours:
            locks.enter_context(lock_file(path))
        locks.enter_context(online_lock(settings)(home.online_db))
        if settings.database is not None:
            from features.postgres_store import check_database

            check_database(settings.database)
        if settings.online_store is not None:
            from features.redis_client import check_keeper

            check_keeper(settings.online_store, home.online_epoch)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with closing(socket.socket(family)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise Refused(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; expected a free port on an "
                "IP address of this machine: choose others with --host and --port"
            ) from error


@keys.command("create")
def create_key(
    source: Annotated[str, typer.Option(help="Source of everything sent with the key.")],
    role: Annotated[
        list[str] | None, typer.Option(help=f"What it may do: {', '.join(ROLES)}. May be repeated.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, such as 90d; for ever if not given.")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="Make a publishable key, for pages of this origin. May be repeated.")
    ] = None,
    rate: _Rate = None,
    burst: _Burst = None,
    may: Annotated[
        list[str] | None,
        typer.Option(help=f"What its events may say beside what its roles allow: {', '.join(RIGHTS)}. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make an API key and show it, once."""
    now, file = _now(), _key_file()
    key = file.create(
        source=source,
        roles=role or (),
        secret=os.urandom(36),
        at=now,
        expires_at=None if expires is None else now + _duration("--expires", expires),
        origins=origin or (),
        rights=may or (),
        limit=KeyLimit.of(rate, burst),
    )
    key_id = key.split("_")[1]
    if as_json:
        typer.echo(json.dumps({"key": key, **_shown(file.keys()[key_id])}))
        return
    typer.echo(key)
    if origin:
        typer.echo(f"Publishable key {key_id} of source {source}, for pages of {', '.join(origin)}.", err=True)
    else:
        typer.echo(f"Key {key_id} of source {source}. It is shown only now: keep it safe.", err=True)


@keys.command("list")
def list_keys(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the API keys, without the keys themselves; when they were last used is known to the minute."""
    known, used, now = list(_key_file().keys().values()), KeyUse.of(_home()).saved(), _now()
    if as_json:
        typer.echo(json.dumps([_shown(key) | {"last_used_at": used.get(key.key_id)} for key in known]))
        return
    for key in known:
        what = ",".join(key.roles) or f"publishable for {','.join(key.origins)}"
        more = f"  may {','.join(key.rights)}" if key.rights else ""
        more += f"  {_words_of(key.limit)}" if key.limit else ""
        last = f"used {used[key.key_id]}" if key.key_id in used else "never used"
        typer.echo(f"{key.key_id}  {key.source}  {what}{more}  created {key.created_at}  {last}  {key.state(now)}")
    if not known:
        typer.echo("No keys. Make one with `headway keys create --source NAME --role caller`.", err=True)


@keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `headway keys list` shows it.")],
    overlap: Annotated[
        str, typer.Option(help="For how long the secret before is still valid, such as 2d; 0s ends it now.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Give an API key a new secret and show it, once; the one before is valid for a while longer."""
    file = _key_file()
    key = file.rotate(key_id, secret=os.urandom(36), at=_now(), overlap_us=_duration("--overlap", overlap))
    until = file.keys()[key_id].previous_until
    if as_json:
        typer.echo(json.dumps({"key": key, "key_id": key_id, "previous_until": until}))
        return
    typer.echo(key)
    before = "ends now" if until is None else f"is valid until {until}"
    typer.echo(f"The new secret of key {key_id} is shown only now; the one before {before}.", err=True)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="Id of the key, as `headway keys list` shows it.")]) -> None:
    """Make an API key invalid, at once and for good, with all its secrets."""
    key = _key_file().revoke(key_id, at=_now())
    typer.echo(f"Key {key.key_id} of source {key.source} is revoked since {key.revoked_at}.")


@keys.command("limit")
def limit_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `headway keys list` shows it.")],
    rate: _Rate = None,
    burst: _Burst = None,
) -> None:
    """Change how often an API key may ask, at once."""
    key = _key_file().limit(key_id, KeyLimit.of(rate, burst))
    typer.echo(f"Key {key.key_id} of source {key.source}: {_words_of(key.limit)}.")


def _words_of(limit: KeyLimit | None) -> str:
    return "no limit" if limit is None else f"{limit.per_second:g} requests a second, {limit.burst} at once"


def audit(
    customer: Annotated[
        str | None, typer.Option(help="Only calls that name this customer, by the id that they used.")
    ] = None,
    who: Annotated[str | None, typer.Option(help="Only calls of this key or person, as the log names them.")] = None,
    since: Annotated[str | None, typer.Option(help="Only the last so much time, such as 7d.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many lines, the newest.", min=1)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False,
) -> None:
    """Show who asked what, the newest first."""
    trail = AuditTrail.of(_home(), clock=_now, randomness=os.urandom)
    from_here = "" if since is None else dump_timestamp(_now() - _duration("--since", since))
    named = None if customer is None else trail.hash_of(customer)
    found = (
        line
        for line in trail.lines()
        if line.at >= from_here and who in (None, line.who) and named in (None, line.object)
    )
    for line in islice(found, limit):
        typer.echo(msgspec.json.encode(line).decode() if as_json else line.said)


def _duration(option: str, text: str) -> int:
    """Microseconds.

    Raises:
        InvalidInput: it is no duration.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidInput("the option cannot be used", [Problem(option, shown(text), EXPECTED)]) from error


def _shown(key: StoredKey) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "source": key.source,
        "roles": list(key.roles),
        "rights": list(key.rights),
        "origins": list(key.origins),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "rotated_at": key.rotated_at,
        "previous_until": key.previous_until,
        "revoked_at": key.revoked_at,
        "limit": None if key.limit is None else msgspec.structs.asdict(key.limit),
    }


def _key_file() -> KeyFile:
    return KeyFile.of(_home())


def _home() -> Home:
    Settings.from_environment(os.environ)
    return Home.from_environment(os.environ).create()


def _now() -> int:
    return time.time_ns() // 1000
