"""What is sent to MLflow for a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from features.home import Home
from training.tracking import job, record_run


class Client:
    """Takes as much in one call as MLflow does."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.params: dict[str, str] = {}

    def log_batch(self, run_id: str, *, metrics: list[Any] | None = None, params: list[Any] | None = None) -> None:
        """As ``MlflowClient.log_batch``."""
        assert len(metrics or []) <= 1_000
        assert len(params or []) <= 100
        self.metrics |= {one.key: one.value for one in metrics or []}
        self.params |= {one.key: one.value for one in params or []}

    def create_run(self, *_: Any, **__: Any) -> SimpleNamespace:
        """As ``MlflowClient.create_run``."""
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def get_experiment_by_name(self, _: str) -> SimpleNamespace:
        """As ``MlflowClient.get_experiment_by_name``."""
        return SimpleNamespace(experiment_id="1")

    def log_inputs(self, *_: Any) -> None:
        """As ``MlflowClient.log_inputs``."""

    def log_artifacts(self, *_: Any) -> None:
        """As ``MlflowClient.log_artifacts``."""

    def log_text(self, *_: Any) -> None:
        """As ``MlflowClient.log_text``."""

    def set_terminated(self, _: str) -> None:
        """As ``MlflowClient.set_terminated``."""


class Registry:
    """A registry with one version."""

    def register(self, *_: Any) -> int:
        """As ``Registry.register``."""
        return 1

    def set_alias(self, *_: Any, **__: Any) -> None:
        """As ``Registry.set_alias``."""


def test_a_large_catalogue_is_tracked_whole(tmp_path: Path) -> None:
    """MLflow takes 1,000 metrics and 100 parameters in one call; a run may have more."""
    metrics = {f"uplift.o.a{number}.auuc": float(number) for number in range(2_500)}
    document = job(
        journey_id="trial",
        name="nba-trial",
        bundle=tmp_path,
        alias="champion",
        at=1,
        tags={"fingerprint": "f"},
        params={f"p{number}": number for number in range(250)},
        metrics=metrics,
        artifacts={},
    )
    client = Client()

    assert record_run(client, Registry(), Home(tmp_path), document) == {"run_id": "r1", "mlflow_version": 1}
    assert (client.metrics, len(client.params)) == (metrics, 250)
