"""Audiences of a home: who is in them, that a kill changes nothing, and what estimates say of them before."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.checkpoints import Checkpoints
from features.errors import UnknownObject
from features.home import Home
from models.audience_columns import COLUMN_NAMES, DEFAULT_COLUMNS
from models.audience_estimates import estimated_audience
from models.audience_work import Audience, audience_summary, made_audience, write_audience
from models.audiences import AudienceRequest, AudienceSpec, Pins
from models.rank_commands import ranked_home
from tests.audience_homes import (
    CUSTOMERS,
    HOUR_US,
    JOURNEY,
    NOW,
    alias,
    asked,
    audience_home,
    configuration,
    consents,
    customer_id,
    holds_protection,
    is_tired,
    later,
    pins,
    region,
    stage,
)
from tests.faults.audience_job import SIZE
from tests.postgres_servers import postgres_database

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home that nobody writes to."""
    return audience_home(tmp_path_factory.mktemp("audiences") / "home")


def silent(step: str, done: int, total: int) -> None:
    """Nobody listens."""


def made(home: Home, folder: Path, request: AudienceRequest, pinned: Pins | None = None) -> Audience:
    """An audience, in small blocks."""
    spec = AudienceSpec(request=request, pins=pinned or pins(home))
    return made_audience(home, spec, Checkpoints(folder / "checkpoints"), tell=silent, size=SIZE)


def rows_of(home: Home, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """The rows of an audience, out of Parquet with all columns."""
    output = folder / "audience.parquet"
    write_audience(made(home, folder, asked(format="parquet", columns=COLUMN_NAMES, **changes)), output)
    rows: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    return rows


def test_everybody_whose_journey_is_open_has_one_row(home: Home, tmp_path: Path) -> None:
    """Those with an action first and by rank, whatever they are ranked by; the others with the reason."""
    rows = rows_of(home, tmp_path)

    assert sorted(row["customer_id"] for row in rows) == [customer_id(number) for number in range(CUSTOMERS)]
    chosen = [row for row in rows if row["action_id"] != "no_action"]
    assert rows[: len(chosen)] == chosen
    assert [row["rank"] for row in chosen] == list(range(1, len(chosen) + 1))
    assert [row["priority"] for row in chosen] == sorted((row["priority"] for row in chosen), reverse=True)
    assert all((row["reason"] is None) == (row["action_id"] != "no_action") for row in rows)
    assert all(row["net_value_low"] < row["net_value"] < row["net_value_high"] for row in chosen)
    assert all(row["reasons"] for row in chosen)
    for number, row in ((int(row["customer_id"][2:]), row) for row in rows):
        assert row["stage"] == stage(number)
        assert (row["arm"] == "no_contact_holdout") == (row["reason"] == "holdout")
        assert not (is_tired(number) and row["channel"] in ("email", "sms", "push", "call"))
        assert not (not consents(number) and row["channel"] in ("email", "sms", "push"))
        assert not (holds_protection(number) and row["action_id"] == "offer_protection")


def test_it_is_the_ranking_of_the_batch(home: Home, tmp_path: Path) -> None:
    """The same customers get the same for the same value, since the same functions decide."""
    found = ranked_home(home, configuration(), journey_id=JOURNEY, at=NOW, is_past=True, now=NOW)
    audience = made(home, tmp_path, asked())

    assert audience.population.customer_ids == found.population.customer_ids
    assert repr(audience.population.standings) == repr(found.population.standings)  # NaN is NaN
    assert audience.ranking.allocation.choice.tolist() == found.ranking.allocation.choice.tolist()
    assert audience.ranking.net_value.tobytes() == found.ranking.net_value.tobytes()


def test_a_filter_selects_whom_it_names(home: Home, tmp_path: Path) -> None:
    """By what is known of each of them, and nobody else."""
    rows = rows_of(
        home,
        tmp_path,
        conditions=(
            {"field": "attribute:region", "one_of": ["north", "south"]},
            {"field": "stage", "equals": "verified"},
            {"field": "attribute:tenure_years", "at_least": 20},
            {"field": "consent:email", "equals": "granted"},
            {"field": "holding:card_protection", "equals": False},
        ),
    )

    assert sorted(row["customer_id"] for row in rows) == [
        customer_id(number)
        for number in range(20, CUSTOMERS)
        if region(number) in ("north", "south") and stage(number) == "verified"
        if consents(number) and not holds_protection(number)
    ]
    assert rows


def test_listed_people_are_read_one_by_one_to_the_same_end(home: Home, tmp_path: Path) -> None:
    """Each once and as asked for, also under another id, and strangers too; the numbers are those of everybody."""
    everybody = {row["customer_id"]: row for row in rows_of(home, tmp_path / "all")}
    listed = (alias(10), customer_id(3), customer_id(10), "nobody", customer_id(1), customer_id(3))

    found = {row["customer_id"]: row for row in rows_of(home, tmp_path / "some", customer_ids=listed)}

    assert found.keys() == {alias(10), customer_id(3), customer_id(1), "nobody"}
    assert found["nobody"]["reason"] == "unknown_customer"
    for asked_as, canonical in ((alias(10), customer_id(10)), (customer_id(3),) * 2, (customer_id(1),) * 2):
        expected = everybody[canonical] | {"customer_id": asked_as, "rank": found[asked_as]["rank"]}
        assert found[asked_as] == expected


def test_bounds_are_kept(home: Home, tmp_path: Path) -> None:
    """Channels, actions, least net value, and how many at most: the best of them."""
    everybody = rows_of(home, tmp_path / "all", channels=("email",), exclude=("survey_experience",))
    some = rows_of(
        home,
        tmp_path / "some",
        channels=("email",),
        exclude=("survey_experience",),
        max_customers=7,
        rank_by="net_value",
        min_net_value=0.5,
    )

    worth = sorted((row["net_value"] for row in everybody if row["rank"]), reverse=True)
    chosen = [row for row in some if row["rank"]]
    assert sum(row["net_value"] + row["prices_paid"] for row in chosen) == pytest.approx(sum(worth[:7]))
    assert {row["channel"] for row in chosen} == {"email"}
    assert "survey_experience" not in {row["action_id"] for row in everybody}
    reasons = Counter(row["reason"] for row in some)
    assert reasons["max_customers"] == sum(value >= 0.5 for value in worth) - 7 > 0
    assert reasons["no_capacity"] == 0


def test_quiet_hours_are_those_of_the_moment_of_contact(home: Home, tmp_path: Path) -> None:
    """Tonight nobody is sent a text message, tomorrow everybody is who would be now; all else is as of now."""
    now, tonight, tomorrow = (
        rows_of(home, tmp_path / name, channels=("sms",), contact_at=contact_at)
        for name, contact_at in (("now", None), ("tonight", NOW + 10 * HOUR_US), ("tomorrow", NOW + 24 * HOUR_US))
    )

    assert now == tomorrow
    assert {row["rank"] for row in tonight} == {None}
    chosen = {row["customer_id"] for row in now if row["rank"]}
    quiet = {row["customer_id"] for row in tonight if row["reason"] == "quiet_hours"}
    assert chosen
    assert chosen <= quiet
    assert {row["as_of"] for row in tonight} == {row["as_of"] for row in now}


def test_csv_and_parquet_tell_the_same(home: Home, tmp_path: Path) -> None:
    """To the csv module, to pandas and to pyarrow; numbers stay numbers."""
    audience = made(home, tmp_path, asked())
    write_audience(audience, tmp_path / "audience.csv")
    with (tmp_path / "audience.csv").open(newline="") as file:
        plain = list(csv.DictReader(file))
    framed = pd.read_csv(tmp_path / "audience.csv", converters={"customer_id": str})
    parquet = rows_of(home, tmp_path)

    ids = [row["customer_id"] for row in parquet]
    assert [row["customer_id"] for row in plain] == framed["customer_id"].tolist() == ids
    assert tuple(plain[0]) == DEFAULT_COLUMNS
    assert framed["net_value"].dtype == float
    assert [float(row["net_value"]) for row in plain if row["net_value"]] == [
        row["net_value"] for row in parquet if row["net_value"] is not None
    ]
    assert (tmp_path / "audience.csv").stat().st_mode & 0o077 == 0


def test_pandas_reads_ids_back_as_the_reference_says(home: Home, tmp_path: Path) -> None:
    """Also those that look like a number or like nothing, and those with a line end, a quote or a comma inside."""
    listed = ("007", "NA", "null", "nan", "1e5", "12345678901234567890123", "a\nb", "a\r\nb", 'a"b', "a,b", "\ufeffé")
    write_audience(made(home, tmp_path, asked(customer_ids=listed)), tmp_path / "audience.csv")

    recipe = 'converters={"customer_id": str}'
    assert f"pandas.read_csv(file, {recipe})" in (ROOT / "docs" / "reference" / "audiences.md").read_text()
    assert pd.read_csv(tmp_path / "audience.csv", converters={"customer_id": str})["customer_id"].tolist() == list(
        listed
    )


def test_ids_that_a_spreadsheet_would_run_are_quoted(home: Home, tmp_path: Path) -> None:
    """An apostrophe stands before them in CSV; in Parquet they are what they are."""
    listed = ("=1+1", "+1", "-1", "@x", "\tx", "plain")
    audience = made(home, tmp_path, asked(customer_ids=listed))
    write_audience(audience, tmp_path / "audience.csv")
    with (tmp_path / "audience.csv").open(newline="") as file:
        cells = [row["customer_id"] for row in csv.DictReader(file)]

    assert cells == [*(f"'{one}" for one in listed[:-1]), "plain"]
    assert [row["customer_id"] for row in rows_of(home, tmp_path, customer_ids=listed)] == list(listed)


def test_counts_add_up(home: Home, tmp_path: Path) -> None:
    """Whoever is in gets an action or has a reason, and each action goes over one channel; nobody is named."""
    summary = audience_summary(made(home, tmp_path, asked()))

    assert summary["customers"] == CUSTOMERS == summary["selected"] + sum(summary["reasons"].values())
    assert summary["selected"] == sum(summary["actions"].values()) == sum(summary["channels"].values())
    assert {"holdout", "no_consent", "over_contacted"} <= summary["reasons"].keys()
    assert "c-0" not in msgspec.json.encode(summary).decode()


# ---- killed


class Job:
    """A process that makes an audience, step by step."""

    def __init__(self, home: Home, spec: AudienceSpec, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.output = folder / "audience.csv"
        (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
        words = (str(home.root), str(folder / "spec.json"), str(folder / "checkpoints"), str(self.output))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.audience_job", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def steps(self, most: int) -> list[str]:
        """So many steps that it did, then it is killed; or all, if there are no more."""
        done: list[str] = []
        with self._process as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for line in process.stdout:
                if len(done) == most:
                    process.kill()
                    break
                done.append(line.strip())
                process.stdin.write("\n")
                process.stdin.flush()
        return done


def test_a_database_tells_the_same(home: Home, tmp_path: Path) -> None:
    """Events and contacts out of PostgreSQL make the same file, byte for byte."""
    with postgres_database() as location:
        kept_there = audience_home(tmp_path / "home", database=location)
        for name, one in (("here", home), ("there", kept_there)):
            write_audience(made(one, tmp_path / name, asked(max_customers=40)), tmp_path / f"{name}.csv")

    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


class Killed(BaseException):
    """Nothing of ours may hold it up."""


@pytest.mark.parametrize("listed", [False, True])
def test_work_that_is_cut_off_anywhere_ends_in_the_same_bytes(tmp_path: Path, listed: bool) -> None:
    """After every step, while events, consents, contacts and answers go on, and half a block was written."""
    home = audience_home(tmp_path / "home")
    everybody = tuple(customer_id(number) for number in range(CUSTOMERS)) if listed else None
    spec = AudienceSpec(request=asked(customer_ids=everybody, max_customers=30), pins=pins(home))
    write_audience(made(home, tmp_path / "whole", spec.request, spec.pins), tmp_path / "whole.csv")
    folder = tmp_path / "broken"
    done: list[str] = []

    def cut_off(step: str, done_so_far: int, total: int) -> None:
        done.append(step)
        if len(done) > allowed:
            raise Killed

    n_cut = 0
    for allowed in range(1, 100):
        done.clear()
        try:
            found = made_audience(home, spec, Checkpoints(folder), tell=cut_off, size=SIZE)
            break
        except Killed:
            n_cut += 1
            (folder / f"block-{max(allowed - 3, 0):06d}").write_bytes(b"half")
            if n_cut == 2:
                later(home)
    write_audience(found, tmp_path / "broken.csv")

    assert n_cut > CUSTOMERS // SIZE
    assert (tmp_path / "broken.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    since = pins(home, at=NOW + 2 * HOUR_US)
    assert made(home, tmp_path / "since", asked(), since).population.customer_ids == []  # everybody has moved on


@pytest.mark.slow
@pytest.mark.parametrize("listed", [False, True])
def test_a_job_that_is_killed_ends_in_the_same_bytes(tmp_path: Path, listed: bool) -> None:
    """Twice, the first time before a block was made: while events, consents and contacts go on."""
    home = audience_home(tmp_path / "home")
    everybody = tuple(customer_id(number) for number in range(CUSTOMERS)) if listed else None
    spec = AudienceSpec(request=asked(customer_ids=everybody, max_customers=30), pins=pins(home))
    whole = Job(home, spec, tmp_path / "whole")
    steps = whole.steps(10_000)
    broken = tmp_path / "broken"

    first = Job(home, spec, broken).steps(2)
    assert len(first) == 2
    later(home)
    second = Job(home, spec, broken).steps(6)
    again = Job(home, spec, broken)
    third = again.steps(10_000)

    assert len(second) == 6
    assert third == steps
    assert again.output.read_bytes() == whole.output.read_bytes()


def test_a_block_that_was_damaged_is_made_anew(home: Home, tmp_path: Path) -> None:
    """Also one that is another block's."""
    before = made(home, tmp_path, asked())
    shutil.copy(tmp_path / "checkpoints" / "block-000001", tmp_path / "checkpoints" / "block-000000")
    (tmp_path / "checkpoints" / "events").write_bytes(b"")

    after = made(home, tmp_path, asked())

    assert after.population.customer_ids == before.population.customer_ids
    assert len(set(after.population.customer_ids)) == CUSTOMERS


def test_what_is_pinned_and_gone_is_said(home: Home, tmp_path: Path) -> None:
    """A configuration or a model that is not kept any more."""
    pinned = pins(home)
    gone = msgspec.structs.replace(pinned, versions={**pinned.versions, "policy": "000000000000"})
    with pytest.raises(UnknownObject, match=r"policy\.yaml of version 000000000000"):
        made(home, tmp_path, asked(), gone)
    with pytest.raises(UnknownObject, match="has no version 7"):
        made(home, tmp_path, asked(), msgspec.structs.replace(pinned, bundle=f"nba-{JOURNEY}@champion/7"))


# ---- estimates


def estimate(home: Home, *, sample: int = 5_000, **changes: Any) -> dict[str, Any]:
    """What an audience would come to."""
    return estimated_audience(home, asked(**changes), pins(home), tell=silent, sample=sample)


@pytest.mark.parametrize("listed", [False, True])
def test_an_estimate_of_few_is_exact(home: Home, tmp_path: Path, listed: bool) -> None:
    """It says what the audience then comes to, of all that is open or of a list."""
    changes: dict[str, Any] = {"customer_ids": tuple(map(customer_id, range(50)))} if listed else {}
    summary = audience_summary(made(home, tmp_path, asked(max_customers=20, **changes)))

    found = estimate(home, max_customers=20, **changes)

    assert found["is_exact"]
    assert found["population"] == found["sampled"] == (50 if listed else CUSTOMERS)
    assert found["net_value"]["estimate"] == pytest.approx(summary["net_value"])
    assert found["net_value"]["sampling_error"] == 0.0
    for name in ("customers", "selected"):
        assert found[name] == dict.fromkeys(("estimate", "low", "high"), summary[name])
    for name in ("actions", "channels", "reasons"):
        assert {one: number["estimate"] for one, number in found[name].items()} == summary[name]


@pytest.mark.parametrize("listed", [False, True])
def test_a_sample_holds_the_truth_in_its_intervals(home: Home, tmp_path: Path, listed: bool) -> None:
    """And tells how large it is; the same question has the same answer."""
    changes: dict[str, Any] = {"customer_ids": tuple(map(customer_id, range(CUSTOMERS)))} if listed else {}
    summary = audience_summary(made(home, tmp_path, asked(**changes)))

    found = estimate(home, sample=60, **changes)

    assert (found["is_exact"], found["population"], found["sampled"]) == (False, CUSTOMERS, 60)
    told = [(found["selected"], summary["selected"])]
    told += [(number, summary["reasons"].get(one, 0)) for one, number in found["reasons"].items()]
    told += [(number, summary["channels"].get(one, 0)) for one, number in found["channels"].items()]
    within = [number["low"] <= truth <= number["high"] for number, truth in told]
    assert sum(within) >= len(within) - 1
    money = found["net_value"]
    assert abs(money["estimate"] - summary["net_value"]) < 3 * money["sampling_error"]
    assert money["low"] < summary["net_value"] < money["high"]
    assert estimate(home, sample=60, **changes) == found


@pytest.mark.parametrize("most", [1, 3, 30])
def test_an_estimate_of_a_few_customers_of_many(home: Home, tmp_path: Path, most: int) -> None:
    """Fewer than the sample has a share of are not none, and no more than were asked for."""
    summary = audience_summary(made(home, tmp_path, asked(max_customers=most)))

    found = estimate(home, sample=30, max_customers=most)

    assert summary["selected"] == most
    for name, truth in (("selected", most), ("net_value", summary["net_value"])):
        assert found[name]["low"] <= truth <= found[name]["high"]
    assert 0 < found["selected"]["estimate"] <= found["selected"]["high"] <= most
    assert found["net_value"]["low"] < found["net_value"]["estimate"] < 2 * summary["net_value"]


def test_an_estimate_of_nobody(home: Home) -> None:
    """Nobody is selected by what nobody is."""
    found = estimate(home, conditions=({"field": "attribute:tenure_years", "at_least": 1_000},))

    assert found["population"] == CUSTOMERS
    assert found["customers"]["estimate"] == found["selected"]["estimate"] == found["net_value"]["estimate"] == 0
    assert found["actions"] == found["reasons"] == {}


def test_an_estimate_of_an_empty_home(tmp_path: Path) -> None:
    """Nothing was ever told of anybody."""
    home = audience_home(tmp_path / "home", customers=0)

    assert estimate(home)["population"] == 0
