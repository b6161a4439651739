"""What the serving process loads: nothing that takes seconds, and nothing jitted before its cache folder is set."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("feast", "lightgbm", "mlflow", "pandas", "sklearn", "evidently", "dvc")


def _loaded_by(statements: str, *names: str) -> list[str]:
    code = f"{statements}\nimport sys\nprint([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return [name for name in names if f"'{name}'" in done.stdout]


def test_serving_loads_no_heavy_library() -> None:
    """Neither the service nor its composition root imports one of them."""
    assert _loaded_by("import serving.service\nimport serving.bootstrap", *HEAVY) == []


def test_the_service_loads_nothing_jitted_by_itself() -> None:
    """Numba's cache folder is set when the worker starts, and must be set before."""
    assert _loaded_by("import serving.service", "numba") == []


def test_the_commands_load_no_service() -> None:
    """``headway keys list`` answers at once."""
    commands = "import serving.commands\nimport serving.doctor_commands"
    assert _loaded_by(commands, "bentoml", "litestar", "sqlalchemy", "numba") == []


def test_the_client_loads_nothing_of_the_server() -> None:
    """A caller waits for no web framework, and needs no model library."""
    server = ("bentoml", "litestar", "starlette", "sqlalchemy", "numba", "numpy", "pyarrow", "duckdb", "serving.api")
    assert _loaded_by("import serving.client.headway", *HEAVY, *server) == []
