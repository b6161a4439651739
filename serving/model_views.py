"""What the calls on registered models take and answer: shapes on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from serving.schemas import Timestamp

Json = dict[str, Any]

LONGEST_REASON: Final = 500
SHOWN_VERSIONS: Final = 50
SHOWN_PROMOTIONS: Final = 100


class PlacedAlias(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alias is.

    Attributes:
        is_intact: the version's manifest is the one that the alias was put on.
    """

    version: int
    set_at: Timestamp
    is_intact: bool


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version; what its manifest would say is null where that cannot be read.

    Attributes:
        aliases: that are on it.
        is_damaged: its manifest cannot be read.
        trained_at: moment of the snapshot that it was trained on.
        fingerprint: of that snapshot.
        features_version: of the feature set that it reads.
        configuration: versions of the files that it was trained under.
        training: how far the log went then, and how much was learned from.
        metrics: headline numbers on held-out rows, as they were then.
    """

    version: int
    aliases: tuple[str, ...]
    is_damaged: bool
    trained_at: Timestamp | None
    manifest_sha256: str | None
    fingerprint: str | None
    features_version: str | None
    n_features: int | None
    configuration: dict[str, Any] | None
    training: Json | None
    metrics: Json | None


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One registered model.

    Attributes:
        name: `nba-` and the journey's id.
        journey_id: null where nothing tells it.
        serving: label of the bundle that decides in this process now; null where none does.
        challenging: likewise of the bundle of the challenger's arm.
        versions: the newest first; at most 50.
        promotions: moves by the promotion log, the newest first, each as its last entry says; at most 100.
    """

    name: str
    journey_id: str | None
    serving: str | None
    challenging: str | None
    aliases: dict[str, PlacedAlias]
    versions: tuple[ModelVersion, ...]
    promotions: tuple[Json, ...]


class ModelsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The model of every journey, and what else is registered.

    Attributes:
        share: part of the population that the challengers decide for, by the policy in force.
    """

    models: tuple[ListedModel, ...]
    share: float


class PromotionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be promoted.

    Attributes:
        version: the challenger where none is named.
        share: the part of the population that it is to decide for as the challenger: 0.01, 0.1 and 0.5 are usual steps,
            0 ends the rollout. Without it the version becomes the champion.
        dry_run: ask the gate, and change nothing.
        force: without asking the gate; needs a `reason`.
        reason: why; kept in the promotion log.
    """

    version: Annotated[int, Meta(ge=1)] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    dry_run: bool = False
    force: bool = False
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)] = ""


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the champion before is to come back.

    Attributes:
        version: the champion that is to be left; refused where another is by now. With it, sending the request again
            is safe; without it twice goes back two.
        reason: kept in the promotion log.
    """

    version: Annotated[int, Meta(ge=1)] | None = None
    reason: Annotated[str, Meta(max_length=LONGEST_REASON)] = ""


class ShareChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the challenger's share.

    Attributes:
        policy_version: of the policy that holds from now on; decisions name it.
    """

    before: float
    after: float
    policy_version: str


class PromotionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a promotion or a rollback.

    Attributes:
        done: aliases or share were changed; false after a dry run.
        verdict: what the gate found; null where it was not asked.
        entry: of the promotion log; null after a dry run.
        share: where the challenger's share was changed.
    """

    done: bool
    verdict: Json | None
    entry: Json | None
    share: ShareChange | None = None
