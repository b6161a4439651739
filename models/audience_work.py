"""How an audience is made: pinned events and contacts, blocks of customers as checkpoints, one ranking, one file.

Every step is a function of the spec and of the steps before, so that work which is begun again ends in the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from features.checkpoints import Checkpoints
from features.event_export import export_events
from features.event_log import EventLog
from features.event_store import open_event_log
from features.events import dump_timestamp
from features.home import Home
from features.identity import Identities, Person
from models.audience_selection import is_selected, selection_of
from models.audiences import AudienceRequest, AudienceSpec, Pins, contact_moment
from models.batch_home import opened_records, scorer_of_label
from models.batch_observation import CUSTOMERS_PER_BLOCK, Asked, Scene, customer_blocks, listed_customers
from models.batch_population import CountedContacts, Population, considered_population, joined
from models.batch_ranking import Ranking, constraints_of, ranking_of, removals_of
from models.capacity import capacity_windows
from models.configuration import Configuration
from models.configuration_history import ConfigurationHistory
from models.pinned_contacts import PinnedContacts, pin_contacts
from models.population_codec import dump_population, load_population
from models.ranked_rows import RankedCustomers, schema_of, write_rows
from models.removals import REMOVALS
from models.rulebooks import feature_sets_of, rulebooks_of

Tell = Callable[[str, int, int], None]
"""Told a step, how much of it is done, and of how much; 0 where that is not known yet."""

_USED: Final = msgspec.json.Decoder(dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audience:
    """An audience that was made.

    Attributes:
        left: what was left of each capacity and budget, by id.
        asked_as: the id that a person was asked for by, by the canonical one, where these differ.
    """

    request: AudienceRequest
    pins: Pins
    scene: Scene
    population: Population
    ranking: Ranking
    left: Mapping[str, float]
    asked_as: Mapping[str, str]


def scene_of(request: AudienceRequest, pins: Pins, home: Home, configuration: Configuration) -> Scene:
    """What everybody is ranked by: the pinned configuration and model, narrowed to what was asked for.

    Raises:
        UnknownObject: the bundle is not there.
        BundleError: it cannot be used.
    """
    rulebook = rulebooks_of(configuration, feature_sets_of(configuration))[request.journey_id]
    return Scene(
        rulebook=rulebook,
        scorer=scorer_of_label(home, configuration, rulebook, pins.bundle),
        at=pins.at,
        is_past=True,
        channels=frozenset(request.channels) or None,
        include=frozenset(request.include),
        exclude=frozenset(request.exclude),
        issues=frozenset(request.issues),
        contact_at=request.contact_at,
    )


def pinned_configuration(home: Home, pins: Pins) -> Configuration:
    """The configuration that was pinned.

    Raises:
        UnknownObject: a file of it is not kept.
    """
    return ConfigurationHistory(home).configuration_of(pins.versions)


def made_audience(
    home: Home, spec: AudienceSpec, steps: Checkpoints, *, tell: Tell, size: int = CUSTOMERS_PER_BLOCK
) -> Audience:
    """An audience, from where the work was left.

    Args:
        home: only read.
        spec: what was asked for, and pinned.
        steps: what was done before.
        tell: told how far it is.
        size: customers of a block at most; the same whenever the work goes on.

    Raises:
        UnknownObject: something that was pinned is not there.
        StoreError: a store does not answer, or a step cannot be kept.
        BundleError: the model cannot be used.
    """
    request, pins = spec.request, spec.pins
    configuration = pinned_configuration(home, pins)
    scene = scene_of(request, pins, home, configuration)
    capacity, zone = scene.rulebook.policy.capacity, configuration.taxonomy.time_zone
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_event_log(home, readonly=True)))
        records = opened_records(home, stack)
        since = pins.at - scene.rulebook.plan.looks_back
        tell("contacts", 0, 0)
        contacts = steps.file("contacts", lambda path: pin_contacts(records, path, since=since, now=pins.at))
        windows = capacity_windows(capacity, pins.at, zone)
        taken = steps.data("taken", lambda: msgspec.json.encode(records.capacity_used(windows, now=pins.at)))
        blocks, asked_as = _asked_blocks(request, pins, scene, log, steps, tell, size)
        pinned = PinnedContacts(contacts)
        kept = [
            steps.data(
                f"block-{number:06d}",
                lambda asked=asked: dump_population(considered_block(asked, request, pins, scene, log, pinned)),  # type: ignore[misc]  # bound now
            )
            for number, asked in enumerate(blocks)
        ]
    population = joined([one for one in map(load_population, kept) if one.customer_ids], scene)
    tell("ranking", 0, 0)
    used = _USED.decode(taken)
    given = constraints_of(scene.rulebook, used)
    return Audience(
        request=request,
        pins=pins,
        scene=scene,
        population=population,
        ranking=ranking_of(population, scene, taken=used, sharing=request.sharing),
        left=dict(zip(given.ids, given.most.tolist(), strict=True)),
        asked_as=asked_as,
    )


def _asked_blocks(
    request: AudienceRequest, pins: Pins, scene: Scene, log: EventLog, steps: Checkpoints, tell: Tell, size: int
) -> tuple[Iterator[Asked], Mapping[str, str]]:
    """Who was asked for in blocks, and by which ids where these are not the canonical ones."""
    if request.customer_ids is not None:
        found = people_behind(request.customer_ids, pins, log, tell)
        persons, asked_as = people_once(request.customer_ids, found)
        return _listed_blocks(persons, pins, scene, log, tell, size), asked_as
    tell("events", 0, pins.log_position)
    events = steps.file("events", lambda path: export_events(log, path, until=pins.log_position))
    return _open_blocks(events, scene, pins, tell, size), {}


def _open_blocks(events: Path, scene: Scene, pins: Pins, tell: Tell, size: int) -> Iterator[Asked]:
    done = 0

    def passed(n_events: int) -> None:
        nonlocal done
        done += n_events

    for block in customer_blocks(events, scene, wanted=None, size=size, progress=passed):
        tell("customers", min(done, pins.log_position), pins.log_position)
        yield block


def _listed_blocks(
    persons: Sequence[Person], pins: Pins, scene: Scene, log: EventLog, tell: Tell, size: int
) -> Iterator[Asked]:
    for start in range(0, len(persons), size):
        tell("customers", start, len(persons))
        yield partial(listed_customers, persons[start : start + size], scene, log, until=pins.log_position)


def pinned_identities(customer_ids: Sequence[str], pins: Pins, log: EventLog) -> Identities:
    """Who is who among some ids, as the pinned part of the log has it.

    By position too: what had arrived before the moment may have been written after.
    """
    return log.identities(customer_ids).known_before(pins.at).up_to(pins.log_position)


def people_behind(customer_ids: Sequence[str], pins: Pins, log: EventLog, tell: Tell) -> list[Person]:
    """The person behind each id, as they were known at the moment."""
    found: list[Person] = []
    for start in range(0, len(customer_ids), CUSTOMERS_PER_BLOCK):
        tell("identities", start, len(customer_ids))
        page = customer_ids[start : start + CUSTOMERS_PER_BLOCK]
        graph = pinned_identities(page, pins, log)
        found += [graph.person(graph.owner(one, at=pins.at)) for one in page]
    return found


def people_once(customer_ids: Sequence[str], persons: Sequence[Person]) -> tuple[list[Person], dict[str, str]]:
    """The people behind some ids, each once and in the order in which they were first asked for.

    Returns:
        The people; and the id that asked for each, by the canonical one, where these differ.
    """
    once: dict[str, Person] = {}
    asked_as: dict[str, str] = {}
    for one, person in zip(customer_ids, persons, strict=True):
        if person.customer_id not in once:
            once[person.customer_id] = person
            if person.customer_id != one:
                asked_as[person.customer_id] = one
    return list(once.values()), asked_as


def considered_block(
    asked: Asked, request: AudienceRequest, pins: Pins, scene: Scene, log: EventLog, contacts: CountedContacts
) -> Population:
    """Those of a block who are asked for, after the funnel."""
    observed, conditions = asked(), selection_of(request.conditions)
    return considered_population(
        observed,
        scene,
        graph=pinned_identities(observed.customer_ids, pins, log),
        records=contacts,
        selects=lambda situation: is_selected(conditions, situation),
    )


def write_audience(audience: Audience, output: Path) -> None:
    """Write an audience to a file, which is seen only once it is whole.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    request = audience.request
    rows = RankedCustomers(
        scene=audience.scene,
        population=audience.population,
        ranking=audience.ranking,
        reasons=removals_of(audience.population, audience.ranking),
        bundle=audience.pins.bundle,
        by=request.rank_by,
        asked_as=audience.asked_as,
        more={},
    )
    write_rows(rows, output, request.format, schema_of(request.columns))


def audience_summary(audience: Audience) -> dict[str, Any]:
    """What an audience came to: counts and names of configuration, and nobody in person."""
    population, ranking, rulebook = audience.population, audience.ranking, audience.scene.rulebook
    reasons = removal_counts(population, ranking)
    actions, channels = chosen_counts(ranking, audience.scene)
    return {
        "journey_id": rulebook.journey.id,
        "as_of": dump_timestamp(audience.pins.at),
        "contact_at": contact_moment(audience.request.contact_at, audience.pins),
        "log_position": audience.pins.log_position,
        "customers": len(population.customer_ids),
        "selected": sum(actions.values()),
        "reasons": reasons,
        "actions": actions,
        "channels": channels,
        "net_value": ranking.money,
        "currency": rulebook.taxonomy.currency,
        "capacities": {
            one: {"used": ranking.used[one], "left": audience.left[one], "price": price}
            for one, price in ranking.prices.items()
        },
        "versions": {**audience.pins.versions, "bundle": audience.pins.bundle},
    }


def removal_counts(population: Population, ranking: Ranking) -> dict[str, int]:
    """How many customers get nothing for each reason that there is, in the order of ``REMOVALS``."""
    counts = Counter(removals_of(population, ranking))
    return {one: counts[one] for one in REMOVALS if counts[one]}


def chosen_counts(ranking: Ranking, scene: Scene) -> tuple[dict[str, int], dict[str, int]]:
    """How many customers get each action, and are reached over each channel; only what anybody gets."""
    catalogue = scene.rulebook.catalogue
    treatments = [catalogue.treatment_by_id[one] for one in ranking.treatment_ids]
    chosen = [treatments[place] for place in ranking.allocation.choice.tolist() if place >= 0]
    actions = Counter(catalogue.action_by_treatment[one.id].id for one in chosen)
    channels = Counter(one.channel for one in chosen)
    return dict(sorted(actions.items())), dict(sorted(channels.items()))
