"""Past decisions as columns: who was decided on and when, what was chosen, and how likely each arm was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.kernel import Floats, Integers
from models.actions import NO_ACTION
from training.moments import Booleans

LEARNED_FROM: Final = ("live", "imported")
"""Modes of decisions that really reached the customer."""


@dataclass(frozen=True, slots=True, eq=False)
class PastDecisions:
    """The decisions of one journey that models learn from, in the order of their ids.

    Attributes:
        decision_ids: ``(n,)`` text in Arrow.
        customer_ids: ``(n,)`` text in Arrow.
        decided_at: ``(n,)`` microseconds since the epoch.
        as_of: ``(n,)`` the moment that the features were read at.
        arm: ``(n,)`` index of the action in slot 1 in ``arm_ids``.
        arm_ids: ``no_action``, then every action that was ever chosen or could have been, in catalogue order.
        selection_probability: ``(n,)`` logged marginal probability of that action; NaN where none was logged.
        arm_probabilities: ``(n, n_arms)`` of every arm, 0 for one that could not be chosen; NaN likewise.
        vector: ``(n, n_features)`` as recorded; NaN rows where ``has_vector`` is false.
        has_vector: ``(n,)`` whether a vector of the asked version was recorded.
    """

    decision_ids: pa.Array
    customer_ids: pa.Array
    decided_at: Integers
    as_of: Integers
    arm: Integers
    arm_ids: tuple[str, ...]
    selection_probability: Floats
    arm_probabilities: Floats
    vector: Floats
    has_vector: Booleans

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.decided_at)


def past_decisions(
    source: Path | pa.Table,
    journey_id: str,
    action_ids: Sequence[str],
    *,
    features_version: str,
    n_features: int,
) -> PastDecisions:
    """The live and imported decisions of one journey.

    A decision whose chosen action is no longer in the catalogue is left out: nothing could be done with its effect.

    Args:
        source: the records' Parquet export, or its columns.
        journey_id: the journey.
        action_ids: the catalogue's actions, in order.
        features_version: recorded vectors of other versions are not used.
        n_features: length of such a vector.
    """
    rows = pq.read_table(source) if isinstance(source, Path) else source
    rows = rows.filter(
        pc.and_(pc.equal(rows["journey_id"], journey_id), pc.is_in(rows["mode"], pa.array(LEARNED_FROM, pa.string())))
    ).combine_chunks()
    names = (NO_ACTION, *action_ids)
    candidate_rows, candidate_arms, candidate_probabilities = _candidates(_column(rows, "candidates"), names)
    arm = _chosen(_column(rows, "selected"), rows.num_rows, names)
    rows = rows.filter(pa.array(arm >= 0))
    place = np.cumsum(arm >= 0) - 1
    kept = (arm[candidate_rows] >= 0) & (candidate_arms >= 0)
    table = np.zeros((rows.num_rows, len(names)))
    np.add.at(table, (place[candidate_rows[kept]], candidate_arms[kept]), candidate_probabilities[kept])
    arm = arm[arm >= 0]
    possible = np.asarray((np.nan_to_num(table) > 0).any(axis=0), dtype=np.bool_).reshape(len(names))
    possible[arm] = True
    possible[0] = True
    taken = table[np.arange(len(arm)), arm]
    table[np.isnan(table).any(axis=1)] = np.nan
    number = np.cumsum(possible) - 1
    vector, has_vector = _vectors(rows, features_version, n_features)
    return PastDecisions(
        decision_ids=_text(rows, "decision_id"),
        customer_ids=_text(rows, "customer_id"),
        decided_at=_moments(rows, "decided_at"),
        as_of=_moments(rows, "as_of"),
        arm=number[arm],
        arm_ids=tuple(name for name, is_possible in zip(names, possible, strict=True) if is_possible),
        selection_probability=np.where(taken > 0, taken, np.nan),
        arm_probabilities=table[:, possible],
        vector=vector,
        has_vector=has_vector,
    )


def _candidates(column: pa.ListArray, names: tuple[str, ...]) -> tuple[Integers, Integers, Floats]:
    """Of every candidate of every decision: the row, the arm (-1: unknown), the marginal selection probability."""
    flat = column.flatten()
    arms = _arms(pc.struct_field(flat, "action_id"), names)
    probability = pc.struct_field(flat, "selection_probability").fill_null(np.nan).to_numpy(zero_copy_only=False)
    return _parents(column), arms, np.asarray(probability, dtype=np.float64)


def _chosen(column: pa.ListArray, n: int, names: tuple[str, ...]) -> Integers:
    """``(n,)`` the arm in slot 1: ``no_action`` where no slot was filled, -1 for an unknown action."""
    flat = column.flatten()
    slot = pc.struct_field(flat, "slot").to_numpy(zero_copy_only=False)
    arms = np.zeros(n, dtype=np.int64)
    first = slot == slot.min() if len(slot) else np.zeros(0, dtype=np.bool_)
    arms[_parents(column)[first]] = _arms(pc.struct_field(flat, "action_id"), names)[first]
    return arms


def _parents(column: pa.ListArray) -> Integers:
    return np.asarray(pc.list_parent_indices(column).to_numpy(), dtype=np.int64)


def _arms(action_ids: pa.Array, names: tuple[str, ...]) -> Integers:
    index = pc.index_in(action_ids.cast(pa.string()), value_set=pa.array(names, pa.string())).fill_null(-1)
    return np.array(index.to_numpy(zero_copy_only=False), dtype=np.int64)


def _vectors(rows: pa.Table, features_version: str, n_features: int) -> tuple[Floats, Booleans]:
    column = _column(rows, "vector")
    versions = pc.map_lookup(_column(rows, "versions"), "features", "first")
    fits = pc.and_(pc.equal(versions, features_version), pc.equal(pc.list_value_length(column), n_features))
    has_vector = np.asarray(fits.fill_null(False).to_numpy(zero_copy_only=False), dtype=np.bool_)
    vector = np.full((rows.num_rows, n_features), np.nan)
    vector[has_vector] = (
        column.filter(pa.array(has_vector)).flatten().to_numpy(zero_copy_only=False).reshape(-1, n_features)
    )
    return vector, has_vector


def _column(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _text(rows: pa.Table, name: str) -> pa.Array:
    return _column(rows, name).cast(pa.string())


def _moments(rows: pa.Table, name: str) -> Integers:
    return np.array(_column(rows, name).cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
