"""What the serving process must not import comes with no module that scores."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import json, sys
import models.scoring, models.registry
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_scoring_imports_no_training_library() -> None:
    """A broken LightGBM text aborts the process that parses it, and each of these takes seconds to import."""
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True).stdout))
    assert "numba" in loaded
    assert loaded & {"lightgbm", "sklearn", "pandas", "mlflow", "feast", "evidently"} == set()
