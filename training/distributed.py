"""A booster fitted by several machines through Dask, where a table is larger than the memory of one.

Needs the optional extra ``distributed``. What comes out is LightGBM's text, which bundles are made of like any other.
"""

from __future__ import annotations

from typing import Any

from models.boosting import Boosting, Objective


def distributed_booster(
    features: Any,
    label: Any,
    *,
    client: Any,
    objective: Objective,
    boosting: Boosting,
    seed: int,
    weight: Any = None,
) -> str:
    """LightGBM's text of a booster fitted on rows that lie on the workers of a Dask cluster.

    Each worker builds histograms of its own rows and they are added up (LightGBM's data-parallel learner), so that the
    splits are those of one machine up to the bins, which are found on samples of the parts, and rounding. There is no
    held-out set: ``boosting.rounds`` trees are grown, a number that a local fit on a sample finds.

    Args:
        features: Dask data frame of numbers, its columns in the order of the model vector; NaN means unknown. Parts
            that were persisted (``features.persist()``) stay where they are.
        label: Dask series, divided like ``features``: 0 or 1, or an amount.
        client: ``dask.distributed.Client``; a worker uses as many threads as it was given.
        objective: ``binary`` or ``regression``.
        boosting: how it grows.
        seed: fixes everything that is drawn.
        weight: Dask series of weights, divided likewise.

    References:
        Ke et al. 2017, LightGBM: a highly efficient gradient boosting decision tree; Meng et al. 2016, A
        communication-efficient parallel algorithm for decision tree.
    """
    from lightgbm.dask import DaskLGBMClassifier, DaskLGBMRegressor  # needs the extra

    learner = DaskLGBMClassifier if objective == "binary" else DaskLGBMRegressor
    model = learner(
        client=client,
        objective=objective,
        tree_learner="data",
        n_estimators=boosting.rounds,
        num_leaves=boosting.num_leaves,
        min_child_samples=boosting.min_rows,
        learning_rate=boosting.learning_rate,
        reg_lambda=boosting.lambda_l2,
        colsample_bytree=boosting.feature_fraction,
        max_bin=boosting.max_bin,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        verbosity=-1,
    )
    model.fit(features, label, sample_weight=weight)
    return str(model.booster_.model_to_string())
