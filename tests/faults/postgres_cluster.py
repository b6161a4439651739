"""A PostgreSQL server of its own for one test module, which may be stopped, killed and filled as nobody else's may."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from features.database_location import DatabaseLocation
from models.database_migrations import upgrade

_USER = "postgres"


class Cluster:
    """A server in a folder, as its own user where the tests run as root: it refuses to be root's.

    Args:
        folder: empty, and that user's.
        programs: where ``initdb`` and ``pg_ctl`` are.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port: int = found.getsockname()[1]
        self._run("initdb", "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def start(self, *, file_bytes: int | None = None) -> None:
        """Start it, and wait until it answers; where told, no file of it may grow beyond so many bytes."""
        told = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = " ".join(f"-c {name}='{value}'" for name, value in told.items())
        log = str(self.folder / "log")
        limited = () if file_bytes is None else ("prlimit", f"--fsize={file_bytes}")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", log, "-o", options, "start", by=limited)

    def stop(self, mode: str = "fast") -> None:
        """Stop it; ``immediate`` is as a crash."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def url(self, database: str, *, user: str = _USER) -> str:
        """Of one of its databases."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def database(self, name: str) -> DatabaseLocation:
        """A new database with our tables."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        location = DatabaseLocation.of(self.url(name))
        upgrade(location)
        return location

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run a statement as the server's owner."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *words: str, by: Sequence[str] = ()) -> None:
        user = _USER if os.geteuid() == 0 else None
        output = self.folder / f"{program}.out"
        with output.open("wb") as told:
            done = subprocess.run(
                [*by, self._programs / program, *words],
                user=user,
                cwd=self.folder,
                stdout=told,
                stderr=told,
                check=False,
            )
        if done.returncode != 0:
            raise RuntimeError(f"{program} {words}: {output.read_text()}")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A new server that runs; stopped and removed at the end.

    The test is skipped where PostgreSQL's programs are not installed, and fails instead under HEADWAY_TEST_REQUIRE=1.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    here = shutil.which("initdb")
    programs = found[-1] if found else Path(here).parent if here else None
    if programs is None:
        reason = "no initdb of PostgreSQL: install the package postgresql"
        if os.environ.get("HEADWAY_TEST_REQUIRE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="headway-postgres-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    try:
        server = Cluster(folder, programs)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
