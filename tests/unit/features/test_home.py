"""The home: its layout, its locks, and the environment it prepares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import HomeLocked, Refused
from features.home import Home, lock_file, telemetry_off, use_numba_cache

_HOLD = """
import sys, time
from pathlib import Path
from features.home import lock_file
lock = lock_file(Path(sys.argv[1]), command="holder test")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_environment_names_the_home(tmp_path: Path) -> None:
    """HEADWAY_HOME is the root."""
    assert Home.from_environment({"HEADWAY_HOME": str(tmp_path)}) == Home(tmp_path)


@pytest.mark.parametrize("env", [{}, {"HEADWAY_HOME": ""}])
def test_the_default_home_is_data(env: dict[str, str]) -> None:
    """Unset or empty, the home is ./data, made absolute."""
    assert Home.from_environment(env).root == Path.cwd() / "data"


KEPT_ELSEWHERE = ("events_place", "records_place", "has_events", "has_records")
"""What depends on whether a database keeps events and records."""


def test_the_layout_is_frozen(tmp_path: Path) -> None:
    """Paths under the root are what other versions and the pipeline rely on."""
    home = Home(tmp_path)
    paths = {
        name: str(getattr(home, name).relative_to(tmp_path))
        for name in dir(Home)
        if isinstance(getattr(Home, name), property) and name not in KEPT_ELSEWHERE
    }

    assert paths == {
        "config": "config",
        "configurations": "configurations",
        "state": "state",
        "events_db": "state/events.db",
        "records_db": "state/records.db",
        "online_db": "state/online.db",
        "online_epoch": "state/online-epoch",
        "registry_db": "state/registry.db",
        "snapshot_file": "snapshot.json",
        "snapshot": "snapshot",
        "frames": "frames",
        "bundles": "bundles",
        "champion_file": "bundles/champion.json",
        "challenger_file": "bundles/challenger.json",
        "mlflow_db": "mlflow/mlflow.db",
        "mlflow_artifacts": "mlflow/artifacts",
        "offline": "offline",
        "reports": "reports",
        "drift_reports": "reports/drift",
        "evaluation_reports": "reports/ope",
        "journey_reports": "state/reports",
        "jobs": "state/jobs",
        "rejects": "rejects",
        "numba_cache": "cache/numba",
        "prices": "prices",
        "audit": "audit",
    }
    assert home.kept_configuration("policy", "0a1b") == tmp_path / "configurations" / "policy" / "0a1b.yaml"
    assert home.bundle("nba-card", 3) == tmp_path / "bundles" / "nba-card" / "3"


def test_naming_a_home_makes_nothing(tmp_path: Path) -> None:
    """Only create() touches the disk, and it may be called again."""
    home = Home(tmp_path / "home")
    assert not home.root.exists()

    home.create().create()

    assert home.state.is_dir()
    assert home.config.is_dir()


def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    """It holds personal data; one that was there keeps what its operator chose."""
    (tmp_path / "old").mkdir(mode=0o755)

    modes = [Home(tmp_path / name).create().root.stat().st_mode & 0o777 for name in ("new", "old")]

    assert modes == [0o700, 0o755]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    """A home that is a file is refused, naming it and the variable to set."""
    root = tmp_path / "home"
    root.write_text("not a folder")

    with pytest.raises(Refused, match=r"home.*set HEADWAY_HOME"):
        Home(root).create()


def test_a_second_writer_in_the_process_is_refused(tmp_path: Path) -> None:
    """The lock is exclusive even within one process, and names who holds it."""
    with (
        lock_file(tmp_path / "events.db", command="headway import"),
        pytest.raises(HomeLocked, match=rf"events\.db is being written by process {os.getpid()} \(headway import\)"),
    ):
        lock_file(tmp_path / "events.db")


def test_closing_gives_the_lock_back(tmp_path: Path) -> None:
    """After close, which may be repeated, another writer gets in."""
    first = lock_file(tmp_path / "events.db")
    first.close()
    first.close()

    with lock_file(tmp_path / "events.db", command="second"):
        assert (tmp_path / "events.db.lock").read_text() == f"{os.getpid()}\nsecond\n"


def test_two_files_have_two_locks(tmp_path: Path) -> None:
    """Writing one file does not keep others from writing another."""
    with lock_file(tmp_path / "events.db", command="a"), lock_file(tmp_path / "records.db", command="b"):
        assert (tmp_path / "events.db.lock").read_text().endswith("\na\n")
        assert (tmp_path / "records.db.lock").read_text().endswith("\nb\n")


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    """Another process is refused while the holder lives, and gets the lock when it was killed."""
    target = tmp_path / "events.db"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HomeLocked, match=rf"process {holder.pid} \(holder test\)"):
            lock_file(target)
        holder.kill()
        holder.wait()

    with lock_file(target, command="next"):
        assert (tmp_path / "events.db.lock").read_text() == f"{os.getpid()}\nnext\n"


def test_no_library_calls_home() -> None:
    """Every telemetry switch of the stack is set, others are left alone."""
    env = {"PATH": "/bin"}

    telemetry_off(env)

    assert env == {
        "PATH": "/bin",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "BENTOML_DO_NOT_TRACK": "True",
        "ITERATIVE_DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def test_compiled_code_is_kept_in_the_home(tmp_path: Path) -> None:
    """Numba is told to cache in the home."""
    env: dict[str, str] = {}

    folder = use_numba_cache(Home(tmp_path), env)

    assert folder == tmp_path / "cache" / "numba"
    assert env == {"NUMBA_CACHE_DIR": str(folder)}


def test_an_operators_cache_folder_wins(tmp_path: Path) -> None:
    """A cache folder set from outside is not replaced."""
    env = {"NUMBA_CACHE_DIR": "/elsewhere"}

    assert use_numba_cache(Home(tmp_path), env) == Path("/elsewhere")


def test_an_unwritable_home_still_compiles(tmp_path: Path) -> None:
    """Where the home's cache cannot be made, another folder that can be written is used."""
    root = tmp_path / "home"
    root.write_text("a file, so that no folder can be made below it")
    env: dict[str, str] = {}

    folder = use_numba_cache(Home(root), env)

    assert root not in folder.parents
    assert os.access(folder, os.W_OK)
