"""From a configuration to the rulebooks that decisions are made by. Importing this imports jitted code."""

from __future__ import annotations

from collections.abc import Mapping

from features.schema import FeatureSet, feature_set
from models.configuration import Configuration
from models.deliberation import Rulebook


def feature_sets_of(configuration: Configuration) -> dict[str, FeatureSet]:
    """The feature set of every declared journey."""
    return {journey.id: feature_set(configuration.taxonomy, journey) for journey in configuration.journeys.journeys}


def rulebooks_of(configuration: Configuration, feature_sets: Mapping[str, FeatureSet]) -> dict[str, Rulebook]:
    """The rulebook of every declared journey.

    Args:
        configuration: a valid one.
        feature_sets: of each of its journeys; they follow from taxonomy and journeys alone.
    """
    return {
        journey.id: Rulebook(
            taxonomy=configuration.taxonomy,
            journey=journey,
            catalogue=configuration.catalogue,
            policy=configuration.policy,
            policy_version=configuration.versions["policy"],
            feature_set=feature_sets[journey.id],
            versions=configuration.versions,
        )
        for journey in configuration.journeys.journeys
    }
