"""The home: the one folder that holds everything an installation writes, and the lock on each file with one writer.

The layout is stated here and nowhere else. Nothing is created until ``create`` is called.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from features.database_location import DatabaseLocation, database_location
from features.errors import HomeLocked, Refused, StoreUnavailable

HOME_VARIABLE = "HEADWAY_HOME"
DEFAULT_HOME = "data"

NO_TELEMETRY = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "True",  # BentoML does not honour "1"
    "ITERATIVE_DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
}
"""The switches that keep every library of the stack from calling home."""


@dataclass(frozen=True, slots=True)
class Home:
    """Every path of one installation, under ``root``, and the database that keeps events and records, if one does."""

    root: Path
    database: DatabaseLocation | None = None

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Home:
        """The home that ``HEADWAY_HOME`` names, ``./data`` where it names none; absolute, links not resolved.

        Raises:
            ConfigurationError: ``HEADWAY_DATABASE`` names no database.
        """
        return cls(Path(env.get(HOME_VARIABLE) or DEFAULT_HOME).absolute(), database_location(env))

    @property
    def config(self) -> Path:
        """The installation's own configuration files."""
        return self.root / "config"

    @property
    def configurations(self) -> Path:
        """Every configuration file that ever decided, by its version; never changed."""
        return self.root / "configurations"

    @property
    def state(self) -> Path:
        """Live databases and their locks; never an output of the pipeline."""
        return self.root / "state"

    @property
    def events_place(self) -> Path | DatabaseLocation:
        """Where the event log is kept."""
        return self.database or self.events_db

    @property
    def records_place(self) -> Path | DatabaseLocation:
        """Where the record store is kept."""
        return self.database or self.records_db

    @property
    def has_events(self) -> bool:
        """Whether there is an event log; of a database only opening it tells."""
        return self.database is not None or self.events_db.is_file()

    @property
    def has_records(self) -> bool:
        """Whether there is a record store; likewise."""
        return self.database is not None or self.records_db.is_file()

    @property
    def events_db(self) -> Path:
        """The event log, where no database keeps it."""
        return self.state / "events.db"

    @property
    def records_db(self) -> Path:
        """Decision records, consents and counters, where no database keeps them."""
        return self.state / "records.db"

    @property
    def online_db(self) -> Path:
        """Feast's online store."""
        return self.state / "online.db"

    @property
    def online_epoch(self) -> Path:
        """The epoch of the rows that a Redis keeps for this home."""
        return self.state / "online-epoch"

    @property
    def registry_db(self) -> Path:
        """Feast's registry."""
        return self.state / "registry.db"

    @property
    def audit(self) -> Path:
        """Who asked what."""
        return self.root / "audit"

    @property
    def snapshot_file(self) -> Path:
        """The watermark that names the frozen snapshot."""
        return self.root / "snapshot.json"

    @property
    def snapshot(self) -> Path:
        """The frozen Parquet snapshot that training reads."""
        return self.root / "snapshot"

    @property
    def frames(self) -> Path:
        """Training frames; personal data."""
        return self.root / "frames"

    @property
    def bundles(self) -> Path:
        """Model bundles, one folder per registered name and version."""
        return self.root / "bundles"

    @property
    def champion_file(self) -> Path:
        """Which bundle serves, for each registered name."""
        return self.bundles / "champion.json"

    @property
    def prices(self) -> Path:
        """Published price lists, one file each, and which ones are current."""
        return self.root / "prices"

    @property
    def challenger_file(self) -> Path:
        """Which bundle decides for the challenger's arm, for each registered name."""
        return self.bundles / "challenger.json"

    @property
    def mlflow_db(self) -> Path:
        """MLflow's tracking and registry database."""
        return self.root / "mlflow" / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """MLflow's artefacts."""
        return self.root / "mlflow" / "artifacts"

    @property
    def offline(self) -> Path:
        """Feast's offline Parquet files."""
        return self.root / "offline"

    @property
    def reports(self) -> Path:
        """Reports of training, evaluation and drift."""
        return self.root / "reports"

    @property
    def drift_reports(self) -> Path:
        """The latest drift report of each journey, and the headlines so far."""
        return self.reports / "drift"

    @property
    def evaluation_reports(self) -> Path:
        """Off-policy evaluations on the log, by their ids."""
        return self.reports / "ope"

    @property
    def journey_reports(self) -> Path:
        """Journey reports that were made, until the log goes on."""
        return self.state / "reports"

    @property
    def jobs(self) -> Path:
        """What durable jobs work in and come to, by their ids, until their time is over; personal data."""
        return self.state / "jobs"

    @property
    def rejects(self) -> Path:
        """What imports refused, row by row."""
        return self.root / "rejects"

    @property
    def numba_cache(self) -> Path:
        """Compiled code of the jitted functions."""
        return self.root / "cache" / "numba"

    def bundle(self, name: str, version: int | str) -> Path:
        """The folder of one bundle."""
        return self.bundles / name / str(version)

    def kept_configuration(self, part: str, version: str) -> Path:
        """Where one version of ``taxonomy``, ``journeys``, ``actions`` or ``policy`` is kept."""
        return self.configurations / part / f"{version}.yaml"

    def create(self) -> Home:
        """This home, with its folders made where they were missing; a new home is its owner's alone.

        Raises:
            Refused: if the root is a file, or a folder cannot be made.
        """
        folders = (
            self.config,
            self.state,
            self.snapshot,
            self.frames,
            self.bundles,
            self.prices,
            self.mlflow_artifacts,
            self.offline,
            self.reports,
            self.rejects,
            self.numba_cache,
        )
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds personal data
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"cannot make the folder {error.filename} of the home {self.root}: {error.strerror}; "
                f"expected a folder that can be written: set {HOME_VARIABLE} to one"
            ) from error
        return self


class FileLock:
    """The right to write one file, held until ``close`` or the death of the process: alone, or as one of several."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Give the right back; closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock_file(path: Path, *, command: str | None = None) -> FileLock:
    """The exclusive right to write ``path``, kept in ``<path>.lock`` with this process's id and command as text.

    Args:
        path: the file to write; it need not exist, its folder is made.
        command: what is written into the lock for people to read; the name and sub-command of this process if None.
            Never more of the command line, which may carry secrets.

    Raises:
        HomeLocked: if another process, or another writer in this one, holds it.
        StoreUnavailable: if the lock file cannot be opened, or the file system has no locks.
    """
    return _locked(path, fcntl.LOCK_EX, command)


def share_file(path: Path, *, command: str | None = None) -> FileLock:
    """``lock_file`` for one of several who write what ``path`` stands for: it keeps out only who wants it alone."""
    return _locked(path, fcntl.LOCK_SH, command)


def _locked(path: Path, kind: int, command: str | None) -> FileLock:
    target = path.with_name(path.name + ".lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot open the lock {target}: {error.strerror}; expected a writable folder"
        ) from error
    try:
        # flock and not lockf: a POSIX lock is lost as soon as any descriptor of the file is closed in this process.
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 400, 0).decode("utf-8", "replace").split("\n")
        os.close(descriptor)
        raise HomeLocked(_held_message(path, holder)) from error
    except OSError as error:
        os.close(descriptor)
        raise StoreUnavailable(
            f"cannot lock {target}: {error.strerror}; expected a local file system: set {HOME_VARIABLE} to one"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n{command or _own_command()}\n".encode(), 0)
    return FileLock(descriptor)


def _held_message(path: Path, holder: list[str]) -> str:
    pid = holder[0] or "unknown"
    command = holder[1] if len(holder) > 1 else "unknown command"
    return (
        f"{path} is being written by process {pid} ({command}); expected to be its only writer. Wait until that "
        f"process ends or stop it, then try again; while `headway serve` runs, write through its HTTP API"
    )


def _own_command() -> str:
    words = [Path(sys.argv[0]).name, *(word for word in sys.argv[1:2] if not word.startswith("-"))] if sys.argv else []
    return " ".join(words) or "python"


def telemetry_off(env: MutableMapping[str, str]) -> None:
    """Set, in ``env``, the switches that keep the libraries of the stack from calling home."""
    env.update(NO_TELEMETRY)


def use_numba_cache(home: Home, env: MutableMapping[str, str] | None = None) -> Path:
    """Have numba keep compiled code in the home, and give the folder used. Call it before importing jitted modules.

    Where the home cannot be written the folder is a temporary one, removed at exit: compiled again by every process,
    but never refused (numba raises at import when it finds no folder to write). An operator's own
    ``NUMBA_CACHE_DIR`` is left alone.
    """
    env = os.environ if env is None else env
    if chosen := env.get("NUMBA_CACHE_DIR"):
        return Path(chosen)
    folder = home.numba_cache
    if not _is_writable(folder):
        folder = Path(tempfile.mkdtemp(prefix="headway-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    env["NUMBA_CACHE_DIR"] = str(folder)
    if numba := sys.modules.get("numba"):
        numba.config.CACHE_DIR = str(folder)  # numba read its environment when it was imported
    return folder


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
