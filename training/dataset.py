"""The training frames of one journey: moments with what followed, and past decisions with what came of them.

Frames hold personal data. They are kept as Parquet under ``frames/<journey_id>/`` and never cached or published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features import kernel
from features.errors import Refused
from features.event_tables import identities_of
from features.history import EventTable, reads_at, transitions
from features.identity import Identities
from features.journeys import PROGRESS, Journey
from features.kernel import Floats, Integers
from features.schema import FeatureSet
from features.stable_hash import stable_unit
from features.subjects import forget_subjects, write_subjects
from models.actions import Catalogue
from training.moments import HOUR_US, Aftermath, Booleans, Moments, labelled_moments, settled
from training.params import MomentParams
from training.past_decisions import PastDecisions, past_decisions
from training.responses import Reported, Responses, reported_outcomes, responses

MOMENTS_FILE: Final = "moments.parquet"
DECISIONS_FILE: Final = "decisions.parquet"
_PROBABILITY: Final = "probability:"
_RESPONSE: Final = "response:"
_SETTLED: Final = "settled_after:"
_FEATURE: Final = "feature:"
_AFTER: Final = "after:"
_HAPPENED: Final = "happened:"
_AFTERMATH: Final = tuple(one.name for one in fields(Aftermath))
_ARMS: Final = b"headway.arms"
_OBSERVED: Final = b"headway.observed_until"


@dataclass(frozen=True, slots=True, eq=False)
class MomentFrame:
    """Moments of open journeys; see ``training.moments``.

    Attributes:
        customer_ids: ``(n,)`` text.
        at: ``(n,)`` microseconds since the epoch.
        stage: ``(n,)`` index of the stage.
        after: what followed.
        happened: ``(n,)`` by forecast outcome, whether it happened within its window; NaN while that is not over.
        x: ``(n, n_features)`` as of the moment; NaN means unknown.
    """

    customer_ids: NDArray[np.str_]
    at: Integers
    stage: Integers
    after: Aftermath
    happened: dict[str, Floats]
    x: Floats

    def __len__(self) -> int:
        """Number of moments."""
        return len(self.at)


@dataclass(frozen=True, slots=True, eq=False)
class DecisionFrame:
    """Past decisions; see ``training.past_decisions``.

    Attributes:
        customer_ids: ``(n,)`` text, as recorded.
        people: ``(n,)`` whom these are known to have been by now: what is of one person is never torn apart between
            halves that are learned from and judged on.
        at: ``(n,)`` when it was decided, microseconds since the epoch.
        arm: ``(n,)`` index into ``arm_ids``; 0 is no action.
        arm_ids: ``no_action`` and the actions.
        selection_probability: ``(n,)`` logged, marginal, of the arm taken; NaN where none was logged.
        arm_probabilities: ``(n, n_arms)`` likewise of every arm.
        response: ``(n,)`` by outcome; NaN while its window is not over.
        recorded: ``(n,)`` whether the features are those of the record; else they were rebuilt from the events.
        x: ``(n, n_features)`` as of the decision; NaN means unknown.
        observed_until: end of observation, microseconds since the epoch.
        settled_after: ``(n,)`` by outcome, microseconds after the decision; see ``training.responses.Responses``.
            Without those of an outcome, decisions whose window is not over are left out.
    """

    customer_ids: NDArray[np.str_]
    people: NDArray[np.str_]
    at: Integers
    arm: Integers
    arm_ids: tuple[str, ...]
    selection_probability: Floats
    arm_probabilities: Floats
    response: dict[str, Floats]
    recorded: Booleans
    x: Floats
    observed_until: int = 0
    settled_after: Mapping[str, Integers] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.at)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """What one journey is learned from.

    Attributes:
        journey_id: the journey.
        feature_names: columns of ``x``.
        moments: for the stall model.
        decisions: for the uplift models.
    """

    journey_id: str
    feature_names: tuple[str, ...]
    moments: MomentFrame
    decisions: DecisionFrame

    def customer_ids(self) -> set[str]:
        """Everyone who is in either frame."""
        return {str(one) for ids in (self.moments.customer_ids, self.decisions.customer_ids) for one in set(ids)}


def build_frames(
    events: Path | pa.Table,
    records: Path | pa.Table,
    *,
    table: EventTable,
    feature_set: FeatureSet,
    journey: Journey,
    catalogue: Catalogue,
    observed_until: int,
    params: MomentParams,
) -> Frames:
    """The frames of one journey from a frozen snapshot.

    Args:
        events: the events of the snapshot.
        records: the decision records of the snapshot.
        table: the events as ``features.history`` reads them.
        feature_set: of the journey.
        journey: as declared.
        catalogue: the actions; those of other journeys are no arms here.
        observed_until: end of observation, microseconds since the epoch.
        params: which moments become rows.
    """
    moments = moment_frame(table, feature_set, journey, observed_until=observed_until, params=params)
    moments = replace(
        moments, happened=forecast_outcomes(events, moments, table, feature_set, journey, observed_until=observed_until)
    )
    actions = [action.id for action in catalogue.actions if action.journey == journey.id]
    past = past_decisions(
        records, journey.id, actions, features_version=feature_set.version, n_features=len(feature_set.names)
    )
    decisions = decision_frame(events, past, table, feature_set, journey, observed_until=observed_until)
    return Frames(journey.id, feature_set.names, moments, decisions)


def moment_frame(
    table: EventTable, feature_set: FeatureSet, journey: Journey, *, observed_until: int, params: MomentParams
) -> MomentFrame:
    """The moments of one journey with features and labels.

    Only moments at which the journey was known to be open are kept: at any other no decision would be asked for.
    """
    idle_us = [round(hours * HOUR_US) for hours in params.idle_hours]
    moments = labelled_moments(table, feature_set, idle_us=idle_us, observed_until=observed_until)
    moments = moments.where(_sampled(moments, table, params.max_rows))
    customers = table.customers.take(pa.array(moments.customer)).cast(pa.string())
    x = reads_at(table, feature_set, customers, moments.at)
    known_open = x[:, feature_set.names.index("journey_status")] == kernel.OPEN
    kept = moments.where(known_open)
    return MomentFrame(
        customer_ids=_names(customers)[known_open],
        at=kept.at,
        stage=kept.stage,
        after=kept.after,
        happened={},
        x=x[known_open],
    )


def forecast_outcomes(
    events: Path | pa.Table,
    moments: MomentFrame,
    table: EventTable,
    feature_set: FeatureSet,
    journey: Journey,
    *,
    observed_until: int,
) -> dict[str, Floats]:
    """By outcome that is declared to be forecast, ``(n,)`` 0 or 1 of each moment; NaN while its window is not over."""
    forecast = [outcome for outcome in journey.outcomes if outcome.forecast]
    if not forecast:
        return {}
    graph = identities_of(events)
    course, _ = settled(table)
    codes, _ = transitions(course, feature_set)
    found = {}
    for outcome in forecast:
        reported = of_people(graph, reported_outcomes(events, outcome.id))
        found[outcome.id] = responses(
            outcome,
            # A moment is no decision: what came back for a decision counts for its customer.
            decision_ids=pa.array([f"moment {i}" for i in range(len(moments))], pa.string()),
            customer_ids=pa.array(moments.customer_ids.tolist(), pa.string()),
            decided_at=moments.at,
            table=course,
            codes=codes,
            kind=-1 if outcome.event == PROGRESS else feature_set.kind_index[outcome.event],
            reported=replace(reported, decision_ids=pa.nulls(len(reported.at), pa.string())),
            observed_until=observed_until,
        ).value
    return found


def _sampled(moments: Moments, table: EventTable, max_rows: int) -> Booleans:
    """Whole customers by stable hash, so that about ``max_rows`` moments are left."""
    if len(moments) <= max_rows:
        return np.ones(len(moments), dtype=np.bool_)
    share = max_rows / len(moments)
    chosen = np.array([stable_unit("moments", name) < share for name in table.customers.to_pylist()], dtype=np.bool_)
    return chosen[moments.customer]


def decision_frame(
    events: Path | pa.Table,
    past: PastDecisions,
    table: EventTable,
    feature_set: FeatureSet,
    journey: Journey,
    *,
    observed_until: int,
) -> DecisionFrame:
    """Past decisions with features as of the decision and the response on every declared outcome.

    Features are those of whom the customer was known to be then; what came of it is looked for at whom they are known
    to have been now.
    """
    graph = identities_of(events)
    people, came = what_came(
        events,
        past.decision_ids,
        past.customer_ids,
        past.decided_at,
        table=table,
        feature_set=feature_set,
        journey=journey,
        observed_until=observed_until,
    )
    x = past.vector
    rebuilt = ~past.has_vector
    if rebuilt.any():
        at = past.as_of[rebuilt]
        customers = _owners_then(graph, past.customer_ids.filter(pa.array(rebuilt)), at)
        x[rebuilt] = reads_at(table, feature_set, customers, at)
    return DecisionFrame(
        customer_ids=_names(past.customer_ids),
        people=_names(people),
        at=past.decided_at,
        arm=past.arm,
        arm_ids=past.arm_ids,
        selection_probability=past.selection_probability,
        arm_probabilities=past.arm_probabilities,
        response={name: one.value for name, one in came.items()},
        recorded=past.has_vector,
        x=x,
        observed_until=observed_until,
        settled_after={name: one.settled_after for name, one in came.items()},
    )


def what_came(
    events: Path | pa.Table,
    decision_ids: pa.Array,
    customer_ids: pa.Array,
    decided_at: Integers,
    *,
    table: EventTable,
    feature_set: FeatureSet,
    journey: Journey,
    observed_until: int,
) -> tuple[pa.Array, dict[str, Responses]]:
    """Whom decisions were on, as is known by now, and what came of each by outcome.

    Args:
        events: of the snapshot.
        decision_ids: ``(n,)`` text in Arrow.
        customer_ids: ``(n,)`` likewise, as recorded.
        decided_at: ``(n,)`` microseconds since the epoch.
        table: the events as ``features.history`` reads them.
        feature_set: of the journey.
        journey: as declared.
        observed_until: end of observation, microseconds since the epoch.
    """
    graph = identities_of(events)
    people = owners(graph, customer_ids, decided_at)
    course, _ = settled(table)
    codes, _ = transitions(course, feature_set)
    return people, {
        outcome.id: responses(
            outcome,
            decision_ids=decision_ids,
            customer_ids=people,
            decided_at=decided_at,
            table=course,
            codes=codes,
            kind=-1 if outcome.event == PROGRESS else feature_set.kind_index[outcome.event],
            reported=of_people(graph, reported_outcomes(events, outcome.id)),
            observed_until=observed_until,
        )
        for outcome in journey.outcomes
    }


def owners(graph: Identities, customer_ids: pa.Array, at: Integers) -> pa.Array:
    """Whose the events of ids at some times are, as is known now."""
    if not graph.claims:
        return customer_ids
    pairs = zip(customer_ids.to_pylist(), at.tolist(), strict=True)
    return pa.array([graph.owner(one, at=moment) for one, moment in pairs], pa.string())


def _owners_then(graph: Identities, customer_ids: pa.Array, at: Integers) -> pa.Array:
    """Whom ids belonged to at some moments, as was known strictly before each."""
    if not graph.claims:
        return customer_ids
    named = graph.customer_ids
    bearing = {one: graph.bearing_on(one) for one in customer_ids.unique().to_pylist() if one in named}
    owners = [
        bearing[one].known_before(moment).owner(one, at=moment) if one in bearing else one
        for one, moment in zip(customer_ids.to_pylist(), at.tolist(), strict=True)
    ]
    return pa.array(owners, pa.string())


def of_people(graph: Identities, reported: Reported) -> Reported:
    """Reports as of whom they are known to be about now."""
    return replace(reported, customer_ids=owners(graph, reported.customer_ids, reported.at))


def write_frames(frames: Frames, folder: Path) -> None:
    """Keep the frames as two Parquet files in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    forget_subjects(folder)
    moments, decisions = frames.moments, frames.decisions
    columns: dict[str, object] = {
        "customer_id": moments.customer_ids,
        "at": moments.at,
        "stage": moments.stage,
        **{f"{_AFTER}{name}": getattr(moments.after, name) for name in _AFTERMATH},
        **{f"{_HAPPENED}{name}": happened for name, happened in moments.happened.items()},
        **_features(moments.x, frames.feature_names),
    }
    pq.write_table(pa.table(columns), folder / MOMENTS_FILE, compression="zstd", compression_level=1)
    columns = {
        "customer_id": decisions.customer_ids,
        "person": decisions.people,
        "at": decisions.at,
        "arm": decisions.arm,
        "selection_probability": decisions.selection_probability,
        "recorded": decisions.recorded,
        **{f"{_PROBABILITY}{name}": decisions.arm_probabilities[:, i] for i, name in enumerate(decisions.arm_ids)},
        **{f"{_RESPONSE}{name}": response for name, response in decisions.response.items()},
        **{f"{_SETTLED}{name}": after for name, after in decisions.settled_after.items()},
        **_features(decisions.x, frames.feature_names),
    }
    facts = {_ARMS: "\n".join(decisions.arm_ids).encode(), _OBSERVED: str(decisions.observed_until).encode()}
    rows = pa.table(columns).replace_schema_metadata(facts)
    pq.write_table(rows, folder / DECISIONS_FILE, compression="zstd", compression_level=1)
    write_subjects(folder, frames.customer_ids())


def read_frames(journey_id: str, folder: Path) -> Frames:
    """The frames that ``write_frames`` kept; of before it kept when outcomes were settled they come without that.

    Raises:
        Refused: another version of Headway wrote them, with other columns.
    """
    moments, decisions = (pq.read_table(folder / name) for name in (MOMENTS_FILE, DECISIONS_FILE))
    if missing := [f"{_AFTER}{name}" for name in _AFTERMATH if f"{_AFTER}{name}" not in moments.column_names]:
        raise Refused(
            f"{folder / MOMENTS_FILE} is without {', '.join(missing)}, expected frames that this version of Headway "
            f"wrote: run `headway train`"
        )
    names = _named(moments, _FEATURE)
    arm_ids = tuple(decisions.schema.metadata[_ARMS].decode().split("\n"))
    return Frames(
        journey_id,
        names,
        MomentFrame(
            customer_ids=_names(moments["customer_id"]),
            at=_numbers(moments, "at", np.int64),
            stage=_numbers(moments, "stage", np.int64),
            after=Aftermath(**{name: _numbers(moments, f"{_AFTER}{name}", np.float64) for name in _AFTERMATH}),
            happened={name: _numbers(moments, f"{_HAPPENED}{name}", np.float64) for name in _named(moments, _HAPPENED)},
            x=_matrix(moments, _FEATURE, names),
        ),
        DecisionFrame(
            customer_ids=_names(decisions["customer_id"]),
            people=_names(decisions["person"]),
            at=_numbers(decisions, "at", np.int64),
            arm=_numbers(decisions, "arm", np.int64),
            arm_ids=arm_ids,
            selection_probability=_numbers(decisions, "selection_probability", np.float64),
            arm_probabilities=_matrix(decisions, _PROBABILITY, arm_ids),
            response={
                name: _numbers(decisions, f"{_RESPONSE}{name}", np.float64) for name in _named(decisions, _RESPONSE)
            },
            recorded=_numbers(decisions, "recorded", np.bool_),
            x=_matrix(decisions, _FEATURE, names),
            observed_until=int(decisions.schema.metadata.get(_OBSERVED, 0)),
            settled_after={
                name: _numbers(decisions, f"{_SETTLED}{name}", np.int64) for name in _named(decisions, _SETTLED)
            },
        ),
    )


def _features(x: Floats, names: tuple[str, ...]) -> dict[str, Floats]:
    return {f"{_FEATURE}{name}": x[:, i] for i, name in enumerate(names)}


def _named(rows: pa.Table, prefix: str) -> tuple[str, ...]:
    return tuple(name.removeprefix(prefix) for name in rows.column_names if name.startswith(prefix))


def _matrix(rows: pa.Table, prefix: str, names: tuple[str, ...]) -> Floats:
    matrix = np.empty((rows.num_rows, len(names)))
    for i, name in enumerate(names):
        matrix[:, i] = rows[f"{prefix}{name}"].to_numpy()
    return matrix


def _numbers(rows: pa.Table, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    return np.array(rows[name].to_numpy(), dtype=dtype)


def _names(column: pa.Array | pa.ChunkedArray) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), dtype=np.str_)
