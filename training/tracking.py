"""One MLflow run for each trained bundle, and its registration; run as a process of its own beside the training.

MLflow takes some seconds to import and to make its database. As a child process (``python -m training.tracking``) it
does so while the models are fitted; then it reads what to record, a line of JSON, and answers with one. MLflow's
aliases follow the local registry's, which are the truth: see ``training.tracked_aliases``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from features.errors import StoreError
from features.home import Home
from models.rollouts import WAITING
from training.tracked_aliases import follow

_LONGEST_VALUE: Final = 500
"""MLflow refuses parameters beyond 500 characters in some of its stores."""
_METRICS_AT_ONCE: Final = 1_000
_PARAMS_AT_ONCE: Final = 100
"""So many it takes in one call: a large catalogue has more, six metrics for each action and outcome."""


class TrackingProcess:
    """The child process; start it early, ``record`` when there is something to record.

    Args:
        home: whose MLflow it writes.
    """

    def __init__(self, home: Home) -> None:
        self._database = home.mlflow_db
        # A file and not a pipe: nobody reads while the models are fitted, and a full pipe would stop the child.
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed in __exit__
        self._process = subprocess.Popen(  # noqa: S603  # our own module, with the interpreter that runs us
            [sys.executable, "-m", "training.tracking", str(home.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def record(
        self, jobs: Sequence[Mapping[str, Any]], aliases: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[list[dict[str, Any]], list[str]]:
        """Record and register each job (``record_run``), then move MLflow's aliases (``tracked_aliases.follow``).

        Args:
            jobs: from ``job``.
            aliases: from ``tracked_aliases.wanted_aliases``.

        Returns:
            What was recorded of each job, and what kept aliases from following, for people.

        Raises:
            StoreError: MLflow failed to record, with the last line that it said.
        """
        asked = {"jobs": [dict(one) for one in jobs], "aliases": [dict(one) for one in aliases]}
        answer, _ = self._process.communicate(json.dumps(asked) + "\n")
        if self._process.returncode != 0:
            self._said.seek(0)
            last = self._said.read().strip().rpartition("\n")[2]
            raise StoreError(f"MLflow could not record: {last}; expected {self._database} to be writable")
        told: dict[str, Any] = json.loads(answer.strip().rpartition("\n")[2])
        return told["runs"], told["problems"]

    def __enter__(self) -> TrackingProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without a job the child ends by itself; killed, it could leave a database that is half made.
        if self._process.poll() is None:
            self._process.communicate()
        self._said.close()


def job(
    *,
    journey_id: str,
    name: str,
    bundle: Path,
    alias: str,
    at: int,
    tags: Mapping[str, str],
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    artifacts: Mapping[str, Path],
    texts: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What ``record_run`` records of one bundle.

    Args:
        journey_id: names the experiment.
        name: of the registered model.
        bundle: its folder, where it stays; its boosters are logged with the run too.
        alias: ``champion`` or ``challenger``, or ``waiting`` for none.
        at: now, microseconds since the epoch.
        tags: lineage: snapshot, versions, commit.
        params: of the experiment, flat.
        metrics: flat; what is unknown is left out.
        artifacts: further files and folders by the name of their folder in the run; one that is not there is left out.
        texts: further artefacts by their path in the run.
    """
    return {
        "journey_id": journey_id,
        "name": name,
        "bundle": str(bundle),
        "alias": alias,
        "at": at,
        "tags": dict(tags),
        "params": {key: str(value)[:_LONGEST_VALUE] for key, value in params.items()},
        "metrics": dict(metrics),
        "artifacts": {folder: str(path) for folder, path in artifacts.items()},
        "texts": dict(texts or {}),
    }


def record_run(client: Any, registry: Any, home: Home, document: Mapping[str, Any]) -> dict[str, Any]:
    """Record one run in MLflow and register its bundle: run id, and version in MLflow's registry.

    Args:
        client: an ``MlflowClient``.
        registry: an ``MlflowRegistry``.
        home: where artefacts are kept.
        document: from ``job``.
    """
    from mlflow.entities import Dataset, DatasetInput, Metric, Param

    at_ms = document["at"] // 1000
    name, tags = document["name"], document["tags"]
    run = client.create_run(_experiment(client, home, name), run_name=tags.get("fingerprint"), tags=tags)
    run_id: str = run.info.run_id
    metrics = [Metric(key, value, at_ms, 0) for key, value in document["metrics"].items()]
    params = [Param(key, value) for key, value in document["params"].items()]
    for first in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[first : first + _METRICS_AT_ONCE])
    for first in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[first : first + _PARAMS_AT_ONCE])
    source = json.dumps({"uri": home.snapshot.as_uri()})
    dataset = Dataset(name="snapshot", digest=tags["fingerprint"][:36], source_type="local", source=source)
    client.log_inputs(run_id, [DatasetInput(dataset, [])])
    client.log_artifacts(run_id, document["bundle"], "bundle")
    for folder, path in document["artifacts"].items():
        if Path(path).is_dir():
            client.log_artifacts(run_id, path, folder)
        elif Path(path).is_file():
            client.log_artifact(run_id, path, folder)
    for path, text in document["texts"].items():
        client.log_text(run_id, text, path)
    version = registry.register(Path(document["bundle"]), name, {**tags, "run_id": run_id})
    if document["alias"] != WAITING:
        registry.set_alias(name, document["alias"], version, at=document["at"])
    client.set_terminated(run_id)
    return {"run_id": run_id, "mlflow_version": version}


def _experiment(client: Any, home: Home, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    # Stated, because MLflow's own default is a folder of the process that happens to run.
    return str(client.create_experiment(name, artifact_location=(home.mlflow_artifacts / name).as_uri()))


def _main() -> None:
    from mlflow.tracking import MlflowClient

    from models.mlflow_registry import MlflowRegistry

    # Ctrl-C reaches the whole group of processes; the parent ends this one when it is safe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    home = Home(Path(sys.argv[1]))
    home.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{home.mlflow_db.absolute()}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)  # makes the database
    registry = MlflowRegistry(home.mlflow_db)
    line = sys.stdin.readline()
    if not line:
        return
    asked = json.loads(line)
    runs = [record_run(client, registry, home, one) for one in asked["jobs"]]
    print(json.dumps({"runs": runs, "problems": follow(registry, asked["aliases"])}))


if __name__ == "__main__":
    _main()
