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


class StallMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How well the stall was foreseen on moments after the cut-off; what is unknown is null."""

    auc: float | None
    brier: float | None
    ece: float | None
    slope: float | None


class PolicyMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What the model would have earned on held-out decisions; what is unknown is null.

    Attributes:
        value: money per decision over doing nothing.
        best_single: the same of the best single action.
        random: the same of a random one.
        ess: effective sample size behind it.
    """

    value: float | None
    best_single: float | None
    random: float | None
    ess: float | None


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version.

    Attributes:
        aliases: that are on it.
        trained_at: moment of the snapshot that it was trained on; null where its manifest cannot be read.
        fingerprint: of that snapshot.
        features: version of the feature set that it reads.
        configuration: versions of the files that it was trained under.
        decisions: that it learned from.
        moments: that it learned from.
        stall: headline metrics, as they were when it was trained.
        policy: likewise.
    """

    version: int
    aliases: tuple[str, ...]
    trained_at: Timestamp | None
    fingerprint: str | None
    features: str | None
    configuration: dict[str, str]
    decisions: int | None
    moments: int | None
    stall: StallMetrics
    policy: PolicyMetrics


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The registered model of one journey.

    Attributes:
        name: `nba-` and the journey's id.
        serving: label of the bundle that decides in this process now; null where none does.
        challenging: likewise of the bundle of the challenger's arm.
        aliases: version that each alias is on.
        versions: the newest first.
        promotions: entries of the promotion log, the newest first, as it holds them.
    """

    name: str
    journey_id: str
    serving: str | None
    challenging: str | None
    aliases: dict[str, int]
    versions: tuple[ModelVersion, ...]
    promotions: tuple[Json, ...]


class ModelsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every registered model.

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
        reason: kept in the promotion log.
    """

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
