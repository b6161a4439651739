"""Lists screened over a home: each row kept or removed for one reason, at once or block by block, to the same end."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.checkpoints import Checkpoints
from features.event_store import SqlEventLog
from features.home import Home
from models.batch_observation import Scene
from models.configuration import Configuration
from models.experiment import arm_of
from models.record_store import SqlRecordStore
from models.removals import REMOVALS
from models.rulebooks import feature_sets_of, rulebooks_of
from models.screen_lists import ScreenRequest, ScreenRow, ScreenSpec, Verdict
from models.screening import verdict_counts
from models.screening_work import (
    SCREENED_COLUMNS,
    screened_at_once,
    screened_blocks,
    screened_list,
    screening_summary,
    write_screened,
)
from tests.audience_homes import (
    CUSTOMERS,
    HOUR_US,
    JOURNEY,
    NOW,
    alias,
    audience_home,
    configuration,
    consents,
    customer_id,
    has_alias,
    holds_protection,
    is_tired,
    later,
    pins,
    stage,
)

Screen = Callable[..., list[Verdict]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that nobody writes to."""
    return audience_home(tmp_path_factory.mktemp("screened") / "home")


@pytest.fixture(scope="module")
def screen(home: Home) -> Iterator[Screen]:
    """Screens a list in blocks of three rows, with stores that stay open."""
    found: Configuration = configuration()
    scene = Scene(rulebook=rulebooks_of(found, feature_sets_of(found))[JOURNEY], scorer=None, at=NOW, is_past=True)
    pinned = pins(home)
    with (
        closing(SqlEventLog(home.events_db, readonly=True)) as log,
        closing(SqlRecordStore(home.records_db, readonly=True)) as records,
    ):

        def screened(*rows: ScreenRow, size: int = 3) -> list[Verdict]:
            blocks = screened_blocks(rows, scene, pinned, log, records=records, tell=silent, size=size)
            return [one for block in blocks for one in block()]

        yield screened


def silent(step: str, done: int, total: int) -> None:
    """Nobody listens."""


def row(number: int, **changes: Any) -> ScreenRow:
    """A row of a known customer."""
    return ScreenRow(customer_id=customer_id(number), **changes)


def is_held_out(number: int) -> bool:
    """Whether a customer is never contacted, by any of their ids."""
    linked = [alias(number)] if has_alias(number) else []
    return arm_of(customer_id(number), configuration().policy.experiment, linked_ids=linked) == "no_contact_holdout"


FREE = [number for number in range(CUSTOMERS) if not is_held_out(number) and not is_tired(number) and consents(number)]
"""Customers who may be contacted."""


def first(**facts: bool) -> int:
    """The first customer who may be contacted and is like this."""
    of = {"protected": holds_protection, "activated": lambda number: stage(number) == "activated"}
    return next(number for number in FREE if all(of[name](number) == wanted for name, wanted in facts.items()))


def test_a_row_that_may_be_contacted_is_kept(screen: Screen) -> None:
    """With what they may get over the channel that was asked for, or anything where nothing was."""
    (asked, open_) = screen(row(FREE[0], action_id="remind_next_step", channel="email"), row(FREE[1]))

    assert (asked.kept, asked.reason, asked.rule_ids) == (True, None, ())
    assert asked.treatment_ids == ("email_remind_v1",)
    assert open_.kept
    assert len(open_.treatment_ids) > 1


def test_each_reason_by_hand(screen: Screen) -> None:
    """With the rules that stood in the way."""
    held = next(number for number in range(CUSTOMERS) if is_held_out(number))
    tired = next(one for one in range(CUSTOMERS) if is_tired(one) and consents(one) and not is_held_out(one))
    closed = next(one for one in range(CUSTOMERS) if not consents(one) and not is_tired(one) and not is_held_out(one))
    mail: dict[str, Any] = {"action_id": "remind_next_step", "channel": "email"}
    protected, activated = first(protected=True, activated=True), first(protected=False, activated=True)
    elsewhere = next(number for number in FREE if stage(number) == "applied")

    found = screen(
        row(held, **mail),
        row(tired, **mail),
        row(closed, **mail),
        row(protected, action_id="offer_protection"),
        row(activated, action_id="offer_protection", channel="email"),
        row(elsewhere, action_id="nudge_activation"),
        row(FREE[-1], channel="store"),
        ScreenRow(customer_id="nobody"),
        row(activated, **mail),
    )

    assert [one.reason for one in found] == [
        "holdout",
        "over_contacted",
        "no_consent",
        "existing_customer",
        None,
        "not_now",
        "not_offered",
        "unknown_customer",
        "duplicate_row",
    ]
    assert found[1].rule_ids == ("cap.all_week",)
    assert found[2].rule_ids == ("contact.consent.email",)
    assert found[3].rule_ids == ("elig.not_holding_protection",)


def test_a_person_under_two_ids_is_one_person(screen: Screen) -> None:
    """Whichever stands first, also in another block; the row says not who else it is."""
    number = next(one for one in FREE if has_alias(one))
    other = [row(one) for one in FREE if one != number][:4]

    found = screen(ScreenRow(customer_id=alias(number)), *other, row(number))

    assert [one.reason for one in found] == [None] * 5 + ["duplicate_row"]
    assert alias(number) not in msgspec.json.encode(found[5]).decode()


SOME_ROW = st.builds(
    ScreenRow,
    customer_id=st.one_of(
        st.integers(0, CUSTOMERS - 1).map(customer_id),
        st.integers(0, CUSTOMERS // 10 - 1).map(lambda ten: alias(10 * ten)),
        st.sampled_from(["nobody", "", "=1+1"]),
    ),
    action_id=st.sampled_from([None, "remind_next_step", "offer_protection", "callback_help"]),
    channel=st.sampled_from([None, "email", "call", "web"]),
)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(SOME_ROW, min_size=1, max_size=12))
def test_every_row_is_kept_or_removed_and_counts_add_up(screen: Screen, rows: list[ScreenRow]) -> None:
    """In their order, with one reason or none; the size of the blocks does not matter."""
    found = screen(*rows)

    assert [(one.row, one.customer_id) for one in found] == [(at, one.customer_id) for at, one in enumerate(rows)]
    for one in found:
        assert one.kept == (one.reason is None) == bool(one.treatment_ids)
        assert one.reason is None or one.reason in REMOVALS
    kept, reasons = verdict_counts(found)
    assert kept + sum(reasons.values()) == len(rows)
    assert list(reasons) == [one for one in REMOVALS if one in reasons]
    people = [one.customer_id for one in found if one.reason != "duplicate_row"]
    assert len(people) == len({_person(one) for one in people})
    assert screen(*rows, size=100) == found


def _person(any_id: str) -> str:
    return customer_id(int(any_id[4:])) if any_id.startswith("web-") else any_id


# ---- as a job

ROWS = tuple(
    ScreenRow(customer_id=one, action_id="remind_next_step", channel="email")
    for one in [*map(customer_id, range(CUSTOMERS)), alias(10), "nobody", "=cmd()"]
)


def test_a_long_list_comes_to_the_same_as_a_short_one(tmp_path: Path) -> None:
    """Also after half of it, when contacts and consents have gone on; the file tells it all."""
    lived = audience_home(tmp_path / "home")
    request, pinned = ScreenRequest(journey_id=JOURNEY, rows=ROWS), pins(lived)
    at_once = screened_at_once(lived, request, pinned, tell=silent)
    spec = ScreenSpec(request=request, pins=pinned)

    def cut_off(step: str, done: int, total: int) -> None:
        if step == "rows":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        screened_list(lived, spec, Checkpoints(tmp_path / "steps"), tell=cut_off)
    later(lived)
    found = screened_list(lived, spec, Checkpoints(tmp_path / "steps"), tell=silent)

    assert found == at_once
    summary = screening_summary(found, request, pinned)
    assert summary["rows"] == len(ROWS) == summary["kept"] + summary["removed"]
    assert summary["reasons"] == {one: n for one, n in Counter(one.reason for one in found).items() if one}
    assert {"holdout", "no_consent", "over_contacted", "duplicate_row", "unknown_customer"} == summary["reasons"].keys()


def test_quiet_hours_of_a_list_are_those_of_the_moment_of_contact(home: Home) -> None:
    """Who is kept by day falls for quiet hours by night, and for nothing else."""
    rows = tuple(row(number, channel="sms") for number in FREE)
    by_day, by_night = (
        screened_at_once(home, ScreenRequest(journey_id=JOURNEY, rows=rows, contact_at=at), pins(home), tell=silent)
        for at in (NOW + 24 * HOUR_US, NOW + 10 * HOUR_US)
    )

    kept = [one.kept for one in by_day]
    assert any(kept)
    assert [one.reason == "quiet_hours" for one in by_night] == kept
    assert not any(one.kept for one in by_night)


def test_the_file_of_a_screening(home: Home, tmp_path: Path) -> None:
    """To the csv module and to pandas: the same ids, but for those that a spreadsheet would run."""
    request = ScreenRequest(journey_id=JOURNEY, rows=ROWS)
    found = screened_at_once(home, request, pins(home), tell=silent)
    write_screened(found, tmp_path / "screened.csv", "csv")
    write_screened(found, tmp_path / "screened.parquet", "parquet")

    with (tmp_path / "screened.csv").open(newline="") as file:
        plain = list(csv.DictReader(file))
    framed = pd.read_csv(tmp_path / "screened.csv", dtype=str, keep_default_na=False)
    parquet = pd.read_parquet(tmp_path / "screened.parquet")
    ids = [one.customer_id for one in ROWS]
    assert tuple(plain[0]) == SCREENED_COLUMNS
    assert parquet["customer_id"].tolist() == ids
    assert [one["customer_id"] for one in plain] == framed["customer_id"].tolist() == [*ids[:-1], "'=cmd()"]
    assert [one["kept"] for one in plain] == [str(one.kept).lower() for one in found]
    assert (tmp_path / "screened.csv").stat().st_mode & 0o077 == 0
