"""How a list is screened: at once where it is short, else block by block as work that a kill does not lose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from features.checkpoints import Checkpoints
from features.event_log import EventLog
from features.event_store import open_event_log
from features.events import dump_timestamp
from features.home import Home
from features.identity import Person
from features.log_files import log_writer
from models.audience_work import Tell, people_behind, pinned_configuration
from models.audiences import Pins, contact_moment
from models.batch_home import opened_records, scorer_of_label
from models.batch_observation import Scene, listed_customers
from models.batch_population import CountedContacts
from models.pinned_contacts import PinnedContacts, pin_contacts
from models.rulebooks import feature_sets_of, rulebooks_of
from models.screen_lists import FileFormat, ScreenRequest, ScreenRow, ScreenSpec, Verdict
from models.screening import first_rows, screened_rows, verdict_counts

ROWS_PER_BLOCK: Final = 4_096
SCREENED_COLUMNS: Final = ("row", "customer_id", "action_id", "channel", "kept", "reason", "rule_ids", "treatment_ids")
_SEPARATOR: Final = " "
_OWNER_ONLY: Final = 0o600
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_VERDICTS: Final = msgspec.msgpack.Decoder(list[Verdict]).decode
_SCHEMA: Final = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("action_id", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("rule_ids", pa.string(), nullable=False),
        pa.field("treatment_ids", pa.string(), nullable=False),
    ]
)


def screened_at_once(home: Home, request: ScreenRequest, pins: Pins, *, tell: Tell) -> list[Verdict]:
    """A short list, screened; the home is only read.

    Raises:
        UnknownObject: something that was pinned is not there.
        StoreError: a store does not answer.
        BundleError: the model cannot be used.
    """
    scene = _scene(home, request, pins)
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_event_log(home, readonly=True)))
        records = opened_records(home, stack)
        return [
            one
            for screened in screened_blocks(request.rows, scene, pins, log, records=records, tell=tell)
            for one in screened()
        ]


def screened_list(home: Home, spec: ScreenSpec, steps: Checkpoints, *, tell: Tell) -> list[Verdict]:
    """A list, screened from where the work was left; as ``screened_at_once``, which finds the same."""
    request, pins = spec.request, spec.pins
    scene = _scene(home, request, pins)
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_event_log(home, readonly=True)))
        records = opened_records(home, stack)
        since = pins.at - scene.rulebook.plan.looks_back
        tell("contacts", 0, 0)
        contacts = steps.file("contacts", lambda path: pin_contacts(records, path, since=since, now=pins.at))
        blocks = screened_blocks(request.rows, scene, pins, log, records=PinnedContacts(contacts), tell=tell)
        kept = [
            steps.data(f"block-{number:06d}", lambda screened=screened: _ENCODE(screened()))  # type: ignore[misc]  # bound now
            for number, screened in enumerate(blocks)
        ]
    return [one for data in kept for one in _VERDICTS(data)]


def _scene(home: Home, request: ScreenRequest, pins: Pins) -> Scene:
    configuration = pinned_configuration(home, pins)
    rulebook = rulebooks_of(configuration, feature_sets_of(configuration))[request.journey_id]
    scorer = scorer_of_label(home, configuration, rulebook, pins.bundle)
    return Scene(rulebook=rulebook, scorer=scorer, at=pins.at, is_past=True, contact_at=request.contact_at)


def screened_blocks(
    rows: Sequence[ScreenRow],
    scene: Scene,
    pins: Pins,
    log: EventLog,
    *,
    records: CountedContacts,
    tell: Tell,
    size: int = ROWS_PER_BLOCK,
) -> Iterator[Callable[[], list[Verdict]]]:
    """What becomes of the rows, block by block and only where it is asked for."""
    persons = people_behind([row.customer_id for row in rows], pins, log, tell)
    is_first = list(first_rows(persons))

    def screened(start: int) -> list[Verdict]:
        part = slice(start, start + size)
        own: list[Person] = [one for one, first in zip(persons[part], is_first[part], strict=True) if first]
        observed = listed_customers(own, scene, log, until=pins.log_position)
        numbered = list(enumerate(rows[part], start=start))
        return screened_rows(numbered, persons[part], is_first[part], observed, scene, records=records)

    for start in range(0, len(rows), size):
        tell("rows", start, len(rows))
        yield partial(screened, start)


def write_screened(verdicts: Iterable[Verdict], output: Path, form: FileFormat) -> None:
    """Write what became of the rows of a list to a file, which is seen only once it is whole.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    rows = [
        {
            **msgspec.structs.asdict(one),
            "rule_ids": _SEPARATOR.join(one.rule_ids),
            "treatment_ids": _SEPARATOR.join(one.treatment_ids),
        }
        for one in verdicts
    ]
    with log_writer(output, form, _SCHEMA, mode=_OWNER_ONLY) as writer:
        writer.write(pa.Table.from_pylist(rows, schema=_SCHEMA))


def screening_summary(verdicts: Sequence[Verdict], request: ScreenRequest, pins: Pins) -> dict[str, Any]:
    """What a screening came to: counts, and nobody in person."""
    kept, reasons = verdict_counts(verdicts)
    return {
        "journey_id": request.journey_id,
        "as_of": dump_timestamp(pins.at),
        "contact_at": contact_moment(request.contact_at, pins),
        "rows": len(verdicts),
        "kept": kept,
        "removed": len(verdicts) - kept,
        "reasons": reasons,
        "versions": {**pins.versions, "bundle": pins.bundle},
    }
